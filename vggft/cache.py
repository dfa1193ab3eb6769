"""Arrays on disk, found by all that their values depend on: written shard by shard, checked whenever they are opened.

An entry is a directory `<root>/<kind>/<key>/` with `rows.npy`, which is memory-mapped to be read, and `manifest.json`.
A shard counts only when the manifest names its checksum, so what a kill or a flipped bit leaves is computed again.
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
from .run import whole_file

FORMAT = 1
SHARD_ROWS = 256
SPARE = 64 * 2**20  # bytes of the disk that are left alone


@dataclass(frozen=True)
class Spec:
    """An array, by what its values depend on.

    Args:
        kind: the directory it is kept under, `"features"` say.
        parts: all that the values depend on, as JSON.
        shape: of the whole array, rows first.
        dtype: as it is kept.
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
    """One array of the cache; written by whoever holds its lock, read by any number."""

    path: Path
    spec: Spec
    checksums: dict[int, str] = field(default_factory=dict)

    @property
    def rows(self) -> Path:
        return self.path / "rows.npy"

    def _manifest(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self.spec), "shard_rows": SHARD_ROWS}

    def missing(self) -> list[int]:
        """The shards that are not there or are damaged; makes the file that they will be written to."""
        manifest, self.checksums = read_entry(self.path)
        if manifest != json.loads(json.dumps(self._manifest())):
            self.checksums = {}
            self._allocate()
        self._save()
        return [n for n in range(len(self.spec.shards)) if n not in self.checksums]

    def _allocate(self) -> None:
        (self.path / "manifest.json").unlink(missing_ok=True)
        with whole_file(self.rows) as aside:
            np.lib.format.open_memmap(aside, mode="w+", dtype=self.spec.dtype, shape=self.spec.shape)

    def _save(self) -> None:
        with whole_file(self.path / "manifest.json") as aside:
            shards = {str(n): checksum for n, checksum in sorted(self.checksums.items())}
            aside.write_text(json.dumps({**self._manifest(), "shards": shards}))

    def put(self, shard: int, rows: np.ndarray) -> None:
        """Write a shard, and only when it is on the disk name it in the manifest.

        Raises:
            OverflowError: the dtype of the entry is too small for the values.
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
        """All rows, memory-mapped."""
        return np.load(self.rows, mmap_mode="r")


class Cache:
    """The entries under a directory.

    Args:
        root: None is `VGGFT_CACHE_DIR`, else the platform's directory for caches of this user.
        max_size: bytes; before an entry is written those longest unused make room. None: half of what the disk could
            give, which is what is free and what the cache holds.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, max_size: int | None = None):
        default = os.environ.get("VGGFT_CACHE_DIR") or platformdirs.user_cache_dir("vggft", appauthor=False)
        self.root, self.max_size = Path(default if root is None else root), max_size

    def fill(
        self,
        specs: Sequence[Spec],
        compute: Callable[[int, int], Sequence[np.ndarray]],
        *,
        on_rows: Callable[[int], object] = lambda rows: None,
        on_wait: Callable[[Path], object] = lambda path: None,
    ) -> list[np.ndarray]:
        """The arrays of several entries with as many rows, from the cache or else computed together in one pass.

        Args:
            specs: what is wanted; all have as many rows.
            compute: given the first row and the one behind the last, their values for each of the specs.
            on_rows: told how many rows are done, found or computed.
            on_wait: told of an entry that another process is writing, before waiting for it.

        Raises:
            CacheError: the disk has too little room.
            OverflowError: the values do not fit into the dtype of a spec.
        """
        entries = [Entry(self.root / spec.kind / spec.key, spec) for spec in specs]
        with ExitStack() as stack:
            with self._explained():
                for entry in sorted(entries, key=lambda entry: entry.path):  # one order: nobody waits in a circle
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
        """Whether all rows of an entry are there, by its manifest alone: for estimates."""
        try:
            manifest = json.loads((self.root / spec.kind / spec.key / "manifest.json").read_text())
            return len(manifest["shards"]) == len(spec.shards)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A disk that refuses is a matter of the cache, and there is another place to name."""
        try:
            yield
        except CacheError:
            raise
        except OSError as error:
            raise CacheError(
                f"The feature cache cannot be written: {error}. This usually occurs when the disk is full or belongs to"
                " another user: set VGGFT_CACHE_DIR to a directory that you may write to."
            ) from error

    def entries(self) -> list[tuple[Path, int, float]]:
        """Directory, bytes and time of last use of every entry, the longest unused first."""
        found = []
        for manifest in self.root.glob("*/*/manifest.json"):
            size = sum(file.stat().st_size for file in manifest.parent.iterdir())
            found.append((manifest.parent, size, manifest.stat().st_mtime))
        return sorted(found, key=lambda entry: entry[2])

    def prune(self, max_size: int, keep: Sequence[Path] = ()) -> int:
        """Remove the longest unused entries until the rest fit; how many bytes that gave. Those being written stay."""
        entries = self.entries()
        total, freed = sum(size for _, size, _ in entries), 0
        for path, size, _ in entries:
            if total - freed <= max_size:
                break
            if path not in keep and _remove(path):
                freed += size
        return freed

    def verify(self) -> Iterator[tuple[Path, list[int]]]:
        """Every entry, with the shards that are missing or damaged; changes nothing."""
        for path, _, _ in self.entries():
            manifest, checksums = read_entry(path)
            count = -(-manifest["shape"][0] // manifest["shard_rows"]) if manifest else 1
            yield path, [n for n in range(count) if n not in checksums]

    def check_room(self, specs: Sequence[Spec]) -> int:
        """Whether all of these find room, once old entries are let go: how many bytes those may keep.

        Raises:
            CacheError: the disk has too little room.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        wanted = {self.root / spec.kind / spec.key: spec for spec in specs}
        needed = sum(spec.num_bytes for path, spec in wanted.items() if not path.exists())
        held = sum(size for path, size, _ in self.entries() if path not in wanted)
        free = max(0, shutil.disk_usage(self.root).free - SPARE)
        room = min((free + held) // 2 if self.max_size is None else self.max_size, free + held)
        if needed > room:
            raise CacheError(
                f"The cache in {self.root} needs {needed / 1e9:.2f} GB for {specs[0].kind}, but has room for "
                f"{room / 1e9:.2f} GB. Set VGGFT_CACHE_DIR to a larger disk, take fewer views, or freeze all blocks, "
                "whose pooled features are small."
            )
        return room - needed


def read_entry(path: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """What the manifest of an entry says, and checksums of the shards that hold; nothing of a damaged entry."""
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
    """The lock of an entry, held; it is let go at the end of a `with`."""
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
    lock = FileLock(path.with_suffix(".lock"))
    try:
        with lock.acquire(timeout=0):
            shutil.rmtree(path)
    except (Timeout, OSError):
        return False
    return True
