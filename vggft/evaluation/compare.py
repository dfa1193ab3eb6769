"""Compare two classifiers on the same images, and say whether the difference could be due to chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ..errors import ConfigError, DataError, short_traceback
from ..extras import data_frame
from ..foreign import visible
from ..telling.display import render, score, table
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


@short_traceback
@dataclass(frozen=True)
class Comparison:
    """The result of `compare`; `str` describes it.

    Args:
        first, second: the names of the classifiers.
        split: the split of the images.
        images: the number of images.
        level: the confidence level of the intervals, in (0, 1).
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
        return f"{self.title}\n\n{table([head, *rows])}\n\n{self.verdict}"

    def _repr_html_(self) -> str:
        return render("comparison.html", comparison=self)

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each metric: both values, their difference and its interval.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame([{"metric": name, **asdict(m)} for name, m in self.metrics.items()], None, "to_dict")

    @property
    def title(self) -> str:
        """What is compared on what."""
        return f"{self.first} and {self.second} on {self.judges}"

    @property
    def judges(self) -> str:
        """The images, in words."""
        return f"the same {self.images} {'images' if self.split == 'all' else f'{self.split} images'}"

    @property
    def verdict(self) -> str:
        """Which images each has right, and whether the difference may be chance, in two lines."""
        better = self.second if self.only_second > self.only_first else self.first
        verdict = f"{better} is right more often, and chance alone is an unlikely cause"
        if self.p_value >= 1 - self.level:
            verdict = "the difference may well be chance"
        return (
            f"Only {self.first} is right: {self.only_first}; only {self.second}: {self.only_second}; "
            f"both: {self.both_right}; neither: {self.neither}.\n"
            f"McNemar's exact test: p = {self.p_value:.3g}: {verdict}."
        )


@short_traceback
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
        level: the confidence level of the intervals, in (0, 1).
        resamples: the number of draws; by default 1000, or fewer if there are very many images and classes.
        seed: seed of the draws.

    Raises:
        ConfigError: there is nothing to compare, the classes differ, or `level` is not in (0, 1).
        DataError: the evaluations are of different images.

    >>> from vggft.evaluation.checks import evaluate
    >>> a = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
    >>> b = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], ["cat", "dog"])
    >>> compare(a, b).only_second
    1
    """
    bootstrap.check_level(level)
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


@dataclass(frozen=True)
class Comparisons:
    """The result of `compare_all`; `str` describes it.

    Args:
        pairs: the first classifier with each of the others.
        adjusted: the p-value of each, by Holm's method, which holds the level over all of them together.
    """

    pairs: tuple[Comparison, ...]
    adjusted: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; those of the one comparison, if there is only one."""
        if len(self.pairs) == 1:
            return self.pairs[0].to_dict()
        return {"comparisons": [pair.to_dict() for pair in self.pairs], "adjusted_p_values": list(self.adjusted)}

    def __str__(self) -> str:
        if len(self.pairs) == 1:
            return str(self.pairs[0])
        first, names = self.pairs[0], [self.pairs[0].first, *(pair.second for pair in self.pairs)]
        values = [[m.first, *(pair.metrics[name].second for pair in self.pairs)] for name, m in first.metrics.items()]
        rows = [[name, *map(score, row)] for name, row in zip(first.metrics, values, strict=True)]
        told = [
            f"{pair.second} against {first.first}: only {pair.second} is right {pair.only_second} times, only "
            f"{first.first} {pair.only_first} times; McNemar's exact test, adjusted for {len(self.pairs)} comparisons: "
            f"p = {p:.3g}{', which may well be chance' * (p >= 1 - pair.level)}."
            for pair, p in zip(self.pairs, self.adjusted, strict=True)
        ]
        head = f"{len(names)} classifiers on {first.judges}"
        return "\n\n".join([head, table([["metric", *names], *rows]), "\n".join(map(visible, told))])


def compare_all(
    classifiers: Sequence[Any], dataset: Any = None, *, names: Sequence[str] = (), level: float = 0.95, seed: int = 0
) -> Comparisons:
    """Compare the first classifier with each of the others on the same images; see `compare`.

    Args:
        classifiers: at least two, each a `Classifier` or an `Evaluation`.
        dataset, level, seed: as for `compare`.
        names: of the classifiers; by default their numbers, from 1 on.

    Raises:
        ConfigError: there are fewer than two, not as many names, nothing to compare, or the classes differ.
        DataError: the evaluations are of different images.
    """
    if len(classifiers) < 2:
        raise ConfigError(f"compare_all needs at least two classifiers; got {len(classifiers)}.")
    names = names or [str(n) for n in range(1, len(classifiers) + 1)]
    if len(names) != len(classifiers):
        raise ConfigError(f"names must have one for each of the {len(classifiers)} classifiers; got {len(names)}.")
    found = [_evaluation(each, dataset, name) for each, name in zip(classifiers, names, strict=True)]
    how: dict[str, Any] = {"level": level, "seed": seed}
    pairs = [
        compare(found[0], each, names=(names[0], name), **how) for each, name in zip(found[1:], names[1:], strict=True)
    ]
    adjusted, least = dict[int, float](), 0.0
    for place, n in enumerate(sorted(range(len(pairs)), key=lambda n: pairs[n].p_value)):
        least = max(least, min(1.0, (len(pairs) - place) * pairs[n].p_value))  # Holm (1979)
        adjusted[n] = least
    return Comparisons(tuple(pairs), tuple(adjusted[n] for n in range(len(pairs))))


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
