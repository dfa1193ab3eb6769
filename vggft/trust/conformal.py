"""Prediction sets with a promise: split conformal prediction, from the probabilities of held-out images.

Of all images to come that are like the held-out ones, a set holds the true class of at least the share asked for, on
average over all draws of both; whatever the classifier (Angelopoulos & Bates, arXiv:2107.07511).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..errors import ConfigError, DataError, counted, short_traceback
from ..extras import data_frame
from ..fields import is_number, is_word, shown

METHODS = ("lac", "aps")
Method = Literal["lac", "aps"]
MOST = 10_000  # held-out images that are kept


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What held-out images were told: by a network that had not learned from them.

    Attributes:
        split: `"validation"`, or `"cross-validation"` for the networks of several folds.
        labels: (n,) class indices.
        probabilities: (n, num_classes) float32.
    """

    split: str
    labels: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, split: str, labels: np.ndarray, probabilities: np.ndarray) -> HeldOut:
        """Keep at most `MOST` of some images."""
        rows = np.linspace(0, len(labels) - 1, min(len(labels), MOST)).astype(int)
        return cls(split, labels[rows].astype(np.int64), probabilities[rows].astype(np.float32))

    def at_temperature(self, temperature: float) -> HeldOut:
        """Return what the same network says with its logits divided by a temperature."""
        powers = np.maximum(self.probabilities.astype("float64"), 1e-30) ** (1 / temperature)
        return replace(self, probabilities=(powers / powers.sum(axis=1, keepdims=True)).astype("float32"))

    def quantile(self, coverage: float, method: Method = "lac") -> float:
        """Return the ceil((n + 1) coverage)-th score of the true classes of the n held-out images.

        Raises:
            ConfigError: impossible `coverage` or `method`.
            DataError: too few held-out images for this coverage.
        """
        if not (is_number(coverage) and 0 < coverage < 1):
            raise ConfigError(f"coverage must be a share in (0, 1), such as 0.9; got {shown(coverage)}.")
        if not is_word(method, METHODS):
            raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {shown(method)}.")
        scores, n = scores_of(self.probabilities, method), len(self.labels)
        rank = math.ceil((n + 1) * coverage - 1e-9)
        if rank > n:
            needed = math.ceil(coverage / (1 - coverage) - 1e-9)
            most = math.floor(100 * n / (n + 1)) / 100
            raise DataError(
                f"Prediction sets with a coverage of {coverage:g} need at least {needed} images that the classifier "
                f"has not learned from; it has kept {n} ({self.split}), which allow up to {most:g}. More images for "
                "validation, as by validation=0.3 (--validation 0.3), or a lower coverage, help."
            )
        return float(np.sort(scores[np.arange(n), self.labels])[rank - 1])


def scores_of(probabilities: np.ndarray, method: Method, own: float | np.ndarray = 0.5) -> np.ndarray:
    """Return how little each class conforms to (N, num_classes) probabilities: (N, num_classes) float64.

    `"lac"`: 1 - p, "least ambiguous" (Sadinle et al., arXiv:1609.00451); sets are the smallest on average. `"aps"`: the
    sum of all higher probabilities, and half of its own (Romano et al., arXiv:2006.02544, draw this share at random, so
    that a picture has other sets each time; a fixed share keeps the promise too). Difficult images have larger sets.

    Args:
        own: the share of the class's own probability, or (N, 1) of them.

    >>> scores_of(np.array([[0.6, 0.1, 0.3]]), "aps").round(2).tolist()
    [[0.3, 0.95, 0.75]]
    """
    p = probabilities.astype("float64")
    if method == "lac":
        return 1 - p
    order = np.argsort(-p, axis=1, kind="stable")
    ordered = np.take_along_axis(p, order, axis=1)
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.cumsum(ordered, axis=1) - (1 - own) * ordered, axis=1)
    return found


def sets_of(probabilities: np.ndarray, quantile: float, method: Method) -> np.ndarray:
    """Return which classes are in the set of each image, (N, num_classes) bool.

    The most probable class always is: an empty set would tell nobody anything, and a larger one covers no less. Only
    the set of an image that was not read, whose probabilities are NaN, is empty.
    """
    found: np.ndarray = scores_of(probabilities, method) <= quantile + 1e-12
    found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
    return found & np.isfinite(probabilities)


