"""Whatever `predict` takes, as pixels: a file or several, arrays of any size and range."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .errors import DataError
from .images import read_image, to_pixels


def as_several(pictures: Any) -> tuple[Any, str | None]:
    """One picture or several as a sequence or an array (N, H, W, 3), and the range that float arrays are in.

    Raises:
        DataError: there are none.
    """
    if is_one(pictures):
        pictures = pictures[None] if isinstance(pictures, np.ndarray) else [pictures]
    if not hasattr(pictures, "__len__"):
        pictures = list(pictures)
    if not len(pictures):
        raise DataError("There are no images to predict: got an empty list.")
    if not isinstance(pictures, np.ndarray):
        return pictures, _range([picture for picture in pictures if isinstance(picture, np.ndarray)])
    return pictures, _range([pictures])


def read_pictures(
    pictures: Any, image_size: int, first: int = 0, value_range: str | None = None
) -> tuple[np.ndarray, list[str]]:
    """Some of what `predict` takes as one (N, S, S, 3) array in 0..255, and what is wrong with any of it.

    Args:
        pictures: an array (N, H, W, 3), or a sequence of files and arrays.
        first: the number of the first, for messages.
        value_range: of all float arrays together; a dark picture among floats in 0..255 may have none above 1.
    """

    def read(numbered: tuple[int, Any]) -> np.ndarray | str:
        number, picture = numbered
        try:
            if not isinstance(picture, np.ndarray):
                return read_image(picture, image_size).pixels
            values = value_range if picture.dtype.kind == "f" else None
            return to_pixels(picture[None], image_size, f"images[{number}]", values)[0]
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes without the GIL
        found = list(threads.map(read, enumerate(pictures, start=first)))
    problems = [each for each in found if isinstance(each, str)]
    pixels = [each for each in found if not isinstance(each, str)]
    return np.stack(pixels) if pixels else np.empty((0, image_size, image_size, 3), "uint8"), problems


def _range(arrays: Any) -> str | None:
    """The range that float arrays are taken to be in, together."""
    floats = [array for array in arrays if array.dtype.kind == "f"]
    return None if not floats else "float 0..1" if max(np.nanmax(array) for array in floats) <= 1 else "float 0..255"


def is_one(pictures: Any) -> bool:
    """Whether it is one picture: a file, a PIL image, or an array without a batch axis."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim == 3 and pictures.shape[-1] in (1, 3, 4)
    return isinstance(pictures, (str, os.PathLike, bytes)) or hasattr(pictures, "getbands") or hasattr(pictures, "read")
