"""Read a stream of images once, straight into the cache: memory holds a part of it at a time, however long it is.

A `tf.data.Dataset` and a `keras.utils.PyDataset` may shuffle and augment, so a second pass might give other images.
Therefore each image is checked, converted, resized and kept as it comes; labels, digests and facts stay in memory.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..caching.cache import Cache
from ..caching.kinds import Kind, as_keys
from ..caching.store import Store
from ..errors import CacheError, DataError
from ..pictures.arrays import ArrayImage, StreamImage, checked_shape, in_threads, values_in
from ..pictures.colours import to_rgb
from ..pictures.files import image_kinds
from ..pictures.formats import UnusableError
from ..pictures.known import content_of
from ..pictures.ranges import Values, note, problem, settle
from ..pictures.reading import ImageSize, Reading
from ..telling.progress import Narrator
from .scan import BATCH, fill_images, pixel_dtype, scan

# Images are taken in parts of this many, or of this many bytes before conversion. The first part decides for all
# images what is black and white of integers and floats, and whether pixels are kept as float32.
PART, PART_BYTES = 256, 32 * 2**20
LATER = (
    " A stream is read once, and its first images decide the range: pass value_range=(black, white), or convert all"
    " images to uint8 in 0..255 in the dataset itself."
)


@dataclass(frozen=True)
class Keep:
    """How the images of a stream are kept.

    Args:
        reading: how they are read; a size alone squashes.
        cache: where their pixels are kept; None keeps only what a scan finds, which is enough for an audit.
        narrator: shows progress while the stream is read.
    """

    reading: Reading | ImageSize = 224
    cache: Cache | None = None
    narrator: Narrator = field(default_factory=lambda: Narrator(0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "reading", Reading.of(self.reading))


class Stream(NamedTuple):
    """What came in a stream, in the order of the images' content.

    Args:
        images: N images.
        labels: (N, ...) labels as given.
        note: what their values were taken to be, as a sentence.
    """

    images: list[StreamImage]
    labels: np.ndarray
    note: str


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
        for number, (x, y) in enumerate(_checked(batches, parts.reading), start=1):
            labels.append(y)
            if y.shape[1:] != labels[0].shape[1:]:
                shapes = sorted({y.shape[1:], labels[0].shape[1:]})
                raise DataError(f"Labels must have the same shape in all batches; got {shapes}.")
            parts.add(x)
            done += len(x)
            advance(len(x), total=None if count is None else done + (count - number) * len(x))
        parts.flush()
    if parts.bad:
        raise DataError.listing("Some images of the dataset cannot be used", parts.bad)
    if not done:
        raise DataError("There are no images: the dataset is empty.")
    given = np.concatenate(labels)
    order = sorted(range(done), key=lambda row: (parts.order[row], repr(np.asarray(given[row]).tolist())))
    images = parts.images()
    return Stream([images[row] for row in order], given[order], note(parts.kinds_seen, parts.reading))


def _checked(batches: Iterable[Any], reading: Reading) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise DataError("Batches must be (images, labels), or (images, labels, sample weights).")
        x, y = (np.asarray(part) for part in batch)
        if x.ndim < 3 or not y.ndim or len(x) != len(y):
            raise DataError(
                f"Batches must be (images, labels) of equal length; got the shapes {x.shape} and {y.shape}."
            )
        yield checked_shape(x, "images", reading), y


class _Part(NamedTuple):
    """Some images, as `scan` takes them."""

    images: Sequence[ArrayImage]
    names: Sequence[str]


class _Parts:
    """Collects the images of a stream, and decodes and keeps them part by part."""

    def __init__(self, keep: Keep):
        self.keep = keep
        self.reading = Reading.of(keep.reading)
        self.waiting: list[np.ndarray] = []
        self.waiting_bytes = 0
        self.kinds: list[Kind] = []
        self.stores: list[Store] = []
        self.kinds_seen: set[Values] = set()  # one for each kind of values
        self.contents: list[str] = []
        self.order: list[tuple[bytes, str]] = []
        self.facts: list[np.ndarray] = []
        self.bad: list[str] = []  # images with impossible values
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
        images = [ArrayImage(part, row) for row in range(len(part))]
        names = [f"images[{first + row}]" for row in range(len(part))]
        values = [each or Values("uint8") for each in in_threads(lambda i: values_in(i, self.reading), images, BATCH)]
        before = self.reading
        if first == 0:
            self.reading = settle(values, self.reading)
        known = bool(self.bad)
        for image, name, each in zip(images, names, values, strict=True):
            if wrong := problem(each, self.reading) or self._bands_of(image):
                later = first and not before.clips and problem(each, replace(before, integers=None, floats=None)) == ""
                self.bad.append(f"{name} {wrong}{LATER if later else ''}")
            elif first and not known and getattr(self.reading, f"{each.kind}s", (0, 1)) is None:
                self.bad.append(f"{name} holds {each.kind}s, and the images before it do not. {LATER.strip()}")
            self.kinds_seen.add(Values(each.kind))
        if self.bad or not part:
            return  # of a dataset that cannot be used, the rest is only checked
        contents = list(in_threads(content_of, images, BATCH))
        self.contents += contents
        self.order += in_threads(_sorted_by, part, BATCH)
        self.facts.append(self._keep(_Part(images, names), contents, values))

    def _bands_of(self, image: ArrayImage) -> str:
        """Say why the bands of an image cannot be read, or return ""."""
        if image.shape[2] in (1, 3):
            return ""
        try:
            to_rgb(np.asarray(image), self.reading)
        except UnusableError as error:
            return str(error)
        return ""

    def _keep(self, part: _Part, contents: Sequence[str], values: Sequence[Values]) -> np.ndarray:
        reading, cache = self.reading, self.keep.cache
        self.kinds = self.kinds or image_kinds(reading, pixel_dtype(values, reading))
        if cache is None:
            return scan(part, reading).facts
        if len(self.contents) >= 2 * self.checked_room:  # or else the first images would be evicted for the last
            cache.check_room([(self.kinds, self.contents)])
            self.checked_room = len(self.contents)
        self.stores = self.stores or [Store(cache.root, kind) for kind in self.kinds]
        on_wait = self.keep.narrator.waiting
        return fill_images(part, contents, self.kinds, cache, reading, stores=self.stores, on_wait=on_wait)[1]

    def images(self) -> list[StreamImage]:
        """Return the images that were read, in the order in which they came."""
        kind, facts = self.kinds[0], np.concatenate(self.facts).tolist()
        pixels = _Pixels(self.keep.cache, kind, self.contents)
        return [
            StreamImage(content, fact, np.dtype(kind.dtype), kind.shape, row, pixels, self.reading)
            for row, (content, fact) in enumerate(zip(self.contents, facts, strict=True))
        ]


def _sorted_by(image: np.ndarray) -> tuple[bytes, str]:
    return hashlib.blake2b(np.ascontiguousarray(image).data).digest()[:16], repr(image.shape)


class _Pixels:
    """Reads the pixels of the images of a stream from the cache: row -> (H, W, 3)."""

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
