"""Two classifiers on the same images: who is right where the other is wrong, and whether that could be chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ..display import number, table
from ..errors import ConfigError, DataError
from . import bootstrap
from .evaluation import Evaluation


@dataclass(frozen=True)
class Difference:
    """One metric of both classifiers, and the interval of the second minus the first; None where it is not defined."""

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """Made by `compare`; `str` puts it in words.

    Args:
        first, second: what the classifiers are called.
        split: of the images.
        images: how many.
        level: 0..1, of the intervals.
        metrics: the difference in each.
        both_right, only_first, only_second, neither: images that are all right by so many.
        p_value: of McNemar's exact test: how likely at least such an imbalance between `only_first` and `only_second`
            is if neither is better.
    """

    first: str
    second: str
    split: str
    images: int
    level: float
    metrics: dict[str, Difference]
    both_right: int
    only_first: int
    only_second: int
    neither: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def __str__(self) -> str:
        ends = f"{self.level:.0%} from".replace("%", " %")
        rows = [
            [
                name,
                *map(number, (each.first, each.second)),
                *(_signed(v) for v in (each.difference, each.low, each.high)),
            ]
            for name, each in self.metrics.items()
        ]
        better = self.second if self.only_second > self.only_first else self.first
        verdict = (
            f"{better} is right more often, and chance alone would hardly do that"
            if self.p_value < 1 - self.level
            else "that may well be chance"
        )
        return "\n\n".join(
            [
                f"{self.first} and {self.second} on the same {self.images} {self.split} images",
                table([["metric", "first", "second", "difference", ends, "to"], *rows]),
                f"Only {self.first} is right: {self.only_first}; only {self.second}: {self.only_second}; "
                f"both: {self.both_right}; neither: {self.neither}.\n"
                f"McNemar's exact test: p = {self.p_value:.3g}: {verdict}.",
            ]
        )


def compare(
    first: Any,
    second: Any,
    dataset: Any = None,
    *,
    names: tuple[str, str] = ("first", "second"),
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two classifiers on the same images, by McNemar's test and the paired bootstrap.

    Args:
        first, second: a `Classifier` or an `Evaluation` each.
        dataset: what classifiers are evaluated on; None takes the evaluations that they carry.
        names: what they are called.
        level: 0..1, of the intervals.
        resamples: how often the images are drawn anew; None suits their number.
        seed: of the draws.

    Raises:
        ConfigError: no evaluations, or of different classes.
        DataError: they are not of the same images.

    >>> from vggft.evaluate import evaluate
    >>> a = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
    >>> b = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], ["cat", "dog"])
    >>> compare(a, b).only_second
    1
    """
    a, b = (_evaluation(each, dataset, name) for each, name in zip((first, second), names, strict=True))
    _check_same(a, b)
    resamples = resamples or bootstrap.resamples_for(*a.probabilities.shape)
    known = [name for name in a.metrics if a.metrics[name] is not None and b.metrics[name] is not None]
    drawn = [bootstrap.resampled(known, e.labels, e.probabilities, e.predictions, resamples, seed) for e in (a, b)]
    metrics = {name: Difference(a.metrics[name], b.metrics[name], None, None, None) for name in a.metrics}
    for name in known:
        difference = (b.metrics[name] or 0.0) - (a.metrics[name] or 0.0)
        low, high = bootstrap.interval(difference, drawn[1][name] - drawn[0][name], level) or (None, None)
        metrics[name] = Difference(a.metrics[name], b.metrics[name], difference, low, high)
    right = [(e.labels == e.predictions).reshape(len(e.labels), -1).all(axis=1) for e in (a, b)]
    only = [int((right[i] & ~right[1 - i]).sum()) for i in (0, 1)]
    p_value = float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
    both, neither = int((right[0] & right[1]).sum()), int((~right[0] & ~right[1]).sum())
    return Comparison(
        names[0], names[1], a.split, len(a.labels), level, metrics, both, only[0], only[1], neither, p_value
    )


def _evaluation(given: Any, dataset: Any, name: str) -> Evaluation:
    if dataset is not None:
        if not hasattr(given, "evaluate"):
            raise ConfigError(f"{name}: with a dataset, expected a Classifier; received {type(given).__name__}")
        given = given.evaluate(dataset)
    found = given if isinstance(given, Evaluation) else getattr(given, "evaluation", None)
    if not isinstance(found, Evaluation):
        raise ConfigError(f"{name}: expected a Classifier with an evaluation, or an Evaluation; received {given!r}")
    return found


def _check_same(a: Evaluation, b: Evaluation) -> None:
    if (a.class_names, a.multi_label) != (b.class_names, b.multi_label):
        raise ConfigError(
            f"The classifiers do not tell the same classes apart: {', '.join(a.class_names)} against "
            f"{', '.join(b.class_names)}."
        )
    same = a.labels.shape == b.labels.shape and np.array_equal(a.labels, b.labels)
    if not same or (a.names and b.names and a.names != b.names):
        raise DataError(
            f"The evaluations are not of the same images in the same order ({len(a.labels)} {a.split} against "
            f"{len(b.labels)} {b.split}). This usually occurs when runs split the data by different seeds: give a "
            "dataset that both are to be judged on."
        )


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
