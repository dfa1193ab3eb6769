"""Train the trials of a round: those whose heads have one shape as a population, the others alone."""

from __future__ import annotations

import copy
import gc
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras_tuner.errors import FailedTrialError, FatalError
from scipy import stats

from ..config import Training
from ..errors import CacheError, WriteError
from ..evaluation.checks import score
from ..evaluation.metrics import accuracy_of
from ..features.cuts import cut_of
from ..files.writing import full_disk
from ..heads.batches import FeatureBank
from ..heads.population import (
    Member,
    Programs,
    alike,
    fit_in_memory,
    size_for,
    train_population,
    why_alone,
)
from ..heads.probe import is_exact
from ..heads.resampling import Fitted, Fold, continued
from ..network.blocks import BLOCKS
from ..run import RunDirectory
from ..telling.progress import Narrator
from ..training.experiment import Experiment
from ..training.phases import Setting
from ..training.train import train
from .goals import Goal
from .trial import Trial, read_rung


@dataclass(frozen=True)
class Job:
    """A trial to train; `setting.training` is resolved.

    Args:
        past: the folder of the trial that it continues, and that trial's resolved training; None for none.
    """

    trial_id: str
    hyperparameters: dict[str, Any]
    setting: Setting
    past: tuple[Path, Training] | None = None


@dataclass(frozen=True)
class Done:
    """A trial that has ended.

    Args:
        fitted: what it learned on each fold, by the fold's name; empty if it failed.
        again: whether it failed by an error that another try may not meet.
    """

    trial: Trial
    fitted: dict[str, Fitted] = field(default_factory=dict)
    again: bool = False

    @property
    def weights(self) -> dict[str, np.ndarray] | None:
        """The weights of the first fold."""
        return next((each.weights for each in self.fitted.values()), None)


