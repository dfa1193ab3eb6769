"""Plots of what was learned from: epochs, learning rates and trials."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import counted
from ..telling.display import NOT_SHARES
from ..telling.figures import percentages, short
from .display import WIDTH, Display, ink

NOT_DRAWN = ("tuner/",)  # prefix of the hyperparameters that Hyperband itself adds


class LearningRateDisplay(Display):
    """The loss against the learning rate that rises, with the suggestion.

    Args:
        found: what `vggft.find_learning_rate` returned.
    """

    def __init__(self, found: Any):
        self.found = found

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        found, ax = self.found, axes[0]
        ax.plot(found.rates, found.losses, ".", color="tab:blue", alpha=0.3, label="loss")
        ax.plot(found.rates, found.smoothed, color="tab:blue", label="smoothed")
        if found.suggestion is not None:
            ax.axvline(found.suggestion, color="tab:orange", linestyle=":", label=f"{found.suggestion:.1e}")
        ax.set(xscale="log", xlabel=f"Training.{found.field}", ylabel="loss")
        ax.set_ylim(0, 1.5 * found.smoothed[0])  # where training diverges, the loss is far above
        ax.grid(alpha=0.15)
        ax.legend()


class GrowthDisplay(Display):
    """A score against the number of images that were learned from, with the curve up to twice as many as there are.

    Args:
        growth: what `vggft.learning_curve` returned.
    """

    def __init__(self, growth: Any):
        self.growth = growth

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        found, ax = self.growth, axes[0]
        ax.grid(alpha=0.15)
        ax.set(xlabel="images to learn from", ylabel=found.metric.replace("_", " "))
        percentages(ax.yaxis)
        if not found.known:
            ax.annotate(textwrap.fill(found.why, 60), (0.02, 0.5), xycoords="axes fraction", fontsize=8)
            return
        reach = np.abs(found.ends.T - found.scores)
        ax.errorbar(found.sizes, found.scores, reach, fmt="o", color="tab:blue", markersize=4, label="measured")
        ahead = np.geomspace(found.sizes[0], 2 * found.images, 100)
        middle, low, high = found.predict(ahead).T
        ax.plot(ahead, middle, color="tab:orange", label="power law")
        ax.fill_between(ahead, low, high, color="tab:orange", alpha=0.2, linewidth=0, label="90 % interval")
        ax.axvline(found.images, color=ink(), linestyle=":", linewidth=1)
        ax.annotate("now", (found.images, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=8)
        ax.legend(loc="lower right")

    def __repr__(self) -> str:
        return f"<GrowthDisplay of {len(self.growth.sizes)} sizes>"


class HistoryDisplay(Display):
    """Accuracy and loss over the epochs of all phases; a dot marks the epoch whose weights were kept.

    For linear probes that are solved exactly, over the candidates that were compared.

    Args:
        history: `classifier.history`, or a classifier.

    >>> HistoryDisplay([{"phase": "head", "epoch": 1, "loss": 0.5, "val_loss": 0.6}]).plot().axes_.shape
    (2,)
    """

    size = (WIDTH, 4.4)
    panels: Mapping[str, Any] = {"nrows": 2, "ncols": 1, "sharex": True}

    def __init__(self, history: Any):
        self.history: Sequence[Mapping[str, Any]] = getattr(history, "history", history)
        if isinstance(self.history, Mapping):  # of a `History`, whose columns are called so
            self.history = history

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        history = self.history
        epochs = np.arange(1, len(history) + 1)
        starts = [i for i, row in enumerate(history) if i == 0 or row["phase"] != history[i - 1]["phase"]]
        kept = [i for i, row in enumerate(history) if row.get("kept")]
        accuracy = "label_accuracy" if any("label_accuracy" in row for row in history) else "accuracy"
        solved = bool(history) and all(candidate(row) for row in history)
        for ax, metric in zip(axes, (accuracy, "loss"), strict=True):
            for key, label, colour in ((metric, "train", "tab:blue"), (f"val_{metric}", "validation", "tab:orange")):
                values = [row.get(key) for row in history]
                if any(value is not None for value in values):
                    known = np.array([np.nan if value is None else float(value) for value in values])
                    marker = "." if len(history) < 3 or solved else None
                    ax.plot(epochs, known, label=label, color=colour, marker=marker)
                    ax.scatter(epochs[kept], known[kept], color=colour, s=28, zorder=3)
            for start in starts[1:]:
                ax.axvline(start + 0.5, color=ink(), linestyle=":", linewidth=1)
            ax.set_ylabel(metric.replace("_", " "))
            ax.grid()
        percentages(axes[0].yaxis)
        for i, start in enumerate(starts):
            close = i and start - starts[i - 1] < 0.3 * len(history)  # stack the labels
            at, coordinates = (start + 0.5, 1.12 if close else 1.02), ("data", "axes fraction")
            axes[0].annotate(
                short(str(history[start]["phase"]), 40), at, xycoords=coordinates, fontsize=8, annotation_clip=False
            )
        if axes[0].get_legend_handles_labels()[0]:
            axes[0].legend(loc="best")
        axes[-1].set_xlabel("linear probe" if solved else "epoch")
        if solved:
            axes[-1].set_xticks(epochs, [candidate(row) for row in history], rotation=30, ha="right", fontsize=8)
        else:
            axes[-1].xaxis.get_major_locator().set_params(integer=True)

    def __repr__(self) -> str:
        return f"<HistoryDisplay of {counted(len(self.history), 'row')}>"


def candidate(row: Mapping[str, Any]) -> str:
    """Name a linear probe that was solved exactly; "" for an epoch.

    >>> candidate({"strength": 10.0}), candidate({"shrinkage": 0.05}), candidate({"epoch": 1})
    ('C = 10', 'LDA 0.05', '')
    """
    if "strength" in row and "shrinkage" in row:
        return "mean"
    return (
        f"C = {row['strength']:.2g}"
        if "strength" in row
        else f"LDA {row['shrinkage']:.2g}"
        if "shrinkage" in row
        else ""
    )


class TrialsDisplay(Display):
    """Scores against each hyperparameter, one panel each; the best trial is ringed.

    Args:
        trials: trials in the form of `Trial.to_dict`.
        best: the `trial_id` of the best one.
        label: label of the score axis.
        only: plot just this hyperparameter.
    """

    def __init__(self, trials: Sequence[Mapping[str, Any]], best: str, label: str, only: str | None = None):
        self.done = [trial for trial in trials if trial["score"] is not None]
        self.best, self.label = best, label
        self.names = hyperparameters(trials) if only is None else [only]
        columns = max(1, min(2, len(self.names)))
        rows = max(1, math.ceil(len(self.names) / columns))
        self.size = 2.9 * columns + 0.4, 2.6 * rows
        self.panels = {"nrows": rows, "ncols": columns, "sharey": True}

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        from matplotlib.ticker import NullFormatter

        for ax, name in zip(axes, self.names, strict=False):
            with_it = [trial for trial in self.done if name in trial["hyperparameters"]]
            values = [trial["hyperparameters"][name] for trial in with_it]
            if any(isinstance(value, (str, bool)) for value in values):
                values = [short(str(value)) for value in values]
            elif min(values) > 0 and max(values) >= 10 * min(values):
                ax.set_xscale("log")
                ax.xaxis.set_minor_formatter(NullFormatter())  # they would overlap
            ax.scatter(values, [trial["score"] for trial in with_it], s=18, alpha=0.7)
            for value, trial in zip(values, with_it, strict=True):
                if trial["trial_id"] == self.best:
                    ring: dict[str, Any] = {"s": 90, "facecolors": "none", "edgecolors": "tab:red", "linewidths": 1.5}
                    ax.scatter([value], [trial["score"]], **ring)
            ax.set_xlabel(short(name, 40))
            ax.grid()
        if self.label.rpartition(" ")[2] not in NOT_SHARES:
            percentages(axes[0].yaxis)  # of all panels, which share it
        for ax in axes[:: self.panels["ncols"]]:
            ax.set_ylabel(self.label)
        for ax in axes[len(self.names) :]:
            ax.set_visible(False)


def hyperparameters(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the hyperparameters that trials with a score have."""
    names = (name for trial in trials if trial["score"] is not None for name in trial["hyperparameters"])
    return [name for name in dict.fromkeys(names) if not name.startswith(NOT_DRAWN)]
