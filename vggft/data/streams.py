"""Read a stream of images once, straight into the cache: memory holds a part of it at a time, however long it is.

A `tf.data.Dataset` and a `keras.utils.PyDataset` may shuffle and augment, so a second pass might give other images.
Therefore each image is checked, converted, resized and kept as it comes; labels, digests and facts stay in memory.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..cache import Cache
from ..errors import CacheError, DataError
from ..progress import Narrator
from ..store import Kind, Store, as_keys
from .arrays import ArrayImage, agree, checked_shape, find_range, in_threads, out_of_range, to_pixels
from .reading import image_kinds
from .scan import BATCH, StreamImage, content_of, fill_images, pixel_dtype, scan

# Images are taken in parts of this many, or of this many bytes before conversion. The first part decides for all
# images whether floats are in 0..1 or 0..255, whether uint16 has 8 or 16 bits, and whether pixels are kept as float32.
PART, PART_BYTES = 256, 32 * 2**20


@dataclass(frozen=True)
class Keep:
    """How the images of a stream are kept.

    Args:
        image_size: side in px that they are resized to.
        cache: where their pixels are kept; None keeps only what a scan finds, which is enough for an audit.
        narrator: shows progress while the stream is read.
    """

    image_size: int = 224
    cache: Cache | None = None
    narrator: Narrator = field(default_factory=lambda: Narrator(0))


class Stream(NamedTuple):
    """What came in a stream, in the order of the images' content.

    Args:
        images: N images.
        labels: (N, ...) labels as given.
        values: the ranges of the values, as `arrays.pixel_range` names them.
    """

    images: list[StreamImage]
    labels: np.ndarray
    values: str


def read_stream(batches: Iterable[Any], keep: Keep, count: int | None = None) -> Stream:
    """Read all batches once.

    Args:
        batches: (images, labels): (B, H, W), (B, H, W, C) arrays as `arrays.to_pixels` takes them, and (B, ...) labels.
        keep: where the images are kept and at which size. Floats that have this size stay floats.
        count: the number of batches if it is known, for the progress bar.

    Raises:
        DataError: there are no images, batches have other shapes, or values are out of range; all images with such
            values are listed.
        CacheError: the disk has too little room.
    """
    parts, labels, done = _Parts(keep), [], 0
    with keep.narrator.bar("read the dataset", None) as advance:
        for number, (x, y) in enumerate(_checked(batches), start=1):
            labels.append(y)
            if y.shape[1:] != labels[0].shape[1:]:
                shapes = sorted({y.shape[1:], labels[0].shape[1:]})
                raise DataError(f"Labels must have the same shape in all batches; got {shapes}.")
            parts.add(x)
            done += len(x)
            advance(len(x), total=None if count is None else done + (count - number) * len(x))
        parts.flush()
    if parts.bad:
        raise out_of_range(parts.bad_dtype, parts.bad)
    if not done:
        raise DataError("There are no images: the dataset is empty.")
    given = np.concatenate(labels)
    order = sorted(range(done), key=lambda row: (parts.order[row], repr(np.asarray(given[row]).tolist())))
    images = parts.images()
    return Stream([images[row] for row in order], given[order], " and ".join(sorted(parts.values)))


def _checked(batches: Iterable[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise DataError("Batches must be (images, labels), without sample weights or further inputs.")
        x, y = (np.asarray(part) for part in batch)
        if x.ndim < 3 or not y.ndim or len(x) != len(y):
            raise DataError(
                f"Batches must be (images, labels) of equal length; got the shapes {x.shape} and {y.shape}."
            )
        yield checked_shape(x, "images"), y


class _Part(NamedTuple):
    """Some images, as `scan` takes them."""

    images: Sequence[ArrayImage]
    names: Sequence[str]


class _Parts:
    """Collects the images of a stream, and decodes and keeps them part by part."""

    def __init__(self, keep: Keep):
        self.keep = keep
        self.waiting: list[np.ndarray] = []
        self.waiting_bytes = 0
        self.decided: dict[str, str] = {}  # the ranges of floats and of uint16
        self.kinds: list[Kind] = []
        self.stores: list[Store] = []
        self.values: set[str] = set()
        self.contents: list[str] = []
        self.order: list[tuple[bytes, str]] = []
        self.facts: list[np.ndarray] = []
        self.bad: list[str] = []  # images with impossible values
        self.bad_dtype = np.dtype(np.float32)
        self.done, self.checked_room = 0, 0

    def add(self, images: np.ndarray) -> None:
        """Take (B, H, W, C) images."""
        for image in images:
            self.waiting.append(image)
            self.waiting_bytes += image.nbytes
            if len(self.waiting) >= PART or self.waiting_bytes >= PART_BYTES:
                self.flush()

    def flush(self) -> None:
        """Decode and keep what is waiting."""
        part, first = self.waiting, self.done
        self.waiting, self.waiting_bytes, self.done = [], 0, first + len(part)

        def range_of(row: int) -> tuple[str, list[str]]:
            return find_range(part[row][None], first=first + row)

        def converted(row: int) -> tuple[ArrayImage, str, tuple[bytes, str]]:
            pixels = to_pixels(part[row][None], values=ranges[row])
            image = ArrayImage(pixels, 0, "float 0..255" if pixels.dtype.kind == "f" else "uint8 0..255")
            digest = hashlib.blake2b(np.ascontiguousarray(pixels).data).digest()[:16]
            return image, content_of(image), (digest, repr(image.shape))

        found = list(in_threads(range_of, range(len(part)), BATCH))
        if bad := [row for row, (values, _) in enumerate(found) if not values]:
            self.bad_dtype = self.bad_dtype if self.bad else part[bad[0]].dtype
            self.bad += [problem for row in bad for problem in found[row][1]]
        if self.bad or not part:
            return  # of a dataset that cannot be used, the rest is only checked
        ranges = agree([values for values, _ in found], [image.dtype for image in part], self.decided, first)
        images, contents, order = zip(*in_threads(converted, range(len(part)), BATCH), strict=True)
        self.values |= set(ranges)
        self.contents += contents
        self.order += order
        self.facts.append(self._keep(_Part(images, [f"images[{first + row}]" for row in range(len(part))]), contents))

    def _keep(self, part: _Part, contents: Sequence[str]) -> np.ndarray:
        size, cache = self.keep.image_size, self.keep.cache
        self.kinds = self.kinds or image_kinds(size, pixel_dtype(part.images, size))
        if cache is None:
            return scan(part, size).facts
        if len(self.contents) >= 2 * self.checked_room:  # or else the first images would be evicted for the last
            cache.check_room([(self.kinds, self.contents)])
            self.checked_room = len(self.contents)
        self.stores = self.stores or [Store(cache.root, kind) for kind in self.kinds]
        on_wait = self.keep.narrator.waiting
        return fill_images(part, contents, self.kinds, cache, stores=self.stores, on_wait=on_wait)[1]

    def images(self) -> list[StreamImage]:
        """Return the images that were read, in the order in which they came."""
        kind, facts = self.kinds[0], np.concatenate(self.facts).tolist()
        pixels = _Pixels(self.keep.cache, kind, self.contents)
        return [
            StreamImage(content, fact, np.dtype(kind.dtype), kind.shape, row, pixels)
            for row, (content, fact) in enumerate(zip(self.contents, facts, strict=True))
        ]


class _Pixels:
    """Reads the pixels of the images of a stream from the cache: row -> (S, S, 3)."""

    def __init__(self, cache: Cache | None, kind: Kind, contents: Sequence[str]):
        self.cache, self.lock = cache, threading.Lock()  # threads read one after another
        if cache is not None:
            self.store, self.keys = Store(cache.root, kind), as_keys(contents)
            self._find()

    def _find(self) -> None:
        self.store.refresh()
        self.place = self.store.locate(self.keys)

    def __call__(self, row: int) -> np.ndarray:
        if self.cache is None:
            raise CacheError("The pixels of this stream were not kept, as it was read without a cache.")
        with self.lock:
            for _ in range(2):  # shards may have been merged since
                pixels, good = self.store.read(self.keys[row : row + 1], self.place[row : row + 1])
                if good[0]:
                    return pixels[0]
                self._find()
        raise CacheError(
            f"Images of a tf.data.Dataset or PyDataset are no longer in the cache in {self.cache.root}, and cannot be"
            " read again, as a second pass might give other images. They were evicted to make room, or damaged or"
            " removed. Start again; if it was for room, set VGGFT_CACHE_DIR to a directory on a larger disk."
        )
