"""The learning rate range test: the loss of a training whose learning rate rises from step to step."""

from __future__ import annotations

import numpy as np

from ..heads.batches import FIRST_ORDER, Batches, FeatureBank, class_weights
from ..heads.objective import Objective
from ..network.forward import between
from ..telling.progress import Narrator
from .experiment import Experiment
from .fit import begin_head
from .optimizers import half_of, make_optimizer
from .phases import Setting

DIVERGED = 4.0  # times the first loss; steps after that would tell nothing
WATCHED = 2  # batches of validation images whose loss is watched


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
        (m,) the loss before each step; m < n if training diverged. It is that of some validation images, always the
        same: the differences between batches, and dropout, would hide how little the loss falls in a few steps. With
        batch normalisation, whose moving statistics would lag behind, it is the loss of the batch in training.
    """
    rows, seed, training = experiment.pool.rows, experiment.seed, setting.training
    phase, batch_size = experiment.phases(setting)[-1], training.batch_size or 32
    cut = phase.cut(setting.head)
    whole, examples = experiment.network(setting, seed), bank.examples(cut, rows["train"])
    begin_head(whole, experiment, setting.head, cut, examples)
    model = between(whole, cut, "logits")
    batches = Batches(
        examples, batch_size, seed, FIRST_ORDER, class_weights(examples, training, experiment.pool.class_names)
    )
    some = np.random.default_rng(seed).permutation(rows["validation"])[: WATCHED * batch_size]
    watched = np.asarray(bank.inputs(cut)[some]), experiment.pool.targets[some]
    optimizer = make_optimizer(training, 1.0, 1, phase.block_rates, half_of(model), schedule="constant")
    optimizer.build(model.trainable_variables)
    Objective.of(training, experiment.pool.multi_label).compile(model, optimizer)
    losses: list[float] = []
    with narrator.bar("rising learning rate", len(rates)) as advance:
        for step, rate in enumerate(rates):
            epoch, number = divmod(step, len(batches))
            batches.go_to(FIRST_ORDER + epoch)
            optimizer.learning_rate = rate
            model.reset_metrics()
            before = None if setting.head.batch_norm else model.test_on_batch(*watched, return_dict=True)
            model.reset_metrics()
            found = model.train_on_batch(*batches[number], return_dict=True)
            losses.append(float((before or found)["loss"]))
            advance(1)
            if not losses[-1] <= DIVERGED * losses[0]:  # or it is not a number
                break
    return np.array(losses)[np.isfinite(losses)]
