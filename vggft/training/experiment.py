"""What all trainings of a run share: arguments, images, pretrained weights, and frozen features."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import keras
import numpy as np

from ..cache import Cache
from ..config import Augment, Head, Training
from ..data.pool import Pool, prepare
from ..errors import ConfigError
from ..features.extract import Pass, Prefix, frozen_features, passes
from ..features.views import changer, keys_of
from ..network.blocks import BLOCKS, MIN_IMAGE_SIZE, frozen_blocks
from ..network.description import Description, build
from ..network.freezing import assign_weights, set_frozen
from ..network.precision import check_precision, choose, measure, policy
from ..network.weights import Pretrained, load_pretrained
from ..progress import Narrator
from ..rows import Rows
from .batches import Examples, Transform
from .phases import Phase, Setting, phases_of

Augmentation: TypeAlias = "Augment | Callable[[np.ndarray], np.ndarray] | None"


@dataclass(frozen=True)
class Request:
    """The arguments that `finetune` and `search` share, as they were given; `finetune` documents them."""

    dataset: Any
    num_classes: int
    validation: Any = 0.2
    test: Any = None
    backbone: str | os.PathLike[str] = "vgg16_imagenet"
    freeze: str | Iterable[str] = "all"
    head: Head | None = None
    training: Training | None = None
    augment: Augmentation = None
    image_size: int | None = None
    precision: str = "auto"
    on_bad_image: Literal["raise", "skip"] = "raise"
    calibrate: bool = False
    tune_thresholds: bool = False
    run_dir: str | os.PathLike[str] | None = None
    resume: bool = False
    seed: int = 0
    verbose: int = 1

    def setting(self) -> Setting:
        """Return what is trained, with defaults for everything that was left out."""
        return Setting(frozen_blocks(self.freeze), self.head or Head(), self.training or Training())

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that `config.json` does not hold, for `environment.json`."""
        names = ("dataset", "validation", "test", "backbone", "on_bad_image")
        return {name: named(getattr(self, name)) for name in names}


@dataclass(frozen=True)
class FeatureBank:
    """The inputs of trainings: pixels, and frozen features of all images with further views of some.

    Args:
        pixels: (N, S, S, 3) RGB in 0..255.
        targets: (N, num_classes) float32.
        features: for each cut, an array of all images, then one for each further view.
        viewed: the rows that have further views.
        transform: the function that changes the pixels of a batch in every epoch, if any.
    """

    pixels: np.ndarray | Rows
    targets: np.ndarray
    features: Mapping[str, Sequence[np.ndarray | Rows]] = field(default_factory=dict)
    viewed: np.ndarray = field(default_factory=lambda: np.arange(0))
    transform: Transform | None = None

    def inputs(self, cut: str | None) -> np.ndarray | Rows:
        """Return the features of all images at a cut, or their pixels if `cut` is None."""
        return self.pixels if cut is None else self.features[cut][0]

    def examples(self, cut: str | None, rows: np.ndarray) -> Examples:
        """Select rows, with the further views and the transform that training may draw from."""
        if cut is None:
            return Examples(self.pixels, self.targets, rows, transform=self.transform)
        inputs, *views = self.features[cut]
        if not views:
            return Examples(inputs, self.targets, rows)
        where = np.zeros(len(self.targets), np.int64)
        where[self.viewed] = np.arange(len(self.viewed))
        return Examples(inputs, self.targets, rows, views, where[rows])


@dataclass(frozen=True)
class Experiment:
    """What all trainings of a run share; networks are built only when they are needed.

    Args:
        pool: the images and how they are split.
        prefix: pretrained weights, image size, precision, and the augmentation whose views are frozen features.
        augment: the argument as given.
        transform: the function that changes the pixels of a batch in every epoch, if any.
        seed: seed of everything random.
        why: the reason for the precision, in words.
        seconds: time per image through the first blocks, for each precision that was measured.
        cache: where frozen features are kept.
    """

    pool: Pool
    prefix: Prefix
    augment: Augmentation
    transform: Transform | None
    seed: int
    why: str
    seconds: dict[str, float]
    cache: Cache

    @property
    def pretrained(self) -> Pretrained:
        """The weights that the blocks start from."""
        return self.prefix.pretrained

    @property
    def precision(self) -> str:
        """The precision of the arithmetic in the blocks."""
        return self.prefix.precision

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.prefix.image_size

    def phases(self, setting: Setting) -> tuple[Phase, ...]:
        """Return the phases in which a setting is trained."""
        return phases_of(setting, from_pixels=self.transform is not None)

    def cuts(self, settings: Iterable[Setting]) -> list[str]:
        """Return the cuts that trainings of these settings start from, nearest to the input first."""
        found = {phase.cut(setting.head.pooling) for setting in settings for phase in self.phases(setting)}
        return sorted((cut for cut in found if cut), key=lambda cut: (not cut.startswith("block"), cut))

    def passes(self, cuts: Sequence[str], viewed: np.ndarray) -> list[Pass]:
        """Plan the passes that give the features at these cuts, with the further views of some rows."""
        return passes(self.prefix, cuts, self.pool.digests, viewed)

    def bank(self, planned: Sequence[Pass], narrator: Narrator) -> FeatureBank:
        """Return the features of these passes; compute what is not in the cache."""
        pool, viewed = self.pool, planned[-1].rows if planned else np.arange(0)
        features = frozen_features(self.prefix, planned, pool.pixels, cache=self.cache, narrator=narrator)
        return FeatureBank(pool.pixels, pool.targets, features, viewed, self.transform)

    def describe(self, setting: Setting) -> Description:
        """Describe the classifier that a setting gives."""
        return Description(
            class_names=self.pool.class_names,
            image_size=self.image_size,
            column=self.pretrained.column,
            width=self.pretrained.width,
            head=setting.head,
            multi_label=self.pool.multi_label,
            backbone=self.pretrained.name,
            frozen=setting.frozen,
        )

    def network(self, setting: Setting, seed: int) -> keras.Model:
        """Build the network to train: pretrained blocks, the frozen ones not trainable, and a fresh head."""
        model = build(self.describe(setting), seed, policy(self.precision))
        self.pretrained.assign(model)
        set_frozen(model, setting.frozen)
        return model

    def classifier(self, setting: Setting, weights: Mapping[str, np.ndarray]) -> keras.Model:
        """Build the network to evaluate and save, in float32: pretrained blocks and learned weights."""
        model = build(self.describe(setting))
        self.pretrained.assign(model)
        assign_weights(model, weights)
        return model

    @property
    def config(self) -> dict[str, Any]:
        """What determines the result of the run, ready for JSON: equal values give equal results."""
        return {
            "num_classes": len(self.pool.class_names),
            "backbone": self.pretrained.name,
            "backbone_digest": self.pretrained.digest,
            "augment": named(self.augment),
            "precision": self.precision,
            "stored_as": self.prefix.stored_as,
            "image_size": self.image_size,
            "splits": {split: len(rows) for split, rows in self.pool.rows.items()},
            "data_fingerprint": self.pool.fingerprint,
            "seed": self.seed,
        }


