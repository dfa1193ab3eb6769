"""`vggft.finetune` without a head: which probe it takes, from which images it learns, and what it says about that."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.stats import sem
from typer.testing import CliRunner

import vggft
from vggft.cli.main import app
from vggft.finetuning import plan_of
from vggft.heads.choice import CANDIDATES, _error, choose, mean_settings
from vggft.heads.probe import train_probe
from vggft.pipeline import open_run
from vggft.report.card import card
from vggft.run import RunDirectory
from vggft.telling.progress import Narrator
from vggft.training.request import Request

ABOUT: dict[str, Any] = {"num_classes": 3, "image_size": 32, "precision": "float32", "verbose": 0}


@pytest.fixture(scope="module")
def noisy(stripes: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The stripes with so much noise that probes err on some of them."""
    noise = np.random.default_rng(1).normal(0, 90, stripes[0].shape)
    return (stripes[0] + noise).clip(0, 255).astype("uint8"), stripes[1]


@pytest.fixture(scope="module")
def chosen(noisy: tuple, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[vggft.Classifier, Path]:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    return vggft.finetune(noisy, backbone=tiny_weights, test=0.25, run_dir=run_dir, **ABOUT), run_dir


def test_it_says_which_probe_it_takes_and_why(
    noisy: tuple, tiny_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    classifier = vggft.finetune(noisy, backbone=tiny_weights, **(ABOUT | {"verbose": 1}))
    said = " ".join(capfd.readouterr().err.split())
    head = classifier.description.head
    *first, last = (block[-1] for block in head.blocks or ())
    assert "the head is the best of 3 linear probes, solved exactly" in said
    assert f"The head sees blocks {', '.join(first)} and {last} ({head.normalize}): log loss" in said
    assert classifier.evaluation.split == "validation" and "learn from the validation images" not in said


def test_surely_better_is_by_the_standard_error_of_the_mean() -> None:
    gains = np.random.default_rng(0).normal(size=50)
    assert _error(gains) == pytest.approx(sem(gains, ddof=0)) and _error(np.zeros(3)) == 0


def test_a_fold_that_had_no_discriminants_leaves_their_settings_out() -> None:
    """It has no more images than classes."""
    kept = [{"kept": True, "strength": strength, "shrinkage": 0.1, "factor": 1.0} for strength in (1.0, 4.0)]
    assert mean_settings([[each] for each in kept])["strength"] == pytest.approx(2)
    assert mean_settings([kept[:1], [{"kept": True, "strength": 4.0}]]) == {"strength": pytest.approx(2)}


def test_the_choice_is_written_and_the_first_unless_another_is_surely_better(chosen: tuple) -> None:
    classifier, run_dir = chosen
    told = json.loads((run_dir / "choice.json").read_text())
    assert [(row["blocks"], row["normalize"]) for row in told[:2]] == [
        (["block3", "block4", "block5"], "sqrt_l2"),
        (["block3", "block4", "block5"], "l2"),
    ]
    assert len(told) == len(CANDIDATES) == 3
    (mine,) = [row for row in told if (row["worse"], row["error"]) == (0, 0)]
    assert (tuple(mine["blocks"]), mine["normalize"]) == (
        classifier.description.head.blocks,
        classifier.description.head.normalize,
    )
    assert mine is told[0] or told[0]["worse"] > 0
    config = json.loads((run_dir / "config.json").read_text())
    assert config["head"] is None and len(config["candidates"]) == 3 and "refit" not in config


def test_with_a_test_split_the_classifier_learns_from_validation_images_too(
    chosen: tuple, noisy: tuple, tiny_weights: Path
) -> None:
    """Its weights are those of a probe of all these images, with what the folds have chosen."""
    classifier, run_dir = chosen
    request = Request(noisy, backbone=tiny_weights, test=0.25, **ABOUT)
    run = open_run(request, [request.setting()], RunDirectory(None))
    plan, pool = plan_of(request, run), run.experiment.pool
    assert plan.refits and len(plan.folds) == 5
    planned = run.passes([dataclasses.replace(plan.setting, head=head) for head in plan.probes])
    bank = run.experiment.bank(planned, run.narrator)
    choice = choose(plan.probes, plan.setting.training, bank, plan.folds, pool=pool, narrator=Narrator(0))
    cut = run.experiment.phases(plan.setting)[-1].cut(choice.head)
    both = bank.examples(cut, np.concatenate([pool.rows["train"], pool.rows["validation"]]))
    alone = train_probe(choice.head, plan.setting.training, both, None, multi_label=False, chosen=choice.settings)
    for name in ("logits", "standardize"):
        for n, weights in enumerate(classifier.keras_model.get_layer(name).get_weights()):
            np.testing.assert_allclose(weights, alone.weights[f"{name}/{n}"], atol=1e-5)

    judged = json.loads((run_dir / "evaluation.json").read_text())
    assert judged["cross-validation"]["num_images"] == 90 and judged["test"]["num_images"] == 30
    assert judged["cross-validation"]["log_loss"] == pytest.approx(
        min(_losses(run_dir)), abs=1e-5
    )  # from before the refit
    assert sorted(classifier.seen.values()) == ["test"] * 30 + ["train"] * 90


def _losses(run_dir: Path) -> list[float]:
    return [row["log_loss"] for row in json.loads((run_dir / "choice.json").read_text()) if row["worse"] == 0]


def test_a_refit_can_be_refused_and_needs_test_images(noisy: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"backbone": tiny_weights, **ABOUT}
    held = vggft.finetune(noisy, test=0.25, refit=False, **settings)
    assert sorted(held.seen.values()) == ["test"] * 30 + ["train"] * 72 + ["validation"] * 18
    with pytest.raises(vggft.ConfigError, match=r"in finetune refit=True, --refit.*give a test split"):
        vggft.finetune(noisy, refit=True, run_dir=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    with pytest.raises(vggft.ConfigError, match="calibrate=True needs images that were not trained on"):
        vggft.finetune(noisy, test=0.25, refit=True, calibrate=True, **settings)


def test_a_head_that_is_trained_by_epochs_learns_from_all_images_if_it_is_asked_to(
    noisy: tuple, tiny_weights: Path, tmp_path: Path
) -> None:
    training = vggft.Training(epochs=4, batch_size=16)
    how: dict[str, Any] = {"head": vggft.Head(units=(8,)), "training": training, "test": 0.25, "refit": True}
    classifier = vggft.finetune(noisy, backbone=tiny_weights, run_dir=tmp_path / "run", **how, **ABOUT)
    assert list(classifier.seen.values()).count("train") == 90
    assert classifier.record.config["refit"] is True and "refit=True" in classifier.record.call
    summary = classifier.record.summary
    best = min(row["val_loss"] for row in classifier.history if row["kept"])
    assert summary["validation"]["log_loss"] == pytest.approx(best, abs=1e-4) and "test" in summary


def test_with_few_images_folds_choose_and_judge(noisy: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    few, run_dir = (noisy[0][:24], noisy[1][:24]), tmp_path / "run"
    classifier = vggft.finetune(few, backbone=tiny_weights, run_dir=run_dir, **ABOUT)
    assert classifier.evaluation.split == "cross-validation" and len(classifier.evaluation.labels) == 24
    assert set(classifier.seen.values()) == {"train"}
    assert classifier.evaluation["log_loss"] == pytest.approx(min(_losses(run_dir)), abs=1e-5)
    again = vggft.load(run_dir)
    assert again.evaluation.to_dict() == classifier.evaluation.to_dict()
    assert "Each was judged by a training that had not seen it; the head was chosen by" in card(again)
    tested = vggft.finetune((noisy[0][:30], noisy[1][:30]), backbone=tiny_weights, test=0.25, **ABOUT)
    assert tested.evaluation.split == "test" and "cross-validation" in tested.record.summary
    assert "Nothing was selected on these." in card(tested)


@pytest.mark.parametrize(
    "options",
    [(), *(pytest.param(each, marks=pytest.mark.slow) for each in (("--test", "0.25"), ("--time-limit", "9m")))],
)
@pytest.mark.slow
def test_what_was_chosen_is_repeated_from_config_and_from_the_call(
    options: tuple, noisy: tuple, tiny_weights: Path, tmp_path: Path
) -> None:
    """Of few images, so that folds choose where there is no test split."""
    for row in range(27):
        (at := tmp_path / "data" / str(noisy[1][row])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy[0][row]).save(at / f"{row}.png")
    base = ["finetune", str(tmp_path / "data"), "--backbone", str(tiny_weights), "--quiet"]

    def run(name: str, *more: str) -> vggft.Classifier:
        result = CliRunner().invoke(app, [*base, *more, "--run-dir", str(tmp_path / name)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return vggft.load(tmp_path / name)

    first = run("first", "--num-classes", "3", "--image-size", "32", *options)
    same = run("same", "--config", str(tmp_path / "first" / "config.json"), *options[: 2 * ("--test" in options)])
    called = eval(first.record.call, {"vggft": vggft})
    for again in (same, called):
        for a, b in zip(first.keras_model.get_weights(), again.keras_model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert same.record.config == first.record.config


@pytest.mark.parametrize(
    "head",
    [{"blocks": ("block2", "block5"), "units": (8,)}, pytest.param({"blocks": ("block4",)}, marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_any_blocks_end_to_end(head: dict[str, Any], noisy: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    training = vggft.Training(epochs=4, batch_size=16)
    settings: dict[str, Any] = {"head": vggft.Head(**head), "training": training, "backbone": tiny_weights}
    classifier = vggft.finetune(noisy, **settings, **ABOUT)
    pixels = noisy[0][:6]
    expected = classifier.predict(pixels)
    path = classifier.save(tmp_path / "a.keras")
    np.testing.assert_allclose(vggft.load(path).predict(pixels), expected, atol=1e-6)
    plain = keras.models.load_model(path)
    np.testing.assert_allclose(plain.predict(pixels.astype("float32"), verbose=0), expected, atol=1e-5)

    last = head["blocks"][-1]
    assert classifier.explain(pixels[0]).block == last
    earlier = classifier.explain(pixels[0], block="block2")
    assert earlier.heatmap.shape == (32, 32) and earlier.heatmap.max() > 0.5
    if last == "block4":
        with pytest.raises(vggft.ConfigError, match="as the head sees block4 last; got 'block5'"):
            classifier.explain(pixels[0], block="block5")
    exported = classifier.export(tmp_path / "a.onnx", dataset=(noisy[0][:12], noisy[1][:12]))
    assert Path(exported.path).exists() and exported.same_label == 1


@pytest.mark.slow
def test_folds_choose_the_probe_that_blocks_start_from(
    noisy: tuple, tiny_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where test images judge: a few validation images chose badly, and what blocks start from, they keep."""
    training = vggft.Training(fine_tune_epochs=1, batch_size=16)
    how: dict[str, Any] = {"backbone": tiny_weights, "freeze": "block4", "training": training, "verbose": 1}
    classifier = vggft.finetune(noisy, test=0.25, **(ABOUT | how))
    told = " ".join(capfd.readouterr().err.split())
    assert "5 folds of the training and validation images choose instead of the validation images alone" in told
    train = round(0.75 * len(noisy[0]))
    assert f"on {train} images" in told and classifier.evaluation.split == "test"
    vggft.finetune(noisy, **(ABOUT | how))  # without test images, the validation images have to judge
    assert "folds of the training" not in capfd.readouterr().err


def test_blocks_learn_from_the_start_of_a_probe(noisy: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    """`freeze="auto"`: it ends, it says what it kept, and that is what the validation images were told better by."""
    training = vggft.Training(fine_tune_epochs=2, batch_size=16)
    run_dir = tmp_path / "run"
    how: dict[str, Any] = {"backbone": tiny_weights, "freeze": "auto", "time_limit": "5m", "training": training}
    classifier = vggft.finetune(
        (np.concatenate([noisy[0], 255 - noisy[0]]), np.tile(noisy[1], 2)), run_dir=run_dir, **how, **ABOUT
    )
    config = json.loads((run_dir / "config.json").read_text())
    assert config["time_limit"] == 300 and "freeze='auto'" in classifier.record.call
    learned = "blocks and head" in {row["phase"] for row in classifier.history}
    assert learned == (classifier.description.frozen != ("block1", "block2", "block3", "block4", "block5"))
    pixels = noisy[0][:4]
    np.testing.assert_allclose(vggft.load(run_dir).predict(pixels), classifier.predict(pixels), atol=1e-5)
    for wrong in ("soon", 0, True):
        with pytest.raises(vggft.ConfigError, match="time_limit must be a number of seconds"):
            vggft.finetune(noisy, backbone=tiny_weights, time_limit=wrong, **ABOUT)
