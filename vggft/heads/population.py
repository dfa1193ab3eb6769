"""Populations: heads of one shape trained together, each with its own early stopping and the result it has alone."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..caching.rows import Rows
from ..config import Head, Training
from ..network.head import STANDARDIZE, initial_weights
from .batches import FIRST_ORDER, Examples, Scaled, class_weights, image_weights, order_of, sampled_labels
from .objective import Objective
from .probe import is_exact
from .resampling import Fitted
from .stacked import Program, Shape, is_compiled

CACHE = 8 * 2**20  # bytes of kernels and their moments that should fit into the processor's caches
MOST_MEMBERS = 16
NEARLY_NOTHING = 1e-30  # weight of an image of weight 0, which is none of those that only fill a batch
SHARE_OF_MEMORY = 0.25  # share that the features of a population may take

# What a population can do. A trial with another field that is not at its default is trained alone.
MEMBERS_DIFFER_IN = {Head: ("dropout", "l2"), Training: ("learning_rate", "label_smoothing")}
MEMBERS_SHARE = {
    Head: ("units", "blocks", "pooling", "activation", "normalize"),
    Training: (*("epochs", "batch_size", "schedule", "focal_gamma", "class_weight", "sampling", "patience", "probe"),),
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
                told = type(value).__name__ if hasattr(value, "get_config") else repr(value)  # an optimizer, a loss
                reasons.append(f"{field.name}={told}")
    if training.schedule == "plateau":
        reasons.append("schedule='plateau'")
    if is_exact(head, training):
        reasons.append("solved exactly")
    if keras.backend.backend() != "tensorflow":
        reasons.append(f"backend {keras.backend.backend()}")
    return ", ".join(reasons)


def fit_in_memory(features: Sequence[np.ndarray | Rows]) -> bool:
    """Whether features of all images and views may be held in memory, as a population does."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30
    return 4 * sum(array.size for array in features) <= SHARE_OF_MEMORY * memory


