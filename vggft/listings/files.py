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
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import some
from ..pictures.formats import IMAGE_SUFFIXES
from .folders import walk_files
from .listing import place

MOST = 500_000  # files below a folder that are looked through
AROUND = 50_000  # files around it, for the sake of a message


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
    found, doubtful = _Files(folder, MOST).find([cells[row] for row in missing])
    taken = set(paths) & set(found.values())
    found = {cell: path for cell, path in found.items() if path not in taken}
    for row in missing:
        paths[row] = found.get(cells[row], paths[row])
    notes, remedy = [], ""
    if here := [row for row in missing if cells[row] in found]:
        first = here[0]
        told = f"{len(here)} files were found under another path than the table says, such as {paths[first]}"
        notes.append(f"{told} for {cells[first]!r}")
    if any(cells[row].lower().startswith(("http://", "https://")) for row in missing):
        remedy = " Addresses on the web are not files: download them first."
    elif doubtful:
        remedy = f" Several files would do for {some(doubtful, limit=5)}: say which folder is meant, folder=..."
    elif left := [cells[row] for row in missing if cells[row] not in found]:
        remedy = _around(left[:50], folder)
    return Located(paths, notes, remedy)


def _around(cells: Sequence[str], folder: Path) -> str:
    """Return a sentence about files beside the folder that cells may mean."""
    beside = folder.resolve().parent
    if beside in (folder.resolve(), Path(os.path.expanduser("~")), Path(beside.anchor)):  # noqa: PTH111
        return ""
    found, _ = _Files(beside, AROUND).find(cells)
    bases = Counter(str(path)[: -len(end)].rstrip(os.sep) for cell, path in found.items() if (end := _end(cell, path)))
    if not bases:
        return ""
    place = bases.most_common(1)[0][0]
    return f" Files of these names are in {place!r}: pass it as folder, as in vggft.Table(..., folder={place!r})."


def _end(cell: str, path: Path) -> str:
    """Return the end of a path that a cell stands for."""
    return str(Path(*path.parts[-min(len(_parts(cell)), len(path.parts)) :]))


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

    def _fitting(self, cell: str) -> Iterator[tuple[tuple[int, bool], Path]]:
        """Yield the files that a cell could mean, each with how well it fits."""
        parts = _parts(cell)
        for path in self.by_name.get(parts[-1], ()) if parts else ():
            theirs = _parts("/".join(path.parts[self.depth :]))
            theirs = (*theirs[:-1], parts[-1])  # the name fits, with or without its suffix
            common = min(len(parts), len(theirs))
            if parts[-common:] == theirs[-common:]:
                yield (common, path.name.startswith(parts[-1]) or path.name in cell), path
