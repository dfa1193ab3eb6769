"""What a classifier said of some images and all that follows from it, by scikit-learn; imports no TensorFlow.

`METRICS` is the one table of what is measured. What the images do not define (the ROC AUC of a class without images,
say) is None, never 0 or NaN. A macro average is over the classes for which its score is defined; `Evaluation.notes`
says which classes that leaves out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

from ..display import number, render
from ..errors import ConfigError
from . import bootstrap, mistakes
from .calibration import Reliability, at_temperature, best_thresholds, error_if_calibrated, reliability
from .text import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Array = NDArray[Any]
Intervals = dict[str, tuple[float, float] | None]


@dataclass(frozen=True)
class ClassScores:
    """One class against the rest, scores in 0..1: None where it has no images (ROC AUC also where it has them all)."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None
    support: int  # images of the class


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What a classifier said of one split, and all that follows from it. Made, and checked, by `evaluate.evaluate`."""

    split: str
    class_names: tuple[str, ...]
    labels: Array  # (N,) int64 class indices; (N, C) int8 0/1 when multi-label
    probabilities: Array  # (N, C) float32, 0..1
    multi_label: bool = False
    names: tuple[str, ...] = ()  # what each image is called (its file), or empty
    thresholds: Array | None = None  # (C,) float64 when multi-label: a label is predicted from its threshold upwards
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> what it says of each image

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Every row of `METRICS` that applies; None where the images do not define it."""
        rows = {name: row for name, row in METRICS.items() if row.applies(self.multi_label, len(self.class_names))}
        return {name: defined(row.compute(self)) for name, row in rows.items()}

    def bootstrap(
        self,
        level: float = 0.95,
        resamples: int | None = None,
        seed: int = 0,
        metrics: Iterable[str] | None = None,
    ) -> Intervals:
        """Where each metric would lie on all images of this kind, by drawing these anew.

        The bias-corrected percentiles of the bootstrap (Efron 1981). Where no image is wrong, or none is right, drawing
        anew says nothing: shares of images then have the interval of Clopper and Pearson, other metrics None. The
        calibration error has the more careful one of `bootstrap.error_interval`.

        Args:
            level: 0..1, how often such intervals are to hold the truth.
            resamples: None is 1000, and fewer where there are very many images and classes.
            seed: of the draws.
            metrics: which; None is all.

        Returns:
            metric -> (low, high), or None where it is not known.
        """
        resamples = resamples or bootstrap.resamples_for(*self.probabilities.shape)
        values = {name: self[name] for name in (self.metrics if metrics is None else metrics)}
        known = [name for name, value in values.items() if value is not None]
        arrays = self.labels, self.probabilities, self.predictions
        drawn = bootstrap.resampled(known, *arrays, resamples, seed) if known else {}
        found: dict[str, tuple[float, float] | None] = dict.fromkeys(values)
        for name, replicates in drawn.items():
            value = values[name] or 0.0
            if name == "calibration_error":
                by_chance = error_if_calibrated(self.labels, self.probabilities, level)
                found[name] = bootstrap.error_interval(value, replicates, by_chance, level)
                continue
            found[name] = bootstrap.interval(value, replicates, level)
            if found[name] is None and name in bootstrap.SHARES:
                found[name] = bootstrap.share_interval(value, len(self.labels), level)
        return found

    @cached_property
    def intervals(self) -> Intervals:
        """`bootstrap()`: 95 % intervals of all metrics."""
        return self.bootstrap()

    @cached_property
    def reliability(self) -> Reliability:
        """How often predictions are right, by how sure they were."""
        return reliability(self.labels, self.probabilities)

    @cached_property
    def per_class(self) -> tuple[ClassScores, ...]:
        """One for each class, in the order of `class_names`."""
        scores = np.vstack([self._precision_recall_f1, self._roc_auc, self._average_precision]).T
        rows = zip(self.class_names, scores, self._support.tolist(), strict=True)
        return tuple(ClassScores(name, *map(defined, row), support) for name, row, support in rows)  # type: ignore[arg-type, call-arg]

    @property
    def headline(self) -> str:
        """The metric that is told first."""
        return "average_precision" if self.multi_label else "accuracy"

    def lowest_f1(self, limit: int) -> tuple[ClassScores, ...]:
        """The classes with the lowest F1, worst first; those without images last."""
        return tuple(sorted(self.per_class, key=lambda row: 2.0 if row.f1 is None else row.f1)[:limit])

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Which classes the macro averages leave out, and why."""
        split, total = self.split, len(self.labels)
        absent, full = ([row.name for row in self.per_class if row.support == n] for n in (0, total))
        notes = [f"no {split} images of {', '.join(absent)}: left out of macro averages"] if absent else []
        scores = "ROC AUC" if self.multi_label else "ROC AUC and MCC"
        return (*notes, *([f"all {split} images are of {', '.join(full)}: {scores} undefined"] if full else []))

    @cached_property
    def predictions(self) -> Array:
        """(N,) int64 likeliest class (the first of equals); multi-label: (N, C) int8 0/1, by the thresholds."""
        if self.thresholds is None:
            return self.probabilities.argmax(axis=1)
        return (self.probabilities >= self.thresholds.astype(np.float32)).astype(np.int8)  # as float32: 0.7 meets 0.7

    @cached_property
    def confusion_matrix(self) -> Array:
        """(C, C) int64 images, true class by predicted class; multi-label: (C, 2, 2), each [[tn, fp], [fn, tp]]."""
        compute = sk.multilabel_confusion_matrix if self.multi_label else sk.confusion_matrix
        return np.asarray(compute(self.labels, self.predictions, labels=self._sk_labels))

    def most_confused(self, limit: int = 5) -> list[tuple[str, str, int]]:
        """(true class, predicted class, images), most images first; nothing when multi-label."""
        if self.multi_label:
            return []
        wrong = self.confusion_matrix - np.diag(self.confusion_matrix.diagonal())
        pairs = [divmod(int(i), len(wrong)) for i in np.argsort(-wrong, axis=None, kind="stable")[:limit]]
        return [(self.class_names[a], self.class_names[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]

    def confused_images(self, true: str, predicted: str) -> list[str]:
        """The names of images of one class that were predicted as another."""
        a, b = self.class_names.index(true), self.class_names.index(predicted)
        if self.multi_label:
            return []
        rows = np.flatnonzero((self.labels == a) & (self.predictions == b))
        return [self.names[row] if self.names else f"image {row}" for row in rows]

    def top_losses(self, limit: int = 20) -> list[mistakes.Mistake]:
        """The images that surprised the classifier most, the worst first; look at them, they may be labelled wrong."""
        return mistakes.surprises(
            self.labels, self.probabilities, self.predictions, self.class_names, self.names, limit
        )

    def best_thresholds(self) -> Array:
        """(C,) for each class against the rest, the probability from which predicting it gives the highest F1.

        They fit these images, so other images have to judge them; `Classifier.tune_thresholds` puts them to use.
        """
        return best_thresholds(self.labels, self.probabilities)

    def subset(self, rows: ArrayLike) -> Evaluation:
        """The evaluation of some of the images, by their row numbers."""
        rows = np.asarray(rows)
        names = tuple(self.names[row] for row in rows) if self.names else ()
        metadata = {column: tuple(cells[row] for row in rows) for column, cells in self.metadata.items()}
        return replace(
            self, labels=self.labels[rows], probabilities=self.probabilities[rows], names=names, metadata=metadata
        )

    def slices(self, column: str) -> dict[str, Evaluation]:
        """An evaluation for each value of a metadata column, by site or device, say; most images first.

        Raises:
            ConfigError: there is no such column.
        """
        if column not in self.metadata:
            known = ", ".join(self.metadata) or "none: a CSV or DataFrame may have more than path and label"
            raise ConfigError(f"column: expected one of the columns of metadata ({known}); received {column!r}")
        cells = np.array(self.metadata[column], dtype=object)
        values, counts = np.unique(cells.astype(str), return_counts=True)
        return {
            str(values[i]): self.subset(np.flatnonzero(cells == values[i])) for i in np.argsort(-counts, kind="stable")
        }

    def at_temperature(self, temperature: float) -> Evaluation:
        """As it would be with all logits divided by a temperature."""
        return replace(self, probabilities=at_temperature(self.probabilities, temperature, self.multi_label))

    def to_dict(self) -> dict[str, Any]:
        """Ready for `json.dumps(..., allow_nan=False)`: the metrics at the top level; nothing about single images."""
        about = {"split": self.split, "num_images": len(self.labels), "multi_label": self.multi_label}
        about |= {"class_names": list(self.class_names), "notes": list(self.notes)}
        about |= {"thresholds": None if self.thresholds is None else self.thresholds.tolist()}
        per_class = [asdict(scores) for scores in self.per_class]
        intervals = {name: None if ends is None else list(ends) for name, ends in self.intervals.items()}
        return {
            **about,
            **self.metrics,
            "intervals": intervals,
            "per_class": per_class,
            "confusion_matrix": self.confusion_matrix.tolist(),
        }

    def __getitem__(self, metric: str) -> float | None:
        if metric not in self.metrics:
            raise KeyError(f"{metric!r} is not measured here; expected one of {', '.join(self.metrics)}")
        return self.metrics[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __repr__(self) -> str:
        headline = self.headline
        images, classes = f"image{'s' * (len(self.labels) > 1)}", f"class{'es' * (len(self.class_names) > 1)}"
        counts = f"{len(self.labels)} {images}, {len(self.class_names)} {classes}"
        ends = self.bootstrap(metrics=[headline])[headline]  # the others take longer where there are many classes
        interval = "" if ends is None else f"95 % interval {number(ends[0])} to {number(ends[1])}; "
        return f"{self.split[:1].upper()}{self.split[1:]}: {headline} {number(self[headline])} ({interval}{counts})"

    def __str__(self) -> str:
        return summary(self)

    def _repr_html_(self) -> str:
        shown = self.per_class if len(self.per_class) <= 20 else self.lowest_f1(20)
        values = {"about": repr(self), "confused": self.most_confused(), "hidden": len(self.per_class) - len(shown)}
        return render("evaluation.html", evaluation=self, rows=shown, **values)

    @property
    def _sk_labels(self) -> Sequence[int]:  # every class, present or not; to scikit-learn one 0/1 column is two classes
        num_classes = self.probabilities.shape[1]
        return [1] if num_classes == 1 else range(num_classes)

    @cached_property
    def _support(self) -> Array:  # (C,) int64
        num_classes = self.probabilities.shape[1]
        return self.labels.sum(axis=0) if self.multi_label else np.bincount(self.labels, minlength=num_classes)

    @cached_property
    def _precision_recall_f1(self) -> Array:  # (3, C), NaN without images; 0 with images but never predicted
        labels = self._sk_labels
        scores = sk.precision_recall_fscore_support(self.labels, self.predictions, labels=labels, zero_division=0.0)
        return np.where(self._support > 0, np.stack(scores[:3]), np.nan)

    @cached_property
    def _roc_auc(self) -> Array:  # (C,)
        return self._one_vs_rest(sk.roc_auc_score, (self._support > 0) & (self._support < len(self.labels)))

    @cached_property
    def _average_precision(self) -> Array:  # (C,)
        return self._one_vs_rest(sk.average_precision_score, self._support > 0)

    def _one_vs_rest(self, compute: Callable[..., float], where: Array) -> Array:
        scores = np.full(where.shape, np.nan)
        for c in np.flatnonzero(where):
            truth = self.labels[:, c] if self.multi_label else self.labels == c
            scores[c] = compute(truth, self.probabilities[:, c])
        return scores

    def _top(self, k: int) -> float:
        # scikit-learn's breaks ties towards the last class, argmax towards the first: its top 2 can be below top 1.
        likeliest = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float((likeliest == self.labels[:, None]).any(axis=1).mean())

    def _log_loss(self) -> float:
        if self.multi_label:
            return float(sk.log_loss(self.labels.ravel(), self.probabilities.ravel(), labels=[0, 1]))
        rows = self.probabilities / self.probabilities.sum(axis=1, keepdims=True)  # it warns unless they sum to 1
        return float(sk.log_loss(self.labels, rows, labels=self._sk_labels))

    def _mcc(self) -> float:  # with one true class it is 0/0, which scikit-learn calls 0 even where all are right
        several = np.count_nonzero(self._support) > 1
        return float(sk.matthews_corrcoef(self.labels, self.predictions)) if several else np.nan


@dataclass(frozen=True)
class Metric:
    """A row of `METRICS`. `multi_label`: True, for multi-label only; False, for single-label only; None, for both."""

    direction: Literal["max", "min"]
    multi_label: bool | None
    description: str
    compute: Callable[[Evaluation], ArrayLike] = field(repr=False)  # a number, or one for each class; NaN: undefined
    min_classes: int = 1

    def applies(self, multi_label: bool, num_classes: int) -> bool:
        return self.multi_label in (None, multi_label) and num_classes >= self.min_classes


# fmt: off
METRICS: dict[str, Metric] = {
    "accuracy": Metric("max", None, "images that are all right", lambda e: sk.accuracy_score(e.labels, e.predictions)),
    "balanced_accuracy": Metric("max", False, "mean recall", lambda e: e._precision_recall_f1[1]),
    "top_2_accuracy": Metric("max", False, "images whose class is among the 2 likeliest", lambda e: e._top(2), 3),
    "top_3_accuracy": Metric("max", False, "images whose class is among the 3 likeliest", lambda e: e._top(3), 4),
    "top_5_accuracy": Metric("max", False, "images whose class is among the 5 likeliest", lambda e: e._top(5), 6),
    "log_loss": Metric("min", None, "mean cross-entropy in nats (multi-label: binary)", Evaluation._log_loss),
    "calibration_error": Metric("min", None, "mean gap between confidence and accuracy", lambda e: (
        e.reliability.expected_error)),
    "roc_auc": Metric("max", None, "mean ROC AUC, each class against the rest", lambda e: e._roc_auc),
    "average_precision": Metric("max", None, "mean average precision", lambda e: e._average_precision),
    "mcc": Metric("max", False, "Matthews correlation coefficient", Evaluation._mcc),
    "macro_f1": Metric("max", None, "mean F1", lambda e: e._precision_recall_f1[2]),
    "weighted_f1": Metric("max", False, "mean F1, weighted by the images of each class", lambda e: sk.f1_score(
        e.labels, e.predictions, average="weighted", zero_division=0.0)),
    "micro_f1": Metric("max", True, "F1 of all (image, label) decisions together", lambda e: sk.f1_score(
        e.labels.ravel(), e.predictions.ravel(), zero_division=np.nan)),
    "hamming_loss": Metric("min", True, "wrong (image, label) decisions", lambda e: (e.labels != e.predictions).mean()),
}
# fmt: on


def defined(scores: ArrayLike) -> float | None:
    """The mean of those that are defined: macro over classes, or the one number itself."""
    known = [score for score in np.ravel(scores).tolist() if not np.isnan(score)]
    return float(np.mean(known)) if known else None
