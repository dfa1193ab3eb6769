"""The dense head: from block 5's map to logits and probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from sklearn.preprocessing import StandardScaler

from ..config import Head
from .blocks import POOLING_LAYERS

STANDARDIZE = "standardize"
EPSILON = 1e-12  # of that layer


def pool(x: Any, pooling: str) -> Any:
    """(B, H, W, C) to a vector per image, by a layer that is named as `POOLING_LAYERS` says."""
    name = POOLING_LAYERS[pooling]
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(name=name)(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name=name)(x)
    return keras.layers.Flatten(name=name)(x)


def add_head(x: Any, head: Head, num_classes: int, *, multi_label: bool = False, seed: int = 0) -> Any:
    """Put the head behind a (B, H, W, C) map: pooling, then as `add_dense`."""
    return add_dense(pool(x, head.pooling), head, num_classes, multi_label=multi_label, seed=seed)


def add_dense(x: Any, head: Head, num_classes: int, *, multi_label: bool = False, seed: int = 0) -> Any:
    """Put the head behind (B, C) pooled features: `standardize`, `fc1`, ..., `logits`, `predictions`.

    Initial weights and dropout follow from `seed` alone, whatever Keras's global seed is.

    Returns:
        (B, num_classes) probabilities: softmax, or with `multi_label` one sigmoid a class.
    """
    # Never trained: its mean and variance are those of the training images' features, see `standardize`.
    x = keras.layers.BatchNormalization(center=False, scale=False, epsilon=EPSILON, trainable=False, name=STANDARDIZE)(
        x
    )
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


def head_model(
    num_features: int, head: Head, num_classes: int, *, multi_label: bool = False, seed: int = 0
) -> keras.Model:
    """The head alone, (B, num_features) pooled features -> (B, num_classes); layers and weights as in the whole."""
    features = keras.Input((num_features,), name="features")
    return keras.Model(features, add_dense(features, head, num_classes, multi_label=multi_label, seed=seed))


def divide_logits(model: keras.Model, temperature: float) -> None:
    """Have a classifier's logits come out divided by a temperature, for good: it is in the weights of the last layer,
    so that whatever the network is saved or exported as gives the same probabilities."""
    layer = model.get_layer("logits")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])


def standardize(model: keras.Model, features: Iterable[np.ndarray]) -> None:
    """Have the head see features of mean 0 and variance 1, whatever scale the backbone gives them.

    Args:
        model: ends in a head.
        features: batches of (B, C), pooled, of training images.
    """
    model.get_layer(STANDARDIZE).set_weights(scale_of(features))


def scale_of(features: Iterable[np.ndarray]) -> list[np.ndarray]:
    """(C,) mean and (C,) variance of features, float32.

    One learning rate then suits every backbone. A feature that hardly varies is not blown up: variances are at least a
    hundredth of their mean.
    """
    scaler = StandardScaler()
    for batch in features:
        scaler.partial_fit(batch.astype("float64"))
    least = max(0.01 * scaler.var_.mean(), 1e-12)
    return [scaler.mean_.astype("float32"), np.maximum(scaler.var_, least).astype("float32")]
