"""Decode the images of a run once: pixels are cached by the content of the files and read as a memory map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from ..cache import Cache, Spec
from ..errors import DataError
from ..progress import Narrator
from .arrays import in_threads, resize_pixels
from .dataset import Dataset
from .reading import RESIZE_RULE, read_image

BATCH = 4  # number of images that a thread takes at once
# What a decoding pass records about an image; empty strings and zeros if it cannot be read. In the cache the fields
# have no names (`CACHED_FACTS`).
FACTS = np.dtype([("digest", "U32"), ("width", "i4"), ("height", "i4"), ("mode", "U16"), ("format", "U16")])
CACHED_FACTS = "U32,i4,i4,U16,U16"


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


def scan(
    dataset: Dataset,
    image_size: int,
    pixels: np.ndarray | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Scan:
    """Decode and resize every image once, in threads.

    Args:
        image_size: side S in px that images are squashed to.
        pixels: (N, S, S, 3) uint8 or float32 output array, filled except for the rows in `problems`. Floats are
            rounded if it is uint8; `Dataset.pixel_dtype` is the dtype that loses nothing.
        on_image: called once per image, from the calling thread.
    """

    def read(row: int) -> tuple[Any, ...] | str:
        image = dataset.images[row]
        if isinstance(image, np.ndarray):
            (height, width), mode, format = image.shape[:2], str(image.dtype), ""
            seen = resize_pixels(image, image_size)
        else:
            try:
                decoded = read_image(image, image_size, dataset.names[row])
            except DataError as error:
                return str(error)
            (width, height), mode, format, seen = decoded.size, decoded.mode, decoded.format, decoded.pixels
        if pixels is not None:
            pixels[row] = np.rint(seen) if pixels.dtype.kind == "u" and seen.dtype.kind == "f" else seen
        return _digest(seen), width, height, mode, format

    facts, problems = np.zeros(len(dataset), FACTS), {}
    with closing(in_threads(read, range(len(dataset)), BATCH)) as results:  # closed early, it starts no further images
        for row, found in enumerate(results):
            if isinstance(found, str):
                problems[row] = found
            else:
                facts[row] = found
            on_image()
    return Scan(facts, problems)


def _digest(pixels: np.ndarray) -> str:
    """Return the same digest for equal pixels, whether they are uint8 or floats."""
    if pixels.dtype != np.uint8 and np.array_equal(whole := np.rint(pixels), pixels):
        pixels = whole.astype(np.uint8)
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def decode(dataset: Dataset, image_size: int, cache: Cache, narrator: Narrator) -> tuple[np.ndarray, Scan]:
    """Decode all images of a dataset, squashed to squares of side S; cached images are not decoded again.

    Images that cannot be read are tried again each time, since messages have to contain current file names, and a
    decoder for them may have been installed since.

    Returns:
        (N, S, S, 3) uint8 or float32, memory-mapped, with zeros for images that cannot be read; and the scan.
    """
    state = hashlib.sha256()
    with narrator.bar("check the files", len(dataset)) as advance:
        for content in in_threads(_content, dataset.images, BATCH):
            state.update(f"{content}\n".encode())
            advance()
    made_by = {"sources": state.hexdigest(), "image_size": image_size, "resize": RESIZE_RULE, "pillow": PIL.__version__}
    shape, dtype = (len(dataset), image_size, image_size, 3), dataset.pixel_dtype(image_size)
    specs = Spec("images", made_by, shape, dtype.name), Spec("image-facts", made_by, shape[:1], CACHED_FACTS)

    def compute(rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, Scan]:
        pixels = np.zeros((len(rows), *shape[1:]), dtype)
        return pixels, scan(dataset.subset(rows), image_size, pixels)

    def compute_shard(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, found = compute(range(start, stop))
        return pixels, found.facts

    with narrator.bar("read images", len(dataset)) as advance:
        pixels, cached = cache.fill(specs, compute_shard, on_rows=advance, on_wait=narrator.waiting)
    facts, problems = cached.astype(FACTS), {}
    if len(unread := np.flatnonzero(facts["digest"] == "")):
        pixels = np.load(cache.entry(specs[0]).rows, mmap_mode="c")  # copied on write: the cache is not changed
        pixels[unread], again = compute(unread)
        facts[unread] = again.facts
        problems = {int(unread[row]): problem for row, problem in again.problems.items()}
    return pixels, Scan(facts, problems)


def _content(image: Path | np.ndarray) -> str:
    """Return a digest of the content of a file or an array."""
    if isinstance(image, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() + f"{image.dtype}{image.shape}"
    try:
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return type(error).__name__  # decoding reports it
