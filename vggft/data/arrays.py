"""Whatever `predict` takes, as pixels: a file or several, arrays of any size and range."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .reading import MIN_SIDE, Array, read_image, squash


def resize_pixels(pixels: Array, image_size: int) -> Array:
    """(H, W, 3) uint8 or float32 in 0..255 -> (S, S, 3) by `RESIZE_RULE`: unchanged if it has that size, else uint8."""
    if pixels.shape[:2] == (image_size, image_size):
        return pixels
    return squash(Image.fromarray(_rounded(pixels)), image_size)


def _rounded(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8))


def pixel_range(array: Array, name: str = "images") -> str:
    """Which values an array of images holds, so that callers can say which it was taken for.

    Returns:
        "uint8 0..255", "integer 0..255", "uint16 0..65535", "bool 0..1", "float 0..1" (none above 1) or "float 0..255".

    Raises:
        DataError: another dtype, NaN, infinity, or values outside every one of these ranges; all such images are named.
    """
    kind = array.dtype.kind
    if kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers; got dtype {array.dtype}.")
    if array.dtype == np.uint8 or kind == "b" or not array.size:
        return "bool 0..1" if kind == "b" else "uint8 0..255"
    low, high = array.min(), array.max()  # NaN comes through both
    if low >= 0 and high <= 255:
        return "integer 0..255" if kind != "f" else "float 0..1" if high <= 1 else "float 0..255"
    if array.dtype == np.uint16:
        return "uint16 0..65535"
    bad = []
    for i, image in enumerate(array):
        low, high = image.min(), image.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            bad.append(f"{name}[{i}] holds NaN or infinity")
        elif low < 0 or high > 255:
            bad.append(f"{name}[{i}] holds the value {low if low < 0 else high}")
    hint = "float pixels must be in 0..1 or 0..255" if kind == "f" else "integer pixels must be in 0..255"
    raise DataError.listing(
        f"{hint}; other values usually mean that the images were already preprocessed (mean subtracted, or scaled to"
        " -1..1), where the original pixels are needed",
        bad,
    )


def to_pixels(array: Any, image_size: int | None = None, name: str = "images", values: str | None = None) -> Array:
    """Check an array of images and bring it to RGB in 0..255.

    Args:
        array: (N, H, W, 3) RGB, (N, H, W, 1) or (N, H, W) grey, or (N, H, W, 4) RGBA (put on white); bool, any
            integers in 0..255, uint16 (scaled to 8 bits if anything is above 255), or floats in 0..1 or 0..255.
        image_size: side in px that they are squashed to, or None to keep their size.
        name: what error messages call the array.
        values: what `pixel_range` says, where the caller knows it from more than this array.

    Returns:
        (N, H, W, 3) uint8, or float32 where floats came and no resizing rounded them; the array itself where it fits.

    Raises:
        DataError: another shape or dtype, values out of range, or sides below 32 px.
    """
    array = _checked_shape(np.asarray(array), name)
    values = values or pixel_range(array, name)
    if values == "uint16 0..65535":
        array = np.rint(array / np.float32(257)).astype(np.uint8)
    elif values == "bool 0..1":
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
        array = array * np.float32(255) if values == "float 0..1" else array
    else:
        array = array.astype(np.uint8, copy=False)
    if array.shape[3] == 1:
        array = np.repeat(array, 3, axis=3)
    elif array.shape[3] == 4:
        array = _on_white(array)
    if image_size is None or array.shape[1:3] == (image_size, image_size):
        return array
    resized = np.empty((len(array), image_size, image_size, 3), np.uint8)
    for i, pixels in enumerate(array):
        resized[i] = resize_pixels(pixels, image_size)
    return resized


def _checked_shape(array: Array, name: str) -> Array:
    """The array as (N, H, W, C) with C in 1, 3, 4."""
    shape = array.shape
    if array.ndim == 3 and shape[2] in (1, 3, 4):
        raise DataError(f"{name} has shape {shape}, a single image: add the axis of images, as {name}[None].")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4):
        raise DataError(f"{name} has shape {shape}, channels first: move them last, as np.moveaxis({name}, 1, -1).")
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4):
        raise DataError(f"{name} must have shape (N, H, W, 3), or (N, H, W), or 1 or 4 channels; got {shape}.")
    if min(array.shape[1:3]) < MIN_SIDE:
        raise DataError(
            f"{name} are {array.shape[2]}x{array.shape[1]} px; at least {MIN_SIDE} px a side are needed, as VGG halves"
            " them five times: enlarge them first."
        )
    return array


def _on_white(array: Array) -> Array:
    colour, alpha = array[..., :3].astype(np.float32), array[..., 3:].astype(np.float32) / 255
    flat: Array = colour * alpha + 255 * (1 - alpha)
    return np.rint(flat).astype(np.uint8) if array.dtype == np.uint8 else flat


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
