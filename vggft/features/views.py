"""Augmented views of images: flipped, cropped, brighter or darker, each determined by (seed, view, image) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..config import Augment
from ..data.arrays import resize_pixels
from ..errors import ConfigError


def keys_of(digests: Iterable[str]) -> np.ndarray:
    """(N,) uint64: a number for each image by its digest, so that its views do not depend on where it stands."""
    return np.array([int(digest[:16] or "0", 16) for digest in digests], np.uint64)


def make_views(pixels: np.ndarray, keys: np.ndarray, view: int, augment: Augment, seed: int) -> np.ndarray:
    """Make one augmented view of each image.

    Args:
        pixels: (B, S, S, 3) uint8 or float32 in 0..255.
        keys: (B,) of `keys_of`; with `view` and `seed` they seed the random changes.
        view: the number of the view.

    Returns:
        The same shape and dtype.
    """
    views = np.empty_like(pixels)
    size = pixels.shape[1]
    for i, key in enumerate(keys):
        flip, crop, top, left, light = np.random.default_rng((seed, view, int(key))).random(5)
        side = max(1, round(size * (1 - augment.crop * crop)))
        y, x = round(top * (size - side)), round(left * (size - side))
        changed = resize_pixels(pixels[i, y : y + side, x : x + side], size)
        if augment.flip and flip < 0.5:
            changed = changed[:, ::-1]
        changed = np.clip(changed * (1 + augment.brightness * (2 * light - 1)), 0, 255)
        views[i] = np.rint(changed) if views.dtype == np.uint8 else changed
    return views


def changer(augment: Any, seed: int, probe: np.ndarray) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Return the function that changes training images anew in every epoch: (pixels, keys, epoch) -> pixels.

    Args:
        augment: an `Augment`, or a function of (B, S, S, 3) float32 pixels, which does its own randomness.
        probe: a few images to try a function on.

    Raises:
        ConfigError: the function does not return finite pixels of the same shape.
    """
    if isinstance(augment, Augment):
        return lambda pixels, keys, epoch: make_views(pixels, keys, epoch + 1, augment, seed)
    tried = np.asarray(augment(probe.astype("float32")))
    if tried.shape != probe.shape or not np.isfinite(tried.astype(float)).all():
        raise ConfigError(
            f"augment must return finite pixels of the same shape; given {probe.shape}, it returned {tried.shape}."
        )
    return lambda pixels, keys, epoch: np.asarray(augment(pixels.astype("float32")), dtype="float32")
