"""The metrics: `METRICS`, a table of functions of labels, probabilities and predictions.

scikit-learn's user guide ("Metrics and scoring") defines the metrics. A score that the images do not define, such as
the ROC AUC of a class without images, is NaN here and None in an `Evaluation`, never 0. Macro averages are over the
classes whose score is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from sklearn import metrics as sk

from .calibration import reliability
from .mistakes import in_top


def support(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the images of each class: (C,) int64."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=num_classes)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Count (C, C) int64 images, true class by predicted class; multi-label: (C, 2, 2), each [[tn, fp], [fn, tp]].

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=3).tolist()
    [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    """
    compute = sk.multilabel_confusion_matrix if labels.ndim == 2 else sk.confusion_matrix
    return np.asarray(compute(labels, predictions, labels=_columns(num_classes)))


def precision_recall_f1(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Return (3, C) float64: NaN for a class without images, 0 for one that has images but is never predicted."""
    scores = sk.precision_recall_fscore_support(labels, predictions, labels=_columns(num_classes), zero_division=0.0)
    return np.where(support(labels, num_classes) > 0, np.stack(scores[:3]), np.nan)


def roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the (C,) float64 ROC AUC of each class against the rest; NaN for a class with no images, or with all."""
    images = support(labels, probabilities.shape[1])
    return _one_vs_rest(sk.roc_auc_score, labels, probabilities, (images > 0) & (images < len(labels)))


def average_precision(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the (C,) float64 average precision of each class against the rest; NaN for a class without images."""
    images = support(labels, probabilities.shape[1])
    scores = _one_vs_rest(sk.average_precision_score, labels, probabilities, images > 0)
    return np.minimum(scores, 1.0)  # rounding can give 1.0000000000000002


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean cross-entropy in nats (multi-label: binary), probabilities clipped at the epsilon of float32."""
    if labels.ndim == 2:
        return float(sk.log_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]))
    rows = probabilities / probabilities.sum(axis=1, keepdims=True)  # scikit-learn warns unless they sum to 1
    return float(sk.log_loss(labels, rows, labels=range(probabilities.shape[1])))


