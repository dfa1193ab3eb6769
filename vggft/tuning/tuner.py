"""KerasTuner's tuner, which asks its oracle for a round of trials at a time, so that they can be trained together.

An oracle gives each tuner id one trial, the same one until it has ended, so a round of K trials uses K ids. A round is
reported to the oracle as a whole. A search that was killed asks for the same round again, and trains the trials that
have no outcome yet.
"""

from __future__ import annotations

import io
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner

from ..config import Head, Training
from ..errors import SearchError
from ..writing import remove_own, write_whole
from .rounds import Done, Job, Rounds
from .space import Declare
from .trial import WEIGHTS, Trial, ranked, read_outcome, read_outcomes, write_outcome
from .workers import is_chief, is_worker

PROJECT = "trials"
STATES = re.compile(r"(oracle|tuner\d+|chief|worker\d+)\.json")  # names of KerasTuner's own files
WAIT = 0.5  # seconds until an oracle that waits for other workers is asked again


def clear_project(directory: Path) -> None:
    """Delete KerasTuner's own state files, which it would reload; `search_state.json` holds all of it."""
    remove_own(directory / PROJECT, STATES)


class HeadTuner(keras_tuner.Tuner):  # type: ignore[misc]
    """Runs a search round by round.

    Args:
        oracle: the result of `make_oracle`.
        declare: turns hyperparameters into a setting.
        rounds: trains the trials.
        directory: the parent of KerasTuner's project, `trials`.
        parallel: maximum number of trials in a round.
        images: number of training images, by which open fields of a training are resolved.
        keep_top: number of trials whose weights are kept.
        on_trial: called with every trial that has ended, including those of earlier processes.
        on_epochs: called with the number of epochs that have been done.
    """

    def __init__(
        self,
        oracle: Any,
        declare: Declare,
        rounds: Rounds,
        *,
        directory: Path,
        parallel: int,
        images: int,
        keep_top: int,
        on_trial: Callable[[Trial], object],
        on_epochs: Callable[[int], object] = lambda epochs: None,
    ):
        self.declare, self.rounds, self.parallel, self.images = declare, rounds, parallel, images
        self.keep_top, self.on_trial, self.on_epochs = keep_top, on_trial, on_epochs
        self.local = oracle  # in a worker, KerasTuner makes `oracle` a client of the chief's
        oracle.verbose = 0
        with _quietly():
            super().__init__(oracle, hypermodel=declare, directory=str(directory), project_name=PROJECT)
        if not is_worker():
            oracle.state_file = directory / "search_state.json"
            oracle.restore(self.project)
            if is_chief():  # a chief sees only the end of a trial
                oracle.on_end = self._heard
            write_whole(
                self.project / "tuner0.json", "{}", overwrite=True
            )  # without it, KerasTuner would treat the project as new

    @property
    def project(self) -> Path:
        """KerasTuner's directory of this search."""
        return Path(self.project_dir)

    def search(self, *arguments: Any, **keywords: Any) -> None:
        """Run all rounds; in a chief, hand out trials until there are no more."""
        heard = set(self.local.end_order)
        for trial in read_outcomes(self.project):
            if trial.trial_id in heard:
                self._tell(trial)
        with _quietly():
            if is_chief():
                super().search(verbose=0)
                return
            self.local.held = not is_worker()
            open_ids = [f"{self.tuner_id}-{n}" for n in range(self.parallel)]
            while open_ids:
                trials, open_ids = self._ask(open_ids)
                if trials:
                    self._round(trials)
                elif open_ids:
                    time.sleep(WAIT)  # other workers have to end their trials first
                if not is_worker():
                    self.local.keep()

    def _ask(self, ids: Sequence[str]) -> tuple[list[Any], list[str]]:
        """Return trials for these ids, and the ids that may get further ones."""
        trials, still_open = [], []
        for name in ids:
            trial = self.oracle.create_trial(name)
            if trial.status == "RUNNING":
                trials.append(trial)
            if trial.status != "STOPPED":
                still_open.append(name)
        return trials, still_open

    def _round(self, trials: Sequence[Any]) -> None:
        """Train the trials that have no outcome yet, then report all of them."""
        jobs = [self._job(trial) for trial in trials]
        ended: dict[str, Trial] = {}
        for trial, job in zip(trials, jobs, strict=True):
            if isinstance(job, Done):
                self._keep(job, ended)
            elif found := read_outcome(self.project / f"trial_{trial.trial_id}", job.hyperparameters):
                ended[trial.trial_id] = found
                self._tell(found)
        for group in self.rounds.groups([job for job in jobs if isinstance(job, Job)]):
            if not all(job.trial_id in ended for job in group):
                for done in self.rounds.train(group, self.on_epochs):
                    self._keep(done, ended)
                self._keep_best()
        for trial in trials:
            self._report(trial, ended[trial.trial_id])

    def _job(self, trial: Any) -> Job | Done:
        """Make the job of a trial; a space that is a function may fail here."""
        hp = trial.hyperparameters
        try:
            setting = self.declare(hp)
            values = dict(hp.values)  # including those that a function has just declared
            training = setting.training.resolve(self.images, self.rounds.experiment.pretrained.width)
            if (parts := values.get("tuner/epochs")) is not None:  # Hyperband's share of the epochs
                training = _share(training, parts / self.local.max_epochs)
            setting = replace(setting, training=training)
        except Exception as error:
            values, reason = dict(hp.values), f"{type(error).__name__}: {error}"
            return Done(Trial(trial.trial_id, "failed", values, (), Head(), Training(), reason=reason), None)
        return Job(trial.trial_id, values, setting)

    def _keep(self, done: Done, ended: dict[str, Trial]) -> None:
        trial = done.trial
        if trial.trial_id not in ended:
            write_outcome(self.project / f"trial_{trial.trial_id}", trial, done.weights)
            ended[trial.trial_id] = trial
            self.on_trial(trial)

    def _tell(self, trial: Trial) -> None:
        """Report a trial that was trained elsewhere or earlier."""
        self.on_trial(trial)
        self.on_epochs(len(self.rounds.folds) * (trial.training.epochs or 1))

    def _heard(self, trial_id: str) -> None:
        if found := read_outcome(self.project / f"trial_{trial_id}"):
            self._tell(found)

    def _report(self, trial: Any, outcome: Trial) -> None:
        """Tell the oracle how a trial ended."""
        if outcome.status == "completed":
            name = self.oracle.objective.name
            assert outcome.score is not None
            reported = {**(outcome.metrics or {}), name: outcome.score}
            epochs = outcome.epochs or {}
            self.oracle.update_trial(trial.trial_id, reported, step=max(epochs.values(), default=0))
            trial.status = "COMPLETED"
        else:
            trial.status, trial.message = "FAILED", outcome.reason
        self.oracle.end_trial(trial)

    def _keep_best(self) -> None:
        """Delete the weights of trials that are not among the best."""
        with_weights = {path.parent for path in self.project.glob(f"trial_*/{WEIGHTS}")}
        outcomes = [outcome for folder in with_weights if (outcome := read_outcome(folder))]
        for loser in ranked(outcomes, self.oracle.objective.direction)[self.keep_top :]:
            (self.project / f"trial_{loser.trial_id}" / WEIGHTS).unlink(missing_ok=True)

    def outcomes(self) -> tuple[list[Trial], str]:
        """Return all trials that ended, in the order of their numbers, and why the search ended early, if it did.

        Raises:
            SearchError: no trial was completed; the message gives the reasons.
        """
        found = read_outcomes(self.project)
        last = set(self.local.failures)
        failed = [t for t in found if t.trial_id in last] or [t for t in found if t.status == "failed"][-1:]
        told = "".join(f"\n  - trial {trial.trial_id}: {trial.to_row()['reason']}" for trial in failed)
        if not any(trial.status == "completed" for trial in found):
            headline = f"{len(last)} trials failed in a row" if last else "No trial was completed"
            raise SearchError(f"{headline}, so the search has ended:{told}")
        early = last and len(found) < (self.local.max_trials or 0)
        return found, f"{len(last)} trials failed in a row, so the search ended early:{told}" if early else ""


def _share(training: Training, share: float) -> Training:
    """Reduce the epochs to a share. Each rung is trained from the start, since its schedule spans its epochs."""
    phases = training.phases
    if not isinstance(phases, str):
        phases = tuple(replace(phase, epochs=phase.epochs and math.ceil(share * phase.epochs)) for phase in phases)
    return replace(
        training,
        epochs=math.ceil(share * (training.epochs or 1)),
        fine_tune_epochs=math.ceil(share * (training.fine_tune_epochs or 1)),
        phases=phases,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence KerasTuner's printing and deprecated calls, and scikit-learn's warnings about few points."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", message="currentThread|getName", category=DeprecationWarning)
        warnings.filterwarnings("ignore", module="sklearn")
        warnings.filterwarnings("ignore", module="keras_tuner")
        yield
