"""The settings of a run as frozen dataclasses, completed by the size of the data."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, Literal

from .errors import ConfigError
from .fields import Config, Count, Factor, Share, Weight, is_integer, is_number


def _are_widths(value: Any) -> bool:
    return isinstance(value, tuple) and all(is_integer(width) and width >= 1 for width in value)


def _are_blocks(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and set(value) <= {f"block{n}" for n in range(1, 6)}


def _is_between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: is_number(value) and low <= value <= high


Chance = Annotated[float, "a number in [0, 1]", _is_between(0, 1)]
Angle = Annotated[float, "a number of degrees in [0, 180]", _is_between(0, 180)]
Turn = Annotated[float, "a number in [0, 0.5]", _is_between(0, 0.5)]
ActivationName = Annotated[str, "the name of a Keras activation", lambda value: isinstance(value, str) and value != ""]
Blocks = Annotated[tuple[str, ...], "a tuple of block1 to block5, such as ('block4', 'block5')", _are_blocks]
Widths = Annotated[
    tuple[int, ...], "a tuple of integers >= 1, such as (256,) or (512, 128), or () for a linear probe", _are_widths
]


@dataclass(frozen=True)
class Head(Config):
    """The dense layers on top of the backbone.

    Args:
        units: Widths of the hidden layers `fc1`, `fc2` and so on. Without any, the head is a linear probe.
        blocks: The blocks whose outputs the head sees, side by side. None is blocks 3, 4 and 5, of which only those are
            taken that training does not have to compute from an earlier block than the first that learns.
        pooling: How the (H, W, C) map of a block becomes a vector. `"avg"` and `"max"` pool over H and W, `"flatten"`
            keeps every position of block 5, as in the paper.
        dropout: Probability of dropping a unit after each hidden layer, in [0, 1). A linear probe has no dropout.
        activation: Activation of the hidden layers, by its name in Keras.
        batch_norm: Batch normalisation between each hidden layer and its activation.
        l2: Weight of the squared norm of the dense kernels in the loss, >= 0.
        normalize: How pooled features are normalised. `"standardize"` gives every feature mean 0 and variance 1 over
            the training images, `"scale"` one factor to all of them; `"l2"` gives the features of every block of an
            image length 1 first, `"sqrt_l2"` takes their square roots before that.

    >>> Head(units=(512, 128), dropout=0.3, blocks=("block4", "block5")).to_dict()["units"]
    [512, 128]
    """

    units: Widths = ()
    blocks: Blocks | None = None
    pooling: Literal["avg", "max", "flatten"] = "avg"
    dropout: Share = 0.5
    activation: ActivationName = "relu"
    batch_norm: bool = False
    l2: Weight = 0.0
    normalize: Literal["standardize", "scale", "l2", "sqrt_l2"] = "sqrt_l2"

    def __post_init__(self) -> None:
        units = (self.units,) if isinstance(self.units, Integral) else self.units
        if isinstance(units, Iterable):  # for example a list from JSON
            object.__setattr__(self, "units", tuple(int(u) if isinstance(u, Integral) else u for u in units))
        blocks = (self.blocks,) if isinstance(self.blocks, str) else self.blocks
        if isinstance(blocks, Iterable):
            object.__setattr__(self, "blocks", tuple(sorted(set(blocks), key=str)))
        super().__post_init__()
        if self.pooling == "flatten" and self.blocks not in (None, ("block5",)):
            raise ConfigError(
                f"Head.pooling='flatten' keeps every position of block5 alone; got Head.blocks={self.blocks!r}."
            )


NOT_OF_A_VIEW = ("views", "mixup", "cutmix")  # fields of `Augment` that do not change the pixels of a single view


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


@dataclass(frozen=True)
class Training(Config):
    """How the head, and then the unfrozen blocks, are trained.

    `resolve` fills in fields that are `None` by the number of training images.

    Args:
        epochs: Maximum number of epochs of the first phase, which trains only the head.
        fine_tune_epochs: Maximum number of epochs of the second phase, which trains unfrozen blocks and head.
        batch_size: Number of images in each training step.
        learning_rate: Peak learning rate of the first phase.
        fine_tune_learning_rate: Peak learning rate of the second phase, for the head and the last block. By default
            that of the first phase.
        block_decay: Factor in (0, 1] from the learning rate of each block to that of the block before it. These are
            the discriminative learning rates of ULMFiT (arXiv:1801.06146).
        schedule: Schedule of the learning rate: a short warm-up and a cosine to zero, or constant.
        optimizer: Optimizer; `"sgd"` has Nesterov momentum of 0.9.
        weight_decay: Decoupled weight decay for each step, multiplied by the learning rate.
        label_smoothing: Share of each target that is spread evenly over all classes, in [0, 1).
        class_weight: Weights of the classes in the loss. `"balanced"` weights them inversely to their frequency, which
            needs a single label for each image.
        patience: Number of epochs without improvement after which a phase stops. An epoch is better
            if its validation accuracy is higher, or equal with a lower loss.
        probe: How a head without hidden layers is trained on frozen features: `"exact"` solves it by scikit-learn's
            logistic regression, whose strength the validation images choose, and ignores epochs, rates and dropout.
    """

    epochs: Count | None = None
    fine_tune_epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Weight = 1e-3
    fine_tune_learning_rate: Weight | None = None
    block_decay: Factor = 0.7
    schedule: Literal["cosine", "constant"] = "cosine"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: Weight = 0.0
    label_smoothing: Share = 0.0
    class_weight: Literal["balanced"] | None = None
    patience: Count | None = None
    probe: Literal["exact", "epochs"] = "exact"

    def resolve(self, num_images: int) -> Training:
        """Replace every `None` by a value for `num_images` training images.

        What matters is the number of steps, so small datasets get more epochs: about 3,000 steps for a head on frozen
        features, which are cheap, and about 900 for unfrozen blocks, within bounds.
        """
        batch_size = self.batch_size or (16 if num_images < 500 else 32 if num_images < 20_000 else 64)
        steps = math.ceil(num_images / batch_size)
        epochs = self.epochs or min(100, max(10, 3000 // steps))
        fine_tune = self.fine_tune_learning_rate
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            epochs=epochs,
            fine_tune_epochs=self.fine_tune_epochs or min(40, max(5, 900 // steps)),
            fine_tune_learning_rate=self.learning_rate if fine_tune is None else fine_tune,
            patience=self.patience or max(5, epochs // 5),
        )


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
