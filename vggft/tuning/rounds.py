"""Train the trials of a round: those whose heads have one shape as a population, the others alone."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from ..evaluation.checks import score
from ..evaluation.metrics import accuracy_of
from ..features.cuts import cut_of
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
from ..heads.resampling import Fitted, Fold
from ..network.blocks import BLOCKS
from ..progress import Narrator
from ..run import RunDirectory
from ..training.experiment import Experiment
from ..training.fit import train
from ..training.phases import Setting
from .trial import Trial


@dataclass(frozen=True)
class Job:
    """A trial to train; `setting.training` is resolved."""

    trial_id: str
    hyperparameters: dict[str, Any]
    setting: Setting


@dataclass(frozen=True)
class Done:
    """A trial that has ended, with the weights of its first fold; None if it failed."""

    trial: Trial
    weights: dict[str, np.ndarray] | None


class Rounds:
    """Trains the trials of a search, a round at a time.

    Args:
        experiment: what all trials share.
        bank: a bank with the features of every cut that a trial may start from.
        folds: the folds on which each trial is trained; its score is the mean.
        objective: one of the metrics of an evaluation.
        run: where trials that train blocks keep their resume points.
    """

    def __init__(
        self, experiment: Experiment, bank: FeatureBank, folds: Sequence[Fold], objective: str, run: RunDirectory
    ):
        self.experiment, self.bank, self.folds, self.objective, self.run = experiment, bank, folds, objective, run
        self.programs = Programs()

    def groups(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Yield the jobs in groups that are trained together.

        Groups do not depend on which trials have ended, so that a resumed round has the same groups.
        """
        groups: dict[tuple[Any, ...], list[Job]] = {}
        for job in jobs:
            setting = job.setting
            key = (job.trial_id,) if self.why_alone(setting) else alike(setting.head, setting.training)
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
        if reason := why_alone(setting.head, setting.training):
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
        except Exception:
            return [self._failed(job, traceback.format_exc(), time.monotonic() - started, way) for job in jobs]
        seconds = (time.monotonic() - started) / len(jobs)
        return [self._scored(job, [fitted[n] for fitted in together], seconds, way) for n, job in enumerate(jobs)]

    def _train_together(self, jobs: Sequence[Job], fold: Fold, on_epochs: Callable[[int], object]) -> list[Fitted]:
        cut = cut_of(BLOCKS, jobs[0].setting.head)
        return train_population(
            [Member(job.setting.head, job.setting.training) for job in jobs],
            self.bank.examples(cut, fold.train),
            self.bank.judged(cut, fold.validation),
            multi_label=self.experiment.pool.multi_label,
            seed=fold.seed,
            class_names=self.experiment.pool.class_names,
            programs=self.programs,
            on_epoch=on_epochs,
        )

    def _train_alone(self, job: Job, way: str, on_epochs: Callable[[int], object]) -> Done:
        started = time.monotonic()
        try:
            fitted = [self._train_fold(job, fold) for fold in self.folds]
        except Exception:
            done = self._failed(job, traceback.format_exc(), time.monotonic() - started, way)
        else:
            done = self._scored(job, fitted, time.monotonic() - started, way)
        keras.backend.clear_session()
        gc.collect()
        on_epochs(len(self.folds) * (job.setting.training.epochs or 1))
        return done

    def _train_fold(self, job: Job, fold: Fold) -> Fitted:
        """Train on one fold; resume points are deleted when it has ended or failed, but kept after an interruption."""
        run = self.run.inside(f"trials/trial_{job.trial_id}/{fold.name}")
        try:
            narrator = Narrator(0)
            fitted = train(self.experiment, self.bank, job.setting, fold, run=run, narrator=narrator, predict=True)
        except Exception:
            run.drop_points()
            raise
        run.drop_points()
        return fitted

    def _scored(self, job: Job, fitted: Sequence[Fitted], seconds: float, way: str) -> Done:
        """Score a trial by the mean of the objective over its folds; it fails if they do not define it."""
        pool = self.experiment.pool
        right = accuracy_of(pool.multi_label)
        names = {"score": self.objective, f"val_{right}": right, "val_log_loss": "log_loss"}
        values: dict[str, list[float]] = {name: [] for name in names}
        try:
            for fold, each in zip(self.folds, fitted, strict=True):
                assert each.probabilities is not None
                targets = pool.targets[fold.validation]
                labels = targets.astype("uint8") if pool.multi_label else targets.argmax(axis=1)
                for name, metric in names.items():
                    values[name].append(score(metric, labels, each.probabilities, pool.multi_label))
        except ValueError:
            return self._failed(job, traceback.format_exc(limit=0), seconds, way)
        scores, interval = values.pop("score"), None
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
            metrics={name: float(np.mean(each)) for name, each in values.items()},
            epochs={phase: round(np.mean([each.epochs[phase] for each in fitted])) for phase in sorted(phases)},
            seconds=seconds,
            way=way,
            history=tuple(fitted[0].history),
        )
        return Done(trial, fitted[0].weights)

    def _failed(self, job: Job, reason: str, seconds: float, way: str) -> Done:
        frozen, head, training = job.setting.frozen, job.setting.head, job.setting.training
        trial = Trial(job.trial_id, "failed", job.hyperparameters, frozen, head, training)
        return Done(replace(trial, seconds=seconds, way=way, reason=reason), None)
