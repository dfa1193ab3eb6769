"""Convert arrays of any usual shape, dtype and range to RGB in 0..255; read the inputs of `predict`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from ..errors import DataError
from .reading import MIN_SIDE, read_image, squash


def in_threads(function: Callable[[Any], Any], items: Iterable[Any], batch_size: int = 1) -> Generator[Any, None, None]:
    """Yield `function(item)` for every item, in order, computed in threads; Pillow and hashlib release the GIL.

    Args:
        batch_size: number of items that a thread takes at once; joblib needs 60 µs per batch.
    """
    threads = Parallel(n_jobs=-1, require="sharedmem", return_as="generator", batch_size=batch_size)
    results = threads(map(delayed(function), items))
    try:
        for result in results:  # noqa: UP028, `yield from` would close them before the warning is silenced
            yield result
    finally:
        with warnings.catch_warnings():  # if the caller stops early, joblib warns about unused results
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def resize_pixels(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Resize one image by `RESIZE_RULE`.

    Args:
        pixels: (H, W, 3) uint8 or float32 in 0..255.
        image_size: side S in px.

    Returns:
        (S, S, 3): `pixels` itself if it has that size, else uint8.
    """
    if pixels.shape[:2] == (image_size, image_size):
        return pixels
    whole = pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8)
    return squash(Image.fromarray(whole), image_size)


def pixel_range(images: np.ndarray, name: str = "images", first: int = 0) -> str:
    """Determine which values an array of images holds.

    Args:
        images: (N, ...) of any dtype.
        name: name of the array in error messages.
        first: number of its first image in error messages.

    Returns:
        "uint8 0..255", "integer 0..255", "uint16 0..65535", "bool 0..1", "float 0..1" (none above 1) or "float 0..255".

    Raises:
        DataError: another dtype, NaN, infinity, or values outside all of these ranges; every such image is listed.
    """
    values, bad = find_range(images, name, first)
    if bad:
        raise out_of_range(images.dtype, bad)
    return values


def find_range(images: np.ndarray, name: str = "images", first: int = 0) -> tuple[str, list[str]]:
    """Like `pixel_range`, but return the range, or "" and what is wrong with each image that is outside all ranges."""
    kind = images.dtype.kind
    if kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers; got dtype {images.dtype}.")
    if images.dtype == np.uint8 or kind == "b" or not images.size:
        return "bool 0..1" if kind == "b" else "uint8 0..255", []
    low, high = images.min(), images.max()  # both are NaN if any value is
    if low >= 0 and high <= 255:
        return "integer 0..255" if kind != "f" else "float 0..1" if high <= 1 else "float 0..255", []
    if images.dtype == np.uint16:
        return "uint16 0..65535", []
    bad = []
    for i, image in enumerate(images, start=first):
        low, high = image.min(), image.max()
        if not np.isfinite([low, high]).all():
            bad.append(f"{name}[{i}] holds NaN or infinity")
        elif low < 0 or high > 255:
            bad.append(f"{name}[{i}] holds the value {low if low < 0 else high}")
    return "", bad


def out_of_range(dtype: np.dtype[Any], bad: Sequence[str]) -> DataError:
    """Return the error for images of a dtype that are outside all ranges, as `find_range` describes them."""
    hint = "float pixels must be in 0..1 or 0..255" if dtype.kind == "f" else "integer pixels must be in 0..255"
    return DataError.listing(
        f"{hint}; other values usually mean that the images are already preprocessed (mean subtracted, or scaled to"
        " -1..1): pass the original pixels",
        bad,
    )


# The ranges of dtypes that have two, by the kind and size of the dtype; a dark image fits into both.
_NARROW_AND_WIDE = {"f": ("float 0..1", "float 0..255"), "u2": ("integer 0..255", "uint16 0..65535")}


def agree(ranges: Sequence[str], dtypes: Sequence[np.dtype[Any]], decided: dict[str, str], first: int = 0) -> list[str]:
    """Give all floats one range, and all uint16, since a dark image may have no value above 1, or above 255.

    Args:
        ranges: what `pixel_range` found for each image.
        dtypes: the dtype of each image.
        decided: the ranges that earlier images have been given; those that are decided now are added.
        first: number of the first image in error messages.

    Raises:
        DataError: a value is above the range that earlier images have been given.
    """
    agreed = list(ranges)
    for kind, (narrow, wide) in _NARROW_AND_WIDE.items():
        rows = [row for row, dtype in enumerate(dtypes) if kind in (dtype.kind, dtype.str[1:])]
        above = [row for row in rows if ranges[row] == wide]
        if rows and decided.setdefault(kind, wide if above else narrow) == narrow and above:
            raise DataError(
                f"images[{first + above[0]}] is {wide}, but the images before it were taken to be {narrow}, as no value"
                " in the first of them was higher. Convert all images to uint8 in 0..255 in the dataset itself, so that"
                " their range does not have to be found out."
            )
        for row in rows:
            agreed[row] = decided[kind]
    return agreed


