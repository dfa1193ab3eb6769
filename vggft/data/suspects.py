"""What looks as if several images were of one patient or one video, and as if two classes were one."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import counted, some

REMEDY = "keep such images on one side of every split by group="
# Words of columns that name whose picture it is, and of columns that measure something.
OWNERS = {"patient", "subject", "person", "participant", "case", "study", "series", "scan", "animal", "specimen",
          "slide", "sample", "lesion", "video", "clip", "movie", "sequence", "scene", "session", "object", "individual",
          "donor", "user", "identity", "pid", "group"}  # fmt: skip
MEASURES = {"age", "year", "month", "day", "date", "time", "width", "height", "size", "weight", "score", "count", "x",
            "y", "lat", "lon", "latitude", "longitude", "fold", "frame", "slice", "index", "quality"}  # fmt: skip
_NUMBERED = re.compile(r"(?P<owner>.*?\d[^\W_]*?)[\W_]+[^\W\d_]*[\W_]*\d+")  # patient3_07, video12_frame0031


def suspects(
    names: Sequence[str], metadata: Mapping[str, Sequence[str]], splits: Sequence[str], labels: Sequence[Any]
) -> list[str]:
    """Say which columns, and which beginnings of file names, look as if images of one patient or video were apart.

    Args:
        names: of N images.
        metadata: further columns, one cell for each image.
        splits: of each image; all alike if they are still to be split.
        labels: of each image, in any form that can be compared.
    """
    told = []
    for column, cells in metadata.items():
        if cells and _identifies(column, cells) and (where := _apart(cells, splits)):
            values = f"{len(set(cells))} values in {len(cells)} rows"
            remedy = f"{REMEDY}{column!r} (--group {shlex.quote(column)})"
            told.append(f"the column {column!r} looks like an identifier ({values}), and {where}: {remedy}")
    owners = _owners(names, labels)
    if owners and (where := _apart(owners, splits)):
        example = Counter(owners).most_common(1)[0][0]
        shown = [Path(name).name for name, owner in zip(names, owners, strict=True) if owner == example]
        pattern = re.sub(r"\d+", r"\\d+", re.escape(example)).replace(r"\ ", " ")
        fits = all((found := re.search(pattern, Path(name).name)) and found[0] == owner for name, owner in
                   zip(names, owners, strict=True))  # fmt: skip
        remedy = f"'({pattern})' (--group {shlex.quote(f'({pattern})')})" if fits else "a function of the file name"
        told.append(
            f"file names look like several pictures of one patient, video or object ({len(set(owners))} beginnings such"
            f" as {example!r}: {some(shown, limit=2)}), and {where}: {REMEDY}{remedy}"
        )
    return told


def alike_classes(class_names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Say which classes have names that differ only in case, in spaces, or in how Unicode writes them.

    Args:
        class_names: of C classes.
        counts: the number of images of each.

    >>> alike_classes(["Ants", "ants", "bees"], [1, 20, 30])[0].partition(": ")[0]
    "'Ants' (1 image) and 'ants' (20 images) may be one class"
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name, count in zip(class_names, counts, strict=True):
        key = re.sub(r"[\s_]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
        found[key].append(f"{name!r} ({counted(count, 'image')})")
    groups = [" and ".join(names) for names in found.values() if len(names) > 1]
    if not groups:
        return []
    first, *others = groups
    also = f", and so may {some(others, limit=4)}" if others else ""
    return [
        f"{first} may be one class{also}: their names differ only in case, spaces or the like. If they are, write them"
        " alike in the table, or put the images into one folder"
    ]


def _identifies(column: str, cells: Sequence[str]) -> bool:
    """Whether a column looks like an identifier: many distinct values, most of them in several rows."""
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower()))
    counts = Counter(cell for cell in cells if cell)
    several = sum(count for count in counts.values() if count > 1)
    if len(counts) < 2 or not several or words & MEASURES:
        return False
    owner = bool(words & OWNERS) or "id" in words or any(word.endswith("id") and word[:-2] in OWNERS for word in words)
    many = len(counts) >= max(5, 0.02 * len(cells)) and 2 * several >= len(cells)
    return many or (owner and len(counts) > 2)


def _owners(names: Sequence[str], labels: Sequence[Any]) -> list[str]:
    """Return the beginning of each file name before its last number, if these look like patients or videos."""
    found = [_NUMBERED.fullmatch(Path(name).stem) for name in names]
    owners = [match["owner"] if match else Path(name).stem for match, name in zip(found, names, strict=True)]
    counts = Counter(owners)
    several = sum(count for count in counts.values() if count > 1)
    as_classes = len(set(labels)) >= len(counts)  # one beginning for each class, such as n02085620_7
    return owners if sum(map(bool, found)) >= 0.9 * len(names) and 2 * several >= len(names) and not as_classes else []


def _apart(owners: Sequence[str], splits: Sequence[str]) -> str:
    """Say how many of the owners are in more than one split, or would be; nothing if none is."""
    seen: dict[str, set[str]] = {}
    for owner, split in zip(owners, splits, strict=True):
        if owner:
            seen.setdefault(owner, set()).add(split)
    if len(set(splits)) < 2:
        return "a random split would put images of one into training and test"
    count = sum(len(each) > 1 for each in seen.values())
    return f"{count} of them {'is' if count == 1 else 'are'} in more than one split" if count else ""
