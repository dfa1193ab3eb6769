"""The cache on disk: never a wrong row, whatever happened to the files or the process that wrote them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggft.cache import SHARD_ROWS, Cache, Spec
from vggft.errors import CacheError

ROWS = 3 * SHARD_ROWS + 17


def spec(name: str = "a", rows: int = ROWS, width: int = 5, dtype: str = "float32") -> Spec:
    return Spec("features", {"name": name}, (rows, width), dtype)


def truth(rows: int = ROWS, width: int = 5) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(rows, width)).astype("float32")


class Compute:
    """Gives the true rows, and remembers which it was asked for."""

    def __init__(self, *arrays: np.ndarray):
        self.arrays, self.asked = arrays, []

    def __call__(self, start: int, stop: int) -> list[np.ndarray]:
        self.asked.append(start // SHARD_ROWS)
        return [array[start:stop] for array in self.arrays]


def filled(root: Path, *, repaired: list[int]) -> None:
    """The rows are the true ones, and exactly these shards had to be computed."""
    compute = Compute(truth())
    (rows,) = Cache(root).fill([spec()], compute)
    np.testing.assert_array_equal(rows, truth())
    assert compute.asked == repaired


def entry(root: Path) -> Path:
    (manifest,) = root.glob("features/*/manifest.json")
    return manifest.parent


def test_rows_are_computed_once(tmp_path: Path) -> None:
    filled(tmp_path, repaired=[0, 1, 2, 3])
    filled(tmp_path, repaired=[])
    (rows,) = Cache(tmp_path).fill([spec()], Compute())
    assert isinstance(rows, np.memmap) and not rows.flags.writeable


def test_several_entries_in_one_pass_and_only_what_is_missing(tmp_path: Path) -> None:
    filled(tmp_path, repaired=[0, 1, 2, 3])
    compute = Compute(truth() + 1, truth())
    b, a = Cache(tmp_path).fill([spec("b", dtype="float16"), spec()], compute)
    assert compute.asked == [0, 1, 2, 3]
    np.testing.assert_array_equal(a, truth())
    np.testing.assert_array_equal(b, (truth() + 1).astype("float16"))


@pytest.mark.parametrize("change", [{"name": "b"}, {"rows": ROWS - 1}, {"width": 4}, {"dtype": "float16"}])
def test_whatever_the_values_depend_on_makes_another_entry(tmp_path: Path, change: dict) -> None:
    other = spec(**change)
    Cache(tmp_path).fill([spec()], Compute(truth()))
    compute = Compute(truth(*other.shape))
    (rows,) = Cache(tmp_path).fill([other], compute)
    assert compute.asked and rows.shape == other.shape and rows.dtype == other.dtype


@settings(max_examples=25, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_and_its_shard_computed_again(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
) -> None:
    root = tmp_path_factory.mktemp("cache")
    filled(root, repaired=[0, 1, 2, 3])
    data = bytearray((entry(root) / "rows.npy").read_bytes())
    size = truth().nbytes
    at = int(where * size)
    data[len(data) - size + at] ^= 1 << bit
    (entry(root) / "rows.npy").write_bytes(data)
    shard = at // (SHARD_ROWS * 5 * 4)
    assert [bad for _, bad in Cache(root).verify()] == [[shard]]
    filled(root, repaired=[shard])
    assert [bad for _, bad in Cache(root).verify()] == [[]]


@pytest.mark.parametrize("left", [0, 50, 128, 3000, 10_000])
def test_a_truncated_file_is_computed_again(tmp_path: Path, left: int) -> None:
    filled(tmp_path, repaired=[0, 1, 2, 3])
    with (entry(tmp_path) / "rows.npy").open("r+b") as file:
        file.truncate(left)
    filled(tmp_path, repaired=[0, 1, 2, 3])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", None])
def test_a_manifest_that_is_damaged_or_of_another_version_is_not_believed(tmp_path: Path, text: str | None) -> None:
    filled(tmp_path, repaired=[0, 1, 2, 3])
    manifest = entry(tmp_path) / "manifest.json"
    older = json.dumps({**json.loads(manifest.read_text()), "format": 0})
    manifest.write_text(older if text is None else text)
    filled(tmp_path, repaired=[0, 1, 2, 3])


SLOW = """
import sys, time
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_cache import Compute, spec, truth
from vggft.cache import Cache
class Slow(Compute):
    def __call__(self, start, stop):
        time.sleep(float(sys.argv[3]))
        return super().__call__(start, stop)
compute = Slow(truth())
(rows,) = Cache(sys.argv[1]).fill([spec()], compute)
assert np.array_equal(rows, truth())
print(len(compute.asked))
"""


def start(root: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(root), str(Path(__file__).parent), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_was_written_before_a_kill_counts(tmp_path: Path) -> None:
    process = start(tmp_path, 0.3)
    deadline = time.monotonic() + 60
    done: list[str] = []
    while len(done) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        done = [
            shard
            for path in tmp_path.glob("features/*/manifest.json")
            for shard in json.loads(path.read_text())["shards"]
        ]
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    compute = Compute(truth())
    (rows,) = Cache(tmp_path).fill([spec()], compute)
    np.testing.assert_array_equal(rows, truth())
    assert compute.asked in ([2, 3], [3])


def test_two_processes_that_want_one_entry_compute_it_once(tmp_path: Path) -> None:
    both = [start(tmp_path, 0.1) for _ in range(2)]
    asked = [int(process.communicate(timeout=120)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0] and sorted(asked) == [0, 4]


def test_values_that_do_not_fit_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(OverflowError, match="do not fit into float16"):
        Cache(tmp_path).fill([spec(dtype="float16")], Compute(truth() * 1e6))


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"needs 4000000\.00 GB") as caught:
        Cache(tmp_path).fill([spec(rows=10**9, width=10**6)], Compute())
    assert "VGGFT_CACHE_DIR" in str(caught.value)
    assert not list(tmp_path.glob("features/*/*"))


def test_the_longest_unused_make_room(tmp_path: Path) -> None:
    one = truth().nbytes
    cache = Cache(tmp_path, max_size=int(2.5 * one))
    for name in ("a", "b", "a", "c"):
        cache.fill([spec(name)], Compute(truth()))
        time.sleep(0.02)
    names = {json.loads((path / "manifest.json").read_text())["parts"]["name"] for path, _, _ in cache.entries()}
    assert names == {"a", "c"}
    assert cache.prune(0) >= 2 * one and not cache.entries()
