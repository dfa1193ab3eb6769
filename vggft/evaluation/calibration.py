"""Whether probabilities mean what they say, and what makes them: reliability, temperature, thresholds. Arrays in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import precision_recall_curve

if TYPE_CHECKING:
    from .evaluation import Evaluation

Array = NDArray[Any]
BINS = 15  # as in arXiv:1706.04599


def decisions(labels: Array, probabilities: Array) -> tuple[Array, Array]:
    """What is put to the test: how sure each prediction was, 0..1, and whether it was right.

    Returns:
        (N,) probability of the likeliest class and (N,) bool; multi-label: (N, C) of every label, and whether it is
        there.
    """
    if labels.ndim == 2:
        return probabilities, labels > 0
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def bin_of(confidence: Array) -> Array:
    """The number of the bin, of `BINS` equally wide ones, that each probability falls in; 0.2 is the end of a bin."""
    return np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions by how sure they were. Where probabilities can be trusted, `accuracy` is `confidence` in every bin.

    Args:
        images: (15,) predictions in each bin from 0..1/15 to 14/15..1.
        confidence: (15,) their mean probability; NaN where there are none.
        accuracy: (15,) how many were right; multi-label: how often the label is there.
    """

    images: Array
    confidence: Array
    accuracy: Array

    @property
    def expected_error(self) -> float:
        """The expected calibration error, 0..1: the mean gap between the two, weighted by predictions."""
        gaps = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float((gaps * self.images).sum() / self.images.sum())


def reliability(labels: Array, probabilities: Array) -> Reliability:
    """How accuracy goes with confidence; arXiv:1706.04599, section 2."""
    confidence, right = (np.ravel(each) for each in decisions(labels, probabilities))
    bins = bin_of(confidence)
    images = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, right))
        return Reliability(images, *(total / images for total in sums))


def error_if_calibrated(labels: Array, probabilities: Array, level: float, seed: int = 0) -> float:
    """The calibration error, 0..1, that as many predictions show by chance, with probability `level` at most, even if
    every probability is true (consistency resampling, Broecker and Smith 2007)."""
    rng, (confidence, _) = np.random.default_rng(seed), decisions(labels, probabilities)
    confidence = np.ravel(confidence).astype(np.float64)
    bins = bin_of(confidence)
    found = [
        np.abs(np.bincount(bins, (rng.random(len(bins)) < confidence) - confidence)).sum() / len(bins)
        for _ in range(200)
    ]
    return float(np.quantile(found, level))


@dataclass(frozen=True)
class Calibration:
    """What temperature scaling did; `str` puts it in words.

    Args:
        temperature: what the logits are divided by; above 1 the classifier was too sure.
        split: what it was fitted on.
        images: how many those were.
        calibration_error: split -> (before, after).
        log_loss: split -> (before, after), in nats.
    """

    temperature: float
    split: str
    images: int
    calibration_error: dict[str, tuple[float, float]]
    log_loss: dict[str, tuple[float, float]]

    @classmethod
    def of(
        cls, value: float, split: str, before: Mapping[str, Evaluation], after: Mapping[str, Evaluation]
    ) -> Calibration:
        """From evaluations by their splits."""

        def both(metric: str) -> dict[str, tuple[float, float]]:
            return {name: (before[name][metric] or 0.0, after[name][metric] or 0.0) for name in before}

        images = len(before[split].labels) if split in before else 0
        return cls(value, split, images, both("calibration_error"), both("log_loss"))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def __str__(self) -> str:
        told = [f"Temperature {self.temperature:.3f}, from {self.images} {self.split} images."]
        for name, (before, after) in self.calibration_error.items():
            could = "" if after < before else "; it could not be lowered there"
            told.append(f"Calibration error on {name} images: {before:.3f} before, {after:.3f} after{could}.")
        return " ".join(told)


class _Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """To scikit-learn a classifier whose logits are its inputs, so that it calibrates what was predicted already."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.classes_ = np.arange(num_classes)

    def fit(self, logits: Array, labels: Array) -> _Given:
        return self

    def decision_function(self, logits: Array) -> Array:
        return logits

    def predict(self, logits: Array) -> Array:
        return logits.argmax(axis=1) if logits.ndim == 2 else (logits > 0).astype(np.int64)


def temperature(labels: Array, probabilities: Array) -> float:
    """What logits are to be divided by for the lowest log loss, by scikit-learn's temperature scaling; > 0.

    Above 1 the classifier was too sure. One number cannot change which class is the likeliest. Multi-label: every
    decision counts as a prediction of two classes.

    Args:
        labels: (N,) class indices; (N, C) 0/1 when multi-label.
        probabilities: (N, C), 0..1, of images that the classifier did not learn from.
    """
    p = probabilities.astype(np.float64).clip(1e-12, 1)
    if labels.ndim == 2:
        labels, p = labels.ravel(), p.ravel().clip(1e-12, 1 - 1e-7)
        logits = np.stack([np.log1p(-p), np.log(p)], axis=1)
    else:
        logits = np.log(p)
    logits = logits - logits.mean(axis=1, keepdims=True)
    if len(np.unique(labels)) < 2:  # nothing tells how sure is too sure
        return 1.0
    # Two images of every class, which the folds of scikit-learn want; logits of 0 are at any temperature as likely.
    classes = logits.shape[1]
    labels = np.concatenate([labels, np.repeat(np.arange(classes), 2)])
    logits = np.concatenate([logits, np.zeros((2 * classes, classes))])
    given = logits[:, 1] if classes == 2 else logits  # two are one column to scikit-learn, taken for (-x, x)
    estimator = CalibratedClassifierCV(FrozenEstimator(_Given(classes)), method="temperature", cv=2).fit(given, labels)
    return float(1 / estimator.calibrated_classifiers_[0].calibrators[0].beta_)


def at_temperature(probabilities: Array, value: float, multi_label: bool) -> Array:
    """Probabilities as they would be with all logits divided by a temperature, float32 as before."""
    with np.errstate(divide="ignore"):
        log_p = np.log(probabilities.astype(np.float64)) / value
        rest = np.log1p(-probabilities.astype(np.float64)) / value if multi_label else None
    if rest is not None:
        return np.asarray(np.exp(log_p - np.logaddexp(log_p, rest)), "float32")
    scaled = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), "float32")


def best_thresholds(labels: Array, probabilities: Array) -> Array:
    """(C,) for each class against the rest the probability from which predicting it gives the highest F1.

    The middle between that image's probability and the next lower one; 0.5 where a class has no images.

    Args:
        labels: (N, C) 0/1, or (N,) class indices.
    """
    there = labels if labels.ndim == 2 else np.eye(probabilities.shape[1], dtype=np.int8)[labels]
    found = np.full(probabilities.shape[1], 0.5)
    for c in np.flatnonzero(there.any(axis=0)):
        precision, recall, cuts = precision_recall_curve(there[:, c], probabilities[:, c])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(len(cuts) - 1 - f1[:-1][::-1].argmax())  # of equal ones the highest
        found[c] = cuts[best] if best == 0 else (cuts[best - 1] + cuts[best]) / 2
    return found
