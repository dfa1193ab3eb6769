"""Leave out images whose copies, or whose group, are on another side already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .splitting import Known, earlier


def keep_known_apart(
    rows: dict[str, np.ndarray], digests: tuple[str, ...], names: tuple[str, ...], known: Known, before: Sequence[str]
) -> list[str]:
    """Leave out of a split what an earlier classifier knows from an earlier split, as it would not be judged honestly.

    Changes `rows`; returns a sentence for each image that is left out.
    """
    left_out: list[str] = []
    for split, chosen in rows.items():
        if not known.decides(split):
            continue
        used = [row for row in chosen if earlier(before[row] or split, split) != split]
        for row in used:
            own = known.splits.get(digests[row], "")
            is_one = "it is" if earlier(own or split, split) != split else "its group has"
            left_out.append(
                f"{names[row]} was left out of {split}: {is_one} a {before[row]} image of the classifier in start"
            )
        rows[split] = np.setdiff1d(chosen, used) if used else chosen
    return left_out


def keep_copies_apart(
    rows: dict[str, np.ndarray],
    digests: tuple[str, ...],
    names: tuple[str, ...],
    groups: Sequence[str],
    units: np.ndarray | None,
) -> list[str]:
    """Leave out of train what is also in validation or test, and out of validation what is also in test.

    That is a copy, or without being one another image of the same group. Changes `rows`; returns a sentence for each
    image that is left out.
    """
    left_out: list[str] = []
    unit_of: Sequence[Any] = digests if units is None else units.tolist()
    later: dict[Any, list[int]] = {}  # unit -> its rows of later splits
    for split in reversed(list(rows)):
        used = [row for row in rows[split] if unit_of[row] in later]
        for row in used:
            found = later[unit_of[row]]
            copy = next((other for other in found if digests[other] == digests[row]), None)
            if copy is None:
                told = f"{names[found[0]]} in a later split is of the same group, {groups[row]!r}"
            else:
                told = f"it is the same image as {names[copy]}"
            left_out.append(f"{names[row]} was left out of {split}: {told}")
        rows[split] = np.setdiff1d(rows[split], used) if used else rows[split]
        for row in rows[split]:
            later.setdefault(unit_of[row], []).append(row)
    return left_out
