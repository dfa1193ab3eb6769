"""The dense head: from the maps of one or several blocks to logits and probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from sklearn.preprocessing import StandardScaler

from ..config import Head
from ..engine import own_settings
from ..errors import ConfigError
from ..fields import shown
from .blocks import BLOCKS, pooling_layer

STANDARDIZE = "standardize"
EPSILON = 1e-12  # of the layer `standardize`
SMALLEST = 1e-6  # added before a square root, whose gradient at 0 would be infinite


def pool(maps: Mapping[str, Any], pooling: str) -> Any:
    """Pool the (B, H, W, C) outputs of some blocks to one vector per image, by a layer named by `pooling_layer`."""
    if len(maps) > 1:
        vectors = [_pooled(x, pooling, pooling_layer(pooling, (block,))) for block, x in maps.items()]
        return keras.layers.Concatenate(name=pooling_layer(pooling, tuple(maps)))(vectors)
    ((block, x),) = maps.items()
    return _pooled(x, pooling, pooling_layer(pooling, (block,)))


def _pooled(x: Any, pooling: str, name: str) -> Any:
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(name=name)(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name=name)(x)
    return keras.layers.Flatten(name=name)(x)


@own_settings()
def normalize_images(x: Any, how: str, sizes: Sequence[int] = (), name: str = "unit_norm") -> Any:
    """Normalise (B, C) pooled features image by image, by stock operations, on tensors of Keras or on arrays.

    Args:
        how: as in `Head.normalize`.
        sizes: number of features of each block, which has a length of its own; they sum to C. None for one block.
        name: of the layers.
    """
    if how == "sqrt_l2":
        x = keras.ops.sqrt(x + SMALLEST)
    if how not in ("l2", "sqrt_l2"):
        return x
    if len(sizes) < 2:
        return keras.layers.UnitNormalization(name=name)(x)
    parts = keras.ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=-1)
    normal = [keras.layers.UnitNormalization(name=f"{name}{n}")(part) for n, part in enumerate(parts, start=1)]
    return keras.layers.Concatenate(name=name)(normal)


def add_head(maps: Mapping[str, Any], head: Head, num_classes: int, *, multi_label: bool = False, seed: int = 0) -> Any:
    """Add the head to the (B, H, W, C) outputs of all blocks, `{"block1": ...}`: pooling, then `add_dense`."""
    seen = {block: maps[block] for block in head.blocks or BLOCKS[-1:]}
    sizes = [x.shape[-1] for x in seen.values()]
    return add_dense(pool(seen, head.pooling), head, num_classes, sizes, multi_label=multi_label, seed=seed)


def add_dense(
    x: Any, head: Head, num_classes: int, sizes: Sequence[int], *, multi_label: bool = False, seed: int = 0
) -> Any:
    """Add the head to (B, C) pooled features: `unit_norm`, `standardize`, `fc1`, ..., `logits`, `predictions`.

    Initial weights and dropout depend only on `seed`, not on Keras's global seed.

    Args:
        sizes: number of features of each block.

    Returns:
        (B, num_classes) probabilities: a softmax, or one sigmoid for each class if `multi_label`.
    """
    x = normalize_images(x, head.normalize, sizes)
    # Not trainable: `standardize` sets its mean and variance to those of the training images' features.
    x = keras.layers.BatchNormalization(center=False, scale=False, epsilon=EPSILON, trainable=False, name=STANDARDIZE)(
        x
    )
    regularizer = keras.regularizers.L2(head.l2) if head.l2 else None
    for n, units in enumerate(head.units, start=1):
        x = keras.layers.Dense(
            units,
            kernel_initializer=initializer(n, head, seed),
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
        kernel_initializer=initializer(len(head.units) + 1, head, seed),
        kernel_regularizer=regularizer,
        dtype="float32",
        name="logits",
    )(x)
    return keras.layers.Activation("sigmoid" if multi_label else "softmax", dtype="float32", name="predictions")(logits)


def weight_shapes(num_features: int, head: Head, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the head's weights, `{"fc1/kernel": (C, 256), ...}`, as `add_dense` makes them."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{STANDARDIZE}/mean": (num_features,),
        f"{STANDARDIZE}/variance": (num_features,),
    }
    names = [*(f"fc{n}" for n in range(1, len(head.units) + 1)), "logits"]
    for name, (before, after) in zip(names, pairwise((num_features, *head.units, num_classes)), strict=True):
        shapes |= {f"{name}/kernel": (before, after), f"{name}/bias": (after,)}
        if head.batch_norm and name != "logits":
            shapes |= {f"{name}_bn/{n}": (after,) for n in range(4)}
    return shapes


def initializer(n: int, head: Head, seed: int) -> keras.initializers.Initializer:
    """Return the initializer of the kernel of the n-th dense layer, counted from 1; the last is `logits`."""
    if n <= len(head.units):
        return keras.initializers.HeNormal(seed=seed + n)
    return keras.initializers.GlorotUniform(seed=seed)


def initial_weights(num_features: int, head: Head, num_classes: int, seed: int) -> list[np.ndarray]:
    """Return kernel and bias of each dense layer of a fresh head, as `add_dense` initializes them."""
    found: list[np.ndarray] = []
    for n, (before, after) in enumerate(pairwise((num_features, *head.units, num_classes)), start=1):
        found += [np.asarray(initializer(n, head, seed)((before, after), "float32")), np.zeros(after, "float32")]
    return found


@own_settings()
def head_model(
    sizes: Sequence[int], head: Head, num_classes: int, *, multi_label: bool = False, seed: int = 0
) -> keras.Model:
    """Build the head alone, (B, C) to (B, num_classes), with the layers of the whole network.

    Args:
        sizes: number of features of each block; they sum to C.
    """
    features = keras.Input((sum(sizes),), name="features")
    return keras.Model(features, add_dense(features, head, num_classes, sizes, multi_label=multi_label, seed=seed))


def divide_logits(model: keras.Model, temperature: float) -> None:
    """Divide a classifier's logits by a temperature, permanently.

    The weights of the last layer are divided, so every saved or exported form gives the same probabilities.
    """
    layer = model.get_layer("logits")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])


def standardize(model: keras.Model, features: Iterable[np.ndarray], how: str) -> None:
    """Standardise the input of the head to mean 0 and variance 1, whatever the scale of the backbone's features.

    Args:
        model: a network that ends in a head.
        features: batches of (B, C) pooled features of training images, normalised image by image.
        how: as in `Head.normalize`.
    """
    model.get_layer(STANDARDIZE).set_weights(scale_of(features, how))


def scale_of(features: Iterable[np.ndarray], how: str = "standardize") -> list[np.ndarray]:
    """Return the (C,) mean and (C,) variance by which features are standardised, float32.

    With features of variance 1 one learning rate suits every backbone. `"standardize"` gives every feature its own
    variance, clipped to at least a hundredth of their mean, so that nearly constant features are not amplified. The
    other ways give all features the mean variance, which keeps how much each of them varies.
    """
    scaler = StandardScaler()
    for batch in features:
        scaler.partial_fit(batch.astype("float64"))
    mean = max(scaler.var_.mean(), 1e-10)
    variance = np.maximum(scaler.var_, 0.01 * mean) if how == "standardize" else np.full_like(scaler.var_, mean)
    return [scaler.mean_.astype("float32"), variance.astype("float32")]


def check_activation(head: Head) -> None:
    """Raise `ConfigError` unless Keras has the activation of a head."""
    try:
        keras.activations.get(head.activation)
    except ValueError:
        raise ConfigError(
            f"Head.activation must be the name of a Keras activation; got {shown(head.activation)}."
        ) from None