def to_pixels(
    images: Any, image_size: int | None = None, name: str = "images", values: str | None = None
) -> np.ndarray:
    """Check an array of images and convert it to RGB in 0..255.

    Args:
        images: (N, H, W, 3) RGB, (N, H, W, 1) or (N, H, W) grey, or (N, H, W, 4) RGBA (composited on white); bool,
            any integers in 0..255, uint16 (scaled to 8 bits if a value is above 255), or floats in 0..1 or 0..255.
        image_size: side in px to resize to, or None to keep the size.
        name: name of the array in error messages.
        values: the result of `pixel_range`, if the caller has it already.

    Returns:
        (N, H, W, 3) uint8, or float32 for floats that were not resized; `images` itself if nothing has to change.

    Raises:
        DataError: another shape or dtype, values out of range, or sides below 32 px.
    """
    images = checked_shape(np.asarray(images), name)
    values = values or pixel_range(images, name)
    if values == "uint16 0..65535":
        images = np.rint(images / np.float32(257)).astype(np.uint8)
    elif values == "bool 0..1":
        images = images.astype(np.uint8) * np.uint8(255)
    elif images.dtype.kind == "f":
        images = images.astype(np.float32, copy=False)
        images = images * np.float32(255) if values == "float 0..1" else images
    else:
        images = images.astype(np.uint8, copy=False)
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    elif images.shape[3] == 4:
        images = _on_white(images)
    if image_size is None or images.shape[1:3] == (image_size, image_size):
        return images
    resized = np.empty((len(images), image_size, image_size, 3), np.uint8)
    for i, pixels in enumerate(images):
        resized[i] = resize_pixels(pixels, image_size)
    return resized


def checked_shape(images: np.ndarray, name: str) -> np.ndarray:
    """Return an array as (N, H, W, C) with C in 1, 3, 4; raise `DataError` for other shapes and sides below 32 px."""
    shape = images.shape
    if images.ndim == 3 and shape[2] in (1, 3, 4):
        raise DataError(f"{name} has shape {shape}, a single image: add an axis for the batch with {name}[None].")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4):
        raise DataError(f"{name} has shape {shape}, channels first: move them last with np.moveaxis({name}, 1, -1).")
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise DataError(f"{name} must have shape (N, H, W, 3), (N, H, W), or 1 or 4 channels; got {shape}.")
    if min(images.shape[1:3]) < MIN_SIDE:
        raise DataError(
            f"{name} are {images.shape[2]}x{images.shape[1]} px; at least {MIN_SIDE} px a side are needed, as VGG"
            " halves them five times: enlarge them first."
        )
    return images


def _on_white(images: np.ndarray) -> np.ndarray:
    colour, alpha = images[..., :3].astype(np.float32), images[..., 3:].astype(np.float32) / 255
    flat: np.ndarray = colour * alpha + 255 * (1 - alpha)
    return np.rint(flat).astype(np.uint8) if images.dtype == np.uint8 else flat


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """One image of an array or a list of arrays; it is converted when it is used, so that no second copy is kept.

    `np.asarray` of it is (H, W, 3) RGB in 0..255, uint8, or float32 for floats.

    Args:
        images: arrays as `to_pixels` takes them, by number.
        row: number of this image.
        values: the range that it is in, as `pixel_range` names it.
    """

    images: Any
    row: int
    values: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (*np.shape(self.images[self.row])[:2], 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if self.values.startswith("float") else np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(to_pixels(self.images[self.row][None], values=self.values)[0], dtype)


# The inputs of `predict` ----------------------------------------------------------------------------------------------


def is_single_image(images: Any) -> bool:
    """Whether this is one image (a file, a PIL image, or an array without a batch axis) rather than several."""
    if isinstance(images, np.ndarray):
        return images.ndim == 3 and images.shape[-1] in (1, 3, 4)
    return isinstance(images, (str, os.PathLike, bytes)) or hasattr(images, "getbands") or hasattr(images, "read")


def as_sequence(images: Any) -> tuple[Any, str | None]:
    """Return one image or several as a sequence, and the range of all float arrays among them (None without any).

    Raises:
        DataError: there are none.
    """
    if is_single_image(images):
        images = images[None] if isinstance(images, np.ndarray) else [images]
    if not hasattr(images, "__len__"):
        images = list(images)
    if not len(images):
        raise DataError("There are no images to predict: got an empty list.")
    several = [images] if isinstance(images, np.ndarray) else images
    floats = [each for each in several if isinstance(each, np.ndarray) and each.dtype.kind == "f"]
    if not floats:
        return images, None
    return images, "float 0..1" if all((each <= 1).all() for each in floats) else "float 0..255"


def read_images(
    images: Sequence[Any] | np.ndarray, image_size: int, first: int = 0, float_range: str | None = None
) -> tuple[np.ndarray, list[str]]:
    """Read and resize some of the images that `as_sequence` returned.

    Args:
        images: an array (N, H, W, 3), or a sequence of files and arrays.
        image_size: side S in px.
        first: number of the first image in error messages.
        float_range: value range of all float arrays together, as returned by `as_sequence`.

    Returns:
        (n, S, S, 3) pixels in 0..255 of the images that can be used, and a sentence for each of the others.
    """

    def read(numbered: tuple[int, Any]) -> np.ndarray | str:
        number, image = numbered
        try:
            if not isinstance(image, np.ndarray):
                return read_image(image, image_size).pixels
            values = pixel_range(image[None], first=number)
            values = float_range or values if image.dtype.kind == "f" else values
            return to_pixels(image[None], image_size, f"images[{number}]", values)[0]
        except DataError as error:
            return str(error)

    found = list(in_threads(read, enumerate(images, start=first)))
    problems = [each for each in found if isinstance(each, str)]
    pixels = [each for each in found if not isinstance(each, str)]
    return np.stack(pixels) if pixels else np.empty((0, image_size, image_size, 3), np.uint8), problems
