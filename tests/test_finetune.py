"""`vggft.finetune` from images to a classifier: its promises, on tiny networks."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import vggft
from vggft import depth
from vggft.artifact import judge
from vggft.features import cuts
from vggft.features.views import make_views
from vggft.heads.batches import Batches, Examples
from vggft.network import blocks, forward, freezing, vgg, weights
from vggft.network.description import Description, build

QUICK = vggft.Training(epochs=3, fine_tune_epochs=2, batch_size=16)
HIDDEN = vggft.Head(units=(16,))  # which is trained by epochs


def finetune(data: Any, weights: Path, **arguments: Any) -> vggft.Classifier:
    settings = {"num_classes": 3, "backbone": weights, "image_size": 32, "training": QUICK, "verbose": 0}
    return vggft.finetune(data, **(settings | arguments))


@pytest.fixture(scope="module")
def trained(
    stripes: tuple, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[vggft.Classifier, Path]:
    """A classifier with blocks 4 and 5 unfrozen, and its run directory."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    training = vggft.Training(epochs=30, fine_tune_epochs=8, batch_size=16, learning_rate=3e-3)
    settings: dict[str, Any] = {"freeze": "block3", "test": 0.25, "training": training, "precision": "float32"}
    return finetune(stripes, tiny_weights, run_dir=run_dir, **settings), run_dir


def test_it_learns_and_judges_on_images_it_never_saw(trained: tuple) -> None:
    classifier, run_dir = trained
    assert classifier.evaluation.split == "test"
    assert classifier.evaluation.to_dict()["accuracy"] >= 0.9
    assert len(classifier.evaluation.labels) == 30
    assert classifier.class_names == ("0", "1", "2")
    phases = [row["phase"] for row in classifier.history]
    assert phases[0] == "head" and phases[-1] == "blocks and head"
    judged = json.loads((run_dir / "evaluation.json").read_text())
    assert set(judged) == {"validation", "test", "gap", "agreement", "caveats"}
    assert judged["agreement"]["largest_difference"] < 1e-5


def test_the_run_directory_says_what_made_it(trained: tuple) -> None:
    _, run_dir = trained
    files = {path.name for path in run_dir.iterdir()}
    assert files == {
        "config.json",
        "environment.json",
        "audit.json",
        "splits.csv",
        "estimate.json",
        "history.csv",
        "evaluation.json",
        "near_duplicates.csv",  # stripes of one class, moved
        "places.npz",
        "insight.json",  # as learning blocks were no better here, so that all of them are frozen in the end
        "top_losses.npz",
        "choice.json",
        "classifier.keras",
    }
    config = json.loads((run_dir / "config.json").read_text())
    assert config["frozen"] == ["block1", "block2", "block3"] and config["splits"] == {
        "train": 72,
        "validation": 18,
        "test": 30,
    }
    assert len(config["data_fingerprint"]) == 64 and config["training"]["patience"]
    with (run_dir / "history.csv").open() as file:
        assert {"phase", "epoch", "loss", "val_loss", "val_accuracy"} <= set(next(csv.DictReader(file)))


