"""Folds and repeats: which rows a setting is trained on, and which it is scored on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.splitting import folds_of
from .experiment import Base


@dataclass(frozen=True)
class Fit:
    """One training that a trial is scored by.

    Args:
        train: rows to learn from.
        validation: rows to be scored on.
        seed: of initial weights, order and dropout.
        name: tells it from the others.
    """

    train: np.ndarray
    validation: np.ndarray
    seed: int
    name: str = "fit"


def fits_of(base: Base, folds: int | None, repeats: int) -> list[Fit]:
    """What each trial is scored by."""
    rows, pool = base.pool.rows, base.pool
    pairs = [(rows["train"], rows["validation"])]
    if folds is not None:
        both = np.concatenate([rows["train"], rows["validation"]])
        split = folds_of(pool.targets[both], [pool.digests[row] for row in both], folds, base.seed, pool.class_names)
        pairs = [(both[train], both[held]) for train, held in split]
    return [
        Fit(train, held, base.seed + repeat, f"repeat{repeat}-fold{fold}")
        for repeat in range(repeats)
        for fold, (train, held) in enumerate(pairs)
    ]
