"""Images whose copy, or whose group, is on another side are left out, each with a sentence that says why."""

from __future__ import annotations

import numpy as np
import pytest

from vggft.splits.apart import keep_copies_apart, keep_known_apart
from vggft.splits.splitting import Known

NAMES = tuple(f"{number}.png" for number in range(8))
TOLD = "was left out of"


def rows_of(**splits: list[int]) -> dict[str, np.ndarray]:
    return {split: np.array(rows) for split, rows in splits.items()}


def listed(rows: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return {split: found.tolist() for split, found in rows.items()}


@pytest.mark.parametrize("anew", [False, True])
def test_what_an_earlier_classifier_has_learned_from_does_not_judge(anew: bool) -> None:
    """Of the others 2 was a training image, 4 by its group, though once a test image, 3 and 5 validation images."""
    digests = ("new", "zero", "two", "three", "four", "five", "six", "new too")
    splits = {
        "zero": "train",
        "two": "train",
        "three": "validation",
        "four": "test",
        "five": "validation",
        "six": "test",
    }
    before = ["", "train", "train", "validation", "train", "validation", "test", ""]
    rows = rows_of(train=[0, 1], validation=[2, 3, 4], test=[5, 6, 7])
    left_out = keep_known_apart(rows, digests, NAMES, Known(("a", "b"), False, splits, anew), before)
    validation = [
        f"2.png {TOLD} validation: it is a train image of the classifier in start",
        f"4.png {TOLD} validation: its group has a train image of the classifier in start",
    ]
    test = [f"5.png {TOLD} test: it is a validation image of the classifier in start"]
    assert left_out == (test if anew else validation + test)
    assert listed(rows) == {"train": [0, 1], "validation": [2, 3, 4] if anew else [3], "test": [6, 7]}


def test_nothing_is_known_without_an_earlier_classifier() -> None:
    rows = rows_of(train=[0], test=[1])
    assert keep_known_apart(rows, ("a", "b"), NAMES, Known(), ["", ""]) == []
    assert listed(rows) == {"train": [0], "test": [1]}


def test_copies_stay_in_the_last_split() -> None:
    """Two copies within a split stay both; the name is that of the first copy in the latest split that has one."""
    rows = rows_of(train=[0, 1, 2], validation=[3, 4], test=[5, 6, 7])
    left_out = keep_copies_apart(rows, tuple("abcadaae"), NAMES, (), None)
    assert left_out == [
        f"3.png {TOLD} validation: it is the same image as 5.png",
        f"0.png {TOLD} train: it is the same image as 5.png",
    ]
    assert listed(rows) == {"train": [1, 2], "validation": [4], "test": [5, 6, 7]}


def test_groups_stay_in_the_last_split_and_copies_are_told_as_copies() -> None:
    groups, units = ("p", "p", "q", "r", "p", "p", "s", "s"), np.array([0, 0, 1, 2, 0, 0, 3, 3])
    rows = rows_of(train=[0, 1, 2], validation=[3], test=[4, 5, 6])
    left_out = keep_copies_apart(rows, tuple("abcdeagh"), NAMES, groups, units)
    assert left_out == [
        f"0.png {TOLD} train: it is the same image as 5.png",
        f"1.png {TOLD} train: 4.png in a later split is of the same group, 'p'",
    ]
    assert listed(rows) == {"train": [2], "validation": [3], "test": [4, 5, 6]}
