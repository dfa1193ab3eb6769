"""Operating points of two classes: from which probability on an image counts as positive, and what that gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from ..errors import ConfigError, DataError, counted
from ..fields import is_number, shown
from ..foreign import visible
from .bootstrap import share_interval


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and how it does on the images that it was chosen on; `str` describes it.

    Args:
        positive: the class that is looked for.
        threshold: an image counts as positive if its probability of that class is above it, 0..1.
        sensitivity, specificity: shares of the positive and of the other images that are right, 0..1.
        intervals: 95 % intervals of the two, by `bootstrap.share_interval`.
        images: numbers of positive and of other images.

    >>> print(OperatingPoint("ill", 0.2, 0.95, 0.8, ((0.9, 0.98), (0.7, 0.87)), (40, 60)))
    ill from a probability of 0.200 on: sensitivity 0.950 (95 % interval 0.900 to 0.980; 40 images), specificity 0.800 \
(0.700 to 0.870; 60 images)
    """

    positive: str
    threshold: float
    sensitivity: float
    specificity: float
    intervals: tuple[tuple[float, float], tuple[float, float]]
    images: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    def __str__(self) -> str:
        (a, b), (c, d) = self.intervals
        return (
            f"{visible(self.positive)} from a probability of {self.threshold:.3f} on: "
            f"sensitivity {self.sensitivity:.3f} "
            f"(95 % interval {a:.3f} to {b:.3f}; {counted(self.images[0], 'image')}), "
            f"specificity {self.specificity:.3f} ({c:.3f} to {d:.3f}; {counted(self.images[1], 'image')})"
        )


def position_of(positive: Any, class_names: tuple[str, ...]) -> int:
    """Return the column of the positive class; None is the second one, as in scikit-learn.

    Raises:
        ConfigError: there are not two classes, or none of this name.
    """
    if len(class_names) != 2:
        raise ConfigError(f"An operating point is for two classes; these are {len(class_names)}.")
    if positive is not None and not (isinstance(positive, str) and positive in class_names):
        raise ConfigError(f"positive must be {' or '.join(map(repr, class_names))}; got {shown(positive)}.")
    return 1 if positive is None else class_names.index(positive)


def operating_point(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    sensitivity: float,
    positive: Any = None,
) -> OperatingPoint:
    """Return the point with the highest specificity that reaches a sensitivity on these images.

    Args:
        labels: (N,) class indices.
        probabilities: (N, 2) in 0..1.
        class_names: of both classes.
        sensitivity: at least this share of the positive images is found, in (0, 1].
        positive: the name of the positive class; None is the second one.

    Raises:
        ConfigError: an argument has an impossible value.
        DataError: one of the classes has no images.
    """
    column = position_of(positive, class_names)
    if not is_number(sensitivity) or not 0 < sensitivity <= 1:
        raise ConfigError(f"sensitivity must be in (0, 1]; got {shown(sensitivity)}.")
    present, scores = labels == column, probabilities[:, column].astype(np.float64)
    counts = int(present.sum()), int((~present).sum())
    if not all(counts):
        raise DataError(f"An operating point needs images of both classes; got {counts[0]} of {class_names[column]} "
                        f"and {counts[1]} others.")  # fmt: skip
    _, found, cuts = roc_curve(present, scores, drop_intermediate=False)
    first = int(np.argmax(found >= sensitivity - 1e-12))  # the highest of the thresholds that reach it
    lower = scores[scores < cuts[first]]
    threshold = float((cuts[first] + lower.max()) / 2) if len(lower) else float(cuts[first] / 2)
    return at_threshold(labels, probabilities, class_names, threshold, class_names[column])


def at_threshold(
    labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...], threshold: float, positive: Any = None
) -> OperatingPoint:
    """Return what a threshold gives; arguments as for `operating_point`."""
    column = position_of(positive, class_names)
    present, called = labels == column, probabilities[:, column] > threshold
    counts = int(present.sum()), int((~present).sum())
    right = (called & present).sum() / counts[0], (~called & ~present).sum() / counts[1]
    ends = tuple(share_interval(float(share), count, 0.95) for share, count in zip(right, counts, strict=True))
    return OperatingPoint(class_names[column], threshold, float(right[0]), float(right[1]), (ends[0], ends[1]), counts)
