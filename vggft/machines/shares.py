"""The share of each replica in the batches of a training, read by the process that the replica is in."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf

from ..errors import ConfigError
from ..heads.batches import FIRST_ORDER, Batches, Examples
from .strategies import Devices


def shared(batches: Batches, devices: Devices, first: int) -> Any:
    """Return what Keras's `fit` trains on: endless epochs of batches, each divided among all replicas.

    The gradient is that of the whole batch, whatever share each replica has: weights make up for shares of different
    sizes. Where a batch has fewer images than there are replicas, some compute an image that does not count.

    Args:
        batches: those of one process, whose order depends only on the epoch.
        devices: the replicas.
        first: the epoch to begin with, as `fit` counts them.
    """

    def share(batches: Batches, index: int, replica: int) -> tuple[np.ndarray, ...]:
        whole = batches.size_of(index)
        if replica >= whole:
            inputs, targets, *_ = batches.part(index, 0, whole)
            return inputs, targets, np.zeros(len(inputs), "float32")
        inputs, targets, *weights = batches.part(index, replica, devices.replicas)
        own = weights[0] if weights else np.ones(len(inputs), "float32")
        return inputs, targets, own * np.float32(devices.replicas * len(inputs) / whole)

    def epochs() -> Iterator[tuple[np.ndarray, ...]]:
        own = copy(batches)  # Keras begins twice, the first time for the shapes alone
        try:
            for epoch in count(first + FIRST_ORDER):
                own.go_to(epoch)
                for index in range(len(own)):
                    for replica in _replicas(devices):
                        yield share(own, index, replica)
        except ConfigError as error:
            batches.failed = error
            raise

    return _distributed(epochs, share(batches, 0, 0), devices)


def judged_by_all(examples: Examples, batch_size: int, devices: Devices) -> tuple[Any, int]:
    """Return the images that judge an epoch, divided among all replicas, and the number of steps they take.

    Each replica has an equal share, but for one image; if there are fewer images than replicas, each has all of them.
    """
    replicas = devices.replicas
    rows = [examples.rows[n::replicas] if len(examples) >= replicas else examples.rows for n in range(replicas)]
    steps = -(-len(rows[0]) // max(1, batch_size // replicas))
    steps = min(steps, len(rows[-1]))
    parts = [np.array_split(own, steps) for own in rows]

    def read(step: int, replica: int) -> tuple[np.ndarray, ...]:
        own = parts[replica][step]
        return np.asarray(examples.inputs[own]), examples.targets[own]

    def rounds() -> Iterator[tuple[np.ndarray, ...]]:
        while True:
            for step in range(steps):
                for replica in _replicas(devices):
                    yield read(step, replica)

    return _distributed(rounds, read(0, 0), devices), steps


def _replicas(devices: Devices) -> range:
    """The replicas of this process, by their numbers among all."""
    first = devices.local * devices.cluster.rank if devices.given else 0
    return range(first, first + devices.local)


def _distributed(generate: Any, example: tuple[np.ndarray, ...], devices: Devices) -> Any:
    """Return a dataset that gives each replica of this process the next of what is generated."""
    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in example)

    def here(context: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)

    assert devices.strategy is not None
    return devices.strategy.distribute_datasets_from_function(here)
