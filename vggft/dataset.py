"""Every kind of dataset -> `Dataset`, one per split; what one decoding pass finds; seeded splits; the fingerprint.

`table.py` reads each kind, `labels.py` numbers the classes. Both collect what is wrong instead of stopping at the first
of it, so that `open_dataset` raises all of it at once and `audit` can report it.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.model_selection import train_test_split

from .errors import ConfigError, DataError
from .images import MIN_SIDE, Array, read_image, resize_pixels
from .labels import encode, some
from .table import SPLITS, Table, loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["SPLITS", "Dataset", "Scan", "collect", "fingerprint", "open_dataset", "scan", "split_rows"]

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
        data: a folder of class folders (optionally train/, validation|val|valid/, test/ inside), a CSV file or
            DataFrame (image path and label, optionally a `split` column), `(images, labels)`, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or a `Dataset`.
        num_classes: checked against the data.
        class_names: the classes and their order, where a trained classifier fixes them; some may then have no images.
        multi_label: whether images may have several classes, where a trained classifier fixes it; by default as the
            data says.

    Returns:
        `{"all": ...}`, or two or three of "train", "validation" and "test" where the data is split already.

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
    if len(present) < 2:  # only a train/ folder, say: the caller has yet to split it
        return {"all": whole if good.all() else whole.subset(np.flatnonzero(good))}, problems
    return {name: whole.subset(np.flatnonzero(good & (splits == name))) for name in present}, problems


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


# One decoding pass ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scan:
    """What one decoding pass over a `Dataset` found; each tuple has one item per image, None where it is unreadable.

    Attributes:
        digests: blake2b of the resized pixels, that is of what the network sees.
        sizes: original width and height in px, upright.
        modes: Pillow's pixel format; the dtype for arrays.
        formats: the file format by content; "" for arrays.
        problems: row -> why it cannot be used, a sentence that names the image.
    """

    digests: tuple[str | None, ...]
    sizes: tuple[tuple[int, int] | None, ...]
    modes: tuple[str | None, ...]
    formats: tuple[str | None, ...]
    problems: dict[int, str]


_Row: TypeAlias = "tuple[str | None, tuple[int, int] | None, str | None, str | None, str | None]"


def scan(
    dataset: Dataset,
    image_size: int,
    pixels: Array | None = None,
    on_image: Callable[[], None] | None = None,
) -> Scan:
    """Decode and resize every image once, in threads.

    Args:
        image_size: side in px that images are squashed to.
        pixels: (N, image_size, image_size, 3) uint8 or float32, possibly a memory map; filled row by row, except for
            the rows in `problems`. Floats are rounded where it is uint8; `Dataset.pixel_dtype` says what loses nothing.
        on_image: called once per image, from the calling thread.
    """

    def work(row: int) -> _Row:
        image = dataset.images[row]
        if isinstance(image, np.ndarray):
            height, width = image.shape[:2]
            if min(width, height) < MIN_SIDE:
                problem = f"{dataset.names[row]} is {width}x{height} px; at least {MIN_SIDE} px a side are needed."
                return None, None, None, None, problem
            seen, mode, format = resize_pixels(image, image_size), str(image.dtype), ""
        else:
            try:
                picture = read_image(image, image_size, dataset.names[row])
            except DataError as error:
                return None, None, None, None, str(error)
            seen, mode, format, (width, height) = picture.pixels, picture.mode, picture.format, picture.size
        if pixels is not None:
            pixels[row] = np.rint(seen) if pixels.dtype.kind == "u" and seen.dtype.kind == "f" else seen
        return _digest(seen), (width, height), mode, format, None

    threads = os.cpu_count() or 1  # Pillow decodes and resizes without the GIL
    rows: list[_Row] = []
    pending: deque[Future[_Row]] = deque()

    def take() -> None:
        rows.append(pending.popleft().result())
        if on_image:
            on_image()

    pool = ThreadPoolExecutor(threads)
    try:
        for row in range(len(dataset)):
            pending.append(pool.submit(work, row))
            if len(pending) > 4 * threads:  # few at a time: a million futures would fill the memory
                take()
        while pending:
            take()
    finally:
        pool.shutdown(cancel_futures=True)
    digests, sizes, modes, formats, problems = zip(*rows, strict=True) if rows else ((),) * 5
    return Scan(digests, sizes, modes, formats, {row: problem for row, problem in enumerate(problems) if problem})


def _digest(pixels: Array) -> str:
    """The same for equal pixels, whether they are held as uint8 or as floats."""
    if pixels.dtype != np.uint8 and np.array_equal(whole := np.rint(pixels), pixels):
        pixels = whole.astype(np.uint8)
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def fingerprint(digests: Iterable[str | None], labels: Array, class_names: Sequence[str]) -> str:
    """Sha256 (hex) over the content of the images, their order, their labels and the names of the classes."""
    state = hashlib.sha256(repr((tuple(digests), tuple(map(str, class_names)), labels.shape)).encode())
    state.update(np.ascontiguousarray(labels, np.int64).tobytes())
    return state.hexdigest()


# Splits ---------------------------------------------------------------------------------------------------------------


def split_rows(
    labels: Array, digests: Sequence[str | None], fraction: float, seed: int, class_names: Sequence[str]
) -> tuple[Array, Array]:
    """Hold out a stratified fraction of the images; copies of one image (equal digests) stay on one side.

    Args:
        labels: (N,) int64, or (N, num_classes) of 0 and 1.
        digests: of each image; None counts as different from all others.
        fraction: of the distinct images to hold out, in (0, 1). Met to the image, unless small classes need more.
        seed: the same seed gives the same split.
        class_names: for error messages.

    Returns:
        Two sorted int64 arrays, the rows kept and those held out. Every class that has images is on both sides.

    Raises:
        ConfigError: `fraction` is not in (0, 1).
        DataError: classes with fewer than two distinct images, or too interlocked labels, named.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"A split must be a fraction in (0, 1); got {fraction!r}.")
    number: dict[str, int] = {}
    groups = np.array([number.setdefault(d or f"row {row}", len(number)) for row, d in enumerate(digests)], np.int64)
    marks = labels.astype(bool) if labels.ndim == 2 else np.arange(len(class_names)) == labels[:, None]
    # A group takes the labels of its first image: where copies disagree, `audit` has said so.
    marks = marks[np.unique(groups, return_index=True)[1]]
    present = np.unique(np.nonzero(labels)[1] if labels.ndim == 2 else labels)
    small = [f"{class_names[c]!r} ({marks[:, c].sum()})" for c in present if marks[:, c].sum() < 2]
    if small or len(marks) < 2:
        raise DataError(
            f"Every class needs at least 2 distinct images to be split; too few in: {some(small) or 'all'}."
            " Add images, or give the validation and test data yourself."
        )
    need = 1 if labels.ndim == 2 else len(present)
    count = min(max(round(fraction * len(marks)), need), len(marks) - need)
    held = np.zeros(len(marks), bool)
    strata = _strata(marks, min(count, len(marks) - count))
    held[train_test_split(np.arange(len(marks)), test_size=count, random_state=seed, stratify=strata)[1]] = True
    stuck = _repair(held, marks, np.random.default_rng(seed), fraction)
    if stuck:
        raise DataError(
            f"No split of {fraction:g} has these classes on both sides: {some(class_names[c] for c in stuck)}."
            " Add images of them, or give the validation and test data yourself."
        )
    return np.flatnonzero(~held[groups]), np.flatnonzero(held[groups])


