"""Calibration: how well probabilities match observed frequencies, and how to correct them.

Reliability, temperature scaling and decision thresholds as functions of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.metrics import precision_recall_curve

BINS = 15  # as in arXiv:1706.04599
MOST_LOG = 3.0  # of the logarithm of a temperature: 0.05 to 20


def decisions(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each decision, and whether the decision is correct.

    Returns:
        (N,) probability of the most probable class and (N,) bool, whether it is the true class. Multi-label: (N, C)
        probability of every label and (N, C) bool, whether the image has it.
    """
    if labels.ndim == 2:
        return probabilities, labels > 0
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin index of each probability, for `BINS` bins of equal width that are closed on the right."""
    return np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions grouped by confidence. If probabilities are calibrated, `accuracy` equals `confidence` in every bin.

    Args:
        images: (15,) number of predictions in each bin, from 0..1/15 to 14/15..1.
        confidence: (15,) their mean probability; NaN in an empty bin.
        accuracy: (15,) share of them that is correct; multi-label: share of images that have the label.
    """

    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """The expected calibration error, 0..1: the mean gap between confidence and accuracy over all predictions."""
        gaps = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float((gaps * self.images).sum() / self.images.sum())


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """Compute accuracy by confidence (arXiv:1706.04599, section 2).

    >>> reliability(np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]])).expected_error
    0.4
    """
    confidence, right = map(np.ravel, decisions(labels, probabilities))
    bins = bin_of(confidence)
    images = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, right))
        return Reliability(images, *(total / images for total in sums))


def error_if_calibrated(labels: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """Return the calibration error, 0..1, that chance alone exceeds with probability 1 - `level`.

    Outcomes are drawn at the predicted probabilities (consistency resampling; Broecker and Smith, 2007).
    """
    rng, confidence = np.random.default_rng(0), np.ravel(decisions(labels, probabilities)[0]).astype(np.float64)
    bins = bin_of(confidence)
    errors = [
        np.abs(np.bincount(bins, (rng.random(len(bins)) < confidence) - confidence)).sum() / len(bins)
        for _ in range(200)
    ]
    return float(np.quantile(errors, level))


def temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Fit the temperature, > 0, by which dividing the logits minimises the log loss (arXiv:1706.04599, section 4.2).

    Above 1, the classifier was overconfident. The most probable class of an image does not change. With several labels
    per image, each label is a binary prediction. The temperature is 1 if these images cannot tell it: all labels are
    the same, or no prediction is wrong, so that the log loss has no minimum but would make every answer certain.

    Args:
        labels: (N,) class indices; (N, C) 0/1 when multi-label.
        probabilities: (N, C) in 0..1, of images that the classifier did not learn from.

    >>> round(temperature(np.array([0, 0, 0, 1]), np.array([[0.9, 0.1]] * 4)), 3)  # 90 % confident, 75 % correct
    2.0
    """
    wrong = (probabilities >= 0.5) != (labels > 0) if labels.ndim == 2 else probabilities.argmax(axis=1) != labels
    if len(np.unique(labels)) < 2 or not wrong.any():
        return 1.0
    p = probabilities.astype(np.float64)
    if labels.ndim == 2:
        present = logit(p.ravel().clip(1e-12, 1 - 1e-7))
        labels, logits = labels.ravel(), np.stack([np.zeros_like(present), present], axis=1)
    else:
        logits = np.log(p.clip(1e-12, 1))

    def log_loss(log_temperature: float) -> float:
        log_p = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(log_p[np.arange(len(labels)), labels].mean())

    # The tolerance of scikit-learn's temperature scaling; its bounds are 10, which few images can reach.
    found = minimize_scalar(log_loss, bounds=(-MOST_LOG, MOST_LOG), options={"xatol": 64 * np.finfo(np.float64).eps})
    return float(np.exp(found.x))


def at_temperature(probabilities: np.ndarray, value: float, multi_label: bool) -> np.ndarray:
    """Return the (N, C) float32 probabilities after dividing all logits by a temperature.

    >>> at_temperature(np.array([[0.9, 0.1]]), 2.0, multi_label=False).tolist()
    [[0.75, 0.25]]
    """
    p = probabilities.astype(np.float64)
    if multi_label:
        return expit(logit(p) / value).astype(np.float32)
    with np.errstate(divide="ignore"):
        return softmax(np.log(p) / value, axis=1).astype(np.float32)


def best_thresholds(labels: np.ndarray, probabilities: np.ndarray, least: int = 1) -> np.ndarray:
    """Return the (C,) float64 threshold of each class that gives the highest F1.

    It lies halfway between the lowest probability that counts as the class and the next lower one. It is 0.5 for a
    class with fewer than `least` images.

    Args:
        labels: (N, C) 0/1, or (N,) class indices.
        probabilities: (N, C) in 0..1.
        least: number of images of a class, >= 1, from which its threshold is fitted.

    >>> best_thresholds(np.array([[1], [1], [0]]), np.array([[0.75], [0.5], [0.25]])).tolist()
    [0.375]
    """
    present = labels if labels.ndim == 2 else np.eye(probabilities.shape[1], dtype=np.int8)[labels]
    thresholds = np.full(probabilities.shape[1], 0.5)
    for c in np.flatnonzero(present.sum(axis=0) >= least):
        precision, recall, cuts = precision_recall_curve(present[:, c], probabilities[:, c])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(len(cuts) - 1 - f1[:-1][::-1].argmax())  # the highest of equally good thresholds
        thresholds[c] = cuts[best] if best == 0 else (cuts[best - 1] + cuts[best]) / 2
    return thresholds


@dataclass(frozen=True)
class Calibration:
    """The result of temperature scaling; `str` describes it.

    Args:
        temperature: divisor of the logits; above 1, the classifier was overconfident.
        split: the split that it was fitted on.
        images: the number of images in that split.
        calibration_error: split -> (before, after), 0..1.
        log_loss: split -> (before, after), in nats.

    >>> print(Calibration(1.5, "validation", 80, {"test": (0.09, 0.04)}, {"test": (0.5, 0.4)}))
    Calibrated by a temperature of 1.500, fitted on 80 validation images. The calibration error on test images was \
0.090 before and is 0.040 after.
    """

    temperature: float
    split: str
    images: int
    calibration_error: dict[str, tuple[float, float]]
    log_loss: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    def __str__(self) -> str:
        if self.temperature == 1:
            return (
                f"Not calibrated: the temperature cannot be told from {self.images} {self.split} images of which none "
                "is predicted wrongly, or all are of one class."
            )
        told = f"Calibrated by a temperature of {self.temperature:.3f}, fitted on {self.images} {self.split} images."
        for split, (before, after) in self.calibration_error.items():
            worse = "" if after < before else "; calibration did not lower it there"
            told += f" The calibration error on {split} images was {before:.3f} before and is {after:.3f} after{worse}."
        return told


def calibration_text(saved: Mapping[str, Any] | None, temperature: float) -> str:
    """Describe how a saved classifier was calibrated.

    Args:
        saved: `Calibration.to_dict`, possibly after a round trip through JSON; None if there is none.
        temperature: divisor of the classifier's logits.

    >>> calibration_text(None, 1.0)
    'Not calibrated; Classifier.calibrate fits a temperature.'
    """
    if saved is not None:
        return str(Calibration(**saved))
    if temperature != 1:
        return f"Logits are divided by a temperature of {temperature:.3f}."
    return "Not calibrated; Classifier.calibrate fits a temperature."
