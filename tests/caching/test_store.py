"""Rows by digest: never a wrong one, whoever writes, whatever is killed or damaged meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggft import run
from vggft.caching.kinds import Kind, as_keys
from vggft.caching.rows import Rows, fill
from vggft.caching.store import SHARD_ROWS, Store

COUNT = 3 * SHARD_ROWS + 17


def digests_of(numbers: Any) -> list[str]:
    return [hashlib.blake2b(f"image {number}".encode(), digest_size=16).hexdigest() for number in numbers]


def truth(numbers: Any, width: int = 5) -> np.ndarray:
    """The true row of each image follows from its number."""
    return np.stack([np.random.default_rng(int(number)).normal(size=width) for number in numbers]).astype("float32")


def kind(name: str = "a", width: int = 5, dtype: str = "float32") -> Kind:
    return Kind("features", {"name": name}, (width,), dtype)


class Compute:
    """Gives the true rows of some images, and remembers which it was asked for."""

    def __init__(self, numbers: Any, *widths: int):
        self.numbers, self.widths, self.asked = np.asarray(numbers), widths or (5,), []

    def __call__(self, positions: np.ndarray) -> list[np.ndarray]:
        self.asked += self.numbers[positions].tolist()
        return [truth(self.numbers[positions], width) for width in self.widths]


def filled(root: Path, numbers: Any, *kinds: Kind, computed: Any = None) -> list[Any]:
    """The rows of these images are the true ones; `computed` are those that had to be computed."""
    kinds = kinds or (kind(),)
    compute = Compute(numbers, *(each.shape[0] for each in kinds))
    found = fill([Store(root, each) for each in kinds], digests_of(numbers), compute)
    for rows, each in zip(found, kinds, strict=True):
        np.testing.assert_array_equal(rows, truth(numbers, each.shape[0]).astype(each.dtype))
    if computed is not None:
        assert sorted(compute.asked) == sorted(computed)
    return found


def test_any_subset_order_and_superset_finds_what_is_there(tmp_path: Path) -> None:
    filled(tmp_path, range(100), computed=range(100))
    filled(tmp_path, range(100), computed=[])
    filled(tmp_path, [70, 3, 3, 99, 0], computed=[])
    filled(tmp_path, range(50, 120), computed=range(100, 120))
    filled(tmp_path, [200, 200, 200], computed=[200])


def test_several_kinds_in_one_pass_and_only_what_is_missing_of_any(tmp_path: Path) -> None:
    filled(tmp_path, range(40), kind("a"), computed=range(40))
    filled(tmp_path, range(60), kind("b", 3, "float16"), kind("a"), computed=range(60))
    filled(tmp_path, range(60), kind("a"), computed=[])


def test_other_kinds_are_other_rows(tmp_path: Path) -> None:
    filled(tmp_path, range(10))
    for other in (kind("b"), kind(width=4), kind(dtype="float16")):
        filled(tmp_path, range(10), other, computed=range(10))


def test_values_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, kind(dtype="float16"))
    with pytest.raises(OverflowError, match="do not fit into float16"):
        fill([store], digests_of([1]), lambda positions: [np.full((1, 5), 1e9)])
    assert not list(tmp_path.rglob("*.npy"))


def shards(root: Path) -> list[Path]:
    return sorted(root.glob("features/*/*.rows.npy"))


@pytest.mark.parametrize("at_positions", [True, False])
def test_large_rows_stay_on_disk_and_are_read_as_they_are_asked_for(
    tmp_path: Path, monkeypatch: Any, at_positions: bool
) -> None:
    monkeypatch.setattr("vggft.caching.rows.IN_MEMORY", 0)
    if not at_positions:
        monkeypatch.delattr(os, "preadv", raising=False)
    (rows,) = filled(tmp_path, range(COUNT))
    assert isinstance(rows, Rows) and rows.shape == (COUNT, 5) and len(shards(tmp_path)) == 4
    for index in (3, slice(5, 300, 7), np.array([[700, 1], [1, 0]]), np.arange(COUNT) % 3 == 0, []):
        np.testing.assert_array_equal(rows[index], truth(range(COUNT))[index])


def test_a_damaged_row_is_found_and_computed_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vggft.caching.rows.IN_MEMORY", 0)
    filled(tmp_path, range(COUNT), computed=range(COUNT))
    file = shards(tmp_path)[1]
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # of the last row of a shard
    file.write_bytes(data)
    compute = Compute(range(COUNT))
    (rows,) = fill([Store(tmp_path, kind())], digests_of(range(COUNT)), compute)
    np.testing.assert_array_equal(rows[:], truth(range(COUNT)))
    assert len(compute.asked) == 1


def test_evicted_while_in_use_it_is_computed_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vggft.caching.rows.IN_MEMORY", 0)
    (rows,) = filled(tmp_path, range(50))
    shutil.rmtree(tmp_path)
    np.testing.assert_array_equal(rows[[4, 2]], truth([4, 2]))


def test_small_shards_are_merged(tmp_path: Path) -> None:
    for start in range(0, 40, 4):
        filled(tmp_path, range(start, start + 4))
    store = Store(tmp_path, kind())
    assert len(shards(tmp_path)) == 10 and store.compact() == 10 and len(shards(tmp_path)) == 1
    filled(tmp_path, range(40), computed=[])


def test_copies_are_dropped_but_never_the_only_intact_one(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vggft.caching.store.SMALL", 0)  # only because of the copies
    monkeypatch.setattr("vggft.caching.store.LARGE", 20 * kind().row_bytes)  # more than one new shard
    keys, store = as_keys(digests_of(range(50))), Store(tmp_path, kind())
    for some in (range(20), range(10, 30), range(25, 45), range(20)):
        store.append(keys[list(some)], truth(some))
    file = shards(tmp_path)[0]
    content = bytearray(file.read_bytes())
    content[-6:] = b"\0" * 6
    file.write_bytes(content)
    assert store.compact() == 4
    store.refresh()
    assert len(store.keys) in (44, 45) and len(np.unique(store.keys)) == len(store.keys) and store.verify().all()
    assert not store.compact()
    filled(tmp_path, range(45))


COMPACTING = """
import os, signal, sys, time
sys.path[:0] = [sys.argv[3]]
from test_store import Path, Store, kind
import vggft.caching.store
root, start, die_at, steps = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[4]), [0]
vggft.caching.store.LARGE = 100 * kind().row_bytes
def step(function):
    def counted(*arguments, **keywords):
        steps[0] += 1
        if steps[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return counted
os.replace, Path.unlink = step(os.replace), step(Path.unlink)
time.sleep(max(0, start - time.time()))
print(Store(root, kind()).compact())
"""


def compacting(*roots: Path, die_at: Sequence[int], at_once: float = 0.0) -> list[int]:
    """Compact stores in a process each, some of them killed before a step; what the others say they have merged."""
    command, start = [sys.executable, "-c", COMPACTING], str(time.time() + at_once)
    processes = [
        subprocess.Popen([*command, str(root), start, str(Path(__file__).parent), str(step)], stdout=subprocess.PIPE)
        for root, step in zip(roots, die_at, strict=True)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [-signal.SIGKILL if step else 0 for step in die_at]
    return [int(each) for each in said if each]


def many_small(root: Path, count: int = 1200) -> Store:
    store, keys = Store(root, kind()), as_keys(digests_of(range(count)))
    for part in np.array_split(np.arange(count), 60):
        store.append(keys[part], truth(part))
    return store


def test_processes_that_compact_at_the_same_moment_leave_each_row_once(tmp_path: Path) -> None:
    many_small(tmp_path)
    assert max(compacting(*[tmp_path] * 3, die_at=[0, 0, 0], at_once=2.5)) >= 60
    (store := Store(tmp_path, kind())).refresh()
    assert len(store.keys) == 1200
    filled(tmp_path, range(1200), computed=[])
    assert not list((tmp_path / "features").glob("claims/*"))


def test_killed_while_compacting_no_row_is_lost_and_the_next_leaves_each_once(tmp_path: Path) -> None:
    steps = (1, 4, 7, 30)  # before the first shard is written, between its files, while old ones are removed
    roots = [tmp_path / str(step) for step in steps]
    for root in roots:
        many_small(root)
    compacting(*roots, die_at=steps)
    for root in roots:
        filled(root, range(1200), computed=[])
        (store := Store(root, kind())).compact()
        assert len(store.keys) == 1200 and store.verify().all()


def test_a_lack_of_file_descriptors_is_not_taken_for_damage(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    store = many_small(tmp_path)
    store.refresh()
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        for work in (store.verify, Store(tmp_path, kind()).refresh, lambda: store.rewrite(range(60))):
            with pytest.raises(OSError, match="Too many open files"):
                work()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    filled(tmp_path, range(1200), computed=[])


def test_few_files_are_open_and_none_when_nobody_reads(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vggft.caching.store.MOST_OPEN", 5)
    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are counted in /proc/self/fd")

    def of_shards() -> int:
        return sum("rows.npy" in str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink())

    store = many_small(tmp_path)
    store.refresh()
    assert store.verify().all() and of_shards() == 5
    del store
    assert of_shards() == 0


READING = """
import sys
import numpy as np
from pathlib import Path
from vggft.caching.kinds import Kind
from vggft.caching.store import Store
def peak():  # with pages of files; ru_maxrss begins at that of the parent process
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
store = Store(Path(sys.argv[1]), Kind("features", {}, (64, 1024), "float32"))
store.refresh()
store.read(store.keys[:8], store.place[:8])
before = peak()
for part in np.array_split(np.random.default_rng(0).permutation(len(store.keys)), len(store.keys) // 8):
    assert store.read(store.keys[part], store.place[part])[1].all()
print(peak() - before)
"""


def test_memory_does_not_grow_with_what_was_read(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc/self/status")
    store, rows = Store(tmp_path, Kind("features", {}, (64, 1024), "float32")), np.ones((64, 64, 1024), "float32")
    for start in range(0, 640, 64):  # 168 MB
        store.append(as_keys(digests_of(range(start, start + 64))), rows)
    found = subprocess.run(
        [sys.executable, "-c", READING, str(tmp_path)], check=True, capture_output=True, text=True, timeout=120
    )
    assert int(found.stdout) < 20_000  # kB


class Killed(BaseException):
    """As a kill is: nothing that is written after it happens."""


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_never_a_wrong_row(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Random images with duplicates, orders and subsets; kills before any step of a write or a merge; flipped bits."""
    root = tmp_path_factory.mktemp("store")
    numbers = st.lists(st.integers(0, 60), min_size=1, max_size=60)
    for _ in range(data.draw(st.integers(1, 5))):
        act = data.draw(st.sampled_from(["fill", "killed", "flipped", "cut", "compact"]))
        files = sorted(root.rglob("*.npy"))
        if act == "killed":
            die_at, steps = data.draw(st.integers(0, 8)), [0]

            def step(function: Any, die_at: int = die_at, steps: list[int] = steps) -> Any:
                def counted(*arguments: Any, **keywords: Any) -> Any:
                    steps[0] += 1
                    if steps[0] > die_at:
                        raise Killed
                    return function(*arguments, **keywords)

                return counted

            def unlink(file: Path, missing_ok: bool = False, real: Any = Path.unlink, step: Any = step) -> None:
                shard = file.name.endswith(".npy") and not file.name.startswith(".")
                (step(real) if shard else real)(file, missing_ok)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(run.os, "replace", step(os.replace))
                patch.setattr(run.os, "fsync", step(os.fsync))
                patch.setattr(np, "save", step(np.save))
                patch.setattr(Path, "unlink", unlink)
                with suppress(Killed):
                    if data.draw(st.booleans()):
                        filled(root, data.draw(numbers))
                    Store(root, kind()).compact()
        elif act in ("flipped", "cut"):  # drawn as shares, since names and sizes of files differ from run to run
            which, where, bit = data.draw(st.tuples(st.floats(0, 0.99), st.floats(0, 0.9999), st.integers(0, 7)))
            if files:
                file = files[int(which * len(files))]
                content = bytearray(file.read_bytes())
                at = int(where * len(content))
                if act == "flipped" and content:
                    content[at] ^= 1 << bit
                file.write_bytes(content if act == "flipped" else content[:at])
        elif act == "compact":
            Store(root, kind()).compact()
        filled(root, data.draw(numbers))


WORKER = """
import sys, time
sys.path[:0] = [sys.argv[3]]
import numpy as np
from test_store import Store, Compute, digests_of, fill, kind, truth
from pathlib import Path
root, seconds = Path(sys.argv[1]), float(sys.argv[2])
class Slow(Compute):
    def __call__(self, positions):
        time.sleep(seconds * len(positions))
        with (root / f"asked.{sys.argv[4]}").open("a") as file:
            file.write("".join(f"{self.numbers[position]}\\n" for position in positions))
        return super().__call__(positions)
(rows,) = fill([Store(root, kind())], digests_of(range(1500)), Slow(range(1500)))
np.testing.assert_array_equal(rows, truth(range(1500)))
"""


def worker(root: Path, name: str, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(root), str(seconds), str(Path(__file__).parent), name])


def asked(root: Path) -> list[int]:
    return [int(line) for file in root.glob("asked.*") for line in file.read_text().splitlines()]


def test_two_processes_share_one_cold_store(tmp_path: Path) -> None:
    workers = [worker(tmp_path, name, 0.002) for name in "ab"]
    assert [each.wait(120) for each in workers] == [0, 0]
    assert set(asked(tmp_path)) == set(range(1500)) and len(asked(tmp_path)) <= 1.1 * 1500
    assert not list((tmp_path / "features").glob("claims/*/*"))


@pytest.mark.slow
def test_one_of_two_is_killed_and_the_other_ends_with_all_rows(tmp_path: Path) -> None:
    first, second = worker(tmp_path, "a", 0.004), worker(tmp_path, "b", 0.004)
    deadline = time.monotonic() + 60
    while not (tmp_path / "asked.a").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()  # until its parent has taken note, a dead process is still there
    assert second.wait(120) == 0
    assert len(asked(tmp_path)) <= 1500 + 2 * SHARD_ROWS  # no more than what was in hand is done twice
    filled(tmp_path, range(1500), computed=[])


def test_a_claim_of_another_machine_counts_until_it_shows_no_sign_of_life(tmp_path: Path) -> None:
    from vggft.caching.claims import Claims
    from vggft.caching.pulse import STALE

    with Claims(tmp_path / "claims") as claims:
        other = tmp_path / "claims" / "005"
        other.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
        positions, buckets = np.arange(3), np.array([5, 5, 6])
        assert claims.take(positions, buckets, 10).tolist() == [2]
        os.utime(other, (time.time() - 2 * STALE,) * 2)
        assert claims.take(positions, buckets, 10).tolist() == [0, 1]


@pytest.mark.parametrize("can_ask", [True, False])
def test_a_dead_process_is_only_asked_for_where_asking_does_not_interrupt(
    can_ask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows the signal 0 is Ctrl-C, so that a claim counts there until it shows no sign of life."""
    from vggft.caching import claims

    asked_for = list[tuple[int, int]]()

    def kill(pid: int, number: int) -> None:
        asked_for.append((pid, number))
        raise ProcessLookupError

    monkeypatch.setattr(claims, "CAN_ASK", can_ask)
    monkeypatch.setattr(claims.os, "kill", kill)
    with claims.Claims(tmp_path / "claims") as mine:
        (tmp_path / "claims" / "005").write_text(json.dumps({"host": platform.node(), "pid": 12345}))
        assert len(mine.take(np.arange(2), np.array([5, 5]), 10)) == (2 if can_ask else 0)
    assert asked_for == ([(12345, 0)] if can_ask else [])


def test_what_is_computed_at_once_fits_into_a_batch(tmp_path: Path) -> None:
    """Images are claimed by parts of their digests, some of which several images share."""
    small, rng, sizes = Kind("features", {}, (4,), "float16"), np.random.default_rng(1), list[int]()

    def compute(positions: np.ndarray) -> list[np.ndarray]:
        sizes.append(len(positions))
        return [np.zeros((len(positions), 4), "float16")]

    fill([Store(tmp_path, small)], [rng.bytes(16).hex() for _ in range(3000)], compute, at_once=32)
    assert sum(sizes) == 3000 and max(sizes) <= 32
    assert sum(size < 28 for size in sizes) <= 2  # the last ones


def test_a_million_rows_are_found_in_seconds(tmp_path: Path, monkeypatch: Any) -> None:
    small, rng = Kind("features", {}, (4,), "float16"), np.random.default_rng(0)
    store, keys = Store(tmp_path, small), np.frombuffer(rng.bytes(16 * 1_000_000), "S16")
    for part in np.array_split(np.arange(1_000_000), 8):
        store.append(keys[part], np.zeros((len(part), 4)))
    digests = [keys[i].ljust(16, b"\0").hex() for i in rng.permutation(1_000_000)]
    monkeypatch.setattr("vggft.caching.rows.IN_MEMORY", 0)
    started = time.perf_counter()
    (rows,) = fill([Store(tmp_path, small)], digests, lambda positions: pytest.fail("computed again"))
    assert len(rows) == 1_000_000 and rows[::40_000].shape == (25, 4)
    assert time.perf_counter() - started < 5  # 1 s where nothing else runs
