"""What all trainings of a run share: arguments, images, pretrained weights, and frozen features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from ..augment import Augment, named
from ..caching.cache import Cache
from ..config import Head, Training
from ..engine import check_undistributed
from ..errors import ConfigError
from ..features.changes import changer, repeats
from ..features.extract import Pass, Prefix, frozen_features, passes
from ..features.views import keys_of
from ..heads.batches import FeatureBank, Transform, weights_by_name
from ..heads.probe import is_exact
from ..listings.integers import as_class_names
from ..machines.crew import Crew
from ..machines.strategies import ONE, Devices
from ..network.assembly import Network
from ..network.blocks import BLOCKS, with_layers
from ..network.description import Description, build
from ..network.freezing import set_frozen
from ..network.head import check_activation
from ..network.precision import choose, crowding, measure, policy
from ..network.start import Start
from ..network.weights import RANDOM, Pretrained, load_pretrained
from ..pictures.reading import ImageSize, plain_size, reading_of
from ..splits.pool import Pool, prepare
from ..telling.progress import Narrator
from ..weightfiles.presets import PRESETS, preset_of
from .phases import ResolvedPhase, Setting, check_names, phases_of
from .request import Augmentation, Request

UNREPEATABLE = (
    "augment changes the same images differently each time, by a randomness of its own; a run with it cannot be "
    "repeated, nor resumed to the same weights"
)

FROZEN_AT_RANDOM = (
    "the blocks have random weights, and frozen ones keep them; freeze='none' (--freeze none) trains all of them"
)


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
        seconds: time per image through the first blocks, for each precision that was measured, if no other program ran.
        cache: where frozen features are kept.
        start: the classifier that training starts from, if any.
        crowding: how many times as long everything takes, as other programs run.
        devices: what computes.
        crew: the processes that train blocks together, if there are several.
    """

    pool: Pool
    prefix: Prefix
    augment: Augmentation
    transform: Transform | None
    seed: int
    why: str
    seconds: dict[str, float]
    cache: Cache
    start: Start | None = None
    crowding: float = 1.0
    devices: Devices = ONE
    crew: Crew | None = None

    @property
    def pretrained(self) -> Pretrained:
        """The weights that the blocks start from."""
        return self.prefix.pretrained

    @property
    def precision(self) -> str:
        """The precision of the arithmetic in the blocks."""
        return self.prefix.precision

    @property
    def image_size(self) -> ImageSize:
        """Height and width of the images in pixels."""
        return self.prefix.image_size

    def phases(self, setting: Setting) -> tuple[ResolvedPhase, ...]:
        """Return the phases in which a setting is trained."""
        keep_start = self.start is not None and self.start.competes(setting.head, self.pool.class_names)
        return phases_of(setting, from_pixels=self.transform is not None, keep_start=keep_start)

    def head_weights(self, head: Head) -> dict[str, np.ndarray] | None:
        """Return the weights that a head begins with, by layer and number; None if it begins afresh."""
        return None if self.start is None else self.start.weights(head, len(self.pool.class_names))

    def cuts(self, settings: Iterable[Setting]) -> list[str]:
        """Return the cuts that trainings of these settings start from, nearest to the input first."""
        found = {phase.cut(setting.head) for setting in settings for phase in self.phases(setting)}
        return sorted((cut for cut in found if cut), key=lambda cut: (not cut.startswith("block"), cut))

    def passes(self, cuts: Sequence[str], viewed: np.ndarray) -> list[Pass]:
        """Plan the passes that give the features at these cuts, with the further views of some rows."""
        return passes(self.prefix, cuts, self.pool.digests, viewed)

    def bank(self, planned: Sequence[Pass], narrator: Narrator) -> FeatureBank:
        """Return the features of these passes; compute what is not in the cache."""
        pool, viewed = self.pool, planned[-1].rows if planned else np.arange(0)
        how: dict[str, Any] = {"cache": self.cache, "narrator": narrator, "scope": self.devices.scope}
        features = frozen_features(self.prefix, planned, pool.pixels, **how)
        width = self.pretrained.width
        return FeatureBank(pool.pixels, pool.targets, features, viewed, self.transform, width, pool.weights)

    def describe(self, setting: Setting) -> Description:
        """Describe the classifier that a setting gives. A block that was ever trained is not frozen in it."""
        held = BLOCKS if self.start is None else self.start.description.frozen
        cut = self.phases(setting)[-1].cut(setting.head)
        return Description.with_reading(
            self.pool.reading,
            class_names=self.pool.class_names,
            column=self.pretrained.column,
            width=self.pretrained.width,
            head=setting.head,
            multi_label=self.pool.multi_label,
            backbone=self.pretrained.name,
            frozen=with_layers((block for block in setting.frozen if block in held), setting.frozen),
            features=() if cut is None else (cut, self.precision, self.prefix.stored_as),
        )

    def network(self, setting: Setting, seed: int) -> keras.Model:
        """Build the network to train: pretrained blocks, the frozen ones not trainable, and a fresh head."""
        model = build(self.describe(setting), seed, policy(self.precision))
        self.pretrained.assign(model)
        set_frozen(model, setting.frozen)
        return model

    def assemble(self, setting: Setting, weights: Mapping[str, np.ndarray]) -> Network:
        """Return the network to evaluate and save, in float32: pretrained blocks and learned weights."""
        return Network(self.describe(setting), self.pretrained, weights)

    def exact_features(self, cut: str, rows: np.ndarray) -> np.ndarray:
        """Return float32 features of a few images, to compare those in the precision in use with."""
        prefix, pool = replace(self.prefix, precision="float32", stored_as="float32", augment=None), self.pool
        planned = passes(prefix, [cut], [pool.digests[row] for row in rows], np.arange(0))
        pixels = np.asarray(pool.pixels[rows])
        features = frozen_features(prefix, planned, pixels, cache=self.cache, narrator=Narrator(0))
        bank = FeatureBank(pixels, pool.targets, features, width=prefix.pretrained.width)
        return np.asarray(bank.inputs(cut))

    @property
    def changes(self) -> dict[str, Any]:
        """What changes the pixels of training images in every epoch, as a `Job` has it; nothing if nothing does."""
        if self.transform is None:
            return {}
        return {"augment": self.augment, "drawn_by": self.seed, "keys": keys_of(self.pool.digests)}

    @property
    def _reading(self) -> dict[str, Any]:
        """How pictures are read, as far as it was asked for."""
        reading, found = self.pool.reading, dict[str, Any]()
        if reading.resize != "squash":
            found["resize"] = reading.resize
        if reading.clips:
            found["value_range"] = list(reading.value_range or ())
        return found | ({} if reading.bands is None else {"bands": list(reading.bands)})

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
            "image_size": plain_size(self.image_size),
            **self._reading,
            "splits": {split: len(rows) for split, rows in self.pool.rows.items()},
            "data_fingerprint": self.pool.fingerprint,
            "seed": self.seed,
            **({} if self.start is None else {"start": self.start.digest}),
            **self.pool.grouping,
        }


