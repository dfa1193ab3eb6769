"""Images that look like a mistake: blurred, dark, overexposed, without contrast, of an odd shape or size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..pictures.reading import Reading
from .dataset import Dataset
from .findings import Finding
from .scan import Scan, scan

AT_ONCE = 128  # images whose pixels are in memory
DARK, BRIGHT = 0.25, 0.9  # of white: nearly all of a dark image is below, and nearly all of a bright one above
FLAT = 0.03  # standard deviation of brightness, of white, below which hardly anything can be seen
BLURRED = 20.0  # variance of the Laplacian in (0..255)^2; photographs of 224 px have 100 to several thousand
MUCH_SOFTER = 20.0  # times less than the median, below which an image of up to five times `BLURRED` is blurred too
NARROW = 0.35  # ratio of the shorter to the longer side
FAR = 10.0  # ratio of the mean side to its median over the data


def look_over(
    whole: Dataset, found: Scan, short: Sequence[str], reading: Reading, on_image: Callable[[], object]
) -> Iterator[Finding]:
    """Look for such images; of one that can hardly be seen only the first reason is told.

    Sharpness and brightness are those of the pixels that the network sees. The rules are those of cleanvision
    (github.com/cleanlab/cleanvision), as far as they need no model.

    Args:
        whole: N images.
        found: the scan of them; those that it could not read are left out.
        short: their names.
        reading: how pixels are made of them.
        on_image: called once for each image.
    """
    facts, rows = found.facts, np.flatnonzero(found.facts["digest"] != "")
    low, high, spread, sharp = np.zeros((4, len(whole)))
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        pixels = np.zeros((len(part), *reading.size, 3), np.uint8)  # type: ignore[misc]
        scan(whole, reading, pixels, on_image, rows=part)
        for row, image in zip(part, pixels, strict=True):
            grey = image.astype("float32") @ np.array([0.299, 0.587, 0.114], "float32")
            low[row], high[row] = np.percentile(grey, (5, 99)) / 255
            spread[row] = grey.std() / 255
            edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
            sharp[row] = edges.var()
    usual = float(np.median(sharp[rows])) if len(rows) else 0.0
    sides = np.sqrt(facts["width"].astype(float) * facts["height"])
    middle = float(np.median(sides[rows])) if len(rows) else 0.0
    for row in rows.tolist():
        width, height = int(facts["width"][row]), int(facts["height"][row])
        size, at = f"{width}x{height} px", (short[row],)
        softer = sharp[row] < 5 * BLURRED and sharp[row] * MUCH_SOFTER < usual
        if high[row] < DARK:
            yield Finding("dark", at, (f"99 % of it are below {high[row]:.0%} of white",))
        elif low[row] > BRIGHT:
            yield Finding("bright", at, (f"95 % of it are above {low[row]:.0%} of white",))
        elif spread[row] < FLAT:
            yield Finding("without contrast", at, (f"brightness varies by {spread[row]:.1%} of white",))
        elif sharp[row] < BLURRED or softer:
            yield Finding("blurred", at, (f"sharpness {sharp[row]:.0f}, usual here {usual:.0f}",))
        if min(width, height) < NARROW * max(width, height):
            yield Finding("odd shape", at, (size,))
        if not 1 / FAR <= sides[row] / middle <= FAR:
            yield Finding("odd size", at, (size,))
