"""Frozen features: what the frozen prefix gives, computed once for every image and kept."""

from __future__ import annotations

import hashlib
import json
import logging
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
from ..network.blocks import BLOCKS
from ..network.forward import between, forward_all
from ..network.freezing import block_digests
from ..progress import Narrator

# Every seed and every split builds models anew, which TensorFlow takes for a mistake.
logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())


@dataclass(frozen=True)
class Pass:
    """One way of images through the frozen prefix, which gives the features of one or several cuts.

    Args:
        view: 0 are the images as they are; further views are augmented.
        rows: which images.
        specs: what is kept, for each cut.
    """

    view: int
    rows: np.ndarray
    specs: Mapping[str, Spec]


def passes(
    model: keras.Model,
    cuts: Sequence[str],
    digests: Sequence[str],
    train: np.ndarray,
    *,
    precision: str,
    stored_as: str,
    augment: Augment | None = None,
    seed: int = 0,
) -> list[Pass]:
    """The passes that give features of all images at some cuts, and of further views of those in train.

    Args:
        model: with pretrained weights; computes in `precision`.
        cuts: names of layers.
        digests: of the pixels of every image.
        train: rows of the training images.
        stored_as: dtype of the features on the disk.
    """
    blocks, device = block_digests(model), "gpu" if keras.distribution.list_devices("gpu") else "cpu"

    def spec(cut: str, rows: np.ndarray, changed: dict[str, object]) -> Spec:
        last = BLOCKS.index(cut.split("_")[0]) if cut.startswith("block") else len(BLOCKS) - 1
        parts = {
            "pixels": _sha256([digests[row] for row in rows]),
            "preprocessing": "BGR minus the mean of ImageNet",
            "blocks": _sha256([blocks[block] for block in BLOCKS[: last + 1]]),
            "cut": cut,
            "precision": precision,
            "versions": [tf.__version__, keras.__version__, keras.backend.backend(), device],
            **changed,
        }
        return Spec("features", parts, (len(rows), *model.get_layer(cut).output.shape[1:]), stored_as)

    everything = np.arange(len(digests))
    found = [Pass(0, everything, {cut: spec(cut, everything, {}) for cut in cuts})]
    for view in range(1, (augment.views or 1) if augment else 1):
        assert augment is not None
        changed: dict[str, object] = {
            "augment": {key: value for key, value in augment.to_dict().items() if key != "views"},
            "view": [view, seed, _sha256(train.tolist()), RESIZE_RULE, PIL.__version__],
        }
        found.append(Pass(view, train, {cut: spec(cut, train, changed) for cut in cuts}))
    return found


def frozen_features(
    model: keras.Model,
    planned: Sequence[Pass],
    pixels: np.ndarray,
    *,
    augment: Augment | None = None,
    seed: int = 0,
    cache: Cache,
    narrator: Narrator,
) -> dict[str, list[np.ndarray]]:
    """The features of all passes, from the cache or else computed into it.

    Returns:
        For each cut a memory-mapped array for each pass: that of all images, then of each further view.
    """
    cuts = list(planned[0].specs)
    prefix = between(model, None, cuts)
    features: dict[str, list[np.ndarray]] = {cut: [] for cut in cuts}
    with narrator.bar("frozen features", sum(len(each.rows) for each in planned)) as advance:
        for each in planned:

            def compute(start: int, stop: int, each: Pass = each) -> list[np.ndarray]:
                rows = each.rows[start:stop]
                seen = (
                    make_views(pixels[rows], rows, each.view, augment, seed) if augment and each.view else pixels[rows]
                )
                return forward_all(prefix, seen)

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
