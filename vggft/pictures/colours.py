"""Bands of any number and values in any range -> RGB in 0..255."""

from __future__ import annotations

import numpy as np

from ..errors import counted
from .formats import UnusableError
from .ranges import problem, range_for, scaled, values_of
from .reading import Range, Reading

NOT_ALPHA = (
    "has {} bands, and the last does not look like transparency: choose those that are red, green and blue, for example"
    " bands=(0, 1, 2) (--bands 0,1,2)"
)
PLAIN = 0.5  # share of the pixels of a band that have to be clear or opaque, for it to look like transparency


def to_rgb(array: np.ndarray, reading: Reading, alpha: bool | None = None) -> np.ndarray:
    """Convert one picture to RGB in 0..255.

    Args:
        array: (H, W) or (H, W, C) of any bands and values.
        reading: which bands and which range; what it leaves open is decided by this picture alone.
        alpha: whether the last band is declared to be transparency; None if nothing is declared.

    Returns:
        (H, W, 3) uint8, or float32 if the values are floats.

    Raises:
        UnusableError: there are other bands than colours, or values that fit no range.
    """
    array = array[..., None] if array.ndim == 2 else array
    count, bands = array.shape[2], reading.bands
    if bands is not None:
        if max(bands) >= count:
            asked = f"bands={bands} (--bands {','.join(map(str, bands))})"
            raise UnusableError(f"has {counted(count, 'band')}, but {asked} asks for number {max(bands)}")
        array = array[..., list(bands)]
        alpha = False
    values = values_of(array if not alpha else array[..., :-1])
    if wrong := problem(values, reading):
        raise UnusableError(wrong)
    black_and_white = _decided(array, values.kind, reading) or range_for(values, reading) or (0.0, 255.0)
    clear = None
    if array.shape[2] in (2, 4) and alpha is not False and bands is None:
        top = np.iinfo(array.dtype).max if array.dtype.kind == "u" and alpha else black_and_white[1]
        if looks_like_alpha(array[..., -1], top) or alpha:
            clear, array = array[..., -1:].astype(np.float32) / np.float32(top), array[..., :-1]
    if array.shape[2] not in (1, 3):
        raise UnusableError(NOT_ALPHA.format(count))
    colour = scaled(array, black_and_white)
    colour = np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
    return colour if clear is None else _on_white(colour, np.clip(clear, 0, 1))


def _decided(array: np.ndarray, kind: str, reading: Reading) -> Range | None:
    return {"integer": reading.integers, "float": reading.floats, "bool": (0.0, 1.0)}.get(kind)


def looks_like_alpha(band: np.ndarray, top: float) -> bool:
    """Whether a band looks like transparency: some of it is opaque, and most of it either that or quite clear."""
    opaque, clear = band >= top, band <= 0
    return bool(opaque.any() and (opaque | clear).mean() >= PLAIN)


def _on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    flat: np.ndarray = colour * alpha + np.float32(255) * (1 - alpha)
    return np.rint(flat).astype(np.uint8) if colour.dtype == np.uint8 else flat
