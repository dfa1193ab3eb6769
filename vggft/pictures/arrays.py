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

from ..errors import DataError, counted
from .colours import to_rgb
from .files import look, read_image
from .formats import UnusableError
from .ranges import Values, dim, settle, values_of
from .reading import AS_IT_IS, ImageSize, Reading, resize_pixels


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


def to_pixels(
    images: Any, reading: Reading | ImageSize | None = None, name: str = "images", first: int = 0
) -> np.ndarray:
    """Check an array of images and convert it to RGB in 0..255.

    Args:
        images: (N, H, W, 3) RGB, (N, H, W, 1) or (N, H, W) grey, or (N, H, W, 4) RGBA (composited on white); or any
            number of bands, of which the reading chooses three. bool, integers or floats.
        reading: how; a size alone squashes, and None keeps the size. Ranges that it leaves open are decided by all of
            these images together.
        name: name of the array in error messages.
        first: number of its first image in error messages.

    Returns:
        (N, height, width, 3) uint8, or float32 for floats that were not resized; `images` itself if nothing has to
        change.

    Raises:
        DataError: another shape or dtype, or values that fit no range; every such image is listed.
    """
    reading = Reading.of(reading)
    images = checked_shape(np.asarray(images), name, reading)
    if images.dtype == np.uint8 and images.shape[3] == 3 and reading.bands is None:
        if reading.size in (None, images.shape[1:3]):
            return images
    elif len(images):
        reading = settle(map(values_of, _chosen(images, reading)), reading)
    pixels, bad = list[np.ndarray](), list[str]()
    for number, image in enumerate(images, start=first):
        try:
            pixels.append(resize_pixels(to_rgb(image, reading), reading))
        except UnusableError as error:
            bad.append(f"{name}[{number}] {error}")
    if bad:
        raise DataError.listing("Some images cannot be used", bad)
    return np.stack(pixels) if pixels else np.empty((0, *(reading.size or images.shape[1:3]), 3), np.uint8)


def _chosen(images: np.ndarray, reading: Reading) -> np.ndarray:
    """Return the bands that are read, of arrays whose last axis is that of bands."""
    chosen = reading.bands is not None and max(reading.bands) < images.shape[-1]
    return images[..., list(reading.bands or ())] if chosen else images


def checked_shape(images: np.ndarray, name: str, reading: Reading | None = None) -> np.ndarray:
    """Return an array as (N, H, W, C); raise `DataError` for shapes and dtypes that are not of images."""
    shape, bands = images.shape, None if reading is None else reading.bands
    if images.dtype.kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers; got dtype {images.dtype}.")
    if images.ndim == 3 and shape[2] in (1, 3, 4):
        raise DataError(f"{name} has shape {shape}, a single image: add an axis for the batch with {name}[None].")
    if images.ndim == 3:
        images = images[..., None]
    known = (1, 3, 4)
    if images.ndim == 4 and images.shape[3] not in known and shape[1] in known and bands is None:
        raise DataError(f"{name} has shape {shape}, channels first: move them last with np.moveaxis({name}, 1, -1).")
    if images.ndim != 4 or 0 in images.shape[1:] or (images.shape[3] not in known and bands is None):
        hint = "; of other bands, choose red, green and blue, for example bands=(0, 1, 2)" if images.ndim == 4 else ""
        raise DataError(f"{name} must have shape (N, H, W, 3), (N, H, W), or 1 or 4 channels; got {shape}{hint}.")
    if bands is not None and max(bands) >= images.shape[3]:
        there = counted(images.shape[3], "band")
        raise DataError(f"{name} has {there}, but bands={bands} asks for number {max(bands)}.")
    return images


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """One image of an array or a list of arrays; it is converted when it is used, so that no second copy is kept.

    `np.asarray` of it is the array as given, (H, W) or (H, W, C).

    Args:
        images: arrays as `to_pixels` takes them, by number.
        row: number of this image.
    """

    images: Any
    row: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(np.shape(self.images[self.row]))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.images[self.row].dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.images[self.row], dtype)

    def pixels(self, reading: Reading) -> np.ndarray:
        """Return (height, width, 3) in 0..255; raise `UnusableError` if it cannot be read."""
        return resize_pixels(to_rgb(np.asarray(self), reading), reading)


@dataclass(frozen=True, slots=True, eq=False)
class PixelImage:
    """An image that has been read already: (height, width, 3) in 0..255 as the network sees it."""

    pixels: np.ndarray

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.pixels, dtype)


