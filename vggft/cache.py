"""A cache of arrays on disk, keyed by everything that their values depend on, written shard by shard and verified.

An entry is a directory `<root>/<kind>/<key>/` with `rows.npy`, which is read as a memory map, and `manifest.json`. A
shard counts only if its checksum is in the manifest and matches, so shards that a killed process left unfinished, or
that were damaged, are computed again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import AcquireReturnProxy, FileLock, Timeout

from .errors import CacheError
from .run import whole_file, write_whole

FORMAT = 1
SHARD_ROWS = 256
SPARE = 64 * 2**20  # bytes of the disk that are kept free


@dataclass(frozen=True)
class Spec:
    """An array, described by what its values depend on.

    Args:
        kind: the directory of its entry, such as `"features"`.
        parts: everything that the values depend on, ready for JSON.
        shape: shape of the whole array, rows first.
        dtype: dtype of the stored values.
    """

    kind: str
    parts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:32]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def shards(self) -> list[slice]:
        rows = self.shape[0]
        return [slice(start, min(start + SHARD_ROWS, rows)) for start in range(0, rows, SHARD_ROWS)]


@dataclass
class Entry:
    """One array of the cache; only the process that holds its lock writes, and any number of processes read."""

    path: Path
    spec: Spec
    checksums: dict[int, str] = field(default_factory=dict)

    @property
    def rows(self) -> Path:
        return self.path / "rows.npy"

    def missing(self) -> list[int]:
        """List the shards that are missing or damaged, and create the file that they will be written to."""
        manifest, self.checksums = read_entry(self.path)
        if manifest != json.loads(json.dumps(self._manifest())):
            self.checksums = {}
            (self.path / "manifest.json").unlink(missing_ok=True)
            with whole_file(self.rows) as aside:
                np.lib.format.open_memmap(aside, mode="w+", dtype=self.spec.dtype, shape=self.spec.shape)
        self._save()
        return [n for n in range(len(self.spec.shards)) if n not in self.checksums]

    def _manifest(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self.spec), "shard_rows": SHARD_ROWS}

    def _save(self) -> None:
        shards = {str(n): checksum for n, checksum in sorted(self.checksums.items())}
        write_whole(self.path / "manifest.json", json.dumps({**self._manifest(), "shards": shards}))

    def put(self, shard: int, rows: np.ndarray) -> None:
        """Write a shard, and add it to the manifest once it is on the disk.

        Raises:
            OverflowError: the values do not fit into the dtype of the entry.
        """
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(rows, dtype=self.spec.dtype)
        if kept.dtype.kind == "f" and np.isfinite(rows).all() and not np.isfinite(kept).all():
            raise OverflowError(f"values up to {np.abs(rows).max():.3g} do not fit into {kept.dtype}")
        with self.rows.open("r+b") as file:
            file.seek(-self.spec.num_bytes, os.SEEK_END)
            file.seek(self.spec.shards[shard].start * (self.spec.num_bytes // self.spec.shape[0]), os.SEEK_CUR)
            file.write(kept.data)
            file.flush()
            os.fsync(file.fileno())
        self.checksums[shard] = _checksum(kept)
        self._save()

    def array(self) -> np.ndarray:
        """Return all rows as a read-only memory map."""
        return np.load(self.rows, mmap_mode="r")


class Cache:
    """The entries under a directory.

    Args:
        root: directory; None for `VGGFT_CACHE_DIR` if that is set, else the user's cache directory on this platform.
        max_size: maximum size in bytes, for which the least recently used entries are removed before an entry is
            written. None for half of the disk's free space and the cache's size together.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, max_size: int | None = None):
        default = os.environ.get("VGGFT_CACHE_DIR") or platformdirs.user_cache_dir("vggft", appauthor=False)
        self.root, self.max_size = Path(default if root is None else root), max_size

    def entry(self, spec: Spec) -> Entry:
        """Return the entry of an array, which may not exist yet."""
        return Entry(self.root / spec.kind / spec.key, spec)

    def fill(
        self,
        specs: Sequence[Spec],
        compute: Callable[[int, int], Sequence[np.ndarray]],
        *,
        on_rows: Callable[[int], object] = lambda rows: None,
        on_wait: Callable[[Path], object] = lambda path: None,
    ) -> list[np.ndarray]:
        """Return the arrays of several entries; shards that are missing are computed for all of them in one pass.

        Args:
            specs: the arrays, all with the same number of rows.
            compute: (start, stop) -> the values of these rows for each of the specs.
            on_rows: called with the number of rows that were found or computed since the last call.
            on_wait: called with the path of an entry that another process is writing, before waiting for it.

        Raises:
            CacheError: the disk has too little free space.
            OverflowError: the values do not fit into the dtype of a spec.
        """
        entries = [self.entry(spec) for spec in specs]
        with ExitStack() as stack:
            with self._explained():
                for entry in sorted(
                    entries, key=lambda entry: entry.path
                ):  # always in the same order, to avoid deadlocks
                    stack.enter_context(_lock(entry.path, on_wait))
                self.prune(self.check_room(specs), keep=[entry.path for entry in entries])
                missing = [set(entry.missing()) for entry in entries]
            for n, part in enumerate(specs[0].shards):
                if any(n in shards for shards in missing):
                    values = compute(part.start, part.stop)
                    for entry, shards, rows in zip(entries, missing, values, strict=True):
                        if n in shards:
                            with self._explained():
                                entry.put(n, rows)
                on_rows(part.stop - part.start)
            return [entry.array() for entry in entries]

    def holds(self, spec: Spec) -> bool:
        """Whether the manifest of an entry lists all rows; they are not verified, which is enough for estimates."""
        try:
            manifest = json.loads((self.entry(spec).path / "manifest.json").read_text())
            return len(manifest["shards"]) == len(spec.shards)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of writing to the disk into a `CacheError` that suggests another directory."""
        try:
            yield
        except CacheError:
            raise
        except OSError as error:
            raise CacheError(
                f"The feature cache cannot be written: {error}. This usually occurs when the disk is full or the"
                " directory belongs to another user: set VGGFT_CACHE_DIR to a directory that you may write to."
            ) from error

    def entries(self) -> list[tuple[Path, int, float]]:
        """List the directory, bytes and time of last use of every entry, the least recently used first."""
        found = []
        for manifest in self.root.glob("*/*/manifest.json"):
            size = sum(file.stat().st_size for file in manifest.parent.iterdir())
            found.append((manifest.parent, size, manifest.stat().st_mtime))
        return sorted(found, key=lambda entry: entry[2])

    def prune(self, max_size: int, keep: Sequence[Path] = ()) -> int:
        """Remove the least recently used entries until the rest fits; return the number of freed bytes.

        Entries in `keep`, and those that a process is writing, are not removed.
        """
        entries = self.entries()
        total, freed = sum(size for _, size, _ in entries), 0
        for path, size, _ in entries:
            if total - freed <= max_size:
                break
            if path not in keep and _remove(path):
                freed += size
        return freed

    def verify(self) -> Iterator[tuple[Path, list[int]]]:
        """Yield every entry with its missing or damaged shards, without changing anything."""
        for path, _, _ in self.entries():
            manifest, checksums = read_entry(path)
            count = -(-manifest["shape"][0] // manifest["shard_rows"]) if manifest else 1
            yield path, [n for n in range(count) if n not in checksums]

    def check_room(self, specs: Sequence[Spec]) -> int:
        """Check that these arrays fit once old entries are removed; return how many bytes old entries may keep.

        Raises:
            CacheError: the disk has too little free space.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        wanted = {self.entry(spec).path: spec for spec in specs}
        needed = sum(spec.num_bytes for path, spec in wanted.items() if not path.exists())
        held = sum(size for path, size, _ in self.entries() if path not in wanted)
        free = max(0, shutil.disk_usage(self.root).free - SPARE)
        room = min((free + held) // 2 if self.max_size is None else self.max_size, free + held)
        if needed > room:
            raise CacheError(
                f"The cache in {self.root} needs {needed / 1e9:.2f} GB for {specs[0].kind}, but has room for "
                f"{room / 1e9:.2f} GB. Set VGGFT_CACHE_DIR to a directory on a larger disk, use fewer views, or "
                "freeze all blocks, whose pooled features are small."
            )
        return room - needed


def read_entry(path: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """Return the manifest of an entry and the checksums of its intact shards; both are empty if it is damaged."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        rows = np.load(path / "rows.npy", mmap_mode="r")
        shards, size = manifest.pop("shards"), manifest["shard_rows"]
        if rows.shape != tuple(manifest["shape"]) or rows.dtype != manifest["dtype"]:
            return {}, {}
        return manifest, {
            int(n): checksum for n, checksum in shards.items() if checksum == _checksum(rows[int(n) * size :][:size])
        }
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return {}, {}


def _lock(path: Path, on_wait: Callable[[Path], object]) -> AcquireReturnProxy[Any]:
    """Acquire the lock of an entry; leaving its `with` block releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        on_wait(path)
        return lock.acquire()


def _checksum(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()


def _remove(path: Path) -> bool:
    """Remove an entry unless a process is writing it."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        with lock.acquire(timeout=0):
            shutil.rmtree(path)
    except (Timeout, OSError):
        return False
    return True
