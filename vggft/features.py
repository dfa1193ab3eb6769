"""Frozen features: what the frozen prefix gives, computed once for every image."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import numpy as np

from .backbone import BLOCKS, frozen_prefix
from .head import POOLING_LAYERS


def cut_layer(frozen: Iterable[str], pooling: str) -> str | None:
    """The layer that ends the frozen prefix: a block's pooling, the head's pooling if all is frozen, or None."""
    prefix = frozen_prefix(frozen)
    if prefix == BLOCKS:
        return POOLING_LAYERS[pooling]
    return f"{prefix[-1]}_pool" if prefix else None


def between(model: keras.Model, first: str | None, last: str) -> keras.Model:
    """The part of a flat model behind the layer `first` (None: from the input) up to and with the layer `last`.

    It shares its layers with the whole, so training the part trains the whole.
    """
    start = model.input if first is None else model.get_layer(first).output
    return keras.Model(start, model.get_layer(last).output)


def forward(
    model: keras.Model, inputs: np.ndarray, batch_size: int = 32, advance: Callable[[int], object] | None = None
) -> np.ndarray:
    """The outputs of a model for every row of `inputs`, in order, with nothing random in it.

    Args:
        model: a prefix, a suffix or a whole classifier.
        inputs: (N, ...) array, which may be memory-mapped: one batch is read at a time.
        batch_size: rows at once.
        advance: told the number of rows after each batch.
    """
    outputs = np.empty((len(inputs), *model.output.shape[1:]), "float32")
    for start in range(0, len(inputs), batch_size):
        rows = slice(start, min(start + batch_size, len(inputs)))
        batch = np.asarray(inputs[rows])
        missing = batch_size - len(batch)
        if missing and start:  # one shape, one trace: the last batch is filled up
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        outputs[rows] = model.predict_on_batch(batch)[: rows.stop - start]
        if advance:
            advance(rows.stop - start)
    return outputs
