"""How fast rows are found and read again, and how other ways to keep them compare.

    python tests/benchmarks/storage.py --work DIRECTORY [--rows 1000000] [--maps 50000] [open read options]

`open`: from a list of digests to the first batch, in a process of its own without TensorFlow.
`read`: random batches of 32, the page cache warm, from the store, from np.memmap over the same files, and from memory.
`options`: the table of docs/decisions/0001-feature-store.md; needs the packages `lmdb` and `zarr`, and names
what it leaves out for want of them. It takes a tenth of the rows, as all options lie side by side.

Pooled rows are 512 float16, maps 14 x 14 x 512 float16 (block 4 at 224 px); values are random, as time does not depend
on them. Sides run in turns, and the medians of three rounds are printed. DIRECTORY takes 11 GB, and 5 GB more during
`options`; measurements are kept in DIRECTORY/log.json, from which a second call resumes. Linux only.

On two virtual cores (Xeon with AVX-512) that others used, too: 1,000,000 pooled rows open in 1.0 s and 296 MB, 50,000
maps (10 GB) in 0.07 s and 74 MB; batches of 32 take 0.08 ms and 1.1 ms, 0.5 and 1.0 times as long as from np.memmap.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[2]))
from sides import Log, clock

from vggft.caching import rows
from vggft.caching.cache import Cache
from vggft.caching.kinds import Kind, as_keys
from vggft.caching.store import SHARD_ROWS, Store

rows.IN_MEMORY = 0  # few rows, too, are read from disk
ROUNDS, BATCH, BATCHES, LARGEST = 3, 32, 100, 1_000_000
KINDS = {
    "pooled": Kind("features", {"rows": "pooled"}, (512,), "float16"),
    "maps": Kind("features", {"rows": "maps"}, (14, 14, 512), "float16"),
}


def digests_of(count: int) -> list[str]:
    whole = np.random.default_rng(0).bytes(16 * LARGEST)
    return [whole[16 * number : 16 * number + 16].hex() for number in range(count)]


def values_of(kind: Kind, count: int = SHARD_ROWS) -> np.ndarray:
    numbers = np.random.default_rng(1).integers(0, 15_000, (count, *kind.shape), dtype=np.uint16)  # finite as float16
    return numbers.view("float16")


def positions(count: int, batches: int = BATCHES) -> np.ndarray:
    return np.random.default_rng(2).integers(0, count, (batches, BATCH))


class Shards:
    """What vggft has: immutable .npy shards with keys."""

    def __init__(self, path: Path, kind: Kind, count: int):
        self.path, self.kind, self.store, self.count = path, kind, Store(path, kind), count

    def create(self) -> None:
        self.path.mkdir(parents=True)

    def write(self, start: int, keys: np.ndarray, values: np.ndarray) -> None:
        self.store.append(keys, values)

    def finish(self) -> None:
        self.store.compact()

    def open(self, digests: list[str]) -> None:
        (self.rows,) = Cache(self.path).fill([self.kind], digests, refuse)

    def read(self, wanted: np.ndarray) -> np.ndarray:
        return self.rows[wanted]


class SQLite(Shards):
    """The same shards, their keys in a table of one SQLite file (rollback journal: a log excludes network disks)."""

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path / "keys.sqlite", timeout=600, isolation_level=None)

    def create(self) -> None:
        super().create()
        self.connect().execute(
            "CREATE TABLE keys (digest BLOB PRIMARY KEY, shard TEXT, row INT, checksum INT) WITHOUT ROWID"
        )

    def write(self, start: int, keys: np.ndarray, values: np.ndarray) -> None:
        before = set(self.store.shard_names())
        super().write(start, keys, values)
        (name, *_) = set(self.store.shard_names()) - before
        rows = [(key.ljust(16, b"\0"), name, row, 0) for row, key in enumerate(keys.tolist())]
        connection = self.connect()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
        connection.close()

    def finish(self) -> None:
        pass

    def open(self, digests: list[str]) -> None:
        found = self.connect().execute("SELECT digest, shard, row FROM keys ORDER BY digest").fetchall()
        self.keys = np.array([key for key, _, _ in found], "S16")
        names = sorted({name for _, name, _ in found})
        number = {name: n for n, name in enumerate(names)}
        place = np.array([(number[name], row) for _, name, row in found], np.int32)
        self.place = place[np.searchsorted(self.keys, as_keys(digests))]
        self.maps = [np.load(self.store.path / f"{name}.rows.npy", mmap_mode="r") for name in names]

    def read(self, wanted: np.ndarray) -> np.ndarray:
        return read_maps(self.maps, self.place[wanted], self.kind)


class LMDB:
    """One LMDB environment, a digest's row as its value, a transaction for each shard."""

    def __init__(self, path: Path, kind: Kind, count: int):
        import lmdb

        self.path, self.kind = path, kind
        self.environment = lambda: lmdb.open(str(path), map_size=4 * count * kind.row_bytes + 2**26)

    def create(self) -> None:
        self.path.mkdir(parents=True)

    def write(self, start: int, keys: np.ndarray, values: np.ndarray) -> None:
        if start == 0 or not hasattr(self, "to"):
            self.to = self.environment()
        with self.to.begin(write=True) as transaction:
            for key, row in zip(keys.tolist(), values, strict=True):
                transaction.put(key.ljust(16, b"\0"), row.tobytes())

    def finish(self) -> None:
        pass

    def open(self, digests: list[str]) -> None:
        self.keys = [bytes.fromhex(digest) for digest in digests]
        self.transaction = self.environment().begin(buffers=True)
        cursor = self.transaction.cursor()
        if not all(cursor.set_key(key) for key in sorted(self.keys)):
            raise LookupError("a row is missing")

    def read(self, wanted: np.ndarray) -> np.ndarray:
        rows = [np.frombuffer(self.transaction.get(self.keys[number]), self.kind.dtype) for number in wanted.tolist()]
        return np.stack(rows).reshape(-1, *self.kind.shape)


