"""Pretrained backbones: a VGG is found among the layers of a file or a model, and its weights are assigned."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..errors import WeightsError
from ..pictures.reading import ImageSize
from ..weightfiles.chain import CONVOLUTION, POOLING, what_is_odd
from ..weightfiles.files import open_layers
from ..weightfiles.layers import Layer, layers_of_model
from ..weightfiles.presets import PRESETS, find_preset, preset_of
from .blocks import BLOCKS, COLUMNS, LAYERS, column_of, kernel_shapes
from .freezing import digest_of

TOP = ("fc1", "fc2", "predictions")
RANDOM = "random"  # the name of fresh weights


@dataclass(frozen=True)
class Pretrained:
    """Weights in memory, `{"block1_conv1/kernel": array, ...}`, and the architecture they belong to."""

    name: str
    arrays: Mapping[str, np.ndarray]
    column: str
    width: float
    image_size: ImageSize  # the size at which the backbone works best
    top: Mapping[str, np.ndarray] = field(default_factory=dict)  # of the paper's top, if it was asked for and is there

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the top; None without one."""
        return len(self.top["predictions/bias"]) if self.top else None

    @property
    def digest(self) -> str:
        """SHA-256 of names and values."""
        digest = hashlib.sha256()
        for name in sorted(self.arrays):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.arrays[name], "float32").tobytes())
        return digest.hexdigest()

    @cached_property
    def block_digests(self) -> dict[str, str]:
        """SHA-256 of the weights of each block, as `freezing.block_digests` computes it from a network."""
        layers = sorted({name.split("/")[0] for name in self.arrays})
        return {
            block: digest_of(
                np.asarray(self.arrays[f"{layer}/{kind}"], "float32")
                for layer in layers
                if layer.startswith(f"{block}_")
                for kind in ("kernel", "bias")
            )
            for block in BLOCKS
        }

    def assign(self, model: keras.Model) -> None:
        """Assign the weights to the convolutions of a model, by layer name; the model may end after any block."""
        held = f"{self.name} holds column {self.column} at width {self.width:g}"
        names = [layer.name for layer in model.layers if layer.name in LAYERS]  # others may stand before them
        blocks = {name.split("_")[0] for name in names}
        wanted = {f"{name}/{kind}" for name in names for kind in ("kernel", "bias")}
        mine = {name: array for name, array in self.arrays.items() if name.split("_")[0] in blocks}
        if odd := wanted ^ set(mine):
            raise WeightsError(
                f"{held}; the network belongs to another column; it differs in {', '.join(sorted(odd))}."
            )
        for name, array in mine.items():
            layer, weight = name.split("/")
            variable = getattr(model.get_layer(layer), weight)
            if tuple(variable.shape) != array.shape:
                raise WeightsError(
                    f"{held}: its {name} has shape {array.shape}, the network's has {tuple(variable.shape)}. "
                    f"Build the network with width={self.width:g}."
                )
            variable.assign(array)
        if any(layer.name == TOP[0] for layer in model.layers):
            self._assign_top(model)

    def _assign_top(self, model: keras.Model) -> None:
        for name, array in self.top.items():
            layer, weight = name.split("/")
            variable = getattr(model.get_layer(layer), weight)
            if tuple(variable.shape) != array.shape:
                raise WeightsError(
                    f"{self.name} has a top whose {name} has shape {array.shape}; the network's has "
                    f"{tuple(variable.shape)}. Its image size and number of classes are others: {self.num_classes} "
                    "classes are in the file. To take only its blocks, use include_top=False."
                )
            variable.assign(array)


