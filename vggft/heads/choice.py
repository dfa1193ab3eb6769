"""Choose a linear probe by images that it has not seen: which blocks it sees, and how it normalises them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Head, Training
from ..evaluation.checks import score
from ..evaluation.metrics import accuracy_of
from ..evaluation.mistakes import losses as image_losses
from ..features.cuts import cut_of
from ..network.blocks import BLOCKS
from ..splits.pool import Pool
from ..telling.progress import Narrator
from .batches import FeatureBank
from .probe import train_probe
from .resampling import Fitted, Fold

# Compared by `finetune` if no head is asked for. The first was at or near the best on seven sets of pictures; each of
# the others was better on some of them.
CANDIDATES = (Head(), Head(normalize="l2"), Head(normalize="standardize"))


@dataclass(frozen=True)
class Choice:
    """The probe that was chosen, and how well each of those that were compared did; `str` says why.

    Args:
        head: the one that was chosen; its blocks are known.
        settings: `strength`, `shrinkage` and `factor` of its solution, the geometric mean over the folds.
        rows: (n,) the images that judged.
        probabilities: (n, num_classes) float32, of probes that had not seen them.
        fitted: the probe of the first fold.
        told: for each candidate `blocks`, `normalize`, `log_loss`, `accuracy`, by how much its log loss is `worse` than
            that of the one that was chosen, and the standard `error` of this difference over images.
    """

    head: Head
    settings: dict[str, float]
    rows: np.ndarray
    probabilities: np.ndarray
    fitted: Fitted
    told: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        first, mine = self.told[0], next(row for row in self.told if row["worse"] == 0)
        seen = f"The head sees {_named(self.head)}: log loss {mine['log_loss']:.3f} on {len(self.rows)} images"
        others = [row for row in self.told if row is not mine]
        if not others:
            return f"{seen}."
        if mine is first:
            near = min(others, key=lambda row: float(row["worse"]))
            if near["worse"] < 0:
                told = f"{-near['worse']:.3f} +- {near['error']:.3f}"
                return f"{seen}; the best of {len(others)} others is better by {told}, too little to prefer it."
            return (
                f"{seen}; the nearest of {len(others)} others is worse by {near['worse']:.3f} +- {near['error']:.3f}."
            )
        return f"{seen}, better by {first['worse']:.3f} +- {first['error']:.3f} than what is best on most data."


def choose(
    heads: Sequence[Head],
    training: Training,
    bank: FeatureBank,
    folds: Sequence[Fold],
    *,
    pool: Pool,
    narrator: Narrator,
) -> Choice:
    """Solve every probe on every fold, and choose by the log loss of the images that were held out.

    The first is taken unless others are better by more than the standard error of the difference over images; then the
    best of those.

    Args:
        heads: linear probes, whose blocks are known.
        bank: features of all images.
        folds: one for validation images, several for cross-validation.
        pool: their labels.
        narrator: shows progress.
    """
    about: dict[str, Any] = {"multi_label": pool.multi_label, "class_names": pool.class_names}
    rows = np.concatenate([fold.validation for fold in folds if fold.validation is not None])
    solved: list[list[Fitted]] = []
    with narrator.bar("linear probes", len(heads) * sum(len(fold.train) for fold in folds), brief=True) as advance:
        for head in heads:
            cut = cut_of(BLOCKS, head)
            solved.append([])
            for fold in folds:
                pair = bank.examples(cut, fold.train), bank.judged(cut, fold.validation)
                solved[-1].append(train_probe(head, training, *pair, **about))
                advance(len(fold.train))
    probabilities = [np.concatenate([np.asarray(each.probabilities) for each in fitted]) for fitted in solved]
    labels = pool.labels(rows)
    losses = [image_losses(labels, each) for each in probabilities]
    gains = {n: losses[0] - each for n, each in enumerate(losses)}
    sure = [n for n, gain in gains.items() if gain.mean() > _error(gain)]
    best = max(sure, key=lambda n: float(gains[n].mean()), default=0)
    name = accuracy_of(pool.multi_label)
    told = tuple(
        {
            "blocks": list(head.blocks or ()),
            "normalize": head.normalize,
            "log_loss": float(losses[n].mean()),
            name: score(name, labels, probabilities[n], pool.multi_label),
            "worse": float((losses[n] - losses[best]).mean()),
            "error": _error(losses[n] - losses[best]),
        }
        for n, head in enumerate(heads)
    )
    settings = mean_settings([each.history for each in solved[best]])
    return Choice(heads[best], settings, rows, probabilities[best], solved[best][0], told)


def mean_settings(histories: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Return the geometric mean of each of the settings that validation images chose for probes."""
    kept = [next(row for row in history if row["kept"]) for history in histories]
    names = [name for name in ("strength", "shrinkage", "factor") if all(name in row for row in kept)]
    return {name: float(np.exp(np.mean([np.log(row[name]) for row in kept]))) for name in names}


def _error(values: np.ndarray) -> float:
    """Return the standard error of a mean."""
    return float(values.std() / np.sqrt(len(values)))


def _named(head: Head) -> str:
    *first, last = (block.removeprefix("block") for block in head.blocks or BLOCKS[-1:])
    blocks = f"blocks {', '.join(first)} and {last}" if first else f"block {last}"
    return f"{blocks} ({head.normalize})"
