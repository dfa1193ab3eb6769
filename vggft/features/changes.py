"""New views in every epoch: the training images of a batch changed by an `Augment`, a Keras layer or a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from ..augment import Augment
from ..caching.rows import Rows
from ..errors import ConfigError
from .views import make_views

PROBED = 8  # images that a function is tried on
TIMES = 3  # how often, to see whether it repeats itself
MIXING = ("MixUp", "CutMix", "Mosaic", "FourierMix")  # Keras's layers, and those of KerasCV
MIXES = (
    "mixes images, but would not see their labels here. Use Augment(views=None, mixup=0.2) or "
    "Augment(views=None, cutmix=1.0), which mix the targets too."
)

# pixels, targets, rows and epoch -> pixels and targets to train on instead
Change = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def changer(augment: Any, seed: int, keys: np.ndarray) -> Change:
    """Return the function that changes the training images of a batch anew in every epoch.

    What an `Augment` or a Keras layer draws depends only on the seed, the epoch and the batch; a function does its own
    randomness.

    Args:
        augment: an `Augment`, a `keras.layers.Layer`, or a function of (B, H, W, 3) float32 pixels.
        keys: (N,) `keys_of` all images.

    Raises:
        ConfigError: a layer that mixes images, but not their targets.
    """
    if isinstance(augment, Augment):

        def by_views(pixels: np.ndarray, targets: np.ndarray, rows: np.ndarray, epoch: int) -> Any:
            pixels = make_views(pixels, keys[rows], epoch + 1, augment, seed)
            return mix(pixels, targets, augment, _rng(seed, rows, epoch)) if augment.mixes else (pixels, targets)

        return by_views

    if not isinstance(augment, keras.layers.Layer):

        def by_function(pixels: np.ndarray, targets: np.ndarray, rows: np.ndarray, epoch: int) -> Any:
            return np.asarray(augment(pixels.astype("float32"))), targets

        return _checked(by_function)

    for each in _layers(augment):
        if type(each).__name__ in MIXING:
            raise ConfigError(f"augment: {type(each).__name__} {MIXES}")
        if getattr(each, "data_format", None) == "channels_first":
            raise ConfigError(
                f"augment: {each.name} is for images whose channels come first; those here have them last: make it "
                "with data_format='channels_last'."
            )

    def by_layer(pixels: np.ndarray, targets: np.ndarray, rows: np.ndarray, epoch: int) -> Any:
        seeds = [variable for variable in augment.variables if variable.path.endswith("seed_generator_state")]
        drawn = _rng(seed, rows, epoch).integers(2**31, size=(len(seeds), 2))
        for variable, value in zip(seeds, drawn, strict=True):
            variable.assign(value)
        return keras.ops.convert_to_numpy(augment(pixels.astype("float32"), training=True)), targets

    return _checked(by_layer)


def _checked(change: Change) -> Change:
    """Raise one sentence for what a function or a layer does wrong, in the first batch or in the last."""

    def checked(pixels: np.ndarray, targets: np.ndarray, rows: np.ndarray, epoch: int) -> Any:
        takes = f"augment must take and return float32 pixels (B, S, S, 3) in 0..255; given {pixels.shape}"
        try:
            found, targets = change(pixels, targets, rows, epoch)
            found = found.astype("float32")
        except Exception as error:  # of the user's own function, or of Keras
            raise ConfigError(f"{takes}, it raised {type(error).__name__}: {error}") from error
        if found.shape != pixels.shape:
            raise ConfigError(f"{takes}, it returned {found.shape}.")
        if bad := int((~np.isfinite(found).all(axis=(1, 2, 3))).sum()):
            raise ConfigError(f"{takes}, {bad} of the images that it returned had pixels that are not finite numbers.")
        return found, targets

    return checked


def repeats(change: Change, pixels: np.ndarray | Rows, targets: np.ndarray) -> bool:
    """Try a change on the first few of all images; return whether it gives the same pixels each time.

    Raises:
        ConfigError: it raises an error, does not return finite pixels of the same shape, or mixes images: another
            first image changes what becomes of the others.
    """
    few, targets = np.asarray(pixels[:PROBED]), targets[:PROBED]
    first, *tried = (change(few, targets, np.arange(len(few)), 0)[0] for _ in range(TIMES))
    same = all(np.array_equal(found, first) for found in tried)
    if same and len(few) > 1:
        other = np.concatenate([255 - few[:1], few[1:]])
        if not np.array_equal(change(other, targets, np.arange(len(few)), 0)[0][1:], first[1:]):
            raise ConfigError(f"augment {MIXES}")
    return same


def mix(
    pixels: np.ndarray, targets: np.ndarray, augment: Augment, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mix each image of a batch with another one, and their targets by the same shares.

    This is mixup (arXiv:1710.09412), or CutMix (arXiv:1905.04899), with one share for the whole batch, as the papers'
    own code has it. A rectangle that lies partly outside is cut off, and counts by the area that is left.

    Args:
        pixels: (B, H, W, 3) in 0..255.
        targets: (B, num_classes) float32.
        augment: has the parameters of the Beta distributions.

    Returns:
        Pixels and targets of the same shapes, float32.
    """
    pixels, size = pixels.astype("float32"), np.array(pixels.shape[1:3])
    others, which, (y, x) = rng.permutation(len(pixels)), rng.random(), rng.random(2)
    cuts = bool(augment.cutmix) and (which < 0.5 or not augment.mixup)
    alpha = augment.cutmix if cuts else augment.mixup
    share = np.float32(rng.beta(alpha, alpha))
    if not cuts:
        mixed = share * pixels + (1 - share) * pixels[others]
    else:
        sides, middle = size * np.sqrt(1 - share), size * np.array([y, x])
        (top, left), (bottom, right) = (
            np.clip(np.rint(middle + sides * half), 0, size).astype(int) for half in (-0.5, 0.5)
        )
        mixed = pixels.copy()
        mixed[:, top:bottom, left:right] = pixels[others, top:bottom, left:right]
        share = np.float32(1 - (bottom - top) * (right - left) / size.prod())
    return mixed, share * targets + (1 - share) * targets[others]


def _layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    for inside in getattr(layer, "layers", ()):
        yield from _layers(inside)


def _rng(seed: int, rows: np.ndarray, epoch: int) -> np.random.Generator:
    """Return the generator of a batch: an image is in one batch of an epoch, so the first one tells which it is."""
    return np.random.default_rng((seed, epoch, int(rows[0])))
