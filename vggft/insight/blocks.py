"""What each block alone knows about the images: whether frozen blocks are enough, and which might learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from ..features.cuts import POOLED
from ..features.vectors import embeddings
from ..files.schemas import BlockScore
from ..heads.batches import FeatureBank
from ..heads.discriminants import discriminants
from ..network.blocks import BLOCKS, pooling_layer
from ..telling.display import score

SHRINKAGE = 0.3  # near the best on seven sets of pictures


def block_scores(bank: FeatureBank, train: np.ndarray, judged: np.ndarray) -> list[BlockScore]:
    """Return for each block the accuracy of a linear discriminant analysis of its averages alone.

    Args:
        bank: features of all images.
        train: (n,) rows to learn from, every class among them.
        judged: (m,) rows that judge.

    Returns:
        `block`, `accuracy` and its standard `error`, first block first; empty if the cache has not the pooled outputs
        of all blocks, or if images have several labels.
    """
    if POOLED not in bank.features or (bank.targets.sum(axis=1) != 1).any() or not len(judged):
        return []
    labels, found = bank.targets.argmax(axis=1), list[BlockScore]()
    priors = bank.targets[train].mean(axis=0)
    with threadpool_limits(1):
        for block in BLOCKS:
            cut = pooling_layer("avg", (block,))
            vectors = embeddings(bank.inputs(cut), cut, bank.width)
            ((kernel, bias),) = discriminants(vectors[train], labels[train], [SHRINKAGE], priors)
            right = (vectors[judged] @ kernel + bias).argmax(axis=1) == labels[judged]
            share = float(right.mean())
            found.append({"block": block, "accuracy": share, "error": math.sqrt(share * (1 - share) / len(right))})
    return found


def told(scores: Sequence[BlockScore]) -> str:
    """Say what the scores of the blocks mean for what to freeze.

    Later blocks are made for the pictures that the network was pretrained on. Where an earlier one knows as much, to
    within one standard error, what the later ones threw away may be what these images need.

    >>> told([{"block": f"block{n}", "accuracy": 0.2 * n - 0.1, "error": 0.03} for n in range(1, 6)])
    'The last block knows most about these images (0.900), which is why frozen blocks can be enough.'
    """
    best = max(scores, key=lambda row: float(row["accuracy"]))
    first = next(row for row in scores if row["accuracy"] >= best["accuracy"] - best["error"])
    last, name = scores[-1], first["block"].replace("block", "block ")
    both = f"({score(first['accuracy'])} and {score(last['accuracy'])})"
    if first is last:
        known = score(last["accuracy"])
        return f"The last block knows most about these images ({known}), which is why frozen blocks can be enough."
    if last["accuracy"] >= best["accuracy"] - best["error"]:
        return f"Already {name} alone tells these images apart as well as the last one {both}: later ones add little."
    return (
        f"Already {name} alone knows more about these images than the last one {both}: the blocks after it were made "
        "for other pictures, and may gain by learning."
    )
