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
BLURRED = 100.0  # variance of the Laplacian in (0..255)^2; sharp photographs of 224 px have several hundred and more
# An image is only told if it also differs from the median of its class by these factors: images of forests by satellite
# are all dark and flat, and small images that were enlarged are all soft.
DARKER, FLATTER, SOFTER = 3.0, 5.0, 20.0
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
    sides = np.sqrt(facts["width"].astype(float) * facts["height"])
    middle = float(np.median(sides[rows])) if len(rows) else 0.0
    light, contrast, usual = (_usual(values, rows, whole) for values in (high, spread, sharp))
    for row in rows.tolist():
        width, height = int(facts["width"][row]), int(facts["height"][row])
        size, at = f"{width}x{height} px", (short[row],)
        if high[row] < min(DARK, light[row] / DARKER):
            yield Finding("dark", at, (f"99 % of it are below {high[row]:.0%} of white",))
        elif low[row] > BRIGHT:
            yield Finding("bright", at, (f"95 % of it are above {low[row]:.0%} of white",))
        elif spread[row] < min(FLAT, contrast[row] / FLATTER):
            yield Finding("without contrast", at, (f"brightness varies by {spread[row]:.1%} of white",))
        elif sharp[row] < min(BLURRED, usual[row] / SOFTER):
            yield Finding("blurred", at, (f"sharpness {sharp[row]:.0f}, usual here {usual[row]:.0f}",))
        if min(width, height) < NARROW * max(width, height):
            yield Finding("odd shape", at, (size,))
        if not 1 / FAR <= sides[row] / middle <= FAR:
            yield Finding("odd size", at, (size,))


def _usual(values: np.ndarray, rows: np.ndarray, whole: Dataset) -> np.ndarray:
    """Return for each image the median of its class; of all images if they have several labels."""
    classes = np.zeros(len(whole), int) if whole.multi_label else whole.labels
    found = np.zeros(len(whole))
    for label in np.unique(classes[rows]):
        found[classes == label] = np.median(values[rows][classes[rows] == label])
    return found
