"""The fit: the head on frozen features, then blocks and head together; schedules, early stopping, resume points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from ..config import Training
from ..network.blocks import BLOCKS
from ..network.forward import between, forward
from ..network.freezing import block_digests, check_movement
from ..network.head import STANDARDIZE, standardize
from ..progress import Narrator
from ..run import RunDirectory
from .batches import Batches, Examples
from .callbacks import Bar, Keeper
from .objective import score
from .optimizer import make_optimizer

MOST_FOR_SCALE = 4096


def best_epochs(history: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The number of the epoch of every phase whose weights were kept, from 1; 0: those before its first."""
    best: dict[str, int] = {}
    for row in history:
        best[row["phase"]] = row["epoch"] if row["kept"] else best.get(row["phase"], 0)
    return best


def class_weights(train: Examples, training: Training) -> np.ndarray | None:
    """(num_classes,) float32 how heavy an image of each class is, if `training` weighs them."""
    if training.class_weight is None:
        return None
    labels, classes = train.targets[train.rows].argmax(1), np.arange(train.targets.shape[1])
    return np.asarray(compute_class_weight("balanced", classes=classes, y=labels), "float32")


def fit(
    model: keras.Model,
    train: Examples,
    validation: Examples | None,
    *,
    phase: str,
    epochs: int,
    learning_rate: float,
    training: Training,
    multi_label: bool,
    run: RunDirectory,
    narrator: Narrator,
    seed: int,
    rates: dict[str, float] | None = None,
    keep_start: bool = False,
    steps_at_once: int = 1,
    tensorboard: bool = False,
    at_end: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Train a model that ends in logits, by Keras's own `fit`; leave it with the weights of its best epoch.

    Args:
        model: takes `inputs` of the examples, gives (B, num_classes) logits.
        validation: what the best epoch is chosen by; None keeps the last.
        phase: its name in history and resume points.
        training: resolved.
        rates: multiplier of the learning rate for each block.
        keep_start: whether the weights at the start count among the best.
        steps_at_once: steps between returns to Python; where a step is short, the way there and back costs more.
        tensorboard: write curves into the run directory, where TensorBoard reads them.
        at_end: called after the last epoch, before the best weights are put back.

    Returns:
        One row an epoch.
    """
    batch_size = training.batch_size or 32
    if multi_label:
        loss: Any = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=training.label_smoothing)
        accuracy: Any = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    else:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=training.label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    steps = epochs * -(-len(train.rows) // batch_size)
    half = any(layer.compute_dtype == "float16" and layer.trainable_weights for layer in model.layers)
    optimizer = make_optimizer(training, learning_rate, steps, rates or {}, half)
    # XLA on the CPU does without oneDNN's convolutions and is slower.
    model.compile(optimizer, loss, metrics=[accuracy], jit_compile=False, steps_per_execution=min(steps_at_once, steps))
    optimizer.build(model.trainable_variables)
    judged = None if validation is None else Batches(validation, 4 * batch_size)
    best = None
    if keep_start and judged:
        start = model.evaluate(judged, verbose=0, return_dict=True)
        best = score(float(start["accuracy"]), float(start["loss"]))
    keeper = Keeper(phase, training.patience or epochs, run, at_end, best)
    keeper.resume([*model.variables, *optimizer.variables])
    if keeper.done:
        assert keeper._point is not None
        model.set_weights(keeper._point[0][keeper._split :])
        return keeper.rows
    batches = Batches(train, batch_size, seed, keeper.first_epoch, class_weights(train, training))
    with narrator.bar(phase, (epochs - keeper.first_epoch) * batches.num_images) as advance:
        callbacks = [keeper, Bar(advance, batches, phase)]
        if tensorboard and run.path is not None:
            callbacks.append(keras.callbacks.TensorBoard(run.path / "tensorboard" / phase.replace(" ", "-")))
        model.fit(
            batches,
            validation_data=judged,
            epochs=epochs,
            initial_epoch=keeper.first_epoch,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    return keeper.rows


def pooled_features(train: Examples, rest: keras.Model | None = None) -> Iterator[np.ndarray]:
    """Batches of what the head starts from, of training images as they are; a few thousand tell their scale.

    Args:
        rest: from the inputs of the examples to pooled features; None where they are that.
    """
    rows = np.sort(np.random.default_rng(0).permutation(train.rows)[:MOST_FOR_SCALE])
    for part in np.array_split(rows, -(-len(rows) // 256)):
        inputs = np.asarray(train.inputs[part])
        yield inputs if rest is None else forward(rest, inputs)


@dataclass(frozen=True)
class Start:
    """Where a phase starts from: examples whose inputs are what the layer gives, or pixels where there is none."""

    layer: str | None
    train: Examples
    validation: Examples | None


def train_network(
    model: keras.Model,
    head: Start,
    blocks: Start | None,
    *,
    frozen: Iterable[str],
    training: Training,
    multi_label: bool,
    run: RunDirectory,
    narrator: Narrator,
    seed: int,
    tensorboard: bool = False,
) -> list[dict[str, Any]]:
    """Both phases: the head with every block held still; then, if any block is not frozen, blocks and head together.

    Args:
        model: the flat classifier with `set_frozen` applied, or a head alone.
        head: what the first phase starts from.
        blocks: what the second starts from; None where all blocks are frozen.
        training: resolved.

    Raises:
        FreezeError: a frozen block moved, or an unfrozen one did not.
    """
    frozen = tuple(frozen)
    common: dict[str, Any] = {
        "training": training,
        "multi_label": multi_label,
        "run": run,
        "narrator": narrator,
        "seed": seed,
        "tensorboard": tensorboard,
    }
    before = block_digests(model)
    names = [layer.name for layer in model.layers]
    pooled = names[names.index(STANDARDIZE) - 1]
    standardize(
        model, pooled_features(head.train, None if head.layer == pooled else between(model, head.layer, pooled))
    )
    history = fit(
        between(model, head.layer, "logits"),
        head.train,
        head.validation,
        phase="head",
        epochs=training.epochs or 1,
        learning_rate=training.learning_rate,
        steps_at_once=1 if head.layer is None else 8,
        **common,
    )
    check_movement(before, block_digests(model), BLOCKS)
    if blocks is not None:
        rates = {block: training.block_decay ** (len(BLOCKS) - 1 - i) for i, block in enumerate(BLOCKS)}
        history += fit(
            between(model, blocks.layer, "logits"),
            blocks.train,
            blocks.validation,
            phase="blocks and head",
            epochs=training.fine_tune_epochs or 1,
            learning_rate=training.fine_tune_learning_rate or 0.0,
            rates=rates,
            keep_start=True,
            at_end=lambda: check_movement(before, block_digests(model), frozen),
            **common,
        )
    return history
