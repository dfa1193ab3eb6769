"""Where a classifier was wrong, image by image: losses, and those that surprised it most. Arrays in, no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Mistake:
    """An image whose label surprised a classifier; not always wrong, but the worst are.

    Args:
        row: of the evaluation.
        name: what the image is called, its file as a rule; "image 3" where nothing is known of it.
        true: its classes; several, or none, only when multi-label.
        predicted: what was predicted.
        probability: of its class; multi-label: of the decision that was worst.
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
        """Whether the prediction is not all right."""
        return self.true != self.predicted

    def __str__(self) -> str:
        said = "right" if not self.wrong else f"predicted {'|'.join(self.predicted) or 'nothing'}"
        return f"{self.name}: {'|'.join(self.true) or 'nothing'} ({self.probability:.1%}), {said}"


def given_to_truth(labels: Array, probabilities: Array) -> Array:
    """(N,) or, when multi-label, (N, C): the probability of what is true, clipped as by scikit-learn."""
    p = probabilities.astype(np.float64)
    single = labels.ndim == 1
    truth = p[np.arange(len(p)), labels] / p.sum(axis=1) if single else np.where(labels > 0, p, 1 - p)
    return np.asarray(truth.clip(np.finfo(np.float32).eps, 1))


def losses(labels: Array, probabilities: Array) -> Array:
    """(N,) float64 cross-entropy of each image in nats; multi-label: the mean of its binary ones."""
    found = -np.log(given_to_truth(labels, probabilities))
    return found if found.ndim == 1 else np.asarray(found.mean(axis=1))


def surprises(
    labels: Array,
    probabilities: Array,
    predictions: Array,
    class_names: tuple[str, ...],
    names: tuple[str, ...],
    limit: int,
) -> list[Mistake]:
    """The images with the highest losses, highest first.

    Args:
        labels: (N,) class indices; (N, C) 0/1 when multi-label.
        probabilities: (N, C), 0..1.
        predictions: as labels.
        names: N, or none.
    """
    loss, truth = losses(labels, probabilities), given_to_truth(labels, probabilities)

    def named(row: Array) -> tuple[str, ...]:
        return (class_names[int(row)],) if row.ndim == 0 else tuple(class_names[c] for c in np.flatnonzero(row))

    return [
        Mistake(
            row=int(row),
            name=names[row] if names else f"image {row}",
            true=named(labels[row]),
            predicted=named(predictions[row]),
            probability=float(truth[row].min()),
            loss=float(loss[row]),
        )
        for row in np.argsort(-loss, kind="stable")[:limit]
    ]
