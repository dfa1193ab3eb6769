"""A forward pass, batch by batch."""

from __future__ import annotations

import gc

import keras
import numpy as np

from vggft.network.forward import forward


def test_passes_leave_nothing_behind() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    inputs = np.ones((5, 2), "float32")

    def objects() -> int:
        for _ in range(30):
            forward(model, inputs, batch_size=4)
        gc.collect()
        return len(gc.get_objects())

    objects()
    assert objects() - objects() > -15  # of 30 passes
