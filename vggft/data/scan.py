"""Decode the images of a run once: pixels are cached by the content of the images and read from disk as needed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..cache import Cache
from ..errors import DataError
from ..progress import Narrator
from ..rows import MOST_SMALL, Rows, replaced
from ..store import SHARD_ROWS, Kind, Store, as_keys
from .arrays import ArrayImage, in_threads, resize_pixels
from .reading import CACHED_FACTS, FACTS, image_kinds, read_image

BATCH = 4  # number of images that a thread takes at once
UNREADABLE = "0" * 32  # in place of the digest of content that cannot be read

CONTENTS = Kind("contents", {"digest": "BLAKE2b"}, (16,), "uint8")  # of files, by the digest of path and `os.stat`
RACY = 2.0  # seconds; a file that was modified later than this before its `os.stat` may change and keep its time
REMEMBERED_AT_ONCE = 10_000  # files; what a killed process has to read again at most


class Named(Protocol):
    """What is decoded: images, and their names in error messages. A `Dataset` is one."""

    @property
    def images(self) -> Sequence[Any]: ...
    @property
    def names(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, eq=False)
class StreamImage:
    """An image that came in a stream, which cannot be read again; `np.asarray` of it is (S, S, 3) in 0..255.

    Args:
        content: digest of the image before it was resized.
        facts: what is known about it: the fields of `FACTS`.
        dtype: of its pixels: uint8, or float32.
        shape: of its pixels: (S, S, 3).
        row: its number in the stream.
        pixels: returns the pixels of an image by this number, from the cache.
    """

    content: str
    facts: tuple[Any, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row: int
    pixels: Callable[[int], np.ndarray]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.pixels(self.row), dtype)


@dataclass(frozen=True, eq=False)
class Scan:
    """The result of a decoding pass over a `Dataset`.

    Attributes:
        facts: (N,) of dtype `FACTS`: BLAKE2b digest of the resized pixels, which the network sees; width and height of
            the upright original in px; Pillow's pixel format, or the dtype of an array; the file format by content,
            "" for arrays.
        problems: row -> a sentence that names the image and says why it cannot be used.
    """

    facts: np.ndarray
    problems: dict[int, str]

    @property
    def digests(self) -> tuple[str, ...]:
        """The digest of each image, "" if it cannot be read."""
        return tuple(self.facts["digest"].tolist())


def pixel_dtype(images: Sequence[Any], image_size: int) -> np.dtype[Any]:
    """Return the dtype of images at this size: uint8, or float32 for float arrays that need no resizing."""
    arrays = (image for image in images if isinstance(image, (ArrayImage, StreamImage)))
    keeps_floats = any(each.dtype.kind == "f" and each.shape[:2] == (image_size, image_size) for each in arrays)
    return np.dtype(np.float32 if keeps_floats else np.uint8)


def scan(
    dataset: Named,
    image_size: int,
    pixels: np.ndarray | None = None,
    on_image: Callable[[], object] = lambda: None,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Scan:
    """Decode and resize every image once, in threads.

    Args:
        dataset: the images; those of a stream have been decoded already.
        image_size: side S in px that images are squashed to.
        pixels: (N, S, S, 3) uint8 or float32 output array, filled except for the rows in `problems`. Floats are
            rounded if it is uint8; `pixel_dtype` is the dtype that loses nothing.
        on_image: called once per image, from the calling thread.
        rows: of the images to decode, N of them; None for all.
    """
    rows = range(len(dataset.images)) if rows is None else rows

    def read(number: int) -> tuple[Any, ...] | str:
        image = dataset.images[rows[number]]
        if isinstance(image, StreamImage):
            if pixels is not None:
                pixels[number] = np.asarray(image)
            return image.facts
        if isinstance(image, ArrayImage):
            array = np.asarray(image)
            (height, width), mode, format = array.shape[:2], str(array.dtype), ""
            seen = resize_pixels(array, image_size)
        else:
            try:
                decoded = read_image(image, image_size, dataset.names[rows[number]])
            except DataError as error:
                return str(error)
            (width, height), mode, format, seen = decoded.size, decoded.mode, decoded.format, decoded.pixels
        if pixels is not None:
            seen = np.rint(seen) if pixels.dtype.kind == "u" and seen.dtype.kind == "f" else seen
            pixels[number] = seen
        return digest_of(seen), width, height, mode, format

    facts, problems = np.zeros(len(rows), FACTS), {}
    with closing(in_threads(read, range(len(rows)), BATCH)) as results:  # closed early, it starts no further images
        for number, found in enumerate(results):
            if isinstance(found, str):
                problems[number] = found
            else:
                facts[number] = found
            on_image()
    return Scan(facts, problems)


def digest_of(pixels: np.ndarray) -> str:
    """Return the same digest for equal pixels, whether they are uint8 or floats."""
    if pixels.dtype != np.uint8 and np.array_equal(whole := np.rint(pixels), pixels):
        pixels = whole.astype(np.uint8)
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def decode(dataset: Named, image_size: int, cache: Cache, narrator: Narrator) -> tuple[np.ndarray | Rows, Scan]:
    """Decode all images of a dataset, squashed to squares of side S; cached images are not decoded again.

    Images that cannot be read are the exception: they are tried again each time, as the message has to name the file
    as it is called now, and as a decoder for them may have been installed since.

    Returns:
        (N, S, S, 3) uint8 or float32, with zeros for what cannot be read, in memory or read from disk as needed; and
        what was found.

    Raises:
        CacheError: the disk has too little room, or images of a stream have been evicted from the cache.
    """
    with narrator.bar("check the files", len(dataset.images)) as advance:
        contents = contents_of(dataset.images, cache, advance)
    kinds = image_kinds(image_size, pixel_dtype(dataset.images, image_size))
    with narrator.bar("read images", len(contents)) as advance:
        pixels, facts = fill_images(dataset, contents, kinds, cache, on_rows=advance, on_wait=narrator.waiting)
    problems: dict[int, str] = {}
    unread = np.flatnonzero(facts["digest"] == "")
    for start in range(0, len(unread), SHARD_ROWS):
        rows = unread[start : start + SHARD_ROWS]
        again_pixels, again = _decoded(dataset, rows, kinds[0])
        facts[rows] = again.facts
        problems |= {int(rows[number]): problem for number, problem in again.problems.items()}
        if len(found := np.flatnonzero(again.facts["digest"] != "")):
            pixels = replaced(pixels, rows[found], again_pixels[found])
    return pixels, Scan(facts, problems)


def fill_images(
    dataset: Named, contents: Sequence[str], kinds: Sequence[Kind], cache: Cache, **how: Any
) -> tuple[np.ndarray | Rows, np.ndarray]:
    """Return the pixels of images and the facts about them, from the cache or else decoded into it.

    Args:
        dataset: the images.
        contents: the digest of the content of each.
        kinds: what `image_kinds` returned.
        cache: where they are kept.
        how: further arguments of `Cache.fill`.
    """

    def compute(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels, found = _decoded(dataset, rows, kinds[0])
        unread = [i for i, row in enumerate(rows) if contents[row] == UNREADABLE]  # even if it can be read by now
        pixels[unread], found.facts[unread] = 0, np.zeros((), FACTS)
        return pixels, found.facts.astype(CACHED_FACTS)

    pixels, facts = cache.fill(kinds, contents, compute, **how)
    return pixels, np.asarray(facts[:]).astype(FACTS)


def _decoded(dataset: Named, rows: np.ndarray, kind: Kind) -> tuple[np.ndarray, Scan]:
    pixels = np.zeros((len(rows), *kind.shape), kind.dtype)
    return pixels, scan(dataset, kind.shape[0], pixels, rows=rows)


# The content of images ------------------------------------------------------------------------------------------------


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
            with image.open("rb") as file:
                return hashlib.file_digest(file, lambda: state).hexdigest()
        array = np.asarray(image) if isinstance(image, ArrayImage) else read_image(image).pixels
    except (OSError, DataError):  # decoding reports it
        return UNREADABLE
    state.update(f"{array.dtype}{array.shape}".encode())
    state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def _state(path: Path) -> str:
    """Return a digest of what changes when a file changes; "" if the file is too new, or not there, to rely on it."""
    try:
        told = path.stat()
    except OSError:
        return ""
    if told.st_mtime > time.time() - RACY:
        return ""
    state = hashlib.blake2b(os.fsencode(os.path.abspath(path)), digest_size=16)  # noqa: PTH100, links stay
    state.update(repr((told.st_size, told.st_mtime_ns, told.st_ino, told.st_dev)).encode())
    return state.hexdigest()


def _remember(contents: dict[str, str], store: Store, cache: Cache) -> None:
    """Write the digests of files by their states; if one there is wrong or damaged, all of them are forgotten first."""
    keys = as_keys(list(contents))
    values = np.frombuffer(bytes.fromhex("".join(contents.values())), "u1").reshape(-1, 16)
    store.refresh()
    held, good = store.read(keys, place := store.locate(keys))
    if ((place[:, 0] >= 0) & ~(good & (held == values).all(axis=1))).any():
        shutil.rmtree(store.path, ignore_errors=True)
        store.refresh()
    if len(new := store.missing(keys)):
        cache.root.mkdir(parents=True, exist_ok=True)
        cache.make_room(int(new.size) * CONTENTS.row_bytes)
        store.append(keys[new], values[new])
        store.compact(MOST_SMALL)
