"""Which images belong together, such as those of one patient, as a user says it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import ConfigError, DataError, counted, some
from ..fields import shown

Group: TypeAlias = "str | Sequence[Any] | Mapping[str, Any] | re.Pattern[str] | Callable[[str], Any]"

NEAR_DUPLICATES = "near-duplicates"
KINDS = (
    "the name of a column, one entry for each image, a mapping of file names to groups, a regular expression with a"
    " group in parentheses, such as '(patient\\d+)', a function of the file name, or 'near-duplicates'"
)


def check_group(group: Any) -> None:
    """Raise `ConfigError` unless `group` is None or of one of `KINDS`."""
    several = isinstance(group, (Mapping, list, tuple)) or getattr(group, "ndim", None) == 1
    named = isinstance(group, str) and group != ""
    if not (group is None or named or several or isinstance(group, re.Pattern) or callable(group)):
        raise ConfigError(f"group must be {KINDS}; got {shown(group)}.")


def groups_of(
    group: Any, names: Sequence[str], metadata: Mapping[str, Sequence[str]], nameless: str = "", unordered: str = ""
) -> tuple[str, ...]:
    """Return the group of each of N images, as text.

    Args:
        group: one of `KINDS`. A function, a mapping or an expression is given the file name, such as `"p3_07.png"`; if
            a function cannot do with that, or makes one group of all, it is given the path.
        names: of the images: paths, or "images[3]".
        metadata: further columns, one cell for each image.
        nameless, unordered: why the images have no names, and no order, that a user could know; empty if they have.

    Raises:
        ConfigError: `group` is something else, or does not fit these data.
        DataError: images have no group; they are named.
    """
    check_group(group)
    if isinstance(group, str):
        found = _from_text(group, names, metadata)
    elif nameless:
        raise ConfigError(f"group must be the name of a column here, since {nameless}; got {shown(group)}.")
    elif isinstance(group, Mapping):
        found = _from_mapping(group, names)
    elif isinstance(group, re.Pattern):
        found = _from_pattern(group, names)
    elif callable(group):
        found = _from_function(group, names)
    elif unordered:
        raise ConfigError(f"group must be a column or a function of the file name here, since {unordered}.")
    else:
        found = list(group)
        if len(found) != len(names):
            raise ConfigError(f"group must have one entry for each image: got {len(found)} for {len(names)} images.")
    wrong = next((each for each in found if not (_is_missing(each) or _is_name(each))), None)
    if wrong is not None:
        raise ConfigError(f"group must give a name or a number for each image; got {shown(wrong)}.")
    texts = tuple(_text(each) for each in found)
    if alone := [name for name, text in zip(names, texts, strict=True) if not text]:
        raise DataError(
            f"images without a group ({len(alone)} of {len(names)}): {some(alone)}. Give each of them one; an image "
            "that belongs to no other may have its own name."
        )
    return texts


def groups_of_twins(digests: Sequence[str], twins: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Name the group of each image after the first of its near-duplicates, which may be itself.

    It is named by content, as images of arrays have the same names in every array.

    >>> groups_of_twins(["5d41", "7d79", "ae2b"], [(0, 2)])
    ('5d41', '7d79', '5d41')
    """
    groups = [each or f"unreadable {row}" for row, each in enumerate(digests)]
    for rows in twins:
        for row in rows:
            groups[row] = groups[rows[0]]
    return tuple(groups)


