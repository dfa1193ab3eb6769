"""Hold out whole groups of images, so that all classes come near to their fraction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError, some

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT, HELD, FREE = 0, 1, -1  # the side of an image that is decided already, or that it is not
DRAWS = 10  # of whole groups, of which the nearest to the fraction is taken
PASSES = 3  # over all groups, each of which may change sides


def split_groups(
    marks: np.ndarray,
    groups: np.ndarray,
    fraction: float,
    seed: int,
    class_names: Sequence[str],
    decided: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out whole groups as `split_rows` does, which says what the arguments are; `marks` is (N, num_classes) bool.

    As in scikit-learn's `StratifiedGroupKFold`, groups are taken one after the other, those with the most uneven
    classes first, and held out if that brings the counts of all classes nearer to the fraction. Then they are taken in
    other orders, drawn by lot, and the nearest of all is returned.
    """
    numbers, members = np.unique(groups, return_inverse=True)
    sizes = np.zeros((len(numbers), marks.shape[1] + 1))  # images of each class, and without any class
    np.add.at(sizes, members, np.column_stack([marks, ~marks.any(axis=1)]))
    sides = np.full(len(numbers), FREE)
    if decided is not None:
        sides[members] = decided
    free, owners = sides == FREE, (sizes[:, :-1] > 0).sum(axis=0)
    few = [c for c in np.flatnonzero(owners < 2).tolist() if sizes[free, c].any()]
    if few or len(numbers) < 2:
        small = some(f"{class_names[c]!r} ({owners[c]})" for c in few) or "all"
        raise DataError(
            f"Every class needs images of at least 2 groups to be split, as no group is divided; too few in: {small}."
            " Add images of other groups, or pass the validation and test data yourself."
        )
    images = np.bincount(members)
    most = images[free].sum() * (1.0 if decided is None else max(fraction, 0.5))
    rng, best = np.random.default_rng(seed), None
    for _ in range(max(1, min(DRAWS, 100_000 // len(numbers)))):
        order = rng.permutation(np.flatnonzero(free))
        if best is None:
            order = order[np.argsort(-sizes[order, :-1].std(axis=1), kind="stable")]
        held = _choose(sizes, images, sides, fraction, most, order)
        missing = [~sizes[side, :-1].any(axis=0) for side in (held, ~held)]
        stuck = np.flatnonzero((missing[0] | missing[1]) & sizes[free, :-1].any(axis=0)).tolist()
        score = len(stuck), _miss(sizes[held].sum(axis=0), sizes.sum(axis=0), fraction)
        if best is None or score < best[0]:
            best = score, held, stuck
    assert best is not None
    if best[2]:
        raise DataError(
            f"No split of {fraction:g} into whole groups has these classes on both sides: "
            f"{some(class_names[c] for c in best[2])}. Add images of other groups, or pass the validation and test "
            "data yourself."
        )
    return np.flatnonzero(~best[1][members]), np.flatnonzero(best[1][members])


def _choose(
    sizes: np.ndarray, images: np.ndarray, sides: np.ndarray, fraction: float, most: float, order: np.ndarray
) -> np.ndarray:
    """Choose the groups that are held out, (G,) bool.

    Args:
        sizes: (G, num_classes + 1) images of each group by class.
        images: (G,) number of images of each group.
        sides: (G,) of `KEPT`, `HELD` and `FREE`.
        most: number of images of free groups that may be held out.
        order: the free groups, in the order in which they are taken.
    """
    held, totals, has = sides == HELD, sizes.sum(axis=0), sizes[:, :-1] > 0
    count, owners = sizes[held].sum(axis=0), {True: has[held].sum(axis=0), False: has[~held].sum(axis=0)}

    def move(group: int) -> None:
        nonlocal count, most
        there, sign = not held[group], -1 if held[group] else 1
        count, most = count + sign * sizes[group], most - sign * images[group]
        owners[there], owners[not there] = owners[there] + has[group], owners[not there] - has[group]
        held[group] = there

    def may_leave(group: int) -> bool:  # whether no class would be missing from the side that it is on
        return not (owners[bool(held[group])][has[group]] < 2).any()

    def come_nearer() -> None:
        for _ in range(PASSES):
            before = held.copy()
            for group in order:
                after = count - sizes[group] if held[group] else count + sizes[group]
                nearer = _miss(after, totals, fraction) < _miss(count, totals, fraction)
                if nearer and (held[group] or images[group] <= most) and may_leave(group):
                    move(group)
            if (held == before).all():
                break

    come_nearer()
    for c in np.flatnonzero(has[order].any(axis=0)):
        could = [group for group in order if has[group, c] and not held[group] and may_leave(group)]
        if not owners[True][c] and could:
            move(min(could, key=lambda group: _miss(count + sizes[group], totals, fraction)))
            come_nearer()  # others may go back
    return held


def _miss(count: np.ndarray, totals: np.ndarray, fraction: float) -> float:
    """Return how far counts of held images, by class, are from a fraction of the totals."""
    return float((((count - fraction * totals) / np.maximum(totals, 1)) ** 2).sum())
