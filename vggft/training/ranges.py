"""The learning rate range test: the loss of a training whose learning rate rises from step to step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from ..heads.batches import FIRST_ORDER, Batches, FeatureBank, class_weights, pooled_features
from ..heads.objective import Objective
from ..network.forward import between, without_retracing_warnings
from ..network.freezing import assign_weights
from ..network.head import STANDARDIZE, standardize
from ..progress import Narrator
from .experiment import Experiment
from .optimizers import optimizer_for
from .phases import Setting

DIVERGED = 4.0  # times the lowest loss, as in fastai; steps after that would tell nothing


def losses_of(
    experiment: Experiment, bank: FeatureBank, setting: Setting, rates: np.ndarray, narrator: Narrator
) -> np.ndarray:
    """Train the last phase of a setting with one learning rate after the other (arXiv:1506.01186).

    The head starts afresh, also with unfrozen blocks: one that was trained before would have hardly any loss left that
    could fall in so few steps, at whatever rate.

    Args:
        bank: a bank with the features of every cut that the phases start from.
        setting: a setting with a resolved `training`.
        rates: (n,) the learning rate of each step, rising.

    Returns:
        (m,) the loss of each batch before its step, without dropout; m < n if training diverged. What a batch is harder
        than others before any step is subtracted. Both would hide how little the loss falls in a few steps. With batch
        normalisation, whose statistics would lag behind, it is the loss in training, with dropout.
    """
    pool, seed, training = experiment.pool, experiment.seed, setting.training
    phase = experiment.phases(setting)[-1]
    cut = phase.cut(setting.head.pooling)
    model = between(_begun(experiment, bank, setting, cut), cut, "logits")
    examples = bank.examples(cut, pool.rows["train"])
    batches = Batches(examples, training.batch_size or 32, seed, FIRST_ORDER, class_weights(examples, training))
    optimizer = optimizer_for(model, replace(training, schedule="constant"), 1.0, 1, phase.block_rates)
    Objective(pool.multi_label, training.label_smoothing).compile(model, optimizer)

    def batch(step: int) -> tuple[np.ndarray, ...]:
        epoch, number = divmod(step, len(batches))
        batches.go_to(FIRST_ORDER + epoch)
        return batches[number]

    def loss(run: Any, step: int) -> float:
        model.reset_metrics()
        return float(run(*batch(step), return_dict=True)["loss"])

    found, losses = list[float](), list[float]()
    with narrator.bar("rising learning rate", 2 * len(rates)) as advance, without_retracing_warnings():
        for step in range(len(rates)):
            found.append(loss(model.test_on_batch, step))
            advance(1)
        for step, rate in enumerate(rates):
            optimizer.learning_rate = rate
            before = None if setting.head.batch_norm else loss(model.test_on_batch, step)
            trained = loss(model.train_on_batch, step)
            losses.append(trained if before is None else before)
            advance(1)
            if not losses[-1] <= DIVERGED * min(losses):  # or it is not a number
                break
    harder, there = np.array(found) - np.mean(found), np.isfinite(losses)
    return (np.array(losses) - harder[: len(losses)])[there]


def _begun(experiment: Experiment, bank: FeatureBank, setting: Setting, cut: str | None) -> keras.Model:
    """Return the network with pretrained blocks, and a fresh head or that of the classifier to start from."""
    model, head = experiment.network(setting, experiment.seed), setting.head
    if (begun := experiment.head_weights(head)) is not None:
        assign_weights(model, begun)
        return model
    names = [layer.name for layer in model.layers]
    pooled = names[names.index(STANDARDIZE) - 1]
    rest = None if cut == pooled else between(model, cut, pooled)
    standardize(model, pooled_features(bank.examples(cut, experiment.pool.rows["train"]), rest), head.normalize)
    return model
