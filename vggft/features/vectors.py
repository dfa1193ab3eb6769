"""One vector for each image, out of the cache: pooled outputs of frozen blocks, for estimators and insights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..caching.cache import Cache
from ..caching.rows import Rows, selected
from ..network.blocks import pooled_blocks, sizes_of
from ..network.head import normalize_images
from ..telling.progress import Narrator
from .cuts import columns_of, kept_as
from .extract import Prefix, frozen_features, passes


def pooled_vectors(
    prefix: Prefix,
    cut: str,
    pixels: np.ndarray | Rows,
    digests: Sequence[str],
    *,
    cache: Cache,
    narrator: Narrator,
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> np.ndarray | Rows:
    """Return the (N, C) features of images at a pooled cut; what the cache does not have is computed into it.

    Args:
        cut: such as `block4_block5_avg_pool`.
        pixels: (N, H, W, 3) RGB in 0..255.
        digests: of these pixels.
        scope: in which the network is built, for several devices.
    """
    planned = passes(prefix, [cut], digests, np.arange(0))
    (found,) = frozen_features(prefix, planned, pixels, cache=cache, narrator=narrator, scope=scope)[kept_as(cut)]
    return found if kept_as(cut) == cut else selected(found, columns_of(cut, prefix.pretrained.width))


def embeddings(vectors: np.ndarray | Rows, cut: str, width: float) -> np.ndarray:
    """Return (N, C) float32 embeddings: square roots of pooled features, those of each block at length 1.

    Their scalar products, and so their distances, tell how alike two images are.

    Args:
        vectors: (N, C) features at a pooled cut.
        cut: this cut.
        width: of the backbone.
    """
    sizes = sizes_of(pooled_blocks(cut), width)
    return np.asarray(normalize_images(np.asarray(vectors[:]).astype("float32"), "sqrt_l2", sizes))
