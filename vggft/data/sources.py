"""Read every kind of dataset into a `Listing`: one row per image, with its label as given.

Files are listed and arrays are checked, to be decoded later; only streams are read to their end, as `streams` says.
TensorFlow, Keras and pandas are never imported here: their objects can only exist if they have been imported already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, meant, some
from ..files.opening import special
from ..listings.cells import text_of
from ..listings.columns import SUFFIXES, is_table
from ..listings.folders import list_folder
from ..listings.listing import KINDS, SPLITS, Listing, as_weights, join, place, split_of
from ..listings.meaning import hold_images, list_table
from ..listings.tables import Table
from ..pictures.arrays import ArrayImage, checked_shape
from ..pictures.reading import Reading
from .feeds import feed_of, labels_of_pairs, names_of_info
from .streams import Keep

Load = Callable[[Any], Listing]


def loader(data: Any, keep: Keep) -> Load:
    """Return the function that reads this kind of data into a `Listing`; streams are kept as `keep` says."""
    if isinstance(data, Table):
        return partial(_from_table, keep=keep)
    if isinstance(data, (str, os.PathLike)):
        path, there = Path(data), place(data)
        if there == "folder":
            return list_folder
        if there == "file" and path.suffix.lower() in SUFFIXES:
            return lambda data: _from_table(Table(data), keep)
        unpack = " Unpack it first." if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz") else ""
        if path.suffix.lower() in (".parquet", ".xlsx", ".xls", ".feather", ".json", ".jsonl"):
            unpack = " Read it with pandas, and pass the DataFrame."
        wrong = f"a string instead of a dataset, or a path that does not exist.{meant(path)}"
        wrong = f"a single file, not a dataset.{unpack}" if there == "file" else wrong
        if told := special(data):
            raise DataError(f"{data} {told}. A dataset is {KINDS}.")
        raise DataError(f"{str(data)!r} is {wrong} A dataset is {KINDS}.")
    if (feed := feed_of(data)) is not None:
        return partial(feed, keep=keep)
    if is_table(data):
        return lambda data: _from_table(Table(data), keep)
    if isinstance(data, Mapping):
        return partial(_from_mapping, keep=keep)
    if isinstance(data, (tuple, list)):
        return _of_sequence(data, keep)
    raise DataError(f"A {type(data).__name__} is not a dataset. A dataset is {KINDS}.")


def _from_table(data: Table, keep: Keep) -> Listing:
    listing = list_table(data)
    if any(isinstance(image, np.ndarray) for image in listing.images):
        listing.images = _in_memory(listing.images, Reading.of(keep.reading))
    return listing


def _from_mapping(data: Mapping[Any, Any], keep: Keep) -> Listing:
    """Read a dict of splits, {"train": ..., "test": ...}, or of columns, {"image": ..., "label": ...}."""
    keys = {str(key): key for key in data}
    lower = {name.lower(): key for name, key in keys.items()}
    parts: dict[str, Any] = {}
    for name, key in lower.items():  # as numpy.load("mnist.npz") has them
        if (match := re.fullmatch(r"(?:x|images)_(\w+)|(\w+)_(?:x|images)", name)) and (
            split := split_of(match[1] or match[2])
        ):
            word = match[1] or match[2]
            other = next(
                (each for each in (f"y_{word}", f"labels_{word}", f"{word}_y", f"{word}_labels") if each in lower), None
            )
            if other is not None:
                parts[split] = (data[key], data[lower[other]])
    left_out = list[str]()
    if not parts:
        named = [(split_of(name), key) for name, key in keys.items()]
        found = [split for split, _ in named if split]
        if len(set(found)) < len(found):
            raise DataError(
                f"The dict has several keys for one split: {some(keys)}. Expected some of {', '.join(SPLITS)}."
            )
        parts = {split: data[key] for split, key in named if split}
        left_out = [str(key) for split, key in named if split is None] if parts else []
    if not parts:
        return _from_columns(data, lower, keep)
    order = [split for split in SPLITS if split in parts]
    listing = join({split: loader(parts[split], keep)(parts[split]) for split in order})
    listing.notes += [f"{name!r} in the dict is no split and was left out" for name in left_out]
    return listing


def _from_columns(data: Mapping[Any, Any], lower: Mapping[str, Any], keep: Keep) -> Listing:
    for images, labels in (
        ("images", "labels"),
        ("image", "label"),
        ("x", "y"),
        ("data", "target"),
        ("data", "labels"),
    ):
        if images in lower and labels in lower:
            pair = data[lower[images]], data[lower[labels]]
            return _from_table(Table(dict(data)), keep) if isinstance(pair[0], list) else _from_arrays(pair, keep)
    if len(data) > 1 and all(
        isinstance(each, (list, tuple, np.ndarray)) and hold_images(each) for each in data.values()
    ):
        several = {str(name): list(images) for name, images in data.items()}
        of_each = [name for name, images in several.items() for _ in images]
        listing = _from_arrays(([image for images in several.values() for image in images], of_each), keep)
        listing.notes.append("the dict is taken to hold the images of each class")
        return listing
    if len(data) > 1 and all(isinstance(column, (list, tuple, np.ndarray)) for column in data.values()):
        return _from_table(Table(dict(data)), keep)
    raise DataError(
        f"The dict has the keys {some(map(repr, data), limit=8)}: expected splits, as {{'train': ..., 'test': ...}},"
        f" or columns, such as {{'image': ..., 'label': ...}}. A dataset is {KINDS}."
    )


def _of_sequence(data: Sequence[Any], keep: Keep) -> Load:
    """Return what reads a tuple or list: (images, labels), one dataset for each split, or pairs of image and label."""
    if len(data) == 2 and (names := names_of_info(data[1])) is not None:
        return partial(_with_names, names=names, keep=keep)
    if len(data) in (2, 3) and all(map(_is_dataset, data)):
        return partial(_from_splits, keep=keep)
    if data and all(isinstance(each, Mapping) and each.keys() == data[0].keys() for each in data):
        return lambda data: _from_table(Table({key: [row[key] for row in data] for key in data[0]}), keep)
    if data and all(isinstance(each, tuple) and len(each) == 2 and _is_image(each[0]) for each in data):
        return lambda data: _from_arrays((list(next(zip(*data, strict=True))), labels_of_pairs(data)), keep)
    if len(data) == 2:
        return partial(_from_arrays, keep=keep)
    if len(data) == 3 and all(hasattr(each, "__len__") and not isinstance(each, str) for each in data):
        return partial(_with_weights, keep=keep)
    raise DataError(f"A {type(data).__name__} of {len(data)} is not a dataset. A dataset is {KINDS}.")


def _with_weights(data: Sequence[Any], keep: Keep) -> Listing:
    """Read (images, labels, weights), with a weight in the loss for each image."""
    listing = _from_arrays(data[:2], keep)
    listing.weights = as_weights(data[2], len(listing.images), listing.where)
    return listing


def _is_dataset(data: Any) -> bool:
    """Whether this is a dataset with labels by itself, so that a tuple of them is one for each split."""
    if isinstance(data, (str, os.PathLike)):
        return place(data) == "folder" or (place(data) == "file" and Path(data).suffix.lower() in SUFFIXES)
    if isinstance(data, tuple) and len(data) == 2:
        shapes: list[Any] = [getattr(each, "shape", None) for each in data]
        return (
            None not in shapes
            and len(shapes[0]) in (3, 4)
            and len(shapes[1]) in (1, 2)
            and len(data[0]) == len(data[1])
        )
    return isinstance(data, Table) or is_table(data) or feed_of(data) is not None


def _is_image(data: Any) -> bool:
    path = isinstance(data, (str, os.PathLike, bytes))
    return path or hasattr(data, "getbands") or len(getattr(data, "shape", ())) in (2, 3)


def _from_splits(data: Sequence[Any], keep: Keep) -> Listing:
    listing = join({split: loader(part, keep)(part) for split, part in zip(SPLITS, data, strict=False)})
    last = "validation" if len(data) == 2 else "test"
    listing.notes.append(f"the {len(data)} datasets are taken to be {', '.join(SPLITS[: len(data)])}")
    if last == "validation":
        listing.notes.append("if the second is for the test, pass {'train': ..., 'test': ...}")
    return listing


def _with_names(data: Sequence[Any], names: tuple[str, ...], keep: Keep) -> Listing:
    listing = loader(data[0], keep)(data[0])
    if names:
        listing.class_names, listing.positions = names, True
    return listing


def _from_arrays(data: Sequence[Any], keep: Keep) -> Listing:
    images, labels = data
    odd = isinstance(images, (str, bytes)) or isinstance(labels, (str, bytes)) or not hasattr(images, "__len__")
    if odd or feed_of(images) is not None:  # some of Keras's iterators have a length, and no end
        raise DataError(f"({type(images).__name__}, {type(labels).__name__}) is not a dataset. A dataset is {KINDS}.")
    names = getattr(labels, "columns", None) if len(getattr(labels, "shape", ())) == 2 else None
    categories = getattr(getattr(labels, "dtype", None), "categories", None)
    if hasattr(images, "to_numpy"):  # a column of pandas
        images = images.to_numpy().reshape(-1).tolist()
    if hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if not hasattr(images, "shape") or np.asarray(images).dtype.kind in "OUS":
        images = list(images)
    listing = _table_of_arrays(images, labels, keep)
    if names is not None and np.ndim(labels) == 2:  # of the classes, in columns of 0 and 1
        listing.class_names = tuple(map(str, names))
    elif categories is not None:
        listing.labels = list(map(text_of, labels))
        listing.class_names = tuple(name for name in map(text_of, categories) if name in set(listing.labels))
    return listing


def _table_of_arrays(images: Any, labels: Any, keep: Keep) -> Listing:
    """Check images in memory: one array, or a list of arrays, PIL images or paths."""
    if not len(images):
        raise DataError("There are no images: the dataset is empty.")
    if not hasattr(labels, "__len__") or len(labels) != len(images):
        count = len(labels) if hasattr(labels, "__len__") else type(labels).__name__
        raise DataError(f"There must be as many labels as images: got {len(images)} images, labels: {count}.")
    if isinstance(images, list) and all(isinstance(image, (str, os.PathLike)) for image in images):
        return Listing([Path(image) for image in images], labels, [str(Path(image)) for image in images], "the dataset")
    images = _in_memory(images, Reading.of(keep.reading))
    return Listing(images, labels, [f"images[{i}]" for i in range(len(images))], "the dataset")


def _in_memory(images: Any, reading: Reading) -> list[Any]:
    """Check the shapes of an array, or of a list of arrays and PIL images; they are converted when they are used."""
    if not isinstance(images, list):
        images = checked_shape(np.asarray(images), "images", reading)
        return [ArrayImage(images, row) for row in range(len(images))]
    images = [image if isinstance(image, (Image.Image, bytes, Path)) else np.asarray(image) for image in images]
    for row, image in enumerate(images):
        if isinstance(image, np.ndarray):
            checked_shape(image[None], f"images[{row}]", reading)
        elif isinstance(image, Image.Image):
            with suppress(Exception):  # decoding reports it
                image.load()  # now, as threads must not load the same image at once
    return [ArrayImage(images, row) if isinstance(image, np.ndarray) else image for row, image in enumerate(images)]
