"""What a trial is: drawn from a search space by KerasTuner's hyperparameters, and what it came to, on the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .backbone import frozen_blocks
from .config import Head, Range, SearchSpace, Training
from .errors import ConfigError
from .run import whole_file

OUTCOME, WEIGHTS = "outcome.json", "head.npz"


@dataclass(frozen=True)
class Setting:
    """What is to be trained in a trial: the blocks that are frozen, the head, and how; `training` may be unresolved."""

    frozen: tuple[str, ...]
    head: Head
    training: Training


Declare = Callable[[Any], Setting]  # given KerasTuner's HyperParameters


def declaration(space: SearchSpace | Callable[[Any], tuple[Head, Training]], fixed: Setting) -> Declare:
    """How hyperparameters become a setting; what is not searched is as in `fixed`.

    Args:
        space: a `SearchSpace`, or a function of `keras_tuner.HyperParameters` that gives a `Head` and a `Training`.

    Raises:
        ConfigError: blocks to freeze that do not exist; at a draw, a function that gives something else.
    """
    if not isinstance(space, SearchSpace):
        return lambda hp: _by_function(space, hp, fixed)
    possible_freezes(space, fixed)

    def declare(hp: Any) -> Setting:
        layers = _draw(hp, "layers", space, len(fixed.head.units))
        hidden = _hidden_layers(space)
        # What a linear probe has not is drawn only where there are hidden layers.
        with hp.conditional_scope("layers", hidden) if hidden else nullcontext():
            drawn = {name: _draw(hp, name, space, None) for name in ("units", "dropout", "activation", "batch_norm")}
        drawn |= {name: _draw(hp, name, space, None) for name in Head.__dataclass_fields__ if name not in drawn}
        drawn |= {name: _draw(hp, name, space, None) for name in Training.__dataclass_fields__}
        freeze = _draw(hp, "freeze", space, None)
        drawn["units"] = _widths(fixed.head.units, layers) if drawn["units"] is None else (drawn["units"],) * layers
        return Setting(
            fixed.frozen if freeze is None else frozen_of(freeze),
            replace(fixed.head, **_known(Head, drawn)),
            replace(fixed.training, **_known(Training, drawn)),
        )

    return declare


def _widths(units: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """As many widths as there are layers, the last one repeated."""
    if layers and not units:
        raise ConfigError("SearchSpace.layers needs widths: give SearchSpace.units, or a head with hidden layers.")
    return (units + units[-1:] * layers)[:layers]


def frozen_of(freeze: str) -> tuple[str, ...]:
    """The blocks of one value of `freeze` as KerasTuner holds it: a collection is written with commas."""
    return frozen_blocks([block for block in freeze.split(",") if block] if "," in freeze else freeze)


def possible_freezes(space: Any, fixed: Setting) -> list[tuple[str, ...]]:
    """Every set of frozen blocks that a trial may have."""
    choices: Any = space.choices("freeze") if isinstance(space, SearchSpace) else None
    return [frozen_blocks(freeze) for freeze in choices] if choices else [fixed.frozen]


def possible_poolings(space: Any, fixed: Setting) -> list[str]:
    """Every pooling that a trial may have; a function may give any."""
    if not isinstance(space, SearchSpace):
        return ["avg", "max", "flatten"]
    choices: Any = space.choices("pooling") or (fixed.head.pooling,)
    return list(choices)


def _by_function(function: Callable[[Any], tuple[Head, Training]], hp: Any, fixed: Setting) -> Setting:
    given = function(hp)
    if not (isinstance(given, tuple) and len(given) == 2):
        raise ConfigError(f"A search space that is a function must give (Head, Training); got {given!r}.")
    head, training = given
    if not (isinstance(head, Head) and isinstance(training, Training)):
        raise ConfigError(f"A search space that is a function must give (Head, Training); got {given!r}.")
    return Setting(fixed.frozen, head, training)


def _hidden_layers(space: SearchSpace) -> list[int]:
    """The numbers of layers under which there are hidden ones, where it is drawn whether there are any."""
    choices = space.choices("layers")
    if isinstance(choices, Range):
        return list(range(1, int(choices.high) + 1)) if choices.low == 0 else []
    values = choices or ()
    return [n for n in values if n] if 0 in values and len(values) > 1 else []


def _draw(hp: Any, name: str, space: SearchSpace, fixed: Any) -> Any:
    """The value of one hyperparameter; `fixed` where it is not searched."""
    choices = space.choices(name) if name in SearchSpace.__dataclass_fields__ else None
    if choices is None:
        return fixed
    if isinstance(choices, Range):
        low, high = choices.low, choices.high
        if isinstance(low, int) and isinstance(high, int):
            even = 1 if name == "layers" else math.gcd(low, high)
            step = 2 if choices.sampling == "log" else even
            return int(hp.Int(name, low, high, step=step, sampling=choices.sampling))  # in a grid it gives floats
        return hp.Float(name, float(low), float(high), sampling=choices.sampling)
    values = [value if isinstance(value, (str, int, float)) else ",".join([*value, ""]) for value in choices]
    if any(isinstance(value, float) for value in values):  # KerasTuner takes values of one type
        values = [float(value) for value in values]
    value = values[0] if len(values) == 1 else hp.Choice(name, values)
    return bool(value) if name == "batch_norm" else value


def _known(kind: type[Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in drawn.items() if name in kind.__dataclass_fields__ and value is not None}


@dataclass(frozen=True)
class Trial:
    """One trial of a search and what it came to.

    Args:
        trial_id: as KerasTuner calls it.
        status: `"completed"` or `"failed"`.
        hyperparameters: as they were drawn.
        frozen: the blocks that were frozen.
        head: what was trained.
        training: how, resolved for the number of images.
        score: the objective on validation images, the mean where there are several scores.
        scores: one for every fold or repeat.
        interval: of the mean, 95 % by Student's t, where there are several; folds share images, so it is too narrow.
        metrics: further ones on the validation images, means as well.
        epochs: the best of each phase.
        seconds: that it took; of a population, its share.
        way: how it was trained: in a population of so many, or alone and why.
        reason: why it failed.
        history: one row an epoch, of the first training.
    """

    trial_id: str
    status: str
    hyperparameters: dict[str, Any]
    frozen: tuple[str, ...]
    head: Head
    training: Training
    score: float | None = None
    scores: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None
    metrics: dict[str, float] | None = None
    epochs: dict[str, int] | None = None
    seconds: float = 0.0
    way: str = ""
    reason: str = ""
    history: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"head": self.head.to_dict(), "training": self.training.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """The inverse of `to_dict` after a trip through JSON."""
        known = {field.name for field in fields(cls)}
        read: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        return cls(
            **read | {"head": Head.from_dict(values["head"]), "training": Training.from_dict(values["training"])}
        )

    def to_row(self) -> dict[str, Any]:
        """As a row of a table: hyperparameters, score, and the rest that is a number or a word."""
        low, high = self.interval or (None, None)
        return {
            "trial": self.trial_id,
            "status": self.status,
            **self.hyperparameters,
            "score": self.score,
            "low": low,
            "high": high,
            **(self.metrics or {}),
            "frozen": " ".join(self.frozen),
            "units": " ".join(map(str, self.head.units)),
            "seconds": round(self.seconds, 3),
            "way": self.way,
            "reason": self.reason.strip().splitlines()[-1] if self.reason.strip() else "",
        }


def write_outcome(folder: Path, trial: Trial, weights: Mapping[str, np.ndarray] | None) -> None:
    """Keep what a trial came to; the words come last, so that what has them has its weights."""
    if weights is not None:
        with whole_file(folder / WEIGHTS) as aside:
            arrays: Any = {name: np.asarray(array) for name, array in weights.items()}
            np.savez(aside, **arrays)
    with whole_file(folder / OUTCOME) as aside:
        aside.write_text(json.dumps(trial.to_dict(), indent=2), encoding="utf-8")


def read_outcome(folder: Path, hyperparameters: Mapping[str, Any] | None = None) -> Trial | None:
    """What a trial came to; None if it did not end, or had other hyperparameters."""
    try:
        trial = Trial.from_dict(json.loads((folder / OUTCOME).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if hyperparameters is not None and trial.hyperparameters != dict(hyperparameters):
        return None
    return trial


def read_outcomes(project: Path) -> list[Trial]:
    """What all trials came to that ended, in the order of their numbers."""
    return [trial for folder in sorted(project.glob("trial_*")) if (trial := read_outcome(folder))]


def ranked(trials: Iterable[Trial], direction: str) -> list[Trial]:
    """The completed ones, the best first; of equal ones that with the lower loss."""
    sign = -1 if direction == "max" else 1
    completed = [trial for trial in trials if trial.status == "completed"]
    return sorted(
        completed,
        key=lambda trial: (sign * (trial.score or 0.0), (trial.metrics or {}).get("val_log_loss", 0.0), trial.trial_id),
    )


def read_weights(folder: Path) -> dict[str, np.ndarray] | None:
    """What a trial learned, if it is kept."""
    try:
        with np.load(folder / WEIGHTS, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except OSError:
        return None
