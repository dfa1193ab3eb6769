"""What is trained, and in which phases: the head first, then the unfrozen blocks together with the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..config import Head, Training
from ..features.cuts import cut_of
from ..network.blocks import BLOCKS


@dataclass(frozen=True)
class Setting:
    """What is trained: which blocks are frozen, the head, and how. `training` may have fields that are unresolved."""

    frozen: tuple[str, ...]
    head: Head
    training: Training


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one schedule.

    Args:
        name: in the history and in the names of resume points.
        freeze: the blocks that are held still.
        epochs: maximum number of epochs.
        learning_rate: peak of the schedule.
        block_rates: factor on the learning rate for each block; 1 where a block is not named.
        patience: epochs without improvement after which the phase ends.
        keep_start: whether the weights at the start compete for the best epoch.
        from_pixels: whether the phase learns from augmented pixels rather than from frozen features.
    """

    name: str
    freeze: tuple[str, ...]
    epochs: int
    learning_rate: float
    block_rates: Mapping[str, float]
    patience: int
    keep_start: bool = False
    from_pixels: bool = False

    def cut(self, pooling: str) -> str | None:
        """The layer whose frozen features the phase learns from; None where it learns from pixels."""
        return None if self.from_pixels else cut_of(self.freeze, pooling)


def phases_of(setting: Setting, from_pixels: bool = False) -> tuple[Phase, ...]:
    """The standard phases: the head with every block held still; then, if any block is unfrozen, blocks and head.

    In the second phase each block learns at `block_decay` times the rate of the block above it, and the weights of the
    first phase are kept unless an epoch is better.

    Args:
        setting: with a resolved `training`.
        from_pixels: whether augmentation changes the pixels anew in every epoch, which the last phase then learns from.
    """
    training = setting.training
    epochs, patience = training.epochs or 1, training.patience
    head = Phase("head", BLOCKS, epochs, training.learning_rate, {}, patience or epochs)
    if setting.frozen == BLOCKS:
        return (replace(head, from_pixels=from_pixels),)
    epochs = training.fine_tune_epochs or 1
    blocks = Phase(
        "blocks and head",
        setting.frozen,
        epochs,
        training.fine_tune_learning_rate or 0.0,
        {block: training.block_decay**distance for distance, block in enumerate(reversed(BLOCKS))},
        patience or epochs,
        keep_start=True,
        from_pixels=from_pixels,
    )
    return head, blocks
