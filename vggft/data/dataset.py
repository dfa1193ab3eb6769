"""Every kind of dataset -> `Dataset`, one per split; the fingerprint.

`sources` reads each kind, `labels` numbers the classes. Both collect what is wrong instead of stopping at the first
of it, so that `open_dataset` raises all of it at once and `audit` can report it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import DataError
from .labels import encode, some
from .reading import Array
from .sources import SPLITS, Table, loader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BYTES = re.compile("[\ud800-\udfff]")  # bytes that are not UTF-8, as Python has them in names of files

Images: TypeAlias = "Sequence[Path | Array] | Array"


@dataclass(frozen=True, eq=False)
class Dataset:
    """One set of labelled images, whatever kind it came from.

    Attributes:
        images: N files; or (N, H, W, 3) uint8 or float32 in 0..255; or N such arrays (H, W, 3) where sizes differ.
        labels: (N,) int64 in 0..num_classes-1; or (N, num_classes) uint8 of 0 and 1 when `multi_label`.
        class_names: the name of each class, in the order of the labels.
        names: what messages and CSVs call each image: its path, or "images[3]".
        multi_label: whether an image may have several classes, or none.
        metadata: further columns of a CSV or DataFrame, as text.
        notes: what was inferred from the data, as sentences.
        ignored: files in the folder that were left out: not called images, or in no class folder.
    """

    images: Images = field(repr=False)
    labels: Array = field(repr=False)
    class_names: tuple[str, ...]
    names: tuple[str, ...] = field(repr=False)
    multi_label: bool = False
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> Array:
        """(num_classes,) int64: how many images each class has."""
        if self.multi_label:
            return np.asarray(self.labels.sum(axis=0, dtype=np.int64))
        return np.bincount(self.labels, minlength=self.num_classes)

    def pixel_dtype(self, image_size: int) -> np.dtype[Any]:
        """The dtype that holds its images at this size: uint8, or float32 for float arrays that need no resizing."""
        keeps_floats = isinstance(self.images, np.ndarray) and self.images.shape[1:3] == (image_size, image_size)
        return np.dtype(self.images.dtype if keeps_floats and isinstance(self.images, np.ndarray) else np.uint8)

    def subset(self, rows: Iterable[int] | Array) -> Dataset:
        """The images of these rows, in this order; notes and ignored files stay with it."""
        rows = np.fromiter(rows, np.int64)
        return replace(
            self,
            images=self.images[rows] if isinstance(self.images, np.ndarray) else [self.images[r] for r in rows],
            labels=self.labels[rows],
            names=tuple(self.names[r] for r in rows),
            metadata={column: tuple(cells[r] for r in rows) for column, cells in self.metadata.items()},
        )


def open_dataset(
    data: Any,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    multi_label: bool | None = None,
) -> dict[str, Dataset]:
    """Read any kind of dataset; files are listed, not decoded.

    Args:
        data: a folder of class folders (optionally train|training/, validation|val|valid/, test|testing/ inside), a
            CSV file or DataFrame (image path and label, optionally a `split` column), `(images, labels)`, a
            `tf.data.Dataset` or a `keras.utils.PyDataset` (both put in the order of their content, as they may
            shuffle), or a `Dataset`.
        num_classes: checked against the data.
        class_names: the classes and their order, where a trained classifier fixes them; some may then have no images.
        multi_label: whether images may have several classes, where a trained classifier fixes it; by default as the
            data says.

    Returns:
        `{"all": ...}`, or those of "train", "validation" and "test" that there are where the data is split already.
        A train part alone is "all", as it is yet to be split; there must be one unless `class_names` are given.

    Raises:
        DataError: the data cannot be used; everything that is wrong with it is listed.
    """
    splits, problems = collect(data, num_classes, class_names, multi_label)
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        raise DataError.listing(f"{len(problems)} problems in the dataset", problems)
    return splits


def collect(
    data: Any,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    multi_label: bool | None = None,
) -> tuple[dict[str, Dataset], list[str]]:
    """As `open_dataset`, but returns what is usable (maybe nothing) and the problems.

    Raises:
        DataError: `data` is no kind of dataset at all.
    """
    load = _from_dataset if isinstance(data, Dataset) else loader(data)
    try:
        table = load(data)
        if undecodable := _not_utf8(table):
            return {}, [undecodable]
        if not len(table.images):
            return {}, table.problems or [f"{table.where} holds no images."]
        found = encode(table, num_classes, None if class_names is None else tuple(class_names), multi_label)
    except DataError as error:
        return {}, [str(error)]
    good = found.good
    images = table.images if table.check_files else ()
    missing = [row for row, image in enumerate(images) if isinstance(image, Path) and not image.is_file()]
    problems = table.problems + found.problems
    if missing:
        good[missing] = False
        where = f"the CSV's folder, {table.folder}" if str(table.folder) != "." else "the current folder"
        files = some(table.names[row] for row in missing)
        problems.append(f"files that do not exist ({len(missing)}; relative paths begin at {where}): {files}.")
    whole = Dataset(
        table.images,
        found.values,
        found.class_names,
        tuple(table.names),
        found.values.ndim == 2,
        {column: tuple(cells) for column, cells in table.metadata.items()},
        tuple(table.notes + found.notes),
        tuple(table.ignored),
    )
    splits = np.array(table.splits if table.splits is not None else ["all"] * len(good))
    present = [name for name in SPLITS if name in splits]
    if present in ([], ["train"]):  # the caller has yet to split it
        return {"all": whole if good.all() else whole.subset(np.flatnonzero(good))}, problems
    return {name: whole.subset(np.flatnonzero(good & (splits == name))) for name in present}, problems


def _not_utf8(table: Table) -> str | None:
    """Names from the file system that Python can only hold with surrogates, and JSON and CSV not at all: a sentence."""
    paths = [Path(name) for name in (*table.names, *table.ignored) if _BYTES.search(name)]
    # Of the path to a file, what ends in the first bad name: a folder is then named once, not with each of its files.
    bad = {str(next(p for p in (*reversed(path.parents), path) if _BYTES.search(str(p)))) for path in paths}
    bad = bad or {name for name in table.class_names or () if _BYTES.search(name)}  # an empty folder
    if not bad:
        return None
    return (
        f"names that are not valid UTF-8: {some(map(repr, sorted(bad)))}. This usually occurs when a"
        " zip that was made on another system is unpacked: rename them, or unpack it again with its own encoding."
    )


def _from_dataset(data: Dataset) -> Table:
    if data.multi_label:
        labels: Any = [tuple(data.class_names[c] for c in np.flatnonzero(row)) for row in data.labels]
    else:
        labels = [data.class_names[label] for label in data.labels]
    return Table(
        data.images,
        labels,
        list(data.names),
        "the dataset",
        class_names=data.class_names,
        multi_label=data.multi_label,
        check_files=False,
        metadata={column: list(cells) for column, cells in data.metadata.items()},
        notes=list(data.notes),
        ignored=list(data.ignored),
    )


def fingerprint(digests: Iterable[str | None], labels: Array, class_names: Sequence[str]) -> str:
    """Sha256 (hex) over the content of the images, their order, their labels and the names of the classes."""
    state = hashlib.sha256(repr((tuple(digests), tuple(map(str, class_names)), labels.shape)).encode())
    state.update(np.ascontiguousarray(labels, np.int64).tobytes())
    return state.hexdigest()
