"""Plots of training and evaluation, by scikit-learn's Display classes, as SVG for light and dark pages."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import metrics as sk
from sklearn.calibration import CalibrationDisplay

from ..display import NOT_SHARES
from ..evaluation.bootstrap import share_interval
from ..evaluation.evaluation import Evaluation
from ..foreign import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#0a0b0c"  # a colour that nothing else has; it is replaced by the text colour of the page
WIDTH = 4.8  # inches; text stays legible on a phone
DIGITS = 20  # largest number of classes for which a confusion matrix shows its counts
CELL = "#2f6fb3"  # a full cell of a confusion matrix
CURVES = 8  # largest number of classes that all have a curve
NOT_DRAWN = ("tuner/",)  # prefix of the hyperparameters that Hyperband itself adds


@contextmanager
def style() -> Iterator[None]:
    """Draw in `INK` on a transparent background, and give the same bytes for the same numbers."""
    import matplotlib as mpl

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    settings: dict[str, Any] = dict.fromkeys(inked, INK) | {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "grid.alpha": 0.15,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text, in the fonts of the reader, which cover the reader's scripts
        "svg.hashsalt": "vggft",
    }
    with warnings.catch_warnings(), mpl.rc_context(settings):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def new_figure(width: float = WIDTH, height: float = 3.4) -> Figure:
    """Create a matplotlib figure without pyplot, which would keep it alive."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure) -> str:
    """Convert a figure to the `src` of an `<img>`; it is dark on light pages and in print, light on dark pages."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    colours = "svg{color:#1d1f24}@media screen and (prefers-color-scheme:dark){svg{color:#d9dce3}}"
    text = text.replace(">", f"><style>{colours}</style>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot accuracy and loss over the epochs of all phases; a dot marks the epoch whose weights were kept."""
    figure = new_figure(height=4.4)
    epochs = np.arange(1, len(history) + 1)
    starts = [i for i, row in enumerate(history) if i == 0 or row["phase"] != history[i - 1]["phase"]]
    kept = [i for i, row in enumerate(history) if row.get("kept")]
    panels: Any = figure.subplots(2, 1, sharex=True)
    accuracy = "label_accuracy" if any("label_accuracy" in row for row in history) else "accuracy"
    for axes, metric in zip(panels, (accuracy, "loss"), strict=True):
        for key, label, colour in ((metric, "train", "tab:blue"), (f"val_{metric}", "validation", "tab:orange")):
            values = [row.get(key) for row in history]
            if any(value is not None for value in values):
                known = np.array([np.nan if value is None else float(value) for value in values])
                axes.plot(epochs, known, label=label, color=colour, marker="." if len(history) < 3 else None)
                axes.scatter(epochs[kept], known[kept], color=colour, s=28, zorder=3)
        for start in starts[1:]:
            axes.axvline(start + 0.5, color=INK, linestyle=":", linewidth=1)
        axes.set_ylabel(metric.replace("_", " "))
        axes.grid()
    percentages(panels[0].yaxis)
    for i, start in enumerate(starts):
        close = i and start - starts[i - 1] < 0.3 * len(history)  # stack the labels
        at, coordinates = (start + 0.5, 1.12 if close else 1.02), ("data", "axes fraction")
        panels[0].annotate(
            short(str(history[start]["phase"]), 40), at, xycoords=coordinates, fontsize=8, annotation_clip=False
        )
    panels[0].legend(loc="best")
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def confusion(evaluation: Evaluation) -> Figure:
    """Plot true against predicted classes: counts for up to 20 classes, for more the shares of each true class.

    Cells are the more opaque the more they hold, so that the matrix fits light and dark pages.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb

    names, classes = [short(name) for name in evaluation.class_names], len(evaluation.class_names)
    matrix = evaluation.confusion_matrix
    many = classes > DIGITS
    side = max(WIDTH, 1.2 + 0.42 * classes) if not many else max(6.0, 1.5 + 0.11 * classes)
    figure = new_figure(side, side)
    axes = figure.subplots()
    if many:
        matrix = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = LinearSegmentedColormap.from_list("opacity", [(*to_rgb(CELL), alpha) for alpha in (0.0, 1.0)])
    display = sk.ConfusionMatrixDisplay(matrix, display_labels=names)
    how: dict[str, Any] = {"include_values": not many, "colorbar": False, "xticks_rotation": "vertical"}
    if many:  # so that a few mistakes show beside many right answers
        how["im_kw"] = {"norm": PowerNorm(0.5, 0, 1)}
    display.plot(ax=axes, cmap=colours, **how)
    for cell, value in zip(np.ravel([] if many else display.text_), np.ravel(matrix), strict=False):
        cell.set_color("white" if value > matrix.max() / 2 else INK)
    axes.tick_params(labelsize=7.5 if many else 9)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


# kind -> scikit-learn's Display class, the score by which classes are selected, and the axis labels
RANKING = {
    "roc": (sk.RocCurveDisplay, "roc_auc", "false positive rate", "true positive rate"),
    "precision_recall": (sk.PrecisionRecallDisplay, "average_precision", "recall", "precision"),
}


def ranking(evaluation: Evaluation, kind: str) -> Figure:
    """Plot a curve for each class against the rest; if there are many, for those with the lowest scores.

    Args:
        evaluation: the evaluation to plot.
        kind: a key of `RANKING`.
    """
    display, score, x, y = RANKING[kind]
    figure = new_figure(height=4.8)
    axes = figure.subplots()
    for c, truth in _shown_classes(evaluation, [getattr(row, score) for row in evaluation.per_class]):
        display.from_predictions(truth, evaluation.probabilities[:, c], ax=axes, name=short(evaluation.class_names[c]))
    if kind == "roc":
        axes.plot([0, 1], [0, 1], linestyle=":", color=INK, linewidth=1)
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.05), aspect="auto")
    percentages(axes.xaxis, axes.yaxis)
    axes.grid()
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    if axes.get_legend_handles_labels()[0]:  # below the axes, where it hides no curve
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def reliability(evaluation: Evaluation) -> Figure:
    """Plot accuracy against confidence with 95 % intervals, and how many predictions each confidence has."""
    found = evaluation.reliability
    there = found.images > 0
    images, accuracy, confidence = found.images[there], found.accuracy[there], found.confidence[there]
    figure = new_figure(height=4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    display = CalibrationDisplay(accuracy, confidence, confidence)
    display.plot(ax=upper, name="this classifier", color="tab:blue")
    ends = [share_interval(share, int(n), 0.95) for share, n in zip(accuracy, images, strict=True)]
    low, high = np.array(ends).T
    away = accuracy - low, high - accuracy
    upper.errorbar(confidence, accuracy, np.maximum(away, 0), fmt="none", color="tab:blue", alpha=0.5)
    for line in upper.get_lines():
        if line.get_linestyle() == ":":
            line.set_color(INK)
    upper.legend(loc="upper left")
    upper.set(xlabel="", ylabel="share that is right", aspect="auto", ylim=(-0.02, 1.02))
    edges = np.linspace(0, 1, len(found.images) + 1)
    bars = lower.bar(edges[:-1], found.images, width=np.diff(edges), align="edge", color="tab:blue", alpha=0.6)
    told = [f"{n / 1000:.3g}k" if n >= 1000 else str(n) if n else "" for n in found.images.tolist()]
    lower.bar_label(bars, told, fontsize=7)
    lower.margins(y=0.3)
    lower.set(xlabel="confidence", ylabel="predictions")
    percentages(upper.yaxis, lower.xaxis)
    for axes in (upper, lower):
        axes.grid()
    return figure


def hyperparameters(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the hyperparameters that trials with a score have."""
    names = (name for trial in given if trial["score"] is not None for name in trial["hyperparameters"])
    return [name for name in dict.fromkeys(names) if not name.startswith(NOT_DRAWN)]