def make_experiment(
    request: Request,
    settings: Sequence[Setting],
    *,
    earlier: Mapping[str, Any],
    narrator: Narrator,
    devices: Devices = ONE,
) -> Experiment:
    """Check everything, read the images, and measure the machine for a moment.

    Args:
        settings: the settings that may be trained, one for each choice of frozen blocks.
        earlier: the configuration of the run that is resumed, whose precision is used again; else empty.
        devices: what computes.

    Raises:
        DataError, ConfigError, WeightsError, CacheError: before any training; all problems of the data are listed.
    """
    check_undistributed()
    num_classes, seed, class_names = request.num_classes, request.small_seed, as_class_names(request.class_names)
    augment, precision = request.augment, request.precision
    for setting in settings:
        check_activation(setting.head)
        phases_of(setting)
    asked = {"resize": request.resize, "value_range": request.value_range, "bands": request.bands}
    preset, known, pretrained = None, None, None
    if (start := request.start) is None:
        preset = PRESETS.get(preset_of(request.backbone) or "")  # read after the data, as it may have to be downloaded
        pretrained = None if preset else load_pretrained(request.backbone, seed)
        own = (preset or pretrained).image_size if request.image_size is None else request.image_size  # type: ignore[union-attr]
        reading = reading_of(own, **asked)
    else:
        backbone = None if request.backbone == Request.backbone else request.backbone
        reading = start.check(backbone, request.image_size, **asked)
        pretrained, known = start.pretrained, replace(start.known, anew=begins_anew(start, settings, augment))
    cache, image_size = Cache(), reading.image_size
    pool = prepare(
        request.dataset,
        num_classes,
        validation=request.validation,
        test=request.test,
        group=request.group,
        reading=reading,
        seed=seed,
        on_bad_image=request.on_bad_image,
        class_names=class_names,
        known=known,
        cache=cache,
        narrator=narrator,
    )
    for setting in settings:
        check_classes(setting.training, pool)
    pretrained = pretrained or load_pretrained(request.backbone, seed)
    check_names(settings, pretrained.column)
    if pretrained.name == RANDOM and any(setting.frozen for setting in settings):
        pool = replace(pool, notes=(*pool.notes, FROZEN_AT_RANDOM))
    transform: Transform | None = None
    learning = {block for setting in settings for block in BLOCKS if block not in setting.frozen}
    if augment is not None and ("block1" in learning or getattr(augment, "views", None) is None):
        transform = changer(augment, seed, keys_of(pool.digests))
        if not isinstance(augment, Augment) and not repeats(transform, pool.pixels, pool.targets):
            pool = replace(pool, notes=(*pool.notes, UNREPEATABLE))
    elif isinstance(augment, Augment) and augment.mixes:
        raise ConfigError(
            "Augment.mixup and cutmix mix pixels of different images, anew in every epoch, but with "
            f"views={augment.views} features are computed once, of each image alone: pass views=None (--views none), "
            "for which frozen blocks are computed in every epoch, or train block1 as well, by freeze='none' "
            "(--freeze none)."
        )
    seconds = measure(pretrained.column, pretrained.width, image_size, bool(learning), cache.root / "precision.json")
    stored_as, why = "float32" if precision == "float32" else "float16", "as requested"
    if precision == "auto":
        precision, why = choose(seconds)
        if earlier:
            precision, why = earlier.get("precision", precision), "as the run began"
            stored_as = earlier.get("stored_as", stored_as)
    views = augment if isinstance(augment, Augment) and transform is None else None
    prefix = Prefix(pretrained, image_size, precision, stored_as, views, seed)
    return Experiment(pool, prefix, augment, transform, seed, why, seconds, cache, start, crowding(), devices)


