"""The settings of a run as frozen dataclasses, completed by the size of the data."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, Literal

from .errors import ConfigError
from .fields import (
    ClassWeights,
    Config,
    Count,
    Factor,
    Freeze,
    Loss,
    Optimizer,
    Positive,
    Rates,
    Share,
    Weight,
    from_keras_config,
    is_integer,
    is_number,
)


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


Schedule = Literal["cosine", "constant", "one_cycle", "plateau"]


@dataclass(frozen=True)
class Phase(Config):
    """One phase of a training, with a schedule of its own; what is None is as in `Training`.

    Args:
        freeze: The frozen blocks: `"all"`, `"none"`, `"block3"` (through block 3), or a tuple of blocks.
        epochs: Maximum number of epochs; by default `epochs` if only the head learns, else `fine_tune_epochs`.
        learning_rate: Peak learning rate; by default `learning_rate` if only the head learns, else
            `fine_tune_learning_rate`.
        block_rates: Factors on the learning rate, by block and `head`.
        schedule: Schedule of the learning rate.
        patience: Number of epochs without improvement after which the phase stops.

    Raises:
        ConfigError: a value is impossible.

    >>> Training(phases=(Phase("all", epochs=10), Phase("block4", learning_rate=1e-4))).phases[1].freeze
    'block4'
    """

    freeze: Freeze
    epochs: Count | None = None
    learning_rate: Weight | None = None
    block_rates: Rates | None = None
    schedule: Schedule | None = None
    patience: Count | None = None

    def __post_init__(self) -> None:
        if isinstance(self.freeze, list):  # from JSON
            object.__setattr__(self, "freeze", tuple(self.freeze))
        super().__post_init__()


Phases = Annotated[
    tuple[Phase, ...],
    "a tuple of vggft.Phase",
    lambda value: isinstance(value, tuple) and bool(value) and all(isinstance(each, Phase) for each in value),
]


@dataclass(frozen=True)
class Training(Config):
    """How the head, and then the unfrozen blocks, are trained.

    `resolve` fills in fields that are `None` by the number of training images.

    Args:
        phases: What is trained when. `"standard"` trains the head, then the unfrozen blocks and the head; `"gradual"`
            unfreezes one block after the other, the last one first (ULMFiT, arXiv:1801.06146). Or a tuple of `Phase`,
            which together train every block that is not frozen, and no other. Except in `"standard"`, the optimizer
            goes on with the moments of what earlier phases trained.
        epochs: Maximum number of epochs of the first phase, which trains only the head.
        fine_tune_epochs: Maximum number of epochs of each later phase, which trains unfrozen blocks and head.
        batch_size: Number of images in each training step.
        learning_rate: Peak learning rate of the first phase.
        fine_tune_learning_rate: Peak learning rate of the later phases, for the head and the last block. By default
            that of the first phase.
        block_decay: Factor in (0, 1] from the learning rate of each block to that of the block before it. These are
            the discriminative learning rates of ULMFiT (arXiv:1801.06146).
        block_rates: Factors on the learning rate, by block and `head`, instead of what `block_decay` gives to these.
        schedule: Schedule of the learning rate in each phase. `"cosine"` is a short warm-up and a cosine to zero,
            `"one_cycle"` a warm-up of 30 % of the steps and a cosine to nearly zero (arXiv:1708.07120, with constant
            momentum), `"plateau"` a tenth of the rate whenever the validation score has not improved for half of
            `patience`.
        optimizer: Optimizer; `"sgd"` has Nesterov momentum of 0.9. Or a `keras.optimizers.Optimizer`, of which every
            phase has a copy; its learning rate is the peak unless `learning_rate` is off its default.
        weight_decay: Decoupled weight decay for each step, multiplied by the learning rate of the head. It is only of
            kernels, not of biases and batch normalisation.
        clip_norm: Largest norm of all gradients together; longer ones are scaled down to it.
        ema_momentum: Momentum in [0, 1) of a moving average of the weights, which is judged and kept instead of the
            weights themselves; 0 averages nothing.
        label_smoothing: Share of each target that is spread evenly over all classes, in [0, 1).
        focal_gamma: Exponent of the focal loss (arXiv:1708.02002), which counts images less that are easy; 0 is
            cross-entropy.
        loss: A `keras.losses.Loss` instead of cross-entropy. It is given one-hot or multi-hot targets, and logits if
            it has `from_logits=True`, else probabilities.
        class_weight: Weights of the classes in the loss: `"balanced"`, inverse to their frequency, or a number for each
            class by its name. Both need a single label for each image.
        sampling: Which images an epoch has: `"all"`, each once, or `"balanced"`, as many, but every class equally
            often, which needs a single label for each image.
        patience: Number of epochs without improvement after which a phase stops. An epoch is better
            if its validation accuracy is higher, or equal with a lower loss.
        probe: How a head without hidden layers is trained on frozen features: `"exact"` solves it by scikit-learn's
            logistic regression, whose strength the validation images choose, and ignores epochs, rates, optimizer,
            averages and dropout. It minimises weighted cross-entropy: with another loss, smoothing, weight decay,
            callbacks or metrics, or a first phase that is more than `Phase("all")`, it is trained by epochs.

    Raises:
        ConfigError: a value is impossible, or two contradict each other.

    >>> Training(schedule="one_cycle", class_weight={"cat": 1.0, "dog": 2.0}).schedule
    'one_cycle'
    """

    phases: Literal["standard", "gradual"] | Phases = "standard"
    epochs: Count | None = None
    fine_tune_epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Weight = 1e-3
    fine_tune_learning_rate: Weight | None = None
    block_decay: Factor = 0.7
    block_rates: Rates | None = None
    schedule: Schedule = "cosine"
    optimizer: Literal["adam", "adamw", "sgd"] | Optimizer = "adam"
    weight_decay: Weight = 0.0
    clip_norm: Positive | None = None
    ema_momentum: Share = 0.0
    label_smoothing: Share = 0.0
    focal_gamma: Weight = 0.0
    loss: Loss | None = None
    class_weight: Literal["balanced"] | ClassWeights | None = None
    sampling: Literal["all", "balanced"] = "all"
    patience: Count | None = None
    probe: Literal["exact", "epochs"] = "exact"

    def __post_init__(self) -> None:
        if isinstance(self.phases, (list, tuple)):  # those from JSON and TOML are mappings
            made = (Phase.from_dict(each) if isinstance(each, Mapping) else each for each in self.phases)
            object.__setattr__(self, "phases", tuple(made))
        for name in ("optimizer", "loss"):
            object.__setattr__(self, name, from_keras_config(getattr(self, name)))
        super().__post_init__()
        if not isinstance(self.optimizer, str):
            self._adopt(self.optimizer.get_config())
        if self.loss is not None and (self.label_smoothing or self.focal_gamma):
            raise ConfigError(
                "Training.loss replaces cross-entropy with its label_smoothing and focal_gamma: give one."
            )
        if self.loss is not None and type(self.loss).__name__.startswith("Sparse"):
            raise ConfigError(
                f"Training.loss is given one-hot targets, but {type(self.loss).__name__} expects class numbers; "
                "use CategoricalCrossentropy."
            )
        if self.class_weight == self.sampling == "balanced":
            raise ConfigError("Training.class_weight and sampling both balance the classes, so they would do it twice.")

    def _adopt(self, config: Mapping[str, Any]) -> None:
        """Check the configuration of an optimizer of Keras, and take its learning rate unless there is another."""
        own = config.get("learning_rate")
        if not isinstance(own, float):
            raise ConfigError(
                "Training.optimizer needs a number as its learning rate, since each phase has its own schedule; "
                f"give Training.schedule instead of {type(own).__name__}."
            )
        if self.learning_rate == Training.learning_rate:
            object.__setattr__(self, "learning_rate", float(f"{own:.6g}"))  # without the error of 32 bits
        pairs = [("weight_decay", "weight_decay"), ("use_ema", "ema_momentum")]
        pairs += [(name, "clip_norm") for name in ("clipnorm", "global_clipnorm", "clipvalue")]
        for its, ours in pairs:
            if config.get(its) and getattr(self, ours):
                raise ConfigError(f"Training.{ours} is given, but its optimizer has {its} already: give one of them.")

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
