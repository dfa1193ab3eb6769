"""Train one phase, by Keras's `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ..config import Head, Training
from ..engine import without_retracing_warnings
from ..files.writing import explained
from ..heads.batches import Batches, Examples, class_weights, pooled_features, sampled_labels
from ..heads.objective import Objective
from ..heads.resampling import ending_of
from ..machines.shares import judged_by_all, shared
from ..machines.strategies import ONE, Devices
from ..network.blocks import BLOCKS
from ..network.forward import between
from ..network.freezing import assign_weights
from ..network.head import STANDARDIZE, standardize
from ..run import RunDirectory
from ..telling.progress import Narrator
from .callbacks import Bar, BestEpoch, Deadline
from .experiment import Experiment
from .optimizers import Carried, averages, half_of, make_optimizer
from .phases import ResolvedPhase


def fit_phase(
    model: keras.Model,
    examples: Examples,
    validation: Examples | None,
    phase: ResolvedPhase,
    training: Training,
    *,
    multi_label: bool,
    seed: int,
    run: RunDirectory,
    narrator: Narrator,
    steps_at_once: int = 1,
    tensorboard: bool = False,
    at_end: Any = lambda rows: None,
    carried: Carried | None = None,
    class_names: Sequence[str] = (),
    callbacks: Sequence[Any] = (),
    metrics: Sequence[Any] = (),
    deadline: float | None = None,
    devices: Devices = ONE,
    writes: bool = True,
) -> list[dict[str, Any]]:
    """Train a model that ends in logits, by Keras's `fit`, and restore the weights of its best epoch.

    Args:
        model: maps `inputs` of the examples to (B, num_classes) logits.
        validation: selects the best epoch; None keeps the last.
        training: a resolved training.
        steps_at_once: training steps between returns to Python.
        at_end: called with the history after the last epoch, before the best weights are restored.
        carried: what earlier phases hand to the optimizer; this phase adds what it learned. None for a fresh start.
        class_names: the classes in order, for weights by name.
        callbacks, metrics: of Keras, as in `vggft.finetune`.
        deadline: by `time.monotonic()`, at which training ends.
        devices: what computes; the model is built in its scope, in which this is called.
        writes: whether this process keeps the resume points, of several that do the same.

    Returns:
        The history, one row per epoch.
    """
    batch_size = training.batch_size or 32
    steps = phase.epochs * -(-len(examples) // batch_size)
    carried = carried or Carried()
    optimizer = make_optimizer(
        training,
        phase.learning_rate,
        steps,
        phase.block_rates,
        half_of(model),
        schedule=phase.schedule,
        taken=dict(carried.steps),
    )
    alone = devices.replicas == 1  # TensorFlow sums no gradients over replicas inside a loop
    at_once = min(steps_at_once, steps) if alone and not callbacks else 1  # these expect a call after each step
    Objective.of(training, multi_label).compile(model, optimizer, at_once, metrics)
    optimizer.build(model.trainable_variables)
    carried.hand_to(optimizer)
    judged, steps_of = None, dict[str, Any]()
    if validation is not None and devices.replicas > 1:
        judged, steps_of["validation_steps"] = judged_by_all(validation, 4 * batch_size, devices)
    elif validation is not None:
        judged = Batches(validation, 4 * batch_size)
    with without_retracing_warnings():
        start, learns_blocks = None, len(phase.freeze) < len(BLOCKS)
        if phase.keep_start and judged:
            found = model.evaluate(judged, verbose=0, return_dict=True, steps=steps_of.get("validation_steps"))
            start = Objective.score({f"val_{name}": float(value) for name, value in found.items()}, learns_blocks)
        variables = [*model.variables, *optimizer.variables]
        plateau = max(1, phase.patience // 2) if phase.schedule == "plateau" else None
        how: dict[str, Any] = {"averaged": averages(training), "plateau": plateau, "learns_blocks": learns_blocks}
        keeper = BestEpoch(phase.name, phase.patience, run, variables, start, at_end, **how, writes=writes)
        if keeper.done and keeper.resumed is not None:
            model.set_weights(keeper.best_of(model))
            carried.take_from(optimizer, model.trainable_variables)
            return keeper.rows
        weigh, labels = class_weights(examples, training, class_names), sampled_labels(examples, training)
        batches = learned = Batches(examples, batch_size, seed, keeper.first_epoch, weigh, labels)
        if devices.replicas > 1:
            learned, steps_of["steps_per_epoch"] = shared(batches, devices, keeper.first_epoch), len(batches)
        with narrator.bar(phase.name, (phase.epochs - keeper.first_epoch) * batches.num_images) as advance:
            # The resume point comes last, so that it holds what other callbacks did at the end of the epoch.
            all_of_them = [
                *callbacks,
                keeper,
                *([Deadline(deadline, devices)] if deadline else []),
                Bar(advance, batches, phase.name, narrator.detail),
            ]
            if tensorboard and run.path is not None:
                all_of_them.append(keras.callbacks.TensorBoard(run.path / "tensorboard" / phase.name.replace(" ", "-")))
            fits: dict[str, Any] = {"epochs": phase.epochs, "initial_epoch": keeper.first_epoch, "verbose": 0}
            try:
                with explained(run.path, only_full=True):  # of TensorBoard and of callbacks of others
                    model.fit(learned, validation_data=judged, callbacks=all_of_them, shuffle=False, **fits, **steps_of)
            except tf.errors.OpError:
                if batches.failed is not None:
                    raise batches.failed from None
                raise
            advance(0, ending_of(keeper.rows, phase.epochs), (len(keeper.rows) - keeper.first_epoch) * len(examples))
    carried.take_from(optimizer, model.trainable_variables)
    return keeper.rows


def begin_head(model: keras.Model, experiment: Experiment, head: Head, layer: str | None, examples: Examples) -> None:
    """Give a fresh head the scale of its features, or all weights of the head that it starts from.

    Args:
        model: a network that ends in the head, in place.
        layer: after which the examples enter it; None for its input.
    """
    if (begun := experiment.head_weights(head)) is not None:
        assign_weights(model, begun)  # with its scale of the features, without which it would compute something else
        return
    names = [each.name for each in model.layers]
    pooled = names[names.index(STANDARDIZE) - 1]
    rest = None if layer == pooled else between(model, layer, pooled)
    standardize(model, pooled_features(examples, rest), head.normalize)
