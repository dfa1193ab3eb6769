"""Two places of Keras 3 in which `fit` fails under `MultiWorkerMirroredStrategy` (keras-team/keras#20585), mended.

The first also fails under `MirroredStrategy`, where replicas have shares of different sizes. This is the only module
that replaces something in Keras, and only while a model is trained by several replicas. It can go once
`test_keras_needs_no_mending` in tests/machines/test_strategies.py fails, which trains without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer


@contextmanager
def mended(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Let Keras's `fit` and `evaluate` run inside, in each of the processes of a strategy.

    - Before the first step, Keras adds up a batch over all replicas, of which it needs only the shapes; shares of
      different sizes cannot be added. Here it gets the batch of one replica.
    - After each step, it averages what the replicas show along an axis that scalars do not have. Here each process
      shows its own: what an epoch reports is read from the metrics, which are added up over all processes.
    """
    build, reduce = TensorFlowTrainer._maybe_symbolic_build, trainer.reduce_per_replica

    def first_of(value: Any) -> Any:
        return strategy.experimental_local_results(value)[0]

    def build_by_one(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None:
            data_batch = next(tf.nest.map_structure(first_of, next(batches)) for _, _, batches in iterator)
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def reduce_here(values: Any, strategy: Any, reduction: str) -> Any:
        if reduction == "auto":
            return tf.nest.map_structure(first_of, values)
        return reduce(values, strategy, reduction)

    TensorFlowTrainer._maybe_symbolic_build, trainer.reduce_per_replica = build_by_one, reduce_here
    try:
        yield
    finally:
        TensorFlowTrainer._maybe_symbolic_build, trainer.reduce_per_replica = build, reduce
