"""The images of a run, decoded once: kept in the cache by what is in the files, and read from there as a memory map."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import PIL

from ..cache import Cache, Spec
from ..errors import DataError
from ..progress import Narrator
from .arrays import resize_pixels
from .dataset import Dataset
from .reading import MIN_SIDE, RESIZE_RULE, Array, read_image

# One decoding pass ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scan:
    """What one decoding pass over a `Dataset` found; each tuple has one item per image, None where it is unreadable.

    Attributes:
        digests: blake2b of the resized pixels, that is of what the network sees.
        sizes: original width and height in px, upright.
        modes: Pillow's pixel format; the dtype for arrays.
        formats: the file format by content; "" for arrays.
        problems: row -> why it cannot be used, a sentence that names the image.
    """

    digests: tuple[str | None, ...]
    sizes: tuple[tuple[int, int] | None, ...]
    modes: tuple[str | None, ...]
    formats: tuple[str | None, ...]
    problems: dict[int, str]


_Row: TypeAlias = "tuple[str | None, tuple[int, int] | None, str | None, str | None, str | None]"


def scan(
    dataset: Dataset,
    image_size: int,
    pixels: Array | None = None,
    on_image: Callable[[], None] | None = None,
) -> Scan:
    """Decode and resize every image once, in threads.

    Args:
        image_size: side in px that images are squashed to.
        pixels: (N, image_size, image_size, 3) uint8 or float32, possibly a memory map; filled row by row, except for
            the rows in `problems`. Floats are rounded where it is uint8; `Dataset.pixel_dtype` says what loses nothing.
        on_image: called once per image, from the calling thread.
    """

    def work(row: int) -> _Row:
        image = dataset.images[row]
        if isinstance(image, np.ndarray):
            height, width = image.shape[:2]
            if min(width, height) < MIN_SIDE:
                problem = f"{dataset.names[row]} is {width}x{height} px; at least {MIN_SIDE} px a side are needed."
                return None, None, None, None, problem
            seen, mode, format = resize_pixels(image, image_size), str(image.dtype), ""
        else:
            try:
                picture = read_image(image, image_size, dataset.names[row])
            except DataError as error:
                return None, None, None, None, str(error)
            seen, mode, format, (width, height) = picture.pixels, picture.mode, picture.format, picture.size
        if pixels is not None:
            pixels[row] = np.rint(seen) if pixels.dtype.kind == "u" and seen.dtype.kind == "f" else seen
        return _digest(seen), (width, height), mode, format, None

    threads = os.cpu_count() or 1  # Pillow decodes and resizes without the GIL
    rows: list[_Row] = []
    pending: deque[Future[_Row]] = deque()

    def take() -> None:
        rows.append(pending.popleft().result())
        if on_image:
            on_image()

    pool = ThreadPoolExecutor(threads)
    try:
        for row in range(len(dataset)):
            pending.append(pool.submit(work, row))
            if len(pending) > 4 * threads:  # few at a time: a million futures would fill the memory
                take()
        while pending:
            take()
    finally:
        pool.shutdown(cancel_futures=True)
    digests, sizes, modes, formats, problems = zip(*rows, strict=True) if rows else ((),) * 5
    return Scan(digests, sizes, modes, formats, {row: problem for row, problem in enumerate(problems) if problem})


def _digest(pixels: Array) -> str:
    """The same for equal pixels, whether they are held as uint8 or as floats."""
    if pixels.dtype != np.uint8 and np.array_equal(whole := np.rint(pixels), pixels):
        pixels = whole.astype(np.uint8)
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


# What `Scan` says of an image: digest, width, height, mode, format, and what is wrong with it.
FACTS = "S32,i4,i4,S16,S16,S400"


def decode(
    parts: Mapping[str, Dataset], image_size: int, cache: Cache, narrator: Narrator
) -> tuple[Array, dict[str, Scan]]:
    """All images of some datasets, squashed to a square; those that are in the cache are not decoded again.

    Returns:
        (N, S, S, 3) uint8 or float32, memory-mapped, in the order of the parts (zeros for what cannot be read); and
        what was found in each part.
    """
    images = list(chain.from_iterable(part.images for part in parts.values()))
    names = tuple(chain.from_iterable(part.names for part in parts.values()))
    together = Dataset(images, np.zeros(len(images), np.int64), (), names)
    dtype = np.result_type(*(part.pixel_dtype(image_size) for part in parts.values()))
    with narrator.bar("look at the files", len(images)) as advance:
        sources = _content(images, advance)
    made_by = {"sources": sources, "image_size": image_size, "resize": RESIZE_RULE, "pillow": PIL.__version__}
    shape = (len(images), image_size, image_size, 3)
    specs = Spec("images", made_by, shape, dtype.name), Spec("image-facts", made_by, shape[:1], FACTS)

    def compute(start: int, stop: int) -> tuple[Array, Array]:
        pixels = np.zeros((stop - start, *shape[1:]), dtype)
        found = scan(together.subset(range(start, stop)), image_size, pixels)
        return pixels, _pack(found, names[start:stop])

    with narrator.bar("read images", len(images)) as advance:
        pixels, facts = cache.fill(specs, compute, on_rows=advance, on_wait=narrator.waiting)
    scans, start = {}, 0
    for name, part in parts.items():
        scans[name] = _unpack(facts[start : start + len(part)], part.names)
        start += len(part)
    return pixels, scans


def _content(images: list[Path | Array], advance: Any) -> str:
    """A digest of what is in the files or arrays, in their order."""

    def digest(image: Path | Array) -> str:
        if isinstance(image, np.ndarray):
            return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() + f"{image.dtype}{image.shape}"
        try:
            with Path(image).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return type(error).__name__  # decoding it will say so

    state = hashlib.sha256()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for found in threads.map(digest, images):
            state.update(f"{found}\n".encode())
            advance()
    return state.hexdigest()


def _pack(found: Scan, names: tuple[str, ...]) -> Array:
    """As rows of `FACTS`. Problems are kept without the name, for the same bytes may be called otherwise next time."""
    rows = []
    for row, (digest, size, mode, format) in enumerate(
        zip(found.digests, found.sizes, found.modes, found.formats, strict=True)
    ):
        problem = found.problems.get(row, "").removeprefix(names[row])
        texts = [(text or "").encode() for text in (digest, mode, format, problem)]
        rows.append((texts[0], *(size or (0, 0)), *texts[1:]))
    return np.array(rows, FACTS)


def _unpack(facts: Array, names: tuple[str, ...]) -> Scan:
    digests, widths, heights, modes, formats, reasons = (facts[field].tolist() for field in facts.dtype.names or ())
    problems = {row: names[row] + reason.decode("utf-8", "ignore") for row, reason in enumerate(reasons) if reason}
    good = [row not in problems for row in range(len(names))]

    def known(values: list[Any]) -> tuple[Any, ...]:
        return tuple(value if is_good else None for value, is_good in zip(values, good, strict=True))

    return Scan(
        known([digest.decode() for digest in digests]),
        known(list(zip(widths, heights, strict=True))),
        known([mode.decode() for mode in modes]),
        known([format.decode() for format in formats]),
        problems,
    )
