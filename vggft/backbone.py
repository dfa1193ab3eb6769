"""The paper's Table 1 as data, and one builder of it by the Keras functional API.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556. Layers are named as in Keras Applications.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .errors import ConfigError, FreezeError, VggftError

BLOCKS = ("block1", "block2", "block3", "block4", "block5")
FILTERS = (64, 128, 256, 512, 512)

# Table 1: the kernel sizes of the convolutions in each of the five blocks, column by column.
COLUMNS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}

MIN_IMAGE_SIZE = 32  # five halvings leave one pixel of it


def check_architecture(column: str, image_size: int, width: float) -> None:
    """Raise `ConfigError` unless the three name a network that can be built."""
    if column not in COLUMNS:
        raise ConfigError(f"column must be one of {', '.join(COLUMNS)}; got {column!r}.")
    if not isinstance(image_size, int) or image_size < MIN_IMAGE_SIZE:
        raise ConfigError(
            f"image_size must be an integer >= {MIN_IMAGE_SIZE}, as the blocks halve it five times; got {image_size!r}."
        )
    if not 0 < width <= 4:
        raise ConfigError(f"width multiplies the numbers of filters and must be in (0, 4]; got {width!r}.")


def scaled(filters: int, width: float) -> int:
    """`filters` of the paper at another `width`, at least one."""
    return max(1, round(filters * width))


def preprocess(pixels: Any) -> Any:
    """RGB in 0..255 to what VGG was trained on: BGR, minus the mean of ImageNet. Stock operations, in float32."""
    bgr = keras.ops.flip(pixels, axis=-1)
    return keras.layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="subtract_mean")(bgr)


def add_blocks(
    x: Any,
    column: str = "D",
    width: float = 1.0,
    *,
    blocks: int = 5,
    batch_norm: bool = False,
    dtype: str | None = None,
) -> Any:
    """Put blocks of a column behind the tensor `x`; all five are (B, H, W, 3) -> (B, H/32, W/32, 512 * width).

    Args:
        blocks: how many, from the first.
        batch_norm: between convolution and ReLU, for pre-training only; `plain_weights` folds it.
        dtype: a dtype policy of Keras, as `"mixed_bfloat16"`.
    """
    for block, kernels, filters in list(zip(BLOCKS, COLUMNS[column], FILTERS, strict=True))[:blocks]:
        for k, kernel in enumerate(kernels, start=1):
            name = f"{block}_conv{k}"
            x = keras.layers.Conv2D(
                scaled(filters, width),
                kernel,
                padding="same",
                activation=None if batch_norm else "relu",
                use_bias=not batch_norm,
                kernel_initializer="he_normal",
                dtype=dtype,
                name=name,
            )(x)
            if batch_norm:
                x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
                x = keras.layers.ReLU(name=f"{name}_relu")(x)
            if column == "A-LRN" and name == "block1_conv1":
                x = _local_response_normalization(x)
        x = keras.layers.MaxPooling2D(2, strides=2, dtype=dtype, name=f"{block}_pool")(x)
    return x


def vgg(
    column: str = "D",
    *,
    include_top: bool = True,
    image_size: int = 224,
    width: float = 1.0,
    num_classes: int = 1000,
    dropout: float = 0.5,
    batch_norm: bool = False,
) -> keras.Model:
    """One column of Table 1 as a plain `keras.Model` with fresh weights; it takes what `preprocess` gives."""
    check_architecture(column, image_size, width)
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = add_blocks(inputs, column, width, batch_norm=batch_norm)
    if include_top:
        x = keras.layers.Flatten(name="flatten")(x)
        for n in (1, 2):
            x = keras.layers.Dense(
                scaled(4096, width), activation="relu", kernel_initializer="he_normal", name=f"fc{n}"
            )(x)
            if dropout:
                x = keras.layers.Dropout(dropout, name=f"dropout{n}")(x)
        x = keras.layers.Dense(num_classes, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name=f"vgg_{column.lower().replace('-', '_')}")


def draw(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Draw a network with its layers' names and shapes into a picture file, by `keras.utils.plot_model`.

    Raises:
        VggftError: where pydot or graphviz is missing, saying how to install them.
    """
    path = Path(path)
    if not importlib.util.find_spec("pydot") or not shutil.which("dot"):
        raise VggftError(
            "Drawing a network needs the Python package pydot (pip install 'vggft[draw]') and the program graphviz, "
            "whose command is `dot` (apt install graphviz, brew install graphviz, or from graphviz.org)."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.plot_model(model, path, show_shapes=True, show_layer_names=True)
    return path


def _local_response_normalization(x: Any) -> Any:
    """AlexNet's normalization over 5 neighbouring channels (n=5, k=2, alpha=1e-4, beta=0.75), in stock operations."""
    _, height, width, channels = x.shape
    squares = keras.ops.pad(keras.ops.square(x), ((0, 0), (0, 0), (0, 0), (2, 2)))
    rows = keras.ops.reshape(squares, (-1, height * width, channels + 4, 1))
    sums = 5.0 * keras.ops.average_pool(rows, (1, 5), strides=1, padding="valid")
    return x / keras.ops.power(2.0 + 1e-4 * keras.ops.reshape(sums, (-1, height, width, channels)), 0.75)


# -- freezing ---------------------------------------------------------------------------------------------------------


def frozen_blocks(freeze: str | Iterable[str]) -> tuple[str, ...]:
    """The blocks that a `freeze` argument names, in order.

    Args:
        freeze: `"all"`, `"none"`, one block (`"block3"` means through block3), or any collection of blocks
            (exactly these).

    Raises:
        ConfigError: for anything else.
    """
    expected = f"'all', 'none', one of {', '.join(BLOCKS)} (through that block), or a collection of blocks"
    if isinstance(freeze, str):
        if freeze in ("all", "none"):
            return BLOCKS if freeze == "all" else ()
        if freeze not in BLOCKS:
            raise ConfigError(f"freeze must be {expected}; got {freeze!r}.")
        return BLOCKS[: BLOCKS.index(freeze) + 1]
    try:
        names = set(freeze)
    except TypeError:
        raise ConfigError(f"freeze must be {expected}; got {freeze!r}.") from None
    if not names <= set(BLOCKS):
        raise ConfigError(f"freeze must be {expected}; got {sorted(map(str, names - set(BLOCKS)))} in the collection.")
    return tuple(block for block in BLOCKS if block in names)


def frozen_prefix(frozen: Iterable[str]) -> tuple[str, ...]:
    """The longest run of frozen blocks from the input: the part that need be computed only once."""
    held, prefix = set(frozen), []
    for block in BLOCKS:
        if block not in held:
            break
        prefix.append(block)
    return tuple(prefix)


def block_layers(model: keras.Model, block: str) -> list[keras.layers.Layer]:
    """The layers of one block."""
    return [layer for layer in model.layers if layer.name.startswith(f"{block}_")]


def set_frozen(model: keras.Model, frozen: Iterable[str]) -> None:
    """Freeze exactly these blocks. To be called before `compile`, which is when Keras looks."""
    held = set(frozen)
    for block in BLOCKS:
        for layer in block_layers(model, block):
            layer.trainable = block not in held


def block_digests(model: keras.Model) -> dict[str, str]:
    """SHA-256 of the weights of every block: equal digests, equal weights."""
    digests = {}
    for block in BLOCKS:
        digest = hashlib.sha256()
        for layer in block_layers(model, block):
            for weight in layer.weights:
                digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
        digests[block] = digest.hexdigest()
    return digests


def check_movement(before: dict[str, str], after: dict[str, str], frozen: Iterable[str]) -> None:
    """Promise 1: what is frozen did not move, what is not did.

    Raises:
        FreezeError: naming the blocks that broke it.
    """
    held = set(frozen)
    moved = [block for block in BLOCKS if block in held and before[block] != after[block]]
    stuck = [block for block in BLOCKS if block not in held and before[block] == after[block]]
    if moved:
        raise FreezeError(f"{', '.join(moved)} must not move in training, being frozen, but its weights changed.")
    if stuck:
        raise FreezeError(
            f"{', '.join(stuck)} is not frozen, but training did not change its weights. "
            "This usually occurs when the learning rate is 0, or so high that the units of the head died."
        )


# -- weights as plain arrays ------------------------------------------------------------------------------------------


def plain_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of the blocks as `{"block1_conv1/kernel": ...}`, with batch normalisation folded in.

    Folding multiplies each kernel by gamma / sqrt(variance + epsilon) and moves the rest into the bias, so that
    a network trained with batch normalisation becomes the paper's plain one with the same outputs.
    """
    weights = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        kernel = layer.kernel.numpy()
        bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[-1], kernel.dtype)
        try:
            norm = model.get_layer(f"{layer.name}_bn")
        except ValueError:  # a plain network
            norm = None
        if norm is not None:
            gamma, beta, mean, variance = norm.get_weights()
            scale = gamma / np.sqrt(variance + norm.epsilon)
            kernel, bias = kernel * scale, beta + (bias - mean) * scale
        weights[f"{layer.name}/kernel"], weights[f"{layer.name}/bias"] = kernel, bias
    return weights


def learned_weights(model: keras.Model, frozen: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The weights of all layers outside of the frozen blocks, by layer and number: `{"fc1/0": kernel, ...}`."""
    held = tuple(f"{block}_" for block in frozen)
    layers = [layer for layer in model.layers if not (held and layer.name.startswith(held))]
    return {f"{layer.name}/{n}": array for layer in layers for n, array in enumerate(layer.get_weights())}


def assign_weights(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Put weights of `learned_weights` into the layers of those names."""
    for name in dict.fromkeys(key.rsplit("/", 1)[0] for key in weights):
        layer = model.get_layer(name)
        layer.set_weights([weights[f"{name}/{n}"] for n in range(len(layer.weights))])
