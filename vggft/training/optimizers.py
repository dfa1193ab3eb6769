"""Optimizers, whose learning rate follows a schedule and differs between blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from ..config import Training
from ..heads.schedules import learning_rate

OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}


def make_optimizer(
    training: Training, peak: float, steps: int, block_rates: Mapping[str, float], half: bool = False
) -> Any:
    """Make an optimizer whose learning rate follows the schedule, multiplied for each block by its factor.

    Args:
        training: names the optimizer, its schedule and its weight decay.
        peak: peak learning rate.
        steps: number of steps in the whole phase.
        block_rates: `{"block1": 0.24, ...}`; variables of other layers learn at the full rate.
        half: whether gradients are float16, which need loss scaling.
    """
    base = OPTIMIZERS[training.optimizer]

    class Discriminative(base):  # type: ignore[misc, valid-type]
        """Keras has one learning rate for all variables; this one has a factor for each, found by its index."""

        def build(self, variables: list[Any]) -> None:
            super().build(variables)
            self.factors = [block_rates.get(variable.path.split("_")[0], 1.0) for variable in variables]

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # TensorFlow may pass the variable inside Keras's, or under a distribution strategy that of a replica: only
            # this private method of Keras identifies it. tests/training/test_optimizer.py fails once Keras has a
            # public way.
            factor = self.factors[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * factor)

    options: dict[str, Any] = {"momentum": 0.9, "nesterov": True} if training.optimizer == "sgd" else {}
    schedule = learning_rate(training.schedule, peak, steps)
    if training.weight_decay or training.optimizer == "adamw":  # AdamW does not take None
        options["weight_decay"] = training.weight_decay
    optimizer = Discriminative(schedule, **options)
    # float16 gradients would vanish; bfloat16 has the range of float32.
    return keras.optimizers.LossScaleOptimizer(optimizer) if half else optimizer


def optimizer_for(
    model: keras.Model, training: Training, peak: float, steps: int, block_rates: Mapping[str, float]
) -> Any:
    """Like `make_optimizer`, with loss scaling if some of the model's gradients are float16; built for the model."""
    half = any(layer.compute_dtype == "float16" and layer.trainable_weights for layer in model.layers)
    optimizer = make_optimizer(training, peak, steps, block_rates, half)
    optimizer.build(model.trainable_variables)
    return optimizer
