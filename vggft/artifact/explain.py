"""Which part of a picture speaks for a class: Grad-CAM, as arrays, overlays and files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from ..data.arrays import as_sequence, read_images, to_pixels
from ..data.reading import read_image
from ..errors import ConfigError, DataError
from ..network.blocks import BLOCKS
from ..network.description import Description
from ..network.forward import batch_size_for, between, forward
from ..run import whole_file

LARGEST = 1024  # px: the longer side of a picture that is shown
COLOURS = "inferno"  # of matplotlib: dark to light, in order for colour-blind eyes and in print
AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in a picture a classifier saw a class.

    Args:
        picture: (H, W, 3) uint8 RGB, upright, at most 1024 px a side.
        heatmap: (S, S) float32 in 0..1 over the whole picture, 1 where most speaks for the class; 0 all over where
            nothing does.
        label: the class that is explained.
        probability: that the classifier gives it, 0..1.
        block: whose maps were looked at; a late one knows what, an early one where.
    """

    picture: np.ndarray
    heatmap: np.ndarray
    label: str
    probability: float
    block: str

    def overlay(self, strength: float = 0.6) -> np.ndarray:
        """The picture under the heat map, (H, W, 3) uint8; where nothing speaks for the class it is left as it is.

        Args:
            strength: of the colours where the map is 1, in 0..1.
        """
        from matplotlib import colormaps

        height, width = self.picture.shape[:2]
        heat = np.asarray(Image.fromarray(self.heatmap).resize((width, height), Image.Resampling.BILINEAR))
        alpha = strength * heat[..., None]
        colours = colormaps[COLOURS](0.15 + 0.85 * heat)[..., :3] * 255
        return np.rint(self.picture * (1 - alpha) + colours * alpha).astype("uint8")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the overlay as a picture file."""
        path = Path(path)
        with whole_file(path) as aside:
            Image.fromarray(self.overlay()).save(aside)
        return path

    def __repr__(self) -> str:
        return f"<Explanation of {self.label} ({self.probability:.1%}) by {self.block}>"


def grad_cam(
    model: keras.Model, pixels: np.ndarray, classes: Sequence[int] | np.ndarray, block: str = "block5"
) -> np.ndarray:
    """Grad-CAM (arXiv:1610.02391) over the last convolution of a block.

    Its maps are summed, each weighted by how much the class's logit grows with it on average; what is negative, and so
    speaks against the class, is left out, and the largest value is scaled to 1.

    Args:
        model: a classifier's flat network.
        pixels: (N, S, S, 3) RGB in 0..255.
        classes: (N,) class indices.
        block: one of `block1` to `block5`.

    Returns:
        (N, S, S) float32 in 0..1.

    Raises:
        ConfigError: there is no such block.
    """
    if block not in BLOCKS:
        raise ConfigError(f"block must be one of {', '.join(BLOCKS)}; got {block!r}.")
    to_maps, to_logits = _halves(model, block)
    size, batch, heat = pixels.shape[1], batch_size_for(model), []
    for start in range(0, len(pixels), batch):
        part = slice(start, start + batch)
        maps = tf.convert_to_tensor(to_maps(tf.cast(pixels[part], "float32"), training=False))
        with tf.GradientTape() as tape:
            tape.watch(maps)
            logits = tf.gather(to_logits(maps, training=False), np.asarray(classes[part]), axis=1, batch_dims=1)
        weights = tf.reduce_mean(tape.gradient(logits, maps), axis=(1, 2), keepdims=True)
        heat.append(tf.nn.relu(tf.reduce_sum(maps * weights, axis=-1)).numpy())
    found = np.concatenate(heat)
    found /= np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-12)
    square = (size, size)
    return np.stack([np.asarray(Image.fromarray(each).resize(square, Image.Resampling.BILINEAR)) for each in found])


@lru_cache(8)
def _halves(model: keras.Model, block: str) -> tuple[keras.Model, keras.Model]:
    """A network up to the last convolution of a block, and from there to the logits.

    Made once: Keras never forgets a part that was made of a network, so a server would grow by each explanation.
    """
    layer = [each.name for each in model.layers if each.name.startswith(f"{block}_conv")][-1]
    return between(model, None, layer), between(model, layer, "logits")


def explain(
    model: keras.Model,
    description: Description,
    pictures: Any,
    label: str | Sequence[str] | None = None,
    block: str = "block5",
) -> list[Explanation]:
    """Explain what a classifier says of some pictures.

    Args:
        pictures: as for `Classifier.predict`.
        label: the class to explain, or one for each picture; None is the likeliest of each.
        block: whose maps are looked at.

    Raises:
        DataError: pictures that cannot be read, all of them.
        ConfigError: an unknown class or block.
    """
    names = description.class_names
    pictures, value_range = as_sequence(pictures)
    wanted = [label] * len(pictures) if label is None or isinstance(label, str) else list(label)
    if unknown := sorted({repr(each) for each in wanted if each is not None and each not in names}):
        raise ConfigError(f"label: {', '.join(unknown)} is no class of this classifier; it knows {', '.join(names)}.")
    if len(wanted) != len(pictures):
        raise ConfigError(f"label: expected one class, or one for each of {len(pictures)} pictures; got {len(wanted)}.")
    found: list[Explanation] = []
    problems: list[str] = []
    for start in range(0, len(pictures), AT_ONCE):
        part = pictures[start : start + AT_ONCE]
        pixels, wrong = read_images(part, description.image_size, start, value_range)
        problems += wrong
        if problems:
            continue
        probabilities = forward(model, pixels)
        classes = [
            int(row.argmax()) if each is None else names.index(each)
            for each, row in zip(wanted[start:], probabilities, strict=False)
        ]
        for picture, heat, c, row in zip(
            part, grad_cam(model, pixels, classes, block), classes, probabilities, strict=True
        ):
            found.append(Explanation(shown(picture, value_range), heat, names[c], float(row[c]), block))
    if problems:
        raise DataError.listing("Some images cannot be read", problems)
    return found


def shown(picture: Any, value_range: str | None = None) -> np.ndarray:
    """A picture as a person looks at it: (H, W, 3) uint8, upright, in its own proportions, at most 1024 px a side."""
    if isinstance(picture, np.ndarray):
        pixels = to_pixels(picture[None], values=value_range if picture.dtype.kind == "f" else None)[0]
        image = Image.fromarray(np.rint(pixels).astype("uint8"))
    else:
        if hasattr(picture, "seek"):  # it has been read once already
            picture.seek(0)
        image = Image.fromarray(read_image(picture).pixels)
    image.thumbnail((LARGEST, LARGEST))
    return np.array(image)
