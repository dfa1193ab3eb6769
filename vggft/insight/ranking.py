"""Which images to label next: those that a classifier is unsure of, those that are unlike all known ones, or both."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

By: TypeAlias = Literal["uncertainty", "diversity", "both"]
BY: tuple[str, ...] = get_args(By)
AT_ONCE = 4096  # rows of a block of distances
POOL = 4  # times as many of the most uncertain images, among which `both` looks for diverse ones


def uncertainty(probabilities: np.ndarray, multi_label: bool = False) -> np.ndarray:
    """Return (N,) how unsure a classifier is, 0..1: 1 minus the margin between its two most probable classes.

    With several labels per image it is that of the label nearest to one half.

    Args:
        probabilities: (N, num_classes).

    >>> uncertainty(np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0]])).round(1).tolist()
    [1.0, 0.2]
    """
    if multi_label:
        return 1 - np.abs(2 * probabilities - 1).min(axis=1)
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    return np.asarray(1 - (first - second))


def rank(
    embeddings: np.ndarray,
    probabilities: np.ndarray,
    known: np.ndarray | None = None,
    *,
    by: By = "both",
    number: int | None = None,
    multi_label: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Order images by what their labels would teach.

    - `"uncertainty"`: the smallest margin first.
    - `"diversity"`: greedy k-centre (core-set, arXiv:1708.00489): each image is the farthest one from all that are
      known or chosen before it.
    - `"both"`: the same, but distances count by the uncertainty of the image, among the most uncertain images, four
      times as many as asked for; the idea of BADGE (arXiv:1906.03671) without its draws.

    Args:
        embeddings: (N, C) float32.
        probabilities: (N, num_classes).
        known: (K, C) embeddings of labelled images; None or empty for none, then the most typical image is first.
        number: how many to choose, of N.
        multi_label: whether images have several labels, or none.

    Returns:
        (n,) int64 rows, the first to label first, and the (n,) float64 value that each was chosen by: its uncertainty
        0..1, or its distance, or their product.

    >>> rank(np.array([[0.0], [0.1], [5.0]], "float32"), np.full((3, 2), 0.5), np.zeros((1, 1)), by="diversity")[0]
    array([2, 1, 0])
    """
    count = len(embeddings) if number is None else min(number, len(embeddings))
    doubt = uncertainty(probabilities, multi_label).astype("float64")
    surest = np.argsort(-doubt, kind="stable")
    if by == "uncertainty":
        return surest[:count], doubt[surest[:count]]
    if by == "diversity":
        return _centres(embeddings, np.ones(len(doubt)), known, count)
    pool = np.sort(surest[: max(POOL * count, 1)])
    chosen, value = _centres(embeddings[pool], doubt[pool], known, count)
    return pool[chosen], value


def _centres(
    embeddings: np.ndarray, weights: np.ndarray, known: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose images one after another, each the farthest from those before, times its weight."""
    x = np.ascontiguousarray(embeddings, "float32")
    squares = (x**2).sum(axis=1)
    nearest = np.full(len(x), np.inf)
    known = np.zeros((0, x.shape[1]), "float32") if known is None else np.asarray(known, "float32")
    for start in range(0, len(known), AT_ONCE):
        part = known[start : start + AT_ONCE]
        for first in range(0, len(x), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            distance = squares[rows, None] - 2 * x[rows] @ part.T + (part**2).sum(axis=1)
            nearest[rows] = np.minimum(nearest[rows], distance.min(axis=1))
    chosen, values = np.empty(count, np.int64), np.empty(count)
    if not len(known) and count:  # nothing is far from nothing: begin in the middle
        mean = x.mean(axis=0)
        nearest = np.full(len(x), float(squares.max() * 4 + 1))
        scores = weights / (1 + ((x - mean) ** 2).sum(axis=1))
    else:
        scores = weights * np.sqrt(np.maximum(nearest, 0))
    free = np.ones(len(x), bool)
    for n in range(count):
        best = int(np.where(free, scores, -1.0).argmax())
        chosen[n], values[n], free[best] = best, scores[best], False
        nearest = np.minimum(nearest, squares - 2 * (x @ x[best]) + squares[best])
        scores = weights * np.sqrt(np.maximum(nearest, 0))
    return chosen, values
