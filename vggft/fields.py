"""Frozen dataclasses whose values are checked against their annotations, and which are saved as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from numbers import Integral
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


# The type of a field, its description in errors, and a predicate that its values have to fulfil.
Count = Annotated[int, "an integer >= 1", lambda value: is_integer(value) and value >= 1]
Share = Annotated[float, "a number in [0, 1)", lambda value: is_number(value) and 0 <= value < 1]
Weight = Annotated[float, "a number in [0, inf)", lambda value: is_number(value) and value >= 0]
Factor = Annotated[float, "a number in (0, 1]", lambda value: is_number(value) and 0 < value <= 1]

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


class Config:
    """Base class of configurations: frozen dataclasses that check their values against the fields' annotations.

    An annotation is a type in `PLAIN`, a `Literal`, an `Annotated` like `Count`, or a union of these.
    """

    def __post_init__(self) -> None:
        for name, (expected, holds) in _rules(type(self)).items():  # type: ignore[arg-type]
            value = getattr(self, name)
            if not holds(value):
                raise ConfigError(f"{type(self).__name__}.{name} must be {expected}; got {value!r}.")
            if is_integer(value):  # NumPy's integers cannot be written to JSON
                object.__setattr__(self, name, int(value))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        fields = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

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
        return f"{', '.join(first)} or {last}" if first else last, lambda value: value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        rules = [_rule(part) for part in get_args(hint)]
        return " or ".join(expected for expected, _ in rules), lambda value: any(holds(value) for _, holds in rules)
    return PLAIN[hint]
