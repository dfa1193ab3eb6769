"""Reliability, temperature, thresholds: on probabilities with known true values, and against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from vggft.evaluation.calibration import (
    Calibration,
    at_temperature,
    best_thresholds,
    calibration_text,
    reliability,
    temperature,
)
from vggft.evaluation.checks import evaluate
from vggft.evaluation.evaluation import calibrated


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def sure_by(factor: float, images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from true probabilities, and those as a classifier gives them whose logits are `factor` times it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, classes))
    true = softmax(logits)
    labels = (true.cumsum(axis=1) > rng.random((images, 1))).argmax(axis=1)
    return labels, softmax(factor * logits).astype("float32")


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_made_it_too_sure(factor: float, classes: int) -> None:
    labels, probabilities = sure_by(factor, 6000, classes)
    found = temperature(labels, probabilities)
    assert found == pytest.approx(factor, rel=0.08)
    names = [str(c) for c in range(classes)]
    new = evaluate(*sure_by(factor, 6000, classes, seed=1), names)
    after = new.at_temperature(found)
    assert after["calibration_error"] < 0.02
    assert after["accuracy"] == new["accuracy"]
    if factor != 1:
        assert after["calibration_error"] < new["calibration_error"] / 2 and after["log_loss"] < new["log_loss"]


def test_the_temperature_is_that_of_scikit_learn() -> None:
    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=0.01, max_iter=1000).fit(images[::2], labels[::2])
    calibrated = CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature")
    calibrated.fit(images[1::2], labels[1::2])
    expected = 1 / calibrated.calibrated_classifiers_[0].calibrators[0].beta_
    probabilities = classifier.predict_proba(images[1::2])
    found = temperature(labels[1::2], probabilities)
    assert found == pytest.approx(expected, rel=1e-3) and abs(found - 1) > 0.05
    after = at_temperature(probabilities, found, False)
    np.testing.assert_allclose(after, calibrated.predict_proba(images[1::2]), atol=1e-5)


def test_the_temperature_of_several_labels_an_image() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3000, 4))
    labels = (rng.random((3000, 4)) < 1 / (1 + np.exp(-logits))).astype(int)
    assert temperature(labels, 1 / (1 + np.exp(-2 * logits))) == pytest.approx(2, rel=0.08)


def test_a_temperature_where_a_class_has_no_images_or_all() -> None:
    labels, probabilities = sure_by(2.0, 4000, 5)
    some = labels < 4
    assert temperature(labels[some], probabilities[some]) > 1
    assert temperature(np.zeros(50, int), np.full((50, 3), 1 / 3)) == 1


def test_where_nothing_is_wrong_no_temperature_can_be_told() -> None:
    """The log loss would fall for ever, and make a grey square certain."""
    labels, sure = np.arange(40) % 4, 0.6 * np.eye(4)[np.arange(40) % 4] + 0.1
    assert temperature(labels, sure) == 1
    several = np.eye(4, dtype=int)[labels]
    assert temperature(several, 0.6 * several + 0.2) == 1
    found, _ = calibrated({"validation": evaluate(labels, sure, list("abcd"), split="validation")}, "validation")
    assert "cannot be told from 40 validation images" in str(found)
    labels[0] = 1  # one image is wrong by little, and all others are right
    assert 0.04 < temperature(labels, np.concatenate([[[0.26, 0.25, 0.25, 0.24]], sure[1:]])) < 21


def test_probabilities_at_a_temperature_are_those_of_divided_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (50, 6))
    np.testing.assert_allclose(at_temperature(softmax(logits), 1.7, False), softmax(logits / 1.7), atol=1e-6)
    sigmoid = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(at_temperature(sigmoid, 0.6, True), 1 / (1 + np.exp(-logits / 0.6)), atol=1e-6)
    certain = at_temperature(np.array([[1.0, 0.0]], "float32"), 2.0, False)
    assert certain.tolist() == [[1.0, 0.0]] and np.isfinite(at_temperature(np.eye(2), 2.0, True)).all()


def test_reliability_by_hand() -> None:
    found = reliability(np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]]))
    filled = found.images > 0
    assert found.images[filled].tolist() == [1, 3]
    np.testing.assert_allclose(found.confidence[filled], [0.8, 0.9])
    np.testing.assert_allclose(found.accuracy[filled], [1, 2 / 3])
    assert found.expected_error == pytest.approx((0.2 + 3 * (0.9 - 2 / 3)) / 4)
    assert np.isnan(found.accuracy[~filled]).all()


def test_the_best_threshold_of_each_class_has_the_best_f1() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < [0.5, 0.2, 0]).astype(int)
    probabilities = np.clip(0.25 * labels + 0.5 * rng.random((60, 3)), 0, 1)
    found = best_thresholds(labels, probabilities)
    assert found[2] == 0.5

    def f1(cut: float, c: int) -> float:
        said = probabilities[:, c] >= cut
        return 2 * (said & (labels[:, c] > 0)).sum() / (said.sum() + labels[:, c].sum())

    for c in (0, 1):
        assert f1(found[c], c) == pytest.approx(max(f1(cut, c) for cut in probabilities[:, c]))
    evaluation = evaluate(labels, probabilities, list("abc"), multi_label=True)
    np.testing.assert_allclose(evaluation.best_thresholds(), found, atol=1e-6)


def test_a_calibration_reads_the_same_from_a_file() -> None:
    made = Calibration(1.25, "validation", 50, {"validation": (0.1, 0.05), "test": (0.02, 0.03)}, {})
    assert str(made) == (
        "Calibrated by a temperature of 1.250, fitted on 50 validation images. "
        "The calibration error on validation images was 0.100 before and is 0.050 after. "
        "The calibration error on test images was 0.020 before and is 0.030 after; calibration did not lower it there."
    )
    assert calibration_text(json.loads(json.dumps(made.to_dict())), 1.25) == str(made)
    assert calibration_text(None, 1.25) == "Logits are divided by a temperature of 1.250."
    assert calibration_text(None, 1.0).startswith("Not calibrated")
