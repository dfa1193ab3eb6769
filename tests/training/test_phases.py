"""The phases of a setting: what is trained when."""

from __future__ import annotations

import pytest

from vggft.config import Head, Training
from vggft.network.blocks import BLOCKS
from vggft.training.phases import Setting, phases_of

TRAINING = Training(epochs=3, fine_tune_epochs=2, fine_tune_learning_rate=1e-4, block_decay=0.5).resolve(100)


def test_a_frozen_backbone_has_one_phase_on_pooled_features() -> None:
    (phase,) = phases_of(Setting(BLOCKS, Head(pooling="max"), TRAINING))
    assert (phase.name, phase.freeze, phase.epochs, phase.learning_rate) == ("head", BLOCKS, 3, 1e-3)
    assert phase.cut("max") == "max_pool" and not phase.keep_start


def test_unfrozen_blocks_learn_after_the_head_and_slower_near_the_input() -> None:
    head, blocks = phases_of(Setting(BLOCKS[:3], Head(), TRAINING))
    assert head.freeze == BLOCKS and head.cut("avg") == "avg_pool"
    assert (blocks.freeze, blocks.epochs, blocks.learning_rate) == (BLOCKS[:3], 2, 1e-4)
    assert blocks.cut("avg") == "block3_pool" and blocks.keep_start
    assert [blocks.block_rates[block] for block in BLOCKS] == pytest.approx([0.0625, 0.125, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("frozen", [BLOCKS, BLOCKS[:2], ()])
def test_new_pixels_in_every_epoch_are_learned_from_in_the_last_phase(frozen: tuple[str, ...]) -> None:
    *earlier, last = phases_of(Setting(frozen, Head(), TRAINING), from_pixels=True)
    assert last.cut("avg") is None
    assert all(phase.cut("avg") == "avg_pool" for phase in earlier)
