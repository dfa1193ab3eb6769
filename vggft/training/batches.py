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
        views: further views, (m, ...) each, of which every epoch draws one an image.
        change: given a batch of inputs, their rows and the epoch, what to train on instead.
        view_rows: (n,) where in the views each of those rows is; None: in their order.
    """

    inputs: np.ndarray
    targets: np.ndarray
    rows: np.ndarray
    views: Sequence[np.ndarray] = ()
    change: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None
    view_rows: np.ndarray | None = None


# Keras's `fit` ends an epoch before it begins the first one, so that has the order of the second.
FIRST_ORDER = 1


def order_of(count: int, num_views: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch, and which view of each image it draws (0: the image itself)."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(count)
    return order, rng.integers(1 + num_views, size=count) if num_views else np.zeros(count, np.int64)


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
            self.order, self.drawn = order_of(count, len(self.examples.views), self.seed, self.epoch)

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
        seen = chosen if self.examples.view_rows is None else self.examples.view_rows[chosen]
        for view, features in enumerate(self.examples.views, start=1):
            where = self.drawn[part] == view
            inputs[where] = features[seen[where]]
        if self.examples.change and self.seed is not None:
            inputs = self.examples.change(inputs, rows, self.epoch)
        batch = inputs, self.examples.targets[rows]
        return batch if self.class_weight is None else (*batch, batch[1] @ self.class_weight)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()
