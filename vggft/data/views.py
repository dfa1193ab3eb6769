"""Augmented views of images: flipped, cropped, brighter or darker, determined only by (seed, view, row)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import Augment
from ..errors import ConfigError
from .arrays import resize_pixels


def make_views(pixels: np.ndarray, rows: np.ndarray, view: int, augment: Augment, seed: int) -> np.ndarray:
    """Make one augmented view of each image.

    Args:
        pixels: (B, S, S, 3) uint8 or float32 in 0..255.
        rows: (B,) number of each image; with `view` and `seed` it seeds the random changes.
        view: number of the view.

    Returns:
        The same shape and dtype.
    """
    views = np.empty_like(pixels)
    size = pixels.shape[1]
    for i, row in enumerate(rows):
        flip, crop, top, left, light = np.random.default_rng((seed, view, int(row))).random(5)
        side = max(1, round(size * (1 - augment.crop * crop)))
        y, x = round(top * (size - side)), round(left * (size - side))
        changed = resize_pixels(pixels[i, y : y + side, x : x + side], size)
        if augment.flip and flip < 0.5:
            changed = changed[:, ::-1]
        changed = np.clip(changed * (1 + augment.brightness * (2 * light - 1)), 0, 255)
        views[i] = np.rint(changed) if views.dtype == np.uint8 else changed
    return views


def changer(augment: Any, seed: int, probe: np.ndarray) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Return the function that changes training images in every epoch: (pixels, rows, epoch) -> pixels.

    Args:
        augment: an `Augment`, or a function of (B, S, S, 3) float32 pixels, which draws its own random numbers.
        probe: a few images to try a function on.

    Raises:
        ConfigError: the function does not return finite pixels of the same shape.
    """
    if isinstance(augment, Augment):
        return lambda pixels, rows, epoch: make_views(pixels, rows, epoch + 1, augment, seed)
    tried = np.asarray(augment(probe.astype("float32")))
    if tried.shape != probe.shape or not np.isfinite(tried.astype(float)).all():
        raise ConfigError(
            f"augment must return finite pixels of the same shape; given {probe.shape}, it returned {tried.shape}."
        )
    return lambda pixels, rows, epoch: np.asarray(augment(pixels.astype("float32")), dtype="float32")
