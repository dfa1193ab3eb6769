"""Read every kind of dataset as one `Dataset` per split; compute the fingerprint of the data.

`sources` reads each kind into a `Listing`, and `listings.labels` numbers the classes. Both collect problems instead of
stopping at the first, so that `open_dataset` can raise all of them at once and `audit` can report them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, VggftError, some
from ..files.opening import special
from ..listings.labels import encode, name_classes
from ..listings.listing import KINDS, SPLITS, Listing, join_weights, place
from .sources import loader
from .streams import Keep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SURROGATES = re.compile("[\ud800-\udfff]")  # Python represents file names that are not UTF-8 with these


@dataclass(frozen=True, eq=False)
class Dataset:
    """One set of labelled images, from any kind of dataset.

    Attributes:
        images: N images, none of them decoded yet: paths, the bytes of files, PIL images, `ArrayImage`s, which are
            converted when they are used; or `StreamImage`s, which are in the cache.
        labels: (N,) int64 in 0..num_classes-1; or (N, num_classes) uint8 of 0 and 1 when `multi_label`.
        class_names: class names in the order of the class indices.
        names: name of each image in messages and CSV files: its path, or "images[3]".
        multi_label: whether an image may have several classes, or none.
        metadata: the other columns of a CSV or DataFrame, as text.
        weights: (N,) float32 weights of the images in the loss; None if all are equal.
        notes: what was inferred from the data, as sentences.
        ignored: files in the folder that were left out: without an image's suffix, or outside class folders.
    """

    images: Sequence[Any] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    names: tuple[str, ...] = field(repr=False)
    multi_label: bool = False
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = field(default=(), repr=False)
    weights: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def label_told(self, row: int) -> str:
        """Return the name of the class of an image, or of its classes."""
        label = self.labels[row]
        classes = np.flatnonzero(label) if self.multi_label else [label]
        return "|".join(self.class_names[c] for c in classes) or "no label"

    @property
    def class_counts(self) -> np.ndarray:
        """(num_classes,) int64: the number of images of each class."""
        if self.multi_label:
            return np.asarray(self.labels.sum(axis=0, dtype=np.int64))
        return np.bincount(self.labels, minlength=self.num_classes)

    def subset(self, rows: Iterable[int] | np.ndarray) -> Dataset:
        """Select rows, in this order; notes and ignored files are kept."""
        rows = np.fromiter(rows, np.int64)
        return replace(
            self,
            images=[self.images[r] for r in rows],
            labels=self.labels[rows],
            names=tuple(self.names[r] for r in rows),
            metadata={column: tuple(cells[r] for r in rows) for column, cells in self.metadata.items()},
            weights=None if self.weights is None else self.weights[rows],
        )


def concatenate(parts: Sequence[Dataset]) -> Dataset:
    """Concatenate datasets with the same classes; keep only the metadata columns that all of them have."""
    if len(parts) == 1:
        return parts[0]
    columns = set.intersection(*(set(part.metadata) for part in parts))
    return replace(
        parts[0],
        images=list(chain.from_iterable(part.images for part in parts)),
        labels=np.concatenate([part.labels for part in parts]),
        names=tuple(chain.from_iterable(part.names for part in parts)),
        metadata={
            column: tuple(chain.from_iterable(part.metadata[column] for part in parts))
            for column in parts[0].metadata
            if column in columns
        },
        notes=tuple(dict.fromkeys(chain.from_iterable(part.notes for part in parts))),
        ignored=tuple(dict.fromkeys(chain.from_iterable(part.ignored for part in parts))),
        weights=join_weights([(part.weights, len(part)) for part in parts]),
    )


def open_dataset(
    data: Any,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    multi_label: bool | None = None,
    first: Sequence[str] = (),
    keep: Keep | None = None,
    says: Sequence[str] | None = None,
) -> dict[str, Dataset]:
    """Read any kind of dataset; files are listed, not decoded. A stream is read to its end.

    Args:
        data: a folder of class folders (optionally train|training/, validation|val|valid/, test|testing/ inside), a
            CSV file or DataFrame (image path and label, optionally a `split` column) or a `Table` that says what its
            columns mean, `(images, labels)`, a `tf.data.Dataset` or a `keras.utils.PyDataset` (both are sorted by
            content, as they may shuffle), a Hugging Face dataset, a dict or tuple of such splits, or a `Dataset`.
        num_classes: checked against the data.
        class_names: the classes and their order if a trained classifier fixes them; some may then have no images.
        multi_label: whether images may have several classes if a trained classifier fixes it; None infers it.
        first: the classes that an earlier classifier has: they come first, and all of them need images.
        keep: where the images of a `tf.data.Dataset` or a `PyDataset` are kept; None keeps no pixels of them.
        says: the class names that the user gives: what integer labels stand for, and the order of names.

    Returns:
        `{"all": ...}`, or the splits that exist ("train", "validation", "test") if the data is already split. A train
        split alone is returned as "all", since it will be split. It may be missing only if `class_names` are given.

    Raises:
        DataError: the data cannot be used; every problem is listed.
        CacheError: the disk has too little room for the images of a stream.
    """
    splits, problems = collect(data, num_classes, class_names, multi_label, first, keep, says)
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
    first: Sequence[str] = (),
    keep: Keep | None = None,
    says: Sequence[str] | None = None,
) -> tuple[dict[str, Dataset], list[str]]:
    """Like `open_dataset`, but return the usable images, possibly none, together with the problems.

    Raises:
        DataError: `data` is not a dataset of any kind.
    """
    load = _from_dataset if isinstance(data, Dataset) else loader(data, keep or Keep())
    try:
        table = load(data)
        if undecodable := _not_utf8(table):
            return {}, [undecodable]
        if not len(table.images):
            return {}, table.problems or [f"{table.where} holds no images."]
        if says is not None:
            name_classes(table, says)
        names = None if class_names is None else tuple(class_names)
        found = encode(table, num_classes, names, multi_label, tuple(first))
    except DataError as error:
        return {}, [str(error)]
    except (VggftError, MemoryError):
        raise
    except Exception as error:  # of objects that are not ours, and may do anything
        told = f"{type(error).__name__}: {error}".removesuffix(".")
        raise DataError(f"The {type(data).__name__} cannot be read ({told}). A dataset is {KINDS}.") from error
    good = found.good
    images = table.images if table.check_files else ()
    missing = [row for row, image in enumerate(images) if isinstance(image, Path) and place(image) != "file"]
    problems = table.problems + found.problems
    if missing:
        good[missing] = False
        problems += [f"{table.names[row]} {told}" for row in missing if (told := special(images[row]))]
        missing = [row for row in missing if not special(images[row])]
    if missing:
        where = f"the folder {table.folder}" if str(table.folder) != "." else "the current folder"
        files = some((table.names[row] for row in missing), limit=5)
        problems.append(
            f"files that do not exist ({len(missing)}; relative paths are relative to {where}): {files}.{table.remedy}"
        )
    whole = Dataset(
        table.images,
        found.values,
        found.class_names,
        tuple(table.names),
        found.values.ndim == 2,
        {column: tuple(cells) for column, cells in table.metadata.items()},
        tuple(table.notes + found.notes),
        tuple(table.ignored),
        table.weights,
    )
    splits = np.array(table.splits)
    present = [name for name in SPLITS if name in splits]
    if present in ([], ["train"]):  # not split yet
        return {"all": whole if good.all() else whole.subset(np.flatnonzero(good))}, problems
    return {name: whole.subset(np.flatnonzero(good & (splits == name))) for name in present}, problems


def _not_utf8(table: Listing) -> str | None:
    """Return a sentence about file names that are not UTF-8 and so cannot be written to JSON or CSV files."""
    paths = [Path(name) for name in (*table.names, *table.ignored) if _SURROGATES.search(name)]
    # The shortest part of each path with a bad name, so that a folder is listed once, not with each of its files.
    bad = {str(next(p for p in (*reversed(path.parents), path) if _SURROGATES.search(str(p)))) for path in paths}
    bad = bad or {name for name in table.class_names or () if _SURROGATES.search(name)}  # an empty folder
    if not bad:
        return None
    return (
        f"names that are not valid UTF-8: {some(map(repr, sorted(bad)))}. This usually occurs when a"
        " zip file from another system is unpacked: rename them, or unpack it again with the right encoding."
    )


def _from_dataset(data: Dataset) -> Listing:
    if data.multi_label:
        labels: Any = [tuple(data.class_names[c] for c in np.flatnonzero(row)) for row in data.labels]
    else:
        labels = [data.class_names[label] for label in data.labels]
    return Listing(
        list(data.images),
        labels,
        list(data.names),
        "the dataset",
        class_names=data.class_names,
        multi_label=data.multi_label,
        check_files=False,
        metadata={column: list(cells) for column, cells in data.metadata.items()},
        notes=list(data.notes),
        ignored=list(data.ignored),
        weights=data.weights,
    )


def fingerprint(
    digests: Iterable[str], labels: np.ndarray, class_names: Sequence[str], weights: np.ndarray | None = None
) -> str:
    """Return the SHA-256 (hex) of the images' content and order, their labels and weights, and the class names."""
    state = hashlib.sha256(repr((tuple(digests), tuple(map(str, class_names)), labels.shape)).encode())
    state.update(np.ascontiguousarray(labels, np.int64).tobytes())
    if weights is not None:
        state.update(np.ascontiguousarray(weights, "float32").tobytes())
    return state.hexdigest()
