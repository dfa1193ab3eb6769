"""Cuts: the layers at which the frozen prefix ends and training begins, by name and shape; needs no Keras.

A cut is the output of a block, `block4_pool`, or a vector for a head, `avg_pool` or `block4_block5_avg_pool`. The cache
keeps one vector for all heads, `pooled`: the averages of all five blocks side by side, then their maxima. Only
`flatten`, which is as large as a map, is kept by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..config import Head
from ..network.blocks import BLOCKS, POOLING_LAYERS, frozen_prefix, pooled_blocks, pooling_layer, sizes_of
from ..pictures.reading import ImageSize, check_size

POOLED = "pooled"
SIDE_BY_SIDE = ("avg", "max")  # what `pooled` holds of every block


def cut_of(frozen: Iterable[str], head: Head) -> str | None:
    """Return the layer that ends the frozen prefix, or an earlier one that the head needs.

    Args:
        frozen: the frozen blocks.
        head: its blocks are known; its pooling is part of the prefix if every block is frozen.

    Returns:
        The pooling layer of the head or of a block, or None if the first block is not frozen.
    """
    prefix, blocks = frozen_prefix(frozen), head.blocks or BLOCKS[-1:]
    if prefix == BLOCKS:
        return pooling_layer(head.pooling, blocks)
    return f"{min(prefix[-1], blocks[0])}_pool" if prefix else None


def is_pooled(cut: str | None) -> bool:
    """Whether a cut gives one vector per image, which is where a head begins."""
    return cut is not None and (cut == POOLED or cut.endswith(tuple(POOLING_LAYERS.values())))


def kept_as(cut: str) -> str:
    """Return the cut that the cache keeps for a cut."""
    return POOLED if is_pooled(cut) and cut != POOLING_LAYERS["flatten"] else cut


def last_block(cut: str) -> str:
    """Return the last block that has to be computed for what the cache keeps for a cut."""
    return BLOCKS[-1] if is_pooled(cut) else cut.removesuffix("_pool")


def shape_of(cut: str, image_size: ImageSize, width: float) -> tuple[int, ...]:
    """Return the shape of the features of one image at a cut: (H, W, C), or (C,) for a pooled cut.

    Args:
        image_size: height and width of the images in pixels.
        width: multiplier of the number of filters.
    """
    if cut == POOLED:
        return (len(SIDE_BY_SIDE) * sum(sizes_of(BLOCKS, width)),)
    blocks = pooled_blocks(cut)
    channels = sum(sizes_of(blocks, width))
    high, wide = (side >> (BLOCKS.index(blocks[-1]) + 1) for side in check_size(image_size))
    if cut == POOLING_LAYERS["flatten"]:
        return (high * wide * channels,)
    return (channels,) if is_pooled(cut) else (high, wide, channels)


def columns_of(cut: str, width: float) -> slice | np.ndarray:
    """Return where in a `pooled` vector the values of a pooled cut are."""
    sizes = sizes_of(BLOCKS, width)
    ends = np.cumsum(sizes) + (sum(sizes) if cut.endswith(POOLING_LAYERS["max"]) else 0)
    places = [np.arange(ends[n] - sizes[n], ends[n]) for n in map(BLOCKS.index, pooled_blocks(cut))]
    columns = np.concatenate(places)
    last = int(columns[-1]) + 1
    return slice(int(columns[0]), last) if len(columns) == last - columns[0] else columns  # a slice copies nothing
