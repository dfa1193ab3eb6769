"""The result of a search: its trials as a table, plots and lines of text, and the winner as a classifier."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from ..classifier import Classifier
from ..drawing.curves import NOT_DRAWN, TrialsDisplay
from ..drawing.display import Plotted
from ..errors import SearchError, short_traceback
from ..evaluation.evaluation import Evaluation
from ..fields import as_path, check_count
from ..files.writing import explained, remove_own, write_table
from ..network.assembly import Network
from ..network.description import Description
from ..network.weights import Pretrained
from ..telling.display import render
from ..training.experiment import Experiment
from ..training.phases import Setting
from .goals import Goal
from .oracles import space_of
from .trial import PROJECT, WEIGHTS, Trial, ranked, read_weights

TOP = 5  # number of trials whose spread shows how much the winner stands out
SHOWN = 10
MOST = 100_000  # trials
_CURVES = re.compile(r"events\.out\.tfevents\..*")  # names of TensorBoard's files


@dataclass(frozen=True)
class Kept:
    """What it takes to build the networks of the trials whose weights were kept.

    Args:
        folder: KerasTuner's project.
        pretrained: weights of the blocks.
        descriptions: of the network of each trial that was completed.
        space: the hyperparameters, as KerasTuner configures them.
    """

    folder: Path
    pretrained: Pretrained
    descriptions: Mapping[str, Description]
    space: list[Any]

    def model(self, trial: Trial) -> keras.Model:
        """Build the network of a trial.

        Raises:
            SearchError: its weights were not kept.
        """
        if (weights := read_weights(self.folder / f"trial_{trial.trial_id}")) is None:
            kept = len(list(self.folder.glob(f"trial_*/{WEIGHTS}")))
            raise SearchError(
                f"The weights of trial {trial.trial_id} are not in {self.folder}, which has those of {kept}: search "
                "with a larger keep_top (--keep-top), or train it by vggft.finetune with its head, training and freeze."
            )
        return Network(self.descriptions[trial.trial_id], self.pretrained, weights).model


@short_traceback
@dataclass(frozen=True, eq=False)
class SearchResult(Plotted[TrialsDisplay]):
    """The result of `vggft.search`; `str` describes it.

    Args:
        trials: all trials, in the order of their numbers.
        best: the trial with the best score; of equal ones, the one with the lower validation loss.
        classifier: the winner, evaluated on test images if there are any.
        goal: what was searched for: one metric, or several together.
        winner: `"scored"` if the classifier has the weights that were scored, `"refit"` if it was retrained on train
            and validation images.
        stopped: why the search ended early; empty if it did not.
        kept: what `get_best_models` builds networks from.
    """

    trials: tuple[Trial, ...]
    best: Trial
    classifier: Classifier
    goal: Goal
    winner: str
    stopped: str = ""
    kept: Kept | None = field(default=None, repr=False)

    @property
    def evaluation(self) -> Evaluation | None:
        """The classifier's evaluation: on test images if there is a test split, else on validation images."""
        return self.classifier.evaluation

    @property
    def objective(self) -> str:
        """The metric, one of `vggft.evaluation.metrics.METRICS`; several as `"log_loss - accuracy"`."""
        return str(self.goal)

    @property
    def direction(self) -> str:
        """`"max"` or `"min"`."""
        return self.goal.direction

    @property
    def test_score(self) -> float | None:
        """The objective on test images, which no trial used; None without a test split."""
        evaluation = self.evaluation
        if evaluation is None or evaluation.split != "test":
            return None
        values = {name: value for name in self.goal.metrics if (value := evaluation[name]) is not None}
        return self.goal.score(values) if len(values) == len(self.goal.metrics) else None

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

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Return the hyperparameters of the best trials, best first, as KerasTuner's tuners do.

        Args:
            num_trials: of so many trials; fewer if fewer were completed.
        """
        check_count("num_trials", num_trials, 1, MOST)
        space = [] if self.kept is None else self.kept.space
        return [
            keras_tuner.HyperParameters.from_config({"space": space, "values": trial.hyperparameters})
            for trial in ranked(self.trials, self.direction)[:num_trials]
        ]

    def get_best_models(self, num_models: int = 1) -> list[keras.Model]:
        """Return the networks of the best trials with the weights that were scored, best first, as KerasTuner's tuners
        do: (B, height, width, 3) RGB 0..255 -> (B, num_classes) float32 probabilities.

        With folds, the weights are of the first fold. `keep_top` of `vggft.search` says how many trials have weights.

        Args:
            num_models: of so many trials; fewer if fewer were completed.

        Raises:
            SearchError: the weights of one of them were not kept.
        """
        check_count("num_models", num_models, 1, MOST)
        if self.kept is None:
            raise SearchError("This result has no weights of trials.")
        return [self.kept.model(trial) for trial in ranked(self.trials, self.direction)[:num_models]]

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

    def _display(self) -> TrialsDisplay:
        trials = [trial.to_dict() for trial in self.trials]
        return TrialsDisplay(trials, self.best.trial_id, f"validation {self.objective}")

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
            lines += [] if self.evaluation is None else [repr(self.evaluation)]
            lines.append("Without a test split (for example test=0.2), it is unknown how optimistic that score is.")
        else:
            lines.append(repr(self.evaluation))
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


def result_of(
    experiment: Experiment,
    goal: Goal,
    winner: str,
    trials: Sequence[Trial],
    best: Trial,
    classifier: Classifier,
    stopped: str,
    place: Path,
) -> SearchResult:
    """Return the result of the search in the directory `place`, with what it takes to build the networks of trials."""
    completed = ranked(trials, goal.direction)
    describe = {t.trial_id: experiment.describe(Setting(t.frozen, t.head, t.training)) for t in completed}
    kept = Kept(place / PROJECT, experiment.pretrained, describe, space_of(place))
    return SearchResult(tuple(trials), best, classifier, goal, winner, stopped, kept)


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
    with explained(directory):
        for trial in trials:
            if trial.score is not None:
                with tf.summary.create_file_writer(str(directory / trial.trial_id)).as_default():
                    shown = {name: value for name, value in trial.hyperparameters.items() if _shown(name)}
                    hparams.hparams(shown, trial_id=trial.trial_id)
                    for name, value in {f"val_{objective}": trial.score, **(trial.metrics or {})}.items():
                        tf.summary.scalar(name, value, step=0)


def _shown(name: str) -> bool:
    return not name.startswith(NOT_DRAWN)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
