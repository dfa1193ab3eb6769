"""Augmented views of images: cropped, turned, recoloured, erased, each determined by (seed, view, image) alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from scipy import ndimage

from ..augment import Augment
from ..pictures.reading import Reading, resize_pixels

GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue, as in ITU-R BT.601 and in Pillow
LEAST, MOST = 0.02, 0.4  # share of the area that random erasing takes, as in arXiv:1708.04896
LONGEST = 1 / 0.3  # ratio of its sides


def keys_of(digests: Iterable[str]) -> np.ndarray:
    """(N,) uint64: a number for each image by its digest, so that its views do not depend on where it stands."""
    return np.array([int(digest[:16] or "0", 16) for digest in digests], np.uint64)


def make_views(pixels: np.ndarray, keys: np.ndarray, view: int, augment: Augment, seed: int) -> np.ndarray:
    """Make one augmented view of each image.

    Args:
        pixels: (B, H, W, 3) uint8 or float32 in 0..255.
        keys: (B,) of `keys_of`; with `view` and `seed` they seed the random changes.
        view: the number of the view.

    Returns:
        The same shape and dtype.
    """
    views = np.empty_like(pixels)
    for i, key in enumerate(keys):
        changed = _view(pixels[i], augment, np.random.default_rng((seed, view, int(key))))
        views[i] = np.rint(changed) if views.dtype == np.uint8 else changed
    return views


def _view(pixels: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Change one image, (H, W, 3). Every view takes the same draws, so no field changes what the others do."""
    size = np.array(pixels.shape[:2])
    flip, crop, top, left, light, upside, turn, *colours, erase, area, aspect, y, x = rng.random(15)
    high, wide = (max(1, round(side * (1 - augment.crop * crop))) for side in size.tolist())
    y0, x0 = round(top * (int(size[0]) - high)), round(left * (int(size[1]) - wide))
    changed = resize_pixels(pixels[y0 : y0 + high, x0 : x0 + wide], Reading((int(size[0]), int(size[1]))))
    if augment.flip and flip < 0.5:
        changed = changed[:, ::-1]
    changed = np.clip(changed * (1 + augment.brightness * (2 * light - 1)), 0, 255)
    if augment.vertical_flip and upside < 0.5:
        changed = changed[::-1]
    if augment.rotate:
        angle = augment.rotate * (2 * turn - 1)
        changed = ndimage.rotate(changed, angle, reshape=False, order=1, mode="mirror")
    contrast, saturation, hue = 2 * np.array(colours) - 1
    changed = _recolour(
        changed, 1 + augment.contrast * contrast, 1 + augment.saturation * saturation, augment.hue * hue
    )
    if erase < augment.erase:
        ratio = LONGEST ** (2 * aspect - 1)  # of height to width, and as often of width to height
        sides = np.sqrt((LEAST + (MOST - LEAST) * area) * np.array([ratio, 1 / ratio]))
        height, width = np.minimum(np.rint(size * sides), size).astype(int)
        y0, x0 = round(y * (size[0] - height)), round(x * (size[1] - width))
        changed = changed.copy()
        changed[y0 : y0 + height, x0 : x0 + width] = rng.integers(0, 256, (height, width, 3))
    return changed


def _recolour(pixels: np.ndarray, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Multiply the distances from the mean grey and from the grey of each pixel, and shift hues by a share of 1."""
    if contrast != 1:
        mean = (pixels @ GREY).mean()
        pixels = np.clip(mean + contrast * (pixels - mean), 0, 255)
    if saturation != 1:
        grey = (pixels @ GREY)[..., None]
        pixels = np.clip(grey + saturation * (pixels - grey), 0, 255)
    if hue:
        hsv = rgb_to_hsv(pixels / 255)
        hsv[..., 0] = (hsv[..., 0] + hue) % 1
        pixels = 255 * hsv_to_rgb(hsv)
    return pixels
