"""Cuts: the layers at which the frozen prefix ends and training begins."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from ..network.blocks import BLOCKS, frozen_prefix


def pooled_layer(model: keras.Model) -> str:
    """The first layer of the head, which makes a vector of block 5's map."""
    names = [layer.name for layer in model.layers]
    return str(names[names.index("block5_pool") + 1])


def cut_layer(model: keras.Model, frozen: Iterable[str]) -> str | None:
    """The layer that ends the frozen prefix: a block's pooling, the head's pooling if all is frozen, or None."""
    prefix = frozen_prefix(frozen)
    if prefix == BLOCKS:
        return pooled_layer(model)
    return f"{prefix[-1]}_pool" if prefix else None
