"""Rows on disk, found by the digest of what they were computed from; append-only, and filled by many processes at once.

The rows of one `Kind` lie in a directory, in immutable shards of two files: `<shard>.rows.npy`, and `<shard>.keys.npy`
with the digest and the checksum of each row. The keys are renamed into place last, so a shard exists whole or not at
all, and no process ever waits for another to write. A row is compared with its checksum when it is first read.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .run import whole_file, write_whole

FORMAT = 2
SHARD_ROWS = 256  # what a killed process loses at most
SMALL, LARGE = 16 * 2**20, 256 * 2**20  # bytes of shards that are merged, and of what they are merged into
MOST_OPEN = 256  # shards that are mapped at once

KEYS = np.dtype([("digest", "S16"), ("checksum", "<u4")])


@dataclass(frozen=True)
class Kind:
    """Everything that the values of rows depend on besides the digest.

    Args:
        name: the directory of the rows, for example `"features"`.
        parts: what the values depend on, ready for JSON.
        shape: shape of one row.
        dtype: dtype of the stored values.
    """

    name: str
    parts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:32]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Store:
    """The rows of one kind.

    Args:
        root: the directory of all kinds.
        kind: what the rows are.
    """

    def __init__(self, root: Path, kind: Kind):
        self.kind, self.path = kind, root / kind.name / kind.key
        self.shards: list[str] = []
        self.keys = np.empty(0, KEYS)
        self.place = np.empty((0, 2), np.int64)  # shard and row of each key
        self._checksums: dict[str, np.ndarray] = {}
        self._checked: dict[str, np.ndarray] = {}
        self._open: OrderedDict[str, np.ndarray] = OrderedDict()

    # Finding rows -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the keys of all shards that exist now."""
        names = self.shard_names()
        if names == self.shards:
            return
        found = [(name, keys) for name in names if (keys := self._read_keys(name)) is not None]
        self.shards, self._checksums = [name for name, _ in found], {name: keys["checksum"] for name, keys in found}
        keys = np.concatenate([keys for _, keys in found]) if found else np.empty(0, KEYS)
        place = [np.stack([np.full(len(keys), n), np.arange(len(keys))], axis=1) for n, (_, keys) in enumerate(found)]
        order = np.argsort(keys["digest"], kind="stable")
        self.keys, self.place = keys[order], (np.concatenate(place) if place else self.place[:0])[order]

    def shard_names(self) -> list[str]:
        """Return the names of the shards that exist now."""
        return sorted(file.name.removesuffix(".keys.npy") for file in self.path.glob("[!.]*.keys.npy"))

    def verify(self) -> np.ndarray:
        """Read all rows; return (n,) bool, whether each of them is intact."""
        self._checked.clear()
        parts = np.array_split(np.arange(len(self.keys)), -(-len(self.keys) // SHARD_ROWS) or 1)
        return np.concatenate([self.read(self.keys["digest"][part], self.place[part])[1] for part in parts])

    def _read_keys(self, name: str) -> np.ndarray | None:
        try:
            keys = np.load(self.path / f"{name}.keys.npy", allow_pickle=False)
        except Exception:  # removed just now, or damaged: NumPy raises nearly anything for a header that is
            return None
        return keys if keys.dtype == KEYS and keys.ndim == 1 else None

    def locate(self, digests: np.ndarray) -> np.ndarray:
        """Return the (n, 2) shard and row of each digest, -1 where there is none."""
        found = np.full((len(digests), 2), -1, np.int64)
        where = np.searchsorted(self.keys["digest"], digests)
        same = np.flatnonzero(where < len(self.keys))
        same = same[self.keys["digest"][where[same]] == digests[same]]
        found[same] = self.place[where[same]]
        return found

    def missing(self, digests: np.ndarray) -> np.ndarray:
        """Return the positions of the digests that have no row."""
        return np.flatnonzero(self.locate(digests)[:, 0] < 0)

    # Reading and writing rows -----------------------------------------------------------------------------------------

    def read(self, digests: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the rows at some places, and tell which of them are intact.

        Returns:
            (n, ...) values, and (n,) bool: False where a row is damaged or its shard is gone.
        """
        values, good = np.empty((len(place), *self.kind.shape), self.kind.dtype), np.zeros(len(place), bool)
        for number in np.unique(place[:, 0]):
            at = np.flatnonzero(place[:, 0] == number)
            shard = self._map(self.shards[number]) if number >= 0 else None
            rows = place[at, 1]
            if shard is None or len(shard) <= rows.max():
                continue
            values[at] = shard[rows]
            good[at] = self._check(self.shards[number], digests[at], rows, values[at])
        return values, good

    def _map(self, name: str) -> np.ndarray | None:
        """Return the rows of a shard as a memory map, or None if they cannot be read."""
        if name not in self._open:
            try:
                rows = np.load(self.path / f"{name}.rows.npy", mmap_mode="r", allow_pickle=False)
            except Exception:  # as above
                return None
            if rows.shape[1:] != self.kind.shape or rows.dtype != self.kind.dtype:
                return None
            self._open[name] = rows
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        return self._open[name]

    def _check(self, name: str, digests: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Compare rows with their checksums, each only once."""
        if name not in self._checked:
            self._checked[name] = np.zeros(len(self._map(name)), bool)  # type: ignore[arg-type]
        checked = self._checked[name]
        if len(new := np.flatnonzero(~checked[rows])):
            checksums = self._checksums[name]
            if len(checksums) == len(checked):
                right = [_checksum(digests[i], values[i]) == checksums[rows[i]] for i in new]
                checked[rows[new[np.array(right)]]] = True
        return checked[rows]

    def append(self, digests: np.ndarray, values: np.ndarray) -> None:
        """Write a shard.

        Raises:
            OverflowError: the dtype of the kind is too small for the values.
        """
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(values, dtype=self.kind.dtype)
        if kept.dtype.kind == "f" and np.isfinite(values).all() and not np.isfinite(kept).all():
            raise OverflowError(f"values up to {np.abs(values).max():.3g} do not fit into {kept.dtype}")
        keys = np.empty(len(digests), KEYS)
        keys["digest"] = digests
        keys["checksum"] = [_checksum(digest, row) for digest, row in zip(digests, kept, strict=True)]
        if not (self.path / "about.json").exists():
            write_whole(self.path / "about.json", json.dumps({"format": FORMAT, **asdict(self.kind)}, indent=2))
        name = uuid.uuid4().hex
        for part, array in (("rows", kept), ("keys", keys)):  # the keys last: only then the shard is there
            with whole_file(self.path / f"{name}.{part}.npy") as aside:
                np.save(aside, array)

    def touch(self, place: np.ndarray) -> None:
        """Record that shards are in use; the least recently used ones are evicted first."""
        for number in np.unique(place[place[:, 0] >= 0, 0]):
            try:
                os.utime(self.path / f"{self.shards[number]}.keys.npy")
            except OSError:  # removed just now
                continue

    def remove(self, name: str) -> None:
        """Delete a shard. Processes that have mapped it can still read it."""
        for part in ("keys", "rows"):
            (self.path / f"{name}.{part}.npy").unlink(missing_ok=True)

    def compact(self, at_least: int = 2) -> int:
        """Merge small shards if there are enough of them; return how many were merged."""
        self.refresh()
        small = [name for name in self.shards if self._size(name) < SMALL]
        if len(small) < at_least:
            return 0
        self.rewrite(small)
        return len(small)

    def _size(self, name: str) -> int:
        try:
            return (self.path / f"{name}.rows.npy").stat().st_size
        except OSError:  # its rows are missing
            return 0

    def rewrite(self, names: Sequence[str]) -> None:
        """Write the intact rows of some shards into new ones, as large as `LARGE`, and remove the old ones."""
        per_shard = max(1, LARGE // max(1, self.kind.row_bytes))
        digests, values = [np.empty(0, "S16")], [np.empty((0, *self.kind.shape), self.kind.dtype)]

        def write(at_least: int) -> None:
            if sum(map(len, digests)) >= at_least:
                self.append(np.concatenate(digests), np.concatenate(values))
                del digests[1:], values[1:]

        for name in names:
            keys = self._read_keys(name)
            if keys is not None and len(keys):
                place = np.stack([np.full(len(keys), self.shards.index(name)), np.arange(len(keys))], axis=1)
                rows, good = self.read(keys["digest"], place)
                digests.append(keys["digest"][good])
                values.append(rows[good])
                write(per_shard)
        write(1)
        for name in names:
            self.remove(name)
        self.refresh()


def as_keys(digests: Sequence[str]) -> np.ndarray:
    """Return (N,) digests of 32 hexadecimal digits as 16 bytes each."""
    return np.frombuffer(bytes.fromhex("".join(digests)), "S16")


def stores_in(root: Path) -> Iterator[Store]:
    """Yield the store of every kind under a directory."""
    for about in root.glob("*/*/about.json"):
        try:
            told = json.loads(about.read_text(encoding="utf-8"))
            kind = Kind(told["name"], told["parts"], tuple(told["shape"]), told["dtype"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if (kind.name, kind.key) == (about.parent.parent.name, about.parent.name):
            yield Store(root, kind)


def _checksum(digest: Any, row: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(digest))