class Rounds:
    """Trains the trials of a search, a round at a time.

    Args:
        experiment: what all trials share.
        bank: a bank with the features of every cut that a trial may start from.
        folds: the folds on which each trial is trained; its score is the mean.
        goal: what trials are scored by.
        run: where trials that train blocks keep their resume points.
        callbacks: callbacks of Keras; every training has copies of its own.
    """

    def __init__(
        self,
        experiment: Experiment,
        bank: FeatureBank,
        folds: Sequence[Fold],
        goal: Goal,
        run: RunDirectory,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self.experiment, self.bank, self.folds, self.goal, self.run = experiment, bank, folds, goal, run
        self.programs, self.callbacks = Programs(), callbacks

    def groups(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Yield the jobs in groups that are trained together.

        Groups do not depend on which trials have ended, so that a resumed round has the same groups.
        """
        groups: dict[tuple[Any, ...], list[Job]] = {}
        for job in jobs:
            setting = job.setting
            alone, remaining = self.why_alone(setting), replace(setting.training, epochs=_remaining(job))
            key = (job.trial_id,) if alone else (job.past and job.past[1].epochs, *alike(setting.head, remaining))
            groups.setdefault(key, []).append(job)
        for group in groups.values():
            head = group[0].setting.head
            features = self.bank.inputs(cut_of(BLOCKS, head)).shape[1]
            most = size_for(features, head.units, len(self.experiment.pool.class_names))
            for start in range(0, len(group), most):
                yield group[start : start + most]

    def why_alone(self, setting: Setting) -> str:
        """Say why a trial is trained alone; empty if it is a member of a population."""
        if setting.frozen != BLOCKS:
            return "blocks learn"
        if reason := "callbacks" if self.callbacks else why_alone(setting.head, setting.training):
            return reason
        features = self.bank.arrays(cut_of(BLOCKS, setting.head) or "")
        return "" if fit_in_memory(features) else "features larger than memory"

    def train(self, jobs: Sequence[Job], on_epochs: Callable[[int], object] = lambda epochs: None) -> list[Done]:
        """Train one of the `groups`. A trial that fails gives its reason and does not affect the others."""
        if alone := self.why_alone(jobs[0].setting):
            return [self._train_alone(job, f"alone: {alone}", on_epochs) for job in jobs]
        started = time.monotonic()
        way = f"population of {len(jobs)}"
        try:
            together = [self._train_together(jobs, fold, on_epochs) for fold in self.folds]
        except (MemoryError, tf.errors.ResourceExhaustedError):
            return [self._train_alone(job, "alone: no memory for a population", on_epochs) for job in jobs]
        except FatalError:
            raise
        except Exception as error:
            return [self._failed(job, error, time.monotonic() - started, way) for job in jobs]
        seconds = (time.monotonic() - started) / len(jobs)
        return [self._scored(job, [fitted[n] for fitted in together], seconds, way) for n, job in enumerate(jobs)]

    def _train_together(self, jobs: Sequence[Job], fold: Fold, on_epochs: Callable[[int], object]) -> list[Fitted]:
        cut = cut_of(BLOCKS, jobs[0].setting.head)
        begun = [each for job in jobs if (each := _begun(job, fold))]
        goes_on = len(begun) == len(jobs)  # else some were not kept, and all begin
        fitted = train_population(
            [Member(job.setting.head, replace(job.setting.training, epochs=_remaining(job, goes_on))) for job in jobs],
            self.bank.examples(cut, fold.train),
            self.bank.judged(cut, fold.validation),
            multi_label=self.experiment.pool.multi_label,
            seed=fold.seed + (_done(jobs[0]) if goes_on else 0),  # as in `train`
            class_names=self.experiment.pool.class_names,
            programs=self.programs,
            start=[each.weights for each in begun] if goes_on else None,
            keep_start=goes_on,
            on_epoch=on_epochs,
        )
        if not goes_on:
            return fitted
        pairs = zip(begun, fitted, strict=True)
        return [replace(each, history=continued(past.history, each.history)) for past, each in pairs]

    def _train_alone(self, job: Job, way: str, on_epochs: Callable[[int], object]) -> Done:
        started = time.monotonic()
        try:
            fitted = [self._train_fold(job, fold) for fold in self.folds]
        except FatalError:
            raise
        except Exception as error:
            done = self._failed(job, error, time.monotonic() - started, way)
        else:
            done = self._scored(job, fitted, time.monotonic() - started, way)
        keras.backend.clear_session()
        gc.collect()
        on_epochs(len(self.folds) * _remaining(job))
        return done

    def _train_fold(self, job: Job, fold: Fold) -> Fitted:
        """Train on one fold; resume points are deleted when it has ended or failed, but kept after an interruption."""
        run = self.run.inside(f"trials/trial_{job.trial_id}/{fold.name}")
        try:
            how: dict[str, Any] = {"run": run, "narrator": Narrator(0), "predict": True}
            how |= {"callbacks": self._callbacks(job, fold)}
            if begun := _begun(job, fold):
                before = replace(job.setting, training=job.past[1])  # type: ignore[index]
                how |= {"begun": begun, "epochs": self.experiment.phases(before)[-1].epochs}
            fitted = train(self.experiment, self.bank, job.setting, fold, **how)
        except Exception:
            run.drop_points()
            raise
        run.drop_points()
        return fitted

    def _callbacks(self, job: Job, fold: Fold) -> list[keras.callbacks.Callback]:
        """Return copies of the callbacks; those for TensorBoard write into a folder for each training."""
        found = copy.deepcopy(list(self.callbacks))
        for callback in found:
            if isinstance(callback, keras.callbacks.TensorBoard):
                callback.log_dir = str(Path(callback.log_dir) / job.trial_id / fold.name)
        return found

    def _scored(self, job: Job, fitted: Sequence[Fitted], seconds: float, way: str) -> Done:
        """Score a trial by the mean of the objective over its folds; it fails if they do not define it."""
        pool = self.experiment.pool
        right = accuracy_of(pool.multi_label)
        metrics = tuple(dict.fromkeys((*self.goal.metrics, right, "log_loss")))
        values: dict[str, list[float]] = {metric: [] for metric in metrics}
        try:
            for fold, each in zip(self.folds, fitted, strict=True):
                assert each.probabilities is not None
                targets = pool.targets[fold.validation]
                labels = targets.astype("uint8") if pool.multi_label else targets.argmax(axis=1)
                for metric in metrics:
                    values[metric].append(score(metric, labels, each.probabilities, pool.multi_label))
        except ValueError as error:
            return self._failed(job, error.with_traceback(None), seconds, way)
        scores = [self.goal.score(dict(zip(metrics, each, strict=True))) for each in zip(*values.values(), strict=True)]
        kept = metrics if len(self.goal.metrics) > 1 else (right, "log_loss")
        interval = None
        mean = float(np.mean(scores))
        if len(scores) > 1:
            half = float(stats.sem(scores) * stats.t.ppf(0.975, len(scores) - 1))
            interval = (mean - half, mean + half)
        phases = {phase for each in fitted for phase in each.epochs}
        trial = Trial(
            trial_id=job.trial_id,
            status="completed",
            hyperparameters=job.hyperparameters,
            frozen=job.setting.frozen,
            head=job.setting.head,
            training=job.setting.training,
            score=mean,
            scores=tuple(scores),
            interval=interval,
            metrics={f"val_{metric}": float(np.mean(values[metric])) for metric in kept},
            epochs={phase: round(np.mean([each.epochs[phase] for each in fitted])) for phase in sorted(phases)},
            seconds=seconds,
            way=way,
            history=tuple(fitted[0].history),
        )
        return Done(trial, {fold.name: each for fold, each in zip(self.folds, fitted, strict=True)})

    def _failed(self, job: Job, error: Exception, seconds: float, way: str) -> Done:
        if isinstance(error, (CacheError, WriteError)):  # which are not of the trial: it is trained when there is room
            raise error
        if (place := full_disk(error, self.run.path or Path(tempfile.gettempdir()))) is not None:
            raise WriteError(f"Trial {job.trial_id} cannot be trained: the disk of {place} is full.") from error
        frozen, head, training = job.setting.frozen, job.setting.head, job.setting.training
        trial = Trial(job.trial_id, "failed", job.hyperparameters, frozen, head, training)
        reason = "".join(traceback.format_exception(error))
        trial = replace(trial, seconds=seconds, way=way, reason=reason)
        return Done(trial, again=not isinstance(error, FailedTrialError))


def _begun(job: Job, fold: Fold) -> Fitted | None:
    """Return what the trial that a job continues has learned on a fold; a head that is solved exactly begins anew."""
    if job.past is None or is_exact(job.setting.head, job.setting.training):
        return None
    return read_rung(job.past[0], fold.name)


def _done(job: Job) -> int:
    """Return the number of epochs of the head that the trial had which a job continues."""
    return job.past[1].epochs or 0 if job.past else 0


def _remaining(job: Job, goes_on: bool = True) -> int:
    """Return the number of epochs of the head that a job has left."""
    return max(1, (job.setting.training.epochs or 1) - (_done(job) if goes_on else 0))
