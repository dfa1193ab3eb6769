"""Optimizers, whose learning rate follows a schedule and differs between blocks, and what they hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ..config import Training
from ..engine import Summed
from ..heads.schedules import learning_rate

OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}


@dataclass
class Carried:
    """What the optimizers of earlier phases know about each variable, so that the next one goes on from there.

    Args:
        slots: variables of optimizers, such as a momentum, by name; Keras names them after the variable.
        steps: number of steps that each variable has been trained for, by its path.
    """

    slots: dict[str, np.ndarray] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def hand_to(self, optimizer: Any) -> None:
        """Give a built optimizer the slots of the variables that were trained before."""
        for variable in optimizer.variables:
            if variable.name in self.slots:
                variable.assign(self.slots[variable.name])

    def take_from(self, optimizer: Any, trained: Sequence[Any]) -> None:
        """Keep what an optimizer has learned about the variables that it trained."""
        begins = tuple(variable.path.replace("/", "_") + "_" for variable in trained)
        self.slots |= {v.name: np.array(v) for v in optimizer.variables if v.name.startswith(begins)}
        for variable in trained:
            self.steps[variable.path] = self.steps.get(variable.path, 0) + int(
                keras.ops.convert_to_numpy(optimizer.iterations)
            )


def make_optimizer(
    training: Training,
    peak: float,
    steps: int,
    block_rates: Mapping[str, float],
    half: bool = False,
    *,
    schedule: str | None = None,
    taken: Mapping[str, int] | None = None,
) -> Any:
    """Make an optimizer whose learning rate follows the schedule, multiplied for each block by its factor.

    Args:
        training: gives the optimizer, its weight decay, clipping and averaging.
        peak: peak learning rate.
        steps: number of steps in the whole phase.
        block_rates: `{"block1": 0.24, ...}`; variables of other layers learn at the rate of `"head"`, 1 if not given.
        half: whether gradients are float16, which need loss scaling.
        schedule: schedule of the learning rate; None for that of `training`.
        taken: number of steps that variables were trained for before, by path, as in `Carried`.
    """
    given = None if isinstance(training.optimizer, str) else training.optimizer
    base: Any = OPTIMIZERS[training.optimizer] if given is None else type(given)

    class Discriminative(Summed, base):  # type: ignore[misc]
        """Keras has one learning rate for all variables; this one has a factor for each, found by its index."""

        before = 0

        def build(self, variables: list[Any]) -> None:
            # Decay is for kernels: biases and batch normalisation are vectors, which do not overfit.
            self.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
            super().build(variables)
            rest = block_rates.get("head", 1.0)
            self.factors = [block_rates.get(variable.path.split("_")[0], rest) for variable in variables]
            self.taken = [(taken or {}).get(variable.path, 0) for variable in variables]

        @property
        def iterations(self) -> Any:
            """The steps taken: of this phase, and for a variable in `update_step` also those of earlier phases.

            By these, Adam and others correct the bias of averages that began with zeros.
            """
            return super().iterations + self.before if self.before else super().iterations

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # TensorFlow may pass the variable inside Keras's, or under a distribution strategy that of a replica: only
            # this private method of Keras identifies it. tests/training/test_optimizer.py fails once Keras has a
            # public way.
            index = self._get_variable_index(variable)
            self.before = self.taken[index]
            super().update_step(gradient, variable, learning_rate * self.factors[index])
            self.before = 0

    options: dict[str, Any] = {"momentum": 0.9, "nesterov": True} if training.optimizer == "sgd" else {}
    if given is not None:
        options = given.get_config()
    options["learning_rate"] = learning_rate(schedule or training.schedule, peak, steps)
    if training.weight_decay or training.optimizer == "adamw":  # AdamW does not take None
        options["weight_decay"] = training.weight_decay
    if training.clip_norm is not None:
        options["global_clipnorm"] = training.clip_norm
    if training.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": training.ema_momentum}
    optimizer = Discriminative.from_config(options)
    # float16 gradients would vanish; bfloat16 has the range of float32.
    return keras.optimizers.LossScaleOptimizer(optimizer) if half else optimizer


def half_of(model: keras.Model) -> bool:
    """Whether some gradients of a model are float16, which need loss scaling."""
    return any(layer.compute_dtype == "float16" and layer.trainable_weights for layer in model.layers)


def averages(training: Training) -> bool:
    """Whether the optimizer keeps a moving average of the weights, which is what is judged and kept."""
    return bool(training.ema_momentum or getattr(training.optimizer, "use_ema", False))
