"""Plots of an evaluation, by scikit-learn's own Display classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn import metrics as sk
from sklearn.calibration import CalibrationDisplay

from ..errors import ConfigError, short_traceback
from ..evaluation.bootstrap import share_interval
from ..evaluation.evaluation import Evaluation
from ..fields import shown
from ..telling.figures import percentages, short
from .display import WIDTH, Display, ink

DIGITS = 20  # largest number of classes for which a confusion matrix shows its counts
CELL = "#2f6fb3"  # a full cell of a confusion matrix
CURVES = 8  # largest number of classes that all have a curve


@short_traceback
class OfEvaluation(Display):
    """A plot of an evaluation.

    Args:
        evaluation: an `Evaluation`, or something that has one as its `evaluation`: a classifier, a cross-validation.

    Raises:
        ConfigError: it is none, or has none.
    """

    def __init__(self, evaluation: Any):
        found = evaluation if isinstance(evaluation, Evaluation) else getattr(evaluation, "evaluation", None)
        if not isinstance(found, Evaluation):
            raise ConfigError(
                f"{type(self).__name__} is made from an Evaluation, such as classifier.evaluation or "
                f"classifier.evaluate(...); got {shown(evaluation)}."
            )
        self.evaluation = found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.evaluation!r}>"


@short_traceback
class ConfusionMatrixDisplay(OfEvaluation):
    """True against predicted classes: counts for up to 20 classes, for more the shares of each true class.

    Cells are the more opaque the more they hold, so that the matrix fits light and dark pages.

    Args:
        evaluation: as for all plots of evaluations: an `Evaluation`, or a classifier that has one.

    Raises:
        ConfigError: images have several labels each, so that no class is predicted instead of another.

    >>> found = Evaluation("test", ("cat", "dog"), np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]])
    >>> ConfusionMatrixDisplay(found).plot().ax_.get_xlabel()
    'predicted'
    """

    def __init__(self, evaluation: Any):
        super().__init__(evaluation)
        if self.evaluation.multi_label:
            raise ConfigError("With several labels per image each has its own matrix: evaluation.confusion_matrix.")
        classes = len(self.evaluation.class_names)
        self.many = classes > DIGITS
        side = max(6.0, 1.5 + 0.11 * classes) if self.many else max(WIDTH, 1.2 + 0.42 * classes)
        self.size = side, side

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb

        matrix, ax, many = self.evaluation.confusion_matrix, axes[0], self.many
        if many:
            matrix = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        colours = LinearSegmentedColormap.from_list("opacity", [(*to_rgb(CELL), alpha) for alpha in (0.0, 1.0)])
        display = sk.ConfusionMatrixDisplay(
            matrix, display_labels=[short(each) for each in self.evaluation.class_names]
        )
        how: dict[str, Any] = {"include_values": not many, "colorbar": False, "xticks_rotation": "vertical"}
        if many:  # so that a few mistakes show beside many right answers
            how["im_kw"] = {"norm": PowerNorm(0.5, 0, 1)}
        display.plot(ax=ax, cmap=colours, **how)
        for cell, value in zip(np.ravel([] if many else display.text_), np.ravel(matrix), strict=False):
            cell.set_color("white" if value > matrix.max() / 2 else ink())
        ax.tick_params(labelsize=7.5 if many else 9)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")


class _Ranking(OfEvaluation):
    """A curve for each class against the rest; if there are many, for those with the lowest scores."""

    size = (WIDTH, 4.8)
    display: ClassVar[Any]  # scikit-learn's class
    score: ClassVar[str]  # by which classes are selected
    labels: ClassVar[tuple[str, str]]  # of the axes

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        found, ax = self.evaluation, axes[0]
        for c, truth in _shown_classes(found, self.score):
            self.display.from_predictions(truth, found.probabilities[:, c], ax=ax, name=short(found.class_names[c]))
        if self.display is sk.RocCurveDisplay:
            ax.plot([0, 1], [0, 1], linestyle=":", color=ink(), linewidth=1)
        x, y = self.labels
        ax.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.05), aspect="auto")
        percentages(ax.xaxis, ax.yaxis)
        ax.grid()
        if (legend := ax.get_legend()) is not None:
            legend.remove()
        if ax.get_legend_handles_labels()[0]:
            if own:  # below the axes, where it hides no curve
                ax.figure.legend(loc="outside lower center", ncols=2, fontsize=8)
            else:
                ax.legend(fontsize=8)


class RocCurveDisplay(_Ranking):
    """ROC curves, one for each class against the rest; if there are more than eight, of those with the lowest areas.

    Args:
        evaluation: an `Evaluation`, or a classifier that has one.
    """

    display = sk.RocCurveDisplay
    score = "roc_auc"
    labels = ("false positive rate", "true positive rate")


class PrecisionRecallDisplay(_Ranking):
    """Precision against recall, a curve for each class; if there are more than eight, of those with the lowest areas.

    Args:
        evaluation: an `Evaluation`, or a classifier that has one.
    """

    display = sk.PrecisionRecallDisplay
    score = "average_precision"
    labels = ("recall", "precision")


class ReliabilityDisplay(OfEvaluation):
    """Accuracy against confidence with 95 % intervals, and how many predictions each confidence has.

    Args:
        evaluation: an `Evaluation`, or a classifier that has one.
    """

    size = (WIDTH, 4.6)
    panels: Mapping[str, Any] = {"nrows": 2, "ncols": 1, "sharex": True, "height_ratios": (3, 1)}

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        found, (upper, lower) = self.evaluation.reliability, axes
        there = found.images > 0
        images, accuracy, confidence = found.images[there], found.accuracy[there], found.confidence[there]
        display = CalibrationDisplay(accuracy, confidence, confidence)
        display.plot(ax=upper, name="this classifier", color="tab:blue")
        ends = [share_interval(share, int(n), 0.95) for share, n in zip(accuracy, images, strict=True)]
        low, high = np.array(ends).T
        away = accuracy - low, high - accuracy
        upper.errorbar(confidence, accuracy, np.maximum(away, 0), fmt="none", color="tab:blue", alpha=0.5)
        for line in upper.get_lines():
            if line.get_linestyle() == ":":
                line.set_color(ink())
        upper.legend(loc="upper left")
        upper.set(xlabel="", ylabel="share that is right", aspect="auto", ylim=(-0.02, 1.02))
        edges = np.linspace(0, 1, len(found.images) + 1)
        bars = lower.bar(edges[:-1], found.images, width=np.diff(edges), align="edge", color="tab:blue", alpha=0.6)
        told = [f"{n / 1000:.3g}k" if n >= 1000 else str(n) if n else "" for n in found.images.tolist()]
        lower.bar_label(bars, told, fontsize=7)
        lower.margins(y=0.3)
        lower.set(xlabel="confidence", ylabel="predictions")
        percentages(upper.yaxis, lower.xaxis)
        for ax in axes:
            ax.grid()


def _shown_classes(evaluation: Evaluation, score: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the classes that get a curve, each with (N,) whether an image belongs to it."""
    scores = [getattr(row, score) for row in evaluation.per_class]
    known = sorted((value, c) for c, value in enumerate(scores) if value is not None)
    if len(evaluation.class_names) == 2 and not evaluation.multi_label:
        known = [each for each in known if each[1] == 1]  # the curve of the other class mirrors it
    for c in sorted(c for _, c in known[:CURVES]):
        yield c, evaluation.labels[:, c] if evaluation.multi_label else evaluation.labels == c
