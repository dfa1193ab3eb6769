"""Features or pixels by the batch, in an order and with views that follow from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Examples:
    """Rows of arrays to learn from or to be judged on; the arrays may be memory-mapped and larger than memory.

    Args:
        inputs: (M, ...) features or pixels.
        targets: (N, num_classes) float32, one-hot or multi-hot, N <= M.
        rows: (n,) which of the N; or (views, n) where the inputs hold several views of each, the first in the first N.
        change: given a batch of inputs, their rows and the epoch, what to train on instead.
    """

    inputs: np.ndarray
    targets: np.ndarray
    rows: np.ndarray
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
        views = np.atleast_2d(self.examples.rows)
        self.rows, self.seen = views[0], views[0]
        if self.seed is not None:
            rng = np.random.default_rng((self.seed, self.epoch))
            order = rng.permutation(views.shape[1])
            drawn = rng.integers(len(views), size=views.shape[1]) if len(views) > 1 else 0
            self.rows, self.seen = views[0][order], views[drawn, order]

    @property
    def num_images(self) -> int:
        """Images in an epoch."""
        return len(self.rows)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        inputs = np.asarray(self.examples.inputs[self.seen[part]])
        if self.examples.change and self.seed is not None:
            inputs = self.examples.change(inputs, self.rows[part], self.epoch)
        batch = inputs, self.examples.targets[self.rows[part]]
        return batch if self.class_weight is None else (*batch, batch[1] @ self.class_weight)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()
