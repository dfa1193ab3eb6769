"""Find the files that a table means: ids without suffix, other folders, backslashes, accents in two forms.

A cell means a file if its path is the end of the file's path, or the file's path below the folder is the end of the
cell: `x/7.png` is never taken to be `y/7.png`. Nothing is guessed where several files would do, or where two cells
would mean one file.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

from ..errors import DataError, counted, some
from ..pictures.formats import IMAGE_SUFFIXES
from .folders import walk_files
from .listing import place

MOST = 500_000  # files below a folder that are looked through
AROUND = 50_000  # files around it, for the sake of a message
ALIKE = 1000  # of one name, likewise


@dataclass(frozen=True)
class Located:
    """The files that cells mean.

    Args:
        paths: one for each cell; where there is no file, the one that was expected.
        notes: how files were found, as sentences.
        remedy: where the missing files may be, as a sentence, or "".
    """

    paths: list[Path]
    notes: list[str]
    remedy: str = ""


def locate(cells: Sequence[str], folder: Path) -> Located:
    """Return the file that each cell means, below a folder."""
    paths = [folder / cell for cell in cells]
    missing = [row for row, path in enumerate(paths) if cells[row] and place(path) != "file"]
    if not missing:
        return Located(paths, [])
    below = _Files(folder, MOST)
    found, doubtful = below.find([cells[row] for row in missing])
    taken = set(paths) & set(found.values())
    found = {cell: path for cell, path in found.items() if path not in taken}
    for row in missing:
        paths[row] = found.get(cells[row], paths[row])
    notes, remedy = [], ""
    if here := [row for row in missing if cells[row] in found]:
        first = here[0]
        files = f"{counted(len(here), 'file')} {'was' if len(here) == 1 else 'were'}"
        told = f"{files} found under another path than the table says, such as {paths[first]}"
        notes.append(f"{told} for {cells[first]!r}")
    if any(cells[row].lower().startswith(("http://", "https://")) for row in missing):
        remedy = " Addresses on the web are not files: download them first."
    elif doubtful:
        remedy = (
            f" Several files would do for {some(doubtful, limit=5)}: write their folders into the table, or say which"
            " folder is meant, vggft.Table(..., folder=...)."
        )
    elif left := [cells[row] for row in missing if cells[row] not in found]:
        with suppress(DataError):  # of a folder that cannot be read, and need not hold any of the images
            remedy = _around(left[:50], folder, below)
    return Located(paths, notes, remedy)


def _around(cells: Sequence[str], folder: Path, below: _Files) -> str:
    """Return a sentence about files that cells may mean, beside the folder, or called alike below it or from here."""
    beside, found = folder.resolve().parent, dict[str, Path]()
    if beside not in (folder.resolve(), Path(os.path.expanduser("~")), Path(beside.anchor)):  # noqa: PTH111
        found, _ = _Files(beside, AROUND).find(cells)
    found = found or below.alike(cells)
    parts = [part for part in cells[0].replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not found and len(parts) > 1:  # a path from the current folder, while the table is elsewhere
        found = _Files(Path(parts[0]), AROUND).alike(cells)
    bases = {cell: Path(*path.parts[: -_common(cell, path)]) for cell, path in found.items()}
    if not bases:
        return ""
    base = Counter(bases.values()).most_common(1)[0][0]
    cell = next(cell for cell in bases if bases[cell] == base)
    return (
        f" {cell!r} was found as {found[cell]}: say so by vggft.Table(..., folder={str(base)!r}). On the command line,"
        " move the table into that folder, or correct its column of images."
    )


def _common(cell: str, path: Path) -> int:
    """Return how many parts at the end of a path are those of a cell; the name, with or without its suffix, is one."""
    pairs = zip(_parts(cell)[-2::-1], _parts(str(path))[-2::-1], strict=False)
    return 1 + len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _parts(text: str) -> tuple[str, ...]:
    """Return the parts of a path as they are compared."""
    plain = unicodedata.normalize("NFC", text).replace("\\", "/").casefold()
    return tuple(part for part in plain.split("/") if part not in ("", ".", "..") and not part.endswith(":"))


class _Files:
    """The files below a folder, by name and by name without suffix; none if there are too many to look through."""

    def __init__(self, folder: Path, most: int):
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        self.folder, depth = folder, len(folder.parts)
        paths = list(islice(walk_files(folder), most + 1)) if place(folder) == "folder" else []
        for path in paths if len(paths) <= most else ():
            name = _parts(path.name)[-1:]
            stem, suffix = os.path.splitext("".join(name))  # noqa: PTH122
            for key in {"".join(name), stem} if suffix in IMAGE_SUFFIXES else set(name):
                self.by_name[key].append(path)
        self.depth = depth

    def find(self, cells: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
        """Return cell -> file for those that mean exactly one, and the cells that could mean several."""
        found, doubtful = dict[str, Path](), list[str]()
        for cell in dict.fromkeys(cells):
            fitting = list(self._fitting(cell))
            highest = max((score for score, _ in fitting), default=None)
            if best := [path for score, path in fitting if score == highest]:
                if len(best) == 1:
                    found[cell] = best[0]
                else:
                    doubtful.append(f"{cell!r} ({some(best, limit=3)})")
        meant = Counter(found.values())
        return {cell: path for cell, path in found.items() if meant[path] == 1}, doubtful

    def alike(self, cells: Sequence[str]) -> dict[str, Path]:
        """Return cell -> the file of this name, wherever it is, whose folders are most alike, where there is one."""
        found = dict[str, Path]()
        for cell in cells:
            named = self.by_name.get("".join(_parts(cell)[-1:]), [])[:ALIKE]
            most = max((_common(cell, path) for path in named), default=0)
            if len(best := [path for path in named if _common(cell, path) == most]) == 1:
                found[cell] = best[0]
        return found

    def _fitting(self, cell: str) -> Iterator[tuple[tuple[int, bool], Path]]:
        """Yield the files that a cell could mean, each with how well it fits."""
        parts = _parts(cell)
        for path in self.by_name.get(parts[-1], ()) if parts else ():
            theirs = _parts("/".join(path.parts[self.depth :]))
            theirs = (*theirs[:-1], parts[-1])  # the name fits, with or without its suffix
            common = min(len(parts), len(theirs))
            if parts[-common:] == theirs[-common:]:
                yield (common, path.name.startswith(parts[-1]) or path.name in cell), path
