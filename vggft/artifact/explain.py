"""Show which parts of an image are evidence for a class: Grad-CAM as arrays, overlays and files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from ..engine import own_settings
from ..errors import ConfigError, short_traceback
from ..features.cuts import is_pooled, last_block
from ..fields import as_path
from ..files.writing import whole_file
from ..network.blocks import BLOCKS
from ..network.forward import batch_size_for
from ..pictures.arrays import as_sequence, settled, to_pixels
from ..pictures.files import read_image
from ..pictures.reading import Reading, over_picture
from ..telling.display import jpeg_url, legible, render
from .artifact import Artifact
from .inputs import read_parts
from .known import digests_of, look_at_images

LARGEST = 1024  # px, longer side of a displayed image
COLOURS = "inferno"  # a matplotlib colour map whose lightness rises evenly, also for colour-blind readers and in print
AT_ONCE = 64  # images
GAP = 4  # px between two pictures


@short_traceback
@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in an image a classifier saw a class.

    Args:
        picture: (H, W, 3) uint8 RGB, upright, at most 1024 px per side.
        heatmap: float32 in 0..1, covering the whole image, of the size of the network's input or, if only a part of it
            was in view, of the picture: 1 where the evidence for the class is strongest, 0 where there is none.
        label: the explained class.
        probability: the predicted probability of the class, 0..1.
        block: the block whose feature maps were used.
    """

    picture: np.ndarray
    heatmap: np.ndarray
    label: str
    probability: float
    block: str

    def overlay(self, strength: float = 0.6) -> np.ndarray:
        """Draw the heat map over the image: (H, W, 3) uint8, unchanged where the map is 0.

        Args:
            strength: opacity of the colours where the map is 1, in 0..1.
        """
        from matplotlib import colormaps

        height, width = self.picture.shape[:2]
        heat = _resized(self.heatmap, (width, height))
        alpha = strength * heat[..., None]
        colours = colormaps[COLOURS](0.15 + 0.85 * heat)[..., :3] * 255
        return np.rint(self.picture * (1 - alpha) + colours * alpha).astype("uint8")

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write the overlay to an image file."""
        path = as_path(path)
        with whole_file(path, overwrite) as aside:
            Image.fromarray(self.overlay()).save(aside)
        return path

    def __repr__(self) -> str:
        return f"<Explanation of {self.label} ({self.probability:.1%}) by {self.block}>"

    def _repr_png_(self) -> bytes:
        return Explanations([self])._repr_png_()

    def _repr_html_(self) -> str:
        return Explanations([self])._repr_html_()

    def sides(self) -> list[Image.Image]:
        """Return the picture and its overlay, both small or enlarged enough to stand side by side."""
        return [legible(Image.fromarray(pixels)) for pixels in (self.picture, self.overlay())]


class Explanations(list[Explanation]):
    """A list of explanations, which a notebook shows as pictures: each beside its overlay, with class and probability.

    >>> grey = np.full((32, 32, 3), 128, "uint8")
    >>> found = Explanations([Explanation(grey, np.eye(32, dtype="float32"), "cat", 0.9, "block5")] * 2)
    >>> Image.open(io.BytesIO(found._repr_png_())).size, found._repr_html_().count("<img")
    ((324, 324), 4)
    """

    def _repr_png_(self) -> bytes:
        rows = [each.sides() for each in self]
        wide = max((a.width + GAP + b.width for a, b in rows), default=1)
        canvas = Image.new("RGBA", (wide, max(1, sum(a.height + GAP for a, _ in rows) - GAP)))
        top = 0
        for picture, overlay in rows:
            canvas.paste(picture, (0, top))
            canvas.paste(overlay, (picture.width + GAP, top))
            top += picture.height + GAP
        file = io.BytesIO()
        canvas.save(file, "PNG")
        return file.getvalue()

    def _repr_html_(self) -> str:
        shown = [(each, [jpeg_url(side) for side in each.sides()]) for each in self]
        return render("explanations.html", shown=shown)


@own_settings()
def grad_cam(
    artifact: Artifact, pixels: np.ndarray, classes: Sequence[int] | np.ndarray, block: str | None = None
) -> np.ndarray:
    """Compute Grad-CAM (arXiv:1610.02391) at the last convolution of a block.

    The feature maps are summed, each weighted by the mean gradient of the class's logit with respect to it. Negative
    values, which are evidence against the class, are set to 0, and the maximum is scaled to 1.

    Args:
        artifact: the classifier.
        pixels: (N, height, width, 3) RGB in 0..255.
        classes: (N,) class indices.
        block: one of `block1` to `block5`; None for the last one that the head sees.

    Returns:
        (N, height, width) float32 in 0..1.

    Raises:
        ConfigError: there is no such block, or the head does not see it.
    """
    last = last_seen(artifact)
    block = block or last
    if block not in BLOCKS[: BLOCKS.index(last) + 1]:
        expected = ", ".join(BLOCKS[: BLOCKS.index(last) + 1])
        raise ConfigError(f"block must be one of {expected}, as the head sees {last} last; got {block!r}.")
    size, batch = pixels.shape[2:0:-1], batch_size_for(artifact.network.model)
    found = np.empty((0, 0, 0), "float32")
    for rows, inputs, cut in _inputs(artifact, pixels, block):
        to_maps, to_logits = artifact.network.halves(block, cut)
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            found_maps = to_maps(tf.cast(inputs[start : start + batch], "float32"), training=False)
            maps, *seen = tf.nest.flatten(found_maps)
            with tf.GradientTape() as tape:
                tape.watch(maps)
                logits = tf.gather(
                    to_logits([maps, *seen], training=False), np.asarray(classes)[part], axis=1, batch_dims=1
                )
            weights = tf.reduce_mean(tape.gradient(logits, maps), axis=(1, 2), keepdims=True)
            heat = tf.nn.relu(tf.reduce_sum(maps * weights, axis=-1)).numpy()
            found = found if len(found) else np.zeros((len(pixels), *heat.shape[1:]), "float32")
            found[part] = heat
    found /= np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-12)
    return np.stack([_resized(each, size) for each in found])


def _inputs(artifact: Artifact, pixels: np.ndarray, block: str) -> Iterator[tuple[np.ndarray, np.ndarray, str | None]]:
    """Yield rows, what the network starts from to reach a block, and after which layer: cached features, or pixels."""
    kept, rest = artifact.kept_features(), np.ones(len(pixels), bool)
    if kept and not is_pooled(kept.cut) and BLOCKS.index(last_block(kept.cut)) < BLOCKS.index(block):
        known, features = kept.read(digests_of(pixels))
        rest = ~known
        yield np.flatnonzero(known), features, kept.cut
    yield np.flatnonzero(rest), pixels[rest], None


def explain(
    artifact: Artifact, pictures: Any, label: str | Sequence[str] | None = None, block: str | None = None
) -> Explanations:
    """Explain what a classifier predicts for some images; see `Classifier.explain`."""
    names, block = artifact.class_names, block or last_seen(artifact)
    pictures = as_sequence(pictures)
    reading = settled(pictures, artifact.description.reading)
    wanted = [label] * len(pictures) if label is None or isinstance(label, str) else list(label)
    if unknown := sorted({repr(each) for each in wanted if each is not None and each not in names}):
        raise ConfigError(f"label: {', '.join(unknown)} is not a class of this classifier; known: {', '.join(names)}.")
    if len(wanted) != len(pictures):
        raise ConfigError(f"label: expected one class, or one for each of {len(pictures)} images; got {len(wanted)}.")
    found = Explanations()
    for rows, pixels in read_parts(pictures, reading, AT_ONCE, is_settled=True):
        (probabilities,) = look_at_images(artifact.network, artifact.kept_features(), pixels)
        asked = [wanted[row] for row in rows]
        told = [artifact.description.describe(row).label for row in probabilities]
        classes = [names.index(each or label) for each, label in zip(asked, told, strict=True)]
        for i, heat in enumerate(grad_cam(artifact, pixels, classes, block)):
            c = classes[i]
            picture = shown(pictures[rows[i]], reading)
            whole = over_shown(heat, picture, reading)
            found.append(Explanation(picture, whole, names[c], float(probabilities[i, c]), block))
    return found


def last_seen(artifact: Artifact) -> str:
    """Return the last block that the head of a classifier sees."""
    return (artifact.description.head.blocks or BLOCKS)[-1]


def over_shown(heat: np.ndarray, picture: np.ndarray, reading: Reading) -> np.ndarray:
    """Return a map over the network's pixels as one over the whole picture."""
    if reading.resize == "squash":
        return heat
    return over_picture(heat, (picture.shape[1], picture.shape[0]), reading)


def shown(picture: Any, reading: Reading) -> np.ndarray:
    """Return an image for display: (H, W, 3) uint8, upright, with its aspect ratio, at most 1024 px per side."""
    reading = replace(reading, size=None)
    if isinstance(picture, np.ndarray):
        pixels = to_pixels(picture[None], reading)[0]
        image = Image.fromarray(np.rint(pixels).astype("uint8"))
    else:
        if hasattr(picture, "seek"):  # it was read before
            picture.seek(0)
        image = Image.fromarray(read_image(picture, reading).pixels)
    image.thumbnail((LARGEST, LARGEST))
    return np.array(image)


def _resized(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an (H, W) float32 map to (width, height)."""
    return np.asarray(Image.fromarray(heatmap).resize(size, Image.Resampling.BILINEAR))
