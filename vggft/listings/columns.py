"""Read a CSV file, a DataFrame, a Hugging Face dataset or a dict of columns: name -> cells."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, counted
from ..files.opening import NotAFileError, open_file
from ..foreign import unguarded
from ..pictures.formats import IMAGE_SUFFIXES
from .cells import text_of
from .listing import place

SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of a table.

    Args:
        values: name -> one cell for each row.
        where: the subject of error messages.
        given: how the table is written in an example.
        folder: where relative paths start from.
        class_names: column -> its classes in their order, if it says so.
        positions: the columns of integers that are positions in these.
        index: the column that is the index of a DataFrame; "" if this only numbers the rows.
    """

    values: Mapping[str, Sequence[Any]]
    where: str
    given: str
    folder: Path = Path()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    positions: frozenset[str] = frozenset()
    index: str = ""


def is_table(data: Any) -> bool:
    """Whether this is a DataFrame, of pandas or alike, or a Hugging Face dataset."""
    return not isinstance(data, Mapping) and (
        is_hugging_face(data) or (hasattr(data, "columns") and hasattr(data, "__getitem__"))
    )


def is_hugging_face(data: Any) -> bool:
    """Whether this is a Hugging Face `Dataset` or `IterableDataset`."""
    return hasattr(data, "features") and hasattr(data, "column_names") and hasattr(data, "cast_column")


def read_columns(data: Any) -> Columns:
    """Read all columns of a table.

    Raises:
        DataError: it is no table, has no rows, a column name twice, or no header line.
    """
    if isinstance(data, (str, os.PathLike)):
        return _from_csv(Path(data))
    if is_hugging_face(data):
        return _from_hugging_face(data)
    if isinstance(data, Mapping):
        values = {str(name): list(column) for name, column in data.items()}
        return _checked(Columns(values, "the dict of columns", "data"))
    if not is_table(data):
        raise DataError(f"a {type(data).__name__} is no table: expected a CSV file, a DataFrame, or a dict of columns.")
    names = list(data.columns)
    _refuse_twice("the DataFrame", [str(name) for name in names])
    values = {str(name): list(data[name]) for name in names}
    index = getattr(data, "index", None)
    by_name = ""
    if (
        index is not None
        and getattr(index, "dtype", None) is not None
        and str(index.dtype) in ("object", "str", "string")
    ):
        by_name = str(index.name or "index")
        values.setdefault(by_name, list(index))
    classes = {}
    for name in names:
        if (categories := getattr(getattr(data[name], "dtype", None), "categories", None)) is not None:
            classes[str(name)] = tuple(map(text_of, categories))
    return _checked(Columns(values, "the DataFrame", "frame", class_names=classes, index=by_name))


def _from_csv(path: Path) -> Columns:
    try:
        with io.TextIOWrapper(open_file(path), "utf-8-sig", newline="") as file:
            first = file.readline()
            spaced = path.suffix.lower() == ".txt" and not {*first} & {*",;\t"}
            delimiter = " " if spaced else max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a CSV file in UTF-8: {error}. Save it as UTF-8, or pass the DataFrame that"
            " pandas.read_csv(..., encoding=...) reads."
        ) from error
    except NotAFileError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if len(lines) < 2:
        raise DataError(f"{path} has no rows: it needs a header line and one line per image.")
    header, *rows = [[unguarded(cell.strip()) for cell in row] for _, row in lines]
    ragged = [f"line {number}: {counted(len(row), 'cell')}" for number, row in lines if len(row) != len(header)]
    if ragged:
        cells = counted(len(header), "cell")
        raise DataError.listing(f"{path} must have {cells} in every line, as in its header", ragged)
    for name in header:
        _refuse_file(name, path.parent, str(path))
    _refuse_twice(str(path), header)
    values: dict[str, Sequence[Any]] = dict(zip(header, zip(*rows, strict=True), strict=True))
    return _checked(Columns(values, str(path), repr(str(path)), path.parent))


def _from_hugging_face(data: Any) -> Columns:
    classes, positions = dict[str, tuple[str, ...]](), set[str]()
    data = data.with_format(None) if hasattr(data, "with_format") else data
    for name, feature in (data.features or {}).items():
        inside = getattr(feature, "feature", feature)  # of a list of them
        if getattr(inside, "names", None):
            classes[name] = tuple(map(str, inside.names))
            positions.add(name)
        if type(feature).__name__ == "Image":  # the bytes of files instead of decoded images, to save memory
            data = data.cast_column(name, type(feature)(decode=False))
    rows = list(data)
    names = list(data.column_names or data.features or (rows[0] if rows else ()))
    values: dict[str, Sequence[Any]] = {name: [row[name] for row in rows] for name in names}
    return _checked(Columns(values, "the Hugging Face dataset", "dataset", Path(), classes, frozenset(positions)))


def _checked(columns: Columns) -> Columns:
    lengths = {name: len(cells) for name, cells in columns.values.items()}
    if not lengths or not max(lengths.values()):
        raise DataError(f"{columns.where} is empty.")
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in lengths.items())
        raise DataError(f"{columns.where}: all columns must have as many rows; got {told}.")
    for name in columns.values:
        _refuse_file(name, columns.folder, columns.where)
    return columns


def _refuse_twice(where: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise DataError(f"{where} has a column name twice: {', '.join(names)}.")


def _refuse_file(name: str, folder: Path, where: str) -> None:
    """Refuse the name of a column that is the file of an image, as in tables without a header line."""
    if Path(name).suffix.lower() in IMAGE_SUFFIXES or (name and place(folder / name) == "file"):
        raise headless(name, where)


def headless(name: str, where: str) -> DataError:
    """Return the error for a table whose first line is an image."""
    return DataError(
        f"{where} has no header line: its first line names the file {name!r}, which would be lost. Add a header line"
        ' above it, such as "image,label".'
    )