def trials(given: Sequence[Mapping[str, Any]], best: str, label: str, only: str | None = None) -> Figure:
    """Plot scores against each hyperparameter, one panel each; the best trial is ringed.

    Args:
        given: trials in the form of `Trial.to_dict`.
        best: the `trial_id` of the best trial.
        label: label of the score axis.
        only: plot just this hyperparameter.
    """
    from matplotlib.ticker import NullFormatter

    done = [trial for trial in given if trial["score"] is not None]
    names = hyperparameters(given) if only is None else [only]
    columns = max(1, min(2, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure = new_figure(2.9 * columns + 0.4, 2.6 * rows)
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False, sharey=True))
    for axes, name in zip(panels, names, strict=False):
        with_it = [trial for trial in done if name in trial["hyperparameters"]]
        values = [trial["hyperparameters"][name] for trial in with_it]
        if any(isinstance(value, (str, bool)) for value in values):
            values = [short(str(value)) for value in values]
        elif min(values) > 0 and max(values) >= 10 * min(values):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())  # they would overlap
        scores = [trial["score"] for trial in with_it]
        axes.scatter(values, scores, s=18, alpha=0.7)
        for value, trial in zip(values, with_it, strict=True):
            if trial["trial_id"] == best:
                axes.scatter([value], [trial["score"]], s=90, facecolors="none", edgecolors="tab:red", linewidths=1.5)
        axes.set_xlabel(short(name, 40))
        axes.grid()
    if label.rpartition(" ")[2] not in NOT_SHARES:
        percentages(panels[0].yaxis)  # of all panels, which share it
    for row in range(rows):
        panels[row * columns].set_ylabel(label)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure


def percentages(*axes: Any) -> None:
    """Write the shares along some axes as percentages."""
    from matplotlib.ticker import PercentFormatter

    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1))


def short(name: str, most: int = 18) -> str:
    """Shorten a name to fit beside an axis; matplotlib takes dollar signs for formulas, and leaves out names in `_`."""
    name = visible(name)
    name = (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def _shown_classes(evaluation: Evaluation, scores: Iterable[float | None]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the classes that get a curve, each with (N,) whether an image belongs to it."""
    known = sorted((score, c) for c, score in enumerate(scores) if score is not None)
    if len(evaluation.class_names) == 2 and not evaluation.multi_label:
        known = [each for each in known if each[1] == 1]  # the curve of the other class mirrors it
    for c in sorted(c for _, c in known[:CURVES]):
        yield c, evaluation.labels[:, c] if evaluation.multi_label else evaluation.labels == c
