"""Cuts: the layers at which the frozen prefix ends and training begins, by name and shape; needs no Keras."""

from __future__ import annotations

from collections.abc import Iterable

from ..network.blocks import BLOCKS, FILTERS, POOLING_LAYERS, frozen_prefix, scaled


def cut_of(frozen: Iterable[str], pooling: str) -> str | None:
    """Return the layer that ends the frozen prefix.

    Args:
        frozen: the frozen blocks.
        pooling: the head's pooling, which is part of the prefix if every block is frozen.

    Returns:
        The pooling layer of the head or of a block, or None if the first block is not frozen.
    """
    prefix = frozen_prefix(frozen)
    if prefix == BLOCKS:
        return POOLING_LAYERS[pooling]
    return f"{prefix[-1]}_pool" if prefix else None


def is_pooled(cut: str | None) -> bool:
    """Whether a cut gives one vector per image, which is where a head begins."""
    return cut in POOLING_LAYERS.values()


def last_block(cut: str) -> str:
    """Return the last block that a cut depends on."""
    return BLOCKS[-1] if is_pooled(cut) else cut.removesuffix("_pool")


def shape_of(cut: str, image_size: int, width: float) -> tuple[int, ...]:
    """Return the shape of the features of one image at a cut: (H, W, C), or (C,) for a pooled cut.

    Args:
        image_size: height and width of the images in pixels.
        width: multiplier of the number of filters.
    """
    number = BLOCKS.index(last_block(cut)) + 1
    side, channels = image_size >> number, scaled(FILTERS[number - 1], width)
    if cut == POOLING_LAYERS["flatten"]:
        return (side * side * channels,)
    return (channels,) if is_pooled(cut) else (side, side, channels)
