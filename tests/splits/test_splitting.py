"""Stratified splits and folds that keep copies of an image together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vggft.errors import ConfigError, DataError
from vggft.splits.groups import key_of
from vggft.splits.splitting import Known, _repair, _strata, folds_of, split_rows
from vggft.splits.whole_groups import FREE, HELD, KEPT


def distinct(count: int) -> list[str]:
    """Digests of images without copies."""
    return list(map(str, range(count)))


@st.composite
def copied(draw: st.DrawFn) -> tuple[np.ndarray, list[str]]:
    """Labels and digests of images of which some are copies; every class has at least two distinct images."""
    labels, digests = [], []
    for c in range(draw(st.integers(2, 5))):
        for i, copies in enumerate(draw(st.lists(st.integers(1, 4), min_size=2, max_size=25))):
            labels += [c] * copies
            digests += [f"{c}-{i}"] * copies
    order = draw(st.randoms(use_true_random=False))
    rows = list(range(len(labels)))
    order.shuffle(rows)
    return np.array(labels)[rows], [digests[row] for row in rows]


@settings(max_examples=60, deadline=None)
@given(copied(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_splits_hold_their_promises(data: tuple[np.ndarray, list[str]], fraction: float, seed: int) -> None:
    labels, digests = data
    classes = [str(c) for c in range(labels.max() + 1)]
    kept, held = split_rows(labels, digests, fraction, seed, classes)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    assert not {digests[row] for row in kept} & {digests[row] for row in held}
    assert set(labels[kept]) == set(labels[held]) == set(labels)
    distinct, count = len(set(digests)), len({digests[row] for row in held})
    assert count == min(max(round(fraction * distinct), len(classes)), distinct - len(classes))
    again = split_rows(labels, digests, fraction, seed, classes)
    np.testing.assert_array_equal(again[1], held)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(20, 60), min_size=2, max_size=5), st.floats(0.1, 0.9), st.integers(0, 5))
def test_splits_are_stratified(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    kept, held = split_rows(labels, distinct(len(labels)), fraction, seed, [str(c) for c in range(len(counts))])
    assert len(held) == round(fraction * len(labels))
    share = len(held) / len(labels)
    for c, count in enumerate(counts):
        assert abs((labels[held] == c).sum() - share * count) <= 1
    assert len(kept) + len(held) == len(labels)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(20, 80), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_splits_of_several_labels(classes: int, count: int, fraction: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, classes)) < rng.uniform(0.05, 0.7, classes)).astype(np.uint8)
    assume((labels.sum(axis=0) != 1).all())
    digests = [str(rng.integers(count)) for _ in range(count)]
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    labels = labels[[first[digest] for digest in digests]]  # copies agree
    distinct = labels[sorted(set(first.values()))]
    assume((distinct.sum(axis=0) != 1).all())
    try:
        kept, held = split_rows(labels, digests, fraction, seed, [str(c) for c in range(classes)])
    except DataError as caught:
        assert "on both sides" in str(caught) and distinct.sum(axis=0).min() < 5  # a rare class that is tied to others
        return
    assert not {digests[row] for row in kept} & {digests[row] for row in held}
    np.testing.assert_array_equal(labels[kept].any(axis=0), labels.any(axis=0))
    np.testing.assert_array_equal(labels[held].any(axis=0), labels.any(axis=0))
    assert abs(len({digests[row] for row in held}) - fraction * len(distinct)) <= classes + 1


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([3, 4, 2], 3, [0, 1, 2]),  # as many as may be
        ([2, 4, 3], 2, [-1, 1, -1]),  # the largest has a stratum of its own
        ([2, 4, 3, 5], 3, [-1, 1, -1, 3]),
        ([3, 3, 3], 2, [0, -1, -1]),  # of equal ones the first
        ([4, 3, 1], 3, [0, 1, 0]),  # a single image joins the largest
        ([4, 3, 1, 1], 4, [0, 1, -1, -1]),  # two are a stratum
        ([4, 3, 1, 1], 1, None),
        ([5], 3, None),
    ],
)
def test_strata_are_combinations_of_labels(sizes: list[int], limit: int, expected: list[int] | None) -> None:
    combinations = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 0]], bool)[: len(sizes)]
    found = _strata(np.repeat(combinations, sizes, axis=0), limit)
    assert expected is None if found is None else found.tolist() == np.repeat(expected, sizes).tolist()


def test_seeds_differ() -> None:
    labels, digests = np.arange(100) % 2, list(map(str, range(100)))
    splits = [split_rows(labels, digests, 0.2, seed, "ab")[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_a_small_class_is_on_both_sides_and_the_size_is_kept() -> None:
    labels = np.array([0] * 100 + [1] * 2 + [2] * 2)
    for seed in range(10):
        kept, held = split_rows(labels, distinct(104), 0.1, seed, "abc")
        assert np.bincount(labels[held]).tolist() == [8, 1, 1]
        assert np.bincount(labels[kept]).tolist() == [92, 1, 1]


@pytest.mark.parametrize(
    ("counts", "before", "after"),
    [
        ((40, 10, 2), (5, 4, 0), (5, 3, 1)),  # of b there are 2 too many for a fifth, of a 3 too few
        ((40, 10, 2), (9, 2, 0), (8, 2, 1)),
        ((10, 10, 2), (5, 1, 2), (5, 2, 1)),  # and the same for what is kept, which should be four fifths
        ((40, 10, 2), (6, 2, 2), (7, 2, 1)),
    ],
)
def test_for_an_image_that_is_moved_over_one_of_too_many_comes_back(
    counts: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    labels = np.repeat(np.arange(3), counts)
    for seed in range(8):
        held = np.concatenate([np.arange(count) < some for count, some in zip(counts, before, strict=True)])
        assert _repair(held, held >= 0, np.eye(3, dtype=bool)[labels], np.random.default_rng(seed), 0.2) == []
        assert np.bincount(labels[held], minlength=3).tolist() == list(after)


def test_the_labels_of_an_image_that_comes_back_are_too_many_on_the_mean() -> None:
    images = [[1, 0, 0]] * 10 + [[1, 1, 0]] * 10 + [[0, 0, 1]] * 2  # of a there are 2 too many, of b none
    for seed in range(8):
        held = np.isin(np.arange(22), [0, 1, 2, 3, 10, 11])
        assert _repair(held, held >= 0, np.array(images, bool), np.random.default_rng(seed), 0.2) == []
        assert [held[:10].sum(), held[10:20].sum(), held[20:].sum()] == [3, 2, 1]


def test_what_cannot_be_split() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    with pytest.raises(DataError, match=r"at least 2 distinct images to be split; too few in: 'b' \(1\), 'c' \(1\)"):
        split_rows(labels, ["0", "1", "2", "3", "4", "4"], 0.5, 0, "abc")
    for fraction in (0, 1, 1.5):
        with pytest.raises(ConfigError, match=rf"fraction in \(0, 1\); got {fraction}\."):
            split_rows(labels, ["0"] * 6, fraction, 0, "abc")
    told = r"too few in: all\. Add images, or pass the validation and test data yourself\.$"
    with pytest.raises(DataError, match=told):
        split_rows(np.zeros((1, 2), int), ["0"], 0.5, 0, "ab")
    tied = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]])  # whichever is held out, a class is missing from it
    told = r"on both sides: [abc, ]+\. Add images of them, or pass the validation and test data yourself\.$"
    with pytest.raises(DataError, match=told):
        split_rows(tied, distinct(3), 0.34, 0, "abc")


def test_the_fewest_images_that_can_be_split() -> None:
    for labels in (np.array([0, 0]), np.array([[1], [1]])):
        kept, held = split_rows(labels, distinct(2), 0.5, 0, "a")
        assert sorted([*kept, *held]) == [0, 1] and len(held) == 1
    everywhere, nowhere = np.ones((10, 3), int), np.zeros((10, 3), int)  # one image shows all three labels, or none
    for labels in (everywhere, nowhere):
        for fraction, count in ((0.01, 1), (0.1, 1), (0.2, 2), (0.99, 9)):
            assert len(split_rows(labels, distinct(10), fraction, 0, "abc")[1]) == count


@settings(max_examples=60, deadline=None)
@given(copied(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_what_an_earlier_split_decided_stays(data: tuple[np.ndarray, list[str]], fraction: float, seed: int) -> None:
    labels, digests = data
    classes = [str(c) for c in range(labels.max() + 1)]
    rng = np.random.default_rng(seed)
    side = {digest: int(rng.choice([KEPT, HELD, FREE])) for digest in sorted(set(digests))}
    decided = np.array([side[digest] for digest in digests])
    kept, held = split_rows(labels, digests, fraction, seed, classes, decided)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert set(np.flatnonzero(decided == KEPT)) <= set(kept) and set(np.flatnonzero(decided == HELD)) <= set(held)
    assert not {digests[row] for row in kept} & {digests[row] for row in held}
    for c in set(labels[decided == FREE]):
        assert c in labels[kept] and c in labels[held]
    again = split_rows(labels, digests, fraction, seed, classes, decided)
    np.testing.assert_array_equal(again[1], held)


def test_new_images_bring_the_whole_to_the_fraction_and_are_stratified() -> None:
    labels, decided = np.arange(150) % 3, np.full(150, FREE)
    decided[:90], decided[90:100] = KEPT, HELD  # a tenth, and 50 new ones
    held = split_rows(labels, distinct(150), 0.2, 0, "abc", decided)[1]
    assert len(held) == 30 and np.bincount(labels[[row for row in held if row >= 100]]).tolist() in (
        [6, 7, 7], [7, 6, 7], [7, 7, 6]
    )  # fmt: skip
    held = split_rows(labels, distinct(150), 0.4, 0, "abc", decided)[1]
    assert len(held) == 10 + 25  # half of the new images are there to learn from
    decided[90:120] = HELD
    assert len(split_rows(labels, distinct(150), 0.2, 0, "abc", decided)[1]) == 30  # enough are held already


@pytest.mark.parametrize("seed", range(5))
def test_a_single_new_image_is_kept_and_a_new_class_is_on_both_sides(seed: int) -> None:
    labels, decided = np.arange(104) % 2, np.repeat([KEPT, HELD, FREE], [83, 20, 1])
    kept, held = split_rows(labels, distinct(104), 0.2, seed, "ab", decided)
    assert 103 in kept and len(held) == 20
    labels, decided = np.append(labels, [2, 2]), np.append(np.repeat([KEPT, HELD], [84, 20]), [FREE, FREE])
    kept, held = split_rows(labels, distinct(106), 0.2, seed, "abc", decided)
    assert (labels[kept] == 2).sum() == (labels[held] == 2).sum() == 1
    with pytest.raises(DataError, match=r"at least 2 distinct images to be split; too few in: 'c' \(1\)"):
        split_rows(labels[:-1], distinct(105), 0.2, seed, "abc", decided[:-1])


def test_a_class_without_new_images_may_be_on_one_side() -> None:
    labels, decided = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([KEPT, HELD, FREE, FREE, KEPT, KEPT, KEPT])
    kept, held = split_rows(labels, distinct(7), 0.3, 0, "abc", decided)
    assert set(labels[held]) == {0} and set(labels[kept]) == {0, 1, 2}


def test_what_was_once_trained_on_remains_a_training_image() -> None:
    known = Known(splits={"a": "train", "b": "validation", "c": "test", "gone": "train"})
    merged = known.with_splits({"a": "test", "b": "train", "c": "validation", "new": "test"})
    assert merged == {"a": "train", "b": "train", "c": "validation", "gone": "train", "new": "test"}


def test_what_an_earlier_classifier_fixes() -> None:
    known = Known(splits={"a": "train", "b": "validation", key_of("p1"): "test", key_of("p2"): "train"})
    assert all(known.decides(split) for split in ("train", "validation", "test"))
    anew = Known(splits=known.splits, anew=True)  # whose training images may be validation images now
    assert [anew.decides(split) for split in ("train", "validation", "test")] == [True, False, True]
    assert not Known().decides("train") and not Known(anew=True).decides("test")
    assert known.fixed(["a", "new", "b"], ["p1", "", ""], None) == ["train", "", "validation"]
    units = np.array([0, 0, 1, 1, 2, 3, 4, 4])  # units are fixed by an image that is known, or by the name of a group
    digests, groups = ["new", "b", "new", "a", "new", "new", "a", "b"], ["", "", "p1", "p1", "p2", "", "", ""]
    found = ["validation", "validation", "train", "train", "train", "", "train", "train"]
    assert known.fixed(digests, groups, units) == found and Known().fixed(digests, groups, units) == [""] * 8


def test_folds_are_stratified_and_keep_copies_together() -> None:
    labels = np.repeat([0, 1], [60, 20])
    targets = np.eye(2, dtype="float32")[labels]
    digests = [f"{row // 2}" for row in range(80)]  # every image is there twice
    folds = folds_of(targets, digests, 4, 0, ("a", "b"))
    assert len(folds) == 4 and len(folds_of(targets, digests, 10, 0, ("a", "b"))) == 10  # as many as images of b
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(80))
    for train, held in folds:
        assert set(train) | set(held) == set(range(80)) and not set(train) & set(held)
        assert not {digests[row] for row in train} & {digests[row] for row in held}
        assert (labels[held] == 1).sum() in (4, 6)  # of 20
    again = folds_of(targets, digests, 4, 0, ("a", "b"))
    assert all((a[1] == b[1]).all() for a, b in zip(folds, again, strict=True))
    with pytest.raises(
        DataError, match=r"11 folds need as many distinct images of every class; too few in: 'b' \(10\)"
    ):
        folds_of(targets, digests, 11, 0, ("a", "b"))


def test_folds_of_whole_groups() -> None:
    groups, labels = np.arange(60) // 3, np.arange(60) // 3 % 2
    targets = np.eye(2)[labels]
    for kind in (targets, np.where(targets > 0, 0.9, 0)):  # any weight is a label
        folds = folds_of(kind, distinct(60), 10, 0, "ab", groups)
        assert sorted(np.concatenate([held for _, held in folds])) == list(range(60))
        for train, held in folds:
            assert not set(groups[train]) & set(groups[held]) and sorted(labels[held]) == [0, 0, 0, 1, 1, 1]
    with pytest.raises(
        DataError, match=r"^11 folds need as many groups of every class; too few in: 'a' \(10\), 'b' \("
    ):
        folds_of(targets, distinct(60), 11, 0, "ab", groups)
    tied = np.array([[1, 1], [1, 0], [1, 1], [0, 0]])  # the groups of both labels come into one fold
    told = r"^2 folds of whole groups leave nothing to learn from of: 'a', 'b'\. Use fewer folds\.$"
    with pytest.raises(DataError, match=told):
        folds_of(tied, distinct(4), 2, 0, "ab", np.array([2, 2, 3, 0]))
