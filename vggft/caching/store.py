"""Rows on disk, found by the digest of what they were computed from; append-only, and filled by many processes at once.

The rows of one `Kind` lie in a directory, in immutable shards of two files: `<shard>.rows.npy`, and `<shard>.keys.npy`
with the digest and the checksum of each row. The keys are renamed into place last, so a shard exists whole or not at
all, and no process ever waits for another to write. A row is compared with its checksum when it is first read. Why
shards, and what they cost: docs/decisions/0001-feature-store.md.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files.writing import UNFINISHED, remove_own, whole_file, write_whole
from .claims import Claims
from .kinds import FORMAT, Kind

SHARD_ROWS = 256  # what a killed process loses at most
SMALL, LARGE = 16 * 2**20, 32 * 2**20  # bytes of shards that are merged, and of what they are merged into
MOST_OPEN = 100  # files of a store that are open at once; some systems allow a process 256

_SHARD = re.compile(r"([0-9a-f]{32})\.(keys|rows)\.npy")  # names of the files of shards
_OURS = re.compile(rf"{_SHARD.pattern}|about\.json|{UNFINISHED.pattern}|\.\d+-({_SHARD.pattern}|about\.json)")
KEYS = np.dtype([("digest", "S16"), ("checksum", "<u4")])
NOT_THE_FILE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}  # say nothing about a file


@dataclass
class Shard:
    """What is known of a shard.

    Args:
        name: the files' names without their ends.
        checksums: (rows,) of its rows.
        checked: (rows,) bool, whether a row was read and had its checksum.
        values_at: where the values begin in the file: they are its last bytes. Known once it was opened.
    """

    name: str
    checksums: np.ndarray
    checked: np.ndarray
    values_at: int = -1


class _Open(io.FileIO):
    """An open file, closed when nobody refers to it any more: another thread may be reading it until then."""

    def __del__(self) -> None:
        self.close()


class Store:
    """The rows of one kind.

    Args:
        root: the directory of all kinds.
        kind: what the rows are.
    """

    def __init__(self, root: Path, kind: Kind):
        self.kind, self.path = kind, root / kind.name / kind.key
        self.dtype = np.dtype(kind.dtype).newbyteorder("<")
        self.shards: list[Shard] = []  # all that were ever seen: the number of a shard stays the same
        self.keys = np.empty(0, "S16")  # digests of the rows that are there, sorted
        self.place = np.empty((0, 2), np.int32)  # shard and row of each of them
        self._names: set[str] = set()
        self._open: OrderedDict[int, _Open] = OrderedDict()

    # Finding rows -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the keys of the shards that have come since, and forget those that are gone."""
        names = set(self.shard_names())
        if names == self._names:
            return
        kept = ~np.isin(self.place[:, 0], [n for n, shard in enumerate(self.shards) if shard.name not in names])
        keys, place = [self.keys[kept]], [self.place[kept]]
        for name in sorted(names - self._names):
            if (found := self._read_keys(name)) is not None:
                keys.append(found["digest"])
                place.append(np.array([np.full(len(found), len(self.shards)), np.arange(len(found))], np.int32).T)
                self.shards.append(Shard(name, found["checksum"].copy(), np.zeros(len(found), bool)))
        together = np.concatenate(keys)
        order = np.argsort(together, kind="stable")  # fast where most of them are sorted already
        self.keys, self.place, self._names = together[order], np.concatenate(place)[order], names

    def shard_names(self) -> list[str]:
        """Return the names of the shards that exist now."""
        names: list[str] = []
        with suppress(FileNotFoundError), os.scandir(self.path) as files:
            names = [file.name for file in files]
        return sorted(found[1] for name in names if (found := _SHARD.fullmatch(name)) and found[2] == "keys")

    def verify(self) -> np.ndarray:
        """Read all rows; return (n,) bool, whether each of them is intact."""
        for shard in self.shards:
            shard.checked[:] = False
        order = np.argsort(self.place[:, 0], kind="stable")
        good = np.zeros(len(order), bool)
        for rows in np.array_split(order, -(-len(order) // SHARD_ROWS) or 1):
            good[rows] = self.read(self.keys[rows], self.place[rows])[1]
        return good

    def _read_keys(self, name: str) -> np.ndarray | None:
        try:
            keys = np.load(self.path / f"{name}.keys.npy", allow_pickle=False)
        except Exception as error:  # removed just now, or damaged: NumPy raises nearly anything for a header that is
            if getattr(error, "errno", None) in NOT_THE_FILE:
                raise
            return None
        return keys if keys.dtype == KEYS and keys.ndim == 1 else None

    def locate(self, digests: np.ndarray) -> np.ndarray:
        """Return the (n, 2) shard and row of each digest, -1 where there is none. It is fast for sorted digests."""
        if not len(self.keys):
            return np.full((len(digests), 2), -1, np.int32)
        where = np.searchsorted(self.keys, digests) % len(self.keys)
        found = self.place[where]
        found[self.keys[where] != digests] = -1
        return found

    def missing(self, digests: np.ndarray) -> np.ndarray:
        """Return the positions of the digests that have no row."""
        return np.flatnonzero(self.locate(digests)[:, 0] < 0)

    # Reading and writing rows -----------------------------------------------------------------------------------------

    def read(self, digests: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the rows at some places, and tell which of them are intact.

        Files are read, not mapped: a page that is mapped counts as this process's memory, and one of a file that has
        been cut or removed elsewhere ends it.

        Returns:
            (n, ...) values, and (n,) bool: False where a row is damaged or its shard is gone.
        """
        values, good = np.empty((len(place), *self.kind.shape), self.dtype), np.zeros(len(place), bool)
        memory, size = values.reshape(-1).view("u1").data, self.kind.row_bytes
        order = np.lexsort((place[:, 1], place[:, 0]))
        for i, (number, row) in zip(order.tolist(), place[order].tolist(), strict=True):
            into = memory[i * size : (i + 1) * size]
            if number < 0 or not self._read(number, row * size, into):
                continue
            shard = self.shards[number]
            if not shard.checked[row]:
                shard.checked[row] = _checksum(digests[i], into) == shard.checksums[row]
            good[i] = shard.checked[row]
        return values, good

    def _read(self, number: int, at: int, into: memoryview) -> bool:
        """Read bytes of a shard's values; return whether they are there."""
        try:
            file = self._open.get(number) or self._open_file(number)
            at += self.shards[number].values_at
            if hasattr(os, "preadv"):
                return os.preadv(file.fileno(), [into], at) == len(into)
            with io.FileIO(file.name) as own:  # whose position no other thread moves
                own.seek(at)
                return own.readinto(into) == len(into)
        except OSError as error:
            if error.errno in NOT_THE_FILE:
                raise
            return False

    def _open_file(self, number: int) -> _Open:
        shard = self.shards[number]
        self._open[number] = file = _Open(self.path / f"{shard.name}.rows.npy")
        if shard.values_at < 0:
            shard.values_at = os.fstat(file.fileno()).st_size - len(shard.checksums) * self.kind.row_bytes
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return file

    def as_kept(self, values: np.ndarray) -> np.ndarray:
        """Return values in the dtype of the kind; raise `OverflowError` if it is too small for them."""
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(values, dtype=self.dtype)
        if kept.dtype.kind == "f" and not np.isfinite(kept).all() and np.isfinite(values).all():
            raise OverflowError(f"values up to {np.abs(values).max():.3g} do not fit into {kept.dtype}")
        return kept

    def append(self, digests: np.ndarray, values: np.ndarray) -> None:
        """Write a shard.

        Raises:
            OverflowError: the dtype of the kind is too small for the values.
        """
        kept = self.as_kept(values)
        keys = np.empty(len(digests), KEYS)
        keys["digest"] = digests
        rows = kept.reshape(len(kept), -1).view("u1")
        keys["checksum"] = [_checksum(digest, row) for digest, row in zip(digests, rows, strict=True)]
        if not (self.path / "about.json").exists():
            write_whole(self.path / "about.json", json.dumps({"format": FORMAT, **asdict(self.kind)}, indent=2), True)
        name = uuid.uuid4().hex
        for part, array in (("rows", kept), ("keys", keys)):  # the keys last: only then the shard is there
            with whole_file(self.path / f"{name}.{part}.npy") as aside:
                np.save(aside, array)

    def touch(self, place: np.ndarray) -> None:
        """Record that shards are in use; the least recently used ones are evicted first."""
        for number in np.unique(place[place[:, 0] >= 0, 0]):
            with suppress(OSError):  # removed just now
                os.utime(self.path / f"{self.shards[number].name}.keys.npy")

    def compact(self, at_least: int = 2) -> int:
        """Merge small shards if there are enough of them, and drop copies of rows; return how many shards were merged.

        Of several processes one does it, and the others go on without waiting. Copies come from a process that was
        killed, or taken for dead: it is safe to compact at the same time as another, which only makes more of them.
        """
        if not self._to_merge(at_least):
            return 0
        with Claims(self.path.parent / "claims" / self.kind.key) as claims:
            only = np.zeros(1, np.int64)
            numbers = self._to_merge(at_least) if len(claims.take(only, only, 1)) else []
            self.rewrite(numbers)
        return len(numbers)

    def _to_merge(self, at_least: int) -> list[int]:
        self.refresh()
        there = [number for number, shard in enumerate(self.shards) if shard.name in self._names]
        small = [number for number in there if len(self.shards[number].checksums) * self.kind.row_bytes < SMALL]
        copies = np.flatnonzero(self.keys[1:] == self.keys[:-1])
        with_copies = self.place[[copies, copies + 1], 0].ravel().tolist()
        return sorted({*with_copies, *(small if len(small) >= at_least else ())})

    def rewrite(self, numbers: Sequence[int] | np.ndarray) -> None:
        """Write the intact rows of some shards into new ones of about `LARGE` bytes, each row once; remove the old."""
        first, written = np.searchsorted(self.keys, self.keys), np.zeros(len(self.keys), bool)
        ends = np.cumsum([len(self.shards[number].checksums) for number in numbers])
        per_shard = max(1, LARGE // max(1, self.kind.row_bytes))
        for group in np.split(np.array(numbers, int), np.flatnonzero(np.diff(ends // per_shard)) + 1):
            rows = np.flatnonzero(np.isin(self.place[:, 0], group))
            rows = rows[np.lexsort(self.place[rows].T[::-1])]  # neighbours stay neighbours
            values, good = self.read(self.keys[rows], self.place[rows])
            new = np.flatnonzero(good & ~written[first[rows]])
            new = new[np.sort(np.unique(first[rows[new]], return_index=True)[1])]
            if len(new):
                self.append(self.keys[rows[new]], values[new])
            written[first[rows[new]]] = True
            # Their rows are now in shards that this process has written.
            self.remove(self.shards[number].name for number in group)
        self.refresh()

    def remove(self, names: Iterable[str]) -> None:
        """Delete shards; processes that have them open can still read them."""
        for name in names:
            for part in ("keys", "rows"):
                (self.path / f"{name}.{part}.npy").unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all that is in the directory and of this store, and the directory if nothing else is in it."""
        remove_own(self.path, _OURS, folders=True)


def _checksum(digest: Any, row: Any) -> int:
    return zlib.crc32(row, zlib.crc32(digest))