def alike(head: Head, training: Training) -> tuple[Any, ...]:
    """Return what all members of a population have in common; `training` is resolved."""
    shared = [(head, MEMBERS_SHARE[Head]), (training, MEMBERS_SHARE[Training])]
    values = (getattr(part, name) for part, names in shared for name in names)
    return tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value for value in values)


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
    validation: Examples | None,
    *,
    multi_label: bool,
    seed: int,
    class_names: Sequence[str] = (),
    programs: Programs | None = None,
    start: Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]] | None = None,
    keep_start: bool = False,
    on_epoch: Callable[[int], object] = lambda epochs: None,
) -> list[Fitted]:
    """Train members that are `alike`, each with its own early stopping.

    Args:
        train: pooled features, (N, C), with views if there are any; they are held in memory.
        validation: selects the best epoch of each member; None keeps the last.
        seed: seed of initial weights, order and dropout, common to all members.
        class_names: the classes in order, for weights by name.
        programs: where programs are kept for further populations; None for no others.
        start: weights by layer and number with which all members start, or those of each, instead of fresh ones.
        keep_start: whether the weights at the start compete for the best epoch.
        on_epoch: called after every epoch with the number of epochs done by all members together; the last call
            includes those that early stopping saves.
    """
    head, training = members[0].head, members[0].training
    count, num_features, num_classes = len(train), train.inputs.shape[1], train.targets.shape[1]
    batch_size, epochs = training.batch_size or 32, training.epochs or 1
    steps = -(-count // batch_size)
    places = len(members)
    if programs is not None:  # places may stay unused, so that groups of several sizes share a program
        most = size_for(num_features, head.units, num_classes)
        places = max(places, most if is_compiled(steps * epochs) else 2 ** (places - 1).bit_length())
    shape = Shape(
        members=places,
        features=num_features,
        units=head.units,
        classes=num_classes,
        activation=head.activation,
        drops=bool(head.units) and any(member.head.dropout for member in members),
        batch_size=batch_size,
        steps=steps,
        epochs=epochs,
        schedule=training.schedule,
        multi_label=multi_label,
        focal_gamma=training.focal_gamma,
    )
    program = Program(shape) if programs is None else programs.get(shape)
    names = [f"{layer}/{n}" for layer in (*(f"fc{n}" for n, _ in enumerate(head.units, 1)), "logits") for n in range(2)]
    starts = [start] if isinstance(start, Mapping) else list(start or ())
    scaled, begin = Scaled.of(train, head.normalize), [[each[name] for name in names] for each in starts]
    if starts:  # on the same images, members have the same scale
        scaled = Scaled(head.normalize, train.sizes, *(starts[0][f"{STANDARDIZE}/{n}"] for n in range(2)))
    program.begin(
        begin or [initial_weights(num_features, head, num_classes, seed)],
        seed,
        learning_rates=[member.training.learning_rate or 0.0 for member in members],
        dropout=[member.head.dropout for member in members],
        l2=[member.head.l2 for member in members],
        label_smoothing=[member.training.label_smoothing for member in members],
    )

    views = [train.inputs[train.rows], *(view[train.in_views] for view in train.views)]
    inputs, targets = tf.constant(np.stack([scaled(view) for view in views])), tf.constant(train.targets[train.rows])
    judged = None
    if validation is not None:
        rows = validation.rows
        judged = tf.constant(scaled(validation.inputs[rows])), tf.constant(validation.targets[rows])
    accuracy = Objective(multi_label).accuracy
    courses = [_Course(training.patience or epochs, names) for _ in members]
    if keep_start and judged is not None:
        begun, losses, accuracies = program.judge(*judged)
        for place, course in enumerate(courses):
            told = {"val_loss": float(losses[place]), f"val_{accuracy}": float(accuracies[place])}
            course.best = Objective.score(told)
            course.keep(program.weights_of(place), begun[place])
    weigh, labels = class_weights(train, training, class_names), sampled_labels(train, training)
    weights = image_weights(train.weights, train.rows, train.targets[train.rows], weigh)
    weights = np.ones(count, "float32") if weights is None else weights
    orders = (order_of(count, len(train.views), seed, epoch + FIRST_ORDER, labels) for epoch in range(epochs))
    for epoch, batches in enumerate(_batches(orders, count, batch_size, weights)):
        started = time.monotonic()
        losses, right = program.epoch(*batches, inputs, targets)
        sizes = np.count_nonzero(batches[2], axis=1)
        logs = {accuracy: right.sum(axis=0) / count, "loss": sizes @ losses / count}
        probabilities = None
        if judged is not None:
            probabilities, logs["val_loss"], logs[f"val_{accuracy}"] = program.judge(*judged)
        seconds = (time.monotonic() - started) / len(members)
        for place, course in enumerate(courses):
            told = {name: float(values[place]) for name, values in logs.items()}
            if not course.stopped and course.better(epoch, told, seconds):
                course.keep(program.weights_of(place), None if probabilities is None else probabilities[place])
        on_epoch(len(members))
        if all(course.stopped for course in courses):
            on_epoch(len(members) * (epochs - epoch - 1))
            break
    return [course.fitted(scaled.weights) for course in courses]


def _batches(
    orders: Iterable[tuple[np.ndarray, np.ndarray]], count: int, batch_size: int, image_weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the rows, views and loss weights of the batches of each epoch: (steps, batch_size) each.

    A step's loss is the mean over its images. The last batch is padded with images of weight 0.

    Args:
        orders: (count,) images and their views, for each epoch.
        image_weights: (count,) weight of each image in the loss.
    """
    steps = -(-count // batch_size)
    last = count - (steps - 1) * batch_size
    share = np.full((steps, batch_size), 1.0 / batch_size, "float32")
    share[-1] = np.where(np.arange(batch_size) < last, np.float32(1.0 / last), np.float32(0.0))
    for order, drawn in orders:
        rows, views = (np.pad(each, (0, share.size - count)).reshape(share.shape) for each in (order, drawn))
        yield rows, views, np.maximum(share * image_weights[rows], np.where(share > 0, NEARLY_NOTHING, 0))


class _Course:
    """The training of one member: its history, and the early stopping of Keras's callback."""

    def __init__(self, patience: int, names: Sequence[str]):
        self.patience, self.names = patience, names
        self.best, self.best_epoch, self.wait, self.stopped = -math.inf, -1, 0, False
        self.rows: list[dict[str, Any]] = []
        self.weights: list[np.ndarray] = []
        self.probabilities: np.ndarray | None = None

    def better(self, epoch: int, logs: Mapping[str, float], seconds: float) -> bool:
        """Record an epoch; return whether it is the best so far."""
        self.rows.append({"phase": "head", "epoch": epoch + 1, **logs, "seconds": seconds})
        score = Objective.score(logs) if "val_loss" in logs else float(epoch)
        self.wait += 1
        if improved := score > self.best:
            self.best, self.best_epoch, self.wait = score, epoch, 0
        elif not self.weights:  # diverged at once, but some weights have to be kept
            self.best_epoch, improved = 0, True
        self.stopped = self.wait >= self.patience and epoch > 0
        return improved

    def keep(self, weights: list[np.ndarray], probabilities: np.ndarray | None) -> None:
        """Keep the best weights so far, with their probabilities of the validation images."""
        self.weights, self.probabilities = weights, probabilities

    def fitted(self, scale: Mapping[str, np.ndarray]) -> Fitted:
        """Return what was learned, with weights named as in a head: kernel and bias are numbers 0 and 1."""
        for row in self.rows:
            row["kept"] = row["epoch"] - 1 == self.best_epoch
        found = dict(scale)
        for name, array in zip(self.names, self.weights, strict=True):
            found[name] = array.reshape(-1) if name.endswith("/1") else array
        return Fitted(found, self.rows, self.probabilities)
