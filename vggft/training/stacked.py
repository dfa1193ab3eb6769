"""Many heads as one model: kernels stacked along a leading axis of members, an epoch as one compiled program.

Each member learns as it would alone, from the same initial weights, in the same order of images, with the same units
dropped. What they may differ in are learning rate, dropout, L2 and label smoothing. For dense layers XLA pays on the
CPU too: the way to Python and back costs more than such a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ..config import Head
from ..network.head import head_model
from .optimizer import learning_rate

JUDGED_AT_ONCE = 4096


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
    """Dropout at a rate for each member: (T, B, C), and (B, C) numbers in [0, 1) that all of them see."""

    def __init__(self, members: int, **arguments: Any):
        super().__init__(**arguments)
        self.members = members

    def build(self, *shapes: Any) -> None:
        self.rate = self.add_weight((self.members, 1, 1), name="rate", trainable=False)

    def call(self, x: Any, drawn: Any) -> Any:
        return ops.where(drawn >= self.rate, x / (1.0 - self.rate), 0.0)


def _draws(seeds: Any, rows: int, units: int) -> Any:
    """(steps, rows, units): what Keras's layer of dropout draws with these seeds, (steps, 2).

    Not in the compiled program, since XLA draws other numbers from the same seeds.
    """
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform((rows, units), seed), seeds, fn_output_signature=tf.float32
    )


_draw = tf.function(_draws)


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of (T, 1, 1) learning rates that rise and fall together."""

    def __init__(self, peaks: Any, kind: str, steps: int):
        self.peaks, self.shape = peaks, learning_rate(kind, 1.0, steps)

    def __call__(self, step: Any) -> Any:
        return self.peaks * (self.shape(step) if callable(self.shape) else self.shape)


