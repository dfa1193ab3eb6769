"""Read every kind of dataset into a `Table`: one row per image, with its label as given.

Files are listed and arrays are checked, to be decoded later; only streams are read to their end, as `streams` says.
TensorFlow, Keras and pandas are never imported here: their objects can only exist if they have been imported already.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, some
from ..pictures.arrays import ArrayImage, checked_shape
from ..pictures.formats import IMAGE_SUFFIXES, find_images, format_of, is_hidden
from ..pictures.reading import Reading
from .streams import Keep, read_stream

SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = dict(zip(SPLITS, SPLITS, strict=True)) | {
    "training": "train", "val": "validation", "valid": "validation", "testing": "test"
}  # fmt: skip

_IMAGE_COLUMNS = ("image", "path", "file", "filename", "filepath", "image_path")
_LABEL_COLUMNS = ("label", "labels", "class", "target")
_KINDS = (
    "a folder of class folders, a CSV file or DataFrame (image path, label), a tuple (images, labels) of arrays,"
    " a tf.data.Dataset, or a keras.utils.PyDataset"
)


@dataclass(eq=False)
class Table:
    """The images and labels that a loader found, one row per image."""

    images: list[Any]  # paths, PIL images, `ArrayImage`s or `StreamImage`s
    labels: Any  # (N,) integers, (N, C) of 0 and 1, a list of N strings, or a list of N tuples of strings
    names: list[str]
    where: str  # the subject of error messages: "the folder flowers"
    splits: list[str] = field(default_factory=list)  # of each row; "all" if the data is not split
    multi_label: bool = False  # a cell may name several classes, even if none of these does
    class_names: tuple[str, ...] | None = None  # all possible ones, if the data says so: class folders, columns
    metadata: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    folder: Path = Path()  # that relative paths start from
    check_files: bool = True  # False if they have just been listed from the disk
    by_content: bool = False  # the rows were sorted by content, so "images[3]" means nothing to the user

    def __post_init__(self) -> None:
        self.splits = self.splits or ["all"] * len(self.images)


def loader(data: Any, keep: Keep) -> Callable[[Any], Table]:
    """Return the function that reads this kind of data into a `Table`; streams are kept as `keep` says."""
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if path.is_dir():
            return _from_folder
        if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt"):
            return _from_csv
        unpack = " Unpack it first." if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz") else ""
        wrong = "a string instead of a dataset, or a path that does not exist."
        wrong = f"a single file, not a dataset.{unpack}" if path.is_file() else wrong
        raise DataError(f"{str(data)!r} is {wrong} A dataset is {_KINDS}.")
    tensorflow, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tensorflow is not None and isinstance(data, tensorflow.data.Dataset):
        return partial(_from_tf_data, keep=keep)
    if keras is not None and isinstance(data, keras.utils.PyDataset):
        return partial(_from_py_dataset, keep=keep)
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        return _from_dataframe
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return partial(_from_arrays, keep=keep)
    if isinstance(data, Mapping):
        raise DataError(f"A dict is not a dataset; pass each split as a separate argument. A dataset is {_KINDS}.")
    raise DataError(f"A {type(data).__name__} is not a dataset. A dataset is {_KINDS}.")


def _from_folder(data: str | os.PathLike[str]) -> Table:
    root = Path(data)
    found = {folder: _SPLIT_NAMES.get(folder.name.lower()) for folder in _visible_folders(root)}
    names = {name for name in found.values() if name}
    is_split = bool(names) and (all(found.values()) or (len(names) > 1 and "train" in names))
    table = Table([], [], [], f"the folder {root}", check_files=False)
    class_names: set[str] = set()
    for split_root, split in found.items() if is_split else [(root, "all")]:
        if split is None:
            table.notes.append(f"the folder {split_root} beside the splits was left out")
            continue
        classes = _visible_folders(split_root)
        loose = [path for path in sorted(split_root.iterdir()) if path.is_file() and not is_hidden(path.name)]
        if not classes:
            count = sum(format_of(path) is not None for path in loose)
            what = f"{count} image{'s' * (count > 1)} directly in it" if count else "it holds no images"
            table.problems.append(
                f"{split_root} has no class folders ({what}). Expected {split_root.name}/<class>/<image>."
            )
        table.ignored += map(str, loose)
        for folder in classes:
            images, others = find_images(folder)
            table.ignored += map(str, others)
            table.images += images
            table.labels += [folder.name] * len(images)
            table.splits += [split] * len(images)
            if split in ("all", "train") or "train" not in names:
                class_names.add(folder.name)
    table.names = [str(path) for path in table.images]
    table.class_names = tuple(sorted(class_names))
    if table.ignored:
        table.notes.append(f"files without an image's suffix or class folder were left out ({len(table.ignored)})")
        if unnamed := [f"{path} ({format})" for path in table.ignored if (format := format_of(Path(path)))]:
            table.notes.append(f"images by their content were left out ({len(unnamed)}): {some(unnamed, limit=10)}")
    return table


def _visible_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))


def _from_csv(data: str | os.PathLike[str]) -> Table:
    path = Path(data)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = max(",;\t", key=file.readline().count)
            file.seek(0)
            rows = [row for row in csv.reader(file, delimiter=delimiter) if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    if len(rows) < 2:
        raise DataError(f"{path} has no rows: it needs a header line and one line per image.")
    header, *rows = [[cell.strip() for cell in row] for row in rows]
    ragged = [f"line {i}: {len(row)} cells" for i, row in enumerate(rows, 2) if len(row) != len(header)]
    if ragged:
        raise DataError.listing(f"{path} must have {len(header)} cells in every line, as in its header", ragged)
    return _from_columns(header, list(zip(*rows, strict=True)), path.parent, str(path))


def _from_dataframe(data: Any) -> Table:
    cells = [[_cell(value) for value in data[column]] for column in data.columns]
    if not cells or not cells[0]:
        raise DataError("the DataFrame is empty.")
    return _from_columns(list(map(str, data.columns)), cells, Path(), "the DataFrame")


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return "|".join(map(str, value))
    if value is None or value != value or str(value) == "<NA>":  # NaN is not itself
        return ""
    return str(int(value)) if isinstance(value, (bool, np.bool_)) else str(value).strip()


def _from_columns(header: list[str], cells: Sequence[Sequence[str]], folder: Path, where: str) -> Table:
    """Check the header of a CSV file or a DataFrame, and find the columns of images, labels and splits."""
    for name in header:
        if Path(name).suffix.lower() in IMAGE_SUFFIXES or os.path.isfile(folder / name):  # noqa: PTH113, swallows OSError
            raise DataError(
                f"{where} has no header line: its first line names the file {name!r}, which would be lost. Add a"
                ' header line above it, such as "image,label".'
            )
    if len(set(header)) < len(header):
        raise DataError(f"{where} has a column name twice: {', '.join(header)}.")
    columns = {name: list(column) for name, column in zip(header, cells, strict=True)}
    lower = {name.lower(): name for name in columns}
    image = next((lower[name] for name in _IMAGE_COLUMNS if name in lower), next(iter(columns)))
    split = lower.get("split")
    others = [name for name in columns if name not in (image, split)]
    label = [lower[name] for name in _LABEL_COLUMNS if name in lower and lower[name] in others][:1] or others
    # Columns of 0 and 1 may mean anything, such as the sex of an animal; they are classes only if all columns are such.
    if not label or (len(label) > 1 and any(set(columns[name]) - {"0", "1", "0.0", "1.0"} for name in label)):
        raise DataError(
            f"{where} does not say which column holds the labels: got the columns {', '.join(columns)}. Call it label"
            f" (or {', '.join(_LABEL_COLUMNS[1:])}); for several labels per image, have only columns of 0 and 1 beside"
            " that of the images."
        )
    paths = [folder / cell for cell in columns[image]]
    table = Table(paths, None, [str(path) for path in paths], where, folder=folder)
    table.metadata = {name: columns[name] for name in others if name not in label}
    table.notes.append(f"images come from the column {image!r}, labels from {', '.join(map(repr, label))}")
    labels = columns[label[0]]
    if len(label) > 1:
        table.labels = np.array([[int(float(cell)) for cell in columns[name]] for name in label]).T
        table.class_names = tuple(label)
    elif any("|" in cell for cell in labels):
        table.labels = [tuple(part.strip() for part in cell.split("|") if part.strip()) for cell in labels]
        table.multi_label = True
    else:
        table.labels = labels
    if split:
        table.splits = [_SPLIT_NAMES.get(cell.lower(), cell) for cell in columns[split]]
        wrong = sorted(set(table.splits) - set(SPLITS))
        if wrong:
            raise DataError(f"{where}: the split must be train, validation or test; got {', '.join(map(repr, wrong))}.")
    return table


def _from_arrays(data: Sequence[Any], keep: Keep) -> Table:
    images, labels = data
    if isinstance(images, (str, bytes)) or isinstance(labels, (str, bytes)) or not hasattr(images, "__len__"):
        raise DataError(f"({type(images).__name__}, {type(labels).__name__}) is not a dataset. A dataset is {_KINDS}.")
    if not hasattr(images, "shape") or np.asarray(images).dtype.kind in "OUS":
        images = list(images)
    return _table_of_arrays(images, labels, keep)


def _table_of_arrays(images: Any, labels: Any, keep: Keep) -> Table:
    """Check images in memory: one array, or a list of arrays, PIL images or paths."""
    if not len(images):
        raise DataError("There are no images: the dataset is empty.")
    if not hasattr(labels, "__len__") or len(labels) != len(images):
        count = len(labels) if hasattr(labels, "__len__") else type(labels).__name__
        raise DataError(f"There must be as many labels as images: got {len(images)} images, labels: {count}.")
    if isinstance(images, list) and all(isinstance(image, (str, os.PathLike)) for image in images):
        return Table([Path(image) for image in images], labels, [str(Path(image)) for image in images], "the dataset")
    images = _in_memory(images, Reading.of(keep.reading))
    return Table(images, labels, [f"images[{i}]" for i in range(len(images))], "the dataset")


def _in_memory(images: Any, reading: Reading) -> list[Any]:
    """Check the shapes of an array, or of a list of arrays and PIL images; they are converted when they are used."""
    if not isinstance(images, list):
        images = checked_shape(np.asarray(images), "images", reading)
        return [ArrayImage(images, row) for row in range(len(images))]
    images = [image if isinstance(image, Image.Image) else np.asarray(image) for image in images]
    found: list[Any] = []
    for row, image in enumerate(images):
        if isinstance(image, Image.Image):
            with suppress(Exception):  # decoding reports it
                image.load()  # now, as threads must not load the same image at once
            found.append(image)
        else:
            checked_shape(image[None], f"images[{row}]", reading)
            found.append(ArrayImage(images, row))
    return found


def _from_tf_data(data: Any, keep: Keep) -> Table:
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or not hasattr(spec[0], "shape"):
        raise DataError(f"The elements of a tf.data.Dataset must be (image, label); got {spec}.")
    if (count := int(data.cardinality())) == -1:
        raise DataError("The tf.data.Dataset is infinite: leave out .repeat(), or add .take(n).")
    rank = spec[0].shape.rank
    if rank not in (3, 4):
        raise DataError(f"The images of a tf.data.Dataset must be (H, W, C) or (B, H, W, C); got {spec[0]}.")
    batches: Iterator[Any] = data.as_numpy_iterator()
    if rank == 3:
        batches = ((image[None], np.asarray(label)[None]) for image, label in batches)
    table = _from_batches(batches, keep, count if count >= 0 else None)
    names = getattr(data, "class_names", None)  # set by keras.utils.image_dataset_from_directory
    table.class_names = tuple(names) if names else None
    return table


def _from_py_dataset(data: Any, keep: Keep) -> Table:
    try:
        count = data.num_batches
    except NotImplementedError:
        count = None
    if count is None or count == float("inf"):
        raise DataError("The PyDataset is infinite: define __len__, the number of its batches.")
    return _from_batches((data[i] for i in range(count)), keep, count)


def _from_batches(batches: Iterable[Any], keep: Keep, count: int | None) -> Table:
    """Read all batches once; the rows are in the order of their content, as the dataset may shuffle them."""
    images, labels, taken = read_stream(batches, keep, count)
    names = [f"images[{i}]" for i in range(len(images))]
    table = Table(images, labels, names, "the dataset", by_content=True)
    table.notes.append(taken)
    table.notes.append("images[i] is the i-th image in the order of their content, as the dataset may shuffle them")
    return table
