"""Turn labels into class indices and class names, for all splits of a dataset together."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError, counted, some
from .integers import are_names, is_numeral, mean_names
from .listing import SPLITS, Listing, as_numbers, labels_by_name

# A text cell that is a class index. "007" is a name instead, and so is what has more digits than a float, such as the
# number of an article; pandas turns 3 into "3.0" in a column with gaps.
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?")


@dataclass(eq=False)
class Labels:
    """Labels of N images.

    Attributes:
        values: (N,) int64, or (N, num_classes) uint8 of 0 and 1; 0 for labels that cannot be used.
        class_names: class names in the order of the class indices.
        good: (N,) bool, False for labels that cannot be used.
        notes: what was inferred, as sentences.
        problems: what is wrong, as sentences.
    """

    values: np.ndarray
    class_names: tuple[str, ...]
    good: np.ndarray
    notes: list[str]
    problems: list[str]


def encode(
    table: Listing,
    num_classes: int | None = None,
    class_names: tuple[str, ...] | None = None,
    multi_label: bool | None = None,
    first: tuple[str, ...] = (),
) -> Labels:
    """Find, check and number the classes.

    Args:
        table: as loaded; its train split determines the classes.
        num_classes: the expected number of classes.
        class_names: the classes and their order if a trained classifier fixes them; some may then have no images.
        multi_label: whether images may have several classes; None infers it from the labels.
        first: the classes that an earlier classifier has, which come first and in its order; others come after them in
            the order that they have among all classes.

    Raises:
        DataError: the labels have an impossible shape, or it cannot be told which classes they mean.
    """
    splits = np.array(table.splits)
    deciding = splits == "train" if "train" in splits else np.ones(len(splits), bool)
    given = _as_given(table, class_names)
    if first and table.class_names is None and isinstance(given, np.ndarray) and _within(given, len(first)):
        table.class_names = first
    if isinstance(given, list):
        labels = _encode_names(table, given, class_names, deciding, bool(multi_label) or table.multi_label)
    elif given.ndim == 1:
        labels = _encode_numbers(table, given, num_classes, class_names, deciding, bool(multi_label))
    elif given.ndim == 2:
        labels = _encode_columns(table, given, class_names, bool(multi_label))
    else:
        raise DataError(f"Labels must have shape (N,) or (N, num_classes); got {given.shape}.")
    if multi_label and labels.values.ndim == 1:
        labels.values = np.eye(len(labels.class_names), dtype=np.uint8)[labels.values]
    if first:
        _put_first(labels, first)
    names = labels.class_names
    if class_names is None:
        labels.problems += _without_images(table, labels, deciding, first)
    if multi_label is False and labels.values.ndim == 2:
        labels.problems.append(f"images in {table.where} have several labels, but exactly one is expected.")
    if num_classes is not None and num_classes != len(names):
        count = counted(len(names), "class")
        labels.problems.append(f"num_classes={num_classes}, but {table.where} has {count}: {some(names)}.")
    elif len(names) < 2:
        what = f"only one class, {names[0]!r}, but at least two are needed" if names else "no label"
        labels.problems.append(f"{table.where} has {what}.")
    present = [name for name in SPLITS if name in splits]
    if present and "train" not in present and class_names is None:
        labels.problems.append(f"{table.where} has no train split, only {' and '.join(present)}.")
    return labels


def name_classes(table: Listing, names: Sequence[str]) -> None:
    """Give the classes of a listing the names and the order that the user says.

    Args:
        names: what integer labels, or columns, stand for; a dataset that has names must have these.

    Raises:
        DataError: the dataset has other names.
    """
    names, own = tuple(names), table.class_names
    if own is not None and table.positions and own != names:
        if {*own} != {*names}:
            raise DataError(f"class_names are {some(names)}, but those of {table.where} are {some(own)}.")
        table.labels, table.positions = labels_by_name(table), None
    elif own is not None and own != names and (array := as_numbers(table.labels)) is not None and array.ndim == 2:
        if {*own} != {*names}:
            raise DataError(f"class_names are {some(names)}, but those of {table.where} are {some(own)}.")
        table.labels = array[:, [own.index(name) for name in names]]
    table.class_names, table.said = names, True


def _as_given(table: Listing, class_names: tuple[str, ...] | None) -> np.ndarray | list[tuple[str, ...]]:
    """Return numeric labels as an array (N,) or (N, C), and names as one tuple per image."""
    try:
        array = np.asarray(table.labels)
    except ValueError:  # lists of different lengths
        array = np.empty(0, object)
    if array.dtype.kind in "biuf":
        return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in table.labels]
    if all(isinstance(row, (tuple, list)) for row in rows):
        return [tuple(map(_text, row)) for row in rows]
    texts = [_text(row) for row in rows]
    known = {*(table.class_names or class_names or ())}
    if known and all(map(is_numeral, known)):
        texts = [text.removesuffix(".0") for text in texts]
    are_names = bool(known) and ({*texts} - {""} <= known or all(map(is_numeral, known)))
    if not are_names and any(texts) and all(_NUMBER.fullmatch(text) for text in texts if text):
        return np.array([float(text or "nan") for text in texts])
    return [(text,) for text in texts]


def _within(given: np.ndarray, count: int) -> bool:
    """Whether labels can be positions among so many classes, or columns of them."""
    if given.ndim != 1:
        return given.ndim == 2 and given.shape[1] == count
    return bool(((given >= 0) & (given < count)).all())


def _text(label: Any) -> str:
    if label is None or label != label:  # NaN is not itself
        return ""
    return unicodedata.normalize("NFC", label.decode() if isinstance(label, bytes) else str(label))


def _encode_names(
    table: Listing, given: list[tuple[str, ...]], fixed: tuple[str, ...] | None, deciding: np.ndarray, several: bool
) -> Labels:
    several = several or any(len(row) != 1 for row in given)
    if several:
        given = [tuple(name for name in row if name) for row in given]
    seen = Counter(name for row, decides in zip(given, deciding, strict=True) if decides for name in row if name)
    names = fixed or table.class_names or tuple(sorted(seen))
    index = {name: i for i, name in enumerate(names)}
    good = np.array([all(name in index for name in row) for row in given])
    problems = []
    if unlabelled := [name for name, row in zip(table.names, given, strict=True) if row == ("",)]:
        problems.append(f"images without a label ({len(unlabelled)}): {some(unlabelled)}.")
    if unknown := Counter(name for row in given for name in row if name and name not in index):
        which = "that class_names does not have" if table.said else "that the train split does not have"
        which = "that the classifier does not know" if fixed else which
        counts = some(f"{name!r} ({count})" for name, count in sorted(unknown.items()))
        problems.append(f"{table.where} has classes {which}: {counts}. Known are {some(names)}.")
    if several:
        values = np.zeros((len(given), len(names)), np.uint8)
        for i, row in enumerate(given):
            values[i, [index[name] for name in row if name in index]] = 1
    else:
        values = np.array([index.get(row[0], 0) for row in given], np.int64)
    return Labels(values, names, good, [], problems)


def _encode_numbers(
    table: Listing,
    given: np.ndarray,
    num_classes: int | None,
    fixed: tuple[str, ...] | None,
    deciding: np.ndarray,
    several: bool,
) -> Labels:
    """Encode numbers that are positions among the class names, or names themselves, such as 0, 90, 180, 270."""
    whole = np.isfinite(given) & (given == np.floor(given.astype(float)))
    values = np.unique(given[whole]).astype(np.int64).tolist()
    own = table.class_names or fixed
    if own is None and not are_names(given[whole].astype(np.int64), num_classes):
        return _encode_positions(table, given, num_classes, fixed)
    if own is not None and not mean_names(values, own, table):
        return _encode_positions(table, given, num_classes, fixed)
    spelled = {int(name): name for name in own or () if is_numeral(name)}
    texts = [spelled.get(int(value), str(int(value))) if good else "" for value, good in zip(given, whole, strict=True)]
    if own is not None:
        return _encode_names(table, [(text,) for text in texts], fixed, deciding, several)
    names = tuple(map(str, values))
    note = f"the integer labels do not count from 0, so they are taken to be names: {some(names)}"
    labels = np.searchsorted(values, np.where(whole, given, values[0]).astype(np.int64))
    return Labels(labels, names, whole, [note], _bad_labels(table, given, whole, "integers"))


def _encode_positions(
    table: Listing, given: np.ndarray, num_classes: int | None, fixed: tuple[str, ...] | None
) -> Labels:
    own = table.class_names or fixed  # the numbers are positions in the dataset's own class names, if it has them
    bound = len(own) if own else num_classes
    # Without a known bound: every class needs an image, so there are at most as many classes as images.
    good = np.isfinite(given) & (given == np.floor(given.astype(float)))
    good &= (given >= 0) & (given < (bound or len(given)))
    problems = _bad_labels(table, given, good, f"integers in 0..{bound - 1 if bound else 'num_classes-1'}")
    values = np.where(good, given, 0).astype(np.int64)
    names = own or tuple(map(str, range(num_classes or int(values.max()) + 1)))
    if fixed:
        return Labels(_reordered(table, names, fixed)[values], fixed, good, [], problems)
    return Labels(values, names, good, [], problems)


def _encode_columns(table: Listing, given: np.ndarray, fixed: tuple[str, ...] | None, several: bool) -> Labels:
    names = table.class_names or fixed or tuple(map(str, range(given.shape[1])))
    if len(names) != given.shape[1]:
        raise DataError(f"labels have {given.shape[1]} columns, but there are {len(names)} classes: {some(names)}.")
    good = ((given == 0) | (given == 1)).all(axis=1)
    problems = _bad_labels(table, given, good, "0 or 1 in every column")
    values = np.where(good[:, None], given, 0).astype(np.uint8)
    if fixed:
        ordered = np.zeros((len(values), len(fixed)), np.uint8)
        ordered[:, _reordered(table, names, fixed)] = values
        values, names = ordered, fixed
    if not several and (values[good].sum(axis=1) == 1).all():
        note = "the labels are one-hot: every image has exactly one class"
        return Labels(values.argmax(axis=1), names, good, [note], problems)
    return Labels(values, names, good, [], problems)


def _put_first(labels: Labels, first: tuple[str, ...]) -> None:
    """Give the classes of an earlier classifier the first indices, in its order."""
    names = (*first, *(name for name in labels.class_names if name not in first))
    index = np.array([names.index(name) for name in labels.class_names], np.int64)
    if labels.values.ndim == 2:
        values = np.zeros((len(labels.values), len(names)), np.uint8)
        values[:, index] = labels.values
        labels.values = values
    elif len(index):
        labels.values = index[labels.values]
    labels.class_names = names


def _reordered(table: Listing, names: tuple[str, ...], fixed: tuple[str, ...]) -> np.ndarray:
    """Return the index of each name among the fixed ones."""
    if unknown := [name for name in names if name not in fixed]:
        raise DataError(
            f"{table.where} has classes that the classifier does not know: {some(unknown)}. Known are {some(fixed)}."
        )
    return np.array([fixed.index(name) for name in names], np.int64)


def _bad_labels(table: Listing, given: np.ndarray, good: np.ndarray, expected: str) -> list[str]:
    bad = [f"label {given[i]} at {table.names[i]}" for i in np.flatnonzero(~good)]
    if table.by_content:
        counts = Counter(f"label {label}" for label in given[~good])
        bad = [f"{label} ({counted(count, 'image')})" for label, count in counts.items()]
    return [f"labels must be {expected}; got {some(bad)}."] if bad else []


def _without_images(table: Listing, labels: Labels, deciding: np.ndarray, first: tuple[str, ...]) -> list[str]:
    names, values = labels.class_names, labels.values[labels.good & deciding]
    counts = values.sum(axis=0) if values.ndim == 2 else np.bincount(values, minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    if not empty:
        return []
    if gone := [name for name in empty if name in first]:
        return [
            f"{table.where} has no images to train on of classes that the classifier in start knows: {some(gone)}. "
            "Pass all images that there are now, old and new: features of known images are not computed again. "
            "To remove or rename classes, train without start."
        ]
    hint, them = " Integer labels count from 0." if empty == ["0"] else "", "it" if len(empty) == 1 else "them"
    if len(names) - len(empty) == 1:
        hint = " All images have the same label; this usually means that the labels were not read as intended."
    elif table.said:
        hint += f" Leave {them} out of class_names (--class-names), or add images of {them}."
    elif not hint and not table.remedy:
        hint = f" Add images of {them}, or leave {them} out of the classes."
    return [f"no images are of class {some(empty)}.{hint}{table.remedy}"]
