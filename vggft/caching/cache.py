"""The cache: a directory of stores, which evicts the least recently used rows where room is needed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from ..errors import CacheError
from ..fields import as_path
from ..files.documents import parse_document
from ..files.writing import full_disk, write_whole
from .kinds import KINDS, About, Kind, OldAbout, as_keys
from .rows import Rows, computed, fill
from .store import SHARD_ROWS, Store

TAG = "vggft-cache.txt"
TOLD = """This directory is a cache of vggft: `vggft cache list` shows what is in it. When room is needed, vggft deletes
what it has written here itself, and nothing else. Everything can be computed again.
"""
OLD = ("manifest.json", "rows.npy")  # the files of an entry in the format of an earlier version

SPARE = 64 * 2**20  # bytes of the disk that are never used
LOOK_AGAIN = 2**30  # bytes that are written before the disk is looked at again
ABANDONED = 24 * 3600  # seconds after which rows without keys are removed
AHEAD = 60  # seconds; a time of use that lies further in the future is of a clock that has been set back
INSTEAD = 512 * 2**20  # bytes of rows that are kept in memory where the cache cannot take them


@dataclass(frozen=True)
class Part:
    """What is evicted as a whole: a shard, or an entry in the format of an earlier version.

    Args:
        files: the files that are removed together.
        size: their size in bytes.
        used: time of the last use, in seconds since the epoch.
    """

    files: tuple[Path, ...]
    size: int
    used: float


class Cache:
    """All stores under a directory.

    Args:
        root: None is `VGGFT_CACHE_DIR`, or else the platform's cache directory of this user.
        max_size: bytes; what was not used for longest is removed before more is written. None is half of what the
            disk could provide: its free space and what the cache holds.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, max_size: int | None = None):
        default = os.environ.get("VGGFT_CACHE_DIR") or platformdirs.user_cache_dir("vggft", appauthor=False)
        self.root, self.max_size = as_path(default if root is None else root, "VGGFT_CACHE_DIR"), max_size
        self._spare = 0  # bytes that may be written before the disk has to be looked at again
        self._told = False  # whether a warning has said that rows are kept in memory

    def mark(self) -> None:
        """Make the directory, with a file that says that it is a cache; in others nothing is ever deleted."""
        if not self._is_ours:
            self.root.mkdir(parents=True, exist_ok=True)
            write_whole(self.root / TAG, TOLD, overwrite=True)

    @property
    def _is_ours(self) -> bool:
        tag = self.root / TAG
        return tag.is_file() and not tag.is_symlink()

    def has(self, name: str) -> bool:
        """Whether there may be rows of kinds of this name."""
        return (self.root / name).is_dir()

    def fill(
        self,
        kinds: Sequence[Kind],
        digests: Sequence[str],
        compute: Callable[[np.ndarray], Sequence[np.ndarray]],
        *,
        stores: Sequence[Store] | None = None,
        at_once: int = SHARD_ROWS,
        on_rows: Callable[[int], object] = lambda rows: None,
        on_wait: Callable[[Path], object] = lambda path: None,
    ) -> list[np.ndarray | Rows]:
        """Return the rows of several kinds for some digests, and compute those that are missing; see `rows.fill`.

        Where the cache cannot take them, up to `INSTEAD` bytes are kept in memory, and a warning says so.

        `stores` are those of the kinds from an earlier call, if there was one: they read only keys that are new. Their
        rows have to be in the cache.

        Raises:
            CacheError: the disk has too little room, or cannot be written.
            OverflowError: the dtype of a kind is too small for the values.
        """
        how: dict[str, Any] = {"on_rows": on_rows, "on_wait": on_wait, "make_room": self.make_room}
        own = [Store(self.root, kind) for kind in kinds] if stores is None else stores
        failed = list[Exception]()

        def watched(rows: np.ndarray) -> Sequence[np.ndarray]:
            try:
                return compute(rows)
            except Exception as error:  # which is not of the cache
                failed.append(error)
                raise

        try:
            self.check_room([(kinds, digests)])
            with self._explained():
                return fill(own, digests, watched, at_once=at_once, **how)
        except CacheError as error:
            if failed:
                raise failed[0] from None
            if stores is not None or _size([(kinds, digests)]) > INSTEAD:
                raise
            if not self._told:
                warnings.warn(f"{error} This run keeps in memory what the cache cannot take.", stacklevel=2)
            self._told = True
        return list(computed(own, digests, compute, at_once=at_once))

    def missing(self, kind: Kind, digests: Sequence[str]) -> np.ndarray:
        """Return the positions of digests that have no row yet, one position for equal digests."""
        store = Store(self.root, kind)
        store.refresh()
        keys = as_keys(digests)
        first = np.sort(np.unique(keys, return_index=True)[1])
        return first[store.missing(keys[first])]

    def check_room(self, wanted: Sequence[tuple[Sequence[Kind], Sequence[str]]], instead: int = 0) -> None:
        """Raise `CacheError` unless all rows of some kinds and their digests find room at the same time.

        Args:
            wanted: kinds and digests.
            instead: bytes that may be kept in memory where there is no room.
        """
        if wanted and (needed := _size(wanted)) > instead:
            with self._explained():
                self.mark()
                room = self._room(self._held())
            if needed > room:
                raise CacheError(
                    f"The cache in {self.root} needs {needed / 1e9:.2f} GB for {wanted[0][0][0].name}, but has room "
                    f"for {room / 1e9:.2f} GB. Set VGGFT_CACHE_DIR to a directory on a larger disk, use fewer views, "
                    "or freeze all blocks, whose pooled features are small."
                )

    def make_room(self, size: int) -> None:
        """Evict the least recently used parts until `size` bytes fit."""
        if self._spare < size:
            held = self._held()
            if held + size > (room := self._room(held)):
                held -= self.prune(max(0, room - size))
            self._spare = min(LOOK_AGAIN, room - held)
        self._spare -= size

    def _held(self) -> int:
        return sum(part.size for part in self.parts())

    def _room(self, held: int) -> int:
        """Return the number of bytes that the cache may hold, given how many it holds."""
        disk = max(0, shutil.disk_usage(self.root).free - SPARE) + held
        return disk // 2 if self.max_size is None else min(self.max_size, disk)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the error of a disk that cannot be written into a `CacheError` that suggests another directory."""
        try:
            yield
        except CacheError:
            raise
        except OSError as error:
            place = full_disk(error, self.root / TAG)
            why = error if place is None else f"the disk of {place} is full"
            raise CacheError(
                f"The feature cache in {self.root} cannot be written: {str(why).rstrip('.')}. Set VGGFT_CACHE_DIR to a "
                "directory that you may write to, on a disk that has room."
            ) from error

    # What the cache holds --------------------------------------------------------------------------------------------

    def stores(self) -> list[Store]:
        """Return the store of every kind: what describes itself as a kind that has this very directory."""
        found = []
        for about in self._entries("about.json"):
            try:
                told = parse_document(about.read_bytes(), About)
                kind = Kind(told["name"], told["parts"], tuple(told["shape"]), told["dtype"])
                np.dtype(kind.dtype)
            except (OSError, ValueError, TypeError):
                continue
            if (kind.name, kind.key) == (about.parent.parent.name, about.parent.name):
                found.append(Store(self.root, kind))
        return found

    def old_entries(self) -> list[Path]:
        """Return the entries of earlier versions, which are no longer read."""
        found = []
        for manifest in self._entries(OLD[0]):
            try:
                told = parse_document(manifest.read_bytes(), OldAbout)
            except (OSError, ValueError):
                continue
            what = [1, {name: told[name] for name in ("kind", "parts", "shape", "dtype")}]  # format 1
            key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
            if (told["kind"], key) == (manifest.parent.parent.name, manifest.parent.name):
                found.append(manifest.parent)
        return found

    def _entries(self, name: str) -> Iterator[Path]:
        """Yield the files of this name that may describe something of ours; links are not followed."""
        for kind in KINDS:
            for file in sorted((self.root / kind).glob(f"{'[0-9a-f]' * 32}/{name}")):
                if not any(each.is_symlink() for each in (file, file.parent, file.parent.parent)):
                    yield file

    def parts(self) -> list[Part]:
        """Return everything that can be evicted, the least recently used first."""
        found = [part for store in self.stores() for shard in store.shard_names() if (part := _shard(store, shard))]
        for entry in self.old_entries():
            files = tuple(file for name in OLD if (file := entry / name).is_file() and not file.is_symlink())
            sizes = [file.stat().st_size for file in files]
            found.append(Part(files, sum(sizes), (entry / OLD[0]).stat().st_mtime))
        latest = self._now() + AHEAD
        return sorted(found, key=lambda part: part.used if part.used <= latest else 0.0)

    def _now(self) -> float:
        """Return the time by the clock of the file system, which dates what is in it."""
        with suppress(OSError):
            os.utime(self.root / TAG)
            return (self.root / TAG).stat().st_mtime
        return time.time()

    def prune(self, max_size: int) -> int:
        """Remove the least recently used parts until the others fit; return the number of bytes that were freed.

        Nothing is removed from a directory without the file that `mark` writes, unless it has nothing but a cache.
        """
        if self.root.is_dir() and {each.name for each in self.root.iterdir()} <= {*KINDS, "precision.json"}:
            self.mark()  # of an earlier version
        if not self._is_ours:
            return 0
        parts, stores = self.parts(), self.stores()
        total, freed = sum(part.size for part in parts), 0
        for part in parts:
            if total - freed <= max_size:
                break
            for file in part.files:
                file.unlink(missing_ok=True)
            freed += part.size
        for store in stores:
            now = self._now()
            for rows in store.path.glob("*.rows.npy"):  # without keys they are what a killed process has left
                shard = rows.name.removesuffix(".rows.npy")
                keys = rows.with_name(f"{shard}.keys.npy")
                if not keys.exists() and now - rows.lstat().st_mtime > ABANDONED:
                    store.remove([shard])
            if not store.shard_names() and not any(store.path.glob("*.npy")):
                store.clear()
        for folder in {part.files[0].parent for part in parts}:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        return freed

    def verify(self) -> Iterator[tuple[Store, int, int]]:
        """Yield every store, the number of its rows, and how many of them are damaged; nothing is changed."""
        for store in self.stores():
            store.refresh()
            good = store.verify()
            yield store, len(good), int((~good).sum())

    def compact(self) -> int:
        """Merge the small shards of every store; return how many were merged."""
        return sum(store.compact() for store in self.stores())


def _size(wanted: Sequence[tuple[Sequence[Kind], Sequence[str]]]) -> int:
    """Return the bytes of the rows of some kinds and their digests; equal digests share a row."""
    return sum(kind.row_bytes * len(set(digests)) for kinds, digests in wanted for kind in kinds)


def _shard(store: Store, name: str) -> Part | None:
    keys, rows = (store.path / f"{name}.{part}.npy" for part in ("keys", "rows"))
    try:
        return Part((keys, rows), keys.lstat().st_size + rows.lstat().st_size, keys.lstat().st_mtime)
    except OSError:  # removed just now
        return None
