"""Populations: heads of one shape trained together, each with its own early stopping, each as it would end alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import Head, Training
from ..network.head import EPSILON, scale_of
from .batches import FIRST_ORDER, Examples, order_of
from .fit import class_weights, pooled_features
from .objective import score
from .stacked import Program

CACHE = 8 * 2**20  # bytes of kernels with their moments that the processor's caches can be hoped to hold
MOST_MEMBERS = 16


def why_alone(head: Head, training: Training, frozen: bool = True) -> str:
    """Why a trial cannot be a member of a population; empty if it can."""
    reasons = {
        "blocks learn": not frozen,
        "batch normalisation": head.batch_norm,
        f"optimizer {training.optimizer}": training.optimizer != "adam",
        "weight decay": training.weight_decay > 0,
        f"backend {keras.backend.backend()}": keras.backend.backend() != "tensorflow",
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def alike(head: Head, training: Training) -> tuple[Any, ...]:
    """What all members of a population have in common; `training` is resolved."""
    about = (training.batch_size, training.epochs, training.patience, training.schedule, training.class_weight)
    return head.pooling, head.units, head.activation, *about


def size_for(num_features: int, units: Sequence[int], num_classes: int) -> int:
    """How many members at once: as many as the caches hold with their moments, a power of two."""
    widths = [num_features, *units, num_classes]
    each = 12 * sum(a * b for a, b in pairwise(widths))
    return 2 ** int(math.log2(max(1, min(MOST_MEMBERS, CACHE // each))))


@dataclass(frozen=True)
class Member:
    """What one trial of a population is to be: `training` is resolved."""

    head: Head
    training: Training


@dataclass(frozen=True)
class Fitted:
    """What a trial came to, at its best epoch.

    Args:
        weights: what it learned, by layer and number: `{"fc1/0": kernel, ...}`.
        probabilities: (n, num_classes) of the validation images.
        epochs: the number of the best epoch, for each phase.
        history: one row an epoch.
    """

    weights: dict[str, np.ndarray]
    probabilities: np.ndarray
    epochs: dict[str, int]
    history: list[dict[str, Any]]


# What is compiled serves again; of large programs only the last, for they hold weights and moments.
_small, _large = lru_cache(maxsize=16)(Program), lru_cache(maxsize=1)(Program)


def train_population(
    members: Sequence[Member],
    train: Examples,
    validation: Examples,
    *,
    multi_label: bool,
    seed: int,
    on_epoch: Callable[[int], object] = lambda epochs: None,
) -> list[Fitted]:
    """Train members that are `alike`, each with its own early stopping.

    Args:
        train: pooled features, (N, C), with views if there are any; held in memory meanwhile.
        validation: chooses the best epoch of each member.
        seed: of initial weights, order and dropout; common to all.
        on_epoch: told of every epoch how many of the members' epochs that were, those spared at the end included.
    """
    about = members[0]
    batch_size, epochs = about.training.batch_size or 32, about.training.epochs or 1
    count, num_features = len(train.rows), train.inputs.shape[1]
    steps = -(-count // batch_size)
    drops = any(member.head.dropout for member in members)
    places = size_for(num_features, about.head.units, train.targets.shape[1])
    make = _small if places > 1 else _large
    program = make(
        1 if len(members) == 1 else max(places, len(members)),  # few sizes, few programs to compile
        num_features,
        Head(units=about.head.units, activation=about.head.activation, dropout=0.5 if drops else 0.0),
        train.targets.shape[1],
        batch_size=batch_size,
        steps=steps,
        epochs=epochs,
        schedule=about.training.schedule,
        multi_label=multi_label,
    )
    program.begin(
        seed,
        learning_rates=[member.training.learning_rate for member in members],
        dropout=[member.head.dropout for member in members],
        l2=[member.head.l2 for member in members],
        label_smoothing=[member.training.label_smoothing for member in members],
    )
    scale = scale_of(pooled_features(train))

    def scaled(features: np.ndarray) -> np.ndarray:
        return np.asarray((features - scale[0]) / np.sqrt(scale[1] + EPSILON), "float32")

    seen = np.arange(count) if train.view_rows is None else train.view_rows
    inputs = tf.constant(np.concatenate([scaled(train.inputs[train.rows]), *(scaled(v[seen]) for v in train.views)]))
    targets = tf.constant(train.targets[train.rows])
    judged = tf.constant(scaled(validation.inputs[validation.rows])), tf.constant(validation.targets[validation.rows])
    weight_of = class_weights(train, about.training)
    runs = [_Course(about.training.patience or epochs) for _ in members]
    for epoch in range(epochs):
        order, drawn = order_of(count, len(train.views), seed, epoch + FIRST_ORDER)
        padding = np.zeros(steps * batch_size - count, order.dtype)
        rows = np.concatenate([order, padding])
        heavy = np.full(count, 1.0 / batch_size, "float32")
        heavy[(steps - 1) * batch_size :] = 1.0 / (count - (steps - 1) * batch_size)  # the last batch may be smaller
        if weight_of is not None:
            heavy *= train.targets[train.rows][order] @ weight_of
        weights = np.concatenate([heavy, np.zeros(len(padding), "float32")])
        program.epoch(rows + np.concatenate([drawn, padding]) * count, rows, weights, inputs, targets)
        probabilities, losses, accuracies = program.judge(*judged)
        for place, run in enumerate(runs):
            if not run.stopped and run.better(epoch, float(accuracies[place]), float(losses[place])):
                run.probabilities = probabilities[place]
                run.weights = [np.asarray(variable[place]) for variable in program.variables]
        on_epoch(len(members))
        if all(run.stopped for run in runs):
            on_epoch(len(members) * (epochs - epoch - 1))
            break
    for run in runs:
        for row in run.rows:
            row["kept"] = row["epoch"] - 1 == run.best_epoch
    return [
        Fitted(_named(scale, run.weights), run.probabilities, {"head": run.best_epoch + 1}, run.rows) for run in runs
    ]


class _Course:
    """The way of one member: its history, and early stopping as Keras's callback does it."""

    def __init__(self, patience: int):
        self.patience, self.best, self.best_epoch, self.wait, self.stopped = patience, -math.inf, -1, 0, False
        self.rows: list[dict[str, Any]] = []
        self.weights: list[np.ndarray] = []
        self.probabilities = np.empty(0)

    def better(self, epoch: int, accuracy: float, loss: float) -> bool:
        """Take note of an epoch; whether it is the best so far."""
        self.rows.append({"phase": "head", "epoch": epoch + 1, "val_accuracy": accuracy, "val_loss": loss})
        found = score(accuracy, loss)
        self.wait += 1
        if improved := found > self.best:
            self.best, self.best_epoch, self.wait = found, epoch, 0
        elif epoch == 0:  # diverged at once: something has to be kept
            self.best_epoch, improved = 0, True
        self.stopped = self.wait >= self.patience and epoch > 0
        return improved


def _named(scale: list[np.ndarray], weights: list[np.ndarray]) -> dict[str, np.ndarray]:
    """As the layers of a head have them: kernel and bias are numbers 0 and 1."""
    names = [f"fc{n}" for n in range(1, len(weights) // 2)] + ["logits"]
    found = {"standardize/0": scale[0], "standardize/1": scale[1]}
    for name, kernel, bias in zip(names, weights[::2], weights[1::2], strict=True):
        found |= {f"{name}/0": kernel, f"{name}/1": bias.reshape(-1)}
    return found
