"""Seeded, stratified splits and folds that keep copies of an image, and images of a group, together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from ..errors import ConfigError, DataError, some
from ..fields import shown
from ..listings.listing import SPLITS
from .groups import key_of
from .whole_groups import FREE, HELD, split_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Known:
    """What an earlier classifier, which a run starts from, fixes about the data.

    Args:
        class_names: its classes, which stay the first ones, in its order; none if there is no such classifier.
        multi_label: whether an image may have several classes; None infers it.
        splits: digest of every image that it knows -> `"train"`, `"validation"` or `"test"`.
        anew: whether nothing that it has learned is used, so that its training images may be validation images now.
    """

    class_names: tuple[str, ...] = ()
    multi_label: bool | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    anew: bool = False

    def decides(self, split: str) -> bool:
        """Whether it fixes which images are in a split."""
        return bool(self.splits) and not (self.anew and split == "validation")

    def fixed(self, digests: Sequence[str], groups: Sequence[str], units: np.ndarray | None) -> list[str]:
        """Return the split that it fixes for each of N images, by the image or by others of its unit; "" for none."""
        found = [self.splits.get(digest, "") for digest in digests]
        if units is None or not self.splits:
            return found
        of_unit: dict[int, str] = {}
        for split, group, unit in zip(found, groups, units.tolist(), strict=True):
            several = [each for each in (split, self.splits.get(key_of(group)), of_unit.get(unit)) if each]
            if several:
                of_unit[unit] = earlier(*several)
        return [of_unit.get(unit, "") for unit in units.tolist()]

    def with_splits(self, splits: Mapping[str, str]) -> dict[str, str]:
        """Add the splits of a run. An image that a classifier has once learned from remains a training image."""
        return {**splits, **{digest: earlier(each, splits.get(digest, each)) for digest, each in self.splits.items()}}


def earlier(*splits: str) -> str:
    """Return the split among these that is used first: train before validation before test."""
    return min(splits, key=SPLITS.index)


def split_rows(
    labels: np.ndarray,
    digests: Sequence[str],
    fraction: float,
    seed: int,
    class_names: Sequence[str],
    decided: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a stratified fraction of the images; copies of an image, and images of a group, stay on one side.

    Args:
        labels: (N,) int64, or (N, num_classes) of 0 and 1.
        digests: one per image; copies have the same digest.
        fraction: share of the distinct images to hold out, in (0, 1). It is met exactly unless small classes need more.
        seed: the same seed gives the same split.
        class_names: for error messages.
        decided: (N,) of `KEPT`, `HELD` and `FREE`: images whose side an earlier split has decided stay there, and only
            the free ones are split, so that the whole comes as near to the fraction as they allow. At most half of
            them are held out, or `fraction` of them if that is more: a single one is kept. None: all are free.
        groups: (N,) int64 that are equal for images that stay together, copies among them, and are decided alike. The
            fraction is then of images, met as nearly as whole groups allow. None: only copies stay together.

    Returns:
        Two sorted int64 arrays: the rows that are kept and those that are held out. Every class that has images is on
        both sides; a class may be on one side only if all of its images are decided.

    Raises:
        ConfigError: `fraction` is not in (0, 1).
        DataError: classes have fewer than two distinct images or groups, or cannot be on both sides; they are named.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"A split must be a fraction in (0, 1); got {shown(fraction)}.")
    marks = labels.astype(bool) if labels.ndim == 2 else np.arange(len(class_names)) == labels[:, None]
    if groups is not None:
        return split_groups(marks, groups, fraction, seed, class_names, decided)
    copies, first = _copies(digests)
    present, marks = np.flatnonzero(marks.any(axis=0)).tolist(), marks[first]  # if copies disagree, the audit says so
    sides = np.full(len(marks), FREE) if decided is None else decided[first]
    held, free = sides == HELD, np.flatnonzero(sides == FREE)
    few = [c for c in present if marks[:, c].sum() < 2 and marks[free, c].any()]
    small = [f"{class_names[c]!r} ({marks[:, c].sum()})" for c in few]
    if small or len(marks) < 2:
        raise DataError(
            f"Every class needs at least 2 distinct images to be split; too few in: {some(small) or 'all'}."
            " Add images, or pass the validation and test data yourself."
        )
    need = 1 if labels.ndim == 2 else len(present)
    count = min(max(round(fraction * len(marks)), need), len(marks) - need)
    most = count if decided is None else int(len(free) * max(fraction, 0.5))
    if (count := min(count - int(held.sum()), most)) > 0:
        strata = _strata(marks[free], min(count, len(free) - count))
        held[train_test_split(free, test_size=count, random_state=seed, stratify=strata)[1]] = True
    stuck = _repair(held, sides == FREE, marks, np.random.default_rng(seed), fraction)
    if stuck:
        raise DataError(
            f"No split of {fraction:g} has these classes on both sides: {some(class_names[c] for c in stuck)}."
            " Add images of them, or pass the validation and test data yourself."
        )
    return np.flatnonzero(~held[copies]), np.flatnonzero(held[copies])


def folds_of(
    targets: np.ndarray,
    digests: Sequence[str],
    folds: int,
    seed: int,
    class_names: Sequence[str],
    groups: np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make stratified folds; copies of one image, and images of one group, are in one fold.

    Args:
        targets: (N, num_classes) one-hot or multi-hot.
        digests: one per image; copies have the same digest.
        folds: number of folds.
        seed: the same seed gives the same folds.
        class_names: for error messages.
        groups: as in `split_rows`.

    Returns:
        For each fold, the rows outside it and the rows inside it.

    Raises:
        DataError: classes have fewer distinct images, or groups, than there are folds; they are named.
    """
    copies, first = _copies(digests)
    counts = targets[first].sum(axis=0)
    whole, what = (counts, "distinct images") if groups is None else (owners_of(targets > 0, groups), "groups")
    small = [f"{class_names[int(c)]!r} ({whole[c]:.0f})" for c in np.flatnonzero(whole < folds)]
    if small:
        raise DataError(f"{folds} folds need as many {what} of every class; too few in: {some(small)}.")
    # An image with several labels is stratified by its rarest label.
    rarest = np.where(targets > 0, counts, np.inf).argmin(axis=1)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = list(splitter.split(targets, rarest, copies if groups is None else groups))
    without = [c for outside, _ in found for c in np.flatnonzero(~(targets[outside] > 0).any(axis=0)).tolist()]
    if without or not all(len(inside) for _, inside in found):
        bare = some(dict.fromkeys(repr(class_names[c]) for c in without)) or "some folds would be empty"
        raise DataError(f"{folds} folds of whole groups leave nothing to learn from of: {bare}. Use fewer folds.")
    return found


