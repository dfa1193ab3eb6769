"""Calibration, thresholds, slices and kept images: from `finetune` through the file to the loaded classifier."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.artifact.record import read_record

QUICK = vggft.Training(epochs=6, batch_size=16, learning_rate=3e-3)


def finetune(data: Any, weights: Path, **arguments: Any) -> vggft.Classifier:
    settings = {"backbone": weights, "image_size": 32, "training": QUICK, "precision": "float32", "verbose": 0}
    return vggft.finetune(data, 3, **(settings | arguments))


@pytest.fixture(scope="module")
def noisy(stripes: tuple) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the labels are wrong, so that a confident classifier is overconfident."""
    labels = stripes[1].copy()
    labels[::5] = (labels[::5] + 1) % 3
    return stripes[0], labels


def test_calibration_when_it_is_asked_for(noisy: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    """Probabilities change, predictions do not; the run directory states the effect on test images."""
    plain = finetune(noisy, tiny_weights, test=0.3, refit=False, run_dir=tmp_path / "plain")
    calibrated = finetune(noisy, tiny_weights, test=0.3, calibrate=True, run_dir=tmp_path / "calibrated")
    told = json.loads((tmp_path / "calibrated" / "evaluation.json").read_text())
    assert "calibration" not in json.loads((tmp_path / "plain" / "evaluation.json").read_text())
    value = calibrated.description.temperature
    assert told["calibration"]["temperature"] == value != 1
    assert plain.description.temperature == 1
    before, after = told["calibration"]["calibration_error"]["test"]
    assert before == pytest.approx(plain.evaluation["calibration_error"])
    assert after == calibrated.evaluation["calibration_error"] == told["test"]["calibration_error"]
    chosen = told["calibration"]["log_loss"]["validation"]
    assert chosen[1] <= chosen[0]
    np.testing.assert_array_equal(plain.evaluation.predictions, calibrated.evaluation.predictions)

    rows = [int(name[7:-1]) for name in calibrated.evaluation.names]
    judged = calibrated.evaluation.probabilities
    again = vggft.load(tmp_path / "calibrated" / "classifier.keras")
    keras_alone = keras.models.load_model(tmp_path / "calibrated" / "classifier.keras")
    np.testing.assert_allclose(again.predict(noisy[0][rows]), judged, atol=1e-5)
    np.testing.assert_allclose(keras_alone.predict(noisy[0][rows].astype("float32"), verbose=0), judged, atol=1e-5)
    assert again.description.temperature == value

    later = plain.calibrate(noisy, split="all")
    assert later.temperature == plain.description.temperature and later.images == 120
    np.testing.assert_allclose(plain.predict(noisy[0][rows]), plain.evaluation.probabilities, atol=1e-5)
    assert f"temperature of {later.temperature:.3f}, fitted on 120 all images." in str(later)
    assert plain.calibrate(noisy).temperature == pytest.approx(1, abs=1e-3)  # there is nothing left to do


def test_it_says_that_calibration_could_not_help(noisy: tuple) -> None:
    from vggft.evaluation.calibration import Calibration

    found = Calibration(1.2, "validation", 50, {"validation": (0.1, 0.05), "test": (0.02, 0.03)}, {})
    assert "on test images was 0.020 before and is 0.030 after; calibration did not lower it there." in str(found)


def test_a_refit_leaves_nothing_to_calibrate_on(noisy: tuple, tiny_weights: Path) -> None:
    with pytest.raises(vggft.ConfigError, match="calibrate=True needs images that were not trained on"):
        settings = {"backbone": tiny_weights, "image_size": 32, "verbose": 0}
        vggft.search(noisy, 3, trials=2, winner="refit", test=0.2, calibrate=True, **settings)
    with pytest.raises(vggft.ConfigError, match=r"True \(--tune-thresholds\) is for images with several labels"):
        finetune(noisy, tiny_weights, tune_thresholds=True)
    with pytest.raises(vggft.ConfigError, match="tensorboard=True writes into the run directory"):
        finetune(noisy, tiny_weights, tensorboard=True)


@pytest.mark.slow
def test_the_winner_of_a_search_is_adjusted_as_well(stripes: tuple, tiny_weights: Path) -> None:
    labels = np.stack([stripes[1] == 0, stripes[1] > 0, np.arange(120) % 2 > 0], axis=1).astype(int)
    settings: dict[str, Any] = {"backbone": tiny_weights, "image_size": 32, "training": QUICK, "verbose": 0}
    settings |= {"trials": 2, "algorithm": "random", "test": 0.2, "precision": "float32"}
    found = vggft.search((stripes[0], labels), 3, calibrate=True, tune_thresholds=True, **settings).classifier
    assert found.description.temperature not in (0, 1) and found.description.thresholds != (0.5,) * 3
    assert found.evaluation.thresholds.tolist() == list(found.description.thresholds)
    assert found.record.summary["calibration"]["temperature"] == found.description.temperature


def test_thresholds_of_several_labels_and_slices_by_a_column(
    stripes: tuple, tiny_weights: Path, tmp_path: Path
) -> None:
    """From a CSV file with a metadata column; every third image has a second label."""
    rows = []
    for i, (pixels, label) in enumerate(zip(*stripes, strict=True)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        labels = {"abc"[label]} | ({"c"} if i % 3 == 0 else set())
        rows.append({"image": f"{i}.png", "label": "|".join(sorted(labels)), "site": "north" if i % 4 else "south"})
    with (tmp_path / "all.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    run_dir = tmp_path / "run"
    tuned = finetune(tmp_path / "all.csv", tiny_weights, test=0.3, tune_thresholds=True, run_dir=run_dir)
    assert tuned.description.thresholds is not None and tuned.description.thresholds != (0.5,) * 3
    assert json.loads((run_dir / "evaluation.json").read_text())["test"]["thresholds"] == list(
        tuned.description.thresholds
    )
    found = tuned.evaluation.slices("site")
    assert set(found) == {"north", "south"}
    assert sum(len(each.labels) for each in found.values()) == len(tuned.evaluation.labels)
    again = vggft.load(run_dir / "classifier.keras")
    assert again.evaluation.metadata == tuned.evaluation.metadata
    assert again.evaluation.to_dict() == tuned.evaluation.to_dict()
    with pytest.warns(UserWarning, match="trained or chosen on 84 of these 120"):
        judged = again.evaluate(tmp_path / "all.csv")
    assert judged.slices("site")["south"].names[0].endswith("0.png")
    again.tune_thresholds(tmp_path / "all.csv")
    assert again.description.thresholds == pytest.approx(judged.best_thresholds().tolist())
    assert tuned.calibrate(tmp_path / "all.csv").temperature > 0


def test_an_operating_point_is_followed_everywhere(noisy: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    """By predictions, by the evaluation, in the file, and after a calibration; probabilities stay."""
    few = noisy[1] < 2
    images, labels = noisy[0][few], np.where(noisy[1][few] == 1, "ill", "well")
    how: dict[str, Any] = {"num_classes": 2, "backbone": tiny_weights, "image_size": 32, "verbose": 0}
    classifier = vggft.finetune((images, labels), test=0.3, refit=False, **how)
    probabilities = classifier.predict(images)
    point = classifier.operate((images, labels), sensitivity=1.0, positive="well")
    assert point.sensitivity == 1.0 and point.positive == "well" and abs(point.threshold - 0.5) > 0.05
    np.testing.assert_array_equal(classifier.predict(images), probabilities)
    wanted = ["well" if row[1] > point.threshold else "ill" for row in probabilities]
    assert [each.label for each in classifier.classify(list(images))] == wanted
    assert {"well"} == {name for name, label in zip(wanted, labels, strict=True) if label == "well"}
    again = vggft.load(classifier.save(tmp_path / "a.keras"))
    assert [each.label for each in again.classify(list(images))] == wanted
    assert again.evaluation.to_dict() == classifier.evaluation.to_dict()
    assert again.evaluation["specificity"] is not None
    classifier.calibrate((images, labels))
    assert [each.label for each in classifier.classify(list(images))] == wanted


def test_the_record_is_the_same_in_memory_and_from_the_run_directory(
    stripes: tuple, tiny_weights: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    classifier = finetune(stripes, tiny_weights, run_dir=run_dir, tensorboard=True, calibrate=True, on_bad_image="skip")
    memory, disk = classifier.record, vggft.load(run_dir / "classifier.keras").record
    assert json.loads(json.dumps([memory.config, memory.audit, memory.summary])) == [
        disk.config,
        disk.audit,
        disk.summary,
    ]
    assert {row: pixels.tobytes() for row, pixels in memory.pictures.items()} == {
        row: pixels.tobytes() for row, pixels in disk.pictures.items()
    }
    began = datetime.strptime(disk.environment["started"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert began <= (run_dir / "config.json").stat().st_mtime and disk.environment["seconds"] > 0
    worst = classifier.evaluation.top_losses(1)[0]
    np.testing.assert_array_equal(disk.pictures[worst.row], stripes[0][int(worst.name[7:-1])])
    assert list(run_dir.glob("tensorboard/head/*/events*"))
    assert disk.call.startswith("vggft.finetune(\n    dataset, num_classes=3") and "calibrate=True" in disk.call
    assert "on_bad_image='skip'" in disk.call
    again = eval(disk.call, {"vggft": vggft, "dataset": stripes})  # what a report says of how to repeat it
    for a, b in zip(again.keras_model.get_weights(), classifier.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert classifier.save(tmp_path / "elsewhere.keras")
    assert vggft.load(tmp_path / "elsewhere.keras").record.config == {}

    whole = (run_dir / "audit.json").read_text()
    (run_dir / "audit.json").write_text("{")
    with pytest.raises(vggft.RunError, match=r"audit\.json is not valid JSON"):
        read_record(run_dir)
    (run_dir / "audit.json").write_text("{}")
    with pytest.raises(vggft.RunError, match=r"audit\.json lacks images"):
        read_record(run_dir)
    (run_dir / "audit.json").write_text(whole)
    images = (run_dir / "top_losses.npz").read_bytes()
    (run_dir / "top_losses.npz").write_bytes(images[: len(images) // 2])
    with pytest.raises(vggft.RunError, match=r"top_losses\.npz is damaged: "):
        read_record(run_dir)
