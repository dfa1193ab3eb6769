"""Seeded, stratified splits which keep copies of one image on one side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from ..errors import ConfigError, DataError
from .labels import some
from .reading import Array

if TYPE_CHECKING:
    from collections.abc import Sequence


def split_rows(
    labels: Array, digests: Sequence[str | None], fraction: float, seed: int, class_names: Sequence[str]
) -> tuple[Array, Array]:
    """Hold out a stratified fraction of the images; copies of one image (equal digests) stay on one side.

    Args:
        labels: (N,) int64, or (N, num_classes) of 0 and 1.
        digests: of each image; None counts as different from all others.
        fraction: of the distinct images to hold out, in (0, 1). Met to the image, unless small classes need more.
        seed: the same seed gives the same split.
        class_names: for error messages.

    Returns:
        Two sorted int64 arrays, the rows kept and those held out. Every class that has images is on both sides.

    Raises:
        ConfigError: `fraction` is not in (0, 1).
        DataError: classes with fewer than two distinct images, or too interlocked labels, named.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"A split must be a fraction in (0, 1); got {fraction!r}.")
    groups = _groups(digests)
    marks = labels.astype(bool) if labels.ndim == 2 else np.arange(len(class_names)) == labels[:, None]
    # A group takes the labels of its first image: where copies disagree, `audit` has said so.
    marks = marks[np.unique(groups, return_index=True)[1]]
    present = np.unique(np.nonzero(labels)[1] if labels.ndim == 2 else labels)
    small = [f"{class_names[c]!r} ({marks[:, c].sum()})" for c in present if marks[:, c].sum() < 2]
    if small or len(marks) < 2:
        raise DataError(
            f"Every class needs at least 2 distinct images to be split; too few in: {some(small) or 'all'}."
            " Add images, or give the validation and test data yourself."
        )
    need = 1 if labels.ndim == 2 else len(present)
    count = min(max(round(fraction * len(marks)), need), len(marks) - need)
    held = np.zeros(len(marks), bool)
    strata = _strata(marks, min(count, len(marks) - count))
    held[train_test_split(np.arange(len(marks)), test_size=count, random_state=seed, stratify=strata)[1]] = True
    stuck = _repair(held, marks, np.random.default_rng(seed), fraction)
    if stuck:
        raise DataError(
            f"No split of {fraction:g} has these classes on both sides: {some(class_names[c] for c in stuck)}."
            " Add images of them, or give the validation and test data yourself."
        )
    return np.flatnonzero(~held[groups]), np.flatnonzero(held[groups])


def folds_of(
    targets: Array, digests: Sequence[str], folds: int, seed: int, class_names: Sequence[str]
) -> list[tuple[Array, Array]]:
    """Stratified folds of images, copies of one image in one fold: for each, the rows of the others and its own.

    Args:
        targets: (N, num_classes) one-hot or multi-hot.

    Raises:
        DataError: classes with fewer distinct images than there are folds, named.
    """
    groups = _groups(digests)
    distinct = np.unique(groups, return_index=True)[1]
    counts = targets[distinct].sum(axis=0)
    small = [f"{class_names[int(c)]!r} ({counts[c]:.0f})" for c in np.flatnonzero(counts < folds)]
    if small:
        raise DataError(f"{folds} folds need as many distinct images of every class; too few in: {some(small)}.")
    # Of several labels the rarest is what an image is stratified by.
    rarest = np.where(targets > 0, counts, np.inf).argmin(axis=1)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(targets, rarest, groups))


def _groups(digests: Sequence[str | None]) -> Array:
    """(N,) the same number for copies of one image."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(d or f"row {row}", len(number)) for row, d in enumerate(digests)], np.int64)


def _strata(marks: Array, most: int) -> Array | None:
    """The label combination of each group as a number, the rare ones as one, as scikit-learn needs two of each."""
    combination, sizes = np.unique(marks, axis=0, return_inverse=True, return_counts=True)[1:]
    combination = combination.reshape(-1)
    common = [c for c in np.argsort(-sizes, kind="stable") if sizes[c] >= 2]
    if len(common) < len(sizes) or len(common) > most:
        common = common[: max(most - 1, 0)]
    strata = np.where(np.isin(combination, common), combination, -1)
    if (strata == -1).sum() == 1 and common:  # a single rare one joins the largest
        strata[strata == -1] = common[0]
    return strata if len(np.unique(strata)) > 1 else None


def _repair(held: Array, marks: Array, rng: np.random.Generator, fraction: float) -> list[int]:
    """Stratifying may leave a small class on one side: move one of its groups and, to keep the size, another back.

    Changes `held`; returns the classes for which that is impossible.
    """
    order = rng.permutation(len(marks))
    stuck = []
    for c in np.flatnonzero(marks.any(axis=0)):
        for side in (True, False):
            here = marks[held == side].sum(axis=0)
            if here[c]:
                continue
            moved = _movable(held != side, marks, order, marks[:, c])
            if not len(moved):
                stuck.append(int(c))
                continue
            held[moved[0]] = side
            back = _movable(held == side, marks, order, ~marks[:, c])
            if len(back):
                share = fraction if side else 1 - fraction
                surplus = marks[held == side].sum(axis=0) - share * marks.sum(axis=0)
                mean = marks[back] @ surplus / np.maximum(marks[back].sum(axis=1), 1)
                held[back[np.argmax(mean)]] = not side
    return stuck


def _movable(side: Array, marks: Array, order: Array, wanted: Array) -> Array:
    """Groups of a side that are wanted and leave every one of their classes there, in random order."""
    last = marks[side].sum(axis=0) < 2
    can = side & wanted & ~(marks & last).any(axis=1)
    return np.asarray(order[can[order]])