@short_traceback
@dataclass(frozen=True, eq=False)
class PredictionSets:
    """The classes that each of N images may have, with a promise; `str` describes them.

    Attributes:
        sets: (N, num_classes) bool.
        probabilities: (N, num_classes) float32, by which they were made.
        class_names: names of the columns.
        names: of the images: their files, or "images[3]".
        coverage: the share of sets that hold the true class, as promised, 0..1.
        method: `"lac"` or `"aps"`.

    >>> p = np.array([[0.7, 0.2, 0.1], [0.45, 0.15, 0.4]])
    >>> found = PredictionSets(sets_of(p, 0.65, "lac"), p, ("ant", "bee", "wasp"), ("a.jpg", "b.jpg"), 0.9, "lac")
    >>> found.labels, found.sizes.tolist()
    ([('ant',), ('ant', 'wasp')], [1, 2])
    """

    sets: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    names: Sequence[str]
    coverage: float
    method: str

    @classmethod
    def of(cls, predictions: Any, limit: float, coverage: float, method: Method) -> PredictionSets:
        """Make the sets of `Predictions`, of the classes whose scores are at most a limit."""
        sets = sets_of(predictions.probabilities, limit, method)
        names = predictions.class_names, predictions.names
        return cls(sets, predictions.probabilities, *names, coverage, method)

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def labels(self) -> list[tuple[str, ...]]:
        """The labels in the set of each image, the most probable first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        return [
            tuple(self.class_names[i] for i in columns if inside[i])
            for columns, inside in zip(order, self.sets, strict=True)
        ]

    @property
    def sizes(self) -> np.ndarray:
        """(N,) number of classes in each set."""
        return self.sets.sum(axis=1)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield image, labels and size of each set."""
        for name, labels in zip(self.names, self.labels, strict=True):
            yield {"image": name, "labels": labels, "size": len(labels)}

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each image: image, labels (joined by "|") and size.

        Raises:
            ConfigError: pandas is not installed.
        """
        rows = [row | {"labels": "|".join(row["labels"])} for row in self.rows()]
        return data_frame(rows, ("image", "labels", "size"), "rows()")

    def __str__(self) -> str:
        return (
            f"{counted(len(self), 'set')} with the true class for at least {self.coverage:.4g} of all images like the "
            f"held-out ones ({self.method.upper()}): {self.sizes.mean():.2f} of {len(self.class_names)} classes on "
            f"average, one class for {(self.sizes == 1).mean():.0%}."
        )


@short_traceback
@dataclass(frozen=True)
class Coverage:
    """How often sets held the true class, on labelled images; `str` is a table.

    Attributes:
        coverage: what was promised, 0..1.
        method: `"lac"` or `"aps"`.
        found: the share of images whose set held the true class, 0..1.
        size: mean number of classes in a set.
        by_class: class -> number of its images, share of them whose set held it, mean size of their sets.

    >>> inside = np.array([[True, False], [True, True], [True, False]])
    >>> coverage_of(np.array([0, 1, 1]), inside, ("ant", "bee"), 0.9, "lac").by_class
    {'ant': (1, 1.0, 1.0), 'bee': (2, 0.5, 1.5)}
    """

    coverage: float
    method: str
    found: float
    size: float
    by_class: dict[str, tuple[int, float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        rows = {name: dict(zip(("images", "found", "size"), row, strict=True)) for name, row in self.by_class.items()}
        return {"coverage": self.coverage, "method": self.method, "found": self.found, "size": self.size} | {
            "by_class": rows
        }

    def __str__(self) -> str:
        rows = [f"  {name}: {found:.1%} of {n}, {size:.2f} classes" for name, (n, found, size) in self.by_class.items()]
        told = (
            f"Promised {self.coverage:.4g} on average over all classes ({self.method.upper()}), found {self.found:.3f}"
        )
        return "\n".join([f"{told}, with {self.size:.2f} classes in a set. By class:", *rows])


def coverage_of(
    labels: np.ndarray, sets: np.ndarray, class_names: Sequence[str], coverage: float, method: str
) -> Coverage:
    """Count how often (N, num_classes) sets hold the (N,) true classes, over all images and by class."""
    right, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    by_class = {}
    for column, name in enumerate(class_names):
        if (own := labels == column).any():
            by_class[name] = (int(own.sum()), float(right[own].mean()), float(sizes[own].mean()))
    return Coverage(coverage, method, float(right.mean()), float(sizes.mean()), by_class)
