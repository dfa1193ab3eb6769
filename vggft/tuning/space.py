"""The search space, and how KerasTuner's hyperparameters become a setting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from ..config import Head, Training
from ..errors import ConfigError, short_traceback
from ..fields import Config, is_integer, is_number, is_word, shown, unwrapped
from ..network.blocks import frozen_blocks
from ..training.phases import Setting


@dataclass(frozen=True)
class Range:
    """A range of numbers from `low` to `high`, sampled uniformly, or for `"log"` uniformly in the logarithm.

    >>> Range(1e-4, 1e-2, "log").sampling
    'log'
    """

    low: float
    high: float
    sampling: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        for name in ("low", "high", "sampling"):
            object.__setattr__(self, name, unwrapped(getattr(self, name)))
        numbers = is_number(self.low) and is_number(self.high)
        if not numbers or not self.low < self.high:
            raise ConfigError(
                f"A range needs a number and a larger number; got {shown(self.low)} to {shown(self.high)}."
            )
        if not is_word(self.sampling, ("linear", "log")):
            raise ConfigError(f"The sampling of a range must be 'linear' or 'log'; got {shown(self.sampling)}.")
        if self.sampling == "log" and self.low <= 0:
            raise ConfigError(f"A 'log' range must begin above 0; got {shown(self.low)}.")


@short_traceback
@dataclass(frozen=True)
class SearchSpace(Config):
    """What a search may choose from. Each field is a value, a list (any of its values), or a range.

    A range is a tuple `(low, high)` or `(low, high, "log")`. Integers are multiples of the greatest common divisor of
    both ends (64, 128, 192), or for `"log"` doublings of `low`, so that heads of one width can be trained together. A
    tuple of strings is a list. None means that the field is not searched: its value is that of the `freeze`, `head` or
    `training` argument.

    Args:
        units: width of the hidden layers.
        layers: number of hidden layers of that width; 0 is a linear probe.
        dropout, blocks, pooling, activation, batch_norm, l2, normalize: as in `Head`.
        learning_rate, fine_tune_learning_rate, optimizer, label_smoothing, weight_decay, batch_size: as in `Training`.
        freeze: as in `finetune`, for example `["block4", "all"]`.

    >>> SearchSpace(units=[64, 128], dropout=(0.0, 0.5)).choices("dropout")
    Range(low=0.0, high=0.5, sampling='linear')
    """

    units: Any = (64, 512, "log")
    layers: Any = (0, 2)
    dropout: Any = None
    blocks: Any = None
    pooling: Any = None
    activation: Any = None
    batch_norm: Any = None
    l2: Any = None
    normalize: Any = ("sqrt_l2", "l2", "standardize")
    learning_rate: Any = (1e-4, 1e-2, "log")
    fine_tune_learning_rate: Any = None
    optimizer: Any = None
    label_smoothing: Any = None
    weight_decay: Any = None
    batch_size: Any = None
    freeze: Any = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if getattr(value, "ndim", None) == 1:  # an array of values is a list of them
                value = value.tolist()
            if isinstance(value, (list, tuple)):
                value = type(value)(map(unwrapped, value))
            object.__setattr__(self, field.name, unwrapped(value))
            try:
                self._check(field.name, self.choices(field.name))
            except ConfigError as error:
                raise ConfigError(f"SearchSpace.{field.name}: {error}") from None

    def choices(self, field: str) -> tuple[Any, ...] | Range | None:
        """Return what a field may be: some values, a `Range`, or None if it is not searched."""
        value = getattr(self, field)
        if value is None:
            return None
        if isinstance(value, tuple) and not isinstance(value[0] if value else None, str):
            if len(value) not in (2, 3):
                raise ConfigError(
                    f"a range is (low, high) or (low, high, 'log'), and a choice is a list; got {shown(value)}."
                )
            return Range(*value)
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not values:
            raise ConfigError("a choice needs at least one value; got none.")
        return values

    def _check(self, field: str, choices: tuple[Any, ...] | Range | None) -> None:
        """Check that `Head` or `Training` accepts every value."""
        values = (choices.low, choices.high) if isinstance(choices, Range) else choices or ()
        for value in values:
            if field == "freeze":
                if isinstance(choices, Range):
                    raise ConfigError(f"expected blocks, or a list of what may be frozen; got {shown(self.freeze)}.")
                frozen_blocks(value)
            elif field == "layers":
                if not is_integer(value) or value < 0:
                    raise ConfigError(f"expected integers >= 0; got {shown(value)}.")
            elif field == "units":
                Head(units=(value,))
            elif field == "blocks":
                Head(blocks=of_blocks(value))
            elif field in Head.__dataclass_fields__:
                Head(**{field: value})
            elif field in Training.__dataclass_fields__:
                Training(**{field: value})

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: a list of choices, the fields of a range, or None."""
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            choices = self.choices(field.name)
            found[field.name] = dataclasses.asdict(choices) if isinstance(choices, Range) else choices and list(choices)
        return found

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Make a space from the output of `to_dict`."""
        ranges = {name: tuple(value.values()) for name, value in fields.items() if isinstance(value, dict)}
        return super().from_dict({**fields, **ranges})


Declare = Callable[[Any], Setting]  # given KerasTuner's HyperParameters
INTEGERS = ("units", "layers", "batch_size")


def declaration(space: Any, fixed: Setting) -> Declare:
    """Return the function that turns hyperparameters into a setting; what is not searched is as in `fixed`.

    A hyperparameter that exists already, under the name of a field of the space, is drawn from instead of that field.

    Args:
        space: a `SearchSpace`, a function of `keras_tuner.HyperParameters` that returns a `Head` and a `Training`, or a
            `keras_tuner.HyperModel` whose `build` is such a function.

    Raises:
        ConfigError: a block does not exist; or later, when drawing, a function returns something else.
    """
    if not isinstance(space, SearchSpace):
        return lambda hp: _by_function(space, hp, fixed)
    possible_freezes(space, fixed)

    def declare(hp: Any) -> Setting:
        layers = _draw(hp, "layers", space, len(fixed.head.units))
        hidden = _hidden_layers(space)
        # These are drawn only if there are hidden layers.
        with hp.conditional_scope("layers", hidden) if hidden else nullcontext():
            drawn = {name: _draw(hp, name, space, None) for name in ("units", "dropout", "activation", "batch_norm")}
        drawn |= {name: _draw(hp, name, space, None) for name in Head.__dataclass_fields__ if name not in drawn}
        drawn |= {name: _draw(hp, name, space, None) for name in Training.__dataclass_fields__}
        freeze, drawn["blocks"] = _draw(hp, "freeze", space, None), of_blocks(drawn["blocks"])
        fixed_widths = space.choices("units") is None
        drawn["units"] = _widths(fixed.head.units, layers) if fixed_widths else (drawn["units"],) * layers
        return Setting(
            fixed.frozen if freeze is None else frozen_of(freeze),
            replace(fixed.head, **_known(Head, drawn)),
            replace(fixed.training, **_known(Training, drawn)),
        ).with_blocks()

    return declare


def _widths(units: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """Return one width for each layer, the last one repeated."""
    if layers and not units:
        raise ConfigError("SearchSpace.layers needs widths: give SearchSpace.units, or a head with hidden layers.")
    return (units + units[-1:] * layers)[:layers]


def frozen_of(freeze: str) -> tuple[str, ...]:
    """Return the blocks of one value of `freeze` as KerasTuner stores it: a collection is joined by commas."""
    return frozen_blocks([block for block in freeze.split(",") if block] if "," in freeze else freeze)


def possible_freezes(space: Any, fixed: Setting) -> list[tuple[str, ...]]:
    """Return every set of frozen blocks that a trial may have."""
    choices: Any = space.choices("freeze") if isinstance(space, SearchSpace) else None
    return [frozen_blocks(freeze) for freeze in choices] if choices else [fixed.frozen]


def possible_settings(space: Any, fixed: Setting) -> list[Setting]:
    """Return a setting for every set of frozen blocks, and of blocks and pooling of the head, that a trial may have."""
    poolings: Any = ("avg", "max", "flatten")
    blocks: Any = (fixed.head.blocks,)
    if isinstance(space, SearchSpace):
        poolings = space.choices("pooling") or (fixed.head.pooling,)
        blocks = space.choices("blocks") or blocks
    heads = [
        replace(fixed.head, pooling=pooling, blocks=None if pooling == "flatten" else of_blocks(which))
        for pooling in poolings
        for which in blocks
    ]
    frozen = possible_freezes(space, fixed)
    return [replace(fixed, frozen=each, head=head).with_blocks() for each in frozen for head in heads]


def of_blocks(value: Any) -> Any:
    """Return the blocks of one value of `blocks` as KerasTuner stores it: several are joined by commas."""
    return [block for block in value.split(",") if block] if isinstance(value, str) else value


def adopted(space: SearchSpace, given: Any) -> SearchSpace:
    """Return a space with the hyperparameters that a user declared, which replace its fields of these names.

    Args:
        given: `keras_tuner.HyperParameters`.

    Raises:
        ConfigError: one of them is no field, or has values that the field cannot have.
    """
    fields = dict[str, Any]()
    for each in given.space:
        if each.name not in SearchSpace.__dataclass_fields__:
            known = ", ".join(SearchSpace.__dataclass_fields__)
            raise ConfigError(f"SearchSpace has no field {each.name!r} for this hyperparameter; it has {known}.")
        config = each.get_config()
        low, high = config.get("min_value"), config.get("max_value")
        values = [of_blocks(value) if "," in str(value) else value for value in each.values] if low is None else [low]
        fields[each.name] = values if low == high else (low, high)
    return replace(space, **fields)


def _by_function(space: Any, hp: Any, fixed: Setting) -> Setting:
    if declare := getattr(space, "declare_hyperparameters", None):  # of a HyperModel
        declare(hp)
    given = getattr(space, "build", space)(hp)
    if not (isinstance(given, tuple) and len(given) == 2):
        raise ConfigError(f"A search space that is a function must return (Head, Training); got {shown(given)}.")
    head, training = given
    if not (isinstance(head, Head) and isinstance(training, Training)):
        raise ConfigError(f"A search space that is a function must return (Head, Training); got {shown(given)}.")
    return Setting(fixed.frozen, head, training).with_blocks()


def _hidden_layers(space: SearchSpace) -> list[int]:
    """Return the numbers of hidden layers above 0, if the space also has 0."""
    choices = space.choices("layers")
    if isinstance(choices, Range):
        return list(range(1, int(choices.high) + 1)) if choices.low == 0 else []
    values = choices or ()
    return [n for n in values if n] if 0 in values and len(values) > 1 else []


def _draw(hp: Any, name: str, space: SearchSpace, fixed: Any) -> Any:
    """Draw one hyperparameter; `fixed` if it is not searched."""
    if any(each.name == name and not each.conditions for each in hp.space):
        return _typed(name, hp.get(name))
    choices = space.choices(name) if name in SearchSpace.__dataclass_fields__ else None
    if choices is None:
        return fixed
    if isinstance(choices, Range):
        low, high = choices.low, choices.high
        if isinstance(low, int) and isinstance(high, int):
            even = 1 if name == "layers" else math.gcd(low, high)
            step = 2 if choices.sampling == "log" else even
            return _typed(name, hp.Int(name, low, high, step=step, sampling=choices.sampling))
        return hp.Float(name, float(low), float(high), sampling=choices.sampling)
    values = [value if isinstance(value, (str, int, float)) else ",".join([*value, ""]) for value in choices]
    if any(isinstance(value, float) for value in values):  # KerasTuner accepts values of one type only
        values = [float(value) for value in values]
    return _typed(name, values[0] if len(values) == 1 else hp.Choice(name, values))


def _typed(name: str, value: Any) -> Any:
    """Return a drawn value in the type of its field: a grid gives floats, and a choice integers for True and False."""
    if value is None:  # a width without a layer
        return None
    return int(value) if name in INTEGERS else bool(value) if name == "batch_norm" else value


def _known(kind: type[Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in drawn.items() if name in kind.__dataclass_fields__ and value is not None}
