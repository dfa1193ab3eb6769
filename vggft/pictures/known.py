"""What is known of a picture before it is decoded: a digest of its content, and its values. The cache keeps both."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..caching.cache import Cache
from ..caching.kinds import Kind, as_keys
from ..caching.rows import MOST_SMALL
from ..caching.store import Store
from ..errors import DataError, counted, some
from ..files.opening import open_file
from .arrays import ArrayImage, StreamImage, in_threads, values_in
from .decoding import open_raw
from .formats import BOMB_PIXELS
from .ranges import Values, note, settle
from .reading import Reading

UNREADABLE = "0" * 32  # in place of the digest of content that cannot be read

CONTENTS = Kind("contents", {"digest": "BLAKE2b"}, (16,), "uint8")  # of files, by the digest of path and `os.stat`
RACY = 2.0  # seconds; a file that was modified later than this before its `os.stat` may change and keep its time
REMEMBERED_AT_ONCE = 10_000  # files; what a killed process has to read again at most


def contents_of(images: Sequence[Any], cache: Cache, on_image: Callable[[], object] = lambda: None) -> list[str]:
    """Return a digest of the content of every image, 32 hexadecimal digits.

    A file whose path, size, modification time, inode and device are those of an earlier time is not read: the cache
    keeps the digests of files. With `VGGFT_CACHE_CHECK=1` in the environment all files are read, and digests that are
    no longer right are replaced.

    `on_image` is called once per image.
    """
    found = [image.content if isinstance(image, StreamImage) else "" for image in images]
    known = {row: state for row, image in enumerate(images) if isinstance(image, Path) and (state := _state(image))}
    store, keys = Store(cache.root, CONTENTS), as_keys(list(known.values()))
    if os.environ.get("VGGFT_CACHE_CHECK", "0") in ("", "0"):
        with suppress(OSError):  # without the digests that the cache keeps, files are only read again
            store.refresh()
            store.touch(place := store.locate(keys))
            for row, content, good in zip(known, *store.read(keys, place), strict=True):
                found[row] = content.tobytes().hex() if good else ""
    for _ in filter(None, found):
        on_image()
    left = [row for row, content in enumerate(found) if not content]
    for start in range(0, len(left), REMEMBERED_AT_ONCE):
        rows = left[start : start + REMEMBERED_AT_ONCE]
        for row, content in zip(rows, in_threads(content_of, (images[row] for row in rows), 16), strict=True):
            found[row] = content
            on_image()
        there = [row for row in rows if row in known and found[row] != UNREADABLE]
        new = {known[row]: found[row] for row in there if _state(images[row]) == known[row]}  # not replaced meanwhile
        with suppress(OSError):  # as above
            _remember(new, store, cache)
    return found


def content_of(image: Any) -> str:
    """Return a digest of the content of a file, or of an image in memory before it is resized; or `UNREADABLE`."""
    state = hashlib.blake2b(digest_size=16)
    try:
        if isinstance(image, Path):
            with open_file(image) as file:
                return hashlib.file_digest(file, lambda: state).hexdigest()
        if isinstance(image, bytes):
            return hashlib.blake2b(image, digest_size=16).hexdigest()
        array = np.asarray(image if isinstance(image, ArrayImage) else open_raw(image, Reading(), BOMB_PIXELS).picture)
    except Exception:  # decoding reports it
        return UNREADABLE
    state.update(f"{array.dtype}{array.shape}".encode())
    state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def stamp_of(image: Any) -> tuple[int, ...] | None:
    """Return what changes when a file changes: size, time, inode and device; None if it is no file or not there."""
    if isinstance(image, Path):
        with suppress(OSError):
            told = image.stat()
            return told.st_size, told.st_mtime_ns, told.st_ino, told.st_dev
    return None


def check_unchanged(images: Sequence[Any], rows: Iterable[int], stamps: Sequence[tuple[int, ...] | None]) -> None:
    """Raise `DataError` if files were changed or removed since their stamps were taken, as their digests were."""
    changed = [row for row in rows if stamps[row] is not None and stamp_of(images[row]) != stamps[row]]
    if changed:
        told = [f"{images[row]} {'was changed' if images[row].exists() else 'was removed'}" for row in changed]
        raise DataError(
            f"Files were changed while they were read: {some(told, limit=5)}. Start again when nothing writes to them."
        )


def _state(path: Path) -> str:
    """Return a digest of path and stamp; "" if the file is too new, or not there, to rely on it."""
    stamp = stamp_of(path)
    if stamp is None or stamp[1] / 1e9 > time.time() - RACY:
        return ""
    state = hashlib.blake2b(os.fsencode(os.path.abspath(path)), digest_size=16)  # noqa: PTH100, links stay
    state.update(repr(stamp).encode())
    return state.hexdigest()


def _remember(contents: dict[str, str], store: Store, cache: Cache) -> None:
    """Write the digests of files by their states; if one there is wrong or damaged, all of them are forgotten first."""
    keys = as_keys(list(contents))
    values = np.frombuffer(bytes.fromhex("".join(contents.values())), "u1").reshape(-1, 16)
    store.refresh()
    held, good = store.read(keys, place := store.locate(keys))
    if ((place[:, 0] >= 0) & ~(good & (held == values).all(axis=1))).any():
        store.clear()
        store.refresh()
    if len(new := store.missing(keys)):
        cache.mark()
        cache.make_room(int(new.size) * CONTENTS.row_bytes)
        store.append(keys[new], values[new])
        store.compact(MOST_SMALL)


# Values ---------------------------------------------------------------------------------------------------------------


def look_at(
    images: Sequence[Any],
    reading: Reading,
    cache: Cache | None = None,
    contents: Sequence[str] = (),
    check: Callable[[Iterable[int]], object] = lambda rows: None,
) -> list[Values | None]:
    """Find the values of every image; None for those that cannot be read. Those of files are kept in the cache.

    `check` raises if images are no longer those of `contents`; it is called with their rows before these are kept.
    """
    found: list[Values | None] = [None] * len(images)
    files = [row for row, image in enumerate(images) if cache is not None and isinstance(image, Path)]
    kept = set(files)
    others = [row for row in range(len(found)) if row not in kept]

    def look(row: int) -> Values | None:
        return values_in(images[row], reading)

    for row, values in zip(others, in_threads(look, others, 16), strict=True):
        found[row] = values
    if cache is not None and files:
        about = {"bands": None if reading.bands is None else list(reading.bands), "windows": not reading.clips}
        kind = Kind("values", {"version": 1, **about}, (6,), "float64")

        def compute(rows: np.ndarray) -> list[np.ndarray]:
            seen = list(in_threads(look, (files[row] for row in rows), 16))
            check(files[row] for row in rows)
            return [np.array([_packed(values) for values in seen], np.float64).reshape(-1, 6)]

        (table,) = cache.fill([kind], [contents[row] for row in files], compute)
        for row, packed in zip(files, np.asarray(table[:]).tolist(), strict=True):
            found[row] = _unpacked(packed)
        again = [row for row in files if found[row] is None]  # unreadable once, or a file like it was
        for row, values in zip(again, in_threads(look, again, 16), strict=True):
            found[row] = values
    return found


_KINDS = ("", "bool", "uint8", "integer", "float")


def _packed(values: Values | None) -> tuple[float, ...]:
    if values is None:
        return (0.0,) * 6
    return float(_KINDS.index(values.kind)), values.low, values.high, float(values.whole), *map(float, values.shape)


def _unpacked(packed: Sequence[float]) -> Values | None:
    kind, low, high, whole, height, width = packed
    return Values(_KINDS[int(kind)], low, high, bool(whole), (int(height), int(width))) if kind else None


def decided(images: Sequence[Any], found: Sequence[Values | None], reading: Reading) -> tuple[Reading, tuple[str, ...]]:
    """Decide the ranges that a reading leaves open, by all images; also say what was decided, as notes.

    Raises:
        DataError: streams were read in different ranges.
    """
    streams = {image.reading for image in images if isinstance(image, StreamImage)}
    for name in ("integers", "floats"):
        ranges = {value for each in streams if (value := getattr(each, name)) is not None}
        if len(ranges) > 1:
            told = " and ".join(f"{low:g}..{high:g}" for low, high in sorted(ranges))
            how = "pass value_range=(black, white) (--value-range BLACK,WHITE)"
            raise DataError(f"The splits have {name} of different ranges, {told}: {how}.")
        if ranges and getattr(reading, name) is None:
            reading = replace(reading, **{name: ranges.pop()})
    rows = [row for row, image in enumerate(images) if not isinstance(image, StreamImage)]
    seen = [values for row in rows if (values := found[row]) is not None]
    reading = settle(seen, reading)
    wide = any(values.kind in ("integer", "float") for values in seen)
    in_memory = any(isinstance(images[row], ArrayImage) for row in rows)
    notes = [told] if (wide or in_memory) and (told := note(seen, reading)) else []
    if reading.clips and seen and not wide and not streams:
        low, high = reading.value_range or (0, 255)
        told = f"value_range=({low:g}, {high:g}) (--value-range {low:g},{high:g})"
        notes.append(f"{told} changes nothing: all of these images have 8 bits")
    elif reading.clips and wide:
        low, high = reading.value_range or (0, 255)
        beyond = sum(v.kind in ("integer", "float") and (v.low < low or v.high > high) for v in seen)
        if beyond:
            told = f"values outside value_range become black or white, in {counted(beyond, 'image')}"
            notes.append(told)
    return reading, tuple(notes)
