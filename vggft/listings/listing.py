"""`Listing`: the images of a dataset and their labels as given; what splits are called; how several become one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, some

SPLITS = ("train", "validation", "test")
_WORDS = {
    **dict.fromkeys(("train", "training", "trainset", "trn"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "valset", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
KINDS = (
    "a folder of class folders, a CSV file or DataFrame (image path, label), a tuple (images, labels) of arrays,"
    " a tf.data.Dataset, a keras.utils.PyDataset, a Hugging Face Dataset, or a dict of them by split"
)


def split_of(name: str) -> str | None:
    """Return the split that a name stands for, such as "train" for "Training", "training_set" or "seg_train".

    >>> split_of("Training_set"), split_of("x_val"), split_of("trainers")
    ('train', 'validation', None)
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    found = {_WORDS[word] for word in words if word in _WORDS}
    return found.pop() if len(found) == 1 else None


@dataclass(eq=False)
class Listing:
    """The images and labels that were found, one row per image."""

    images: list[Any]  # paths, the bytes of files, PIL images, `ArrayImage`s or `StreamImage`s
    labels: Any  # (N,) integers, (N, C) of 0 and 1, a list of N strings, or a list of N tuples of strings
    names: list[str]
    where: str  # the subject of error messages: "the folder flowers"
    splits: list[str] = field(default_factory=list)  # of each row; "all" if the data is not split
    multi_label: bool = False  # a cell may name several classes, even if none of these does
    class_names: tuple[str, ...] | None = None  # all possible ones, if the data says so: class folders, columns
    positions: bool | None = None  # whether integers are positions in `class_names`; None: that is to be found out
    said: bool = False  # whether `class_names` are those that the user gives
    weights: np.ndarray | None = None  # (N,) of the images in the loss
    metadata: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    folder: Path = Path()  # that relative paths start from
    remedy: str = ""  # where missing files may be, as a sentence
    check_files: bool = True  # False if they have just been listed from the disk
    by_content: bool = False  # the rows were sorted by content, so "images[3]" means nothing to the user

    def __post_init__(self) -> None:
        self.splits = self.splits or ["all"] * len(self.images)


def place(path: str | os.PathLike[str]) -> str:
    """Return "folder", "file", or "" for a path that does not exist, or that cannot be one."""
    return "folder" if os.path.isdir(path) else "file" if os.path.isfile(path) else ""  # noqa: PTH112, PTH113


def join(parts: Mapping[str, Listing]) -> Listing:
    """Put the listings of several splits together: split -> listing.

    Raises:
        DataError: one of them is itself split, or their labels are of different kinds.
    """
    for split, part in parts.items():
        if own := set(part.splits) - {"all", split}:
            raise DataError(f"{part.where}, given as {split}, is itself split ({some(sorted(own))}): pass it alone.")
    found = list(parts.values())
    columns = set.intersection(*(set(part.metadata) for part in found))
    names, labels = _common_labels(found)
    return Listing(
        [image for part in found for image in part.images],
        labels,
        [
            name if isinstance(image, Path) else f"{split} {name}"
            for split, part in parts.items()
            for image, name in zip(part.images, part.names, strict=True)
        ],
        found[0].where if len(found) == 1 else "the dataset",
        splits=[split for split, part in parts.items() for _ in part.images],
        multi_label=any(part.multi_label for part in found),
        class_names=names,
        positions=all(part.positions for part in found) or None,
        weights=join_weights([(part.weights, len(part.images)) for part in found]),
        metadata={
            name: [c for part in found for c in part.metadata[name]] for name in found[0].metadata if name in columns
        },
        notes=list(dict.fromkeys(note for part in found for note in part.notes)),
        ignored=[path for part in found for path in part.ignored],
        problems=[problem for part in found for problem in part.problems],
        folder=found[0].folder,
        remedy="".join(dict.fromkeys(part.remedy for part in found)),
        check_files=any(part.check_files for part in found),
        by_content=any(part.by_content for part in found),
    )


def as_weights(given: Any, count: int, where: str) -> np.ndarray:
    """Return the weights of images as (N,) float32.

    Raises:
        DataError: they are not numbers from 0 on, one for each image, or all are 0.
    """
    try:
        found = np.asarray(given, "float64").reshape(len(given), -1)
    except (TypeError, ValueError) as error:
        raise DataError(f"The weights of the images of {where} must be numbers, one for each: {error}.") from None
    if found.shape != (count, 1):
        raise DataError(f"There must be one weight for each of {count} images of {where}; got {np.shape(given)}.")
    if not (np.isfinite(found) & (found >= 0)).all() or not found.any():
        raise DataError(
            f"The weights of the images of {where} must be numbers from 0 on, some above 0; got "
            f"{found.min():g} to {found.max():g}."
        )
    return found[:, 0].astype("float32")


def join_weights(parts: Sequence[tuple[np.ndarray | None, int]]) -> np.ndarray | None:
    """Put the weights of several parts together, (weights, number of images) each: 1 where a part has none."""
    if all(weights is None for weights, _ in parts):
        return None
    return np.concatenate([np.ones(count, "float32") if weights is None else weights for weights, count in parts])


def _common_labels(parts: Sequence[Listing]) -> tuple[tuple[str, ...] | None, Any]:
    """Return the class names of all parts, and labels that mean the same in all of them."""
    arrays = [as_numbers(part.labels) for part in parts]
    alike = len({part.class_names for part in parts}) == 1
    if all(array is not None for array in arrays) and (alike or not any(part.class_names for part in parts)):
        shapes = {array.shape[1:] for array in arrays if array is not None}
        if len(shapes) > 1:
            raise DataError(f"Labels must have the same shape in all splits; got {some(sorted(shapes))}.")
        return parts[0].class_names, np.concatenate([array for array in arrays if array is not None])
    labels = [label for part in parts for label in labels_by_name(part)]
    return parts[0].class_names if alike else None, labels


def labels_by_name(part: Listing) -> list[Any]:
    """Return labels as text: the names of positions where the listing has class names, else as they are written."""
    array, names = as_numbers(part.labels), part.class_names
    if array is None:
        return list(part.labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        names = names or tuple(map(str, range(array.shape[1])))
        rows = [tuple(names[c] for c in np.flatnonzero(row)) for row in array]
        return [row[0] for row in rows] if all(len(row) == 1 for row in rows) else rows
    if names is None:
        return [str(int(value)) if float(value).is_integer() else str(value) for value in array]
    if bad := sorted({value for value in array.tolist() if not (0 <= value < len(names) and value == int(value))}):
        raise DataError(f"labels of {part.where} must be integers in 0..{len(names) - 1}; got {some(bad)}.")
    return [names[int(value)] for value in array]


def as_numbers(labels: Any) -> np.ndarray | None:
    """Return labels as an array of numbers, or None if they are something else."""
    try:
        array = np.asarray(labels)
    except ValueError:  # lists of different lengths
        return None
    return array if array.dtype.kind in "biuf" and array.ndim else None
