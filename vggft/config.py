"""What a user may set, as frozen dataclasses: checked when made, JSON round trip, defaults by data size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Self

from .errors import ConfigError


class Config:
    """Base of the configurations: `to_dict` and `from_dict`, and a way to say what is wrong with a field."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        fields = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown fields are refused rather than dropped."""
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(fields) - known):
            raise ConfigError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        return cls(**fields)

    def _require(self, holds: bool, field: str, expected: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}.{field} must be {expected}; got {getattr(self, field)!r}.")

    def _require_number(self, field: str, low: float, high: float, *, optional: bool = False) -> None:
        """`low < value < high`, or `low <= value` where low is 0."""
        value = getattr(self, field)
        if value is None and optional:
            return
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        holds = number and (low <= value if low == 0 else low < value) and value < high
        self._require(holds, field, f"a number in [{low:g}, {high:g})" + (" or None" if optional else ""))

    def _require_count(self, field: str, *, optional: bool = False) -> None:
        value = getattr(self, field)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        holds = (value is None and optional) or (whole and int(value) >= 1)
        if whole:  # NumPy's integers do not go into JSON
            object.__setattr__(self, field, int(value))
        self._require(holds, field, "an integer >= 1" + (" or None" if optional else ""))


@dataclass(frozen=True)
class Head(Config):
    """The dense layers behind the backbone.

    Args:
        units: widths of the hidden layers `fc1`, `fc2`, ...; empty is a linear probe.
        pooling: how block 5's (H, W, C) map becomes a vector: `"avg"` or `"max"` over H and W, or `"flatten"` as in
            the paper.
        dropout: probability in [0, 1) of dropping a unit after each hidden layer (a linear probe has none).
        activation: any Keras activation's name.
        batch_norm: batch normalisation between each hidden layer and its activation.
        l2: weight of the squared norm of the dense kernels in the loss.

    >>> Head(units=(512, 128), dropout=0.3).to_dict()["units"]
    [512, 128]
    """

    units: tuple[int, ...] = (256,)
    pooling: Literal["avg", "max", "flatten"] = "avg"
    dropout: float = 0.5
    activation: str = "relu"
    batch_norm: bool = False
    l2: float = 0.0

    def __post_init__(self) -> None:
        units = (self.units,) if isinstance(self.units, Integral) else self.units
        try:
            object.__setattr__(self, "units", tuple(int(u) if isinstance(u, Integral) else u for u in units))
        except TypeError:
            self._require(False, "units", "the widths of the hidden layers, as (256,) or (512, 128), or () for none")
        whole = all(isinstance(u, int) and not isinstance(u, bool) and u >= 1 for u in self.units)
        self._require(whole, "units", "a tuple of integers >= 1, as (256,) or (512, 128), or () for a linear probe")
        self._require(self.pooling in ("avg", "max", "flatten"), "pooling", "'avg', 'max' or 'flatten'")
        self._require_number("dropout", 0, 1)
        self._require(
            isinstance(self.activation, str) and bool(self.activation), "activation", "the name of a Keras activation"
        )
        self._require(isinstance(self.batch_norm, bool), "batch_norm", "True or False")
        self._require_number("l2", 0, math.inf)


@dataclass(frozen=True)
class Augment(Config):
    """Random changes of training images; validation and test images are never changed.

    Args:
        flip: half of the images are mirrored left to right.
        crop: at most this share of each side is cut off, in [0, 1); what is left is resized to the whole.
        brightness: pixels are multiplied by up to 1 plus or minus this, in [0, 1).
        views: behind frozen blocks, so many views of every image (the first is the image itself) go through them once,
            and each epoch draws one view an image. None makes new views in every epoch, for which the frozen blocks
            are computed anew each time.
    """

    flip: bool = True
    crop: float = 0.1
    brightness: float = 0.1
    views: int | None = 4

    def __post_init__(self) -> None:
        self._require(isinstance(self.flip, bool), "flip", "True or False")
        self._require_number("crop", 0, 1)
        self._require_number("brightness", 0, 1)
        self._require_count("views", optional=True)


@dataclass(frozen=True)
class Training(Config):
    """How the head, and then the unfrozen blocks, are fitted. `None` is chosen from the data's size by `resolve`.

    Args:
        epochs: at most so many passes in the first phase, where only the head learns.
        fine_tune_epochs: the same for the second phase, where unfrozen blocks and head learn together.
        batch_size: images per step.
        learning_rate: peak of the first phase.
        fine_tune_learning_rate: peak of the second phase, for the head and the last block.
        block_decay: each block nearer to the input learns at this times the rate of the one above it (ULMFiT's
            discriminative learning rates, arXiv:1801.06146), in (0, 1].
        schedule: `"cosine"` (a short warm-up, then a cosine to zero) or `"constant"`.
        optimizer: `"adam"`, `"adamw"` or `"sgd"` (Nesterov momentum 0.9).
        weight_decay: decoupled, per step and unit of learning rate.
        label_smoothing: in [0, 1).
        class_weight: `"balanced"` weighs classes inversely to their frequency (single-label only).
        patience: epochs without a better validation accuracy (or as good, at a lower loss) after which a phase ends.
    """

    epochs: int | None = None
    fine_tune_epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-3
    fine_tune_learning_rate: float | None = None
    block_decay: float = 0.7
    schedule: Literal["cosine", "constant"] = "cosine"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    class_weight: Literal["balanced"] | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for field in ("epochs", "fine_tune_epochs", "batch_size", "patience"):
            self._require_count(field, optional=True)
        self._require_number("learning_rate", 0, math.inf)
        self._require_number("fine_tune_learning_rate", 0, math.inf, optional=True)
        self._require_number("weight_decay", 0, math.inf)
        self._require_number("label_smoothing", 0, 1)
        decays = isinstance(self.block_decay, (int, float)) and 0 < self.block_decay <= 1
        self._require(decays, "block_decay", "a number in (0, 1]")
        self._require(self.schedule in ("cosine", "constant"), "schedule", "'cosine' or 'constant'")
        self._require(self.optimizer in ("adam", "adamw", "sgd"), "optimizer", "'adam', 'adamw' or 'sgd'")
        self._require(self.class_weight in (None, "balanced"), "class_weight", "'balanced' or None")

    def resolve(self, num_images: int) -> Training:
        """Every `None` filled in for `num_images` training images.

        Steps, not epochs, are what learning takes, so small data get more epochs: about 3,000 steps for a head on
        frozen features (they cost little), about 900 for blocks, within bounds.
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
