"""TIFF files that Pillow would read in part: several pages, several bands, bands of more than 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from PIL import TiffImagePlugin

from .formats import UnusableError, needs

SAMPLES, EXTRA, PHOTOMETRIC, BITS, ORIENTATION, SUBFILE, FORMAT = 277, 338, 262, 258, 274, 254, 339  # tags
SIGNED, FLOAT = 2, 3  # the values of SampleFormat besides unsigned integers
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # bands that are colours, by photometric interpretation; others have one
ALPHA = (1, 2)  # the values of ExtraSamples that say that a band is transparency
SMALLER = 1 | 4  # bits of the kind of a page: a smaller copy or a mask of another one


def pages_of(file: IO[bytes]) -> list[Mapping[int, Any]]:
    """Return the tags of the pages of a TIFF, at most of two full ones; the file is then at its beginning again."""
    found: list[Mapping[int, Any]] = []
    try:
        head = file.read(8)
        if len(head) > 2 and head[2] == 43:  # BigTIFF
            head += file.read(8)
        directory = TiffImagePlugin.ImageFileDirectory_v2(head)
        seen: set[int] = set()
        while directory.next and directory.next not in seen and len(found) < 2:
            seen.add(directory.next)
            file.seek(directory.next)
            directory.load(file)
            tags = dict(directory)
            if not found or not int(tags.get(SUBFILE, 0)) & SMALLER:
                found.append(tags)
    except Exception:  # of damaged files, which are reported when they are decoded
        found = found[:1]
    file.seek(0)
    return found


def check_pages(pages: list[Mapping[int, Any]]) -> None:
    """Raise `UnusableError` for several pages."""
    if len(pages) > 1:
        raise UnusableError(
            "has several pages, and a picture is one: write each page that you need as a file of its own, for example"
            " with PIL.ImageSequence"
        )


def has_alpha(tags: Mapping[int, Any]) -> bool:
    """Whether the one band beside the colours is declared to be transparency."""
    extra = tags.get(EXTRA, ())
    extra = extra if isinstance(extra, tuple) else (extra,)
    return _beside(tags) == 1 and len(extra) == 1 and extra[0] in ALPHA


def _beside(tags: Mapping[int, Any]) -> int:
    return int(tags.get(SAMPLES, 1)) - COLOURS.get(int(tags.get(PHOTOMETRIC, 1)), 1)


def values_in(tags: Mapping[int, Any]) -> int:
    """Return how many values of four bytes the page holds."""
    bits = value if isinstance(value := tags.get(BITS, 1), tuple) else (value,)
    return int(tags.get(256, 0)) * int(tags.get(257, 0)) * int(tags.get(SAMPLES, 1)) * max(1, max(bits) // 32)


def is_beyond_pillow(tags: Mapping[int, Any]) -> bool:
    """Whether Pillow would lose bands, bits of several bands, or signs; or does not read such values at all."""
    bits, kind = (max(value if isinstance(value := tags.get(tag, 1), tuple) else (value,)) for tag in (BITS, FORMAT))
    several = int(tags.get(SAMPLES, 1)) > 1
    if bits > 32 or (kind == FLOAT and bits != 32) or (kind == SIGNED and bits == 8):
        return True
    return (several and bits > 8) or (_beside(tags) > 0 and not has_alpha(tags))


def read_bands(file: IO[bytes]) -> np.ndarray:
    """Read all bands of the first page: (H, W, C).

    Raises:
        UnusableError: a package is missing.
    """
    needs("tifffile", "tiff", "a TIFF with several bands, or with several of more than 8 bits")
    import tifffile

    with tifffile.TiffFile(file) as opened:
        page = opened.pages.first
        try:
            array = np.asarray(page.asarray())
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise UnusableError("is compressed in a way that needs imagecodecs: pip install imagecodecs") from error
            raise
        return np.moveaxis(array, 0, -1) if page.axes == "SYX" else array.reshape(*array.shape[:2], -1)
