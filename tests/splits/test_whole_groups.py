"""Whole groups are held out so that the counts of all classes come near to the fraction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggft.errors import DataError
from vggft.splits.whole_groups import FREE, HELD, KEPT, split_groups


def held_of(
    sizes: list[list[int]], fraction: float, seed: int = 0, decided: dict[int, int] | None = None
) -> tuple[set[int], np.ndarray]:
    """Split groups with so many images of each class; the groups that are held out, and their images by class."""
    rows = [(group, c) for group, counts in enumerate(sizes) for c, count in enumerate(counts) for _ in range(count)]
    groups, labels = np.array(rows).T
    fixed = None if decided is None else np.array([decided.get(group, FREE) for group in groups.tolist()])
    marks = np.eye(len(sizes[0]), dtype=bool)[labels]
    kept, held = split_groups(marks, groups, fraction, seed, "abcdef", fixed)
    assert sorted([*kept, *held]) == list(range(len(groups))) and not set(groups[kept]) & set(groups[held])
    return set(groups[held].tolist()), marks[held].sum(axis=0)


def test_the_most_uneven_groups_are_placed_first() -> None:
    """One large group of one class is the share asked for; small ones would add up to it with worse balance."""
    assert held_of([[20, 0], [0, 20], *[[5, 5]] * 8], 1 / 3)[1].tolist() == [20, 20]
    halves = [[6, 0], [3, 0], [2, 0], [1, 0], [0, 6], [0, 3], [0, 2], [0, 1]]
    for seed in range(10):
        assert held_of(halves, 0.5, seed)[1].tolist() == [6, 6]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any), min_size=4, max_size=8),
    st.sampled_from([0.2, 0.35, 0.5]),
    st.integers(0, 3),
)
def test_few_groups_are_split_nearly_as_well_as_by_trying_all(
    sizes: list[list[int]], fraction: float, seed: int
) -> None:
    counts = np.array(sizes)
    totals, has = counts.sum(axis=0), counts > 0
    present = has.any(axis=0)

    def miss(held: np.ndarray) -> float:
        return float((((counts[held].sum(axis=0) - fraction * totals) / np.maximum(totals, 1)) ** 2).sum())

    every = (np.array(sides, bool) for sides in itertools.product((0, 1), repeat=len(sizes)))
    fair = [side for side in every if (has[side].any(axis=0) & has[~side].any(axis=0))[present].all()]
    try:
        chosen, _ = held_of(sizes, fraction, seed)
    except DataError as caught:
        assert 1 in has.sum(axis=0) or "on both sides" in str(caught)
        assert not fair or len(fair) <= 2 ** len(sizes) // 8  # those that are left are hard to find
        return
    found = np.isin(np.arange(len(sizes)), list(chosen))
    assert any((found == side).all() for side in fair)
    assert miss(found) <= min(map(miss, fair)) + 0.3


def test_a_class_that_is_missing_comes_over_in_the_group_that_disturbs_least() -> None:
    """Of the second class a tenth is less than any of its groups, so that the fraction alone would hold out none."""
    sizes = [[30, 0], [30, 0], [30, 0], [1, 0], [9, 31], [0, 30], [0, 30]]
    for seed in range(5):
        held, counts = held_of(sizes, 0.1, seed)
        assert held == {3, 4} and counts.tolist() == [10, 31], seed  # and so brings the first class to its tenth


def test_decided_groups_stay_and_of_new_images_at_most_half_are_held() -> None:
    sizes = [[4, 4]] * 8
    for seed in range(5):
        held, counts = held_of(sizes, 0.25, seed, {0: HELD, 1: HELD, 2: KEPT, 3: KEPT, 4: KEPT, 5: KEPT})
        assert held == {0, 1} and counts.tolist() == [8, 8]
        held, _ = held_of(sizes, 0.5, seed, {0: HELD, 1: KEPT, 2: KEPT, 3: KEPT, 4: KEPT, 5: KEPT})
        assert len(held) == 2 and 0 in held  # one of the two new ones, though three would be nearer to the half
        held, _ = held_of(sizes, 0.75, seed, dict.fromkeys(range(4), KEPT))
        assert len(held) == 3  # and three of four at three quarters


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ([[3, 0], [3, 2], [3, 0]], r"at least 2 groups to be split, as no group is divided; too few in: 'b' \(1\)\."),
        ([[3, 3]], r"too few in: 'a' \(1\), 'b' \(1\)\. Add images of other groups, or pass the validation"),
    ],
)
def test_a_class_of_one_group_cannot_be_split(sizes: list[list[int]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        held_of(sizes, 0.5)


def test_classes_of_two_groups_can_be_split() -> None:
    assert 0 < len(held_of([[2, 2], [2, 0], [0, 2]], 0.5)[0]) < 3


def test_classes_that_cannot_be_on_both_sides_are_named() -> None:
    """Of three groups, of which each lacks another class, one is alone on its side."""
    with pytest.raises(
        DataError,
        match=r"^No split of 0\.5 into whole groups has these classes on both sides: b\. "
        r"Add images of other groups, or pass the validation and test data yourself\.$",
    ):
        held_of([[1, 1, 0], [0, 1, 1], [1, 0, 1]], 0.5)


def test_images_of_no_class_are_shared_out_too() -> None:
    """Of several labels per image: those that have none are counted as a class of their own."""
    groups = np.repeat(np.arange(20), 5)
    marks = np.zeros((100, 1), bool)
    marks[groups < 10] = True
    _, held = split_groups(marks, groups, 0.2, 0, "a", None)
    assert marks[held].sum() == 10 and (~marks[held]).sum() == 10
