"""Many heads as one model: kernels stacked along a leading axis of members, an epoch as one graph.

Each member is trained as it would be alone: from the same initial weights, with the same order of images and the same
dropped units. Members may differ in learning rate, dropout, L2 and label smoothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ..config import Head
from ..network.head import head_model
from .objective import Objective
from .optimizer import learning_rate

JUDGED_AT_ONCE = 4096
# Number of steps from which XLA pays: on two cores, compiling takes about a second and saves 1 to 3 ms per step.
COMPILE_FROM = 500


class StackedDense(keras.layers.Layer):
    """One dense layer for each member: (B, C) or (T, B, C) -> (T, B, units)."""

    def __init__(self, members: int, units: int, **arguments: Any):
        super().__init__(**arguments)
        self.members, self.units = members, units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight((self.members, shape[-1], self.units), name="kernel")
        self.bias = self.add_weight((self.members, 1, self.units), name="bias")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.kernel) + self.bias


class StackedDropout(keras.layers.Layer):
    """Dropout with a rate for each member, of (T, B, C) by (B, C) numbers in [0, 1) that all members share."""

    def __init__(self, members: int, **arguments: Any):
        super().__init__(**arguments)
        self.members = members

    def build(self, *shapes: Any) -> None:
        self.rate = self.add_weight((self.members, 1, 1), name="rate", trainable=False)

    def call(self, x: Any, drawn: Any) -> Any:
        return ops.where(drawn >= self.rate, x / (1.0 - self.rate), 0.0)


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of (T, 1, 1) learning rates, with a peak for each member."""

    def __init__(self, peaks: Any, kind: str, steps: int):
        self.peaks, self.shape = peaks, learning_rate(kind, 1.0, steps)

    def __call__(self, step: Any) -> Any:
        return self.peaks * (self.shape(step) if callable(self.shape) else self.shape)


