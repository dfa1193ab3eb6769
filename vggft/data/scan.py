"""Decode the images of a run once: pixels are cached by the content of the files and read as a memory map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from ..cache import Cache
from ..errors import DataError
from ..progress import Narrator
from ..rows import Rows, replaced
from ..store import Kind
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
        return digest_of(seen), width, height, mode, format

    facts, problems = np.zeros(len(dataset), FACTS), {}
    with closing(in_threads(read, range(len(dataset)), BATCH)) as results:  # closed early, it starts no further images
        for row, found in enumerate(results):
            if isinstance(found, str):
                problems[row] = found
            else:
                facts[row] = found
            on_image()
    return Scan(facts, problems)


def digest_of(pixels: np.ndarray) -> str:
    """Return the same digest for equal pixels, whether they are uint8 or floats."""
    if pixels.dtype != np.uint8 and np.array_equal(whole := np.rint(pixels), pixels):
        pixels = whole.astype(np.uint8)
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def decode(dataset: Dataset, image_size: int, cache: Cache, narrator: Narrator) -> tuple[np.ndarray | Rows, Scan]:
    """Decode all images of a dataset, squashed to squares of side S; cached images are not decoded again.

    Images that cannot be read are the exception: they are tried again each time, as the message has to name the file
    as it is called now, and as a decoder for them may have been installed since.

    Returns:
        (N, S, S, 3) uint8 or float32, with zeros for what cannot be read, in memory or read from disk as needed; and
        what was found.
    """
    with narrator.bar("check the files", len(dataset)) as advance:
        contents = []
        for content in in_threads(_content, dataset.images, BATCH):
            contents.append(content)
            advance()
    about = {"image_size": image_size, "resize": RESIZE_RULE, "pillow": PIL.__version__}
    dtype = dataset.pixel_dtype(image_size)
    kinds = [
        Kind("images", about, (image_size, image_size, 3), dtype.name),
        Kind("image-facts", {**about, "pixels": dtype.name}, (), CACHED_FACTS),
    ]

    def compute(rows: np.ndarray) -> tuple[np.ndarray, Scan]:
        pixels = np.zeros((len(rows), image_size, image_size, 3), dtype)
        return pixels, scan(dataset.subset(rows), image_size, pixels)

    def compute_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels, found = compute(rows)
        return pixels, found.facts

    with narrator.bar("read images", len(dataset)) as advance:
        pixels, cached = cache.fill(kinds, contents, compute_rows, on_rows=advance, on_wait=narrator.waiting)
    facts, problems = np.asarray(cached[:]).astype(FACTS), {}
    if len(unread := np.flatnonzero(facts["digest"] == "")):
        again_pixels, again = compute(unread)
        facts[unread] = again.facts
        problems = {int(unread[row]): problem for row, problem in again.problems.items()}
        if len(found := np.flatnonzero(again.facts["digest"] != "")):
            pixels = replaced(pixels, unread[found], again_pixels[found])
    return pixels, Scan(facts, problems)


def _content(image: Path | np.ndarray) -> str:
    """Return a digest of the content of a file or an array, 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    if isinstance(image, np.ndarray):
        state.update(f"{image.dtype}{image.shape}".encode())
        state.update(np.ascontiguousarray(image).data)
        return state.hexdigest()
    try:
        with image.open("rb") as file:
            return hashlib.file_digest(file, lambda: state).hexdigest()
    except OSError as error:
        state.update(type(error).__name__.encode())  # decoding reports it
        return state.hexdigest()
