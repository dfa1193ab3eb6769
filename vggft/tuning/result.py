"""The result of a search: its trials as a table, plots and lines of text, and the winner as a classifier."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..classifier import Classifier
from ..display import render
from ..evaluation.evaluation import Evaluation
from ..evaluation.metrics import METRICS
from ..fields import as_path
from ..report import plots
from ..writing import remove_own, whole_file, write_table
from .trial import Trial, ranked

TOP = 5  # number of trials whose spread shows how much the winner stands out
SHOWN = 10
_CURVES = re.compile(r"events\.out\.tfevents\..*")  # names of TensorBoard's files


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result of `vggft.search`; `str` describes it.

    Args:
        trials: all trials, in the order of their numbers.
        best: the trial with the best score; of equal ones, the one with the lower validation loss.
        classifier: the winner, evaluated on test images if there are any.
        objective: the metric that was searched for, one of `vggft.evaluation.metrics.METRICS`.
        winner: `"scored"` if the classifier has the weights that were scored, `"refit"` if it was retrained on train
            and validation images.
        stopped: why the search ended early; empty if it did not.
    """

    trials: tuple[Trial, ...]
    best: Trial
    classifier: Classifier
    objective: str
    winner: str
    stopped: str = ""

    @property
    def evaluation(self) -> Evaluation | None:
        """The classifier's evaluation: on test images if there is a test split, else on validation images."""
        return self.classifier.evaluation

    @property
    def direction(self) -> str:
        """`"max"` or `"min"`."""
        return METRICS[self.objective].direction

    @property
    def test_score(self) -> float | None:
        """The objective on test images, which no trial used; None without a test split."""
        evaluation = self.evaluation
        return evaluation[self.objective] if evaluation is not None and evaluation.split == "test" else None

    @property
    def gap(self) -> float | None:
        """Validation score of the best trial minus test score; above 0, a validation accuracy was too optimistic."""
        test, best = self.test_score, self.best.score
        return None if test is None or best is None else best - test

    @property
    def top(self) -> tuple[float, float]:
        """The lowest and the highest score of the five best trials."""
        scores = [trial.score or 0.0 for trial in ranked(self.trials, self.direction)[:TOP]]
        return min(scores), max(scores)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without the trials, which `to_csv` writes."""
        failed = sum(trial.status == "failed" for trial in self.trials)
        return {
            "objective": self.objective,
            "direction": self.direction,
            "trials": len(self.trials),
            "failed": failed,
            "best": self.best.to_dict(),
            "winner": self.winner,
            "stopped": self.stopped,
            "validation_score": self.best.score,
            "test_score": self.test_score,
            "gap": self.gap,
            f"top_{TOP}": list(self.top),
        }

    def to_csv(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write all trials as CSV, one row each."""
        path = as_path(path)
        write_table(path, [trial.to_row() for trial in self.trials], overwrite=overwrite)
        return path

    def plot(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Plot the score against each hyperparameter into an image file."""
        path = as_path(path)
        with plots.style(), whole_file(path, overwrite) as aside:
            given = [trial.to_dict() for trial in self.trials]
            figure = plots.trials(given, self.best.trial_id, f"validation {self.objective}")
            figure.savefig(aside, format=path.suffix.lstrip(".") or "png", dpi=150)
        return path

    def __str__(self) -> str:
        low, high = self.top
        lines = [f"{len(self.trials)} trials, objective: validation {self.objective} ({self.direction})"]
        order = [*ranked(self.trials, self.direction), *(t for t in self.trials if t.status == "failed")]
        lines += [f"  {line(trial)}" for trial in order[:SHOWN]]
        if len(self.trials) > SHOWN:
            lines.append(f"  ... and {len(self.trials) - SHOWN} more")
        what = {
            "scored": "its weights are the ones that were scored",
            "refit": "it was retrained on train and validation images",
        }[self.winner]
        lines.append(
            f"The best is trial {self.best.trial_id}; {what}. The best {TOP} trials score {low:.3f} to {high:.3f}."
        )
        if self.test_score is None:
            lines.append("Without a test split (for example test=0.2), it is unknown how optimistic that score is.")
        else:
            lines.append(
                f"Validation {self.objective} {self.best.score:.3f}, test {self.test_score:.3f}: a gap of "
                f"{self.gap:+.3f}. Test images were used once, to evaluate the winner."
            )
        return "\n".join([*lines, *([self.stopped] if self.stopped else [])])

    def _repr_html_(self) -> str:
        order = [*ranked(self.trials, self.direction), *(t for t in self.trials if t.status == "failed")]
        return render("search.html", result=self, trials=order, limit=SHOWN)

    def __repr__(self) -> str:
        told = f"validation {self.objective} {self.best.score:.3f}"
        told += "" if self.test_score is None else f", test {self.test_score:.3f}"
        return f"<SearchResult of {len(self.trials)} trials, best {self.best.trial_id}: {told}>"


def line(trial: Trial) -> str:
    """Format a trial in one line."""
    drawn = ", ".join(f"{name} {_short(value)}" for name, value in trial.hyperparameters.items() if _shown(name))
    if trial.score is None:
        return f"{trial.trial_id}  failed   {drawn}: {trial.to_row()['reason']}"
    spread = "" if trial.interval is None else f" ({trial.interval[0]:.3f} to {trial.interval[1]:.3f})"
    return f"{trial.trial_id}  {trial.score:.4f}{spread}  {drawn}  [{trial.way}]"


def write_hparams(directory: Path, trials: Sequence[Trial], objective: str) -> None:
    """Write trials for TensorBoard's HParams plugin, one run each."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

    remove_own(directory, _CURVES, folders=True)  # a kill may have left it unfinished
    for trial in trials:
        if trial.score is not None:
            with tf.summary.create_file_writer(str(directory / trial.trial_id)).as_default():
                shown = {name: value for name, value in trial.hyperparameters.items() if _shown(name)}
                hparams.hparams(shown, trial_id=trial.trial_id)
                for name, value in {f"val_{objective}": trial.score, **(trial.metrics or {})}.items():
                    tf.summary.scalar(name, value, step=0)


def _shown(name: str) -> bool:
    return not name.startswith(plots.NOT_DRAWN)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
