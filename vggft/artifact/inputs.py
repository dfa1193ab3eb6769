"""What `predict`, `classify` and `explain` take: images without labels, as people have them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.feeds import elements_of, pixels_of
from ..errors import DataError, VggftError, some
from ..listings.columns import SUFFIXES, is_table
from ..listings.folders import walk
from ..listings.listing import place
from ..listings.meaning import list_images
from ..listings.tables import Table
from ..pictures.arrays import (
    ArrayImage,
    PixelImage,
    StreamImage,
    as_sequence,
    is_single_image,
    read_images,
    settled,
)
from ..pictures.reading import Reading

KINDS = (
    "an image file, a folder, a CSV file or DataFrame of files, an array (H, W, 3) or (N, H, W, 3), a list of files or"
    " arrays, a tf.data.Dataset, a keras.utils.PyDataset, or a generator"
)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Images to predict.

    Args:
        images: one image, an array (N, H, W, C), or a list of files, arrays, PIL images and the bytes of files.
        names: their names; "images[3]" for those that have none.
        single: whether one image was given, and not several.
    """

    images: Any
    names: tuple[str, ...]
    single: bool


def inputs_of(pictures: Any) -> Inputs:
    """Find out what images are meant.

    Args:
        pictures: one of `KINDS`. Labels that come with images are left out.

    Raises:
        DataError: it is something else, or cannot be read.
    """
    try:
        images = _images_of(pictures)
        single = is_single_image(images)
        images = images if single or isinstance(images, np.ndarray) else list(images)
    except (VggftError, MemoryError):
        raise
    except Exception as error:  # of objects that are not ours, and may do anything
        told = f"{type(error).__name__}: {error}".removesuffix(".")
        raise DataError(f"The {type(pictures).__name__} cannot be read ({told}). Images are {KINDS}.") from error
    if single:
        return Inputs(images, (name_of(images, 0),), True)
    if not len(images):
        raise DataError("There are no images to predict: got none.")
    if wrong := [f"images[{i}] is a {type(each).__name__}" for i, each in enumerate(images) if not _is_image(each)]:
        raise DataError(f"There are no images in {some(wrong, limit=5)}. Images are {KINDS}.")
    return Inputs(images, tuple(name_of(image, i) for i, image in enumerate(images)), False)


def name_of(image: Any, number: int) -> str:
    """Return the name of an image: its file, or "images[3]"."""
    name = image if isinstance(image, (str, os.PathLike)) else getattr(image, "filename", "") or ""
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) and name else f"images[{number}]"


def _images_of(pictures: Any) -> Any:
    if isinstance(pictures, (str, os.PathLike)):
        path = Path(pictures)
        if place(path) == "folder":
            if not (files := walk(path)[0]):
                raise DataError(f"There are no images in the folder {path}.")
            return files
        return list_images(Table(path))[0] if path.suffix.lower() in SUFFIXES and place(path) == "file" else pictures
    if isinstance(pictures, Table) or is_table(pictures):
        return list_images(pictures if isinstance(pictures, Table) else Table(pictures))[0]
    if isinstance(pictures, Mapping):
        return _images_of(_of_mapping(pictures))
    if (elements := elements_of(pictures)) is not None:
        return list(_each_image(elements))
    if hasattr(pictures, "to_numpy"):  # a column of pandas
        return list(pictures)
    if is_single_image(pictures):
        return pictures
    if _has_labels(pictures):
        return _images_of(pictures[0])
    if hasattr(pictures, "shape"):
        array = pixels_of(pictures)
        if array.ndim < (3 if array.dtype.kind in "biuf" else 1):
            raise DataError(f"An array of images must be (H, W, 3) or (N, H, W, 3); got {array.shape}.")
        return array if array.dtype.kind in "biuf" else array.ravel().tolist()
    if not isinstance(pictures, Iterable):
        raise DataError(f"A {type(pictures).__name__} is no image. Images are {KINDS}.")
    return [pixels_of(each) if _is_tensor(each) else each for each in pictures]


def _of_mapping(data: Mapping[Any, Any]) -> Any:
    found = [key for key in data if str(key).lower() in ("image", "images", "img", "x", "pixels", "pixel_values")]
    if len(found) != 1:
        raise DataError(
            f"A dict of {some(map(repr, data), limit=8)} does not say which images are meant: pass one of them."
        )
    return data[found[0]]


def _has_labels(pictures: Any) -> bool:
    """Whether this is (images, labels), maybe with weights."""
    if not isinstance(pictures, tuple) or len(pictures) not in (2, 3):
        return False
    images, *others = [tuple(getattr(each, "shape", ())) for each in pictures]
    return len(images) == 4 and all(len(each) in (1, 2) and each[0] == images[0] for each in others)


def _each_image(elements: Iterator[Any]) -> Iterator[Any]:
    """Yield every image in the elements or batches of a feed, which may have labels."""
    for element in elements:
        image = _of_mapping(element) if isinstance(element, Mapping) else element
        image = image[0] if isinstance(image, (tuple, list)) and image else image
        if isinstance(image, bytes) and len(image) < 4096 and place(os.fsdecode(image)) == "file":  # of tf.data
            image = os.fsdecode(image)
        if not _is_tensor(image):
            yield image
            continue
        array = pixels_of(image)
        if array.dtype.kind not in "biuf":
            yield from (_images_of(os.fsdecode(each)) for each in array.ravel().tolist())
        elif array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)):
            yield array if array.ndim == 3 else array[..., None]
        else:
            yield from array


def _is_tensor(data: Any) -> bool:
    return hasattr(data, "shape") and not hasattr(data, "getbands") and not isinstance(data, (str, bytes))


def _is_image(data: Any) -> bool:
    known = isinstance(data, (str, os.PathLike, bytes, np.ndarray, ArrayImage, PixelImage, StreamImage))
    return known or hasattr(data, "getbands") or hasattr(data, "read")


def read_parts(
    pictures: Any,
    reading: Reading,
    at_once: int = 256,
    is_settled: bool = False,
    errors: dict[int, str] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read images in parts, so that memory does not limit their number.

    Args:
        pictures: as for `Artifact.predict`.
        reading: how; the ranges that it leaves open are decided by all of the images.
        at_once: maximum number of images per part, n.
        is_settled: whether these ranges have been decided already.
        errors: gets the number of each image that cannot be read, and a sentence about it; None to raise these.

    Yields:
        The numbers of the images of the part that can be read, (n,), and their pixels, (n, height, width, 3) in 0..255.

    Raises:
        DataError: after the last part, naming every image that cannot be read, unless `errors` takes them.
    """
    pictures = as_sequence(pictures)
    reading = reading if is_settled else settled(pictures, reading)
    problems: dict[int, str] = {} if errors is None else errors
    for start in range(0, len(pictures), at_once):
        part = pictures[start : start + at_once]
        pixels, found = read_images(part, reading, start)
        problems.update(found)
        if errors is not None or not problems:
            yield np.array([row for row in range(start, start + len(part)) if row not in found], int), pixels
    if problems and errors is None:
        raise DataError.listing("Some images cannot be read", problems.values())
