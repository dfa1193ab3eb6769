"""The dense head: from block 5's map to logits and probabilities."""

from __future__ import annotations

from typing import Any

import keras

from .config import Head

POOLING_LAYERS = {"avg": "avg_pool", "max": "max_pool", "flatten": "flatten"}


def pool(x: Any, pooling: str) -> Any:
    """(B, H, W, C) to a vector per image, by a layer that is named as `POOLING_LAYERS` says."""
    name = POOLING_LAYERS[pooling]
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(name=name)(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name=name)(x)
    return keras.layers.Flatten(name=name)(x)


def add_head(x: Any, head: Head, num_classes: int, *, multi_label: bool = False, seed: int = 0) -> Any:
    """Put the head behind a (B, H, W, C) map: pooling, `fc1`, ..., `logits`, `predictions`.

    Initial weights and dropout follow from `seed` alone, whatever Keras's global seed is.

    Returns:
        (B, num_classes) probabilities: softmax, or with `multi_label` one sigmoid a class.
    """
    x = pool(x, head.pooling)
    regularizer = keras.regularizers.L2(head.l2) if head.l2 else None
    for n, units in enumerate(head.units, start=1):
        x = keras.layers.Dense(
            units,
            kernel_initializer=keras.initializers.HeNormal(seed=seed + n),
            kernel_regularizer=regularizer,
            name=f"fc{n}",
        )(x)
        if head.batch_norm:
            x = keras.layers.BatchNormalization(name=f"fc{n}_bn")(x)
        x = keras.layers.Activation(head.activation, name=f"fc{n}_{head.activation}")(x)
        if head.dropout:
            x = keras.layers.Dropout(head.dropout, seed=seed + n, name=f"dropout{n}")(x)
    logits = keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        kernel_regularizer=regularizer,
        dtype="float32",
        name="logits",
    )(x)
    return keras.layers.Activation("sigmoid" if multi_label else "softmax", dtype="float32", name="predictions")(logits)