def mcc(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return the Matthews correlation coefficient. With only one true class it is 0/0: NaN here, 0 in scikit-learn."""
    return float(sk.matthews_corrcoef(labels, predictions)) if len(np.unique(labels)) > 1 else np.nan


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class against the rest, 0..1.

    Args:
        precision, recall, f1, average_precision: None for a class without images.
        roc_auc: None for a class without images, or with all of them.
        support: the number of images of the class.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None
    support: int


def lowest_f1(per_class: Iterable[ClassScores], limit: int) -> tuple[ClassScores, ...]:
    """Return the classes with the lowest F1, lowest first; those without images last."""
    return tuple(sorted(per_class, key=lambda row: 2.0 if row.f1 is None else row.f1)[:limit])


@dataclass(frozen=True)
class Metric:
    """A row of `METRICS`.

    Args:
        direction: "max" if higher is better, otherwise "min".
        multi_label: True for multi-label only, False for single-label only, None for both.
        description: the metric in words.
        compute: (labels, probabilities, predictions) -> a number, or (C,) scores to average; NaN if undefined.
        min_classes, max_classes: the numbers of classes for which it is meaningful.
    """

    direction: Literal["max", "min"]
    multi_label: bool | None
    description: str
    compute: Callable[[np.ndarray, np.ndarray, np.ndarray], float | np.ndarray] = field(repr=False)
    min_classes: int = 1
    max_classes: int | None = None

    def applies(self, multi_label: bool, num_classes: int) -> bool:
        """Whether the metric can be computed for such a classifier."""
        enough = self.min_classes <= num_classes <= (self.max_classes or num_classes)
        return self.multi_label in (None, multi_label) and enough


# fmt: off
# y, p, z are labels, probabilities, predictions.
METRICS: dict[str, Metric] = {
    "accuracy": Metric("max", False, "images that are right", lambda y, p, z: sk.accuracy_score(y, z)),
    "exact_match": Metric("max", True, "images whose labels are all right", lambda y, p, z: sk.accuracy_score(y, z)),
    "label_accuracy": Metric("max", True, "right (image, label) decisions", lambda y, p, z: (y == z).mean()),
    "sensitivity": Metric("max", False, "images of the second of two classes that are right", lambda y, p, z: (
        precision_recall_f1(y, z, 2)[1][1]), 2, 2),
    "specificity": Metric("max", False, "images of the first of two classes that are right", lambda y, p, z: (
        precision_recall_f1(y, z, 2)[1][0]), 2, 2),
    "balanced_accuracy": Metric("max", False, "mean recall", lambda y, p, z: (
        precision_recall_f1(y, z, p.shape[1])[1])),
    "top_2_accuracy": Metric("max", False, "images whose class is among the 2 most probable", lambda y, p, z: (
        in_top(y, p, 2).mean()), 3),
    "top_3_accuracy": Metric("max", False, "images whose class is among the 3 most probable", lambda y, p, z: (
        in_top(y, p, 3).mean()), 4),
    "top_5_accuracy": Metric("max", False, "images whose class is among the 5 most probable", lambda y, p, z: (
        in_top(y, p, 5).mean()), 6),
    "log_loss": Metric("min", None, "mean cross-entropy in nats (multi-label: binary)", lambda y, p, z: log_loss(y, p)),
    "calibration_error": Metric("min", None, "mean gap between confidence and accuracy", lambda y, p, z: (
        reliability(y, p).expected_error)),
    "roc_auc": Metric("max", None, "mean ROC AUC, each class against the rest", lambda y, p, z: roc_auc(y, p)),
    "average_precision": Metric("max", None, "mean average precision", lambda y, p, z: average_precision(y, p)),
    "mcc": Metric("max", False, "Matthews correlation coefficient", lambda y, p, z: mcc(y, z)),
    "macro_f1": Metric("max", None, "mean F1", lambda y, p, z: precision_recall_f1(y, z, p.shape[1])[2]),
    "weighted_f1": Metric("max", False, "mean F1, weighted by the images of each class", lambda y, p, z: (
        sk.f1_score(y, z, average="weighted", zero_division=0.0))),
    "micro_f1": Metric("max", True, "F1 of all (image, label) decisions together", lambda y, p, z: (
        sk.f1_score(y.ravel(), z.ravel(), zero_division=np.nan))),
    "hamming_loss": Metric("min", True, "wrong (image, label) decisions", lambda y, p, z: (y != z).mean()),
}
# fmt: on


def baseline(labels: np.ndarray) -> float:
    """Return what answers that look at no image are worth: accuracy of one class, or average precision of labels.

    Args:
        labels: (N,) class indices: the most frequent class is always answered; (N, C) 0/1 when multi-label: labels are
            answered at random, and those without images do not count.

    >>> baseline(np.array([0, 1, 1, 1])), baseline(np.array([[1, 0, 0], [1, 1, 0]]))
    (0.75, 0.75)
    """
    if labels.ndim == 1:
        return float(np.bincount(labels).max() / len(labels))
    shares = labels.mean(axis=0)
    return float(shares[shares > 0].mean()) if shares.any() else 0.0


def accuracy_of(multi_label: bool) -> str:
    """Return the name of the share of images that are entirely right."""
    return "exact_match" if multi_label else "accuracy"


def defined(scores: float | np.ndarray) -> float | None:
    """Return the mean of the scores that are defined, or None if there are none.

    >>> defined(np.array([0.5, np.nan, 1.0])), defined(np.nan)
    (0.75, None)
    """
    known = [score for score in np.ravel(scores).tolist() if not np.isnan(score)]
    return float(np.mean(known)) if known else None


def _columns(num_classes: int) -> Sequence[int]:  # for scikit-learn, a single 0/1 column is two classes
    return [1] if num_classes == 1 else range(num_classes)


def _one_vs_rest(
    compute: Callable[..., float], labels: np.ndarray, probabilities: np.ndarray, known: np.ndarray
) -> np.ndarray:
    scores = np.full(known.shape, np.nan)
    for c in np.flatnonzero(known):
        scores[c] = compute(labels[:, c] if labels.ndim == 2 else labels == c, probabilities[:, c])
    return scores
