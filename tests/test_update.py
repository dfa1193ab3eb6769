"""`Classifier.update` and `finetune(start=...)`: more images, corrected labels, new classes, on tiny networks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import vggft
from vggft.artifact.known import digests_of
from vggft.caching.cache import Cache
from vggft.cli.main import app
from vggft.network import blocks, forward
from vggft.network.description import Description
from vggft.network.start import Start
from vggft.network.weights import random_weights

QUICK = vggft.Training(epochs=3, fine_tune_epochs=2, batch_size=16)
STILL = vggft.Training(
    epochs=1, batch_size=16, learning_rate=0.0, probe="epochs"
)  # ends with the weights that it begins with
ORDER = ["train", "validation", "test"]
FIRST = 72  # images of the first run, of all three classes


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(cache))


@pytest.fixture(scope="module")
def run_dir(stripes: tuple, tiny_weights: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a classifier of the first images, with a test split."""
    path = tmp_path_factory.mktemp("runs") / "first"
    training = vggft.Training(epochs=30, batch_size=16, learning_rate=1e-2)
    data = stripes[0][:FIRST], stripes[1][:FIRST]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VGGFT_CACHE_DIR", str(cache))
        settings: dict[str, Any] = {"head": vggft.Head(units=(32,)), "training": training, "test": 0.25, "verbose": 0}
        vggft.finetune(data, 3, backbone=tiny_weights, image_size=32, run_dir=path, **settings)
    return path


@pytest.fixture
def first(run_dir: Path) -> vggft.Classifier:
    return vggft.load(run_dir)


def update(classifier: vggft.Classifier, data: Any, num_classes: int | None = None, **more: Any) -> vggft.Classifier:
    return classifier.update(data, num_classes, **({"training": QUICK, "verbose": 0} | more))


def computed() -> int:
    """The number of rows of frozen features in the cache."""
    stores = [store for store in Cache().stores() if store.kind.name == "features"]
    for store in stores:
        store.refresh()
    return sum(len(store.keys) for store in stores)


def logits(classifier: vggft.Classifier, images: np.ndarray) -> np.ndarray:
    return forward.forward(forward.between(classifier.keras_model, None, "logits"), images)


def counts(classifier: vggft.Classifier) -> dict[str, int]:
    return {split: list(classifier.seen.values()).count(split) for split in ORDER}


