"""Features or pixels by the batch, in an order and with views that follow from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Examples:
    """Rows of arrays to learn from or to be judged on; the arrays may be memory-mapped and larger than memory.

    Args:
        inputs: (N, ...) features or pixels.
        targets: (N, num_classes) float32, one-hot or multi-hot.
        rows: (n,) which of the N.
        views: further views of those: (n, ...) each, of which every epoch draws one an image.
        change: given a batch of inputs, their rows and the epoch, what to train on instead.
    """

    inputs: np.ndarray
    targets: np.ndarray
    rows: np.ndarray
    views: Sequence[np.ndarray] = ()
    change: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None


class Batches(keras.utils.PyDataset):
    """Examples by the batch; with a seed, in an order that follows from (seed, epoch) alone, so it can resume."""

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        class_weight: np.ndarray | None = None,
    ):
        super().__init__()
        self.examples, self.batch_size, self.seed, self.epoch = examples, batch_size, seed, epoch
        self.class_weight = class_weight
        self._order()

    def _order(self) -> None:
        count = len(self.examples.rows)
        self.order, self.drawn = np.arange(count), np.zeros(count, np.int64)
        if self.seed is not None:
            rng = np.random.default_rng((self.seed, self.epoch))
            self.order = rng.permutation(count)
            if self.examples.views:
                self.drawn = rng.integers(1 + len(self.examples.views), size=count)

    @property
    def num_images(self) -> int:
        """Images in an epoch."""
        return len(self.order)

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        chosen, rows = self.order[part], self.examples.rows[self.order[part]]
        inputs = np.asarray(self.examples.inputs[rows])
        for view, features in enumerate(self.examples.views, start=1):
            where = self.drawn[part] == view
            inputs[where] = features[chosen[where]]
        if self.examples.change and self.seed is not None:
            inputs = self.examples.change(inputs, rows, self.epoch)
        batch = inputs, self.examples.targets[rows]
        return batch if self.class_weight is None else (*batch, batch[1] @ self.class_weight)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()
