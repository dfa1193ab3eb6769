"""`CrossValidation`: the out-of-fold predictions of every image, and what they say about classifiers made this way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import short_traceback
from ..fields import as_path
from ..files.writing import write_table
from ..telling.display import render, score
from . import bootstrap, text
from .bootstrap import Interval
from .evaluation import Evaluation

SPLIT = "out-of-fold"


@dataclass(frozen=True)
class FoldScore:
    """The score of one training, on the images of its fold.

    Args:
        repeat, fold: counted from 0.
        train, validation, images: number of images that it learned from, that selected, and that judged it.
        metrics: every metric of `METRICS` that applies; None if the images of the fold do not define it.
    """

    repeat: int
    fold: int
    train: int
    validation: int
    images: int
    metrics: dict[str, float | None]


@short_traceback
@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """The result of `vggft.cross_validate`; `result["accuracy"]` is a metric, and `str` describes all of them.

    Every image was predicted by a classifier that neither learned from it nor was selected by it, nor by a copy of it.
    A metric is computed from these predictions of all images together, and is the mean over the repeats.

    Args:
        folds: the score of each training, by repeat and fold.
        evaluations: the out-of-fold predictions of all N images, for each repeat, in the order of the data.
        fold_of: (N,) int64 for each repeat, the fold of each image.
        notes: what was left out, as sentences.

    >>> labels, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], "float32")
    >>> both = [Evaluation(SPLIT, ("cat", "dog"), labels, p) for p in (probabilities, probabilities[:, ::-1])]
    >>> result = CrossValidation((), tuple(both))
    >>> round(result["accuracy"], 3), both[0]["accuracy"] > both[1]["accuracy"]
    (0.5, True)
    """

    folds: tuple[FoldScore, ...]
    evaluations: tuple[Evaluation, ...]
    fold_of: tuple[np.ndarray, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def evaluation(self) -> Evaluation:
        """The out-of-fold predictions, with mistakes, confusions and slices; of the first repeat if there are several.

        Predictions of several repeats are not averaged: that would judge an ensemble, which is better than its members.
        """
        return self.evaluations[0]

    @property
    def headline(self) -> str:
        """The name of the metric that is reported first."""
        return self.evaluation.headline

    @property
    def score(self) -> float | None:
        """The headline metric, from the out-of-fold predictions of all images."""
        return self[self.headline]

    @property
    def scores(self) -> list[float | None]:
        """The headline metric of each training, on the images of its fold."""
        return [each.metrics[self.headline] for each in self.folds]

    @property
    def mean(self) -> float | None:
        """The mean of `scores`, as scikit-learn's `cross_val_score(...).mean()` has it."""
        known = [each for each in self.scores if each is not None]
        return float(np.mean(known)) if known else None

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Every metric that applies: its mean over the repeats; None if the images do not define it."""
        several = [each.metrics for each in self.evaluations]
        columns = {name: [each[name] for each in several] for name in several[0]}
        return {name: None if None in values else float(np.mean(values)) for name, values in columns.items()}  # type: ignore[arg-type]

    @property
    def interval(self) -> Interval:
        """The 95 % interval of `score`."""
        return self.bootstrap([self.headline])[self.headline]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % intervals of all metrics, by `bootstrap`."""
        return self.bootstrap()

    def bootstrap(self, metrics: list[str] | None = None, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Compute confidence intervals by resampling the images, as `Evaluation.bootstrap` does.

        Scores of folds are not independent, since folds share most of their training images, so that no interval of
        them is unbiased (Bengio and Grandvalet, 2004). The predictions are kept, and images are resampled instead, the
        same ones in all repeats. The interval says how much the score depends on which images judge; what another set
        of training images would change shows only in the spread of `scores`.

        Args:
            metrics: names of metrics; None for all of them.
            level: confidence level, in (0, 1).
            seed: seed of the draws.

        Returns:
            metric -> (low, high), or None if the interval is unknown.
        """
        values = {name: self[name] for name in (self.metrics if metrics is None else metrics)}
        arrays = [(each.labels, each.probabilities, each.predictions) for each in self.evaluations]
        return bootstrap.mean_intervals(values, arrays, level, seed=seed)

    def __getitem__(self, metric: str) -> float | None:
        _ = self.evaluation[metric]  # raises for unknown ones
        return self.metrics[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def table(self) -> list[dict[str, Any]]:
        """List the trainings: repeat, fold, numbers of images, and all metrics."""
        rows = [asdict(each) for each in self.folds]
        return [row | metrics for row in rows if (metrics := row.pop("metrics"))]

    def predictions(self) -> list[dict[str, Any]]:
        """List the out-of-fold predictions: repeat, fold, image, label, predicted label, and all probabilities."""
        own = ("repeat", "fold", "image", "label", "predicted")
        columns = [f"class {name}" if name in own else name for name in self.evaluation.class_names]
        rows: list[dict[str, Any]] = []
        for repeat, (each, folds) in enumerate(zip(self.evaluations, self.fold_of, strict=True)):
            for row, name in enumerate(each.names):
                told = (_told(each, labels[row]) for labels in (each.labels, each.predictions))
                first = dict(zip(own, (repeat, int(folds[row]), name, *told), strict=True))
                rows.append(first | dict(zip(columns, map(float, each.probabilities[row]), strict=True)))
        return rows

    def to_csv(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write `table` as CSV, one row for each training."""
        path = as_path(path)
        write_table(path, self.table(), overwrite=overwrite)
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values without NaN: metrics at the top level, nothing about single images."""
        return {
            **self.evaluation.to_dict(),
            **self.metrics,
            "intervals": {name: None if ends is None else list(ends) for name, ends in self.intervals.items()},
            "repeats": len(self.evaluations),
            "folds": self.table(),
            "mean": self.mean,
            "left_out": list(self.notes),
        }

    @property
    def about(self) -> str:
        """A sentence about the folds."""
        known, repeats = [each for each in self.scores if each is not None], len(self.evaluations)
        if not known:
            return f"{len(self.folds)} trainings."
        trainings = f"{len(self.folds) // repeats} folds" + (f", {repeats} repeats" if repeats > 1 else "")
        return f"{trainings}: {self.headline} {score(min(known))} to {score(max(known))}, mean {score(self.mean)}."

    def __repr__(self) -> str:
        return self.evaluation.told(self.score, self.interval)

    def __str__(self) -> str:
        first = self.evaluation
        confused = {(a, b): first.confused_images(a, b) for a, b, _ in first.most_confused()}
        tables = self.metrics, self.intervals, first.per_class, confused, first.confusion_matrix
        return text.summary(f"{self!r}\n{self.about}", self.notes, *tables)

    def _repr_html_(self) -> str:
        shown = self.evaluation
        rows = shown.per_class if len(shown.per_class) <= 20 else shown.lowest_f1(20)
        return render("folds.html", result=self, about=repr(self), rows=rows, confused=shown.most_confused())


def _told(evaluation: Evaluation, labels: Any) -> str:
    names = evaluation.class_names
    return "|".join(names[c] for c in np.flatnonzero(labels)) if evaluation.multi_label else names[labels]
