"""Predict images: from their frozen features where the cache has them, else from their pixels; also several views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..augment import Augment
from ..caching.cache import Cache
from ..caching.kinds import Kind, as_keys
from ..caching.rows import Rows
from ..caching.store import SHARD_ROWS, Store
from ..data.scan import digest_of
from ..errors import ConfigError
from ..features.cuts import columns_of, kept_as
from ..features.extract import UNREADABLE, kind_of
from ..features.views import keys_of, make_views
from ..fields import is_integer, shown
from ..network.assembly import Network
from ..network.description import Description
from ..network.forward import forward

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
        keys = as_keys([digest or UNREADABLE for digest in digests])
        place = self.store.locate(keys)
        known = place[:, 0] >= 0
        if known.any() and self.network.has_changed():
            known[:] = False
        self.store.touch(place[known])
        values, good = self.store.read(keys[known], place[known])
        known[known] = good
        return known, values[good][..., self.columns]


def predict_images(
    network: Network,
    kept: KeptFeatures | None,
    pixels: np.ndarray | Rows,
    digests: Sequence[str] | None = None,
    batch_size: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
    views: Sequence[MakeView] = (),
) -> np.ndarray:
    """Predict the class probabilities of images, (N, num_classes) float32.

    Args:
        kept: features that spare passes; None for none.
        pixels: (N, S, S, 3) in 0..255.
        digests: of these pixels, if they are known.
        advance: called with the number of images after each batch, and for each view of it.
        views: what `views_of` returned. The result is the mean over the images themselves and these views, whose
            features are always computed.
    """
    if views:
        digests = digests_of(pixels) if digests is None else digests
        how: dict[str, Any] = {"batch_size": batch_size, "advance": advance}
        total, keys = predict_images(network, kept, pixels, digests, **how), keys_of(digests)
        for start in range(0, len(digests), SHARD_ROWS):
            part = slice(start, start + SHARD_ROWS)
            images = np.asarray(pixels[part])
            for make in views:
                total[part] += forward(network.model, make(images, keys[part]), **how)
        return total / np.float32(1 + len(views))
    if kept is None:
        return forward(network.model, pixels, batch_size=batch_size, advance=advance)
    digests = digests_of(pixels) if digests is None else digests
    found, left = np.empty((len(digests), len(network.description.class_names)), "float32"), list[np.ndarray]()
    for start in range(0, len(digests), SHARD_ROWS):
        known, features = kept.read(digests[start : start + SHARD_ROWS])
        if len(features):
            found[start + np.flatnonzero(known)] = forward(network.rest(kept.cut), features)
            advance(len(features))
        left.append(start + np.flatnonzero(~known))
    if len(rows := np.concatenate(left)):
        found[rows] = forward(network.model, pixels, rows=rows, batch_size=batch_size, advance=advance)
    return found
