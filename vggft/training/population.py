"""Populations: heads of one shape trained together, each with its own early stopping and the result it has alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import Head, Training
from ..network.head import EPSILON, scale_of
from .batches import FIRST_ORDER, Examples, class_weights, order_of
from .fit import Fitted, pooled_features
from .objective import Objective
from .stacked import Program, Shape

CACHE = 8 * 2**20  # bytes of kernels and their moments that should fit into the processor's caches
MOST_MEMBERS = 16

# What a population can do. A trial with another field that is not at its default is trained alone.
MEMBERS_DIFFER_IN = {Head: ("dropout", "l2"), Training: ("learning_rate", "label_smoothing")}
MEMBERS_SHARE = {
    Head: ("units", "pooling", "activation"),
    Training: ("epochs", "batch_size", "schedule", "class_weight", "patience"),
}
ONLY_FOR_BLOCKS = {Head: (), Training: ("fine_tune_epochs", "fine_tune_learning_rate", "block_decay")}


@dataclass(frozen=True)
class Member:
    """A head and its resolved training."""

    head: Head
    training: Training


def why_alone(head: Head, training: Training) -> str:
    """Say why a head cannot be a member of a population; empty if it can."""
    reasons = []
    for part in (head, training):
        kind: Any = next(each for each in (Head, Training) if isinstance(part, each))
        can = {*MEMBERS_DIFFER_IN[kind], *MEMBERS_SHARE[kind], *ONLY_FOR_BLOCKS[kind]}
        for field in fields(part):
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            if field.name not in can and (value := getattr(part, field.name)) != default:
                reasons.append(f"{field.name}={value!r}")
    if keras.backend.backend() != "tensorflow":
        reasons.append(f"backend {keras.backend.backend()}")
    return ", ".join(reasons)


def alike(head: Head, training: Training) -> tuple[Any, ...]:
    """Return what all members of a population have in common; `training` is resolved."""
    shared = [(head, MEMBERS_SHARE[Head]), (training, MEMBERS_SHARE[Training])]
    return tuple(getattr(part, name) for part, names in shared for name in names)


def size_for(num_features: int, units: Sequence[int], num_classes: int) -> int:
    """Return the number of members trained at once: a power of two that fits the processor's caches."""
    widths = [num_features, *units, num_classes]
    each = 12 * sum(a * b for a, b in pairwise(widths))
    return 2 ** int(math.log2(max(1, min(MOST_MEMBERS, CACHE // each))))


class Programs:
    """Programs by their shape, so that several populations can share them.

    Only the last program with a single member is kept, since these are large: they hold weights and moments.
    """

    def __init__(self) -> None:
        self._kept: dict[Shape, Program] = {}

    def get(self, shape: Shape) -> Program:
        """Return the program of a shape, traced when it first runs."""
        if shape not in self._kept:
            if shape.members == 1:
                self._kept = {kept: program for kept, program in self._kept.items() if kept.members > 1}
            self._kept[shape] = Program(shape)
        return self._kept[shape]


def train_population(
    members: Sequence[Member],
    train: Examples,
    validation: Examples,
    *,
    multi_label: bool,
    seed: int,
    programs: Programs,
    on_epoch: Callable[[int], object] = lambda epochs: None,
) -> list[Fitted]:
    """Train members that are `alike`, each with its own early stopping.

    Args:
        train: pooled features, (N, C), with views if there are any; they are held in memory.
        validation: selects the best epoch of each member.
        seed: seed of initial weights, order and dropout, common to all members.
        programs: where programs are kept.
        on_epoch: called after every epoch with the number of epochs done by all members together; the last call
            includes those that early stopping saves.
    """
    head, training = members[0].head, members[0].training
    count, num_features, num_classes = len(train), train.inputs.shape[1], train.targets.shape[1]
    batch_size, epochs = training.batch_size or 32, training.epochs or 1
    steps = -(-count // batch_size)
    places = size_for(num_features, head.units, num_classes)
    program = programs.get(
        Shape(
            members=max(places, len(members)),  # places may stay unused: one size, one program
            features=num_features,
            units=head.units,
            classes=num_classes,
            activation=head.activation,
            drops=any(member.head.dropout for member in members),
            batch_size=batch_size,
            steps=steps,
            epochs=epochs,
            schedule=training.schedule,
            multi_label=multi_label,
        )
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

    views = [train.inputs[train.rows], *(view[train.in_views] for view in train.views)]
    inputs, targets = tf.constant(np.stack([scaled(view) for view in views])), tf.constant(train.targets[train.rows])
    judged = tf.constant(scaled(validation.inputs[validation.rows])), tf.constant(validation.targets[validation.rows])
    courses = [_Course(training.patience or epochs) for _ in members]
    weigh = class_weights(train, training)
    image_weights = np.ones(count, "float32") if weigh is None else train.targets[train.rows] @ weigh
    for epoch, batches in enumerate(_batches(count, batch_size, image_weights, len(train.views), seed, epochs)):
        program.epoch(*batches, inputs, targets)
        probabilities, losses, accuracies = program.judge(*judged)
        for place, course in enumerate(courses):
            if not course.stopped and course.better(epoch, float(accuracies[place]), float(losses[place])):
                course.probabilities = probabilities[place]
                course.weights = [np.asarray(variable[place]) for variable in program.variables]
        on_epoch(len(members))
        if all(course.stopped for course in courses):
            on_epoch(len(members) * (epochs - epoch - 1))
            break
    return [course.fitted(scale) for course in courses]


def _batches(
    count: int, batch_size: int, image_weights: np.ndarray, num_views: int, seed: int, epochs: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the rows, views and loss weights of the batches of each epoch: (steps, batch_size) each.

    A step's loss is the mean over its images. The last batch is padded with images of weight 0.
    """
    steps = -(-count // batch_size)
    last = count - (steps - 1) * batch_size
    share = np.full((steps, batch_size), 1.0 / batch_size, "float32")
    share[-1] = np.where(np.arange(batch_size) < last, np.float32(1.0 / last), np.float32(0.0))
    for epoch in range(epochs):
        order, drawn = order_of(count, num_views, seed, epoch + FIRST_ORDER)
        rows, views = (np.pad(each, (0, share.size - count)).reshape(share.shape) for each in (order, drawn))
        yield rows, views, share * image_weights[rows]


class _Course:
    """The training of one member: its history, and the early stopping of Keras's callback."""

    def __init__(self, patience: int):
        self.patience, self.best, self.best_epoch, self.wait, self.stopped = patience, -math.inf, -1, 0, False
        self.rows: list[dict[str, Any]] = []
        self.weights: list[np.ndarray] = []
        self.probabilities = np.empty(0)

    def better(self, epoch: int, accuracy: float, loss: float) -> bool:
        """Record an epoch; return whether it is the best so far."""
        logs = {"val_accuracy": accuracy, "val_loss": loss}
        self.rows.append({"phase": "head", "epoch": epoch + 1, **logs})
        score = Objective.score(logs)
        self.wait += 1
        if improved := score > self.best:
            self.best, self.best_epoch, self.wait = score, epoch, 0
        elif epoch == 0:  # diverged at once, but some weights have to be kept
            self.best_epoch, improved = 0, True
        self.stopped = self.wait >= self.patience and epoch > 0
        return improved

    def fitted(self, scale: Sequence[np.ndarray]) -> Fitted:
        """Return what was learned, with weights named as in a head: kernel and bias are numbers 0 and 1."""
        for row in self.rows:
            row["kept"] = row["epoch"] - 1 == self.best_epoch
        names = [f"fc{n}" for n in range(1, len(self.weights) // 2)] + ["logits"]
        found = {"standardize/0": scale[0], "standardize/1": scale[1]}
        for name, kernel, bias in zip(names, self.weights[::2], self.weights[1::2], strict=True):
            found |= {f"{name}/0": kernel, f"{name}/1": bias.reshape(-1)}
        return Fitted(found, self.rows, self.probabilities)
