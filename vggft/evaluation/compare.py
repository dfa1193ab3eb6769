"""Compare two classifiers on the same images, and say whether the difference could be due to chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ..display import score, table
from ..errors import ConfigError, DataError
from . import bootstrap
from .evaluation import Evaluation
from .mistakes import correct


@dataclass(frozen=True)
class Difference:
    """A metric of both classifiers, and the second minus the first with its interval; None if undefined."""

    first: float | None
    second: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`; `str` describes it.

    Args:
        first, second: the names of the classifiers.
        split: the split of the images.
        images: the number of images.
        level: 0..1, the confidence level of the intervals.
        metrics: metric -> its difference.
        both_right, only_first, only_second, neither: the number of images that both, one or none of the classifiers
            predicted entirely correctly.
        p_value: p-value of McNemar's exact test: the probability of an imbalance between `only_first` and
            `only_second` at least as large as this one if neither classifier is better.
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
        """Return JSON-ready values."""
        return asdict(self)

    def __str__(self) -> str:
        head = ["metric", "first", "second", "difference", f"{100 * self.level:.0f} % from", "to"]
        rows = [
            [name, score(m.first), score(m.second), *(score(value, "+") for value in (m.difference, m.low, m.high))]
            for name, m in self.metrics.items()
        ]
        better = self.second if self.only_second > self.only_first else self.first
        verdict = f"{better} is right more often, and chance alone is an unlikely cause"
        if self.p_value >= 1 - self.level:
            verdict = "the difference may well be chance"
        return (
            f"{self.first} and {self.second} on the same {self.images} {self.split} images\n\n"
            f"{table([head, *rows])}\n\n"
            f"Only {self.first} is right: {self.only_first}; only {self.second}: {self.only_second}; "
            f"both: {self.both_right}; neither: {self.neither}.\n"
            f"McNemar's exact test: p = {self.p_value:.3g}: {verdict}."
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
        first, second: each a `Classifier` or an `Evaluation`.
        dataset: images to evaluate both classifiers on; None compares the evaluations that they were saved with.
        names: the names of the classifiers in the result.
        level: 0..1, the confidence level of the intervals.
        resamples: the number of draws; by default 1000, or fewer if there are very many images and classes.
        seed: seed of the draws.

    Raises:
        ConfigError: there is nothing to compare, or the classes differ.
        DataError: the evaluations are of different images.

    >>> from vggft.evaluation.checks import evaluate
    >>> a = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
    >>> b = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], ["cat", "dog"])
    >>> compare(a, b).only_second
    1
    """
    a, b = (_evaluation(each, dataset, name) for each, name in zip((first, second), names, strict=True))
    _check_same(a, b)
    known = [name for name in a if a[name] is not None and b[name] is not None]
    drawn = [bootstrap.resampled(known, e.labels, e.probabilities, e.predictions, resamples, seed) for e in (a, b)]
    metrics = {name: Difference(a[name], b[name]) for name in a}
    for name in known:
        difference = (b[name] or 0.0) - (a[name] or 0.0)
        low, high = bootstrap.interval(difference, drawn[1][name] - drawn[0][name], level) or (None, None)
        metrics[name] = Difference(a[name], b[name], difference, low, high)
    right_a, right_b = (correct(e.labels, e.predictions) for e in (a, b))
    neither, only_b, only_a, both = np.bincount(2 * right_a + right_b, minlength=4).tolist()
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Comparison(*names, a.split, len(a.labels), level, metrics, both, only_a, only_b, neither, p_value)


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
            f"The classifiers have different classes: {', '.join(a.class_names)} against {', '.join(b.class_names)}."
        )
    same = a.labels.shape == b.labels.shape and np.array_equal(a.labels, b.labels)
    if not same or (a.names and b.names and a.names != b.names):
        raise DataError(
            f"The evaluations are not of the same images in the same order ({len(a.labels)} {a.split} against "
            f"{len(b.labels)} {b.split}). Usually the runs split the data by different seeds: give a "
            "dataset to evaluate both classifiers on."
        )