@dataclass(frozen=True, slots=True, eq=False)
class StreamImage:
    """An image that came in a stream, which cannot be read again; `np.asarray` of it is (H, W, 3) in 0..255.

    Args:
        content: digest of the image before it was resized.
        facts: what is known about it: the fields of `FACTS`.
        dtype: of its pixels: uint8, or float32.
        shape: of its pixels: (H, W, 3).
        row: its number in the stream.
        pixels: returns the pixels of an image by this number, from the cache.
        reading: how they were read.
    """

    content: str
    facts: tuple[Any, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row: int
    pixels: Callable[[int], np.ndarray]
    reading: Reading = AS_IT_IS

    @property
    def values(self) -> Values:
        kind = "float" if self.dtype.kind == "f" else "uint8"
        return Values(kind, shape=(self.shape[0], self.shape[1]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.pixels(self.row), dtype)


def values_in(image: Any, reading: Reading, name: str | None = None) -> Values | None:
    """Find which values an image has, of any kind; None if it cannot be read, which decoding reports better."""
    if isinstance(image, StreamImage):
        return image.values
    if isinstance(image, PixelImage):
        return Values("uint8")
    try:
        if isinstance(image, (ArrayImage, np.ndarray)):
            array = np.asarray(image)
            return values_of(_chosen(array, reading) if array.ndim == 3 else array)
        return look(image, reading, name)
    except DataError:
        return None


# The inputs of `predict` ----------------------------------------------------------------------------------------------


def is_single_image(images: Any) -> bool:
    """Whether this is one image (a file, a PIL image, or an array without a batch axis) rather than several."""
    if isinstance(images, np.ndarray):
        return images.ndim == 3 and images.shape[-1] in (1, 3, 4)
    return isinstance(images, (str, os.PathLike, bytes)) or hasattr(images, "getbands") or hasattr(images, "read")


def as_sequence(images: Any) -> Any:
    """Return one image or several as a sequence that can be read more than once.

    Raises:
        DataError: there are none.
    """
    if is_single_image(images):
        images = images[None] if isinstance(images, np.ndarray) else [images]
    if not hasattr(images, "__len__"):
        images = list(images)
    if not len(images):
        raise DataError("There are no images to predict: got an empty list.")
    if isinstance(images, np.ndarray):
        return images
    return [_read(each) if hasattr(each, "read") and not isinstance(each, Image.Image) else each for each in images]


def _read(file: Any) -> Any:
    try:
        return file.read()
    except Exception as error:  # of an object that is not ours, such as a file that is closed
        raise DataError(f"An open file cannot be read: {error}.") from error


def settled(images: Any, reading: Reading) -> Reading:
    """Decide the ranges that a reading leaves open by all of some images; warn if these hardly use a decided one."""
    if isinstance(images, np.ndarray) and images.dtype == np.uint8:
        return reading
    found = [each for each in in_threads(lambda image: values_in(image, reading), images, 16) if each is not None]
    if told := dim(found, reading):
        warnings.warn(told, stacklevel=2)
    return settle(found, reading)


def read_images(
    images: Sequence[Any] | np.ndarray, reading: Reading | ImageSize, first: int = 0
) -> tuple[np.ndarray, dict[int, str]]:
    """Read and resize some of the images that `as_sequence` returned.

    Args:
        images: an array as `to_pixels` takes it, or a sequence of files and arrays.
        reading: how, as `settled` returned it for all images together.
        first: number of the first image in error messages.

    Returns:
        (n, height, width, 3) pixels in 0..255 of the images that can be used, and a sentence for the number of each of
        the others.
    """
    reading = Reading.of(reading)

    def read(numbered: tuple[int, Any]) -> np.ndarray | str:
        number, image = numbered
        name = f"images[{number}]"
        try:
            if isinstance(image, (PixelImage, StreamImage)):
                return np.asarray(image)
            if not isinstance(image, np.ndarray):
                return read_image(
                    image, reading, None if isinstance(image, (str, os.PathLike)) else _named(image, name)
                ).pixels
            checked_shape(image[None], name, reading)
            return resize_pixels(to_rgb(image, reading), reading)
        except UnusableError as error:
            return f"{name} {error}."
        except DataError as error:
            return str(error)

    found = list(in_threads(read, enumerate(images, start=first)))
    problems = {number: each for number, each in enumerate(found, start=first) if isinstance(each, str)}
    pixels = [each for each in found if not isinstance(each, str)]
    return np.stack(pixels) if pixels else np.empty((0, *(reading.size or (0, 0)), 3), np.uint8), problems


def _named(image: Any, name: str) -> str:
    return str(getattr(image, "filename", "") or getattr(image, "name", "") or name)