def begins_anew(start: Start, settings: Iterable[Setting], augment: Augmentation) -> bool:
    """Whether training takes no weights from the classifier that it starts from.

    That is so if its blocks are pretrained, and heads are solved exactly, which does not depend on where they begin.
    """
    exact = all(is_exact(setting.head, setting.training) for setting in settings)
    cached = augment is None or getattr(augment, "views", None) is not None
    return start.description.frozen == BLOCKS and exact and cached


def check_classes(training: Training, pool: Pool) -> None:
    """Raise `ConfigError` unless the classes can be weighed and balanced as a training asks."""
    weights, names = training.class_weight, pool.class_names
    for field, given in (("class_weight", weights), ("sampling", training.sampling == "balanced")):
        if pool.multi_label and given:
            raise ConfigError(f"Training.{field} needs one label per image; these images have several.")
    if isinstance(weights, Mapping) and weights_by_name(weights, names) is None:
        unknown, missing = ([name for name in a if name not in set(b)] for a, b in ((weights, names), (names, weights)))
        told = [f"there is no class {', '.join(unknown)}"] if unknown else []
        told += [f"a weight is missing for {', '.join(missing)}"] if missing else []
        raise ConfigError(
            "Training.class_weight must have a weight for every class, by name or by position from 0: "
            f"{'; '.join(told)}. The classes are {', '.join(names)}."
        )