def owners_of(marks: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Count the groups that have images of each class, (num_classes,)."""
    return np.array([len(np.unique(groups[column])) for column in marks.T])


def _copies(digests: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct images; return (N,) the number of each image, and the first row of each number."""
    first: dict[str, int] = {}
    for row, digest in enumerate(digests):
        first.setdefault(digest, row)
    rows = np.array(list(first.values()), np.int64)
    return np.searchsorted(rows, [first[digest] for digest in digests]), rows


def _strata(marks: np.ndarray, limit: int) -> np.ndarray | None:
    """Number the label combinations, at most `limit`; rare ones share -1, as scikit-learn needs two of each."""
    combination, sizes = np.unique(marks, axis=0, return_inverse=True, return_counts=True)[1:]
    combination = combination.reshape(-1)
    common = [c for c in np.argsort(-sizes, kind="stable") if sizes[c] >= 2]
    if len(common) < len(sizes) or len(common) > limit:
        common = common[: max(limit - 1, 0)]
    strata = np.where(np.isin(combination, common), combination, -1)
    if (strata == -1).sum() == 1 and common:  # a single rare one joins the largest
        strata[strata == -1] = common[0]
    return strata if len(np.unique(strata)) > 1 else None


def _repair(
    held: np.ndarray, free: np.ndarray, marks: np.ndarray, rng: np.random.Generator, fraction: float
) -> list[int]:
    """Bring classes that are on one side only to both: move an image over and, to keep the size, another one back.

    Only free images are moved. Changes `held`; returns the classes for which this is impossible though they have some.
    """
    order = rng.permutation(len(marks))
    stuck = []
    for c in np.flatnonzero(marks.any(axis=0)):
        for side in (True, False):
            if marks[held == side, c].any() or not marks[free, c].any():
                continue
            moved = _movable(held != side, free, marks, order, marks[:, c])
            if not len(moved):
                stuck.append(int(c))
                continue
            held[moved[0]] = side
            back = _movable(held == side, free, marks, order, ~marks[:, c])
            if len(back):
                share = fraction if side else 1 - fraction
                surplus = marks[held == side].sum(axis=0) - share * marks.sum(axis=0)
                mean = marks[back] @ surplus / np.maximum(marks[back].sum(axis=1), 1)
                held[back[np.argmax(mean)]] = not side
    return stuck


def _movable(
    side: np.ndarray, free: np.ndarray, marks: np.ndarray, order: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """List the wanted free images of a side that are not the last of any of their classes there, in random order."""
    last = marks[side].sum(axis=0) < 2
    can = side & free & wanted & ~(marks & last).any(axis=1)
    return np.asarray(order[can[order]])
