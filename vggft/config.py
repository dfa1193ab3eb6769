"""The settings of a run as frozen dataclasses, completed by the size of the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from .errors import ConfigError, short_traceback
from .fields import (
    PARTS,
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
    is_word,
    unwrapped,
    with_plain_numbers,
)

WIDEST = 1_000_000  # units of a layer, a hundred times what fits
DEEPEST = 32  # hidden layers
RATE = 1e-3  # peak for a head


def _are_widths(value: Any) -> bool:
    fits = isinstance(value, tuple) and len(value) <= DEEPEST
    return fits and all(is_integer(width) and 1 <= width <= WIDEST for width in value)


def _are_blocks(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(is_word(each, PARTS[:-1]) for each in value)


def _listed(value: Any) -> Any:
    """Return a list or an array of values as a tuple, with NumPy's scalars as values of Python; others as they are."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable) or getattr(value, "ndim", None) == 0:
        return unwrapped(value)
    return tuple(map(unwrapped, value))


ActivationName = Annotated[str, "the name of a Keras activation", lambda value: isinstance(value, str) and value != ""]
Blocks = Annotated[tuple[str, ...], "a tuple of block1 to block5, such as ('block4', 'block5')", _are_blocks]
Widths = Annotated[
    tuple[int, ...],
    f"a tuple of integers >= 1, such as (256,) or (512, 128), up to {DEEPEST}, or () for a linear probe",
    _are_widths,
]


@short_traceback
@dataclass(frozen=True)
class Head(Config):
    """The dense layers on top of the backbone.

    Args:
        units: Widths of the hidden layers `fc1`, `fc2` and so on. Without any, the head is a linear probe.
        pooling: How the (H, W, C) map of a block becomes a vector. `"avg"` and `"max"` pool over H and W, `"flatten"`
            keeps every position of block 5, as in the paper.
        dropout: Probability of dropping a unit after each hidden layer, in [0, 1). A linear probe has no dropout.
        activation: Activation of the hidden layers, by its name in Keras.
        batch_norm: Batch normalisation between each hidden layer and its activation.
        l2: Weight of the squared norm of the dense kernels in the loss, >= 0.
        normalize: How pooled features are normalised. `"standardize"` gives every feature mean 0 and variance 1 over
            the training images, `"scale"` one factor to all of them; `"l2"` gives the features of every block of an
            image length 1 first, `"sqrt_l2"` takes their square roots before that.
        blocks: The blocks whose outputs the head sees, side by side. None is blocks 3, 4 and 5, of which only those are
            taken that training does not have to compute from an earlier block than the first that learns.

    >>> Head(units=(512, 128), dropout=0.3, blocks=("block4", "block5")).to_dict()["units"]
    [512, 128]
    """

    units: Widths = ()
    pooling: Literal["avg", "max", "flatten"] = "avg"
    dropout: Share = 0.5
    activation: ActivationName = "relu"
    batch_norm: bool = False
    l2: Weight = 0.0
    normalize: Literal["standardize", "scale", "l2", "sqrt_l2"] = "sqrt_l2"
    blocks: Blocks | None = None

    def __post_init__(self) -> None:
        units, blocks = _listed(self.units), _listed(self.blocks)
        object.__setattr__(self, "units", (units,) if is_integer(units) else units)
        blocks = (blocks,) if isinstance(blocks, str) else blocks
        object.__setattr__(self, "blocks", tuple(sorted(set(blocks))) if _are_blocks(blocks) else blocks)
        super().__post_init__()
        if self.pooling == "flatten" and self.blocks not in (None, ("block5",)):
            raise ConfigError(
                f"Head.pooling='flatten' keeps every position of block5 alone; got Head.blocks={self.blocks!r}."
            )


Schedule = Literal["cosine", "constant", "one_cycle", "plateau"]