def test_saved_loaded_and_plain_keras_predict_what_was_evaluated(
    trained: tuple, stripes: tuple, tmp_path: Path
) -> None:
    classifier, run_dir = trained
    rows = [int(name[7:-1]) for name in classifier.evaluation.names]
    pixels = stripes[0][rows]
    judged = classifier.evaluation.probabilities
    np.testing.assert_allclose(classifier.predict(pixels), judged, atol=1e-5)
    again = vggft.load(run_dir / "classifier.keras")
    np.testing.assert_allclose(again.predict(pixels), judged, atol=1e-5)
    assert again.class_names == classifier.class_names
    assert again.evaluation.to_dict() == classifier.evaluation.to_dict()

    np.save(tmp_path / "pixels.npy", pixels.astype("float32"))
    code = f"""
import sys, keras, numpy as np
model = keras.models.load_model({str(run_dir / "classifier.keras")!r})
np.save({str(tmp_path / "out.npy")!r}, model.predict(np.load({str(tmp_path / "pixels.npy")!r}), verbose=0))
assert "vggft" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), judged, atol=1e-5)


def test_the_graph_is_flat_and_made_of_stock_layers(trained: tuple) -> None:
    model = trained[0].keras_model
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    names = [layer.name for layer in model.layers]
    assert {"block5_conv3", "avg_pool", "logits", "predictions"} <= set(names)
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)


@pytest.mark.parametrize(
    "freeze", ["all", pytest.param(("block1", "block4"), marks=pytest.mark.slow), "block5_conv2", "none"]
)
def test_what_is_frozen_does_not_move_and_what_is_not_does(
    freeze: Any, stripes: tuple, tiny_weights: Path, tmp_path: Path
) -> None:
    classifier = finetune(stripes, tiny_weights, freeze=freeze)
    before, frozen = np.load(tiny_weights), blocks.frozen_blocks(freeze)
    again = vggft.load(classifier.save(tmp_path / "a.keras"))
    assert classifier.description.frozen == again.description.frozen == frozen
    for layer in classifier.keras_model.layers:
        if "_conv" in layer.name:
            same = np.array_equal(layer.kernel.numpy(), before[f"{layer.name}/kernel"])
            held = layer.name in frozen or layer.name.split("_")[0] in frozen
            assert layer.trainable != held
            assert same == held or not _fine_tuning_helped(classifier), layer.name


def _fine_tuning_helped(classifier: vggft.Classifier) -> bool:
    losses = {
        phase: [r["val_accuracy"] for r in classifier.history if r["phase"] == phase]
        for phase in ("head", "blocks and head")
    }
    return bool(losses["blocks and head"]) and max(losses["blocks and head"]) > max(losses["head"])


def test_cached_features_give_what_a_plain_fit_over_the_whole_network_gives(stripes: tuple, tiny_weights: Path) -> None:
    """The same head, trained once behind frozen features and once by `fit` over everything with layers frozen."""
    pixels, labels = stripes[0][:64], np.eye(3, dtype="float32")[stripes[1][:64]]
    head = vggft.Head(units=(8,), blocks=("block4", "block5"), dropout=0.0)
    description = Description(("a", "b", "c"), 32, width=1 / 16, head=head, frozen=blocks.BLOCKS)

    def network() -> keras.Model:
        model = build(description, seed=3)
        weights.load_pretrained(tiny_weights).assign(model)
        freezing.set_frozen(model, blocks.BLOCKS)
        return model

    def fit(model: keras.Model, inputs: np.ndarray) -> None:
        model.compile(
            keras.optimizers.Adam(1e-3), keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False
        )
        batches = Batches(Examples(inputs, labels, np.arange(64)), 16, seed=0)
        model.fit(batches, epochs=5, shuffle=False, verbose=0)

    cached, plain = network(), network()
    cut = cuts.cut_of(blocks.BLOCKS, head)
    fit(forward.between(cached, cut, "logits"), forward.forward(forward.between(cached, None, cut), pixels))
    fit(forward.between(plain, None, "logits"), pixels.astype("float32"))
    before = network().predict(pixels, verbose=0)
    assert np.abs(before - plain.predict(pixels, verbose=0)).max() > 1e-2  # it did learn
    np.testing.assert_allclose(cached.predict(pixels, verbose=0), plain.predict(pixels, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    "freeze", ["block4", *(pytest.param(each, marks=pytest.mark.slow) for each in ("all", "block2"))]
)
def test_cached_and_uncached_training_give_the_same_history(freeze: str, stripes: tuple, tiny_weights: Path) -> None:
    """A function that changes nothing makes every epoch compute the frozen blocks again."""
    histories = [
        finetune(stripes, tiny_weights, head=HIDDEN, precision="float32", freeze=freeze, augment=augment).history
        for augment in (None, lambda pixels: pixels)
    ]
    cached, uncached = ([[*map(row.get, ("loss", "val_loss", "val_accuracy"))] for row in rows] for rows in histories)
    assert len(cached) == (3 if freeze == "all" else 5)
    np.testing.assert_allclose(cached, uncached, atol=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(stripes: tuple, tiny_weights: Path) -> None:
    runs = [finetune(stripes, tiny_weights, freeze="block4", seed=seed).keras_model.get_weights() for seed in (1, 1, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


KILLED = """
import json, sys, numpy as np, vggft
from vggft.training import callbacks
from vggft import depth
callbacks.SECONDS_BETWEEN_POINTS, depth.FEWEST = 0, 10
data, weights, run_dir, freeze, craft = sys.argv[1:]
arrays = np.load(data)
training = vggft.Training(**json.loads(craft))
head = None if freeze == "auto" else vggft.Head(units=(16,))
vggft.finetune((arrays["images"], arrays["labels"]), 3, backbone=weights, image_size=32, freeze=freeze, verbose=0,
    head=head, training=training, run_dir=run_dir, resume=True)
