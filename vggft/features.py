"""Frozen features: what the frozen prefix gives, computed once for every image and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import PIL
import tensorflow as tf

from .augment import make_views
from .backbone import BLOCKS, block_digests, frozen_prefix
from .cache import Cache, Spec
from .config import Augment
from .images import RESIZE_RULE
from .progress import Narrator

# Every seed and every split builds models anew, which TensorFlow takes for a mistake.
logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())


def pooled_layer(model: keras.Model) -> str:
    """The first layer of the head, which makes a vector of block 5's map."""
    names = [layer.name for layer in model.layers]
    return str(names[names.index("block5_pool") + 1])


def cut_layer(model: keras.Model, frozen: Iterable[str]) -> str | None:
    """The layer that ends the frozen prefix: a block's pooling, the head's pooling if all is frozen, or None."""
    prefix = frozen_prefix(frozen)
    if prefix == BLOCKS:
        return pooled_layer(model)
    return f"{prefix[-1]}_pool" if prefix else None


def between(model: keras.Model, first: str | None, last: str | Sequence[str]) -> keras.Model:
    """The part of a flat model behind the layer `first` (None: from the input) up to and with the layer `last`.

    It shares its layers with the whole, so training the part trains the whole. With several `last` it has as many
    outputs.
    """
    start = model.input if first is None else model.get_layer(first).output
    if isinstance(last, str):
        return keras.Model(start, model.get_layer(last).output)
    return keras.Model(start, [model.get_layer(name).output for name in last])


def batch_size_for(model: keras.Model) -> int:
    """Images at once: 32 of 224 px through the full VGG16, more where the largest layer is smaller, at most 256."""
    largest = max(math.prod(tensor.shape[1:]) for layer in model.layers for tensor in [layer.output])
    return max(1, min(256, 32 * 224 * 224 * 64 // largest))


def forward(
    model: keras.Model,
    inputs: np.ndarray,
    *,
    rows: np.ndarray | None = None,
    batch_size: int | None = None,
    advance: Callable[[int], object] | None = None,
) -> np.ndarray:
    """The output of a model for every row of `inputs`, in order, with nothing random in it.

    Args:
        model: a prefix, a suffix or a whole classifier.
        inputs: (N, ...) array, which may be memory-mapped: one batch is read at a time.
        rows: (n,) which of the N; None for all.
        batch_size: rows at once; None suits the model.
        advance: told the number of rows after each batch.

    Returns:
        (n, ...) float32.
    """
    return forward_all(model, inputs, rows=rows, batch_size=batch_size, advance=advance)[0]


def forward_all(
    model: keras.Model,
    inputs: np.ndarray,
    *,
    rows: np.ndarray | None = None,
    batch_size: int | None = None,
    advance: Callable[[int], object] | None = None,
) -> list[np.ndarray]:
    """As `forward`, for a model of several outputs: one array each, from one pass.

    Where memory does not suffice for a batch it is halved.
    """
    total = len(inputs) if rows is None else len(rows)
    outputs = [np.empty((total, *output.shape[1:]), "float32") for output in model.outputs]
    size, start = batch_size or batch_size_for(model), 0

    def read(start: int, size: int) -> tuple[Any, int]:
        """A batch on the device, and how many of its rows count."""
        part = slice(start, start + size)
        batch = np.asarray(inputs[part if rows is None else rows[part]])
        count, missing = len(batch), size - len(batch)
        if missing and start and count:  # one shape, one trace: the last batch is filled up
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        return keras.ops.convert_to_tensor(batch), count

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, start, size)
        while start < total:
            try:
                batch, count = ahead.result()
                ahead = reader.submit(read, start + count, size)  # while the network computes
                found = model.predict_on_batch(batch)
            except tf.errors.ResourceExhaustedError:
                if size == 1:
                    raise
                size = (size + 1) // 2
                ahead = reader.submit(read, start, size)
                continue
            for output, values in zip(outputs, found if isinstance(found, list) else [found], strict=True):
                output[start : start + count] = values[:count]
            start += count
            if advance:
                advance(count)
    return outputs


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
