"""Which images a classifier got right and wrong: losses of all images, top losses, the most confused classes.

Arrays have the same names throughout this package: `labels` are (N,) class indices, or (N, C) 0/1 when multi-label;
`probabilities` are (N, C) in 0..1; `predictions` have the form of `labels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..foreign import visible


@dataclass(frozen=True)
class Mistake:
    """An image with a high loss; it may still be predicted correctly.

    Args:
        row: row of the image in the evaluation.
        name: name of the image, usually its file; "image 3" if the evaluation has no names.
        true: the true classes; several or none only when multi-label.
        predicted: the predicted classes.
        probability: probability of the true class, 0..1; multi-label: of the worst decision.
        loss: cross-entropy in nats; multi-label: the mean over classes.
    """

    row: int
    name: str
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    probability: float
    loss: float

    @property
    def wrong(self) -> bool:
        """Whether any part of the prediction is wrong."""
        return self.true != self.predicted

    def __str__(self) -> str:
        verdict = f"predicted {'|'.join(self.predicted) or 'nothing'}" if self.wrong else "right"
        return visible(f"{self.name}: {'|'.join(self.true) or 'nothing'} ({self.probability:.1%}), {verdict}")


def image_name(names: Sequence[str], row: int | np.integer) -> str:
    """Return the name of an image, or its row number if there are no names."""
    return names[int(row)] if names else f"image {row}"


def correct(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return (N,) bool: whether all labels of an image are predicted correctly."""
    return (labels == predictions).reshape(len(labels), -1).all(axis=1)


def in_top(labels: np.ndarray, probabilities: np.ndarray, k: int) -> np.ndarray:
    """Return (N,) bool: whether the class is among the k most probable; of equal classes, the first counts as more so.

    scikit-learn prefers the last of equal classes, so its top-2 accuracy can be lower than accuracy.

    >>> in_top(np.array([1, 2]), np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), k=2).tolist()
    [True, False]
    """
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return (top == labels[:, None]).any(axis=1)


def true_probabilities(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the (N,) float64 probability of the true class; multi-label: (N, C) of each correct decision.

    Clipped at the epsilon of float32, as in `sklearn.metrics.log_loss`.
    """
    p = probabilities.astype(np.float64)
    true = p[np.arange(len(p)), labels] / p.sum(axis=1) if labels.ndim == 1 else np.where(labels > 0, p, 1 - p)
    return true.clip(np.finfo(np.float32).eps, 1)


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the (N,) float64 cross-entropy of each image in nats; multi-label: the mean of its binary ones.

    >>> losses(np.array([0, 1]), np.array([[0.5, 0.5], [0.9, 0.1]])).round(3).tolist()
    [0.693, 2.303]
    """
    return -np.log(true_probabilities(labels, probabilities)).reshape(len(labels), -1).mean(axis=1)


def top_losses(
    labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray,
    class_names: Sequence[str], names: Sequence[str], limit: int,
) -> list[Mistake]:  # fmt: skip
    """Return the images with the highest losses, highest first.

    Args:
        names: (N,) names of the images, or empty.
        limit: maximum number of images.
    """
    loss, true = losses(labels, probabilities), true_probabilities(labels, probabilities)

    def classes(row: np.ndarray) -> tuple[str, ...]:
        return tuple(class_names[int(c)] for c in (np.flatnonzero(row) if row.ndim else [row]))

    return [
        Mistake(
            int(row), image_name(names, row), classes(labels[row]), classes(predictions[row]),
            probability=float(true[row].min()), loss=float(loss[row]),
        )
        for row in np.argsort(-loss, kind="stable")[:limit]
    ]  # fmt: skip


def most_confused(confusion_matrix: np.ndarray, class_names: Sequence[str], limit: int) -> list[tuple[str, str, int]]:
    """Return (true class, predicted class, images) of the most frequent errors, most frequent first.

    Args:
        confusion_matrix: (C, C) int, true class by predicted class.
        limit: maximum number of pairs.

    >>> most_confused(np.array([[5, 2], [1, 9]]), ["cat", "dog"], limit=5)
    [('cat', 'dog', 2), ('dog', 'cat', 1)]
    """
    errors = confusion_matrix - np.diag(confusion_matrix.diagonal())
    pairs = zip(*np.unravel_index(np.argsort(-errors, axis=None, kind="stable")[:limit], errors.shape), strict=True)
    return [(class_names[a], class_names[b], int(errors[a, b])) for a, b in pairs if errors[a, b]]