def _strata(marks: Array, most: int) -> Array | None:
    """The label combination of each group as a number, the rare ones as one, as scikit-learn needs two of each."""
    combination, sizes = np.unique(marks, axis=0, return_inverse=True, return_counts=True)[1:]
    combination = combination.reshape(-1)
    common = [c for c in np.argsort(-sizes, kind="stable") if sizes[c] >= 2]
    if len(common) < len(sizes) or len(common) > most:
        common = common[: max(most - 1, 0)]
    strata = np.where(np.isin(combination, common), combination, -1)
    if (strata == -1).sum() == 1 and common:  # a single rare one joins the largest
        strata[strata == -1] = common[0]
    return strata if len(np.unique(strata)) > 1 else None


def _repair(held: Array, marks: Array, rng: np.random.Generator, fraction: float) -> list[int]:
    """Stratifying may leave a small class on one side: move one of its groups and, to keep the size, another back.

    Changes `held`; returns the classes for which that is impossible.
    """
    order = rng.permutation(len(marks))
    stuck = []
    for c in np.flatnonzero(marks.any(axis=0)):
        for side in (True, False):
            here = marks[held == side].sum(axis=0)
            if here[c]:
                continue
            moved = _movable(held != side, marks, order, marks[:, c])
            if not len(moved):
                stuck.append(int(c))
                continue
            held[moved[0]] = side
            back = _movable(held == side, marks, order, ~marks[:, c])
            if len(back):
                share = fraction if side else 1 - fraction
                surplus = marks[held == side].sum(axis=0) - share * marks.sum(axis=0)
                mean = marks[back] @ surplus / np.maximum(marks[back].sum(axis=1), 1)
                held[back[np.argmax(mean)]] = not side
    return stuck


def _movable(side: Array, marks: Array, order: Array, wanted: Array) -> Array:
    """Groups of a side that are wanted and leave every one of their classes there, in random order."""
    last = marks[side].sum(axis=0) < 2
    can = side & wanted & ~(marks & last).any(axis=1)
    return np.asarray(order[can[order]])