def make_experiment(
    request: Request, settings: Sequence[Setting], *, earlier: Mapping[str, Any], narrator: Narrator
) -> Experiment:
    """Check everything, read the images, and measure the machine for a moment.

    Args:
        settings: the settings that may be trained, one for each choice of frozen blocks.
        earlier: the configuration of the run that is resumed, whose precision is used again; else empty.

    Raises:
        DataError, ConfigError, WeightsError, CacheError: before any training; all problems of the data are listed.
    """
    num_classes, seed = _whole("num_classes", request.num_classes, 2), _whole("seed", request.seed, 0)
    augment, precision = request.augment, request.precision
    for setting in settings:
        check_kinds(setting.head, setting.training, augment)
    check_precision(precision)
    pretrained = load_pretrained(request.backbone)
    asked = request.image_size
    image_size = pretrained.image_size if asked is None else _whole("image_size", asked, MIN_IMAGE_SIZE)
    cache = Cache()
    pool = prepare(
        request.dataset,
        num_classes,
        validation=request.validation,
        test=request.test,
        image_size=image_size,
        seed=seed,
        on_bad_image=request.on_bad_image,
        cache=cache,
        narrator=narrator,
    )
    if pool.multi_label and any(setting.training.class_weight for setting in settings):
        raise ConfigError("Training.class_weight needs one label per image; these images have several.")
    transform: Transform | None = None
    learning = {block for setting in settings for block in BLOCKS if block not in setting.frozen}
    if augment is not None and ("block1" in learning or getattr(augment, "views", None) is None):
        change, keys = changer(augment, seed, pool.pixels[:2]), keys_of(pool.digests)

        def changed(inputs: np.ndarray, targets: np.ndarray, rows: np.ndarray, epoch: int) -> Any:
            return change(inputs, keys[rows], epoch), targets

        transform = changed
    seconds = measure(pretrained.column, pretrained.width, image_size, bool(learning), cache.root / "precision.json")
    stored_as, why = "float32" if precision == "float32" else "float16", "as requested"
    if precision == "auto":
        precision, why = choose(seconds)
        if earlier:
            precision, stored_as, why = earlier["precision"], earlier.get("stored_as", stored_as), "as the run began"
    views = augment if isinstance(augment, Augment) and transform is None else None
    prefix = Prefix(pretrained, image_size, precision, stored_as, views, seed)
    return Experiment(pool, prefix, augment, transform, seed, why, seconds, cache)


def _whole(name: str, value: Any, low: int) -> int:
    """Check an integer argument, which may be one of NumPy's."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or isinstance(value, bool):
        raise ConfigError(f"{name} must be an integer >= {low}; got {value!r}.")
    return number


def check_kinds(head: Any, training: Any, augment: Any) -> None:
    """Raise `ConfigError` unless the three are a `Head`, a `Training`, and an augmentation or None."""
    if not isinstance(head, Head):
        raise ConfigError(f"head must be a vggft.Head, such as Head(units=(256,)); got {head!r}.")
    if not isinstance(training, Training):
        raise ConfigError(f"training must be a vggft.Training, such as Training(epochs=20); got {training!r}.")
    if not (augment is None or isinstance(augment, Augment) or callable(augment)):
        raise ConfigError(f"augment must be a vggft.Augment, a function of pixels, or None; got {augment!r}.")
    try:
        keras.activations.get(head.activation)
    except ValueError:
        raise ConfigError(f"Head.activation must be the name of a Keras activation; got {head.activation!r}.") from None


def named(value: Any) -> Any:
    """Convert an argument for JSON: itself if it is simple, else its name or the name of its type."""
    if isinstance(value, Augment):
        return value.to_dict()
    if value is None or isinstance(value, (bool, int, float, str, os.PathLike)):
        return os.fspath(value) if isinstance(value, os.PathLike) else value
    return getattr(value, "__qualname__", type(value).__name__)
