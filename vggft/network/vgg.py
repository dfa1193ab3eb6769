"""Build the columns of Table 1 with the Keras functional API. Layers are named as in Keras Applications."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import keras

from ..errors import VggftError
from ..pictures.reading import ImageSize
from .blocks import BLOCKS, COLUMNS, FILTERS, check_architecture, scaled
from .weights import load_pretrained


def preprocess(pixels: Any) -> Any:
    """Convert RGB in 0..255 to the input of VGG: BGR minus the ImageNet mean, in float32, by stock operations."""
    bgr = keras.ops.flip(pixels, axis=-1)
    return keras.layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="subtract_mean")(bgr)


def add_blocks(
    x: Any,
    column: str = "D",
    width: float = 1.0,
    *,
    blocks: int = 5,
    dtype: str | None = None,
    initializer: str = "he_normal",
) -> dict[str, Any]:
    """Apply the blocks of a column to `x`; all five map (B, H, W, 3) to (B, H/32, W/32, 512 * width).

    Args:
        x: a Keras tensor, (B, H, W, 3).
        column: one of the columns of Table 1.
        width: multiplies the number of filters.
        blocks: number of blocks to apply, counted from the input.
        dtype: a Keras dtype policy, for example `"mixed_bfloat16"`.
        initializer: of the kernels; `"zeros"` saves half a second where other weights are assigned at once.

    Returns:
        The output of each block, `{"block1": ..., "block2": ...}`.
    """
    outputs: dict[str, Any] = {}
    for block, kernels, filters in list(zip(BLOCKS, COLUMNS[column], FILTERS, strict=True))[:blocks]:
        for k, kernel in enumerate(kernels, start=1):
            x = keras.layers.Conv2D(
                scaled(filters, width),
                kernel,
                padding="same",
                activation="relu",
                kernel_initializer=initializer,
                dtype=dtype,
                name=f"{block}_conv{k}",
            )(x)
            if column == "A-LRN" and block == "block1":
                x = _local_response_normalization(x)
        outputs[block] = x = keras.layers.MaxPooling2D(2, strides=2, dtype=dtype, name=f"{block}_pool")(x)
    return outputs


def vgg(
    column: str = "D",
    *,
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    image_size: ImageSize = 224,
    width: float = 1.0,
    num_classes: int = 1000,
    dropout: float | None = None,
) -> keras.Model:
    """Build a column of the paper's Table 1 (arXiv:1409.1556) as a plain `keras.Model`.

    Args:
        column: `"A"`, `"A-LRN"`, `"B"`, `"C"`, `"D"` (VGG16) or `"E"` (VGG19).
        include_top: whether `flatten`, `fc1`, `fc2` and `predictions` follow the five blocks.
        weights: None for fresh weights; a preset's name or a weights file for the blocks (the top stays fresh).
        image_size: height and width of the input in pixels, >= 32, one number or (height, width).
        width: multiplies the number of filters and units, in (0, 4].
        num_classes: number of outputs of the softmax.
        dropout: probability after `fc1` and `fc2`; None is the paper's 0.5 with fresh weights, else 0.

    Returns:
        A model that takes (B, height, width, 3) BGR minus the mean, the output of `preprocess`, and returns
        (B, num_classes) probabilities, or (B, height / 32, width / 32, 512 * width) without the top.

    Raises:
        ConfigError: an argument is out of its range.
        WeightsError: the weights are missing, damaged or belong to another network.

    >>> vgg("D").count_params()
    138357544
    """
    size = check_architecture(column, image_size, width)
    if dropout is None:
        dropout = 0.5 if weights is None else 0.0
    inputs = keras.Input((*size, 3), name="image")
    x = add_blocks(inputs, column, width)[BLOCKS[-1]]
    if include_top:
        x = keras.layers.Flatten(name="flatten")(x)
        for n in (1, 2):
            units = scaled(4096, width)
            x = keras.layers.Dense(units, activation="relu", kernel_initializer="he_normal", name=f"fc{n}")(x)
            if dropout:
                x = keras.layers.Dropout(dropout, name=f"dropout{n}")(x)
        x = keras.layers.Dense(num_classes, activation="softmax", name="predictions")(x)
    model = keras.Model(inputs, x, name=f"vgg_{column.lower().replace('-', '_')}")
    if weights is not None:
        load_pretrained(weights).assign(model)
    return model


def vgg16(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    image_size: ImageSize = 224,
    width: float = 1.0,
    num_classes: int = 1000,
    dropout: float | None = None,
) -> keras.Model:
    """Build the paper's VGG16, column D of its Table 1; arguments as for `vgg`."""
    options = {"image_size": image_size, "width": width, "num_classes": num_classes, "dropout": dropout}
    return vgg("D", include_top=include_top, weights=weights, **options)  # type: ignore[arg-type]


def draw(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Draw a network with the names and shapes of its layers to an image file, by `keras.utils.plot_model`.

    Raises:
        VggftError: pydot or graphviz is missing; the message says how to install them.
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
    """Apply AlexNet's normalisation over 5 channels (n=5, k=2, alpha=1e-4, beta=0.75), by stock operations."""
    _, height, width, channels = x.shape
    squares = keras.ops.pad(keras.ops.square(x), ((0, 0), (0, 0), (0, 0), (2, 2)))
    rows = keras.ops.reshape(squares, (-1, height * width, channels + 4, 1))
    sums = 5.0 * keras.ops.average_pool(rows, (1, 5), strides=1, padding="valid")
    return x / keras.ops.power(2.0 + 1e-4 * keras.ops.reshape(sums, (-1, height, width, channels)), 0.75)
