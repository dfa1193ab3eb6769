"""Cuts by name and shape are those of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vggft.config import Head
from vggft.features.cuts import POOLED, columns_of, cut_of, is_pooled, kept_as, last_block, shape_of
from vggft.features.extract import Prefix
from vggft.network.blocks import BLOCKS, POOLING_LAYERS, pooling_layer, sizes_of
from vggft.network.description import Description, build
from vggft.network.freezing import block_digests
from vggft.network.weights import load_pretrained


@pytest.mark.parametrize("image_size", [32, 45, 64])
@pytest.mark.parametrize(
    "head", [Head(pooling=pooling) for pooling in POOLING_LAYERS] + [Head(blocks=BLOCKS[1:], pooling="max")]
)
def test_shapes_follow_from_table_1_alone(head: Head, image_size: int) -> None:
    description = Description(("a", "b"), image_size, width=1 / 16, head=head)
    model = build(description)
    for cut in (*(f"{block}_pool" for block in BLOCKS), description.pooled):
        assert shape_of(cut, image_size, 1 / 16) == model.get_layer(cut).output.shape[1:]
    assert sum(description.sizes) == model.get_layer(description.pooled).output.shape[1]


def test_the_cut_is_where_the_frozen_prefix_ends() -> None:
    head = Head(blocks="block5")
    assert cut_of(BLOCKS, Head(blocks="block5", pooling="max")) == "max_pool" and is_pooled("max_pool")
    assert cut_of(BLOCKS[:3], head) == "block3_pool" and not is_pooled("block3_pool")
    assert cut_of(("block1", "block4"), head) == "block1_pool"
    assert cut_of((), head) is None and cut_of(("block2",), head) is None
    assert cut_of(BLOCKS, Head()) == "avg_pool" and cut_of(BLOCKS[:4], Head()) == "block4_pool"


def test_a_head_that_sees_earlier_blocks_needs_an_earlier_cut() -> None:
    head = Head(blocks=("block5", "block2"))
    assert head.blocks == ("block2", "block5")
    assert cut_of(BLOCKS, head) == "block2_block5_avg_pool" and cut_of(BLOCKS[:4], head) == "block2_pool"
    assert cut_of(BLOCKS[:1], head) == "block1_pool"


@pytest.mark.parametrize("cut", ["avg_pool", "max_pool", "block3_block5_max_pool", "block1_avg_pool", POOLED])
def test_every_vector_comes_from_the_one_that_is_kept(cut: str) -> None:
    assert is_pooled(cut) and kept_as(cut) == POOLED and last_block(cut) == "block5"


def test_maps_are_kept_by_themselves() -> None:
    for cut in ("block1_pool", "block4_pool", "flatten"):
        assert kept_as(cut) == cut
    assert last_block("block4_pool") == "block4" and last_block("flatten") == "block5"


def test_where_the_values_of_a_vector_are() -> None:
    """In the kept vector are the averages of all blocks side by side, then their maxima."""
    width = 1 / 16
    sizes = dict(zip(BLOCKS, sizes_of(BLOCKS, width), strict=True))
    names = [(kind, block, n) for kind in ("avg", "max") for block in BLOCKS for n in range(sizes[block])]
    assert shape_of(POOLED, 64, width) == (len(names),)
    for kind in ("avg", "max"):
        for blocks in (("block1",), ("block2", "block3"), ("block2", "block5"), BLOCKS[2:], BLOCKS):
            columns = columns_of(pooling_layer(kind, blocks), width)
            assert isinstance(columns, slice) == (blocks != ("block2", "block5"))  # which needs no copy
            found = np.arange(len(names))[columns]
            assert [names[n] for n in found] == [(kind, b, n) for b in blocks for n in range(sizes[b])]


def test_the_prefix_ends_at_its_last_cut_and_has_the_pretrained_weights(tiny_weights: Path) -> None:
    pretrained = load_pretrained(tiny_weights)
    network = Prefix(pretrained, 32, "float32", "float32").network(["block1_pool", "block3_pool"])
    assert [tuple(output.shape[1:]) for output in network.outputs] == [(16, 16, 4), (4, 4, 16)]
    assert not any(layer.name.startswith(("block4", "block5")) for layer in network.layers)
    np.testing.assert_array_equal(
        network.get_layer("block3_conv2").kernel.numpy(), pretrained.arrays["block3_conv2/kernel"]
    )


def test_checksums_of_weights_are_those_of_the_network_that_has_them(tiny_weights: Path) -> None:
    """Frozen features are found by them, so they may not differ."""
    pretrained = load_pretrained(tiny_weights)
    model = build(Description(("a", "b"), 32, width=1 / 16))
    pretrained.assign(model)
    assert pretrained.block_digests == block_digests(model)
