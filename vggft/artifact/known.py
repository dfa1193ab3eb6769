"""Predict images: from their frozen features where the cache has them, else from their pixels; also several views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..augment import Augment
from ..caching.cache import Cache
from ..caching.kinds import Kind, as_keys
from ..caching.rows import Rows, selected
from ..caching.store import SHARD_ROWS, Store
from ..data.scan import digest_of
from ..errors import ConfigError
from ..features.cuts import POOLED, columns_of, is_pooled, kept_as, last_block
from ..features.extract import UNREADABLE, kind_of
from ..features.vectors import embeddings
from ..features.views import keys_of, make_views
from ..fields import is_integer, shown
from ..heads.batches import FeatureBank
from ..network.assembly import Network
from ..network.blocks import BLOCKS, pooling_layer, sizes_of
from ..network.description import Description
from ..network.forward import forward, forward_all
from ..pictures.arrays import as_sequence
from ..telling.progress import Narrator
from ..trust.strangers import MOST, Strangers, fit_strangers
from .inputs import read_parts

MakeView = Callable[[np.ndarray, np.ndarray], np.ndarray]  # pixels and keys of images -> pixels of a view


def kind_for(network: Network, description: Description) -> Kind | None:
    """Return what the frozen features are that a classifier learned from; None if it learned from pixels."""
    if len(description.features) != 3:
        return None
    cut, precision, stored_as = description.features
    return kind_of(
        kept_as(cut),
        backbone=description.backbone,
        block_digests=network.block_digests(),
        image_size=description.image_size,
        width=description.width,
        precision=precision,
        stored_as=stored_as,
    )


def digests_of(pixels: np.ndarray | Rows) -> list[str]:
    """Return the digest of each of (N, S, S, 3) pixels, by which the cache finds their features."""
    return [digest_of(np.asarray(pixels[row])) for row in range(len(pixels))]


def views_of(views: int | Augment) -> list[MakeView]:
    """Return the functions that make the further views of images to predict, from (B, S, S, 3) pixels and their keys.

    Args:
        views: 1 for none; 2 for the mirrored image; more for also some that are cropped a little. Or an `Augment` with
            a number of views, the first of which is the image itself.

    Raises:
        ConfigError: `views` is something else.
    """
    if isinstance(views, Augment):
        augment, count, mirrored = views, views.views, False
        if count is None or augment.mixes:
            raise ConfigError("views: an Augment for predictions has a number of views and no mixup or cutmix.")
    elif is_integer(views) and views >= 1:
        augment, count, mirrored = Augment(brightness=0.0), int(views), True
    else:
        raise ConfigError(f"views must be an integer >= 1 or a vggft.Augment; got {shown(views)}.")

    def make(view: int) -> MakeView:
        if mirrored and view == 1:
            return lambda pixels, keys: pixels[:, :, ::-1]
        return lambda pixels, keys: make_views(pixels, keys, view, augment, seed=0)

    return [make(view) for view in range(1, count)]


class KeptFeatures:
    """The frozen features that the cache has of images that a classifier may see; its keys are read once.

    Args:
        network: the network that `kind` belongs to, unless it has been changed.
        kind: what `kind_for` returned.
    """

    def __init__(self, network: Network, kind: Kind, cache: Cache):
        about = network.description
        self.network, self.cut, self.store = network, about.features[0], Store(cache.root, kind)
        self.columns = columns_of(self.cut, about.width) if kept_as(self.cut) != self.cut else slice(None)
        self.store.refresh()

    def read(self, digests: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return (N,) bool, which of N images have features, and the features of those, (n, ...)."""
        known, values = self.read_all(digests)
        return known, values[..., self.columns]

    def read_all(self, digests: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the same, but all that the cache keeps with these features."""
        keys = as_keys([digest or UNREADABLE for digest in digests])
        place = self.store.locate(keys)
        known = place[:, 0] >= 0
        if known.any() and self.network.has_changed():
            known[:] = False
        self.store.touch(place[known])
        values, good = self.store.read(keys[known], place[known])
        known[known] = good
        return known, values[good]

    def outputs(self, values: np.ndarray, blocks: Sequence[str]) -> list[np.ndarray]:
        """Return the probabilities of n images, and the averages of some blocks if there are any, from `read_all`."""
        if kept_as(self.cut) != POOLED or not blocks:
            return outputs_from(self.network, self.cut, values[..., self.columns], blocks)
        width = self.network.description.width
        averages = values[..., columns_of(pooling_layer("avg", blocks), width)].astype("float32")
        return [forward(self.network.rest(self.cut), values[..., self.columns]), averages]

    def reaches(self, blocks: Sequence[str]) -> bool:
        """Whether the outputs of some blocks can be had from these features."""
        pooled = kept_as(self.cut) == POOLED
        return not blocks or pooled or (not is_pooled(self.cut) and last_block(self.cut) <= min(blocks))


def outputs_from(
    network: Network, cut: str | None, inputs: np.ndarray | Rows, blocks: Sequence[str], **how: Any
) -> list[np.ndarray]:
    """Return what a network says from after `cut`: probabilities, and the averages of some blocks if there are any.

    Args:
        cut: such as `block4_pool`; None for pixels.
        inputs: (N, ...) features there, or pixels.
        blocks: at or after the cut.
        how: as for `forward_all`.
    """
    if not blocks:
        return [forward(network.model if cut is None else network.rest(cut), inputs, **how)]
    return forward_all(network.seeing(cut, tuple(blocks)), inputs, **how)


def look_at_images(
    network: Network,
    kept: KeptFeatures | None,
    pixels: np.ndarray | Rows,
    digests: Sequence[str] | None = None,
    batch_size: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
    views: Sequence[MakeView] = (),
    blocks: Sequence[str] = (),
) -> list[np.ndarray]:
    """Return the probabilities of images, (N, num_classes) float32, and maybe averages of some blocks, (N, C) float32.

    Args:
        kept: features that spare passes; None for none.
        pixels: (N, S, S, 3) in 0..255.
        digests: of these pixels, if they are known.
        advance: called with the number of images after each batch, and for each view of it.
        views: what `views_of` returned. Probabilities are the mean over the images themselves and these views, whose
            features are always computed; averages are those of the images themselves.
        blocks: whose average-pooled outputs are returned as well; none for none.
    """
    how: dict[str, Any] = {"batch_size": batch_size, "advance": advance}
    if views:
        digests = digests_of(pixels) if digests is None else digests
        (total, *rest), keys = look_at_images(network, kept, pixels, digests, blocks=blocks, **how), keys_of(digests)
        for start in range(0, len(digests), SHARD_ROWS):
            part = slice(start, start + SHARD_ROWS)
            images = np.asarray(pixels[part])
            for make in views:
                total[part] += forward(network.model, make(images, keys[part]), **how)
        return [total / np.float32(1 + len(views)), *rest]
    if kept is None or not kept.reaches(blocks):
        return outputs_from(network, None, pixels, blocks, **how)
    digests = digests_of(pixels) if digests is None else digests
    about = network.description
    shapes = [len(about.class_names), *([sum(sizes_of(blocks, about.width))] if blocks else [])]
    found, left = [np.empty((len(digests), size), "float32") for size in shapes], list[np.ndarray]()
    for start in range(0, len(digests), SHARD_ROWS):
        known, features = kept.read_all(digests[start : start + SHARD_ROWS])
        if len(features):
            for whole, some in zip(found, kept.outputs(features, blocks), strict=True):
                whole[start + np.flatnonzero(known)] = some
            advance(len(features))
        left.append(start + np.flatnonzero(~known))
    if len(rows := np.concatenate(left)):
        for whole, some in zip(found, outputs_from(network, None, pixels, blocks, rows=rows, **how), strict=True):
            whole[rows] = some
    return found


def strangers_of(bank: FeatureBank, network: Network, cut: str | None, rows: Sequence[np.ndarray]) -> Strangers | None:
    """Fit what tells strangers, from features where the bank has them, else by a pass over up to `MOST` images each.

    Args:
        network: the classifier's.
        cut: the layer that its learned part starts from; None for pixels.
        rows: of the images that it was trained on, and of held-out ones.
    """
    about = network.description
    last = BLOCKS.index(max(about.head.blocks or BLOCKS[-1:]))
    reached = 0 if cut is None or is_pooled(cut) else BLOCKS.index(last_block(cut))
    blocks = BLOCKS[reached : last + 1]
    each = [of[np.linspace(0, len(of) - 1, min(len(of), MOST)).astype(int)] for of in rows]
    if cut is not None and kept_as(cut) == POOLED:
        vectors = selected(bank.features[POOLED][0], columns_of(pooling_layer("avg", blocks), about.width))
        averages = [np.asarray(vectors[of]).astype("float32") for of in each]
    else:
        at = None if cut is not None and is_pooled(cut) else cut  # flattened maps cannot be averaged by block
        averages = [outputs_from(network, at, bank.inputs(at), blocks, rows=of)[1] for of in each]
    targets, sizes = (bank.targets[of] for of in each), sizes_of(blocks, about.width)
    known, held = zip(averages, targets, strict=True)
    with threadpool_limits(limits=1):  # a third of a second; several threads take many times that beside other programs
        return fit_strangers(*known, *held, blocks, sizes)


def embed_images(
    network: Network, kept: KeptFeatures | None, pictures: Any, batch_size: int | None, verbose: int
) -> np.ndarray:
    """Return the (N, C) embeddings of images of any kind; see `Classifier.embed`."""
    about = network.description
    blocks, found = about.head.blocks or BLOCKS[-1:], list[np.ndarray]()
    pictures = as_sequence(pictures)
    with Narrator(verbose).bar("embed", len(pictures)) as advance:
        for _, pixels in read_parts(pictures, about.reading):
            how: dict[str, Any] = {"batch_size": batch_size, "advance": advance, "blocks": blocks}
            averages = look_at_images(network, kept, pixels, **how)[1]
            found.append(embeddings(averages, pooling_layer("avg", blocks), about.width))
    return np.concatenate(found)
