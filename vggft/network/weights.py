"""Pretrained backbones: the table of presets, and how weights are found, downloaded, verified and read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from ..errors import ConfigError, WeightsError
from ..pictures.reading import ImageSize
from .blocks import BLOCKS, COLUMNS, FILTERS, scaled
from .freezing import digest_of


@dataclass(frozen=True)
class Preset:
    """A row of `PRESETS`: where the weights are, and which network they belong to."""

    file: str
    column: str
    width: float
    image_size: int
    licence: str
    spdx: str  # identifier of the licence at https://spdx.org/licenses
    about: str
    url: str | None = None  # None: shipped inside the package
    md5: str | None = None


PRESETS: dict[str, Preset] = {
    "vgg16_imagenet": Preset(
        file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        column="D",
        width=1.0,
        image_size=224,
        licence="CC BY 4.0 (Visual Geometry Group, University of Oxford)",
        spdx="CC-BY-4.0",
        about="VGG16 trained on ImageNet, as Keras Applications distributes it without its top",
        url="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="6d6bbae143d832006294945121d1f1fc",
    ),
    "vgg16_mini": Preset(
        file="vgg16_mini.npz",
        column="D",
        width=0.25,
        image_size=64,
        licence="Apache-2.0",
        spdx="Apache-2.0",
        about="VGG16 at a quarter of its width, trained on CIFAR-10 by recipes/pretrain_backbone.py",
    ),
}


@dataclass(frozen=True)
class Pretrained:
    """Weights in memory, `{"block1_conv1/kernel": array, ...}`, and the architecture they belong to."""

    name: str
    arrays: Mapping[str, np.ndarray]
    column: str
    width: float
    image_size: ImageSize  # the size at which the backbone works best

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
        names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
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


def convolutions(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the weights of a model's convolutions, `{"block1_conv1/kernel": ...}`, as in `.npz` weights files."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return {f"{layer.name}/{kind}": getattr(layer, kind).numpy() for layer in layers for kind in ("kernel", "bias")}


def load_pretrained(backbone: str | os.PathLike[str]) -> Pretrained:
    """Load the weights of a preset or of a file.

    Args:
        backbone: a name from `PRESETS`, or a file: `.npz` of `layer/weight` arrays, or `.h5` as Keras Applications
            distributes it. Column and width are inferred from the shapes.

    Raises:
        ConfigError: `backbone` is neither a preset nor a file.
        WeightsError: the file cannot be found or downloaded, is damaged, or belongs to another network.
    """
    if not isinstance(backbone, (str, os.PathLike)):
        raise ConfigError(f"backbone must be one of {', '.join(PRESETS)}, or a weights file; got {backbone!r}.")
    preset = PRESETS.get(str(backbone))
    if preset is None:
        path = Path(backbone)
        if not path.is_file():
            raise ConfigError(
                f"backbone must be one of {', '.join(PRESETS)}, or a weights file; got {str(backbone)!r}."
            )
        arrays = read_weights(path)
        column, width = infer_architecture(path.name, arrays)
        return Pretrained(path.name, arrays, column, width, image_size=224)
    path = find_preset(preset)
    arrays = read_weights(path)
    found = infer_architecture(str(path), arrays)
    if found != (preset.column, preset.width):
        raise WeightsError(
            f"{path} should hold {backbone} (column {preset.column}, width {preset.width:g}), "
            f"but its shapes belong to column {found[0]}, width {found[1]:g}."
        )
    return Pretrained(str(backbone), arrays, preset.column, preset.width, preset.image_size)


def find_preset(preset: Preset) -> Path:
    """Find the file of a preset: in the package, in `VGGFT_WEIGHTS_DIR`, or downloaded once by Keras and verified.

    Raises:
        WeightsError: the file is not there and cannot be downloaded; the message says where to get and put it.
    """
    if preset.url is None:
        return Path(str(files("vggft.network") / "presets" / preset.file))
    if directory := os.environ.get("VGGFT_WEIGHTS_DIR"):
        path = Path(directory) / preset.file
        if path.is_file():
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            if preset.md5 and digest != preset.md5:
                raise WeightsError(
                    f"{path} is not the expected file: its MD5 is {digest}, expected {preset.md5}. "
                    f"The download was probably incomplete; fetch it again from {preset.url}"
                )
            return path
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras draws its progress bar there; standard output stays clean
            return Path(keras.utils.get_file(preset.file, preset.url, cache_subdir="models", file_hash=preset.md5))
    except Exception as error:  # Keras raises a bare Exception for a failed download
        place = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / preset.file
        raise WeightsError(
            f"The weights {preset.file} are not on this machine and could not be downloaded ({error}).\n"
            f"Fetch {preset.url}\n(MD5 {preset.md5}) on a machine with a network, and put it at {place},\n"
            f"or into a directory that the environment variable VGGFT_WEIGHTS_DIR names, or pass its path as backbone. "
            "With no network at all, backbone='vgg16_mini' ships with vggft."
        ) from error


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read the convolutions of a weights file as float32 `{"block1_conv1/kernel": ...}`.

    Raises:
        WeightsError: the file is unreadable, truncated, or contains no layers of VGG.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        if path.suffix == ".npz":
            with (
                path.open("rb") as file,
                np.load(file, allow_pickle=False) as stored,
            ):  # given a path, NumPy would leave a damaged file open
                arrays = {name: stored[name].astype("float32") for name in stored.files}
        else:
            with h5py.File(path) as tree:
                tree.visititems(lambda name, item: _take(arrays, name, item))
    except Exception as error:  # h5py, zipfile and NumPy raise different errors for the same causes
        raise WeightsError(
            f"{path} cannot be read as a weights file ({error}). Expected .npz or .h5; "
            "the file is probably incomplete or of another kind."
        ) from error
    if not arrays:
        raise WeightsError(f"{path} has no layers named block1_conv1, ..., so these are not the weights of a VGG.")
    return arrays


def _take(arrays: dict[str, np.ndarray], name: str, item: Any) -> None:
    """Keep an HDF5 dataset if it belongs to a convolution: old files name them W and b, newer ones kernel and bias."""
    match = re.search(r"(block\d_conv\d).*?(kernel|bias|_W_|_b_)", name)
    if match and isinstance(item, h5py.Dataset):
        kind = {"_W_": "kernel", "_b_": "bias"}.get(match[2], match[2])
        arrays[f"{match[1]}/{kind}"] = np.asarray(item[()], "float32")


def infer_architecture(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[str, float]:
    """Infer the column of Table 1 and the width from the shapes.

    Raises:
        WeightsError: the shapes fit no column; the message names the first one that differs.
    """
    first = arrays.get("block1_conv1/kernel")
    if first is None or first.ndim != 4:
        raise WeightsError(f"{name} has no kernel of block1_conv1, so these are not the weights of a VGG.")
    width = first.shape[-1] / FILTERS[0]
    reason = f"its arrays are {', '.join(sorted(arrays))}"
    for column, table in COLUMNS.items():
        expected = _shapes(table, width)
        if set(arrays) != set(expected):
            continue
        wrong = [
            f"{key} is {arrays[key].shape}, expected {expected[key]}"
            for key in expected
            if arrays[key].shape != expected[key]
        ]
        if not wrong:
            return column, width
        reason = wrong[0]
    raise WeightsError(f"{name} fits no column of VGG at width {width:g}: {reason}.")


def _shapes(table: tuple[tuple[int, ...], ...], width: float) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight of a column."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for block, kernels, filters in zip(BLOCKS, table, FILTERS, strict=True):
        for k, kernel in enumerate(kernels, start=1):
            shapes[f"{block}_conv{k}/kernel"] = (kernel, kernel, channels, scaled(filters, width))
            shapes[f"{block}_conv{k}/bias"] = (scaled(filters, width),)
            channels = scaled(filters, width)
    return shapes
