"""`Evaluation`: the predictions of a classifier for the images of one split, and everything computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import ConfigError, short_traceback
from ..telling.display import render, score
from . import bootstrap, calibration, metrics, mistakes, text
from .bootstrap import Interval
from .calibration import Calibration, Reliability
from .metrics import METRICS, ClassScores, defined
from .operating import OperatingPoint, operating_point


@short_traceback
@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The predictions of a classifier for one split, made by `checks.evaluate`; `evaluation["accuracy"]` is a metric.

    Args:
        split: the name of the split.
        class_names: C names, in column order.
        labels: (N,) int64 class indices; (N, C) int8 0/1 when multi-label.
        probabilities: (N, C) float32 in 0..1.
        multi_label: whether an image may have several labels, or none.
        names: N names of the images, usually their files, or empty.
        thresholds: (C,) float64 when multi-label: a label is predicted if its probability reaches the threshold. Of
            two classes, those of an operating point, which sum to 1; else None.
        metadata: column -> N cells.
        pictures: (N,) int64, equal for images with the same pixels; None if that is not known.

    >>> labels, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], "float32")
    >>> evaluation = Evaluation("test", ("cat", "dog"), labels, probabilities)
    >>> evaluation.per_class[1].recall, evaluation.confused_images("dog", "cat")
    (0.5, ['image 2'])
    >>> str(evaluation.top_losses(1)[0])
    'image 2: dog (40.0%), predicted cat'
    """

    split: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    multi_label: bool = False
    names: tuple[str, ...] = ()
    thresholds: np.ndarray | None = None
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pictures: np.ndarray | None = None

    @cached_property
    def predictions(self) -> np.ndarray:
        """(N,) int64 most probable class, the first of equal ones; multi-label: (N, C) int8 0/1 by the thresholds.

        Of two classes with an operating point, the one that is above its threshold.
        """
        if self.thresholds is None:
            return self.probabilities.argmax(axis=1)
        if not self.multi_label:
            return (self.probabilities - self.thresholds.astype(np.float32)).argmax(axis=1)
        return (self.probabilities >= self.thresholds.astype(np.float32)).astype(np.int8)  # as float32: 0.7 meets 0.7

    @property
    def predicted_names(self) -> list[str]:
        """The predicted class of each of the N images by name; several are joined by "|", and none is "nothing"."""
        if not self.multi_label:
            return [self.class_names[c] for c in self.predictions]
        return ["|".join(self.class_names[c] for c in np.flatnonzero(row)) or "nothing" for row in self.predictions]

    @cached_property
    def _scores(self) -> dict[str, float | np.ndarray]:  # not averaged over classes
        kind = self.multi_label, len(self.class_names)
        return {name: row.compute(*self._arrays) for name, row in METRICS.items() if row.applies(*kind)}

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.labels, self.probabilities, self.predictions

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Every metric of `METRICS` that applies; None if the images do not define it."""
        return {name: defined(scores) for name, scores in self._scores.items()}

    @property
    def headline(self) -> str:
        """The name of the metric that is reported first."""
        return "average_precision" if self.multi_label else "accuracy"

    @property
    def baseline(self) -> float:
        """The headline metric of answers that look at no image: always the most frequent class, or random labels."""
        return metrics.baseline(self.labels)

    @cached_property
    def without_copies(self) -> Evaluation | None:
        """The evaluation that counts each picture once; None if no image is a copy of another here."""
        if self.pictures is None or len(first := np.unique(self.pictures, return_index=True)[1]) == len(self.labels):
            return None
        return self.subset(np.sort(first))

    def bootstrap(
        self, level: float = 0.95, resamples: int | None = None, seed: int = 0, metrics: Iterable[str] | None = None
    ) -> dict[str, Interval]:
        """Compute confidence intervals of metrics by resampling the images.

        Shares of images, such as the accuracy, have Wilson's interval with the correction for continuity, which holds
        for few images and for shares of 0 and 1 (`bootstrap.share_interval`). Other metrics have the bias-corrected
        percentiles of the bootstrap (Efron, 1981), or None if resampling says nothing, as no image is wrong, or none is
        right. For the calibration error see `bootstrap.error_interval`.

        Args:
            level: confidence level, in (0, 1).
            resamples: the number of draws; by default 1000, or fewer if there are very many images and classes.
            seed: seed of the draws.
            metrics: names of metrics; None for all of them.

        Returns:
            metric -> (low, high), or None if the interval is unknown.
        """
        values = {name: self[name] for name in (self.metrics if metrics is None else metrics)}
        return bootstrap.intervals(values, *self._arrays, level, resamples, seed)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """95 % intervals of all metrics, by `bootstrap`."""
        return self.bootstrap()

    @cached_property
    def reliability(self) -> Reliability:
        """Accuracy by confidence."""
        return calibration.reliability(self.labels, self.probabilities)

    @cached_property
    def per_class(self) -> tuple[ClassScores, ...]:
        """The scores of each class, in the order of `class_names`."""
        num_classes = len(self.class_names)
        by_threshold = metrics.precision_recall_f1(self.labels, self.predictions, num_classes)
        scores = np.vstack([by_threshold, self._scores["roc_auc"], self._scores["average_precision"]]).T
        rows = zip(self.class_names, scores, metrics.support(self.labels, num_classes).tolist(), strict=True)
        return tuple(ClassScores(name, *map(defined, row), support) for name, row, support in rows)  # type: ignore[arg-type, call-arg]

    def lowest_f1(self, limit: int) -> tuple[ClassScores, ...]:
        """Return the classes with the lowest F1, lowest first; those without images last."""
        return metrics.lowest_f1(self.per_class, limit)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Which classes macro averages leave out, which metrics are undefined, and whether anything was learned."""
        ends = self.bootstrap(metrics=[self.headline])[self.headline]
        return text.notes(self.split, self.per_class, self.confusion_matrix, self.baseline, ends)

    @cached_property
    def confusion_matrix(self) -> np.ndarray:
        """(C, C) int64 images, true class by predicted class; multi-label: (C, 2, 2), each [[tn, fp], [fn, tp]]."""
        return metrics.confusion_matrix(self.labels, self.predictions, len(self.class_names))

    def most_confused(self, limit: int = 5) -> list[tuple[str, str, int]]:
        """Return (true class, predicted class, images), most images first; empty when multi-label."""
        return [] if self.multi_label else mistakes.most_confused(self.confusion_matrix, self.class_names, limit)

    def confused_images(self, true: str, predicted: str) -> list[str]:
        """Return the names of the images of one class that were predicted as another; empty when multi-label."""
        if self.multi_label:
            return []
        a, b = map(self.class_names.index, (true, predicted))
        rows = np.flatnonzero((self.labels == a) & (self.predictions == b))
        return [mistakes.image_name(self.names, row) for row in rows]

    def top_losses(self, limit: int = 20) -> list[mistakes.Mistake]:
        """Return the images with the highest losses, highest first. Look at them: some may be mislabelled."""
        return mistakes.top_losses(*self._arrays, self.class_names, self.names, limit)

    def best_thresholds(self, least: int = 1) -> np.ndarray:
        """Return the (C,) float64 threshold of each class that gives the highest F1.

        They are fitted to these images and must be evaluated on others. `Classifier.tune_thresholds` applies them, from
        ten images of a class on.

        Args:
            least: number of images of a class from which its threshold is fitted; it is 0.5 for others.
        """
        return calibration.best_thresholds(self.labels, self.probabilities, least)

    def operating_point(self, sensitivity: float, positive: str | None = None) -> OperatingPoint:
        """Return the threshold with the highest specificity that reaches a sensitivity on these images.

        It is fitted to these images and must be judged on others. `Classifier.operate` applies it.

        Args:
            sensitivity: at least this share of the positive images is found, in (0, 1].
            positive: the name of the positive class; None is the second one.

        Raises:
            ConfigError: there are not two classes, or an argument has an impossible value.
            DataError: one of the classes has no images.
        """
        return operating_point(self.labels, self.probabilities, self.class_names, sensitivity, positive)

    def subset(self, rows: Sequence[int] | np.ndarray) -> Evaluation:
        """Return the evaluation of some of the images, given by their row numbers or by a mask (N,) of bool."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        names = tuple(self.names[row] for row in rows) if self.names else ()
        metadata = {column: tuple(cells[row] for row in rows) for column, cells in self.metadata.items()}
        labels, probabilities = self.labels[rows], self.probabilities[rows]
        pictures = None if self.pictures is None else self.pictures[rows]
        more: dict[str, Any] = {"names": names, "metadata": metadata, "pictures": pictures}
        return replace(self, labels=labels, probabilities=probabilities, **more)

    def slices(self, column: str) -> dict[str, Evaluation]:
        """Return an evaluation for each value of a metadata column (such as the camera), most images first.

        Raises:
            ConfigError: there is no such column.
        """
        if column not in self.metadata:
            known = ", ".join(self.metadata) or "none: a CSV or DataFrame may have more than path and label"
            raise ConfigError(f"column: expected one of the columns of metadata ({known}); received {column!r}")
        values, inverse, counts = np.unique(self.metadata[column], return_inverse=True, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {str(values[i]): self.subset(np.flatnonzero(inverse == i)) for i in order}

    def at_temperature(self, temperature: float) -> Evaluation:
        """Return the evaluation after dividing all logits by a temperature."""
        scaled = calibration.at_temperature(self.probabilities, temperature, self.multi_label)
        cuts = self.thresholds
        if cuts is not None:  # which decide as before
            cuts = calibration.at_temperature(cuts, temperature, multi_label=True).astype(np.float64)
        return replace(self, probabilities=scaled, thresholds=cuts)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values without NaN, nothing about single images; up to 500 classes a confusion matrix."""
        once = self.without_copies
        return {
            "split": self.split,
            "num_images": len(self.labels),
            "multi_label": self.multi_label,
            "class_names": list(self.class_names),
            "notes": list(self.notes),
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
            "baseline": self.baseline,
            "without_copies": once and {"num_images": len(once.labels), self.headline: once[self.headline]},
            **self.metrics,
            "intervals": {name: None if ends is None else list(ends) for name, ends in self.intervals.items()},
            "per_class": [asdict(scores) for scores in self.per_class],
            **({} if len(self.class_names) > 500 else {"confusion_matrix": self.confusion_matrix.tolist()}),
        }

    def told(self, value: float | None, interval: Interval) -> str:
        """Return one line with a value of the headline metric, which may be a mean over repeats, and its interval."""
        guess = f"{'random labels' if self.multi_label else 'most frequent class'} {score(self.baseline)}"
        once = self.without_copies
        kept = None if once is None else (len(once.labels), once[self.headline])
        counts = len(self.labels), len(self.class_names)
        return text.headline(self.split, self.headline, value, interval, guess, counts, kept)

    def __getitem__(self, metric: str) -> float | None:
        if metric not in self.metrics:
            raise KeyError(f"{metric!r} is not measured here; expected one of {', '.join(self.metrics)}")
        return self.metrics[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __repr__(self) -> str:
        name = self.headline
        ends = self.bootstrap(metrics=[name])[name]  # with many classes the other intervals take longer
        return self.told(self[name], ends)

    def __str__(self) -> str:
        confused = {(a, b): self.confused_images(a, b) for a, b, _ in self.most_confused()}
        tables = self.metrics, self.intervals, self.per_class, confused, self.confusion_matrix
        return text.summary(repr(self), self.notes, *tables)

    def _repr_html_(self) -> str:
        shown = self.per_class if len(self.per_class) <= 20 else self.lowest_f1(20)
        values = {"about": repr(self), "confused": self.most_confused(), "hidden": len(self.per_class) - len(shown)}
        return render("evaluation.html", evaluation=self, rows=shown, **values)


def calibrated(evaluations: Mapping[str, Evaluation], split: str) -> tuple[Calibration, dict[str, Evaluation]]:
    """Fit a temperature on one split, and return the evaluation of every split at that temperature.

    Args:
        evaluations: split -> evaluation, of images that the classifier did not learn from.
        split: the split to fit on.
    """
    fitted_on = evaluations[split]
    temperature = calibration.temperature(fitted_on.labels, fitted_on.probabilities)
    after = {name: each.at_temperature(temperature) for name, each in evaluations.items()}

    def both(metric: str) -> dict[str, tuple[float, float]]:
        return {name: (before[metric] or 0.0, after[name][metric] or 0.0) for name, before in evaluations.items()}

    return Calibration(temperature, split, len(fitted_on.labels), both("calibration_error"), both("log_loss")), after