def together(digests: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """Number what has to stay together: (N,) int64, equal for images of one group, and for groups with a common image.

    >>> together(["a", "b", "c", "a"], ["p", "p", "q", "r"]).tolist()
    [0, 0, 1, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    images = np.unique([each or f"unreadable {row}" for row, each in enumerate(digests)], return_inverse=True)[1]
    owners = np.unique(np.array(groups), return_inverse=True)[1]
    count = int(images.max()) + 1
    links = coo_array((np.ones(len(images)), (images, count + owners)), shape=(count + len(owners),) * 2)
    found = connected_components(links, directed=False)[1][images]
    return np.unique(found, return_inverse=True)[1].reshape(-1).astype(np.int64)


def key_of(group: str) -> str:
    """Return what stands for a group among the digests of images that a classifier knows; the name is not kept."""
    return hashlib.blake2b(f"group {group}".encode(), digest_size=16).hexdigest()


def described(group: Any) -> str | None:
    """Name a `group` argument for JSON: a column or an expression by its text, else its kind."""
    if group is None or isinstance(group, str):
        return group
    if isinstance(group, re.Pattern):
        return group.pattern
    return str(getattr(group, "__qualname__", type(group).__name__))


def _from_text(group: str, names: Sequence[str], metadata: Mapping[str, Sequence[str]]) -> list[Any]:
    """Read a column, or the file names by a regular expression."""
    alike = [column for column in metadata if column.lower() == group.strip().lower()]
    if group in metadata or len(alike) == 1:
        return list(metadata[group if group in metadata else alike[0]])
    try:
        pattern = re.compile(group) if "(" in group else None
    except re.error:
        pattern = None
    if pattern is not None and pattern.groups:
        return _from_pattern(pattern, names)
    columns = f"the columns are {', '.join(metadata)}" if metadata else "these data have no columns besides the labels"
    raise ConfigError(
        f"group={group!r} is not a column: {columns}. Without a column, give group=lambda name: name.split('_')[0], or "
        "another function of the file name, or a regular expression with parentheses, such as group='(patient\\d+)' "
        "(--group '(patient\\d+)')."
    )


def _from_pattern(pattern: re.Pattern[str], names: Sequence[str]) -> list[Any]:
    def read(name: str) -> str | None:
        found = pattern.search(name)
        return found and (next((part for part in found.groups() if part), None) or found[0])

    files = [read(Path(name).name) for name in names]
    return files if any(files) else [read(name) for name in names]


def _from_mapping(group: Mapping[Any, Any], names: Sequence[str]) -> list[Any]:
    """Find each image by its path, by the end of its path, or by its file name without suffix."""
    known = {str(key).replace("\\", "/"): value for key, value in group.items()}

    def find(name: str) -> Any:
        parts = name.replace("\\", "/").split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        return next((known[tail] for tail in (*tails, Path(name).stem) if tail in known), None)

    return [find(name) for name in names]


def _from_function(group: Callable[[str], Any], names: Sequence[str]) -> list[Any]:
    """Call a function with file names, or, if it cannot do with these, with paths."""
    failure: Exception | None = None
    found: list[Any] = []
    for given in ([Path(name).name for name in names], names):
        try:
            found = [group(name) for name in given]
        except Exception as error:
            failure = failure or error
            continue
        if len({_text(each) for each in found}) > 1 or list(given) == list(names):
            return found
    if found:
        return found
    raise ConfigError(
        f"group: the function cannot be used on file names, such as {Path(names[0]).name!r}: it raised "
        f"{type(failure).__name__}: {failure}."
    ) from failure


def _is_missing(value: Any) -> bool:
    return value is None or bool(np.isscalar(value) and value != value) or type(value).__name__ in ("NAType", "NaTType")


def _is_name(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_name, value))
    return isinstance(value, (str, bytes, Number, np.generic, Path)) or type(value).__name__ in ("Timestamp", "date")


def _text(value: Any) -> str:
    if _is_missing(value):
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():  # pandas turns 3 into 3.0
        return str(int(value))
    return str(value).strip()


def told_groups(groups: Iterable[str]) -> str:
    """Say how many groups there are, and how many images they have.

    >>> told_groups(["p1", "p1", "p2"])
    '2 groups of 3 images, none of them on two sides of a split'
    """
    sizes = Counter(groups)
    alone = " (each image is one of its own, so nothing is kept together)" if max(sizes.values()) == 1 else ""
    told = f"{counted(len(sizes), 'group')} of {counted(sum(sizes.values()), 'image')}"
    return f"{told}{alone}, none of them on two sides of a split"
