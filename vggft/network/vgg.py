"""Build the columns of Table 1 with the Keras functional API. Layers are named as in Keras Applications."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import keras, own_settings
from ..errors import ConfigError, VggftError, short_traceback
from ..extras import missing, remedy
from ..fields import as_path, is_integer, is_number, refuse_unknown, shown
from ..files.writing import whole_file
from ..pictures.reading import MIN_SIZE
from .blocks import BLOCKS, COLUMNS, FILTERS, POOLING_LAYERS, check_architecture, scaled
from .weights import load_pretrained

MOST_CHANNELS = 4096
TOP_IS_FRESH = "{} has blocks alone, so the top is random: pass include_top=False, or num_classes to train it."


@own_settings()
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


@short_traceback
@own_settings()
def vgg(
    column: str = "D",
    *,
    include_top: bool = True,
    weights: Any = None,
    image_size: Any = 224,
    width: float = 1.0,
    num_classes: int | None = None,
    dropout: float | None = None,
    pooling: str | None = None,
    channels: int | None = None,
    input_tensor: Any = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dtype: Any = None,
) -> keras.Model:
    """Build a column of the paper's Table 1 (arXiv:1409.1556) as a plain `keras.Model`.

    Args:
        column: `"A"`, `"A-LRN"`, `"B"`, `"C"`, `"D"` (VGG16) or `"E"` (VGG19).
        include_top: whether `flatten`, `fc1`, `fc2` and `predictions` follow the five blocks.
        weights: None for fresh weights; `"imagenet"`, or a preset, a file or a model as in `finetune(backbone=...)`.
            Of a file or model that has the paper's top, this is taken too; otherwise the top stays fresh.
        image_size: height and width of the input in pixels, each >= 32: one number for both, or `(height, width)`.
            Without the top it may be None, or either of the two, for images of any size.
        width: multiplies the number of filters and units, in (0, 4].
        num_classes: number of outputs; None for as many as the weights have, else 1000.
        dropout: probability after `fc1` and `fc2`; None is the paper's 0.5 with fresh weights, else 0.
        pooling: without the top, `"avg"` or `"max"` pools the last maps to one vector for each image.
        channels: number of channels of the input; None is 3. Other numbers need fresh weights.
        input_tensor: a Keras tensor (B, H, W, C) to build on, in place of an input of `image_size` and `channels`.
        classifier_activation: of `predictions`; None returns logits.
        name: of the model; None is `vgg_d` and so on.
        dtype: a dtype policy of Keras, such as `"mixed_bfloat16"`; None is float32, whatever Keras's global policy is.

    Returns:
        A model that takes (B, H, W, channels) BGR minus the mean, the output of `preprocess`, and returns
        (B, num_classes) probabilities, or (B, H / 32, W / 32, 512 * width) or pooled (B, 512 * width) without the top.
        `keras.applications.vgg16.decode_predictions` names the 1,000 classes of ImageNet, whose list it downloads once.

    Raises:
        ConfigError: an argument is out of its range.
        WeightsError: the weights are missing, damaged or belong to another network.

    >>> vgg("D").count_params()
    138357544
    >>> vgg("E", include_top=False, image_size=(64, None), width=1 / 16, pooling="avg").output.shape
    (None, 32)
    """
    check_architecture(column, 224, width)
    _check_options(include_top, pooling, num_classes, dropout, classifier_activation, name)
    pretrained = None
    if weights is not None:
        if isinstance(weights, str) and weights.lower() == "imagenet":
            weights = "vgg19_imagenet" if column == "E" else "vgg16_imagenet"
        pretrained = load_pretrained(weights, with_top=include_top)
    policy = _policy(dtype)
    inputs, x = _input(input_tensor, image_size, channels, include_top)
    if pretrained is not None and x.shape[-1] != 3:
        raise ConfigError(f"channels={x.shape[-1]} needs weights=None: pretrained kernels are for 3 channels, BGR.")
    x = add_blocks(x, column, width, dtype=policy)[BLOCKS[-1]]
    if include_top:
        classes = int(num_classes) if num_classes else (pretrained and pretrained.num_classes) or 1000
        rate = (0.5 if weights is None else 0.0) if dropout is None else float(dropout)
        x = _add_top(x, width, classes, rate, classifier_activation, policy)
    elif pooling is not None:
        kind = keras.layers.GlobalAveragePooling2D if pooling == "avg" else keras.layers.GlobalMaxPooling2D
        x = kind(dtype=policy, name=POOLING_LAYERS[pooling])(x)
    model = keras.Model(inputs, x, name=name or f"vgg_{column.lower().replace('-', '_')}")
    if pretrained is not None:
        pretrained.assign(model)
    if pretrained is not None and include_top and not pretrained.top and num_classes is None:
        warnings.warn(TOP_IS_FRESH.format(pretrained.name), stacklevel=3)
    return model


@short_traceback
def vgg16(
    include_top: bool = True,
    weights: Any = None,
    image_size: Any = 224,
    width: float = 1.0,
    num_classes: int | None = None,
    dropout: float | None = None,
    **options: Any,
) -> keras.Model:
    """Build the paper's VGG16, column D of its Table 1; arguments as for `vgg`.

    With the weights of the 1,000 classes, `keras.applications.vgg16.decode_predictions` names what it predicts.

    >>> vgg16(include_top=False, image_size=64, width=1 / 16).output.shape
    (None, 2, 2, 32)
    """
    sizes: dict[str, Any] = {"image_size": image_size, "width": width, "num_classes": num_classes, "dropout": dropout}
    return _of_column("D", options, include_top=include_top, weights=weights, **sizes)


@short_traceback
def vgg19(
    include_top: bool = True,
    weights: Any = None,
    image_size: Any = 224,
    width: float = 1.0,
    num_classes: int | None = None,
    dropout: float | None = None,
    **options: Any,
) -> keras.Model:
    """Build the paper's VGG19, column E of its Table 1; arguments as for `vgg`.

    >>> len(vgg19(include_top=False, image_size=64, width=1 / 16).layers)
    22
    """
    sizes: dict[str, Any] = {"image_size": image_size, "width": width, "num_classes": num_classes, "dropout": dropout}
    return _of_column("E", options, include_top=include_top, weights=weights, **sizes)


def _of_column(column: str, options: Mapping[str, Any], **sizes: Any) -> keras.Model:
    refuse_unknown("vgg has no argument", options, list(inspect.signature(vgg).parameters)[1:])
    return vgg(column, **sizes, **options)


def _check_options(include_top: Any, pooling: Any, num_classes: Any, dropout: Any, activation: Any, name: Any) -> None:
    """Raise `ConfigError` unless these arguments of `vgg` have possible values."""
    if not isinstance(include_top, (bool, np.bool_)):
        raise ConfigError(f"include_top must be True or False; got {shown(include_top)}.")
    if not (pooling is None or (isinstance(pooling, str) and pooling in ("avg", "max"))):
        raise ConfigError(f"pooling must be None, 'avg' or 'max'; got {shown(pooling)}.")
    if pooling is not None and include_top:
        raise ConfigError(f"pooling={pooling!r} needs include_top=False: the top takes the maps themselves.")
    if not (num_classes is None or (is_integer(num_classes) and num_classes >= 1)):
        raise ConfigError(f"num_classes must be an integer >= 1, or None; got {shown(num_classes)}.")
    if not (dropout is None or (is_number(dropout) and 0 <= dropout < 1)):
        raise ConfigError(f"dropout must be in [0, 1), or None; got {shown(dropout)}.")
    if not (name is None or (isinstance(name, str) and name and "/" not in name)):
        raise ConfigError(f"name must be a string without slashes, or None; got {shown(name)}.")
    try:
        keras.activations.get(activation)
    except (ValueError, TypeError):
        raise ConfigError(
            f"classifier_activation must be the name of a Keras activation, or None; got {shown(activation)}."
        ) from None


def _policy(dtype: Any) -> Any:
    """Return the dtype policy of Keras that an argument names; None for float32."""
    if dtype is None:
        return None
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        policy = keras.dtype_policies.get(dtype)
        if keras.backend.is_float_dtype(policy.compute_dtype):
            return policy
    raise ConfigError(f"dtype must be a dtype policy of Keras, such as 'mixed_bfloat16'; got {shown(dtype)}.")


def _input(tensor: Any, image_size: Any, channels: Any, include_top: bool) -> tuple[Any, Any]:
    """Return the inputs of a network, and the (B, H, W, C) tensor that its first block takes."""
    if tensor is None:
        if not (channels is None or (is_integer(channels) and 1 <= channels <= MOST_CHANNELS)):
            raise ConfigError(
                f"channels must be an integer from 1 to {MOST_CHANNELS}, or None for 3; got {shown(channels)}."
            )
        shape: tuple[Any, ...] = (*_sides(image_size, include_top), 3 if channels is None else int(channels))
        x = keras.Input(shape, name="image")
        return x, x
    if not keras.backend.is_keras_tensor(tensor) or len(tensor.shape) != 4 or tensor.shape[-1] is None:
        raise ConfigError(
            f"input_tensor must be a Keras tensor (B, H, W, channels), as of keras.Input; got {shown(tensor)}."
        )
    if channels is not None and channels != tensor.shape[-1]:
        raise ConfigError(f"channels={shown(channels)} contradicts input_tensor, which has {tensor.shape[-1]}.")
    _sides(tuple(tensor.shape[1:3]), include_top)
    inputs = keras.utils.get_source_inputs(tensor)
    return inputs[0] if len(inputs) == 1 else inputs, tensor


def _sides(image_size: Any, include_top: bool) -> tuple[int | None, int | None]:
    """Return height and width; either may be None without a top."""
    sides = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    fits = len(sides) == 2 and all(side is None if not is_integer(side) else side >= MIN_SIZE for side in sides)
    if not fits:
        raise ConfigError(
            f"image_size must be an integer >= {MIN_SIZE}, as the blocks halve it five times, or two of them; "
            f"got {shown(image_size)}."
        )
    if include_top and None in sides:
        raise ConfigError(f"image_size={image_size!r} needs include_top=False: the units of the top are for one size.")
    height, width = (None if side is None else int(side) for side in sides)
    return height, width


def _add_top(x: Any, width: float, num_classes: int, dropout: float, activation: Any, policy: Any) -> Any:
    """Add the paper's top: two dense layers of 4096 units, and the classes."""
    x = keras.layers.Flatten(dtype=policy, name="flatten")(x)
    for n in (1, 2):
        how = {"activation": "relu", "kernel_initializer": "he_normal", "dtype": policy}
        x = keras.layers.Dense(scaled(4096, width), **how, name=f"fc{n}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, dtype=policy, name=f"dropout{n}")(x)
    return keras.layers.Dense(num_classes, activation=activation, dtype=policy, name="predictions")(x)


def draw(model: keras.Model, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Draw a network with the names and shapes of its layers to an image file, by `keras.utils.plot_model`.

    Raises:
        VggftError: the file exists and `overwrite` is not set, or pydot or graphviz is missing.
    """
    if missing("draw") or not shutil.which("dot"):
        raise VggftError(
            f"Drawing a network needs the Python package pydot ({remedy('draw')}) and the program graphviz, "
            "whose command is `dot` (apt install graphviz, brew install graphviz, or from graphviz.org)."
        )
    with whole_file(path := as_path(path), overwrite) as aside:
        keras.utils.plot_model(model, aside, show_shapes=True, show_layer_names=True)
    return path


def _local_response_normalization(x: Any) -> Any:
    """Apply AlexNet's normalisation over 5 channels (n=5, k=2, alpha=1e-4, beta=0.75), by stock operations."""
    channels = x.shape[-1]
    squares = keras.ops.pad(keras.ops.square(x), ((0, 0), (0, 0), (0, 0), (2, 2)))
    sums = sum(squares[..., n : n + channels] for n in range(5))
    return x / keras.ops.power(2.0 + 1e-4 * sums, 0.75)
