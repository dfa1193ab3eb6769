"""What stands in the cells of a table: text, several labels in one cell, columns of 0 and 1, pixels."""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, counted, some

MARKS = ("|", ";", ",", " ")  # between labels in a cell
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_POLICIES = {"negative": 0, "positive": 1}  # of `uncertain`; "skip" leaves the image out


def text_of(value: Any) -> str:
    """Return a cell as text, "" if it is empty; accents are written in one way."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return "|".join(map(text_of, value))
    if value is None or str(value) in ("<NA>", "NaT") or (isinstance(value, (float, np.floating)) and value != value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    return unicodedata.normalize("NFC", str(value).strip())


def labels_in(cells: Sequence[Any], column: str, mark: str | None) -> tuple[Any, bool, str]:
    """Return the labels in a column, whether a cell may hold several, and how that was found out.

    Args:
        cells: text, numbers, or lists of them.
        column: its name; a name in the plural lets several labels in a cell be likely.
        mark: what stands between labels in a cell; None finds out, "" is nothing.
    """
    lists = _lists_in(cells)
    if any(found is not None for found in lists):
        rows = [
            tuple(map(text_of, found)) if found is not None else _one(cell)
            for cell, found in zip(cells, lists, strict=True)
        ]
        lengths = {len(row) for row in rows}
        if len(lengths) == 1 and max(lengths) > 1 and {part for row in rows for part in row} <= _BINARY.keys():
            return (
                np.array([[_BINARY[part] for part in row] for row in rows]),
                False,
                "every cell has a 0 or 1 for each class",
            )
        return rows, True, "a cell holds a list of labels"
    texts = [text_of(cell) for cell in cells]
    found_mark = _mark(texts, column) if mark is None else mark or None
    if found_mark is None:
        return texts, False, ""
    rows = [tuple(part.strip() for part in text.split(found_mark) if part.strip()) for text in texts]
    return rows, True, f"a cell may hold several labels, with {found_mark!r} between them"


_BINARY = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1, "false": 0, "true": 1}


def _one(cell: Any) -> tuple[str, ...]:
    return (text,) if (text := text_of(cell)) else ()


def _lists_in(cells: Sequence[Any]) -> list[list[Any] | None]:
    """Return the items of each cell that is a list; a single word in brackets is one only if all cells are lists."""
    lists = [_list_in(cell) for cell in cells]
    if all(found is not None or not text_of(cell) for found, cell in zip(lists, cells, strict=True)):
        return lists
    words = [isinstance(cell, str) and not {*cell} & {*",'\""} for cell in cells]
    return [None if word else found for word, found in zip(words, lists, strict=True)]


def _list_in(cell: Any) -> list[Any] | None:
    """Return the items of a cell that is a list, or a text that is written like one: "['a', 'b']"."""
    if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
        return sorted(cell, key=str) if isinstance(cell, (set, frozenset)) else list(np.ravel(np.asarray(cell, object)))
    if not isinstance(cell, str) or cell.strip()[:1] + cell.strip()[-1:] not in ("[]", "()", "{}"):
        return None
    inside = cell.strip()[1:-1]
    if "," not in inside:  # as NumPy writes arrays: ['a' 'b'], [0. 1.]
        quoted = [one or other for one, other in _QUOTED.findall(inside)]
        return quoted or inside.split()
    for read in (ast.literal_eval, json.loads):
        try:
            found = read(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return list(found) if isinstance(found, (list, tuple, set)) else None
    return [part.strip().strip("'\"") for part in inside.split(",")]


def _mark(texts: Sequence[str], column: str) -> str | None:
    """Return what stands between the labels in cells, or None if each cell is one label.

    "|" always does. Others do if the parts are labels of their own: each of them also stands alone in a cell, or, in a
    column with a name in the plural such as tags, they are combined again and again: there are fewer parts than cells
    that differ, or each is in several of these. Spaces are in names too, such as "red car" and "blue car", so with them
    one combination has to have a part more than another one, or a part at another place.
    """
    different = {text for text in texts if text}
    if any("|" in text for text in different):
        return "|"
    plural = column.lower().endswith("s") and not column.lower().endswith(("class", "ss", "is"))
    for mark in MARKS[1:]:
        orders = [tuple(part.strip() for part in text.split(mark) if part.strip()) for text in different]
        cells = [frozenset(order) for order in orders]
        several = [cell for cell in cells if len(cell) > 1]
        parts, inside, known = frozenset().union(*cells), frozenset().union(*several), {*cells}
        again = all(sum(part in cell for cell in cells) > 1 for part in parts)
        grows = any(cell - {part} in known for cell in several if len(cell) > 2 for part in cell)
        moves = len({(part, place) for order in orders for place, part in enumerate(order)}) > len(parts)
        combined = plural and (len(parts) < len(different) or again) and (mark != " " or grows or moves)
        if several and (inside <= different or combined):
            return mark
    return None


def binary(cells: Sequence[Any]) -> bool:
    """Whether a column holds only 0 and 1, in any spelling."""
    return {text_of(cell) for cell in cells} <= _BINARY.keys()


def signs(cells: Sequence[Any]) -> bool:
    """Whether a column holds only -1 and 1, as CelebA writes that something is absent or present."""
    return {text_of(cell) for cell in cells} <= {"-1", "1", "-1.0", "1.0"}


def columns_of_classes(
    columns: Mapping[str, Sequence[Any]], names: Sequence[str], uncertain: str | None, where: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a column of 0 and 1 for each class; -1 and empty cells as CheXpert (arXiv:1901.07031) has them.

    Args:
        uncertain: what -1 means: "negative", "positive", or "skip", to leave the image out. None refuses them.

    Returns:
        (N, C) uint8 of 0 and 1, (N,) bool of rows to keep, and notes.

    Raises:
        DataError: other values.
    """
    texts = [[text_of(cell) for cell in columns[name]] for name in names]
    known = {**_BINARY, "-1": -1, "-1.0": -1, "": None}
    if wrong := [
        f"{name}: {some(sorted(bad), 3)}"
        for name, column in zip(names, texts, strict=True)
        if (bad := {*column} - known.keys())
    ]:
        raise DataError.listing(
            f"{where}: columns of classes must hold 0 and 1 (or True and False); got other values", wrong
        )
    if uncertain is None and all(map(signs, texts)):
        return np.array([[known[cell] == 1 for cell in column] for column in texts], np.uint8).T, *_all_of(texts[0])
    read = np.array([[known[cell] if known[cell] is not None else 2 for cell in column] for column in texts]).T
    doubtful, blank = read == -1, read == 2
    if uncertain is None and (doubtful.any() or blank.any()):
        counts = f"{counted(int(doubtful.sum()), 'cell')} of -1 and {counted(int(blank.sum()), 'empty cell')}"
        raise DataError(
            f"{where}: the columns of classes hold {counts}, which are neither 0 nor 1. Say what is meant:"
            " vggft.Table(..., uncertain='negative') or 'positive' takes -1 for 0 or 1, 'skip' leaves these images out;"
            " empty cells are then 0."
        )
    notes, keep = [], np.ones(len(read), bool)
    if doubtful.any():
        keep = keep if uncertain in _POLICIES else ~doubtful.any(axis=1)
        told = (
            f"taken to be {_POLICIES[uncertain]}"
            if uncertain in _POLICIES
            else f"left out with {counted(int((~keep).sum()), 'image')}"
        )
        notes.append(f"uncertain labels (-1, in {counted(int(doubtful.sum()), 'cell')}) were {told}")
    if blank.any():
        notes.append(f"empty cells of classes ({int(blank.sum())}) were taken to be 0")
    read[doubtful], read[blank] = _POLICIES.get(uncertain or "", 0), 0
    return read.astype(np.uint8), keep, notes


