"""Which values are black and white: decided over a whole set of pictures, never file by file.

Pictures of 8 bits, and of bool, need no decision. All pictures in wider integers have one range, and all in floats:
the narrowest of the usual ones that holds every value of the set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .reading import Range, Reading

INTEGERS = (255, 1023, 4095, 16383, 65535)  # white with 8, 10, 12, 14 and 16 bits
OVERSHOOT = 0.05  # of 0..1: how far resampling, which is often done in floats, may leave the range
CHUNK = 2**20  # values that are scaled at once, as each takes many bytes for a moment
DIM = 16  # floats that reach neither 255 nor 0..1 by far, such as 0..3, fit no range


class Values(NamedTuple):
    """The values of one picture, or of several.

    Args:
        kind: "bool", "uint8", "integer" or "float".
        low, high: the lowest and highest value; NaN if any is NaN.
        whole: whether all floats are whole numbers.
        shape: height and width of the picture in px.
    """

    kind: str
    low: float = 0.0
    high: float = 255.0
    whole: bool = True
    shape: tuple[int, int] = (0, 0)


def values_of(array: np.ndarray) -> Values:
    """Find the values of a picture (H, W[, C]), or of several, (N, H, W, C).

    Raises:
        DataError: it does not hold numbers.
    """
    kind = array.dtype.kind
    if kind not in "biuf":
        raise DataError(f"must be an array of numbers; got dtype {array.dtype}")
    shape = tuple(array.shape[-3:-1] if array.ndim >= 3 else array.shape[:2])
    if kind == "b" or array.dtype == np.uint8 or not array.size:
        return Values("bool" if kind == "b" else "uint8", shape=shape)
    low, high = float(array.min()), float(array.max())
    whole = kind != "f" or bool(1 + OVERSHOOT < high < DIM and (array == np.rint(array)).all())
    return Values("float" if kind == "f" else "integer", low, high, whole, shape)


def settle(found: Iterable[Values], reading: Reading) -> Reading:
    """Decide what a reading leaves open; pictures that fit no range are left for `problem` to name."""
    found = list(found)
    if reading.integers is None and not reading.trained:
        tops = [each.high for each in found if each.kind == "integer" and each.low >= 0 and each.high <= INTEGERS[-1]]
        if tops:
            reading = replace(reading, integers=(0.0, float(next(top for top in INTEGERS if top >= max(tops)))))
    if reading.floats is None:
        floats = [each for each in found if each.kind == "float" and each.low >= -OVERSHOOT and each.high <= 255]
        if floats and max(each.high for each in floats) <= 1 + OVERSHOOT:
            reading = replace(reading, floats=(0.0, 1.0))
        elif floats and (
            max(each.high for each in floats) >= DIM or all(each.whole for each in floats if each.high > 1)
        ):
            reading = replace(reading, floats=(0.0, 255.0))
    return reading


def range_for(values: Values, reading: Reading) -> Range | None:
    """Return black and white for a picture with these values, by the reading or else by themselves."""
    if values.kind in ("uint8", "bool"):
        return (0.0, 255.0) if values.kind == "uint8" else (0.0, 1.0)
    settled = settle([values], replace(reading, trained=False))
    return settled.integers if values.kind == "integer" else settled.floats


def problem(values: Values, reading: Reading) -> str:
    """Say why a picture cannot be read, as the end of a sentence that begins with its name; "" if it can be."""
    if values.kind in ("uint8", "bool"):
        return ""
    if not np.isfinite([values.low, values.high]).all():
        return "holds NaN or infinity"
    decided = reading.integers if values.kind == "integer" else reading.floats
    if decided is not None and reading.clips:
        return ""
    low, high = decided or (0.0, 255.0 if values.kind == "float" else float(INTEGERS[-1]))
    slack = OVERSHOOT if values.kind == "float" and high == 1 else 0
    alone = range_for(values, replace(reading, integers=None, floats=None))
    if (decided or alone) is not None and low - slack <= values.low and values.high <= high + slack:
        return ""
    beyond = values.low if values.low < low - slack else values.high
    told = f"holds the value {beyond:.7g}"
    low_high = f"value_range=({values.low:.7g}, {values.high:.7g}) (--value-range {values.low:.7g},{values.high:.7g})"
    remedy = f"say which values are black and white, {low_high} for this one"
    if decided is not None and alone is not None:
        return (
            f"{told}, but the others, or those that the classifier learned from, are taken to be"
            f" {range_text(values.kind, decided)}: {remedy}, in training"
        )
    if values.kind == "float":
        return (
            f"{told}, but float pixels must be in 0..1 or 0..255: if they are already preprocessed (mean subtracted,"
            f" or scaled), pass the original pixels; else {remedy}"
        )
    return f"{told}, but integer pixels must be in 0..{INTEGERS[-1]}: {remedy}"


def dim(found: Iterable[Values], reading: Reading) -> str:
    """Say that all pictures of a kind are nearly black in the range that was decided before; "" if none are."""
    found = list(found)
    for kind, decided in (("integer", reading.integers), ("float", reading.floats)):
        highest = max((each.high for each in found if each.kind == kind), default=np.nan)
        if decided is not None and not reading.clips and decided[0] <= highest <= decided[1] / DIM:
            return (
                f"The highest value is {highest:.4g}, but the classifier learned from images that are"
                f" {range_text(kind, decided)}, so these are nearly black to it. If they are bright, scale them to that"
                " range first."
            )
    return ""


def scaled(array: np.ndarray, black_and_white: Range) -> np.ndarray:
    """Convert values to 0..255: integers to uint8, floats to float32; what is outside becomes black or white."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    low, high = black_and_white
    exact = np.float32 if array.dtype.itemsize <= 2 or array.dtype.kind == "f" else np.float64
    plain = (low, high) == (0.0, 255.0)
    found = np.empty(array.shape, np.float32 if array.dtype.kind == "f" else np.uint8)
    for start in range(0, len(array), rows := max(1, CHUNK * len(array) // max(1, array.size))):
        part = array[start : start + rows]
        part = part if plain else (part.astype(exact) - exact(low)) * exact(255 / (high - low))  # type: ignore[operator]
        part = np.clip(part, 0, 255)
        found[start : start + rows] = np.rint(part) if part.dtype.kind == "f" and found.dtype == np.uint8 else part
    return found


def range_text(kind: str, black_and_white: Range) -> str:
    """Describe a range: "integer 0..4095", "float 0..1"."""
    return f"{kind} {black_and_white[0]:.10g}..{black_and_white[1]:.10g}"


def note(found: Iterable[Values], reading: Reading) -> str:
    """Say as what the pictures were taken; "" if there are none."""
    kinds = {each.kind for each in found}
    told = [text for kind, text in (("bool", "bool 0..1"), ("uint8", "uint8 0..255")) if kind in kinds]
    for kind, decided in (("integer", reading.integers), ("float", reading.floats)):
        if kind in kinds and decided is not None:
            told.append(range_text(kind, decided))
    return f"the images are taken to be {' and '.join(sorted(told))}" if told else ""
