"""Folds and repeats: which rows a setting is trained on, and which it is scored on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.pool import Pool
from ..data.splitting import folds_of


@dataclass(frozen=True)
class Fold:
    """The rows of one training, and those that it is scored on.

    Args:
        train: rows to learn from.
        validation: rows that select the best epoch and give the score; None keeps the last epoch.
        seed: seed of initial weights, order and dropout.
        name: distinguishes it from the other folds.
    """

    train: np.ndarray
    validation: np.ndarray | None
    seed: int
    name: str = "fit"


def resample(pool: Pool, folds: int | None, repeats: int, seed: int) -> list[Fold]:
    """Return the trainings that a setting is scored by: the given split or `folds` of it, each `repeats` times.

    Args:
        folds: number of folds of train and validation images together; None for the given split.
        repeats: number of trainings of each fold, with different seeds.
    """
    pairs = [(pool.rows["train"], pool.rows["validation"])]
    if folds is not None:
        both = np.concatenate(pairs[0])
        digests = [pool.digests[row] for row in both]
        split = folds_of(pool.targets[both], digests, folds, seed, pool.class_names)
        pairs = [(both[train], both[held]) for train, held in split]
    return [
        Fold(train, held, seed + repeat, f"repeat{repeat}-fold{fold}")
        for repeat in range(repeats)
        for fold, (train, held) in enumerate(pairs)
    ]