def _all_of(cells: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    return np.ones(len(cells), bool), ["-1 in the columns of classes is taken to mean that a class is absent"]


def pixels_in(cells: Sequence[Any]) -> list[np.ndarray] | None:
    """Read cells of numbers with spaces between them, as FER2013 has them, as square grey images; None for others."""
    numbers = re.compile(r"\s*\d+(\s+\d+){255,}\s*")
    if not cells or not all(isinstance(cell, str) and numbers.fullmatch(cell) for cell in cells):
        return None
    images = [_square(np.array(cell.split(), np.int64)) for cell in cells]
    return None if any(image is None for image in images) else images  # type: ignore[return-value]


def pixels_across(columns: Mapping[str, Sequence[Any]]) -> tuple[list[str], np.ndarray | None]:
    """Read the columns pixel0, pixel1, ..., as tables of MNIST have them, as square grey images; also their names."""
    names = [name for name in columns if re.fullmatch(r"(pixel|px)[ _]?\d+|\d+x\d+", name.lower())]
    if len(names) < 256:
        return [], None
    try:
        flat = np.array([columns[name] for name in names]).T.astype(float)
    except ValueError:
        return [], None
    images = [_square(row) for row in flat]
    if any(image is None for image in images):
        return [], None
    return names, np.stack(images).astype(np.int64) if (flat == np.floor(flat)).all() else np.stack(images)  # type: ignore[arg-type]


def _square(numbers: np.ndarray) -> np.ndarray | None:
    """Return (S, S) or (S, S, 3) pixels."""
    side = math.isqrt(len(numbers))
    if side * side == len(numbers):
        return numbers.reshape(side, side)
    side = math.isqrt(len(numbers) // 3)
    return numbers.reshape(side, side, 3) if 3 * side * side == len(numbers) else None
