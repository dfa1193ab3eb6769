"""Tell integer labels that are positions among class names from those that are names, such as 0, 90, 180, 270."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, some
from ..fields import is_integer, shown
from .listing import Listing


def are_names(given: np.ndarray, num_classes: int | None) -> bool:
    """Whether integers that nobody has named are names rather than positions from 0 on.

    They are if `num_classes` counts them. If it is not known, they have to be evenly spaced, such as 0, 90, 180, 270 or
    1, 2, 3; or fewer than half of the positions up to the highest, with several images each. Others may be mistakes.
    """
    values, counts = np.unique(given, return_counts=True)
    if len(values) < 2 or np.array_equal(values, np.arange(len(values))):
        return False
    if num_classes is not None:
        return len(values) == num_classes
    if values[0] < 0:
        return values.tolist() == [-1, 1]
    return len({*np.diff(values).tolist()}) == 1 or (2 * len(values) < values[-1] + 1 and counts.min() > 1)


def mean_names(values: Sequence[int], own: Sequence[str], listing: Listing) -> bool:
    """Whether integers are names of classes that are numerals, rather than positions among the names.

    Raises:
        DataError: both is possible.
    """
    if listing.positions:
        return False
    spelled = {int(name): name for name in own if is_numeral(name)}
    as_names, as_positions = {*values} <= spelled.keys(), all(0 <= value < len(own) for value in values)
    same = as_names and as_positions and all(own[value] == spelled[value] for value in values)
    every = len(spelled) == len(own)
    if same or not (as_names and as_positions):
        return every and (as_names or not listing.said)
    if every and not listing.said:
        return True
    value = next(value for value in values if own[value] != spelled[value])
    raise DataError(
        f"{listing.where} has the integer label {value}, which may mean the class {spelled[value]!r}, or the class at"
        f" position {value}, {own[value]!r}: the classes are {some(own)}. Give the names of the classes as text."
    )


def is_numeral(name: str) -> bool:
    return re.fullmatch(r"-?\d+", name) is not None


def as_class_names(value: Any) -> tuple[str, ...] | None:
    """Return the class names that a user gives as a tuple; None if there are none.

    Args:
        value: names in order, or name -> position, as the `class_indices` of Keras.

    Raises:
        ConfigError: it is something else, or a name comes twice.
    """
    if value is None:
        return None
    names = value
    if isinstance(value, Mapping):
        right = all(is_integer(index) for index in value.values()) and sorted(value.values()) == list(range(len(value)))
        names = sorted(value, key=value.__getitem__) if right else ()
    elif isinstance(value, np.ndarray):
        names = value.tolist()
    kinds = isinstance(names, (list, tuple)) and all(isinstance(name, str) or is_integer(name) for name in names)
    found = tuple(unicodedata.normalize("NFC", str(name)) for name in names) if kinds else ()
    if len(found) < 2 or len({*found}) < len(found) or "" in found:
        raise ConfigError(
            f"class_names must be at least two different names in order, such as ['cat', 'dog']; got {shown(value)}."
        )
    return found