def four_classes(stripes: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The first images, and 20 of a fourth class."""
    more = 255 - stripes[0][1:61:3][:, :, :, ::-1] // 2
    images = np.concatenate([stripes[0][:FIRST], more])
    return images, np.concatenate([stripes[1][:FIRST], np.full(20, 3)])


def test_more_images_cost_only_their_own_features_and_every_image_stays_in_its_split(
    first: vggft.Classifier, stripes: tuple
) -> None:
    before, rows = [weights.copy() for weights in first.keras_model.get_weights()], computed()
    updated = update(first, stripes)
    assert computed() == rows + len(stripes[0]) - FIRST
    assert all(np.array_equal(a, b) for a, b in zip(before, first.keras_model.get_weights(), strict=True))
    assert counts(first) == {"train": 43, "validation": 11, "test": 18}
    assert counts(updated) == {"train": 72, "validation": 18, "test": 30}
    assert first.seen.items() <= updated.seen.items()
    assert updated.evaluation.split == "test" and len(updated.evaluation.labels) == 30
    assert updated.class_names == first.class_names and updated.description.head == first.description.head


def test_what_is_known_and_unchanged_gives_the_same_classifier_unless_an_epoch_is_better(
    first: vggft.Classifier, stripes: tuple
) -> None:
    data = stripes[0][:FIRST], stripes[1][:FIRST]
    same = update(first, data, training=STILL)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(first.keras_model.get_weights(), same.keras_model.get_weights(), strict=True)
    )
    learned = np.array([first.seen[digest] == "train" for digest in digests_of(data[0])])
    wrong = np.where(learned, (data[1] + 1) % 3, data[1])
    training = vggft.Training(epochs=4, learning_rate=1e-2, batch_size=16)
    wild = update(first, (data[0], wrong), training=training)
    assert not any(row["kept"] for row in wild.history)
    np.testing.assert_array_equal(logits(wild, data[0]), logits(first, data[0]))


def test_a_linear_probe_is_solved_anew_whatever_it_learned_from(stripes: tuple, tiny_weights: Path) -> None:
    """By default the first run learned from its validation images too; nothing but its test images is kept apart."""
    images, labels = stripes[0][:FIRST], stripes[1][:FIRST].copy()
    settings: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "verbose": 0}
    start = vggft.finetune((images, labels), 3, test=0.25, **settings)
    assert counts(start) == {"train": 54, "validation": 0, "test": 18}
    same = start.update((images, labels), verbose=0)
    assert same.seen == start.seen and same.evaluation.names == start.evaluation.names
    assert same.record.summary["cross-validation"]["num_images"] == 54  # folds of all but the test images chose
    np.testing.assert_array_equal(same.predict(images).argmax(1), start.predict(images).argmax(1))
    labels[stripes[1][:FIRST] == 0], labels[stripes[1][:FIRST] == 1] = 1, 0
    swapped = start.update((images, labels), verbose=0)
    assert swapped.evaluation["accuracy"] == start.evaluation["accuracy"]
    with pytest.raises(vggft.DataError, match="No images are left in validation"):  # of what it has learned from
        start.update((images, labels), training=STILL, verbose=0)


def test_one_new_image_is_trained_on(first: vggft.Classifier, stripes: tuple) -> None:
    updated = update(first, (stripes[0][: FIRST + 1], stripes[1][: FIRST + 1]))
    (digest,) = updated.seen.keys() - first.seen.keys()
    assert updated.seen[digest] == "train"


def test_a_corrected_label_is_the_new_label(first: vggft.Classifier, stripes: tuple, tmp_path: Path) -> None:
    """Half of the classes swap names: the head learns the new ones without any new feature."""
    labels, rows = stripes[1][:FIRST].copy(), computed()
    labels[stripes[1][:FIRST] == 0], labels[stripes[1][:FIRST] == 1] = 1, 0
    training = vggft.Training(epochs=30, batch_size=16, learning_rate=1e-2)
    updated = update(first, (stripes[0][:FIRST], labels), training=training)
    assert computed() == rows and updated.seen == first.seen
    assert updated.evaluation["accuracy"] > 0.8
    truth = updated.evaluation.labels
    names = [int(name[7:-1]) for name in updated.evaluation.names]
    np.testing.assert_array_equal(truth, labels[names])


def test_a_new_class_leaves_the_old_columns_where_they_are(first: vggft.Classifier, stripes: tuple) -> None:
    images, labels = four_classes(stripes)
    began = update(first, (images, labels), 4, training=STILL)
    assert began.class_names == ("0", "1", "2", "3")
    np.testing.assert_allclose(logits(began, images)[:, :3], logits(first, images), atol=1e-5)
    np.testing.assert_array_equal(began.predict(images).argmax(1), first.predict(images).argmax(1))
    new = {split: count - counts(first)[split] for split, count in counts(began).items()}
    assert new == {"train": 12, "validation": 3, "test": 5}
    training = vggft.Training(epochs=30, batch_size=16, learning_rate=3e-3)
    learned = update(first, (images, labels), 4, training=training)
    assert (learned.predict(images[FIRST:]).argmax(1) == 3).mean() > 0.9
    assert (learned.predict(images[:FIRST]).argmax(1) == labels[:FIRST]).mean() > 0.8


def test_new_names_come_after_old_ones_whatever_their_order(stripes: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    def write(row: int, name: str) -> None:
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(stripes[0][row]).save(tmp_path / "data" / name / f"{row}.png")

    for row in range(40):
        write(row, ("dog", "cat")[row % 2])
    settings: dict[str, Any] = {"training": QUICK, "verbose": 0}
    start = vggft.finetune(tmp_path / "data", 2, backbone=tiny_weights, image_size=32, **settings)
    for row in range(40, 80):
        write(row, ("zebra", "ant")[row % 2])
    with pytest.raises(vggft.DataError, match=r"num_classes=2, but .* has 4 classes: cat, dog, ant, zebra"):
        update(start, tmp_path / "data")
    updated = update(start, tmp_path / "data", 4, training=STILL)
    assert updated.class_names == ("cat", "dog", "ant", "zebra")
    assert updated.evaluation.class_names == updated.class_names
    np.testing.assert_allclose(logits(updated, stripes[0])[:, :2], logits(start, stripes[0]), atol=1e-5)
    for row in range(40, 80, 2):
        (tmp_path / "data" / "zebra" / f"{row}.png").unlink()
    with pytest.raises(
        vggft.DataError, match="no images to train on of classes that the classifier in start knows: zebra"
    ):
        update(updated, tmp_path / "data", 4)


@pytest.mark.slow
def test_splits_stay_honest_over_many_updates(first: vggft.Classifier, stripes: tuple) -> None:
    """Images come in small parts, and some of the old ones are not there in every update."""
    rng, classifier, rows = np.random.default_rng(0), first, list(range(FIRST))
    for part in np.array_split(np.arange(FIRST, 120), 3):
        rows += part.tolist()
        there = np.sort(rng.permutation(rows)[: len(rows) - 5])
        after = update(classifier, (stripes[0][there], stripes[1][there]), training=STILL)
        assert classifier.seen.items() <= after.seen.items()
        classifier = after
    whole = update(classifier, stripes, training=STILL)
    assert classifier.seen.items() <= whole.seen.items()
    assert counts(whole) == pytest.approx({"train": 72, "validation": 18, "test": 30}, abs=2)


def test_a_split_of_the_data_that_would_not_be_honest_leaves_images_out(
    first: vggft.Classifier, stripes: tuple, capfd: pytest.CaptureFixture[str]
) -> None:
    splits = list(first.seen.values())
    held = stripes[0][60:84], stripes[1][60:84]  # 12 of them are known
    data = stripes[0][:60], stripes[1][:60]
    updated = update(first, data, validation=held, test=(stripes[0][84:], stripes[1][84:]), verbose=1)
    after = {digest: split for digest, split in updated.seen.items() if digest not in first.seen}
    assert list(after.values()).count("test") == 36 and "train" not in after.values()
    for digest, split in first.seen.items():
        assert ORDER.index(updated.seen[digest]) <= ORDER.index(split)
    said = " ".join(capfd.readouterr().err.split())
    assert "was left out of validation: it is a train image of the classifier in start" in said
    assert list(first.seen.values()) == splits


@pytest.mark.slow
def test_trained_blocks_are_those_of_the_start(stripes: tuple, tiny_weights: Path) -> None:
    training = vggft.Training(epochs=1, fine_tune_epochs=6, batch_size=16, learning_rate=3e-3)
    settings: dict[str, Any] = {"training": training, "verbose": 0}
    start = vggft.finetune(stripes, 3, backbone=tiny_weights, image_size=32, freeze="block4", **settings)
    images = stripes[0]
    same = update(start, stripes, training=STILL)
    np.testing.assert_allclose(logits(same, images), logits(start, images), atol=1e-4)
    assert same.description.frozen == start.description.frozen == blocks.BLOCKS[:4]
    rows = computed()
    further = update(start, stripes, freeze="block4", training=QUICK)
    assert computed() == rows  # block 4's features are those of the first run
    assert further.description.frozen == blocks.BLOCKS[:4]
    assert {row["phase"] for row in further.history} == {"head", "blocks and head"}


def test_several_labels(stripes: tuple, tiny_weights: Path) -> None:
    images, labels = stripes
    several = np.stack([labels == 0, labels != 2], axis=1).astype(int)
    settings: dict[str, Any] = {"training": QUICK, "verbose": 0, "image_size": 32, "backbone": tiny_weights}
    start = vggft.finetune((images[:90], several[:90]), 2, **settings)
    third = np.concatenate([several, (labels == 2)[:, None].astype(int)], axis=1)
    updated = update(start, (images, third), 3, training=STILL)
    assert updated.description.multi_label and updated.class_names == ("0", "1", "2")
    np.testing.assert_allclose(updated.predict(images)[:, :2], start.predict(images), atol=1e-5)


def test_a_head_with_other_layers_begins_afresh_and_one_with_other_dropout_does_not(
    first: vggft.Classifier, stripes: tuple, capfd: pytest.CaptureFixture[str]
) -> None:
    other = update(first, stripes, head=vggft.Head(units=(8,)), verbose=1)
    assert "the head starts afresh" in capfd.readouterr().err
    assert other.description.head.units == (8,) and first.seen.items() <= other.seen.items()
    dropped = update(first, stripes, head=vggft.Head(units=(32,), dropout=0.1), training=STILL)
    np.testing.assert_array_equal(logits(dropped, stripes[0]), logits(first, stripes[0]))


def test_the_backbone_of_the_start_may_be_called_as_people_say() -> None:
    description = Description(("cat", "dog"), 32, width=1 / 64, backbone="vgg16_imagenet")
    start = Start("first.keras", description, random_weights(0, width=1 / 64), {})
    for name in (None, "vgg16_imagenet", "vgg16", "ImageNet"):
        assert start.check(name, None).size == (32, 32)
    with pytest.raises(vggft.ConfigError, match="backbone='vgg19' contradicts start"):
        start.check("vgg19", None)


def test_what_contradicts_the_start_is_refused(
    first: vggft.Classifier, run_dir: Path, stripes: tuple, tmp_path: Path
) -> None:
    def refused(error: type[Exception], match: str, data: Any = stripes, **arguments: Any) -> None:
        with pytest.raises(error, match=match):
            vggft.finetune(data, **({"num_classes": 3, "start": run_dir, "verbose": 0} | arguments))

    refused(vggft.ConfigError, "backbone='vgg16_mini' contradicts start", backbone="vgg16_mini")
    refused(vggft.ConfigError, "image_size=64 contradicts start", image_size=64)
    refused(vggft.ConfigError, "start must be a Classifier, its file or its run directory; got 3", start=3)
    refused(vggft.ClassifierFileError, "There is no classifier file", start=tmp_path)
    refused(vggft.DataError, r"integers in 0\.\.2; got label 3", data=four_classes(stripes))
    only_new = stripes[0][:20], np.full(20, 3)
    refused(vggft.DataError, "(?s)classifier in start knows: 0, 1, 2. Pass all images", only_new, num_classes=4)
    mine = first.description.backbone
    assert update(first, stripes, backbone=mine, image_size=32, training=STILL).seen.keys() >= first.seen.keys()


def test_files_remember_splits_and_those_of_earlier_versions_know_training_images(
    first: vggft.Classifier, stripes: tuple, tmp_path: Path
) -> None:
    again = vggft.load(first.save(tmp_path / "again.keras"))
    assert again.seen == first.seen and set(again.seen.values()) == set(ORDER)
    by_split = {split: next(digest for digest, its in first.seen.items() if its == split) for split in ORDER}
    assert all(len(digest) == 32 for digest in by_split.values())
    evaluation = first.evaluation
    rows = [int(name[7:-1]) for name in evaluation.names]
    assert first.evaluate((stripes[0][rows], stripes[1][rows]))["accuracy"] == evaluation["accuracy"]  # no warning
    old = vggft.load(Path(__file__).parent / "artifact" / "files" / "classifier_0.1.0.keras")
    assert set(old.seen.values()) == {"train"}


def test_a_search_that_ends_in_a_refit_has_trained_on_validation_images(stripes: tuple, tiny_weights: Path) -> None:
    space = vggft.SearchSpace(learning_rate=[1e-3, 3e-3])
    settings: dict[str, Any] = {"trials": 2, "algorithm": "random", "winner": "refit", "test": 0.2, "training": QUICK}
    result = vggft.search(stripes, 3, space=space, backbone=tiny_weights, image_size=32, verbose=0, **settings)
    assert result is not None and counts(result.classifier) == {"train": 96, "validation": 0, "test": 24}


KILLED = """
import sys, numpy as np, vggft
from vggft.training import callbacks
callbacks.SECONDS_BETWEEN_POINTS = 0
data, start, run_dir = sys.argv[1:]
arrays = np.load(data)
vggft.finetune((arrays["images"], arrays["labels"]), 4, start=start, verbose=0, run_dir=run_dir, resume=True,
    training=vggft.Training(epochs=60, batch_size=16, patience=1000, optimizer="sgd"))
"""


@pytest.mark.slow
def test_a_killed_update_ends_with_the_weights_that_it_would_have_had(
    first: vggft.Classifier, run_dir: Path, stripes: tuple, tmp_path: Path
) -> None:
    """With SGD, as the head is then trained by Keras's `fit`, which has resume points."""
    images, labels = four_classes(stripes)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "data.npz"), str(run_dir), str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "resume" / "head.npz").exists():
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "classifier.keras").exists()

    settings = {"training": vggft.Training(epochs=60, batch_size=16, patience=1000, optimizer="sgd")}
    other = update(first, (images[:FIRST], labels[:FIRST]))
    with pytest.raises(vggft.RunError, match="start was"):
        update(other, (images, labels), 4, run_dir=killed, resume=True, **settings)
    resumed = update(first, (images, labels), 4, run_dir=killed, resume=True, **settings)
    alone = update(first, (images, labels), 4, **settings)
    for a, b in zip(resumed.keras_model.get_weights(), alone.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.seen == alone.seen
    again = update(first, (images, labels), 4, run_dir=killed, resume=True, **settings)  # finished: only opened
    np.testing.assert_array_equal(again.keras_model.get_weights()[-1], alone.keras_model.get_weights()[-1])


@pytest.mark.slow
def test_on_the_command_line_with_a_record_of_where_it_started(
    stripes: tuple, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row, (image, label) in enumerate(zip(*stripes, strict=True)):
        (tmp_path / "data" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / str(label) / f"{row}.png")
    before = (run_dir / "classifier.keras").read_bytes()
    words = ["finetune", str(tmp_path / "data"), "--num-classes", "3", "--start", str(run_dir), "--epochs", "2"]
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*words, "--run-dir", "second", "--json"], catch_exceptions=False)
    assert result.exit_code == 0 and json.loads(result.stdout)["split"] == "test"
    second = vggft.load(tmp_path / "second")
    assert json.loads((tmp_path / "second" / "environment.json").read_text())["arguments"]["start"] == str(run_dir)
    assert len(second.record.config["start"]) == 64 and f"start={str(run_dir)!r}" in second.record.call
    assert (run_dir / "classifier.keras").read_bytes() == before
    assert counts(second) == {"train": 72, "validation": 18, "test": 30}
    assert second.description.head.units == (32,)
    result = CliRunner().invoke(app, [*words, "--dry-run", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["views"] == 0


def test_estimate_counts_only_new_images(run_dir: Path, stripes: tuple) -> None:
    images = np.concatenate([stripes[0], 255 - stripes[0][:7]])
    labels = np.concatenate([stripes[1], stripes[1][:7]])
    found = vggft.estimate((images, labels), 3, start=run_dir, verbose=0)
    assert found.images == {"train": 76, "validation": 19, "test": 32} and found.views <= 7 + 120 - FIRST
