"""`vggft.cross_validate`: every image is judged by a training that has not seen it, one that `finetune` would make."""

from __future__ import annotations

import csv
import doctest
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
from vggft import crossvalidation
from vggft.cli.main import app
from vggft.overview import read_runs

PROBE = vggft.Head(units=())
TINY: dict[str, Any] = {"image_size": 32, "precision": "float32", "verbose": 0}


@pytest.fixture(scope="module")
def folder(stripes: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images in three class folders, with more noise; two of them are there twice."""
    root, rng = tmp_path_factory.mktemp("data") / "stripes", np.random.default_rng(0)
    for row in range(60):
        (at := root / "abc"[stripes[1][row]]).mkdir(parents=True, exist_ok=True)
        pixels = (stripes[0][row] + rng.normal(0, 70, (32, 32, 3))).clip(0, 255).astype("uint8")
        for name in (f"{row:02}.png", f"{row:02}-again.png")[: 1 + (row < 2)]:
            Image.fromarray(pixels).save(at / name)
    return root


@pytest.fixture(scope="module")
def found(folder: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    run_dir = tmp_path_factory.mktemp("runs") / "folds"
    how = {"backbone": tiny_weights, "head": PROBE, "folds": 4, "repeats": 2, "run_dir": run_dir}
    return vggft.cross_validate(folder, 3, **how, **TINY), run_dir


def test_every_image_is_judged_once_in_each_repeat(found: tuple, folder: Path) -> None:
    result, _ = found
    assert [(each.repeat, each.fold) for each in result.folds] == [(r, f) for r in range(2) for f in range(4)]
    assert {each.train + each.validation + each.images for each in result.folds} == {62}
    assert all(each.validation >= 9 for each in result.folds)
    for evaluation in result.evaluations:
        assert evaluation.names == tuple(map(str, sorted(folder.glob("*/*.png")))) and evaluation.split == "out-of-fold"
        labels = [evaluation.class_names[label] for label in evaluation.labels]
        assert labels == [Path(name).parent.name for name in evaluation.names]
    first, second = result.fold_of
    assert (first != second).any()
    names = [Path(name).stem for name in result.evaluation.names]
    for copy in ("00", "01"):
        assert first[names.index(copy)] == first[names.index(f"{copy}-again")]


def test_scores_mean_and_interval(found: tuple) -> None:
    result, _ = found
    each = [evaluation["accuracy"] for evaluation in result.evaluations]
    assert result.score == result["accuracy"] == pytest.approx(np.mean(each))
    assert result.mean == pytest.approx(np.mean(result.scores)) and len(result.scores) == 8
    for repeat in range(2):
        mine = [fold for fold in result.folds if fold.repeat == repeat]
        right = sum(fold.metrics["accuracy"] * fold.images for fold in mine)
        assert right / 62 == pytest.approx(each[repeat])
    assert result.interval[0] < result.score < result.interval[1] and result.interval == result.intervals["accuracy"]
    with pytest.raises(KeyError, match="'speed' is not measured here"):
        result["speed"]


def test_what_it_says(found: tuple) -> None:
    result, _ = found
    told = str(result)
    assert told.startswith("Out-of-fold: accuracy 0.") and "62 images, 3 classes" in told
    assert "4 folds, 2 repeats: accuracy 0." in told and "Confusion matrix" in told
    assert "4 folds, 2 repeats" in result._repr_html_()
    summary = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert summary["split"] == "out-of-fold" and summary["accuracy"] == result.score
    assert len(summary["folds"]) == 8 and summary["folds"][5]["accuracy"] == result.scores[5]


def test_tables_in_the_run_directory(found: tuple) -> None:
    result, run_dir = found
    with (run_dir / "folds.csv").open() as file:
        assert [float(row["accuracy"]) for row in csv.DictReader(file)] == result.scores
    with (run_dir / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 62
    mistakes = [row["image"] for row in rows if row["repeat"] == "0" and row["label"] != row["predicted"]]
    assert len(mistakes) == round(62 * (1 - result.evaluation["accuracy"]))
    np.testing.assert_array_equal(
        np.array([[row[name] for name in "abc"] for row in rows], "float32"),
        np.concatenate([evaluation.probabilities for evaluation in result.evaluations]),
    )
    assert json.loads((run_dir / "evaluation.json").read_text())["intervals"]["mcc"] == list(result.intervals["mcc"])
    assert not list(run_dir.rglob("resume"))


@pytest.mark.parametrize(
    "how",
    [
        {"head": PROBE},
        {"augment": vggft.Augment(views=2), "training": vggft.Training(epochs=3)},
        pytest.param(
            {"freeze": "block4", "training": vggft.Training(epochs=2, fine_tune_epochs=2, learning_rate=1e-2)},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["probe", "views", "blocks"],
)
def test_a_fold_is_what_finetune_makes_of_it(
    how: dict[str, Any], folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """The images of a fold as a test split, and those that selected as the validation split, give its predictions."""
    how = how | TINY | {"backbone": tiny_weights}
    run_dir = tmp_path / "folds"
    result = vggft.cross_validate(folder, 3, folds=3, run_dir=run_dir, **how)
    table = result.predictions()
    with (run_dir / "splits.csv").open() as file:
        split_of = {row["image"]: row["split"] for row in csv.DictReader(file) if row["training"] == "repeat0-fold1"}
    lines = [f"{row['image']},{row['label']},{split_of[row['image']]}" for row in table]
    assert [row["image"] for row in table if row["fold"] == 1] == [
        n for n, split in split_of.items() if split == "test"
    ]
    (tmp_path / "split.csv").write_text("\n".join(["image,label,split", *lines]))
    refit = False if "freeze" in how else None  # a fold learns from no images that have selected
    alone = vggft.finetune(tmp_path / "split.csv", 3, refit=refit, **how)
    assert alone.evaluation.split == "test"
    expected = result.evaluation.probabilities[result.fold_of[0] == 1]
    # The images are in another order, and where a solver stops depends on the last bit of the mean of features.
    atol = 1e-6 if "freeze" in how else 1e-3
    np.testing.assert_allclose(alone.evaluation.probabilities, expected, atol=atol)


def test_test_images_are_in_no_fold(folder: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = TINY | {"backbone": tiny_weights, "head": PROBE, "test": 0.25}
    result = vggft.cross_validate(folder, 3, folds=2, validation=None, **(how | {"verbose": 1}))
    told = " ".join(capsys.readouterr().err.split())
    alone = vggft.finetune(folder, 3, **how)
    tested = set(alone.evaluation.names)
    assert len(tested) == 15 or len(tested) == 16
    assert not tested & set(result.evaluation.names) and len(result.evaluation.names) == 62 - len(tested)
    note = f"test images are in no fold ({len(tested)})"
    assert note in told and note in str(result)
    assert "cross-validation images of 3 classes" in told and "Estimate: " in told and "Training 2 of 2: acc" in told
    assert {each.validation for each in result.folds} == {0}


def test_several_labels_per_image(stripes: tuple, tiny_weights: Path) -> None:
    images, labels = stripes
    targets = np.eye(3, dtype=int)[labels] | np.eye(3, dtype=int)[np.minimum(labels, 1)]
    result = vggft.cross_validate((images, targets), 3, folds=2, backbone=tiny_weights, head=PROBE, **TINY)
    assert result.headline == "average_precision" and 0 < result.score <= 1
    assert result.predictions()[2]["label"] == "1|2"


KILLED = """
import sys, numpy as np, vggft
from vggft.training import callbacks
callbacks.SECONDS_BETWEEN_POINTS = 0
data, weights, run_dir = sys.argv[1:]
training = vggft.Training(epochs=1, fine_tune_epochs=6, batch_size=16, patience=100)
vggft.cross_validate(data, 3, folds=2, backbone=weights, freeze="block4", image_size=32, precision="float32", verbose=0,
    training=training, run_dir=run_dir, resume=True)
"""


@pytest.mark.slow
def test_killed_is_not_lost(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(folder), str(tiny_weights), str(run_dir)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (run_dir / "folds" / "repeat0-fold1" / "resume" / "blocks and head.npz").exists():
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = run_dir / "folds" / "repeat0-fold0.npz"
    written = finished.stat().st_mtime_ns

    training = vggft.Training(epochs=1, fine_tune_epochs=6, batch_size=16, patience=100)
    how = TINY | {"backbone": tiny_weights, "freeze": "block4", "training": training, "folds": 2}
    resumed = vggft.cross_validate(folder, 3, run_dir=run_dir, resume=True, **how)
    alone = vggft.cross_validate(folder, 3, **how)
    np.testing.assert_array_equal(resumed.evaluation.probabilities, alone.evaluation.probabilities)
    assert finished.stat().st_mtime_ns == written and not list(run_dir.rglob("resume"))
    again = vggft.cross_validate(folder, 3, run_dir=run_dir, resume=True, **how)  # finished: only read
    assert finished.stat().st_mtime_ns == written and again.to_dict() == alone.to_dict()
    with pytest.raises(vggft.RunError, match="folds was 2, is 3"):
        vggft.cross_validate(folder, 3, run_dir=run_dir, resume=True, **(how | {"folds": 3}))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"folds": 1}, vggft.ConfigError, "folds must be an integer >= 2; got 1"),
        ({"repeats": 0}, vggft.ConfigError, "repeats must be an integer >= 1; got 0"),
        ({"validation": "more/"}, vggft.ConfigError, "validation must be the share of the images outside a fold"),
        (
            {"folds": 30},
            vggft.DataError,
            r"30 folds need as many distinct images of every class; too few in: 'a' \(20\)",
        ),
    ],
)
def test_errors(how: dict[str, Any], error: type[Exception], message: str, folder: Path, tiny_weights: Path) -> None:
    with pytest.raises(error, match=message):
        vggft.cross_validate(folder, 3, backbone=tiny_weights, **how, **TINY)


def test_too_few_images_to_select_on(stripes: tuple, tiny_weights: Path) -> None:
    rows = [0, 1, 2, 3, 4, 5]  # two images of each class, so that a training has one
    data = stripes[0][rows], stripes[1][rows]
    how = TINY | {"backbone": tiny_weights, "head": PROBE, "folds": 2}
    with pytest.raises(vggft.DataError, match=r"too few images to select on.*validation=None"):
        vggft.cross_validate(data, 3, **how)
    assert len(vggft.cross_validate(data, 3, validation=None, **how).scores) == 2


def test_on_the_command_line(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    options = ["--num-classes", 3, "--backbone", tiny_weights, "--units", "", "--folds", 2, "--image-size", 32]
    command = ["cross-validate", folder, *options, "--run-dir", tmp_path / "run"]
    told = CliRunner().invoke(app, list(map(str, command)), catch_exceptions=False)
    assert told.exit_code == 0 and told.stdout.startswith("Out-of-fold: accuracy")
    assert str(tmp_path / "run" / "folds.csv") in told.stdout.replace("\n", "")
    (row,) = read_runs(tmp_path).rows
    assert row["what"] == "cross-validation" and row["metric"] == "accuracy" and row["seconds"] > 0
    assert f"accuracy {row['validation']:.3f}" in told.stdout
    again = CliRunner().invoke(app, [*map(str, command), "--resume", "--json"], catch_exceptions=False)
    found = json.loads(again.stdout)
    assert len(found["folds"]) == 2

    settings = ["--config", tmp_path / "run" / "config.json", "--backbone", tiny_weights, "--json"]
    command = ["cross-validate", folder, *settings, "--run-dir", tmp_path / "same"]
    same = CliRunner().invoke(app, list(map(str, command)), catch_exceptions=False)
    assert json.loads(same.stdout)["folds"] == found["folds"]


def test_the_example_in_the_docstring() -> None:
    results = doctest.testmod(crossvalidation)
    assert results.attempted and results.failed == 0
