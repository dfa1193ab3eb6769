"""What the columns of a table mean: said by a `Table`, or found out by their names and what stands in them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, some
from ..pictures.formats import IMAGE_SUFFIXES
from .cells import binary, columns_of_classes, labels_in, pixels_across, pixels_in, signs, text_of
from .columns import Columns, headless, read_columns
from .files import locate
from .listing import SPLITS, Listing, place, split_of
from .tables import Table

_IMAGES = (
    "image", "images", "path", "file", "filename", "filepath", "imagepath", "img", "imgpath", "imagename", "imgname",
    "imagefile", "imageid", "imageindex", "idcode", "isicid", "picture", "photo", "fname", "pixels", "id",
)  # fmt: skip
_LABELS = (
    "label", "labels", "class", "target", "classes", "classname", "labelname", "category", "dx", "diagnosis",
    "findinglabels", "emotion", "tags", "classid", "y",
)  # fmt: skip
_SPLITS = ("split", "usage", "subset", "partition", "dataset", "set")
_FER = {"publictest": "validation", "privatetest": "test"}


def list_table(table: Table) -> Listing:
    """List a table: a row for each image, of those that are not to be skipped.

    Raises:
        DataError: it cannot be read, has no header, or does not say which column holds the images or the labels.
    """
    columns = read_columns(table.data)
    folder = _folder(table, columns)
    found = Meaning(table, columns)
    images, names, notes, remedy = found.images(folder)
    labels, keep, more = found.labels()
    notes[0] += f", labels from {', '.join(map(repr, found.label))}"
    listing = Listing(
        images,
        labels,
        names,
        columns.where,
        multi_label=found.multi_label,
        class_names=found.class_names,
        positions=found.positions,
        folder=folder,
        metadata={name: list(map(text_of, columns.values[name])) for name in found.others()},
        notes=[*notes, *more],
        splits=found.splits(),
        remedy=remedy,
    )
    return listing if keep.all() else _rows(listing, np.flatnonzero(keep))


def list_images(table: Table) -> tuple[list[Any], list[str]]:
    """Return the images of a table, which needs no labels, and their names.

    Raises:
        DataError: it cannot be read, has no header, or names files that do not exist.
    """
    columns = read_columns(table.data)
    folder = _folder(table, columns)
    images, names, _, remedy = Meaning(table, columns).images(folder)
    pairs = zip(names, images, strict=True)
    if missing := [name for name, path in pairs if isinstance(path, Path) and place(path) != "file"]:
        told = f"{columns.where} names files that do not exist ({len(missing)}): {some(missing, limit=5)}."
        raise DataError(told + remedy)
    return images, names


class Meaning:
    """What the columns of a table mean: attributes are names of columns."""

    def __init__(self, table: Table, columns: Columns):
        self.table, self.columns = table, columns
        self.plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(list(columns.values))}
        self.multi_label = False
        self.class_names: tuple[str, ...] | None = None
        self.positions: bool | None = None
        self.across, self.flat = pixels_across(columns.values) if table.image is None else ([], None)
        self.split = self._split()
        self.image = "" if self.across else self._image()

    def others(self) -> list[str]:
        """Return the columns that hold something else, but no images."""
        used, values = {self.image, self.split, *self.label, *self.across}, self.columns.values
        return [name for name in values if name not in used and not _are_pictures(values[name])]

    def _asked(self, name: str, field: str) -> str:
        names = list(self.columns.values)
        found = [each for each in names if each == name] or [each for each in names if each.lower() == name.lower()]
        if len(found) != 1:
            raise DataError(
                f"{self.columns.where} has no column {name!r}, given as {field}; it has {', '.join(names)}."
            )
        return found[0]

    def _named(self, words: Sequence[str]) -> list[str]:
        return [self.plain[word] for word in words if word in self.plain]

    def _image(self) -> str:
        if self.table.image is not None:
            return self._asked(self.table.image, "image")
        values = self.columns.values
        named = self._named(_IMAGES)
        full = [name for name in values if _are_pictures(values[name])]
        files = [name for name in (*named, *values) if _are_files(values[name])]
        rest = [name for name in values if name != self.split and not _counts(values[name])]
        index = [self.columns.index] if self.columns.index else []
        return next(iter((*full, *files, *named, *index, *rest, *values)))

    @cached_property
    def label(self) -> list[str]:
        """The column of the labels, or those of the classes."""
        values, table = self.columns.values, self.table
        if table.label is not None:
            asked = [table.label] if isinstance(table.label, str) else table.label
            return [self._asked(name, "label") for name in asked]
        others = [n for n in values if n not in (self.image, self.split, self.columns.index, *self.across)]
        if named := [name for name in self._named(_LABELS) if name in others]:
            return named[:1]
        numbered = [name for name in others if name in self.columns.positions]
        if len(numbered) > 1:
            raise self._unknown(others, f"Several could: {', '.join(numbered)}. ")
        if numbered:
            return numbered
        others = [name for name in others if not _counts(values[name])] or others
        if len(others) == 1:
            return others
        # Columns of 0 and 1 may mean anything, such as the sex of an animal: they are classes only if all columns are
        # such, or if they are called alike.
        alike = [name for name in others if re.match(r"(label|class|target)[_ ]", name.lower())]
        for some_names in (others, alike):
            if len(some_names) > 1 and any(all(kind(values[name]) for name in some_names) for kind in (binary, signs)):
                return some_names
        raise self._unknown(others)

    def _unknown(self, others: Sequence[str], why: str = "") -> DataError:
        flags = [
            name
            for name in others
            if {text_of(v) for v in self.columns.values[name]} <= {"0", "1", "-1", "0.0", "1.0", "-1.0", ""}
        ]
        example = flags if len(flags) > 1 else (others[0] if others else "species")
        return DataError(
            f"{self.columns.where} does not say which column holds the labels: got the columns"
            f" {', '.join(self.columns.values)}. {why}Call it label (or {', '.join(_LABELS[1:5])}), or name it:"
            f" vggft.Table({self.columns.given}, label={example!r}). For several labels per image, have only columns of"
            " 0 and 1 beside that of the images, or give the names of these columns."
        )

    def _split(self) -> str | None:
        if self.table.split is not None:
            return self._asked(self.table.split, "split") if self.table.split else None
        named = self._named(_SPLITS)
        asked = self.table.label if isinstance(self.table.label, str) else None
        return next(
            (
                name
                for name in named
                if name != asked and (name.lower() == "split" or all(map(_split, self.columns.values[name])))
            ),
            None,
        )

    def splits(self) -> list[str]:
        """Return the split of every row."""
        if self.split is None:
            return []
        found = [_split(cell) or text_of(cell) for cell in self.columns.values[self.split]]
        if wrong := sorted(set(found) - set(SPLITS)):
            told = ", ".join(map(repr, wrong))
            raise DataError(f"{self.columns.where}: the split must be train, validation or test; got {told}.")
        return found

    def images(self, folder: Path) -> tuple[list[Any], list[str], list[str], str]:
        """Return images, their names, notes, and where missing files may be."""
        if self.flat is not None:
            return _in_memory(
                list(self.flat), f"images come from the columns {self.across[0]!r} to {self.across[-1]!r}"
            )
        cells = self.columns.values[self.image]
        told = f"images come from the column {self.image!r}"
        if _are_pictures(cells):
            return _in_memory([_picture(cell, folder) for cell in cells], told)
        if (pixels := pixels_in(cells)) is not None:
            return _in_memory(list(pixels), told)
        written = list(map(_written, cells))
        located = locate(written, folder)
        if located.notes and place(locate([self.image], folder).paths[0]) == "file":
            raise headless(self.image, self.columns.where)
        empty = "(row {}, which names none: its {!r} is empty)"  # as rows are counted with the header
        names = [
            str(path) if cell else empty.format(row, self.image)
            for row, (cell, path) in enumerate(zip(written, located.paths, strict=True), 2)
        ]
        return list(located.paths), names, [told, *located.notes], located.remedy

    def labels(self) -> tuple[Any, np.ndarray, list[str]]:
        """Return the labels, which rows are kept, and notes; sets what is known of the classes."""
        values = self.columns.values
        every = np.ones(len(values[self.label[0]]), bool)
        if len(self.label) > 1:
            self.class_names = tuple(self.label)
            return columns_of_classes(values, self.label, self.table.uncertain, self.columns.where)
        (name,) = self.label
        self.class_names, self.positions = self.columns.class_names.get(name), name in self.columns.positions or None
        if self.positions:
            return self._positions(values[name])
        if self.table.uncertain is not None:
            matrix, keep, notes = columns_of_classes(values, [name], self.table.uncertain, self.columns.where)
            return matrix[:, 0], keep, notes
        labels, self.multi_label, told = labels_in(values[name], name, self.table.mark)
        if self.class_names and not self.multi_label:
            self.class_names = tuple(each for each in self.class_names if each in set(labels))
        return labels, every, [told] if told else []

    def _positions(self, cells: Sequence[Any]) -> tuple[Any, np.ndarray, list[str]]:
        """Return labels that are positions among the class names of a `ClassLabel`, as one or several to an image."""
        names, every = self.columns.class_names[self.label[0]], np.ones(len(cells), bool)
        if any(isinstance(cell, (list, tuple, np.ndarray)) for cell in cells):
            self.multi_label = True
            return [tuple(names[int(c)] for c in cell) for cell in cells], every, []
        labels = np.array([-1 if cell is None else int(cell) for cell in cells])
        keep = labels >= 0
        gone = [] if keep.all() else [f"images without a label (-1) were left out ({int((~keep).sum())})"]
        return labels, keep, gone


def _in_memory(images: list[Any], told: str) -> tuple[list[Any], list[str], list[str], str]:
    return images, [f"images[{i}]" for i in range(len(images))], [told], ""


def _rows(listing: Listing, rows: np.ndarray) -> Listing:
    """Keep some rows of a listing."""
    for name in ("images", "names", "splits"):
        setattr(listing, name, [getattr(listing, name)[row] for row in rows])
    listing.labels = listing.labels[rows]
    listing.metadata = {name: [cells[row] for row in rows] for name, cells in listing.metadata.items()}
    return listing


def _split(cell: Any) -> str | None:
    text = text_of(cell)
    return _FER.get(text.lower().replace(" ", "")) or split_of(text)


def _written(cell: Any) -> str:
    return os.fspath(cell) if isinstance(cell, os.PathLike) else text_of(cell)


def _counts(cells: Sequence[Any]) -> bool:
    """Whether a column only numbers the rows."""
    numbers = [text_of(cell) for cell in cells]
    return any(numbers == [str(i + first) for i in range(len(numbers))] for first in (0, 1)) and len(numbers) > 2


def hold_images(cells: Any) -> bool:
    """Whether cells are images themselves, or most of them files of images."""
    return len(cells) > 0 and (_are_pictures(cells) or _are_files(cells))


def _are_files(cells: Sequence[Any]) -> bool:
    """Whether most cells end like files of images."""
    some_cells = [_written(cell) for cell in list(cells)[:200] if isinstance(cell, (str, os.PathLike))]
    return 2 * sum(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in some_cells) > max(len(some_cells), 1)


def _are_pictures(cells: Sequence[Any]) -> bool:
    """Whether cells hold images themselves: arrays, PIL images, the bytes of files."""
    first = next((cell for cell in cells if cell is not None), None)
    if isinstance(first, Mapping):
        return bool({"bytes", "path"} & set(first))
    is_array = len(getattr(first, "shape", ())) > 1
    return is_array or isinstance(first, (bytes, bytearray)) or hasattr(first, "getbands")


def _folder(table: Table, columns: Columns) -> Path:
    """Return where relative paths start from; a relative folder may be meant from the CSV file, or from here."""
    if table.folder is None:
        return columns.folder
    here, beside = Path(table.folder), columns.folder / table.folder
    return beside if beside.is_dir() and not here.is_dir() else here


def _picture(cell: Any, folder: Path) -> Any:
    """Return a cell as an array, a PIL image, the bytes of a file, or a path."""
    if isinstance(cell, Mapping):  # as Hugging Face keeps images
        return bytes(cell["bytes"]) if cell.get("bytes") else folder / str(cell.get("path"))
    if isinstance(cell, (bytes, bytearray)):
        return bytes(cell)
    return cell if hasattr(cell, "getbands") else np.asarray(cell)