class Program:
    """A population's model with its epoch and its judging, compiled once for all populations of its shape."""

    def __init__(
        self,
        members: int,
        num_features: int,
        head: Head,
        num_classes: int,
        *,
        batch_size: int,
        steps: int,
        epochs: int,
        schedule: str,
        multi_label: bool,
    ):
        self.members, self.multi_label, self.seed = members, multi_label, 0
        self.shape = num_features, head, num_classes
        self.batch_size, self.steps, self.units = batch_size, steps, head.units if head.dropout else ()
        inputs = x = y = keras.Input((num_features,))
        draws = [keras.Input((units,)) for units in self.units]
        self.dropouts = [StackedDropout(members, name=f"dropout{n}") for n, _ in enumerate(draws, start=1)]
        layers = [StackedDense(members, units, name=f"fc{n}") for n, units in enumerate(head.units, start=1)]
        for n, layer in enumerate(layers):
            x, y = (keras.activations.get(head.activation)(layer(z)) for z in (x, y))
            if draws:
                x = self.dropouts[n](x, draws[n])
        layers.append(StackedDense(members, num_classes, name="logits"))
        self.learning, self.judging = keras.Model([inputs, *draws], layers[-1](x)), keras.Model(inputs, layers[-1](y))
        self.kernels = [layer.kernel for layer in layers]
        self.variables = self.judging.trainable_variables
        self.peaks, self.l2, self.smoothing = (keras.Variable(np.zeros((members, 1, 1), "float32")) for _ in range(3))
        self.optimizer = keras.optimizers.Adam(Rates(self.peaks, schedule, steps * epochs))
        self.optimizer.build(self.variables)
        self._epoch = tf.function(self._steps(), jit_compile=True)
        self._judge = tf.function(self._forward, jit_compile=True)

    def begin(
        self,
        seed: int,
        *,
        learning_rates: Sequence[float],
        dropout: Sequence[float],
        l2: Sequence[float],
        label_smoothing: Sequence[float],
    ) -> None:
        """Everything as before the first step, with a value for each member; places left over repeat the last one."""

        def column(values: Sequence[float]) -> np.ndarray:
            filled = [*values, *[values[-1]] * (self.members - len(values))]
            return np.array(filled, "float32")[:, None, None]

        self.peaks.assign(column(learning_rates))
        self.smoothing.assign(column(label_smoothing))
        self.l2.assign(column(l2))
        for layer in self.dropouts:
            layer.rate.assign(column(dropout))
        self.seed = seed
        first = head_model(*self.shape, multi_label=self.multi_label, seed=seed)
        for variable, start in zip(self.variables, first.trainable_variables, strict=True):
            one = np.asarray(start).reshape(variable.shape[1:])
            variable.assign(np.broadcast_to(one, variable.shape))
        for variable in self.optimizer.variables:
            variable.assign(ops.zeros_like(variable))

    def _losses(self, targets: Any, logits: Any) -> Any:
        """(T, B): the loss of each member for each image, as Keras's crossentropies from logits are."""
        if self.multi_label:
            smooth = targets * (1.0 - self.smoothing) + 0.5 * self.smoothing
            return ops.mean(ops.binary_crossentropy(smooth, logits, from_logits=True), axis=-1)
        smooth = targets * (1.0 - self.smoothing) + self.smoothing / targets.shape[-1]
        return ops.categorical_crossentropy(smooth, logits, from_logits=True)

    def _penalties(self) -> Any:
        """(T,): the L2 penalty of each member."""
        return sum(self.l2[:, 0, 0] * ops.sum(ops.square(kernel), axis=(1, 2)) for kernel in self.kernels)

    def _steps(self) -> Callable[..., None]:
        batch_size, variables = self.batch_size, [variable.value for variable in self.variables]

        def epoch(order: Any, weights: Any, inputs: Any, targets: Any, rows: Any, draws: Any) -> None:
            """Args: which inputs, how heavy, of which, which targets, of which, and what dropout draws."""
            for step in tf.range(self.steps):
                part = tf.range(batch_size) + step * batch_size
                x, y = tf.gather(inputs, tf.gather(order, part)), tf.gather(targets, tf.gather(rows, part))
                with tf.GradientTape() as tape:
                    logits = self.learning([x, *(drawn[step] for drawn in draws)])
                    losses = self._losses(y, logits) * tf.gather(weights, part)
                    loss = tf.reduce_sum(losses) + tf.reduce_sum(self._penalties())
                self.optimizer.apply(tape.gradient(loss, variables), self.variables)

        return epoch

    def _forward(self, inputs: Any, targets: Any) -> tuple[Any, Any, Any]:
        logits = self.judging(inputs)
        probabilities = ops.sigmoid(logits) if self.multi_label else ops.softmax(logits)
        right = (
            ops.mean(ops.cast((logits > 0) == (targets > 0.5), "float32"), axis=-1)
            if self.multi_label
            else ops.cast(ops.argmax(logits, axis=-1) == ops.argmax(targets, axis=-1), "float32")
        )
        return probabilities, ops.sum(self._losses(targets, logits), axis=1), ops.sum(right, axis=1)

    def epoch(self, order: np.ndarray, rows: np.ndarray, weights: np.ndarray, inputs: Any, targets: Any) -> None:
        """All steps of an epoch.

        Args:
            order: (steps * B,) which of the inputs.
            rows: which of the targets.
            weights: of each in the loss.
        """
        begun = int(self.optimizer.iterations)
        draws = []
        for n, units in enumerate(self.units, start=1):
            seeds = [(self.seed + n, begun + step) for step in range(self.steps)]
            draws.append(_draw(tf.constant(seeds, tf.int32), self.batch_size, units))
        indices = tf.constant(order, tf.int32), tf.constant(weights, tf.float32)
        self._epoch(*indices, inputs, targets, tf.constant(rows, tf.int32), draws)

    def judge(self, inputs: Any, targets: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(T, n, num_classes) probabilities, (T,) losses and (T,) accuracies."""
        parts = range(0, len(inputs), JUDGED_AT_ONCE)
        found = [
            self._judge(inputs[start : start + JUDGED_AT_ONCE], targets[start : start + JUDGED_AT_ONCE])
            for start in parts
        ]
        probabilities, losses, right = zip(*[[np.asarray(value) for value in part] for part in found], strict=True)
        loss = np.sum(losses, axis=0) / len(inputs) + np.asarray(self._penalties())
        return np.concatenate(probabilities, axis=1), loss, np.sum(right, axis=0) / len(inputs)
