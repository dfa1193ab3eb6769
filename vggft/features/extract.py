"""Frozen features: the outputs of the frozen prefix, computed once for every image and kept in the cache."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
import PIL
import tensorflow as tf

from ..cache import Cache, Spec
from ..config import Augment
from ..data.reading import RESIZE_RULE
from ..data.views import make_views
from ..network.blocks import BLOCKS, POOLING_LAYERS
from ..network.forward import forward_all
from ..network.head import pool
from ..network.precision import policy
from ..network.vgg import add_blocks, preprocess
from ..network.weights import Pretrained
from ..progress import Narrator
from .cuts import is_pooled, last_block, shape_of


@dataclass(frozen=True)
class Prefix:
    """What frozen features depend on besides the images and the cut.

    Args:
        pretrained: the weights of the blocks.
        image_size: height and width of the images in pixels.
        precision: precision of the arithmetic in the blocks.
        stored_as: dtype of the features on disk.
        augment: makes further views of training images; None for no further views.
        seed: seed of those views.
    """

    pretrained: Pretrained
    image_size: int
    precision: str
    stored_as: str
    augment: Augment | None = None
    seed: int = 0

    def network(self, cuts: Sequence[str]) -> keras.Model:
        """Build the blocks up to the last of the cuts, with pretrained weights and an output for each cut."""
        depth = max(BLOCKS.index(last_block(cut)) for cut in cuts) + 1
        inputs = keras.Input((self.image_size, self.image_size, 3), name="image")
        column, width = self.pretrained.column, self.pretrained.width
        maps = add_blocks(preprocess(inputs), column, width, blocks=depth, dtype=policy(self.precision))
        blocks = keras.Model(inputs, maps)
        self.pretrained.assign(blocks)
        poolings = {layer: pooling for pooling, layer in POOLING_LAYERS.items()}
        outputs = [pool(maps, poolings[cut]) if is_pooled(cut) else blocks.get_layer(cut).output for cut in cuts]
        return keras.Model(inputs, outputs)


@dataclass(frozen=True)
class Pass:
    """One pass of images through the frozen prefix, which gives their features at one or several cuts.

    Args:
        view: 0 for the images themselves; further views are augmented.
        rows: rows of the images.
        specs: the cache entry of each cut.
    """

    view: int
    rows: np.ndarray
    specs: Mapping[str, Spec]


def passes(prefix: Prefix, cuts: Sequence[str], digests: Sequence[str], viewed: np.ndarray) -> list[Pass]:
    """Plan the passes that give the features of all images at some cuts, and those of the further views.

    Args:
        cuts: names of layers, from `cuts.cut_of`; without cuts there are no passes.
        digests: digests of the pixels of every image.
        viewed: rows of the images that have further views.
    """
    if not cuts:
        return []
    device = "gpu" if keras.distribution.list_devices("gpu") else "cpu"
    blocks = prefix.pretrained.block_digests

    def spec(cut: str, rows: np.ndarray, changed: dict[str, object]) -> Spec:
        parts = {
            "pixels": _sha256([digests[row] for row in rows]),
            "preprocessing": "BGR minus the mean of ImageNet",
            "blocks": _sha256([blocks[block] for block in BLOCKS[: BLOCKS.index(last_block(cut)) + 1]]),
            "cut": cut,
            "precision": prefix.precision,
            "versions": [tf.__version__, keras.__version__, keras.backend.backend(), device],
            **changed,
        }
        shape = (len(rows), *shape_of(cut, prefix.image_size, prefix.pretrained.width))
        return Spec("features", parts, shape, prefix.stored_as)

    everything = np.arange(len(digests))
    found = [Pass(0, everything, {cut: spec(cut, everything, {}) for cut in cuts})]
    augment = prefix.augment
    if augment is None:
        return found
    for view in range(1, augment.views or 1):
        changed: dict[str, object] = {
            "augment": {key: value for key, value in augment.to_dict().items() if key != "views"},
            "view": [view, prefix.seed, _sha256(viewed.tolist()), RESIZE_RULE, PIL.__version__],
        }
        found.append(Pass(view, viewed, {cut: spec(cut, viewed, changed) for cut in cuts}))
    return found


def frozen_features(
    prefix: Prefix, planned: Sequence[Pass], pixels: np.ndarray, *, cache: Cache, narrator: Narrator
) -> dict[str, list[np.ndarray]]:
    """Return the features of all passes; compute what is not in the cache.

    Args:
        planned: the result of `passes`.
        pixels: (N, S, S, 3) RGB in 0..255, of all images.

    Returns:
        For each cut, a memory-mapped array for each pass: all images first, then one for each further view.
    """
    if not planned:
        return {}
    cuts = list(planned[0].specs)
    features: dict[str, list[np.ndarray]] = {cut: [] for cut in cuts}
    network = functools.cache(lambda: prefix.network(cuts))  # built only if something has to be computed
    with narrator.bar("frozen features", sum(len(each.rows) for each in planned)) as advance:
        for each in planned:

            def compute(start: int, stop: int, each: Pass = each) -> list[np.ndarray]:
                rows = each.rows[start:stop]
                images = pixels[rows]
                if each.view and prefix.augment:
                    images = make_views(images, rows, each.view, prefix.augment, prefix.seed)
                return forward_all(network(), images)

            def fill(specs: list[Spec]) -> list[np.ndarray]:
                return cache.fill(specs, compute, on_rows=advance, on_wait=narrator.waiting)

            specs = [each.specs[cut] for cut in cuts]
            try:
                arrays = fill(specs)
            except OverflowError as error:
                narrator.say(f"Note: features are kept in float32: {error}.")
                arrays = fill([replace(spec, dtype="float32") for spec in specs])
            for cut, array in zip(cuts, arrays, strict=True):
                features[cut].append(array)
    return features


def _sha256(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
