"""Parts of a flat network, and their outputs for many rows, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from ..caching.rows import Rows
from ..engine import own_settings, without_retracing_warnings


@own_settings()
def between(model: keras.Model, first: str | Sequence[str] | None, last: str | Sequence[str]) -> keras.Model:
    """Return the part of a flat model from after the layer `first` (None: the input) up to and including `last`.

    It shares its layers with the whole model, so training the part trains the whole. It has one input for each `first`
    and one output for each `last`.
    """
    if first is None or isinstance(first, str):
        start = model.input if first is None else model.get_layer(first).output
    else:
        start = [model.get_layer(name).output for name in first]
    if isinstance(last, str):
        return keras.Model(start, model.get_layer(last).output)
    return keras.Model(start, [model.get_layer(name).output for name in last])


def rows_at_once(largest: int) -> int:
    """Return the batch size of a forward pass: 32 images of 224 px for the full VGG16, more for less computation.

    Args:
        largest: number of values in the largest output of a layer for one image.
    """
    return max(1, min(256, 32 * 224 * 224 * 64 // largest))


def batch_size_for(model: keras.Model) -> int:
    """Apply `rows_at_once` to a model."""
    return rows_at_once(max(math.prod(layer.output.shape[1:]) for layer in model.layers))


def forward(
    model: keras.Model,
    inputs: np.ndarray | Rows,
    *,
    rows: np.ndarray | None = None,
    batch_size: int | None = None,
    advance: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Compute the output of a model for every row of `inputs`, in order, in inference mode.

    Args:
        model: a prefix, a suffix or a whole classifier.
        inputs: (N, ...) array, which may be memory-mapped: one batch is read at a time.
        rows: (n,) indices of the rows to use; None for all.
        batch_size: number of rows in a batch; None chooses by the size of the model.
        advance: called with the number of rows after each batch.

    Returns:
        (n, ...) float32.
    """
    return forward_all(model, inputs, rows=rows, batch_size=batch_size, advance=advance)[0]


def forward_all(
    model: keras.Model,
    inputs: np.ndarray | Rows,
    *,
    rows: np.ndarray | None = None,
    batch_size: int | None = None,
    advance: Callable[[int], object] | None = None,
) -> list[np.ndarray]:
    """Like `forward`, for a model with several outputs: one array each, from one pass.

    If a batch does not fit into memory, it is halved.
    """
    total = len(inputs) if rows is None else len(rows)
    outputs = [np.empty((total, *output.shape[1:]), "float32") for output in model.outputs]
    strategy = model.distribute_strategy
    size, start = (batch_size or batch_size_for(model)) * strategy.num_replicas_in_sync, 0
    predict = model.predict_on_batch
    if strategy.num_replicas_in_sync > 1:
        predict = partial(
            _by_replicas, tf.function(lambda batch: tf.nest.flatten(model(batch, training=False))), strategy
        )

    def read(start: int, size: int) -> tuple[np.ndarray, int]:
        """Return a batch, and the number of its rows that are not padding.

        It is not a tensor yet: TensorFlow keeps something of each thread that makes one, for ever.
        """
        part = slice(start, start + size)
        batch = np.asarray(inputs[part if rows is None else rows[part]])
        count, missing = len(batch), size - len(batch)
        nearly = 8 * missing <= size  # full
        if missing and count and (start or nearly):  # pad the last batch, as every new shape would be traced
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        return batch, count

    with ThreadPoolExecutor(1) as reader, without_retracing_warnings():
        ahead = reader.submit(read, start, size)
        while start < total:
            try:
                batch, count = ahead.result()
                ahead = reader.submit(read, start + count, size)  # while the network computes
                found = predict(keras.ops.convert_to_tensor(batch))
            except tf.errors.ResourceExhaustedError:
                if size == 1:
                    raise
                size = (size + 1) // 2
                ahead = reader.submit(read, start, size)
                continue
            for output, values in zip(outputs, found if isinstance(found, list) else [found], strict=True):
                output[start : start + count] = values[:count]
            start += count
            if advance:
                advance(count)
    return outputs


def _by_replicas(
    predict: Callable[[tf.Tensor], list[tf.Tensor]], strategy: tf.distribute.Strategy, batch: tf.Tensor
) -> list[np.ndarray]:
    """Return the outputs of a model for a batch that is divided among the devices of its strategy."""
    count = strategy.num_replicas_in_sync
    parts = tf.split(batch, [len(part) for part in np.array_split(np.arange(len(batch)), count)])
    shares = strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
    found = map(strategy.experimental_local_results, strategy.run(predict, args=(shares,)))
    return [np.concatenate([np.asarray(part) for part in each]) for each in found]
