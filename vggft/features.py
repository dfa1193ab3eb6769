"""Frozen features: what the frozen prefix gives, computed once for every image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import keras
import numpy as np

from .augment import make_views
from .backbone import BLOCKS, frozen_prefix
from .config import Augment

# Every seed and every split builds models anew, which TensorFlow takes for a mistake.
logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())


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


def between(model: keras.Model, first: str | None, last: str) -> keras.Model:
    """The part of a flat model behind the layer `first` (None: from the input) up to and with the layer `last`.

    It shares its layers with the whole, so training the part trains the whole.
    """
    start = model.input if first is None else model.get_layer(first).output
    return keras.Model(start, model.get_layer(last).output)


def forward(
    model: keras.Model,
    inputs: np.ndarray,
    batch_size: int = 32,
    advance: Callable[[int], object] | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The outputs of a model for every row of `inputs`, in order, with nothing random in it.

    Args:
        model: a prefix, a suffix or a whole classifier.
        inputs: (N, ...) array, which may be memory-mapped: one batch is read at a time.
        batch_size: rows at once.
        advance: told the number of rows after each batch.
        out: where to put them; None makes a float32 array.
    """
    outputs = np.empty((len(inputs), *model.output.shape[1:]), "float32") if out is None else out
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


def frozen_features(
    prefix: keras.Model,
    pixels: np.ndarray,
    train: np.ndarray,
    augment: Augment | None = None,
    seed: int = 0,
    advance: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One pass over all images, and over further views of those in train.

    Returns:
        The features, those of all N images first; and (views, n) the rows of each view of the n training images.
    """
    more = (augment.views or 1) - 1 if augment else 0
    features = np.empty((len(pixels) + more * len(train), *prefix.output.shape[1:]), "float32")
    further = len(pixels) + np.arange(more * len(train)).reshape(more, len(train))
    forward(prefix, pixels, advance=advance, out=features[: len(pixels)])
    for view, rows in enumerate(further, start=1):
        for start in range(0, len(train), 256):
            part = train[start : start + 256]
            changed = make_views(pixels[part], part, view, augment, seed) if augment else pixels[part]
            forward(prefix, changed, advance=advance, out=features[rows[0] + start : rows[0] + start + len(part)])
    return features, np.concatenate([train[None], further])
