"""The phases of a setting: what is trained when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vggft import ConfigError
from vggft.config import Head, Phase, Training
from vggft.fields import PARTS
from vggft.heads.probe import is_exact
from vggft.network.blocks import BLOCKS
from vggft.training.phases import Setting, check_names, phases_of, refitted

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


def names_and_cuts(setting: Setting) -> list[tuple[str, str | None]]:
    return [(phase.name, phase.cut(HEAD)) for phase in phases_of(setting)]


def test_gradual_unfreezing_begins_with_the_last_block_and_cuts_anew_in_every_phase() -> None:
    gradual = replace(TRAINING, phases="gradual")
    assert names_and_cuts(Setting(BLOCKS[:2], HEAD, gradual)) == [
        ("head", "avg_pool"),
        ("block5 and head", "block4_pool"),
        ("block4, block5 and head", "block3_pool"),
        ("block3 to block5 and head", "block2_pool"),
    ]
    assert [phase.epochs for phase in phases_of(Setting(BLOCKS[:4], HEAD, gradual))] == [3, 2]
    assert len(phases_of(Setting(BLOCKS, HEAD, gradual))) == 1
    with_a_gap = Setting(("block1", "block4"), HEAD, gradual)
    assert names_and_cuts(with_a_gap)[1:3] == [
        ("block5 and head", "block4_pool"),
        ("block3, block5 and head", "block2_pool"),
    ]


def test_phases_of_ones_own_take_from_the_training_what_they_leave_open() -> None:
    own = (Phase("all", epochs=7, schedule="plateau"), Phase("block4", learning_rate=0.1), Phase("block4", patience=1))
    training = replace(TRAINING, phases=own, block_rates={"block5": 0.5, "head": 3.0})
    head, first, second = phases_of(Setting(BLOCKS[:4], HEAD, training))
    assert (head.epochs, head.learning_rate, head.schedule) == (7, 1e-3, "plateau")
    assert (first.epochs, first.learning_rate, first.schedule, first.patience) == (2, 0.1, "cosine", training.patience)
    assert (second.learning_rate, second.patience) == (1e-4, 1)
    assert (first.name, second.name) == ("block5 and head", "block5 and head (2)")
    assert (first.block_rates["block5"], first.block_rates["block4"], first.block_rates["head"]) == (0.5, 0.5, 3.0)


def test_features_of_a_block_that_has_moved_are_not_used_again() -> None:
    training = replace(TRAINING, phases=(Phase("block4"), Phase("all"), Phase(("block1", "block5"))))
    cuts = [phase.cut(HEAD) for phase in phases_of(Setting(("block1",), HEAD, training))]
    assert cuts == ["block4_pool", "block4_pool", "block1_pool"]


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (BLOCKS, r"train block4, block5, which freeze= holds.*give freeze=\('block1', 'block2', 'block3'\)"),
        (BLOCKS[:2], "never train block3; they have to"),
    ],
)
def test_phases_train_every_unfrozen_block_and_no_other(frozen: tuple[str, ...], message: str) -> None:
    training = replace(TRAINING, phases=(Phase("all"), Phase("block3")))
    with pytest.raises(ConfigError, match=message):
        phases_of(Setting(frozen, HEAD, training))


def test_phases_hold_frozen_convolutions_too() -> None:
    frozen = (*BLOCKS[:4], "block5_conv1")
    for good in ("block5_conv1", (*BLOCKS[:4], "block5_conv1", "block5_conv2")):
        phases = (Phase("all"), Phase(good), Phase("block5_conv1"))
        assert len(phases_of(Setting(frozen, HEAD, replace(TRAINING, phases=phases)))) == 3
    with pytest.raises(ConfigError, match=r"Training\.phases train block5_conv1, which freeze= holds"):
        phases_of(Setting(frozen, HEAD, replace(TRAINING, phases=(Phase("all"), Phase("block4")))))
    check_names([Setting(frozen, HEAD, TRAINING)], "D")
    for wrong, message in (("block5_conv4", "has only"), ("block5_conv3", "every convolution of block5 of column D")):
        own = Setting(BLOCKS[:4], HEAD, replace(TRAINING, phases=(Phase(wrong), Phase("block4"))))
        with pytest.raises(ConfigError, match=message):
            check_names([own], "D")


def test_a_refit_has_the_epochs_that_were_best_and_no_phase_that_did_not_help() -> None:
    standard = Setting(BLOCKS[:3], HEAD, TRAINING)
    again = refitted(standard, {"head": 2, "blocks and head": 1})
    assert (again.training.epochs, again.training.fine_tune_epochs, again.frozen) == (2, 1, BLOCKS[:3])
    assert refitted(standard, {"head": 2, "blocks and head": 0}).frozen == BLOCKS
    gradual = Setting(BLOCKS[:3], HEAD, replace(TRAINING, phases="gradual"))
    again = refitted(gradual, {"head": 3, "block5 and head": 1, "block4, block5 and head": 0})
    assert again.frozen == BLOCKS[:4]
    assert [(phase.name, phase.epochs) for phase in phases_of(again)] == [("head", 3), ("block5 and head", 1)]
    assert phases_of(again)[1].block_rates == phases_of(gradual)[1].block_rates
    exact = refitted(replace(gradual, head=Head(units=())), {"head": 3, "block5 and head": 1}, exact=True)
    assert is_exact(exact.head, exact.training)
    assert refitted(standard, {"head": 0, "blocks and head": 2}).training.epochs == 1  # a start that was best
    assert phases_of(refitted(gradual, {"head": 0, "block5 and head": 1}))[0].epochs == 1


def test_the_blocks_of_the_settings_are_those_of_the_network() -> None:
    assert (*BLOCKS, "head") == PARTS