@dataclass(frozen=True)
class Shape:
    """The shape of a program.

    Args:
        members: number of heads.
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


class Program:
    """The model of a population, with its training epoch and its evaluation, traced once for each shape."""

    def __init__(self, shape: Shape):
        self.shape, self.seed, members = shape, 0, shape.members
        inputs = x = y = keras.Input((shape.features,))
        draws = [keras.Input((units,)) for units in shape.units] if shape.drops else []
        self.dropouts = [StackedDropout(members, name=f"dropout{n}") for n, _ in enumerate(draws, start=1)]
        layers = [StackedDense(members, units, name=f"fc{n}") for n, units in enumerate(shape.units, start=1)]
        for n, layer in enumerate(layers):
            x, y = (keras.activations.get(shape.activation)(layer(z)) for z in (x, y))
            if draws:
                x = self.dropouts[n](x, draws[n])
        layers.append(StackedDense(members, shape.classes, name="logits"))
        self.learning, self.judging = keras.Model([inputs, *draws], layers[-1](x)), keras.Model(inputs, layers[-1](y))
        self.kernels = [layer.kernel for layer in layers]
        self.variables = self.judging.trainable_variables
        self.peaks, self.l2, smoothing = (keras.Variable(np.zeros((members, 1, 1), "float32")) for _ in range(3))
        self.objective = Objective(shape.multi_label, smoothing)
        self.optimizer = keras.optimizers.Adam(Rates(self.peaks, shape.schedule, shape.steps * shape.epochs))
        self.optimizer.build(self.variables)
        self._epoch = tf.function(self._steps(), jit_compile=shape.steps * shape.epochs >= COMPILE_FROM)
        self._judge = tf.function(self._forward)
        self._draw = tf.function(_draws)

    def begin(
        self,
        seed: int,
        *,
        learning_rates: Sequence[float],
        dropout: Sequence[float],
        l2: Sequence[float],
        label_smoothing: Sequence[float],
    ) -> None:
        """Reset everything to before the first step, with values for each member; unused places repeat the last one."""
        shape = self.shape

        def column(values: Sequence[float]) -> np.ndarray:
            filled = [*values, *[values[-1]] * (shape.members - len(values))]
            return np.array(filled, "float32")[:, None, None]

        self.peaks.assign(column(learning_rates))
        self.objective.label_smoothing.assign(column(label_smoothing))
        self.l2.assign(column(l2))
        for layer in self.dropouts:
            layer.rate.assign(column(dropout))
        self.seed = seed
        head = Head(units=shape.units, activation=shape.activation)
        first = head_model(shape.features, head, shape.classes, multi_label=shape.multi_label, seed=seed)
        for variable, start in zip(self.variables, first.trainable_variables, strict=True):
            one = np.asarray(start).reshape(variable.shape[1:])
            variable.assign(np.broadcast_to(one, variable.shape))
        for variable in self.optimizer.variables:
            variable.assign(ops.zeros_like(variable))

    def epoch(self, rows: np.ndarray, views: np.ndarray, weights: np.ndarray, inputs: Any, targets: Any) -> None:
        """Run all steps of an epoch.

        Args:
            rows: (steps, B) rows of the images.
            views: (steps, B) view of each image.
            weights: (steps, B) weight of each image in the loss.
            inputs: (views, n, C) features.
            targets: (n, num_classes) targets.
        """
        begun, shape = int(self.optimizer.iterations), self.shape
        draws = []
        for n, units in enumerate(shape.units if shape.drops else (), start=1):
            seeds = [(self.seed + n, begun + step) for step in range(shape.steps)]
            draws.append(self._draw(tf.constant(seeds, tf.int32), shape.batch_size, units))
        where = tf.constant(np.stack([views, rows], axis=-1), tf.int32)
        self._epoch(where, tf.constant(weights, tf.float32), inputs, targets, draws)

    def judge(self, inputs: Any, targets: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (T, n, num_classes) probabilities, (T,) losses and (T,) accuracies."""
        parts = range(0, len(inputs), JUDGED_AT_ONCE)
        found = [
            self._judge(inputs[start : start + JUDGED_AT_ONCE], targets[start : start + JUDGED_AT_ONCE])
            for start in parts
        ]
        probabilities, losses, right = zip(*[[np.asarray(value) for value in part] for part in found], strict=True)
        loss = np.sum(losses, axis=0) / len(inputs) + np.asarray(self._penalties())
        return np.concatenate(probabilities, axis=1), loss, np.sum(right, axis=0) / len(inputs)

    def _penalties(self) -> Any:
        """Return the (T,) L2 penalty of each member."""
        return sum(self.l2[:, 0, 0] * ops.sum(ops.square(kernel), axis=(1, 2)) for kernel in self.kernels)

    def _steps(self) -> Callable[..., None]:
        steps, variables = self.shape.steps, [variable.value for variable in self.variables]

        def epoch(where: Any, weights: Any, inputs: Any, targets: Any, draws: Any) -> None:
            for step in tf.range(steps):
                x, y = tf.gather_nd(inputs, where[step]), tf.gather(targets, where[step, :, 1])
                with tf.GradientTape() as tape:
                    logits = self.learning([x, *(drawn[step] for drawn in draws)])
                    losses = self.objective.losses(y, logits) * weights[step]
                    loss = tf.reduce_sum(losses) + tf.reduce_sum(self._penalties())
                self.optimizer.apply(tape.gradient(loss, variables), self.variables)

        return epoch

    def _forward(self, inputs: Any, targets: Any) -> tuple[Any, Any, Any]:
        logits, objective = self.judging(inputs), self.objective
        losses, right = objective.losses(targets, logits), objective.right(targets, logits)
        return objective.probabilities(logits), ops.sum(losses, axis=1), ops.sum(right, axis=1)


def _draws(seeds: Any, rows: int, units: int) -> Any:
    """Return (steps, rows, units) numbers: what Keras's dropout layer draws with these seeds, (steps, 2).

    This is outside the compiled program, since XLA draws other numbers from the same seeds.
    """
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform((rows, units), seed), seeds, fn_output_signature=tf.float32
    )
