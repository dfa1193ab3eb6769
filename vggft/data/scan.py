"""Decode the images of a run once: pixels are cached by the content of the images and read from disk as needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..caching.cache import Cache
from ..caching.kinds import Kind
from ..caching.rows import Rows, replaced
from ..caching.store import SHARD_ROWS
from ..errors import DataError
from ..pictures.arrays import ArrayImage, StreamImage, in_threads
from ..pictures.files import CACHED_FACTS, FACTS, image_kinds, read_image
from ..pictures.formats import UnusableError
from ..pictures.known import UNREADABLE, check_unchanged, contents_of, decided, look_at, stamp_of
from ..pictures.ranges import Values
from ..pictures.reading import AS_IT_IS, SMALL, ImageSize, Reading
from ..telling.progress import Narrator

BATCH = 4  # number of images that a thread takes at once


class Named(Protocol):
    """What is decoded: images, and their names in error messages. A `Dataset` is one."""

    @property
    def images(self) -> Sequence[Any]: ...
    @property
    def names(self) -> Sequence[str]: ...


@dataclass(frozen=True, eq=False)
class Scan:
    """The result of a decoding pass over a `Dataset`.

    Attributes:
        facts: (N,) of dtype `FACTS`: BLAKE2b digest of the resized pixels, which the network sees; width and height of
            the upright original in px; Pillow's pixel format, or the dtype of an array; the file format by content,
            "" for arrays.
        problems: row -> a sentence that names the image and says why it cannot be used.
        reading: how the images were read, with the value ranges that were decided over all of them.
        notes: what was decided, as sentences.
    """

    facts: np.ndarray
    problems: dict[int, str]
    reading: Reading = AS_IT_IS
    notes: tuple[str, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """The digest of each image, "" if it cannot be read."""
        return tuple(self.facts["digest"].tolist())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say how many images have to be enlarged a lot; nothing if there are none."""
        sides = np.minimum(self.facts["width"], self.facts["height"])
        tiny = sides[(self.facts["digest"] != "") & (sides < SMALL)]
        if not len(tiny):
            return ()
        told = f"{len(tiny)} images have" if len(tiny) > 1 else "1 image has"
        return (f"{told} a side below {SMALL} px (the smallest {tiny.min()} px); enlarging adds no detail",)


def pixel_dtype(found: Sequence[Values | None], reading: Reading) -> np.dtype[Any]:
    """Return the dtype of images with these values: uint8, or float32 if there are floats that need no resizing."""
    floats = (each for each in found if each is not None and each.kind == "float")
    return np.dtype(np.float32 if any(each.shape == reading.size for each in floats) else np.uint8)


