"""Optimizers: a schedule of the learning rate, and slower learning for blocks nearer to the input."""

from __future__ import annotations

from typing import Any

import keras

from ..config import Training

OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}


def learning_rate(schedule: str, peak: float, steps: int) -> Any:
    """A constant, or a short warm-up and then a cosine to zero; `steps` are those of the whole phase."""
    if schedule == "constant":
        return peak
    warmup = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(0.0, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup)


def make_optimizer(training: Training, peak: float, steps: int, rates: dict[str, float], half: bool = False) -> Any:
    """An optimizer whose learning rate follows the schedule and is multiplied for each block by `rates`."""
    base = OPTIMIZERS[training.optimizer]

    rate_of: dict[int, float] = {}

    class Discriminative(base):  # type: ignore[misc, valid-type]
        """Keras has one learning rate for all variables; blocks nearer to the input should learn slower."""

        def build(self, variables: list[Any]) -> None:
            super().build(variables)
            for variable in variables:  # a step is given Keras's variable or, under TensorFlow, the one inside it
                rate = rates.get(variable.path.split("_")[0], 1.0)
                rate_of.update({id(variable): rate, id(variable.value): rate})

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * rate_of[id(variable)])

    options: dict[str, Any] = {"momentum": 0.9, "nesterov": True} if training.optimizer == "sgd" else {}
    schedule = learning_rate(training.schedule, peak, steps)
    if training.weight_decay or training.optimizer == "adamw":  # to AdamW none is no value
        options["weight_decay"] = training.weight_decay
    optimizer = Discriminative(schedule, **options)
    # The gradients of float16 would vanish; bfloat16 has the range of float32.
    return keras.optimizers.LossScaleOptimizer(optimizer) if half else optimizer