def convolutions(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the weights of a model's convolutions, `{"block1_conv1/kernel": ...}`, as in `.npz` weights files."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return {f"{layer.name}/{kind}": getattr(layer, kind).numpy() for layer in layers for kind in ("kernel", "bias")}


def load_pretrained(backbone: Any, seed: int = 0, with_top: bool = False) -> Pretrained:
    """Load the weights of a preset, of a file, or of a model.

    Args:
        backbone: a name from `PRESETS`; a file of weights or of a model, as Keras of any version writes it (`.keras`,
            `.weights.h5`, `.h5`), or `.npz`; a run directory; a `keras.Model` or `Classifier`; None for a VGG16 with
            random weights. A VGG is found in it by the shapes of its convolutions, whatever the names and whatever
            comes before or after; column and width are inferred.
        seed: seed of random weights.
        with_top: also read the weights of the paper's top, if there are any.

    Raises:
        ConfigError: `backbone` is none of these.
        WeightsError: the file cannot be found or downloaded, or holds no VGG; the message says what it holds.
    """
    name = preset_of(backbone)
    if backbone is None or (isinstance(backbone, str) and backbone.lower() == "none"):
        return random_weights(seed)
    model = getattr(backbone, "keras_model", backbone)  # of a classifier
    if hasattr(model, "layers") and hasattr(model, "get_weights"):
        return _pretrained(model.name, f"The model {model.name!r}", list(layers_of_model(model)), with_top)
    if name is None:
        path = Path(os.path.expanduser(backbone))  # noqa: PTH111 - pathlib raises without a home
        with open_layers(path) as layers:
            return _pretrained(path.name, str(path), layers, with_top)
    preset = PRESETS[name]
    path = find_preset(preset)
    with open_layers(path) as layers:
        found = _pretrained(str(backbone), str(path), layers)
    if (found.column, found.width) != (preset.column, preset.width):
        raise WeightsError(
            f"{path} should hold {backbone} (column {preset.column}, width {preset.width:g}), "
            f"but its shapes belong to column {found.column}, width {found.width:g}."
        )
    return replace(found, name=name, image_size=preset.image_size)


def random_weights(seed: int, column: str = "D", width: float = 1.0) -> Pretrained:
    """Return fresh weights: He normal kernels (arXiv:1502.01852), and biases of 0."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, shape in kernel_shapes(column, width).items():
        deviation = np.sqrt(2 / math.prod(shape[:-1]))
        arrays[f"{name}/kernel"] = (rng.standard_normal(shape, "float32") * np.float32(deviation)).astype("float32")
        arrays[f"{name}/bias"] = np.zeros(shape[-1], "float32")
    return Pretrained(RANDOM, arrays, column, width, image_size=224)


def _pretrained(name: str, source: str, layers: Sequence[Layer], with_top: bool = False) -> Pretrained:
    """Find a VGG among the layers of a network, and read its weights.

    Raises:
        WeightsError: there is none, or its layers do something else than VGG's; the message says what.
    """
    convolutions = [layer for layer in layers if layer.is_convolution]
    found = column_of([tuple(layer.kernel.shape) for layer in convolutions])
    if isinstance(found, str):
        raise WeightsError(f"{source} cannot be the backbone: {found}. Expected a VGG, such as VGG16 or VGG19.")
    column, width, place = found
    shapes = kernel_shapes(column, width)
    mine = convolutions[place : place + len(shapes)]
    begin, end = (next(n for n, layer in enumerate(layers) if layer is each) for each in (mine[0], mine[-1]))
    kernels = COLUMNS[column]
    steps = [step for block in kernels for step in (*[CONVOLUTION] * len(block), POOLING)][:-1]
    told = what_is_odd(layers[begin : end + 1], steps)
    normalizing = [layer.name for layer in layers if layer.normalizes]
    if told is None and not layers[begin].kind and len(normalizing) >= len(mine):
        told = f"there is batch normalisation for each of them ({normalizing[0]}, ...)"
    if told:
        raise WeightsError(f"{source} has the convolutions of a VGG, but not its function: {told}.")
    for layer in layers[:begin]:
        if layer.kind in ("Rescaling", "Normalization") and layer.name != "subtract_mean":
            warnings.warn(
                f"{source} begins with {layer.name} ({layer.kind}): its blocks learned from other values than they get "
                "here, BGR minus the mean of ImageNet. Blocks that learn can adapt to that, frozen ones cannot.",
                stacklevel=3,
            )
    arrays = _values(source, dict(zip(shapes, mine, strict=True)))
    dense = [layer for layer in layers[end + 1 :] if layer.is_dense]
    top = _values(source, dict(zip(TOP, dense, strict=True))) if with_top and len(dense) == len(TOP) else {}
    return Pretrained(name, arrays, column, width, 224, top)


def _values(source: str, layers: Mapping[str, Layer]) -> dict[str, np.ndarray]:
    """Return float32 kernels and biases, `{"block1_conv1/kernel": ...}`, of layers by their names in the network."""
    arrays: dict[str, np.ndarray] = {}
    for name, layer in layers.items():
        for kind, array in (("kernel", layer.kernel), ("bias", layer.bias)):
            values = np.asarray(array.numpy() if hasattr(array, "numpy") else array)
            if values.dtype.kind in "iub":
                raise WeightsError(f"{source} is quantised: the {kind} of {layer.name} is {values.dtype}, not floats.")
            arrays[f"{name}/{kind}"] = values.astype("float32")
            if not np.isfinite(arrays[f"{name}/{kind}"]).all():
                raise WeightsError(f"{source} has NaN or infinity in the {kind} of {layer.name}.")
    return arrays
