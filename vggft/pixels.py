"""The images of a run, decoded once: kept in the cache by what is in the files, and read from there as a memory map."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from .cache import Cache, Spec
from .dataset import Dataset, Scan, scan
from .images import RESIZE_RULE, Array
from .progress import Narrator

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
