"""Frozen dataclasses whose values are checked against their annotations, and which are saved as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import operator
import os
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from numbers import Integral
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from .arguments import CONFIGURATIONS, refusal
from .errors import ConfigError, short_traceback

PARTS = ("block1", "block2", "block3", "block4", "block5", "head")  # what may have a learning rate of its own


def unwrapped(value: Any) -> Any:
    """Return a scalar of NumPy, or an array of no dimensions, as the value of Python that it is; others as they are."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that is too large for a float
        return False


def is_word(value: Any, words: Iterable[Any]) -> bool:
    """Whether a value is one of some words; an array, which compares element by element, is none."""
    return isinstance(value, Hashable) and any(type(value) is type(word) and value == word for word in words)


def is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_count(name: str, value: Any, least: int, most: int) -> None:
    """Raise `ConfigError` unless an argument is an integer within bounds."""
    if not is_integer(value) or value < least:
        raise ConfigError(f"{name} must be an integer >= {least}; got {shown(value)}.")
    if value > most:
        raise ConfigError(f"{name} must be at most {most}; got {value}.")


def as_path(value: Any, name: str = "path") -> Path:
    """Return an argument as a path, with `~` expanded.

    Raises:
        ConfigError: it is not a string or a path, or no file can have this name; or there is no home directory for `~`.
    """
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise ConfigError(f"{name} must be a path; got {shown(value)}.")
    path = Path(value)
    if "\0" in str(path) or any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise ConfigError(f"{name} must be a path, and no file can have this name: {shown(str(path))}.")
    try:
        return path.expanduser() if path.parts[:1] == ("~",) else path
    except RuntimeError:
        told = f"{name} lies in the home directory ({path}), and there is none: HOME is not set."
        raise ConfigError(f"{told} Give the whole path.") from None


def _is_freeze(value: Any) -> bool:
    if isinstance(value, str) and value in ("all", "none"):
        return True
    names = value if isinstance(value, tuple) else (value,)
    return all(isinstance(name, str) and re.fullmatch(r"block[1-5](_conv[1-4])?", name) for name in names)


def _are_positive(value: Any) -> bool:
    """Whether a value is a mapping of names to positive numbers that has at least one."""
    is_named = isinstance(value, Mapping) and bool(value) and all(isinstance(name, str) for name in value)
    return is_named and all(is_number(number) and number > 0 for number in value.values())


def with_plain_numbers(value: Any) -> Any:
    """Return a mapping whose NumPy scalars, keys and values alike, are values of Python; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    return {unwrapped(name): unwrapped(number) for name, number in value.items()}


def _is_keras(value: Any, kind: str) -> bool:
    """Whether a value is an object of Keras, such as an `"optimizers.Optimizer"`; Keras is not imported for it."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, operator.attrgetter(kind)(keras))


# The type of a field, its description in errors, and a predicate that its values have to fulfil.
Count = Annotated[int, "an integer >= 1", lambda value: is_integer(value) and value >= 1]
Share = Annotated[float, "a number in [0, 1)", lambda value: is_number(value) and 0 <= value < 1]
Weight = Annotated[float, "a number in [0, inf)", lambda value: is_number(value) and value >= 0]
Factor = Annotated[float, "a number in (0, 1]", lambda value: is_number(value) and 0 < value <= 1]
Positive = Annotated[float, "a number in (0, inf)", lambda value: is_number(value) and value > 0]

Freeze = Annotated[
    str | tuple[str, ...],
    f"'all', 'none', one of {', '.join(PARTS[:-1])} or a convolution such as 'block5_conv2', or a tuple of these",
    _is_freeze,
]
Rates = Annotated[
    Mapping[str, float],
    f"a mapping of {', '.join(PARTS)} to positive factors, such as {{'block5': 0.1}}",
    lambda value: _are_positive(value) and set(value) <= set(PARTS),
]
ClassWeights = Annotated[Mapping[str, float], "a mapping of class names to positive weights", _are_positive]
# These two may also be mappings that describe them, as in config.json.
Optimizer = Annotated[Any, "a keras.optimizers.Optimizer", lambda value: _is_keras(value, "optimizers.Optimizer")]
Loss = Annotated[Any, "a keras.losses.Loss", lambda value: _is_keras(value, "losses.Loss")]

Rule = tuple[str, Callable[[Any], bool]]
PLAIN: dict[Any, Rule] = {
    NoneType: ("None", lambda value: value is None),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    int: ("an integer", is_integer),
    float: ("a number", is_number),
    str: ("a string", lambda value: isinstance(value, str)),
    Path: ("a path", lambda value: isinstance(value, (str, Path))),
}


