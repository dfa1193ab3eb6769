"""The phases of a setting: what is trained when."""

from __future__ import annotations

import pytest

from vggft.config import Head, Training
from vggft.network.blocks import BLOCKS
from vggft.training.phases import Setting, phases_of

TRAINING = Training(epochs=3, fine_tune_epochs=2, fine_tune_learning_rate=1e-4, block_decay=0.5).resolve(100)
HEAD = Head(blocks="block5")


def test_a_frozen_backbone_has_one_phase_on_pooled_features() -> None:
    (phase,) = phases_of(Setting(BLOCKS, HEAD, TRAINING))
    assert (phase.name, phase.freeze, phase.epochs, phase.learning_rate) == ("head", BLOCKS, 3, 1e-3)
    assert phase.cut(HEAD) == "avg_pool" and not phase.keep_start


def test_unfrozen_blocks_learn_after_the_head_and_slower_near_the_input() -> None:
    head, blocks = phases_of(Setting(BLOCKS[:3], HEAD, TRAINING))
    assert head.freeze == BLOCKS and head.cut(HEAD) == "avg_pool"
    assert (blocks.freeze, blocks.epochs, blocks.learning_rate) == (BLOCKS[:3], 2, 1e-4)
    assert blocks.cut(HEAD) == "block3_pool" and blocks.keep_start
    assert [blocks.block_rates[block] for block in BLOCKS] == pytest.approx([0.0625, 0.125, 0.25, 0.5, 1.0])


def test_a_head_sees_the_blocks_that_cost_no_longer_way() -> None:
    seen = {
        len(frozen): Setting(frozen, Head(), TRAINING).with_blocks().head.blocks
        for frozen in (BLOCKS, BLOCKS[:4], BLOCKS[:3], BLOCKS[:1], ())
    }
    assert seen == {5: BLOCKS[2:], 4: BLOCKS[3:], 3: BLOCKS[2:], 1: BLOCKS[2:], 0: BLOCKS[2:]}
    assert Setting(BLOCKS, Head(pooling="flatten"), TRAINING).with_blocks().head.blocks == ("block5",)


@pytest.mark.parametrize("frozen", [BLOCKS, BLOCKS[:2], ()])
def test_new_pixels_in_every_epoch_are_learned_from_in_the_last_phase(frozen: tuple[str, ...]) -> None:
    *earlier, last = phases_of(Setting(frozen, HEAD, TRAINING), from_pixels=True)
    assert last.cut(HEAD) is None
    assert all(phase.cut(HEAD) == "avg_pool" for phase in earlier)
