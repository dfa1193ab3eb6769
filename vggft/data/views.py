"""Views of images: flipped, cropped, brighter or darker, each following from (seed, view, image) alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import Augment
from ..errors import ConfigError
from .arrays import resize_pixels
from .reading import Array


def make_views(pixels: Array, rows: Array, view: int, augment: Augment, seed: int) -> Array:
    """One view of each image.

    Args:
        pixels: (B, S, S, 3) uint8 or float32 in 0..255.
        rows: (B,) the number of each image, which with `view` and `seed` decides what happens to it.
        view: its number.

    Returns:
        The same shape and dtype.
    """
    views = np.empty_like(pixels)
    size = pixels.shape[1]
    for i, row in enumerate(rows):
        rng = np.random.default_rng((seed, view, int(row)))
        mirrored, share, top, left, light = rng.random(5)
        side = max(1, round(size * (1 - augment.crop * share)))
        y, x = round(top * (size - side)), round(left * (size - side))
        part = pixels[i, y : y + side, x : x + side]
        whole = resize_pixels(part, size) if side < size else part
        turned = whole[:, ::-1] if augment.flip and mirrored < 0.5 else whole
        brighter = np.clip(turned * (1 + augment.brightness * (2 * light - 1)), 0, 255)
        views[i] = np.rint(brighter) if views.dtype == np.uint8 else brighter
    return views


def changer(augment: Any, seed: int, probe: Array) -> Callable[[Array, Array, int], Array]:
    """What makes training pixels new in every epoch: given a batch, its rows and the epoch, changed pixels.

    Args:
        augment: an `Augment`, or a function of (B, S, S, 3) float32 pixels, whose randomness is its own affair.
        probe: a few images to try a function on.

    Raises:
        ConfigError: a function that gives something else than pixels of the same shape.
    """
    if isinstance(augment, Augment):
        return lambda pixels, rows, epoch: make_views(pixels, rows, epoch + 1, augment, seed)
    tried = np.asarray(augment(probe.astype("float32")))
    if tried.shape != probe.shape or not np.isfinite(tried.astype(float)).all():
        raise ConfigError(
            f"augment must give finite pixels of the shape it is given; given {probe.shape}, it gave {tried.shape}."
        )
    return lambda pixels, rows, epoch: np.asarray(augment(pixels.astype("float32")), dtype="float32")
