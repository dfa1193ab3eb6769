"""Folds and repeats: which rows a setting is trained on, which it is scored on, and what it has learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError, counted
from ..splits.pool import Pool
from ..splits.splitting import folds_of, split_rows


@dataclass(frozen=True)
class Fold:
    """The rows of one training, and those that it is scored on.

    Args:
        train: rows to learn from.
        validation: rows that select the best epoch and give the score; None keeps the last epoch.
        seed: seed of initial weights, order and dropout.
        name: distinguishes it from the other folds.
        settings: of the probe, as another training has chosen them; empty to choose them by `validation`.
    """

    train: np.ndarray
    validation: np.ndarray | None
    seed: int
    name: str = "fit"
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """The result of a training, at its best epoch.

    Args:
        weights: weights of all layers outside the frozen blocks, by layer and number: `{"fc1/0": kernel, ...}`.
        history: one row per epoch, with `phase`, `epoch`, losses, accuracies and whether its weights were `kept`.
        probabilities: (n, num_classes) of the validation images; None if they were not requested.
    """

    weights: dict[str, np.ndarray]
    history: list[dict[str, Any]]
    probabilities: np.ndarray | None = None

    @property
    def epochs(self) -> dict[str, int]:
        """The best epoch of each phase, counted from 1; 0 if the weights before the phase were better."""
        return best_epochs(self.history)


@dataclass(frozen=True)
class Held:
    """Predictions by networks that had not seen the images, where the final one has: before a refit.

    Args:
        split: `"validation"`, or `"cross-validation"` for those of several folds.
        rows: (n,) the images.
        probabilities: (n, num_classes).
    """

    split: str
    rows: np.ndarray
    probabilities: np.ndarray


def ending_of(history: list[dict[str, Any]], planned: int) -> str:
    """Say how the last phase of a history ended.

    >>> ending_of([{"phase": "head", "epoch": n, "kept": n == 2} for n in (1, 2, 3)], planned=9)
    'head: stopped after epoch 3, kept 2'
    """
    phase, last = history[-1]["phase"], history[-1]["epoch"]
    best = best_epochs(history)[phase]
    ended = f"stopped after epoch {last}" if last < planned else counted(last, "epoch")
    return f"{phase}: {ended}, kept {best or 'the weights before it'}"


def best_epochs(history: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the epoch of every phase whose weights were kept, counted from 1; 0 for the weights before its first."""
    best: dict[str, int] = {}
    for row in history:
        best[row["phase"]] = row["epoch"] if row["kept"] else best.get(row["phase"], 0)
    return best


def continued(history: list[dict[str, Any]], more: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the history of weights that were trained further, from the best epoch of their last phase.

    >>> past = [{"phase": "head", "epoch": n, "kept": n == 2} for n in (1, 2, 3)]
    >>> [row["epoch"] for row in continued(past, [{"phase": "head", "epoch": 1, "kept": True}])]
    [1, 2, 3]
    """
    last = history[-1]["phase"]
    best = best_epochs(history)[last]
    begun = [row for row in history if row["phase"] != last or row["epoch"] <= best]
    return [*begun, *({**row, "epoch": row["epoch"] + best} for row in more)]


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
        split = folds_of(pool.targets[both], digests, folds, seed, pool.class_names, pool.units_of(both))
        pairs = [(both[train], both[held]) for train, held in split]
    return [
        Fold(train, held, seed + repeat, f"repeat{repeat}-fold{fold}")
        for repeat in range(repeats)
        for fold, (train, held) in enumerate(pairs)
    ]


def nested(pool: Pool, folds: int, repeats: int, share: float | None, seed: int) -> Iterator[tuple[Fold, np.ndarray]]:
    """Yield the trainings of a cross-validation, each with the rows that judge it: nothing else uses these.

    The images are those of train and validation together. Every repeat puts them into other folds.

    Args:
        folds: number of folds.
        repeats: number of times that every image is judged.
        share: of the images outside a fold, which are left out of training and select the epoch or the strength,
            stratified; None for none.

    Raises:
        DataError: classes have too few images; they are named.
    """
    both = np.sort(np.concatenate([pool.rows["train"], pool.rows["validation"]]))
    for repeat in range(repeats):
        digests = [pool.digests[row] for row in both]
        pairs = folds_of(pool.targets[both], digests, folds, seed + repeat, pool.class_names, pool.units_of(both))
        for number, (outside, inside) in enumerate(pairs):
            train, chosen = both[outside], None
            if share is not None:
                labels = pool.targets[train].astype("int64")
                labels = labels if pool.multi_label else labels.argmax(axis=1)
                try:
                    copies = [digests[row] for row in outside]
                    how = pool.class_names, None, pool.units_of(train)
                    kept, left = split_rows(labels, copies, share, seed + repeat, *how)
                except DataError as error:
                    more = "More folds leave more images, and validation=None selects nothing."
                    raise DataError(
                        f"Outside of a fold there are too few images to select on. {error} {more}"
                    ) from None
                train, chosen = train[kept], train[left]
            yield Fold(train, chosen, seed + repeat, f"repeat{repeat}-fold{number}"), both[inside]
