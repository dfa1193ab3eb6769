"""All that is decided before the work: what learns from what, in which precision, and by which passes."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from ..cache import Cache
from ..config import Augment, Head, Training
from ..data.pool import Pool, prepare
from ..data.views import changer
from ..errors import ConfigError
from ..features.cuts import cut_layer, pooled_layer
from ..features.extract import Pass, passes
from ..network.blocks import BLOCKS, frozen_blocks
from ..network.description import Description, build
from ..network.freezing import set_frozen
from ..network.precision import check_precision, choose, measure, policy
from ..network.weights import Pretrained, load_pretrained
from ..progress import Narrator


@dataclass(frozen=True)
class Base:
    """What a run stands on, whatever is frozen and whatever the head is.

    Args:
        pool: the images and how they are split.
        pretrained: where the blocks start from.
        image_size: pixels a side.
        augment: as it was given.
        change: what is done to the pixels of a batch anew in every epoch, if anything is.
        seed: of everything random.
        precision: of the arithmetic in the blocks.
        why: a sentence about the precision.
        stored_as: dtype of frozen features on the disk.
        seconds: that an image takes through the first blocks, for each precision that was measured.
        cache: where frozen features are kept.
    """

    pool: Pool
    pretrained: Pretrained
    image_size: int
    augment: Augment | Callable[[np.ndarray], np.ndarray] | None
    change: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None
    seed: int
    precision: str
    why: str
    stored_as: str
    seconds: dict[str, float]
    cache: Cache

    @property
    def views(self) -> Augment | None:
        """The augmentation, where its views are frozen features."""
        return self.augment if isinstance(self.augment, Augment) and self.change is None else None

    def describe(self, head: Head, frozen: tuple[str, ...]) -> Description:
        """The classifier that comes out with this head."""
        return Description(
            class_names=self.pool.class_names,
            image_size=self.image_size,
            column=self.pretrained.column,
            width=self.pretrained.width,
            head=head,
            multi_label=self.pool.multi_label,
            backbone=self.pretrained.name,
            frozen=frozen,
        )

    def network(self, description: Description, seed: int) -> keras.Model:
        """Its network: pretrained blocks, of which the frozen ones are not trainable, and a fresh head."""
        model = build(description, seed, policy(self.precision))
        self.pretrained.assign(model)
        set_frozen(model, description.frozen)
        return model

    def passes(self, model: keras.Model, cuts: Sequence[str], train: np.ndarray) -> list[Pass]:
        """What computes the frozen features of these cuts, with the views of the `train` rows."""
        return passes(
            model,
            cuts,
            self.pool.digests,
            train,
            precision=self.precision,
            stored_as=self.stored_as,
            augment=self.views,
            seed=self.seed,
        )

    @property
    def config(self) -> dict[str, Any]:
        """What makes the run, as JSON: two runs of equal ones end equal."""
        return {
            "num_classes": len(self.pool.class_names),
            "backbone": self.pretrained.name,
            "backbone_digest": self.pretrained.digest,
            "augment": named(self.augment),
            "precision": self.precision,
            "stored_as": self.stored_as,
            "image_size": self.image_size,
            "splits": {split: len(rows) for split, rows in self.pool.rows.items()},
            "data_fingerprint": self.pool.fingerprint,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Plan(Base):
    """What a run of `finetune` will do.

    Args:
        description: the classifier that comes out.
        model: its network with pretrained weights, computing in `precision`; frozen blocks are not trainable.
        training: resolved for the number of images.
        head_cut: the layer whose frozen features the head learns from; None: from pixels.
        blocks_cut: the same for unfrozen blocks.
        planned: the passes that compute those features.
    """

    description: Description
    model: keras.Model
    training: Training
    head_cut: str | None
    blocks_cut: str | None
    planned: list[Pass]

    @property
    def learning(self) -> tuple[str, ...]:
        """The blocks that learn."""
        return tuple(block for block in BLOCKS if block not in self.description.frozen)

    @property
    def config(self) -> dict[str, Any]:
        """What makes the run, as JSON: two runs of equal ones end equal."""
        return super().config | {
            "frozen": list(self.description.frozen),
            "head": self.description.head.to_dict(),
            "training": self.training.to_dict(),
        }

    @property
    def notes(self) -> list[str]:
        """What the user should know before it starts."""
        notes = [*self.pool.notes, *self.pool.left_out[:20]]
        if self.change is not None and self.description.frozen:
            notes.append("every epoch has new views, so the frozen blocks are computed anew each time, not once")
        if self.change is not None and self.learning:
            notes.append("the first phase, of the head alone, uses the images as they are")
        return notes

    def __str__(self) -> str:
        counts = ", ".join(f"{len(rows)} {split}" for split, rows in self.pool.rows.items())
        learning = f"{', '.join(self.learning)} and the head" if self.learning else "the head"
        epochs = f"at most {self.training.epochs} epochs"
        if self.learning:
            epochs += f" and {self.training.fine_tune_epochs} with blocks"
        return (
            f"{counts} images of {len(self.pool.class_names)} classes at {self.description.image_size} px; "
            f"{self.pretrained.name}: {learning} will learn, {epochs} of batch {self.training.batch_size}. "
            f"The blocks compute in {self.precision}: {self.why}."
        )


def make_base(
    dataset: Any,
    num_classes: int,
    *,
    head: Head,
    training: Training,
    learning: Collection[str],
    validation: Any = 0.2,
    test: Any = None,
    backbone: str | os.PathLike[str] = "vgg16_imagenet",
    augment: Augment | Callable[[np.ndarray], np.ndarray] | None = None,
    image_size: int | None = None,
    precision: str = "auto",
    on_bad_image: Literal["raise", "skip"] = "raise",
    seed: int = 0,
    earlier: Mapping[str, Any] | None = None,
    narrator: Narrator,
) -> Base:
    """Check everything, read the images, and measure the machine for a moment; arguments as for `finetune`.

    Args:
        learning: the blocks that may learn.
        earlier: the configuration of the run that is resumed: a measurement may come out differently the next time.

    Raises:
        DataError, ConfigError, WeightsError, CacheError: all that is wrong, before anything is computed.
    """
    num_classes, seed = _whole("num_classes", num_classes, 2), _whole("seed", seed, 0)
    check_kinds(head, training, augment)
    check_precision(precision)
    pretrained = load_pretrained(backbone)
    image_size = pretrained.image_size if image_size is None else _whole("image_size", image_size, 32)
    cache = Cache()
    pool = prepare(
        dataset,
        num_classes,
        validation=validation,
        test=test,
        image_size=image_size,
        seed=seed,
        on_bad_image=on_bad_image,
        cache=cache,
        narrator=narrator,
    )
    if pool.multi_label and training.class_weight:
        raise ConfigError(
            f"Training.class_weight={training.class_weight!r} needs one label an image; here are several."
        )
    change = None
    if augment is not None and ("block1" in learning or getattr(augment, "views", None) is None):
        change = changer(augment, seed, pool.pixels[:2])
    seconds = measure(pretrained.column, pretrained.width, image_size, bool(learning), cache.root / "precision.json")
    stored_as, why = "float32" if precision == "float32" else "float16", "as was asked"
    if precision == "auto":
        precision, why = choose(seconds)
        if earlier:
            precision, stored_as, why = earlier["precision"], earlier.get("stored_as", stored_as), "as the run began"
    return Base(pool, pretrained, image_size, augment, change, seed, precision, why, stored_as, seconds, cache)


def make_plan(
    dataset: Any,
    num_classes: int,
    *,
    freeze: str | Iterable[str] = "all",
    head: Head | None = None,
    training: Training | None = None,
    **arguments: Any,
) -> Plan:
    """`make_base`, and what learns from what; arguments as for `finetune`."""
    head, training, frozen = head or Head(), training or Training(), frozen_blocks(freeze)
    learning = [block for block in BLOCKS if block not in frozen]
    base = make_base(dataset, num_classes, head=head, training=training, learning=learning, **arguments)
    return plan_of(base, frozen, head, training)


def plan_of(base: Base, frozen: tuple[str, ...], head: Head, training: Training) -> Plan:
    """What learns from what, with these blocks frozen."""
    description = base.describe(head, frozen)
    model = base.network(description, base.seed)
    head_cut = blocks_cut = None
    if base.change is None or frozen != BLOCKS:
        head_cut = pooled_layer(model)
    if base.change is None and frozen != BLOCKS:
        blocks_cut = cut_layer(model, frozen)
    cuts = [cut for cut in (blocks_cut, head_cut) if cut is not None]
    return Plan(
        **vars(base),
        description=description,
        model=model,
        training=training.resolve(len(base.pool.rows["train"])),
        head_cut=head_cut,
        blocks_cut=blocks_cut,
        planned=base.passes(model, cuts, base.pool.rows["train"]) if cuts else [],
    )


def _whole(name: str, value: Any, low: int) -> int:
    """An integer argument; NumPy's do as well."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or isinstance(value, bool):
        raise ConfigError(f"{name} must be an integer >= {low}; got {value!r}.")
    return number


def check_kinds(head: Any, training: Any, augment: Any) -> None:
    """Raise `ConfigError` for a head, a training or an augmentation that is none."""
    if not isinstance(head, Head):
        raise ConfigError(f"head must be a vggft.Head, as Head(units=(256,)); got {head!r}.")
    if not isinstance(training, Training):
        raise ConfigError(f"training must be a vggft.Training, as Training(epochs=20); got {training!r}.")
    if not (augment is None or isinstance(augment, Augment) or callable(augment)):
        raise ConfigError(f"augment must be a vggft.Augment, a function of pixels, or None; got {augment!r}.")
    try:
        keras.activations.get(head.activation)
    except ValueError:
        raise ConfigError(f"Head.activation must be the name of a Keras activation; got {head.activation!r}.") from None


def named(value: Any) -> Any:
    """An argument as JSON: itself if it is simple, else what it is called or what kind it is."""
    if isinstance(value, Augment):
        return value.to_dict()
    if value is None or isinstance(value, (bool, int, float, str, os.PathLike)):
        return os.fspath(value) if isinstance(value, os.PathLike) else value
    return getattr(value, "__qualname__", type(value).__name__)
