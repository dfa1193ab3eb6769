"""Random changes of training images as a setting, and the names of what may stand in its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from .errors import short_traceback
from .fields import Config, Count, Share, Weight, is_number


def _is_between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: is_number(value) and low <= value <= high


Chance = Annotated[float, "a number in [0, 1]", _is_between(0, 1)]
Angle = Annotated[float, "a number of degrees in [0, 180]", _is_between(0, 180)]
Turn = Annotated[float, "a number in [0, 0.5]", _is_between(0, 0.5)]


NOT_OF_A_VIEW = ("views", "mixup", "cutmix")  # fields of `Augment` that do not change the pixels of a single view


@short_traceback
@dataclass(frozen=True)
class Augment(Config):
    """Random changes of training images. Validation and test images are never changed.

    What is drawn depends only on the image, the seed, and the number of the view or of the epoch.

    Args:
        flip: Mirror half of the images left to right.
        crop: Largest share of each side that is cut off, in [0, 1). What remains is resized to the full size.
        brightness: Largest relative change of all pixel values, in [0, 1). 0.1 multiplies by 0.9 to 1.1.
        views: Number of views of each image whose frozen features are computed once; the first is the image itself.
            Each epoch draws one of them for each image. None makes new views in every epoch, for which the frozen
            blocks have to be computed again.
        vertical_flip: Mirror half of the images top to bottom, for images without an up and a down.
        rotate: Largest angle in degrees, in [0, 180], by which images are turned either way. The corners are filled
            with mirrored pixels.
        contrast: Largest relative change of the distances from the image's mean grey, in [0, 1).
        saturation: Largest relative change of the distances from the grey of each pixel, in [0, 1).
        hue: Largest shift of all hues either way, as a share of the colour circle, in [0, 0.5].
        erase: Share of the images in which a rectangle of 2 to 40 % of the area becomes noise, in [0, 1]. This is
            random erasing (arXiv:1708.04896).
        mixup: Parameter of the Beta distribution by which images and targets are mixed in pairs, such as 0.2; 0 does
            not mix them. This is mixup (arXiv:1710.09412), for which every epoch needs new views: `views=None`.
        cutmix: Parameter of the Beta distribution of the area that an image keeps when a rectangle of another one is
            put into it, such as 1; 0 does not. This is CutMix (arXiv:1905.04899), which also needs `views=None`. With
            mixup as well, each batch draws one of the two.

    >>> Augment(rotate=15, hue=0.05).changes()
    {'flip': True, 'crop': 0.1, 'brightness': 0.1, 'rotate': 15.0, 'hue': 0.05}
    """

    flip: bool = True
    crop: Share = 0.1
    brightness: Share = 0.1
    views: Count | None = 4
    vertical_flip: bool = False
    rotate: Angle = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Turn = 0.0
    erase: Chance = 0.0
    mixup: Weight = 0.0
    cutmix: Weight = 0.0

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    def changes(self) -> dict[str, Any]:
        """Return the fields that the pixels of a view depend on: the first three, and of the others those in use."""
        found = self.to_dict()
        kept = {name: found.pop(name) for name in ("flip", "crop", "brightness")}
        used = {name: value for name, value in found.items() if value and name not in NOT_OF_A_VIEW}
        return kept | {name: value if isinstance(value, bool) else float(value) for name, value in used.items()}


def named(value: Any) -> Any:
    """Convert an argument for JSON: itself if it is simple, else its name or the name of its type."""
    if isinstance(value, Augment):
        return value.to_dict()
    if hasattr(value, "get_config"):
        return layer_name(value)
    if value is None or isinstance(value, (bool, int, float, str, os.PathLike)):
        return os.fspath(value) if isinstance(value, os.PathLike) else value
    return getattr(value, "__qualname__", type(value).__name__)


def layer_name(layer: Any) -> str:
    """Write a Keras layer as its class with its arguments, without its name and seeds; of a Sequential, its layers.

    >>> import keras
    >>> layer_name(keras.layers.RandomContrast(0.2, name="contrast"))
    'RandomContrast(factor=(0, 0.2), value_range=(0, 255))'
    """
    if isinstance(inside := getattr(layer, "layers", None), list):
        told = "[" + ", ".join(map(layer_name, inside)) + "]"
    else:
        try:
            config = layer.get_config()
        except NotImplementedError:  # a layer of the user's own
            config = {}
        unlike = ("name", "seed", "dtype", "trainable", "data_format", "build_config")
        told = ", ".join(f"{name}={value!r}" for name, value in config.items() if name not in unlike)
    return f"{type(layer).__name__}({told})"
