"""The cache on disk: room for what is needed, eviction of what was not used for longest, what older versions left."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from vggft.caching.cache import TAG, Cache
from vggft.caching.kinds import Kind
from vggft.caching.store import SHARD_ROWS
from vggft.errors import CacheError, ConfigError

ROWS, WIDTH = 3 * SHARD_ROWS + 17, 5


def kind(name: str = "a", width: int = WIDTH) -> Kind:
    return Kind("features", {"name": name}, (width,), "float32")


def digests(count: int = ROWS) -> list[str]:
    return [f"{number:032x}" for number in range(count)]


def compute(positions: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(positions[:, None], WIDTH, axis=1).astype("float32")]


def names(cache: Cache) -> set[str]:
    return {store.kind.parts["name"] for store in cache.stores()}


def test_rows_are_in_the_order_of_the_digests(tmp_path: Path) -> None:
    (rows,) = Cache(tmp_path).fill([kind()], digests(), compute)
    np.testing.assert_array_equal(np.asarray(rows)[:, 0], np.arange(ROWS))
    (rows,) = Cache(tmp_path).fill([kind()], digests()[::-3], lambda positions: pytest.fail("computed again"))
    np.testing.assert_array_equal(np.asarray(rows)[:, 0], np.arange(ROWS)[::-3])


def test_damage_is_counted_and_the_next_fill_mends_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.fill([kind()], digests(), compute)
    assert [(rows, bad) for _, rows, bad in cache.verify()] == [(ROWS, 0)]
    file = sorted(tmp_path.glob("features/*/*.rows.npy"))[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 4
    file.write_bytes(content)
    assert [(rows, bad) for _, rows, bad in cache.verify()] == [(ROWS, 1)]
    (rows,) = cache.fill([kind()], digests(), compute)
    np.testing.assert_array_equal(np.asarray(rows)[:, 0], np.arange(ROWS))
    assert [(rows, bad) for _, rows, bad in cache.verify()] == [(ROWS, 0)]


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"needs 400\.00 GB") as caught:
        Cache(tmp_path).fill([kind(width=10**9)], digests(100), compute)
    assert "VGGFT_CACHE_DIR" in str(caught.value)
    assert not list(tmp_path.glob("features/*/*"))


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    probe = Cache(tmp_path / "probe")
    probe.fill([kind()], digests(), compute)
    one = sum(part.size for part in probe.parts())
    cache = Cache(tmp_path / "cache", max_size=int(2.5 * one))
    for name in ("a", "b", "a", "c"):
        cache.fill([kind(name)], digests(), compute)
        for part in cache.parts():  # as if a minute had gone by
            os.utime(part.files[0], (part.used - 60,) * 2)
    cache.prune(int(2.5 * one))
    assert {"a", "c"} <= names(cache)
    cache.fill([kind("a")], digests(), lambda positions: pytest.fail("evicted although it was in use"))
    assert cache.prune(0) >= 2 * one and not cache.parts() and not names(cache)


def old_entry(root: Path) -> Path:
    """Make an entry as version 0.0 did, whose key follows from what its manifest says."""
    told = {"kind": "features", "parts": {"cut": "avg_pool"}, "shape": [10, 5], "dtype": "float64"}
    key = hashlib.sha256(json.dumps([1, told], sort_keys=True).encode()).hexdigest()[:32]
    (entry := root / "features" / key).mkdir(parents=True)
    np.save(entry / "rows.npy", np.zeros((10, 5)))
    (entry / "manifest.json").write_text(json.dumps({"format": 1, **told, "shards": {}}))
    os.utime(entry / "manifest.json", (time.time() - 1000,) * 2)
    return entry


def test_entries_of_older_versions_are_not_read_but_pruned(tmp_path: Path) -> None:
    cache, old = Cache(tmp_path), old_entry(tmp_path)
    (rows,) = cache.fill([kind()], digests(), compute)
    assert np.asarray(rows)[3, 0] == 3 and cache.old_entries() == [old]
    cache.prune(sum(part.size for part in cache.parts()) - 1)
    assert not old.exists() and names(cache) == {"a"}


def test_what_others_have_put_into_the_directory_is_never_deleted(tmp_path: Path) -> None:
    """A cache once took every */*/manifest.json below it for an entry of its own, and deleted its folder."""
    root, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    old = old_entry(elsewhere)
    for place in (root / "photos" / "2019", root / "features" / "0123", root / "features" / old.name[::-1]):
        place.mkdir(parents=True)
        (place / "precious.jpg").write_text("precious")
        (place / "manifest.json").write_text((old / "manifest.json").read_text())
    (root / "features" / old.name).symlink_to(old)
    (root / "images").symlink_to(elsewhere / "features")
    before = sorted(each for each in tmp_path.rglob("*") if each.is_file())
    assert Cache(root).prune(0) == 0  # of a directory that no cache has been in
    cache = Cache(root, max_size=20_000)
    for name in ("a", "b", "c"):
        cache.fill([kind(name)], digests(), compute)
    (store,) = (store for store in cache.stores() if store.kind.parts["name"] == "c")
    (store.path / "notes.txt").write_text("precious")
    assert cache.prune(0) and not cache.parts()
    assert sorted(each for each in tmp_path.rglob("*") if each.is_file()) == sorted(
        [*before, root / TAG, store.path / "notes.txt"]
    )


def test_what_the_cache_cannot_take_is_kept_in_memory_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    cache = Cache(tmp_path / "cache")
    with pytest.warns(UserWarning, match=r"cannot be written.* VGGFT_CACHE_DIR .* keeps in memory") as told:
        for _ in range(2):
            (rows,) = cache.fill([kind()], digests(), compute)
            np.testing.assert_array_equal(np.asarray(rows)[:, 0], np.arange(ROWS))
    assert len(told) == 1
    monkeypatch.setattr("vggft.caching.cache.INSTEAD", 0)
    with pytest.raises(CacheError, match="VGGFT_CACHE_DIR"):
        cache.fill([kind()], digests(), compute)


def test_an_error_of_what_is_computed_is_not_one_of_the_cache(tmp_path: Path) -> None:
    def fail(positions: np.ndarray) -> list[np.ndarray]:
        raise OSError("the images are gone")

    with pytest.raises(OSError, match=r"^the images are gone$"):
        Cache(tmp_path).fill([kind()], digests(), fail)


def test_a_clock_that_was_set_back_does_not_evict_what_is_in_use(tmp_path: Path) -> None:
    probe = Cache(tmp_path / "probe")
    probe.fill([kind()], digests(), compute)
    one = sum(part.size for part in probe.parts())
    cache = Cache(tmp_path / "cache", max_size=int(1.5 * one))
    cache.fill([kind("a")], digests(), compute)
    for file in (tmp_path / "cache").rglob("*.npy"):
        os.utime(file, (time.time() + 9e6,) * 2)
    cache.fill([kind("b")], digests(), compute)
    cache.prune(one)  # which is done while rows are written, and would else evict these for ever
    assert not len(cache.missing(kind("b"), digests())) and len(cache.missing(kind("a"), digests())) == ROWS


def test_the_directory_may_begin_with_a_tilde_and_needs_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VGGFT_CACHE_DIR", "~/cache")
    assert Cache().root == tmp_path / "cache"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user that no list of users has, as in a container
    with pytest.raises(ConfigError, match="HOME is not set"):
        Cache()
