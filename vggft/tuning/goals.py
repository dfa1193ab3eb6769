"""What a search is for: one metric on validation images, or several of them together, as KerasTuner combines them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras_tuner

from ..errors import ConfigError
from ..evaluation.metrics import METRICS
from ..fields import is_word, shown

LOSS = "log_loss"  # what KerasTuner calls val_loss, without the smoothing and the penalties, which trials may differ in
TOGETHER = "multi_objective"  # KerasTuner's name of several objectives


@dataclass(frozen=True)
class Goal:
    """What trials are scored by.

    Of several metrics, the score is the sum of those that should be low minus the sum of those that should be high, and
    should be low.

    Args:
        asked: the metrics as KerasTuner knows them, such as `"val_accuracy"` or `"val_loss"`.

    >>> goal = goal_of(["val_loss", "val_accuracy"])
    >>> str(goal), goal.direction, goal.score({"log_loss": 0.5, "accuracy": 0.75})
    ('log_loss - accuracy', 'min', -0.25)
    """

    asked: tuple[str, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, by their names in `METRICS`."""
        return tuple(LOSS if name == "loss" else name for name in (name.removeprefix("val_") for name in self.asked))

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether the score should be high or low."""
        return METRICS[self.metrics[0]].direction if len(self.metrics) == 1 else "min"

    def score(self, values: Mapping[str, float]) -> float:
        """Return the score of a trial, given the value of each metric."""
        if len(self.metrics) == 1:
            return values[self.metrics[0]]
        return sum(values[name] * (1 if METRICS[name].direction == "min" else -1) for name in self.metrics)

    def reported(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the values by KerasTuner's names."""
        named = {asked: values[name] for asked, name in zip(self.asked, self.metrics, strict=True)}
        return named if len(named) == 1 else {**named, TOGETHER: self.score(values)}

    def objective(self) -> Any:
        """Return KerasTuner's objective."""
        pairs = zip(self.asked, self.metrics, strict=True)
        parts = [keras_tuner.Objective(asked, METRICS[name].direction) for asked, name in pairs]
        return keras_tuner.Oracle(objective=parts if len(parts) > 1 else parts[0]).objective

    def __str__(self) -> str:
        low = [name for name in self.metrics if METRICS[name].direction == "min" or len(self.metrics) == 1]
        high = [name for name in self.metrics if name not in low]
        return " - ".join([" + ".join(low), *high]).strip()


def goal_of(objective: Any) -> Goal | None:
    """Return the goal of an objective: a name, a `keras_tuner.Objective`, or a list of these; None of none.

    Raises:
        ConfigError: it is something else, or its direction is not that of the metric.
    """
    if objective is None or getattr(objective, "name", None) == "default_objective":
        return None
    parts = objective if isinstance(objective, (list, tuple)) else getattr(objective, "objectives", [objective])
    names = [part.name if isinstance(part, keras_tuner.Objective) else part for part in parts]
    if not names or not all(isinstance(name, str) and name for name in names) or len({*names}) < len(names):
        raise ConfigError(
            "objective must be a metric such as 'val_accuracy', a keras_tuner.Objective, a list of different ones, or "
            f"None; got {shown(objective)}."
        )
    goal = Goal(tuple(names))
    for part, metric in zip(parts, goal.metrics, strict=True):
        known, direction = METRICS.get(metric), getattr(part, "direction", None)
        if known and direction is not None and not is_word(direction, (known.direction,)):
            raise ConfigError(
                f"objective: the direction of {part.name} is {known.direction!r}; got keras_tuner.Objective"
                f"({part.name!r}, {shown(direction)})."
            )
    return goal