def refuse_unknown(refusal: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigError` for unknown names, and suggest the most similar known ones.

    Args:
        refusal: beginning of the message, such as "Head has no field".
        names: dotted names, compared by their last parts.
        known: dotted names.
    """
    known = sorted(known)
    last = {name.rpartition(".")[2]: name for name in known}
    unknown = sorted(set(names) - set(known))
    close = {name: difflib.get_close_matches(name.rpartition(".")[2], last, n=1) for name in unknown}
    told = [name + (f" (did you mean {last[found[0]]}?)" if found else "") for name, found in close.items()]
    if unknown:
        rest = "." if all(close.values()) else f"; there are {', '.join(known)}."
        raise ConfigError(f"{refusal} {', '.join(told)}{rest}")


def from_keras_config(value: Any) -> Any:
    """Return the object of Keras that `to_dict` wrote as a mapping; anything else as it is.

    Raises:
        ConfigError: Keras cannot make it, for example because its class is not one of Keras's own.
    """
    if not (isinstance(value, Mapping) and "class_name" in value):
        return value
    import keras

    try:
        if others := sorted(_modules_in(value) - {"keras", "builtins"}):
            raise ValueError(f"it is from {others[0]}, and only objects of Keras itself are made")
        return keras.saving.deserialize_keras_object(dict(value))
    except Exception as error:  # of settings that cannot be, Keras may raise anything
        raise ConfigError(f"Keras cannot make a {value['class_name']} of its settings: {error}") from None


def _modules_in(value: Any) -> set[str]:
    """Return the packages whose objects a configuration of Keras names; Keras would import any."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    mine = value.get("module") if isinstance(value, Mapping) and "class_name" in value else None
    return {str(mine).split(".")[0]} - {"None"} | {name for each in inside for name in _modules_in(each)}


def _plain(value: Any) -> Any:
    """Return a value of a field as JSON has it; an object of Keras by its configuration, without its running name."""
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if hasattr(value, "get_config"):
        import keras

        found: dict[str, Any] = keras.saving.serialize_keras_object(value)
        return found | {"config": {key: each for key, each in found["config"].items() if key != "name"}}
    return value


def shown(value: Any, longest: int = 200) -> str:
    """Return a value as errors show it; what is long, or cannot say what it is, by its type."""
    try:
        text = repr(value)
    except Exception:  # of a class of the user's own
        return f"a {type(value).__name__}"
    return text if len(text) <= longest else f"{text[:longest]}..."


@short_traceback
class Config:
    """Base class of configurations: frozen dataclasses that check their values against the fields' annotations.

    An annotation is a type in `PLAIN`, a `Literal`, an `Annotated` like `Count`, or a union of these.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        CONFIGURATIONS[cls.__name__] = cls

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        if args or fields:  # not when a copy is made
            signature = inspect.signature(cls)
            try:
                signature.bind(*args, **fields)
            except TypeError as error:
                raise refusal(cls.__name__, signature, args, fields, error) from None
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, (expected, holds) in _rules(type(self)).items():  # type: ignore[arg-type]
            value = unwrapped(getattr(self, name))
            object.__setattr__(self, name, value)  # NumPy's scalars cannot be written to JSON
            if not holds(value):
                raise ConfigError(f"{type(self).__name__}.{name} must be {expected}; got {shown(value)}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Make a configuration from the output of `to_dict`; raise `ConfigError` for unknown fields."""
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        refuse_unknown(f"{cls.__name__} has no field", fields, known)
        return cls(**fields)


@cache
def _rules(cls: type[Config]) -> dict[str, Rule]:
    return {name: _rule(hint) for name, hint in get_type_hints(cls, include_extras=True).items()}


def _rule(hint: Any) -> Rule:
    """Describe the values that an annotation allows, in words and as a predicate."""
    if get_origin(hint) is Annotated:
        _, expected, holds = get_args(hint)
        return expected, holds
    if get_origin(hint) is Literal:
        *first, last = map(repr, get_args(hint))
        allowed = get_args(hint)
        return f"{', '.join(first)} or {last}" if first else last, lambda value: is_word(value, allowed)
    if get_origin(hint) in (Union, UnionType):
        rules = [_rule(part) for part in get_args(hint)]
        return " or ".join(expected for expected, _ in rules), lambda value: any(holds(value) for _, holds in rules)
    return PLAIN[hint]