@short_traceback
@dataclass(frozen=True)
class Phase(Config):
    """One phase of a training, with a schedule of its own; what is None is as in `Training`.

    Args:
        freeze: The frozen blocks: `"all"`, `"none"`, `"block3"` (through block 3), `"block5_conv2"` (through that
            convolution), or a tuple of blocks and convolutions.
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
        object.__setattr__(self, "freeze", _listed(self.freeze))
        object.__setattr__(self, "block_rates", with_plain_numbers(self.block_rates))
        super().__post_init__()


Phases = Annotated[
    tuple[Phase, ...],
    "a tuple of vggft.Phase",
    lambda value: isinstance(value, tuple) and bool(value) and all(isinstance(each, Phase) for each in value),
]


@short_traceback
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
        learning_rate: Peak learning rate of the first phase; by default that of an `optimizer` object, else 1e-3.
        fine_tune_learning_rate: Peak learning rate of the later phases, for the head and the last block. By default
            from 1e-5 for the full width to 1e-3 for a quarter of it.
        block_decay: Factor in (0, 1] from the learning rate of each block to that of the block before it. These are
            the discriminative learning rates of ULMFiT (arXiv:1801.06146).
        block_rates: Factors on the learning rate, by block and `head`, instead of what `block_decay` gives to these.
        schedule: Schedule of the learning rate in each phase. `"cosine"` is a short warm-up and a cosine to zero,
            `"one_cycle"` a warm-up of 30 % of the steps and a cosine to nearly zero (arXiv:1708.07120, with constant
            momentum), `"plateau"` a tenth of the rate whenever the validation score has not improved for half of
            `patience`.
        optimizer: Optimizer; `"sgd"` has Nesterov momentum of 0.9. Or a `keras.optimizers.Optimizer`, of which every
            phase has a copy; its learning rate is the peak unless there is a `learning_rate`.
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
            class by its name or, as in Keras, by its position. Both need a single label for each image.
        sampling: Which images an epoch has: `"all"`, each once, or `"balanced"`, as many, but every class equally
            often, which needs a single label for each image.
        patience: Number of epochs without improvement after which a phase stops. An epoch of a head alone is
            better if its validation accuracy is higher, or equal with a lower loss; where blocks learn, or images have
            several labels, if the loss is lower.
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
    learning_rate: Weight | None = None
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
        for name in ("block_rates", "class_weight"):
            object.__setattr__(self, name, with_plain_numbers(getattr(self, name)))
        if isinstance(self.class_weight, Mapping):  # positions are numbers, but in JSON they are text
            named = {str(key) if is_integer(key) else key: weight for key, weight in self.class_weight.items()}
            object.__setattr__(self, "class_weight", named)
        for name in ("optimizer", "loss"):
            object.__setattr__(self, name, from_keras_config(getattr(self, name)))
        super().__post_init__()
        if not isinstance(self.optimizer, str):
            self._check_optimizer(self.optimizer.get_config())
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

    def _check_optimizer(self, config: Mapping[str, Any]) -> None:
        """Raise `ConfigError` unless the configuration of an optimizer of Keras goes with the other fields."""
        if not isinstance(own := config.get("learning_rate"), float):
            raise ConfigError(
                "Training.optimizer needs a number as its learning rate, since each phase has its own schedule; "
                f"give Training.schedule instead of {type(own).__name__}."
            )
        pairs = [("weight_decay", "weight_decay"), ("use_ema", "ema_momentum")]
        pairs += [(name, "clip_norm") for name in ("clipnorm", "global_clipnorm", "clipvalue")]
        for its, ours in pairs:
            if config.get(its) and getattr(self, ours):
                raise ConfigError(f"Training.{ours} is given, but its optimizer has {its} already: give one of them.")

    def resolve(self, num_images: int, width: float = 1.0) -> Training:
        """Replace every `None` by a value for `num_images` training images and a backbone of some width.

        What matters is the number of steps, so small datasets get more epochs: about 3,000 steps for a head on frozen
        features, which are cheap, and about 400 for unfrozen blocks, within bounds. Blocks of the full VGG16 keep what
        they know at 1e-5 and lose it at 1e-3, which a quarter of its width needs: measured on photographs with the
        ImageNet weights, and on hand signs with the mini.
        """
        batch_size = self.batch_size or (16 if num_images < 500 else 32 if num_images < 20_000 else 64)
        steps = math.ceil(num_images / batch_size)
        epochs = self.epochs or min(100, max(10, 3000 // steps))
        rate = RATE if isinstance(self.optimizer, str) else self.optimizer.get_config()["learning_rate"]
        fine_tune, narrow = self.fine_tune_learning_rate, min(1.0, max(0.0, -math.log(width, 4)))
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            epochs=epochs,
            learning_rate=float(f"{rate:.6g}") if self.learning_rate is None else self.learning_rate,  # of 32 bits
            fine_tune_epochs=self.fine_tune_epochs or min(40, max(8, 400 // steps)),
            fine_tune_learning_rate=10 ** (2 * narrow - 5) if fine_tune is None else fine_tune,
            patience=self.patience or max(5, epochs // 5),
        )
