"""Frozen features: the outputs of the frozen prefix, computed once for every image and kept in the cache."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import PIL
import tensorflow as tf

from ..augment import Augment
from ..caching.cache import Cache
from ..caching.kinds import Kind
from ..caching.rows import Rows
from ..engine import own_settings
from ..network.blocks import BLOCKS, FILTERS, scaled
from ..network.forward import forward_all, rows_at_once
from ..network.head import pool
from ..network.precision import policy
from ..network.vgg import add_blocks, preprocess
from ..network.weights import Pretrained
from ..pictures.reading import RESIZE_RULE, ImageSize, check_size, plain_size
from ..telling.progress import Narrator
from .cuts import POOLED, SIDE_BY_SIDE, is_pooled, kept_as, last_block, shape_of
from .views import keys_of, make_views

UNREADABLE = "0" * 32  # in place of the digest of an image that cannot be read, whose pixels are zeros


@dataclass(frozen=True)
class Prefix:
    """What frozen features depend on besides the images and the cut.

    Args:
        pretrained: the weights of the blocks.
        image_size: height and width of the images in pixels.
        precision: of the arithmetic in the blocks.
        stored_as: dtype of the features on disk.
        augment: gives the further views of training images; None for no further views.
        seed: of those views.
    """

    pretrained: Pretrained
    image_size: ImageSize
    precision: str
    stored_as: str
    augment: Augment | None = None
    seed: int = 0

    @property
    def batch_size(self) -> int:
        """Number of images in a batch, and in what one process computes before another may take its share."""
        return rows_at_once(math.prod(check_size(self.image_size)) * scaled(FILTERS[0], self.pretrained.width))

    @own_settings()
    def network(self, cuts: Sequence[str]) -> keras.Model:
        """The blocks up to the last of the cuts, with pretrained weights and an output for each cut."""
        depth = max(BLOCKS.index(last_block(cut)) for cut in cuts) + 1
        inputs = keras.Input((*check_size(self.image_size), 3), name="image")
        column, width = self.pretrained.column, self.pretrained.width
        options = {"dtype": policy(self.precision), "initializer": "zeros"}
        maps = add_blocks(preprocess(inputs), column, width, blocks=depth, **options)
        self.pretrained.assign(keras.Model(inputs, maps[BLOCKS[depth - 1]]))
        return keras.Model(inputs, [_output(cut, maps) for cut in cuts])


def _output(cut: str, maps: Mapping[str, Any]) -> Any:
    """Return what the cache keeps for a cut, from the outputs of all blocks."""
    if cut == POOLED:
        return keras.layers.Concatenate(name=POOLED)([pool(maps, pooling) for pooling in SIDE_BY_SIDE])
    return pool({BLOCKS[-1]: maps[BLOCKS[-1]]}, cut) if is_pooled(cut) else maps[last_block(cut)]


@dataclass(frozen=True)
class Pass:
    """One pass of images through the frozen prefix, which gives their features at one or several cuts.

    Args:
        view: 0 for the images themselves; further views are augmented.
        rows: which images.
        digests: of the pixels of each of those images.
        kinds: for each cut that the cache keeps, what the values depend on.
    """

    view: int
    rows: np.ndarray
    digests: Sequence[str]
    kinds: Mapping[str, Kind]


def kind_of(
    cut: str,
    *,
    backbone: str,
    block_digests: Mapping[str, str],
    image_size: ImageSize,
    width: float,
    precision: str,
    stored_as: str,
    changed: Mapping[str, object] | None = None,
) -> Kind:
    """Return everything that frozen features depend on besides the image.

    Args:
        cut: the layer whose outputs they are, as the cache keeps it.
        block_digests: digest of the weights of each block.
        changed: how the image is changed first, for the further views.
    """
    used = [block_digests[block] for block in BLOCKS[: BLOCKS.index(last_block(cut)) + 1]]
    device = "gpu" if keras.distribution.list_devices("gpu") else "cpu"
    parts = {
        "preprocessing": "BGR minus the mean of ImageNet",
        "backbone": backbone,
        "image_size": plain_size(image_size),
        "blocks": hashlib.sha256(json.dumps(used).encode()).hexdigest(),
        "cut": cut,
        "precision": precision,
        "versions": [tf.__version__, keras.__version__, keras.backend.backend(), device],
        **(changed or {}),
    }
    return Kind("features", parts, shape_of(cut, image_size, width), stored_as)


def passes(prefix: Prefix, cuts: Sequence[str], digests: Sequence[str], viewed: np.ndarray) -> list[Pass]:
    """The passes that give the features of all images at some cuts, and those of the further views.

    Args:
        cuts: names of layers, as `cuts.cut_of` gives them; no cuts, no passes.
        digests: of the pixels of every image.
        viewed: rows of the images that have further views.
    """
    if not cuts:
        return []
    kept = list(dict.fromkeys(map(kept_as, cuts)))
    digests = [digest or UNREADABLE for digest in digests]

    def kinds(changed: Mapping[str, object]) -> dict[str, Kind]:
        return {
            cut: kind_of(
                cut,
                backbone=prefix.pretrained.name,
                block_digests=prefix.pretrained.block_digests,
                image_size=prefix.image_size,
                width=prefix.pretrained.width,
                precision=prefix.precision,
                stored_as=prefix.stored_as,
                changed=changed,
            )
            for cut in kept
        }

    planned = [Pass(0, np.arange(len(digests)), digests, kinds({}))]
    if prefix.augment is None:
        return planned
    for view in range(1, prefix.augment.views or 1):
        changed = {"augment": prefix.augment.changes(), "view": [view, prefix.seed, RESIZE_RULE, PIL.__version__]}
        planned.append(Pass(view, viewed, [digests[row] for row in viewed], kinds(changed)))
    return planned


def frozen_features(
    prefix: Prefix,
    planned: Sequence[Pass],
    pixels: np.ndarray | Rows,
    *,
    cache: Cache,
    narrator: Narrator,
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, list[np.ndarray | Rows]]:
    """The features of all passes, from the cache or else computed into it.

    Args:
        planned: what `passes` returned.
        pixels: (N, H, W, 3) RGB in 0..255, of all images.
        scope: in which the network is built, for several devices.

    Returns:
        For each cut that the cache keeps the rows of each pass: those of all images, then those of each further view.
    """
    if not planned:
        return {}
    cuts = list(planned[0].kinds)
    features: dict[str, list[np.ndarray | Rows]] = {cut: [] for cut in cuts}

    @functools.cache
    def network() -> keras.Model:  # built only where something has to be computed
        with scope():
            return prefix.network(cuts)

    with narrator.bar("frozen features", sum(len(each.rows) for each in planned)) as advance:
        for each in planned:

            def compute(positions: np.ndarray, each: Pass = each) -> list[np.ndarray]:
                images = np.asarray(pixels[each.rows[positions]])
                if each.view and prefix.augment:
                    keys = keys_of([each.digests[position] for position in positions])
                    images = make_views(images, keys, each.view, prefix.augment, prefix.seed)
                return forward_all(network(), images)

            def fill(kinds: list[Kind], each: Pass = each, compute: Any = compute) -> list[np.ndarray | Rows]:
                how: dict[str, Any] = {"at_once": prefix.batch_size, "on_rows": advance, "on_wait": narrator.waiting}
                return cache.fill(kinds, each.digests, compute, **how)

            kinds = [each.kinds[cut] for cut in cuts]
            try:
                arrays = fill(kinds)
            except OverflowError as error:
                narrator.say(f"Note: features are kept in float32: {error}.")
                arrays = fill([replace(kind, dtype="float32") for kind in kinds])
            for cut, array in zip(cuts, arrays, strict=True):
                features[cut].append(array)
    return features