class Zarr:
    """One Zarr 3 array, a chunk for each row, in shards of 256, and an array of digests; CRC-32C, not compressed."""

    def __init__(self, path: Path, kind: Kind, count: int):
        self.path, self.kind, self.count = path, kind, -(-count // SHARD_ROWS) * SHARD_ROWS

    def create(self) -> None:
        import zarr
        from zarr.codecs import Crc32cCodec

        group = zarr.open_group(self.path, mode="w")
        arrays = {"rows": (self.kind.shape, "float16", 1), "keys": ((16,), "uint8", SHARD_ROWS)}
        for name, (shape, dtype, chunk) in arrays.items():
            group.create_array(
                name,
                shape=(self.count, *shape),
                dtype=dtype,
                chunks=(chunk, *shape),
                shards=(SHARD_ROWS, *shape),
                compressors=[Crc32cCodec()],
            )

    def write(self, start: int, keys: np.ndarray, values: np.ndarray) -> None:
        import zarr

        group = zarr.open_group(self.path, mode="r+")
        group["rows"][start : start + len(keys)] = values
        group["keys"][start : start + len(keys)] = keys.view("u1").reshape(-1, 16)  # last: only then they are there

    def finish(self) -> None:
        pass

    def open(self, digests: list[str]) -> None:
        import zarr

        group = zarr.open_group(self.path, mode="r")
        keys = np.ascontiguousarray(group["keys"][:]).view("S16").reshape(-1)
        order = np.argsort(keys)
        self.place = order[np.searchsorted(keys[order], as_keys(digests))]
        self.rows = group["rows"]

    def read(self, wanted: np.ndarray) -> np.ndarray:
        if self.kind.row_bytes < 2**16:
            return self.rows.oindex[self.place[wanted]]
        return np.stack([self.rows[number] for number in self.place[wanted].tolist()])  # six times as fast for maps


OPTIONS: dict[str, Any] = {"shards": Shards, "sqlite": SQLite, "lmdb": LMDB, "zarr": Zarr}


def refuse(positions: np.ndarray) -> list[np.ndarray]:
    raise LookupError(f"{len(positions)} rows are missing")


def read_maps(maps: list[np.ndarray], place: np.ndarray, kind: Kind) -> np.ndarray:
    values = np.empty((len(place), *kind.shape), kind.dtype)
    for number in np.unique(place[:, 0]):
        at = np.flatnonzero(place[:, 0] == number)
        values[at] = maps[number][place[at, 1]]
    return values


def write(option: Any, count: int, part: int = 0, parts: int = 1) -> None:
    """Write every `parts`-th shard."""
    keys, values = as_keys(digests_of(count)), values_of(option.kind)
    for start in range(part * SHARD_ROWS, count, parts * SHARD_ROWS):
        some = keys[start : start + SHARD_ROWS]
        option.write(start, some, values[: len(some)])


def peak_megabytes() -> float:
    """Resident memory at its peak, pages of files included; `ru_maxrss` begins at that of the parent process."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000


def time_open(option: Any, count: int) -> list[float]:
    """Seconds from a list of digests to the first batch, and peak MB of memory after and before it."""
    digests = digests_of(count)
    random.Random(3).shuffle(digests)
    before = peak_megabytes()
    started = time.perf_counter()
    option.open(digests)
    option.read(positions(count)[0])
    return [time.perf_counter() - started, peak_megabytes(), before]


class Bench:
    """The sides of all comparisons over one work directory."""

    def __init__(self, work: Path):
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.log = work, Log(work / "log.json")

    def start(self, *task: Any) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--work", str(self.work), "--task", *map(str, task)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def filled(self, name: str, count: int) -> Shards:
        """The store of all rows, as large shards."""
        option = Shards(self.work / "store", KINDS[name], count)
        option.store.refresh()
        if len(option.store.keys) != count:
            shutil.rmtree(option.store.path, ignore_errors=True)
            option = Shards(self.work / "store", KINDS[name], count)
            write(option, count)
            option.finish()
        return option

    def openings(self, point: str, name: str, count: int, **paths: Path) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds and MB that opening each option takes in a process of its own."""
        told: dict[tuple[str, int], list[str]] = {}

        def measured(option: str, which: int, number: int) -> float:
            if (option, number) not in told:
                told[option, number] = self.start("open", option, name, count, paths[option]).communicate()[0].split()
            return float(told[option, number][which])

        def side(option: str, which: int) -> Any:
            return lambda number: measured(option, which, number)

        seconds = self.log.turns(f"{point}, s", ROUNDS, **{option: side(option, 0) for option in paths})
        return seconds, self.log.turns(f"{point}, MB", ROUNDS, **{option: side(option, 1) for option in paths})

    def open(self, name: str, count: int) -> None:
        shards = len(self.filled(name, count).store.shard_names())
        seconds, memory = self.openings(f"open {count} {name}", name, count, shards=self.work / "store")
        print(
            f"open: {count} {name} in {shards} shards: {seconds['shards']:.2f} s (goal 2), "
            f"{memory['shards']:.0f} MB at the peak (goal 300), Python, NumPy and the list of digests included"
        )

    def read(self, name: str, count: int) -> None:
        option, kind, batches = self.filled(name, count), KINDS[name], positions(count)
        option.open(digests_of(count))
        shards, place = option.rows.store.shards, option.rows.place[option.rows.each]
        maps = [np.load(option.rows.store.path / f"{shard.name}.rows.npy", mmap_mode="r") for shard in shards]
        memory = np.concatenate([values_of(kind)] * max(1, min(2**30, count * kind.row_bytes) // 2**26))

        def first_time(number: int) -> float:
            again = self.filled(name, count)
            again.open(digests_of(count))
            return per_batch(again.read, batches)

        per_batch(option.read, batches)  # from now on in the page cache, and checked
        found = self.log.turns(
            f"read {count} {name}, microseconds",
            ROUNDS,
            store=lambda _: per_batch(option.read, batches),
            store_first_time=first_time,
            memmap=lambda _: per_batch(lambda batch: read_maps(maps, place[batch], kind), batches),
            memory=lambda _: per_batch(lambda batch: memory[batch % len(memory)], batches),
        )
        print(f"read: batches of {BATCH} of {count} {name}, microseconds: {rounded(found)}")
        for side in ("memmap", "memory"):
            print(f"read: {name}: store / {side} {found['store'] / found[side]:.2f}")

    def options(self, name: str, whole: int) -> None:
        count, kind, root = whole // 10, KINDS[name], self.work / "options"
        there = [option for option in OPTIONS if option in ("shards", "sqlite") or importlib.util.find_spec(option)]
        for missing in OPTIONS.keys() - there:
            print(f"options: left out, as it is not installed: {missing}")
        shutil.rmtree(root, ignore_errors=True)

        def made(option: str) -> Any:
            return OPTIONS[option](root / option, kind, count)

        def written(option: str, processes: int) -> float:
            shutil.rmtree(root / option, ignore_errors=True)
            os.sync()
            made(option).create()
            task = ("write", option, name, count, root / option)
            told = [process.communicate()[0] for process in [self.start(*task, n, processes) for n in range(processes)]]
            return max(map(float, told)) + clock(made(option).finish)

        def writers(processes: int) -> dict[str, float]:
            sides = {option: (lambda _, option=option: written(option, processes)) for option in there}
            return self.log.turns(f"{count} {name} written by {processes}, s", ROUNDS, **sides)

        two, one = writers(2), writers(1)
        for option in there:
            if not (root / option).exists():  # measured in an earlier call
                written(option, 1)
        seconds, megabytes = self.openings(f"{count} {name} opened", name, count, **{o: root / o for o in there})
        opened, batches = {option: made(option) for option in there}, positions(count)
        for each in opened.values():
            each.open(digests_of(count))
            per_batch(each.read, batches)
        sides = {option: (lambda _, each=each: per_batch(each.read, batches)) for option, each in opened.items()}
        read = self.log.turns(f"{count} {name} read, microseconds", ROUNDS, **sides)
        size = {option: disk_bytes(root / option) / (count * kind.row_bytes) for option in there}
        for what, found in (
            ("written by one process, s", one),
            ("written by two processes, s", two),
            ("bytes on disk / bytes of values", size),
            ("opened, s", seconds),
            ("opened, MB at the peak", megabytes),
            (f"random batches of {BATCH}, microseconds", read),
        ):
            print(f"options: {count} {name}: {what}: {rounded(found)}")
        del opened, sides
        shutil.rmtree(root)


def per_batch(read: Callable[[np.ndarray], np.ndarray], batches: np.ndarray) -> float:
    """Microseconds of a batch."""
    started = time.perf_counter()
    for batch in batches:
        read(batch)
    return 1e6 * (time.perf_counter() - started) / len(batches)


def disk_bytes(path: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())


def rounded(found: dict[str, float]) -> dict[str, float]:
    return {side: float(f"{value:.3g}") for side, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--maps", type=int, default=50_000)
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("points", nargs="*", default=["open", "read", "options"])
    asked = parser.parse_args()
    if asked.task:
        what, option, name, count, path, *part = asked.task
        made = OPTIONS[option](Path(path), KINDS[name], int(count))
        if what == "write":
            print(clock(lambda: write(made, int(count), *map(int, part))))
        else:
            print(*time_open(made, int(count)))
        return
    bench = Bench(asked.work)
    for point in asked.points:
        for name, count in {"pooled": asked.rows, "maps": asked.maps}.items():
            getattr(bench, point)(name, count)


if __name__ == "__main__":
    main()
