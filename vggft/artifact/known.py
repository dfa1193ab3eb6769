"""Predict images: from their frozen features where the cache has them, else from their pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..cache import Cache
from ..data.scan import digest_of
from ..features.extract import UNREADABLE, kind_of
from ..network.assembly import Network
from ..network.description import Description
from ..network.forward import forward
from ..rows import Rows
from ..store import Kind, Store, as_keys


def kind_for(network: Network, description: Description) -> Kind | None:
    """Return what the frozen features are that a classifier learned from; None if it learned from pixels."""
    if len(description.features) != 3:
        return None
    cut, precision, stored_as = description.features
    return kind_of(
        cut,
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


def stored_features(
    network: Network, kind: Kind, digests: Sequence[str], cache: Cache
) -> tuple[np.ndarray, np.ndarray]:
    """Read the features of images from the cache.

    Args:
        network: the network that `kind` belongs to, unless it has been changed.
        digests: of the pixels of N images.

    Returns:
        (N,) bool, which images have features, and the features of those, (n, ...).
    """
    store, keys = Store(cache.root, kind), as_keys([digest or UNREADABLE for digest in digests])
    store.refresh()
    place = store.locate(keys)
    known = place[:, 0] >= 0
    if known.any() and network.has_changed():
        known[:] = False
    store.touch(place[known])
    values, good = store.read(keys[known], place[known])
    known[known] = good
    return known, values[good]


def predict_images(
    network: Network,
    kind: Kind | None,
    pixels: np.ndarray | Rows,
    digests: Sequence[str],
    *,
    cache: Cache,
    batch_size: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """Predict the class probabilities of images, (N, num_classes) float32.

    Args:
        kind: what `kind_for` returned.
        pixels: (N, S, S, 3) in 0..255.
        digests: of these pixels.
        advance: called with the number of images after each batch.
    """
    if kind is None:
        return forward(network.model, pixels, batch_size=batch_size, advance=advance)
    known, features = stored_features(network, kind, digests, cache)
    found = np.empty((len(digests), len(network.description.class_names)), "float32")
    if known.any():
        found[known] = forward(network.rest(kind.parts["cut"]), features)
        advance(len(features))
    if not known.all():
        rows = np.flatnonzero(~known)
        found[rows] = forward(network.model, pixels, rows=rows, batch_size=batch_size, advance=advance)
    return found
