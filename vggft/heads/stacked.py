"""Many heads as one network: kernels stacked along a leading axis of members, which one step trains together.

Each member is trained as it would be alone: from the same initial weights, with the same order of images and the same
dropped units. Members may differ in learning rate, dropout, L2 and label smoothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..engine import Summed
from .objective import Objective
from .schedules import learning_rate

JUDGED_AT_ONCE = 4096
TRACE_JUDGE_FROM = 20  # epochs; to trace the evaluation takes 0.1 s, and to run it untraced 0.006 s
# Number of steps from which XLA pays: on two cores, compiling takes about a second and saves 1 to 3 ms per step.
COMPILE_FROM = 500


class Adam(Summed, keras.optimizers.Adam):
    """Keras's, whose graphs are freed after training."""


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of (T, 1) learning rates, with a peak for each member."""

    def __init__(self, peaks: Any, kind: str, steps: int):
        self.peaks, self.shape = peaks, learning_rate(kind, 1.0, steps)

    def __call__(self, step: Any) -> Any:
        return self.peaks[:, :, 0] * (self.shape(step) if callable(self.shape) else self.shape)


@dataclass(frozen=True)
class Shape:
    """The shape of a program.

    Args:
        members: number of heads, T.
        features: number of features of an image.
        units: widths of the hidden layers.
        classes: number of outputs.
        activation: activation of the hidden layers.
        drops: whether any member has dropout.
        batch_size: number of images in a step.
        steps: number of steps in an epoch.
        epochs: maximum number of epochs, which the schedule spans.
        schedule: schedule of the learning rate.
        multi_label: whether an image may have several classes.
        focal_gamma: exponent of the focal loss.
    """

    members: int
    features: int
    units: tuple[int, ...]
    classes: int
    activation: str
    drops: bool
    batch_size: int
    steps: int
    epochs: int
    schedule: str
    multi_label: bool
    focal_gamma: float = 0.0


def is_compiled(steps: int) -> bool:
    """Whether XLA compiles whole epochs of a training with so many steps, instead of TensorFlow tracing one step."""
    return steps >= COMPILE_FROM


class Program:
    """The heads of a population, with a training epoch and an evaluation; a training step is traced once."""

    def __init__(self, shape: Shape):
        self.shape, self.seed, members = shape, 0, shape.members
        self.activation = keras.activations.get(shape.activation)
        widths = pairwise((shape.features, *shape.units, shape.classes))
        self.shapes = [size for before, after in widths for size in ((before, after), (1, after))]
        # Kernels and biases of all layers side by side, since Keras's optimizer takes its time for each variable.
        self.weights = keras.Variable(np.zeros((members, sum(map(math.prod, self.shapes))), "float32"))
        self.lead = () if members == 1 else (members,)
        self.peaks, self.l2, self.smoothing, self.dropout, self.dropout_scale = (
            keras.Variable(np.zeros((members, 1, 1), "float32"), trainable=False) for _ in range(5)
        )
        self.objective = Objective(shape.multi_label, self.smoothing, shape.focal_gamma)
        self.optimizer = Adam(Rates(self.peaks, shape.schedule, shape.steps * shape.epochs))
        self.optimizer.build([self.weights])
        self._step = tf.function(self._draw_and_learn, autograph=False)
        self._judge = tf.function(self._forward, autograph=False) if shape.epochs >= TRACE_JUDGE_FROM else self._forward
        self._epoch = tf.function(self._learn_all, autograph=False, jit_compile=True)
        self._draw = tf.function(self._draw_all, autograph=False)

    def begin(
        self,
        weights: Sequence[Sequence[np.ndarray]],
        seed: int,
        *,
        learning_rates: Sequence[float],
        dropout: Sequence[float],
        l2: Sequence[float],
        label_smoothing: Sequence[float],
    ) -> None:
        """Reset everything to before the first step, with values for each member; unused places repeat the last one.

        Args:
            weights: kernel and bias of each layer, with which each member starts, or a single such list for all.
            seed: of the dropped units.
        """

        def column(values: Sequence[float]) -> np.ndarray:
            filled = [*values, *[values[-1]] * (self.shape.members - len(values))]
            return np.array(filled, "float32")[:, None, None]

        self.peaks.assign(column(learning_rates))
        self.smoothing.assign(column(label_smoothing))
        self.l2.assign(column(l2))
        self.dropout.assign(column(dropout))
        self.dropout_scale.assign(column([1 / (1 - rate) for rate in dropout]))
        self.seed = seed
        flat = np.stack([np.concatenate([each.reshape(-1) for each in member]) for member in weights])
        self.weights.assign(flat[np.minimum(np.arange(self.shape.members), len(flat) - 1)])
        for variable in self.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    def weights_of(self, place: int) -> list[np.ndarray]:
        """Return kernel and bias of each layer of one member."""
        sizes, flat = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1], np.asarray(self.weights.value[place])
        return [part.reshape(shape) for part, shape in zip(np.split(flat, sizes), self.shapes, strict=True)]

    def epoch(
        self, rows: np.ndarray, views: np.ndarray, weights: np.ndarray, inputs: Any, targets: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run all steps of an epoch.

        Args:
            rows: (steps, B) rows of the images.
            views: (steps, B) view of each image.
            weights: (steps, B) weight of each image in the loss of its step; 0 for padding.
            inputs: (views, n, C) features.
            targets: (n, num_classes) targets.

        Returns:
            (steps, T) losses, and (steps, T) numbers of right decisions.
        """
        begun, layers = int(self.optimizer.iterations), range(1, 1 + len(self.shape.units))
        seeds = np.array([[(self.seed + n, begun + step) for n in layers] for step in range(self.shape.steps)], "int32")
        where, weights = np.stack([views, rows], axis=-1).astype("int32"), weights.astype("float32")
        batches = [tf.constant(each) for each in (where, weights, seeds)]
        if is_compiled(self.shape.steps * self.shape.epochs):
            draws = self._draw(batches[2]) if self.shape.drops else []
            losses, right = self._epoch(*batches[:2], inputs, targets, draws)
            return np.asarray(losses), np.asarray(right)
        several = [self._step(tf.constant(step), *batches, inputs, targets) for step in range(self.shape.steps)]
        return np.stack([losses for losses, _ in several]), np.stack([right for _, right in several])

    def judge(self, inputs: Any, targets: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (T, n, num_classes) probabilities, (T,) losses and (T,) accuracies."""
        found: list[list[np.ndarray]] = []
        for start in range(0, len(inputs), JUDGED_AT_ONCE):
            part = slice(start, start + JUDGED_AT_ONCE)
            *values, penalties = self._judge(inputs[part], targets[part])
            found.append([np.asarray(value) for value in values])
        probabilities, losses, right = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
        return probabilities, losses.mean(axis=1) + np.asarray(penalties), right.mean(axis=1)

    def _forward(self, inputs: Any, targets: Any) -> tuple[Any, Any, Any, Any]:
        parts = self._parts(self.weights.value)
        logits = self._logits(inputs, parts)
        losses, right = self._losses_and_right(targets, logits)
        return self.objective.probabilities(logits), losses, right, self._penalties(parts)

    def _parts(self, weights: Any) -> list[Any]:
        """Split (T, ...) weights into kernel and bias of each layer: (T, before, after) and (T, 1, after).

        A single member has no axis for members, so that TensorFlow multiplies its matrices as in Keras's layers: its
        weights are those of Keras's `fit` but for the last bit.
        """
        parts, lead = tf.split(weights, [math.prod(shape) for shape in self.shapes], axis=1), self.lead
        return [tf.reshape(part, (*lead, *shape)) for part, shape in zip(parts, self.shapes, strict=True)]

    def _logits(self, x: Any, parts: Sequence[Any], draws: Sequence[Any] = ()) -> Any:
        """Map (B, C) features to (T, B, num_classes) logits; units are dropped where a draw is below the rate."""
        for n, (kernel, bias) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
            x = tf.matmul(x, kernel) + bias
            if n < len(self.shape.units):
                x = self.activation(x)
            if n < len(draws):
                rate, scale = (
                    tf.reshape(each.value, (*self.lead, 1, 1)) for each in (self.dropout, self.dropout_scale)
                )
                x = tf.where(draws[n] >= rate, x * scale, 0.0)
        return tf.reshape(x, (self.shape.members, -1, self.shape.classes))

    def _losses_and_right(self, targets: Any, logits: Any) -> tuple[Any, Any]:
        return self.objective.losses(targets, logits), self.objective.right(targets, logits)

    def _penalties(self, parts: Sequence[Any]) -> Any:
        """Return the (T,) L2 penalty of each member."""
        squares = [tf.reduce_sum(tf.square(kernel), axis=(-2, -1)) for kernel in parts[::2]]
        return self.l2.value[:, 0, 0] * tf.add_n(squares)

    def _learn(self, where: Any, weights: Any, inputs: Any, targets: Any, draws: Sequence[Any]) -> tuple[Any, Any]:
        """Train one step; return the (T,) losses and numbers of right decisions."""
        x, y = tf.gather_nd(inputs, where), tf.gather(targets, where[:, 1])
        with tf.GradientTape() as tape:
            parts = self._parts(self.weights.value)
            logits = self._logits(x, parts, draws)
            losses, right = self._losses_and_right(y, logits)
            loss = tf.reduce_sum(losses * weights, axis=1) + self._penalties(parts)
            total = tf.reduce_sum(loss)
        self.optimizer.apply([tape.gradient(total, self.weights.value)], [self.weights])
        return loss, tf.reduce_sum(right * tf.cast(weights > 0, tf.float32), axis=1)

    def _draw_and_learn(
        self, step: Any, where: Any, weights: Any, seeds: Any, inputs: Any, targets: Any
    ) -> tuple[Any, Any]:
        draws = self._draws(seeds[step]) if self.shape.drops else ()
        return self._learn(where[step], weights[step], inputs, targets, draws)

    def _draws(self, seeds: Any) -> list[Any]:
        """Return (B, units) numbers for each layer: what Keras's dropout layer draws with these (layers, 2) seeds."""
        shapes = [(self.shape.batch_size, units) for units in self.shape.units]
        return [tf.random.stateless_uniform(shape, seeds[n]) for n, shape in enumerate(shapes)]

    def _draw_all(self, seeds: Any) -> list[Any]:
        """Draw for an epoch, outside the compiled program, as XLA draws other numbers from the same seeds."""
        signature = [tf.TensorSpec((self.shape.batch_size, units)) for units in self.shape.units]
        return list(tf.map_fn(self._draws, seeds, fn_output_signature=signature))

    def _learn_all(self, where: Any, weights: Any, inputs: Any, targets: Any, draws: Any) -> tuple[Any, Any]:
        def learn(step: Any, losses: Any, right: Any) -> tuple[Any, Any, Any]:
            found = self._learn(where[step], weights[step], inputs, targets, [drawn[step] for drawn in draws])
            return step + 1, losses.write(step, found[0]), right.write(step, found[1])

        told = (tf.TensorArray(tf.float32, self.shape.steps) for _ in range(2))
        _, losses, right = tf.while_loop(lambda step, *_: step < self.shape.steps, learn, (0, *told))
        return losses.stack(), right.stack()