def scan(
    dataset: Named,
    reading: Reading | ImageSize,
    pixels: np.ndarray | None = None,
    on_image: Callable[[], object] = lambda: None,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Scan:
    """Decode and resize every image once, in threads.

    Args:
        dataset: the images; those of a stream have been decoded already.
        reading: how; a size alone squashes. If all images are decoded, they decide the ranges that it leaves open.
        pixels: (N, height, width, 3) uint8 or float32 output array, filled except for rows in `problems`. Floats are
            rounded if it is uint8; `pixel_dtype` is the dtype that loses nothing.
        on_image: called once per image, from the calling thread.
        rows: of the images to decode, N of them; None for all.
    """
    reading, notes = Reading.of(reading), tuple[str, ...]()
    if rows is None:
        reading, notes = decided(dataset.images, look_at(dataset.images, reading), reading)
    rows = range(len(dataset.images)) if rows is None else rows

    def read(number: int) -> tuple[Any, ...] | str:
        image = dataset.images[rows[number]]
        if isinstance(image, StreamImage):
            if pixels is not None:
                pixels[number] = _as_kept(np.asarray(image), pixels.dtype)
            return image.facts
        if isinstance(image, ArrayImage):
            (height, width), mode, format = image.shape[:2], str(image.dtype), ""
            try:
                seen = image.pixels(reading)
            except UnusableError as error:
                return f"{dataset.names[rows[number]]} {error}."
        else:
            try:
                decoded = read_image(image, reading, dataset.names[rows[number]])
            except DataError as error:
                return str(error)
            (width, height), mode, format, seen = decoded.size, decoded.mode, decoded.format, decoded.pixels
        if pixels is not None:
            pixels[number] = _as_kept(seen, pixels.dtype)
        return digest_of(seen), width, height, mode, format

    facts, problems = np.zeros(len(rows), FACTS), {}
    with closing(in_threads(read, range(len(rows)), BATCH)) as results:  # closed early, it starts no further images
        for number, found in enumerate(results):
            if isinstance(found, str):
                problems[number] = found
            else:
                facts[number] = found
            on_image()
    return Scan(facts, problems, reading, notes)


def _as_kept(seen: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return pixels as an array of a dtype takes them: floats are rounded for integers, not cut."""
    return np.rint(seen) if dtype.kind == "u" and seen.dtype.kind == "f" else seen


def digest_of(pixels: np.ndarray) -> str:
    """Return the same digest for equal pixels, whether they are uint8 or floats."""
    if pixels.dtype != np.uint8 and np.array_equal(whole := np.rint(pixels), pixels):
        pixels = whole.astype(np.uint8)
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def decode(
    dataset: Named, reading: Reading | ImageSize, cache: Cache, narrator: Narrator
) -> tuple[np.ndarray | Rows, Scan]:
    """Decode all images of a dataset at the size of a reading; cached images are not decoded again.

    Images that cannot be read are the exception: they are tried again each time, as the message has to name the file
    as it is called now, and as a decoder for them may have been installed since.

    Args:
        reading: how; the ranges that it leaves open are decided by all of the images.

    Returns:
        (N, height, width, 3) uint8 or float32, with zeros for what cannot be read, in memory or read from disk as
        needed; and what was found.

    Raises:
        CacheError: the disk has too little room, or images of a stream have been evicted from the cache.
        DataError: streams were read in different ranges; or files were changed or removed while they were read.
    """
    stamps = list(map(stamp_of, dataset.images))  # before the digests, under which all that is read is kept

    def check(rows: Iterable[int]) -> None:
        check_unchanged(dataset.images, rows, stamps)

    with narrator.bar("check the files", len(dataset.images)) as advance:
        contents = contents_of(dataset.images, cache, advance)
    values = look_at(dataset.images, Reading.of(reading), cache, contents, check)
    reading, notes = decided(dataset.images, values, Reading.of(reading))
    kinds = image_kinds(reading, pixel_dtype(values, reading))
    with narrator.bar("read images", len(contents)) as advance:
        how: dict[str, Any] = {"on_rows": advance, "on_wait": narrator.waiting, "check": check}
        pixels, facts = fill_images(dataset, contents, kinds, cache, reading, **how)
    problems: dict[int, str] = {}
    unread = np.flatnonzero(facts["digest"] == "")
    for start in range(0, len(unread), SHARD_ROWS):
        rows = unread[start : start + SHARD_ROWS]
        again_pixels, again = _decoded(dataset, rows, kinds[0], reading)
        facts[rows] = again.facts
        problems |= {int(rows[number]): problem for number, problem in again.problems.items()}
        if len(found := np.flatnonzero(again.facts["digest"] != "")):
            pixels = replaced(pixels, rows[found], again_pixels[found])
    return pixels, Scan(facts, problems, reading, notes)


def fill_images(
    dataset: Named,
    contents: Sequence[str],
    kinds: Sequence[Kind],
    cache: Cache,
    reading: Reading,
    check: Callable[[Iterable[int]], object] = lambda rows: None,
    **how: Any,
) -> tuple[np.ndarray | Rows, np.ndarray]:
    """Return the pixels of images and the facts about them, from the cache or else decoded into it.

    Args:
        dataset: the images.
        contents: the digest of the content of each.
        kinds: what `image_kinds` returned.
        cache: where they are kept.
        reading: how they are read.
        check: as for `look_at`.
        how: further arguments of `Cache.fill`.
    """

    def compute(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels, found = _decoded(dataset, rows, kinds[0], reading)
        check(rows.tolist())
        unread = [i for i, row in enumerate(rows) if contents[row] == UNREADABLE]  # even if it can be read by now
        pixels[unread], found.facts[unread] = 0, np.zeros((), FACTS)
        return pixels, found.facts.astype(CACHED_FACTS)

    pixels, facts = cache.fill(kinds, contents, compute, **how)
    return pixels, np.asarray(facts[:]).astype(FACTS)


def _decoded(dataset: Named, rows: np.ndarray, kind: Kind, reading: Reading) -> tuple[np.ndarray, Scan]:
    pixels = np.zeros((len(rows), *kind.shape), kind.dtype)
    return pixels, scan(dataset, reading, pixels, rows=rows)
