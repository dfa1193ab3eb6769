"""What is trained, and in which phases: the head first, then the unfrozen blocks together with the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..config import Head, Training
from ..features.cuts import cut_of
from ..network.blocks import BLOCKS, HEAD_BLOCKS, frozen_prefix


@dataclass(frozen=True)
class Setting:
    """What is trained, and how: frozen blocks, head, and training, whose fields may be unresolved."""

    frozen: tuple[str, ...]
    head: Head
    training: Training

    def with_blocks(self) -> Setting:
        """Return the setting with the blocks of its head, if they are left open.

        A head sees blocks 3 to 5; if blocks learn, only those that follow from the end of the frozen prefix, so that
        training can start there.
        """
        if self.head.blocks is not None:
            return self
        prefix = frozen_prefix(self.frozen)
        first = BLOCKS.index(prefix[-1]) if prefix and prefix != BLOCKS else 0
        blocks = tuple(block for block in HEAD_BLOCKS if BLOCKS.index(block) >= first)
        if self.head.pooling == "flatten":
            blocks = BLOCKS[-1:]
        return replace(self, head=replace(self.head, blocks=blocks))


@dataclass(frozen=True)
class Phase:
    """A phase of training, with a schedule of its own.

    Args:
        name: name in the history and of the resume point.
        freeze: the frozen blocks.
        epochs: maximum number of epochs.
        learning_rate: peak of the schedule.
        block_rates: factor on the learning rate for each block; 1 for blocks that are not named.
        patience: number of epochs without improvement after which the phase ends.
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

    def cut(self, head: Head) -> str | None:
        """Return the layer whose frozen features the phase learns from; None if it learns from pixels."""
        return None if self.from_pixels else cut_of(self.freeze, head)


def phases_of(setting: Setting, from_pixels: bool = False, keep_start: bool = False) -> tuple[Phase, ...]:
    """Return the standard phases: the head alone; then, if any block is unfrozen, the unfrozen blocks with the head.

    In the second phase, the learning rate of each block is `block_decay` times that of the block after it, and the
    weights of the first phase are kept unless an epoch is better.

    Args:
        setting: a setting with a resolved `training`.
        from_pixels: whether every epoch has new augmented pixels, which the last phase then learns from.
        keep_start: whether the head that the first phase starts from is kept unless an epoch is better.
    """
    training = setting.training
    epochs, patience = training.epochs or 1, training.patience
    head = Phase("head", BLOCKS, epochs, training.learning_rate, {}, patience or epochs, keep_start)
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
