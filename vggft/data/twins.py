"""Near-duplicates: a picture saved again, resized, slightly cropped, brightened or mirrored. No network is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.fft import dct

from ..caching.rows import Rows
from .dataset import Dataset
from .findings import Finding

ALIKE = 0.9  # correlation of two signatures from which pictures are near-duplicates: see docs/labels.md
WAVES = 8  # lowest frequencies in each direction
SIDE = 64  # px from which on every second, third, ... pixel is enough for them
FLAT = 1.0  # of 255, the standard deviation of what is left of a picture in them, below which nothing tells it
PRIOR = 100  # images as many as which speak for the spectrum that photographs have
AT_ONCE = 256  # images whose pixels are in memory
BLOCK = 1024  # images that are compared with all others at once

MIRROR = np.where(np.arange(WAVES) % 2 == 1, -1, 1).astype("float32")  # of the columns: odd waves change their sign


def signatures(pixels: np.ndarray | Rows, rows: np.ndarray | None = None) -> np.ndarray:
    """Return (N, 3, 8, 8) float32: the lowest frequencies of the discrete cosine transform of each colour.

    It is a perceptual hash before its rounding to bits: with the numbers themselves, twice as many slightly cropped
    pictures are told from others.

    Args:
        pixels: (N, H, W, 3) RGB in 0..255.
        rows: of the images, N of them; None for all.
    """
    height, width = pixels.shape[1:3]
    step = max(1, min(height, width) // SIDE)
    down, across = (_waves(len(range(0, side, step))) for side in (height, width))
    rows = np.arange(len(pixels)) if rows is None else rows
    found = np.zeros((len(rows), 3, WAVES, WAVES), "float32")
    for start in range(0, len(rows), AT_ONCE):
        part = np.asarray(pixels[rows[start : start + AT_ONCE]])[:, ::step, ::step].astype("float32")
        found[start : start + AT_ONCE] = down @ np.moveaxis(part, 3, 1) @ across.T
    return found


def twins(found: np.ndarray) -> list[tuple[int, ...]]:
    """Return groups of rows whose pictures are near-duplicates, copies among them, each sorted.

    Signatures are compared by their correlation, after each number has been given mean 0 and variance 1 over the
    images: what all of them share, such as a background, does not make any two alike.

    Args:
        found: (N, 3, 8, 8) float32 from `signatures`.

    >>> pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    >>> pixels[2] = pixels[0, :, ::-1] // 2  # mirrored, and darker
    >>> twins(signatures(pixels))
    [(0, 2)]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    told = np.flatnonzero(_contrast(found) >= FLAT)
    if len(told) < 2:
        return []
    pairs = np.concatenate(list(_pairs(found[told])))
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(told),) * 2)
    group = connected_components(links, directed=False)[1]
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted(tuple(told[part].tolist()) for part in parts if len(part) > 1)


def near(groups: Sequence[tuple[int, ...]], digests: Sequence[str]) -> list[tuple[int, ...]]:
    """Leave out groups of which all are copies; of others keep one row for each different picture."""
    distinct = [tuple({digests[row]: row for row in reversed(rows)}.values()) for rows in groups]
    return [tuple(sorted(rows)) for rows in distinct if len(rows) > 1]


def near_duplicates_in(
    whole: Dataset, short: Sequence[str], splits: Sequence[str], pixels: np.ndarray | Rows, digests: Sequence[str]
) -> list[Finding]:
    """Name the images of each group of near-duplicates, with their splits and labels where these differ.

    Args:
        whole: N images.
        short: their names.
        splits: the split of each.
        pixels: (N, H, W, 3).
        digests: of their pixels.
    """
    found = []
    for rows in near(twins(signatures(pixels)), digests):
        labels, apart = [whole.label_told(row) for row in rows], len({splits[row] for row in rows}) > 1
        told = [
            ", ".join([splits[row]] * apart + [label] * (len(set(labels)) > 1))
            for row, label in zip(rows, labels, strict=True)
        ]
        kind = "near-duplicates in several splits" if apart else "near-duplicates"
        found.append(Finding(kind, tuple(short[row] for row in rows), tuple(told) if any(told) else ()))
    return found


def _waves(side: int) -> np.ndarray:
    """Return (8, side) cosines, scaled so that the transform of pixels is in their unit, 0..255."""
    return np.asarray(dct(np.eye(side), axis=0, norm="ortho")[:WAVES] / np.sqrt(side), "float32")


def _contrast(found: np.ndarray) -> np.ndarray:
    """Return the (N,) standard deviation of brightness, of 255."""
    grey = np.tensordot(np.array([0.299, 0.587, 0.114], "float32"), found, (0, 1)).reshape(len(found), WAVES**2)
    return np.asarray(np.linalg.norm(grey[:, 1:], axis=1))


def _pairs(found: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (n, 2) pairs of rows that are alike, as they are or one of them mirrored."""
    mirrored = found * MIRROR
    waves = np.maximum(np.add.outer(np.arange(WAVES), np.arange(WAVES)), 1)  # amplitudes fall as 1 / frequency
    count = 2 * len(found)
    mean = (found.sum(axis=0) + mirrored.sum(axis=0)) / (count + PRIOR)
    squares = ((found - mean) ** 2).sum(axis=0) + ((mirrored - mean) ** 2).sum(axis=0)
    usual = np.sum(squares * waves**2) / squares.size / count / waves**2
    scale = 1 / np.sqrt((squares + PRIOR * usual) / (count + PRIOR) + 1e-12)
    scale[:, 0, 0] = 0  # brightness
    both = [((each - mean) * scale).reshape(len(found), -1) for each in (found, mirrored)]
    plain, other = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in both)
    for start in range(0, len(found), BLOCK):
        part, rest = slice(start, start + BLOCK), plain[start:].T  # alike in both directions
        alike = (plain[part] @ rest >= ALIKE) | (other[part] @ rest >= ALIKE)
        yield np.argwhere(alike) + start
