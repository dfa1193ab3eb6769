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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.errors import FailedTrialError, FatalError

from ..config import Head, Training
from ..errors import SearchError
from ..files.writing import explained, remove_own, write_whole
from .oracles import STATE, in_a_row
from .rounds import Done, Job, Rounds
from .space import Declare
from .trial import PROJECT, RUNG, WEIGHTS, Trial, ranked, read_outcome, read_outcomes, write_outcome, write_rung
from .workers import is_chief, is_worker

STATES = re.compile(r"(oracle|tuner\d+|chief|worker\d+)\.json")  # names of KerasTuner's own files
WAIT = 0.5  # seconds until an oracle that waits for other workers is asked again


def clear_project(directory: Path) -> None:
    """Delete KerasTuner's own state files, which it would reload; `STATE` holds all of it."""
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
        with _quietly(), explained(directory / PROJECT):
            super().__init__(oracle, hypermodel=declare, directory=str(directory), project_name=PROJECT)
        if not is_worker():
            oracle.state_file = directory / STATE
            with explained(self.project):
                oracle.restore(self.project)
            if is_chief():  # a chief sees only the end of a trial
                oracle.on_end = self._heard
            # Without it, KerasTuner would treat the project as new.
            write_whole(self.project / "tuner0.json", "{}", overwrite=True)

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
        if is_chief():
            with _quietly(), explained(self.project):
                super().search(verbose=0)
            self._drop_rungs(set())
            return
        with _without_warnings(), explained(self.project):  # KerasTuner writes its own files
            self.local.held = not is_worker()
            open_ids = [f"{self.tuner_id}-{n}" for n in range(self.parallel)]
            while open_ids and not self.local.failures:
                trials, open_ids = self._ask(open_ids)
                if trials:
                    self._round(trials)
                elif open_ids:
                    time.sleep(WAIT)  # other workers have to end their trials first
                if not is_worker():
                    self.local.keep()
                    self._drop_rungs(self.local.candidates)
        if not is_worker():
            self._drop_rungs(set())

    def _ask(self, ids: Sequence[str]) -> tuple[list[Any], list[str]]:
        """Return trials for these ids, and the ids that may get further ones."""
        trials, still_open = [], []
        for name in ids:
            with _quietly():
                trial = self.oracle.create_trial(name)
            if trial.status == "RUNNING":
                trials.append(trial)
            if trial.status != "STOPPED":
                still_open.append(name)
        return trials, still_open

    def _round(self, trials: Sequence[Any]) -> None:
        """Train the trials that have no outcome yet, then report all of them.

        The round ends early after several failures in a row, by the numbers of the trials; with workers, it does not.
        """
        jobs = [self._try(partial(self._job, trial)) for trial in trials]
        ended: dict[str, Trial] = {}
        for trial, job in zip(trials, jobs, strict=True):
            if isinstance(job, Done):
                self._keep(job, ended)
            elif found := read_outcome(self.project / f"trial_{trial.trial_id}", job.hyperparameters):
                ended[trial.trial_id] = found
                self._tell(found)
        for group in self.rounds.groups([job for job in jobs if isinstance(job, Job)]):
            if self._stops(trials, ended):
                break
            if not all(job.trial_id in ended for job in group):
                for job, done in zip(group, self.rounds.train(group, self.on_epochs), strict=True):
                    self._keep(self._try(partial(self._alone, job), done), ended)
                self._keep_best()
        for trial in trials:
            if trial.trial_id in ended:
                self._report(trial, ended[trial.trial_id])

    def _alone(self, job: Job) -> Done:
        (done,) = self.rounds.train([job])
        return done

    def _try(self, once: Callable[[], Any], found: Any = None) -> Any:
        """Return what a function returns, called again as often as the oracle allows while a trial crashes."""
        tries = self.local.tries
        for _ in range(tries if found is None else tries - 1):
            if found is not None and not (isinstance(found, Done) and found.again):
                break
            found = once()
        return found

    def _stops(self, trials: Sequence[Any], ended: Mapping[str, Trial]) -> bool:
        """Whether as many trials in a row have failed as end the search."""
        if is_worker():  # the chief waits for the end of every trial
            return False
        before = [(each, self.local.trials[each].status == "FAILED") for each in self.local.end_order]
        now = [(t.trial_id, t.trial_id in ended and ended[t.trial_id].status == "failed") for t in trials]
        return bool(in_a_row([*before, *now], self.local.most_failures))

    def _job(self, trial: Any) -> Job | Done:
        """Make the job of a trial; a space that is a function may fail here."""
        hp, past = trial.hyperparameters, None
        try:
            setting = self.declare(hp)
            values = dict(hp.values)  # including those that a function has just declared
            training = setting.training
            if self.local.epochs is not None and training.epochs is None:
                training = replace(training, epochs=self.local.epochs)
            if self.rounds.callbacks:  # which only see epochs
                training = replace(training, probe="epochs")
            whole = training.resolve(self.images, self.rounds.experiment.pretrained.width)
            training = self._share(whole, values.get("tuner/epochs"))
            if (before := values.get("tuner/trial_id")) is not None:
                past = self.project / f"trial_{before}", self._share(whole, values["tuner/initial_epoch"])
            setting = replace(setting, training=training)
        except FatalError:
            raise
        except Exception as error:
            values, reason = dict(hp.values), f"{type(error).__name__}: {error}"
            failed = Trial(trial.trial_id, "failed", values, (), Head(), Training(), reason=reason)
            return Done(failed, again=not isinstance(error, FailedTrialError))
        return Job(trial.trial_id, values, setting, past)

    def _share(self, training: Training, parts: int | None) -> Training:
        """Return Hyperband's share of the epochs of a training; all of them for another oracle."""
        return training if parts is None else share(training, parts / self.local.max_epochs)

    def _keep(self, done: Done, ended: dict[str, Trial]) -> None:
        trial = done.trial
        if trial.trial_id not in ended:
            self.rounds.run.check_there()
            folder = self.project / f"trial_{trial.trial_id}"
            if done.fitted and trial.hyperparameters.get("tuner/epochs", math.inf) < getattr(
                self.local, "max_epochs", 0
            ):
                write_rung(folder, done.fitted)  # Hyperband may continue it
            write_outcome(folder, trial, done.weights)
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
            goal, metrics = self.rounds.goal, outcome.metrics or {}
            assert outcome.score is not None
            values = {name: metrics.get(f"val_{name}", outcome.score) for name in goal.metrics}
            reported = {**metrics, **goal.reported(values)}
            epochs = outcome.epochs or {}
            self.oracle.update_trial(trial.trial_id, reported, step=max(epochs.values(), default=0))
            trial.status = "COMPLETED"
        else:
            trial.status, trial.message = "FAILED", outcome.reason
        with _quietly():
            self.oracle.end_trial(trial)

    def _keep_best(self) -> None:
        """Delete the weights of trials that are not among the best."""
        with_weights = {path.parent for path in self.project.glob(f"trial_*/{WEIGHTS}")}
        outcomes = [outcome for folder in with_weights if (outcome := read_outcome(folder))]
        for loser in ranked(outcomes, self.oracle.objective.direction)[self.keep_top :]:
            (self.project / f"trial_{loser.trial_id}" / WEIGHTS).unlink(missing_ok=True)

    def _drop_rungs(self, kept: set[str]) -> None:
        """Delete what no other trial will continue."""
        for path in self.project.glob(f"trial_*/{RUNG}"):
            if path.parent.name.removeprefix("trial_") not in kept:
                path.unlink()

    def outcomes(self) -> tuple[list[Trial], str]:
        """Return all trials that ended, in the order of their numbers, and why the search ended early, if it did.

        Raises:
            SearchError: no trial was completed; the message gives the reasons.
        """
        found = read_outcomes(self.project)
        last = list(self.local.failures)
        failed = [t for t in found if t.trial_id in last] or [t for t in found if t.status == "failed"][-1:]
        told = "".join(f"\n  - trial {trial.trial_id}: {trial.to_row()['reason']}" for trial in failed)
        if not any(trial.status == "completed" for trial in found):
            headline = f"{len(last)} trials failed in a row" if last else "No trial was completed"
            raise SearchError(f"{headline}, so the search has ended:{told}")
        early = last and len(found) < (self.local.max_trials or 0)
        return found, f"{len(last)} trials failed in a row, so the search ended early:{told}" if early else ""


def share(training: Training, share: float) -> Training:
    """Reduce the epochs to a share."""
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
    """Silence KerasTuner, and not what callbacks and spaces of a user print."""
    with _without_warnings(), redirect_stdout(io.StringIO()):
        yield


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence KerasTuner's deprecated calls, and scikit-learn's warnings about few points."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="currentThread|getName", category=DeprecationWarning)
        warnings.filterwarnings("ignore", module="sklearn")
        warnings.filterwarnings("ignore", module="keras_tuner")
        yield