"""


@pytest.mark.parametrize(
    ("point", "freeze", "craft"),
    [
        ("head", "all", {"optimizer": "sgd"}),
        pytest.param("blocks and head", "block4", {}, marks=pytest.mark.slow),
        pytest.param(
            "block4, block5 and head",
            "block3",
            {"phases": "gradual", "schedule": "one_cycle", "optimizer": "adamw"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "head", "all", {"schedule": "plateau", "patience": 4, "ema_momentum": 0.9}, marks=pytest.mark.slow
        ),
        pytest.param(
            "blocks and head",
            "block4",
            {"sampling": "balanced", "class_weight": {"0": 1, "1": 2, "2": 3}, "ema_momentum": 0.5, "clip_norm": 0.5},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "deeper/resume/blocks and head", "auto", {"fine_tune_learning_rate": 1e-2}, marks=pytest.mark.slow
        ),
    ],
)
def test_killed_is_not_lost(
    point: str,
    freeze: str,
    craft: dict[str, Any],
    stripes: tuple,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL in each phase; the resumed run ends with the weights of one that was left alone.

    A head with Adam is trained within a second and without resume points; after a kill it is trained again.
    """
    noise = np.random.default_rng(0).normal(0, 120, (len(stripes[0]), 32, 32, 1))  # so that blocks have much to learn
    noisy = (stripes[0] + noise).clip(0, 255).astype("uint8"), stripes[1]
    np.savez(tmp_path / "data.npz", images=noisy[0], labels=noisy[1])
    run_dir = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "data.npz"), str(tiny_weights), str(run_dir)]
    craft = {"epochs": 20, "fine_tune_epochs": 10, "batch_size": 16, "patience": 100} | craft
    process = subprocess.Popen([*command, freeze, json.dumps(craft)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (run_dir / "resume" / f"{point}.npz").exists():
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (run_dir / "classifier.keras").exists()

    monkeypatch.setattr(depth, "FEWEST", 10)
    head = None if freeze == "auto" else HIDDEN
    settings: dict[str, Any] = {"freeze": freeze, "head": head, "training": vggft.Training(**craft)}
    resumed = finetune(noisy, tiny_weights, run_dir=run_dir, resume=True, **settings)
    alone = finetune(noisy, tiny_weights, **settings)
    for a, b in zip(resumed.keras_model.get_weights(), alone.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [row["epoch"] for row in resumed.history] == [row["epoch"] for row in alone.history]
    assert point.split("/")[-1] in {row["phase"] for row in resumed.history} and not list(run_dir.rglob("resume"))
    again = finetune(noisy, tiny_weights, run_dir=run_dir, resume=True, **settings)  # finished: only opened
    np.testing.assert_array_equal(again.keras_model.get_weights()[-1], alone.keras_model.get_weights()[-1])


def test_what_was_frozen_stays_frozen_in_plain_keras(stripes: tuple, trained: tuple) -> None:
    """Who goes on in Keras trains the head, and the blocks that learned, but not those that were frozen."""
    _, run_dir = trained
    path = run_dir / "classifier.keras"
    for model in (vggft.load(path).keras_model, keras.models.load_model(path)):
        frozen = vggft.load(path).description.frozen
        held = {layer.name: layer.trainable for layer in model.layers if "_conv" in layer.name}
        assert held == {name: not name.startswith(frozen) for name in held}
        before = freezing.block_digests(model)
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(stripes[0][:8], stripes[1][:8], verbose=0)
        after = freezing.block_digests(model)
        assert [before[block] == after[block] for block in blocks.BLOCKS] == [
            block in frozen for block in blocks.BLOCKS
        ]


def test_a_file_that_could_run_code_is_not_run(trained: tuple, tmp_path: Path) -> None:
    """`vggft.load` reads our JSON and weights only; what Keras's own configuration says is never built."""
    _, run_dir = trained
    path = tmp_path / "evil.keras"
    with zipfile.ZipFile(run_dir / "classifier.keras") as source, zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            content = source.read(member)
            target.writestr(member, b'{"class_name": "Lambda", "module": "os"}' if member == "config.json" else content)
    assert vggft.load(path).class_names == ("0", "1", "2")


def test_damaged_and_foreign_files_are_refused(trained: tuple, tmp_path: Path) -> None:
    _, run_dir = trained
    whole = (run_dir / "classifier.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(vggft.ClassifierFileError, match=r"cut.keras begins like a .keras .* is no whole zip archive"):
        vggft.load(tmp_path / "cut.keras")
    at = whole.index(b"HDF")
    (tmp_path / "flipped.keras").write_bytes(whole[: at + 9000] + b"x" * 200 + whole[at + 9200 :])
    with pytest.raises(
        vggft.ClassifierFileError, match=r"flipped.keras .* its model.weights.h5 is damaged: Bad CRC-32"
    ):
        vggft.load(tmp_path / "flipped.keras")
    (tmp_path / "page.keras").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(vggft.ClassifierFileError, match=r"page.keras is a web page or XML. Expected a .keras file"):
        vggft.load(tmp_path / "page.keras")
    with zipfile.ZipFile(run_dir / "classifier.keras") as source, zipfile.ZipFile(tmp_path / "odd.keras", "w") as odd:
        for member in source.namelist():
            odd.writestr(member, b"{" if member == "vggft.json" else source.read(member))
    with pytest.raises(
        vggft.ClassifierFileError, match=r"odd.keras cannot be read .* its vggft.json is not valid JSON: Expecting"
    ):
        vggft.load(tmp_path / "odd.keras")
    vgg.vgg("A", include_top=False, image_size=32, width=1 / 16).save(tmp_path / "plain.keras")
    with pytest.raises(vggft.ClassifierFileError, match="vggft did not write it"):
        vggft.load(tmp_path / "plain.keras")
    with pytest.raises(vggft.ClassifierFileError, match="no classifier file"):
        vggft.load(tmp_path / "none.keras")
    with pytest.raises(vggft.ClassifierFileError, match=r"saved as a .keras file; got 'x.h5'"):
        trained[0].save(tmp_path / "x.h5")


def test_classify_says_it_in_words(trained: tuple, stripes: tuple, tmp_path: Path) -> None:
    from PIL import Image

    classifier = trained[0]
    Image.fromarray(stripes[0][1]).resize((90, 60)).save(tmp_path / "picture.png")
    one = classifier.classify(tmp_path / "picture.png")
    assert one.label in classifier.class_names and f"{one.label} (" in str(one) and "%" in str(one)
    several = classifier.classify([tmp_path / "picture.png", stripes[0][0]])
    assert len(several) == 2 and several[0].labels == one.labels
    assert abs(sum(one.probabilities) - 1) < 1e-5 and list(one.probabilities) == sorted(one.probabilities, reverse=True)


def test_predict_takes_any_size_range_and_kind_and_names_what_it_cannot_read(
    trained: tuple, stripes: tuple, tmp_path: Path
) -> None:
    classifier, pixels = trained[0], stripes[0][:4]
    expected = classifier.predict(pixels)
    assert expected.shape == (4, 3) and expected.dtype == np.float32
    np.testing.assert_allclose(classifier.predict(pixels / 255.0), expected, atol=1e-5)
    np.testing.assert_allclose(classifier.predict(pixels[2]), expected[2:3], atol=1e-5)
    np.testing.assert_allclose(classifier.predict(pixels, batch_size=3), expected, atol=1e-5)
    assert classifier.predict(np.repeat(np.repeat(pixels, 2, 1), 2, 2)).shape == (4, 3)
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(vggft.DataError, match=r"(?s)a.jpg.*missing.png"):
        classifier.predict([tmp_path / "a.jpg", tmp_path / "missing.png"])


def test_evaluate_judges_new_data(trained: tuple, stripes: tuple) -> None:
    with pytest.warns(UserWarning, match="trained or chosen on"):
        found = trained[0].evaluate((stripes[0][:30], stripes[1][:30]))
        stream = tf.data.Dataset.from_tensor_slices((stripes[0][:30], stripes[1][:30])).batch(7)
        of_stream = trained[0].evaluate(stream)
    probabilities = trained[0].predict(stripes[0][:30])
    assert found["accuracy"] == pytest.approx((probabilities.argmax(1) == stripes[1][:30]).mean())
    assert of_stream["accuracy"] == found["accuracy"]


@pytest.mark.parametrize(
    "head",
    [
        vggft.Head(units=(), blocks=("block5",), normalize="scale"),
        pytest.param(
            vggft.Head(
                units=(16, 8), blocks=("block1", "block5"), pooling="max", activation="gelu", batch_norm=True, l2=1e-4
            ),
            marks=pytest.mark.slow,
        ),
        vggft.Head(units=(8,), blocks=("block5",), pooling="flatten", dropout=0.0),
    ],
)
def test_every_head_trains_saves_and_loads(
    head: vggft.Head, stripes: tuple, tiny_weights: Path, tmp_path: Path
) -> None:
    classifier = finetune(stripes, tiny_weights, head=head, run_dir=tmp_path / "run")
    dense = [layer.units for layer in classifier.keras_model.layers if isinstance(layer, keras.layers.Dense)]
    assert dense == [*head.units, 3]
    again = vggft.load(tmp_path / "run" / "classifier.keras")
    np.testing.assert_allclose(again.predict(stripes[0][:5]), classifier.predict(stripes[0][:5]), atol=1e-6)
    assert again.description.head == head


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "sgd", "learning_rate": 0.002},
        pytest.param({"optimizer": "adamw", "weight_decay": 0.01}, marks=pytest.mark.slow),
        pytest.param(
            {"schedule": "constant", "label_smoothing": 0.1, "class_weight": "balanced"}, marks=pytest.mark.slow
        ),
    ],
)
def test_every_way_of_training_runs(training: dict, stripes: tuple, tiny_weights: Path) -> None:
    settings = vggft.Training(**{"epochs": 3, "fine_tune_epochs": 2, "batch_size": 16, **training})
    classifier = finetune(stripes, tiny_weights, training=settings, freeze="block4")
    assert all(np.isfinite(row["loss"]) for row in classifier.history)


def test_multi_label_runs_end_to_end(stripes: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    images, labels = stripes
    several = np.stack([labels == 0, labels != 2], axis=1).astype(int)
    classifier = finetune((images, several), tiny_weights, num_classes=2, test=0.2, run_dir=tmp_path / "run")
    assert classifier.evaluation.multi_label
    probabilities = vggft.load(tmp_path / "run" / "classifier.keras").predict(images[:4])
    assert ((probabilities >= 0) & (probabilities <= 1)).all() and not np.allclose(probabilities.sum(1), 1, atol=1e-2)
    assert set(classifier.classify(images[0]).present) <= {"0", "1"}


def test_silence(stripes: tuple, tiny_weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    finetune(stripes, tiny_weights)
    assert capfd.readouterr() == ("", "")


def test_views_are_seeded_and_leave_other_images_alone(stripes: tuple) -> None:
    pixels, rows = stripes[0][:10], np.arange(10)
    augment = vggft.Augment(flip=True, crop=0.3, brightness=0.3)
    views = make_views(pixels, rows, 1, augment, seed=5)
    assert views.shape == pixels.shape and views.dtype == np.uint8
    assert all(not np.array_equal(a, b) for a, b in zip(views, pixels, strict=True))
    np.testing.assert_array_equal(make_views(pixels[3:5], rows[3:5], 1, augment, seed=5), views[3:5])
    for other in ({"view": 2, "seed": 5}, {"view": 1, "seed": 6}):
        assert not np.array_equal(make_views(pixels, rows, augment=augment, **other), views)
    still = vggft.Augment(flip=False, crop=0.0, brightness=0.0)
    np.testing.assert_array_equal(make_views(pixels, rows, 1, still, seed=5), pixels)


def test_each_epoch_draws_one_view_of_every_image() -> None:
    inputs, rows = np.array([[row, 0] for row in range(9)]), np.array([8, 1, 4, 0, 5])
    views = [np.array([[row, view] for row in rows]) for view in (1, 2)]
    batches = Batches(Examples(inputs, np.eye(9, dtype="float32"), rows, views), 2, seed=0)
    drawn = set()
    for _ in range(40):
        epoch = [batches[i] for i in range(len(batches))]
        x, y = np.concatenate([x for x, _ in epoch]), np.concatenate([y for _, y in epoch])
        assert sorted(x[:, 0]) == [0, 1, 4, 5, 8]
        np.testing.assert_array_equal(x[:, 0], y.argmax(1))
        drawn |= set(map(tuple, x))
        batches.on_epoch_end()
    assert len(drawn) == 15


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["all", "block4", "none"])
def test_augmentation_is_never_silently_dropped(
    freeze: str, stripes: tuple, tiny_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = vggft.Training(epochs=2, fine_tune_epochs=2, batch_size=16)
    settings = {"freeze": freeze, "head": HIDDEN, "training": training}
    phase = "head" if freeze == "all" else "blocks and head"

    def losses(**more: Any) -> list[float]:
        history = finetune(stripes, tiny_weights, **settings, **more).history
        return [row["loss"] for row in history if row["phase"] == phase]

    plain = losses()
    for augment in (vggft.Augment(views=3), vggft.Augment(views=None), lambda pixels: 255 - pixels):
        assert not np.allclose(losses(augment=augment, verbose=1), plain)
        costly = freeze != "none" and getattr(augment, "views", None) is None
        assert ("computed again in each of them" in capfd.readouterr().err) == costly


@pytest.mark.parametrize(
    ("precision", "freeze"),
    [
        ("bfloat16", "all"),
        pytest.param("bfloat16", "block4", marks=pytest.mark.slow),
        ("float16", "all"),
        pytest.param("float16", "none", marks=pytest.mark.slow),
    ],
)
def test_16_bits_give_a_float32_file_that_agrees(
    precision: str, freeze: str, stripes: tuple, tiny_weights: Path, tmp_path: Path
) -> None:
    classifier = finetune(stripes, tiny_weights, precision=precision, freeze=freeze, run_dir=tmp_path)
    assert {layer.compute_dtype for layer in classifier.keras_model.layers} == {"float32"}
    assert {weight.dtype for weight in classifier.keras_model.weights} == {"float32"}
    rows = [int(name[7:-1]) for name in classifier.evaluation.names]
    off = np.abs(classifier.predict(stripes[0][rows]) - classifier.evaluation.probabilities).max()
    agreement = json.loads((tmp_path / "evaluation.json").read_text())["agreement"]
    assert agreement["largest_difference"] <= 0.05
    same = agreement["judged_from"] == "pixels"
    assert same == (freeze == "none" or agreement["largest_difference"] > judge.AGREEMENT)
    assert off <= (1e-5 if same else 0.03)
    assert all(np.isfinite(row["loss"]) for row in classifier.history)


def test_what_is_saved_is_judged_from_pixels_where_features_say_otherwise(
    stripes: tuple, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "AGREEMENT", 0.0)
    classifier = finetune(stripes, tiny_weights, precision="bfloat16")
    rows = [int(name[7:-1]) for name in classifier.evaluation.names]
    np.testing.assert_allclose(classifier.predict(stripes[0][rows]), classifier.evaluation.probabilities, atol=1e-6)


def test_precision_is_chosen_by_measurement_and_said(
    stripes: tuple, tiny_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finetune(stripes, tiny_weights, verbose=1)
    said = " ".join(capfd.readouterr().err.split())
    assert re.search(r"compute in (float32|bfloat16|float16): here, convolutions take \d+\.\d times as long in", said)


def test_this_exact_line_works(
    stripes: tuple, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vggft.finetune(dataset, num_classes=10)`: all defaults, with the ImageNet file in the weights directory."""
    name = "vgg16_imagenet"
    preset = dataclasses.replace(weights.PRESETS[name], file="file.npz", width=1 / 16, md5=None)
    monkeypatch.setitem(weights.PRESETS, name, preset)
    monkeypatch.setenv("VGGFT_WEIGHTS_DIR", str(tmp_path))
    shutil.copy(tiny_weights, tmp_path / "file.npz")
    classifier = vggft.finetune((stripes[0][:60], stripes[1][:60]), num_classes=3)
    assert classifier.keras_model.input.shape == (None, 224, 224, 3) and classifier.evaluation.split == "validation"


def test_the_scale_of_the_features_does_not_matter(stripes: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    """The head sees features of mean 0 and variance 1, also of a backbone whose features are a thousandth as large."""
    blocks = dict(np.load(tiny_weights))
    blocks["block5_conv3/kernel"] = blocks["block5_conv3/kernel"] / 1000
    blocks["block5_conv3/bias"] = blocks["block5_conv3/bias"] / 1000
    np.savez(tmp_path / "small.npz", **blocks)
    plain, small = (finetune(stripes, path) for path in (tiny_weights, tmp_path / "small.npz"))
    for classifier in (plain, small):
        model, train = classifier.keras_model, stripes[0]
        seen = forward.forward(forward.between(model, None, "standardize"), train)
        alive = seen.std(0) > 0.5
        assert alive.any() and np.abs(seen[:, alive].mean(0)).max() < 0.5
    np.testing.assert_allclose(plain.predict(stripes[0]), small.predict(stripes[0]), atol=3e-2)
