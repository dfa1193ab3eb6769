"""Training the trials of a round: those of one shape as a population, the others alone, all from frozen features."""

from __future__ import annotations

import gc
import os
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
from ..features.cuts import cut_layer
from ..network.blocks import BLOCKS
from ..network.description import build
from ..network.forward import between, forward
from ..network.freezing import learned_weights
from ..network.head import POOLING_LAYERS, head_model
from ..progress import Narrator
from ..run import RunDirectory
from ..training.batches import Examples
from ..training.experiment import Base
from ..training.fit import Start, best_epochs, train_network
from ..training.population import Fitted, Member, alike, size_for, train_population, why_alone
from ..training.resampling import Fit
from .space import Setting
from .trial import Trial

SHARE_OF_MEMORY = 0.25  # that features of a population may take


@dataclass(frozen=True)
class Job:
    """A trial that is to be trained; `setting.training` is resolved."""

    trial_id: str
    hyperparameters: dict[str, Any]
    setting: Setting


@dataclass(frozen=True)
class Done:
    """What a job came to; the weights are those of the first fit, None if it failed."""

    trial: Trial
    weights: dict[str, np.ndarray] | None


class Trainer:
    """What all trials of a search share.

    Args:
        base: images, pretrained weights and the rest.
        features: for each cut the arrays of all images, and of the further views of `viewed` rows.
        viewed: the rows that have further views.
        fits: each trial is scored by all of these; the objective is the mean.
        objective: one of `vggft.evaluation.metrics.METRICS`.
        run: where a trial of blocks keeps its resume points.
    """

    def __init__(
        self,
        base: Base,
        features: dict[str, list[np.ndarray]],
        viewed: np.ndarray,
        fits: Sequence[Fit],
        objective: str,
        run: RunDirectory,
    ):
        self.base, self.features, self.fits, self.objective, self.run = base, features, fits, objective, run
        self.view_of = np.zeros(len(base.pool.names), np.int64)
        self.view_of[viewed] = np.arange(len(viewed))

    def start(self, cut: str | None, train: np.ndarray, validation: np.ndarray | None) -> Start:
        """Examples from a cut (None: from pixels) for these rows."""
        pool = self.base.pool
        inputs, *views = [pool.pixels] if cut is None else self.features[cut]
        change = self.base.change if cut is None else None
        examples = Examples(inputs, pool.targets, train, views, change, self.view_of[train])
        return Start(cut, examples, None if validation is None else Examples(inputs, pool.targets, validation))

    def populations(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """The jobs in groups that are trained together; groups depend on the round alone, not on what is done of it."""
        groups: dict[tuple[Any, ...], list[Job]] = {}
        for job in jobs:
            setting = job.setting
            alone = self.why_alone(setting)
            key = (job.trial_id,) if alone else alike(setting.head, setting.training)
            groups.setdefault(key, []).append(job)
        for group in groups.values():
            head = group[0].setting.head
            features = self.features[POOLING_LAYERS[head.pooling]][0].shape[1]
            most = size_for(features, head.units, len(self.base.pool.class_names))
            for start in range(0, len(group), most):
                yield group[start : start + most]

    def why_alone(self, setting: Setting) -> str:
        """Why a trial is trained alone; empty if it is not."""
        if reason := why_alone(setting.head, setting.training, setting.frozen == BLOCKS):
            return reason
        arrays = self.features[POOLING_LAYERS[setting.head.pooling]]
        needed = 4 * sum(array.size for array in arrays)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30
        return "features larger than memory" if needed > SHARE_OF_MEMORY * memory else ""

    def train(self, jobs: Sequence[Job], on_epochs: Callable[[int], object] = lambda epochs: None) -> list[Done]:
        """Train one group of `populations`; a trial that fails says why and takes no other with it."""
        alone = self.why_alone(jobs[0].setting)
        if not alone:
            started = time.monotonic()
            way = f"population of {len(jobs)}"
            try:
                together = [self._population(jobs, fit, on_epochs) for fit in self.fits]
            except (MemoryError, tf.errors.ResourceExhaustedError):
                alone = "no memory for a population"
            except Exception:
                return [self._failed(job, traceback.format_exc(), time.monotonic() - started, way) for job in jobs]
            else:
                seconds = (time.monotonic() - started) / len(jobs)
                return [
                    self._score(job, [fitted[n] for fitted in together], seconds, way) for n, job in enumerate(jobs)
                ]
        found = []
        for job in jobs:
            started = time.monotonic()
            try:
                fitted = [self.alone(job, fit) for fit in self.fits]
            except Exception:
                found.append(self._failed(job, traceback.format_exc(), time.monotonic() - started))
            else:
                found.append(self._score(job, fitted, time.monotonic() - started, f"alone: {alone}"))
            keras.backend.clear_session()
            gc.collect()
            on_epochs(len(self.fits) * (job.setting.training.epochs or 1))
        return found

    def _population(self, jobs: Sequence[Job], fit: Fit, on_epochs: Callable[[int], object]) -> list[Fitted]:
        cut = POOLING_LAYERS[jobs[0].setting.head.pooling]
        start = self.start(cut, fit.train, fit.validation)
        assert start.validation is not None
        members = [Member(job.setting.head, job.setting.training) for job in jobs]
        return train_population(
            members,
            start.train,
            start.validation,
            multi_label=self.base.pool.multi_label,
            seed=fit.seed,
            on_epoch=on_epochs,
        )

    def alone(self, job: Job, fit: Fit, *, keep_last: bool = False) -> Fitted:
        """One trial by Keras's own `fit`.

        Args:
            keep_last: whether the weights of the last epoch are wanted, and there is nothing to choose by.
        """
        base, setting, pool = self.base, job.setting, self.base.pool
        pooled = POOLING_LAYERS[setting.head.pooling]
        validation = None if keep_last else fit.validation
        blocks = None
        head_cut: str | None = pooled if pooled in self.features else None
        if setting.frozen == BLOCKS:
            model = head_model(
                self.features[pooled][0].shape[1],
                setting.head,
                len(pool.class_names),
                multi_label=pool.multi_label,
                seed=fit.seed,
            )
            head = replace(self.start(pooled, fit.train, validation), layer="features")
        else:
            model = base.network(base.describe(setting.head, setting.frozen), fit.seed)
            head = self.start(head_cut, fit.train, validation)
            cut = None if base.change else cut_layer(model, setting.frozen)
            blocks = self.start(cut, fit.train, validation)
        run = self.run.inside(f"trials/trial_{job.trial_id}/{fit.name}")
        try:
            history = train_network(
                model,
                head,
                blocks,
                frozen=setting.frozen,
                training=setting.training,
                multi_label=pool.multi_label,
                run=run,
                narrator=Narrator(0),
                seed=fit.seed,
            )
        except Exception:  # a trial that fails is not resumed
            run.drop_points()
            raise
        if blocks is not None and base.precision != "float32":  # what is scored is what would be saved
            exact = build(base.describe(setting.head, setting.frozen))
            exact.set_weights(model.get_weights())
            model = exact
        last = blocks or head
        rest = between(model, last.layer, "predictions")
        probabilities = forward(rest, last.train.inputs, rows=fit.validation)
        run.drop_points()
        epochs = {} if keep_last else best_epochs(history)
        return Fitted(learned_weights(model, setting.frozen), probabilities, epochs, history)

    def _score(self, job: Job, fitted: Sequence[Fitted], seconds: float, way: str) -> Done:
        """The objective of a trial by all of its fits, if they have one."""
        pool, several = self.base.pool, len(fitted) > 1
        scores: list[float] = []
        metrics: dict[str, list[float]] = {"val_accuracy": [], "val_log_loss": []}
        try:
            for fit, each in zip(self.fits, fitted, strict=True):
                targets = pool.targets[fit.validation]
                labels = targets.astype("uint8") if pool.multi_label else targets.argmax(axis=1)
                scores.append(score(self.objective, labels, each.probabilities, pool.multi_label))
                for name, values in metrics.items():
                    values.append(score(name.removeprefix("val_"), labels, each.probabilities, pool.multi_label))
        except ValueError:
            return self._failed(job, traceback.format_exc(limit=0), seconds, way)
        mean = float(np.mean(scores))
        interval = None
        if several:
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
            metrics={name: float(np.mean(values)) for name, values in metrics.items()},
            epochs={phase: round(np.mean([each.epochs[phase] for each in fitted])) for phase in sorted(phases)},
            seconds=seconds,
            way=way,
            history=tuple(fitted[0].history),
        )
        return Done(trial, fitted[0].weights)

    def _failed(self, job: Job, reason: str, seconds: float, way: str = "alone") -> Done:
        setting = job.setting
        trial = Trial(
            job.trial_id,
            "failed",
            job.hyperparameters,
            setting.frozen,
            setting.head,
            setting.training,
            seconds=seconds,
            way=way,
            reason=reason,
        )
        return Done(trial, None)
