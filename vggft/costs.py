"""Estimate what a run will cost before it starts: passes, disk, memory and minutes, from a short measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .features.cuts import cut_of, is_pooled
from .features.extract import Pass
from .features.layers import Layer, layers_of
from .heads.population import why_alone
from .heads.probe import is_exact
from .heads.stacked import is_compiled
from .network.blocks import BLOCKS
from .network.forward import rows_at_once
from .network.precision import MEASURED_BLOCKS
from .telling.display import bytes_text
from .training.experiment import Experiment
from .training.phases import ResolvedPhase, Setting
from .training.train import MOST_STEPS

SECONDS_A_STEP = 0.004  # overhead of Python in Keras's `fit`, whatever the network
DIRECT_STEP = 0.0006  # the same of a head that is trained directly
TRACING = (
    2.5  # seconds until a network with blocks is built and traced, its first epoch compiled, and its best one kept
)
COMPILING, TRACING_HEAD = 2.0, 0.7  # the same of a head alone, by XLA for many steps, and without it for few
SOLVING = 3e-7, 0.1  # seconds of a probe for each value of the features and class, at most, and besides
AGAIN = 0.25  # the share of this that a probe takes whose settings were chosen before
FIRST_BATCH = 0.8  # seconds until a network of frozen blocks is built and has traced its batches
CLEARING = 0.5  # seconds after a trial that was trained alone until the memory of what Keras built for it is free
PROPOSING = 0.4  # seconds of Bayesian optimization for each trial that it proposes and hyperparameter
JUDGING = 1.5, 1e-7  # seconds to evaluate, save, reload and compare, and for each weight
FINISHING = 8.0  # seconds that a time limit leaves for that, besides those of the images
RUNTIME = 700 * 2**20  # bytes that TensorFlow, Keras and other libraries take before any image is read
TEMPORARY = 3  # arrays of the size of the largest layer that exist at once in a forward pass


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a run; `str` describes it.

    Args:
        images: number of images in each split.
        passes: number of passes of images through the frozen prefix, without those whose features are in the cache.
        views: number of images in these passes, counting every view.
        bytes_on_disk: size of the frozen features that will be written.
        bytes_in_cache: size of the frozen features that are in the cache already.
        peak_memory: approximate peak memory in bytes.
        feature_seconds: time of the passes.
        training_seconds: time of training at most, as early stopping makes it shorter, and of evaluating and saving.
    """

    images: dict[str, int]
    passes: int
    views: int
    bytes_on_disk: int
    bytes_in_cache: int
    peak_memory: int
    feature_seconds: float
    training_seconds: float

    @property
    def minutes(self) -> float:
        """The time of the whole run at most, from when the images have been read."""
        return (self.feature_seconds + self.training_seconds) / 60

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self) | {"minutes": self.minutes}

    def __str__(self) -> str:
        if self.passes:
            times = "one pass" if self.passes == 1 else f"{self.passes} passes"
            features = (
                f"frozen features of {self.views} images in {times}, {_seconds(self.feature_seconds)} "
                f"and {bytes_text(self.bytes_on_disk)} on disk"
            )
        elif self.bytes_in_cache:
            features = f"all frozen features are in the cache ({bytes_text(self.bytes_in_cache)})"
        else:
            features = "no frozen features"
        return (
            f"Estimate: {features}; training and evaluation at most {_seconds(self.training_seconds)}; "
            f"about {bytes_text(self.peak_memory)} of memory."
        )


def estimate_run(
    experiment: Experiment,
    setting: Setting,
    planned: Sequence[Pass],
    *,
    probes: int = 0,
    folds: int = 1,
    refits: bool = False,
    trainings: int = 1,
) -> Estimate:
    """Estimate the cost of training one setting, whose `training` is resolved.

    Args:
        probes: number of linear probes that are compared; 0 for a head that is trained by epochs.
        folds: number of folds on which they are compared.
        refits: whether the setting is trained again, with the validation images besides.
        trainings: how often all of this is done, for a cross-validation.
    """
    work = Work(experiment, setting)
    return estimated(work, planned, trainings * work.training(probes, folds, refits))


def epoch_seconds(experiment: Experiment, setting: Setting) -> float:
    """Estimate the seconds of an epoch of the last phase of a setting, whose `training` is resolved."""
    work = Work(experiment, setting)
    return work.epochs(work.phases[-1], work.images["train"], work.images["validation"]) / work.phases[-1].epochs


def finish_seconds(experiment: Experiment, setting: Setting) -> float:
    """Estimate the seconds from the end of training to the saved and checked file."""
    work = Work(experiment, setting)
    judged = sum(number for split, number in work.images.items() if split != "train")
    return FINISHING + judged * work.forward(work.phases[-1].cut(setting.head), "logits")


def estimate_search(
    experiment: Experiment, settings: Sequence[Setting], planned: Sequence[Pass], trainings: int, proposals: int = 0
) -> Estimate:
    """Estimate the cost of a search, as if each head were trained alone; a winner may be trained once more.

    Args:
        settings: those of some trials, whose `training` is resolved; others are assumed to be like them.
        planned: the passes that give the features of all of them.
        trainings: number of trainings: trials times folds and repeats.
        proposals: number of trials that Bayesian optimization proposes, times hyperparameters.
    """
    works = [Work(experiment, setting) for setting in settings]
    each = sum(work.trial() for work in works) / len(works)
    widest = max(works, key=lambda work: work.memory())
    return estimated(widest, planned, (trainings + 1) * each + widest.crowding * PROPOSING * proposals)


def estimated(work: Work, planned: Sequence[Pass], training_seconds: float) -> Estimate:
    """Return the cost of some work, with the time of its training."""
    cache = work.experiment.cache
    missing = [{cut: cache.missing(kind, each.digests) for cut, kind in each.kinds.items()} for each in planned]
    to_compute = [len(np.unique(np.concatenate(list(of_cuts.values())))) for of_cuts in missing]
    to_write, all_bytes = 0, 0
    for each, of_cuts in zip(planned, missing, strict=True):
        to_write += sum(each.kinds[cut].row_bytes * len(rows) for cut, rows in of_cuts.items())
        all_bytes += sum(kind.row_bytes for kind in each.kinds.values()) * len(set(each.digests))
    return Estimate(
        images=work.images,
        passes=sum(count > 0 for count in to_compute),
        views=sum(to_compute),
        bytes_on_disk=to_write,
        bytes_in_cache=all_bytes - to_write,
        peak_memory=work.memory(),
        feature_seconds=work.crowding * FIRST_BATCH * any(to_compute)
        + sum(
            count * work.forward(None, list(each.kinds)[-1]) for each, count in zip(planned, to_compute, strict=True)
        ),
        training_seconds=training_seconds + work.judging(),
    )


class Work:
    """Time per image of the parts of a network on this machine, as crowded as it is now, and their memory."""

    def __init__(self, experiment: Experiment, setting: Setting, images: Mapping[str, int] | None = None):
        self.experiment, self.setting, self.crowding = experiment, setting, experiment.crowding
        self.phases, self.learning = experiment.phases(setting), [b for b in BLOCKS if b not in setting.frozen]
        self.images = dict(images or {split: len(rows) for split, rows in experiment.pool.rows.items()})
        pretrained, num_classes = experiment.pretrained, len(experiment.pool.class_names)
        self.layers = layers_of(pretrained.column, pretrained.width, experiment.image_size, setting.head, num_classes)
        self.names = [layer.name for layer in self.layers]
        measured = sum(layer.products for layer in self._part(None, f"block{MEASURED_BLOCKS}_pool"))
        seconds = experiment.seconds.get(experiment.precision, experiment.seconds["float32"])
        self.rate = (
            self.crowding * seconds / measured / (3 if self.learning else 1)
        )  # a step of training is three passes

    @property
    def features(self) -> int:
        """The number of features of an image that the head sees."""
        return self.layers[self.names.index("standardize")].size

    def _part(self, first: str | None, last: str) -> list[Layer]:
        start = 0 if first is None else self.names.index(first) + 1
        return self.layers[start : self.names.index(last) + 1]

    def forward(self, first: str | None, last: str) -> float:
        """Return the seconds per image from after the layer `first` up to and including the layer `last`."""
        last = "block5_pool" if is_pooled(last) else last  # the head's pooling may be another one
        return self.rate * sum(layer.products for layer in self._part(first, last))

    def _before_learning(self, phase: ResolvedPhase) -> str | None:
        """Return the layer before the first one that is trained in a phase."""
        learning = [BLOCKS.index(block) for block in BLOCKS if block not in phase.freeze]
        if not learning:
            return cut_of(BLOCKS, self.setting.head)
        return f"{BLOCKS[learning[0] - 1]}_pool" if learning[0] else None

    def epochs(self, phase: ResolvedPhase, train: int, validation: int, workers: int = 1) -> float:
        """Estimate the seconds of the epochs of a phase, without early stopping, on so many images."""
        forward = self.forward(phase.cut(self.setting.head), "logits")
        backward = 2 * self.forward(self._before_learning(phase), "logits")
        steps = -(-train // (self.setting.training.batch_size or 32))
        step = self.crowding * (DIRECT_STEP if self._is_direct(phase, steps) else SECONDS_A_STEP)
        return phase.epochs * ((train * (forward + backward) + validation * forward) / workers + steps * step)

    def _is_direct(self, phase: ResolvedPhase, steps: int) -> bool:
        """Whether a phase trains a head without Keras's `fit`."""
        first = phase is self.phases[0] and phase.cut(self.setting.head) is not None
        few = phase.epochs * steps <= MOST_STEPS
        return first and few and not why_alone(self.setting.head, self.setting.training)

    def _phase(self, phase: ResolvedPhase, train: int, validation: int, workers: int = 1) -> float:
        """Estimate the seconds of a phase, from building its network to its best weights."""
        steps = -(-train // (self.setting.training.batch_size or 32))
        before = TRACING
        if self._is_direct(phase, steps):
            before = COMPILING if is_compiled(phase.epochs * steps) else TRACING_HEAD
        return self.crowding * before + self.epochs(phase, train, validation, workers)

    def _solved(self, train: int) -> float:
        """Estimate the seconds of solving one linear probe exactly."""
        features = self.features
        images = train * (getattr(self.experiment.prefix.augment, "views", None) or 1)
        return self.crowding * (SOLVING[0] * images * min(images, features) * self.layers[-1].size + SOLVING[1])

    def training(self, probes: int = 0, folds: int = 1, refits: bool = False) -> float:
        """Return the seconds for all epochs and probes; see `estimate_run`."""
        return self.heads(probes, folds, refits) + self.blocks(refits)

    def heads(self, probes: int, folds: int, refits: bool) -> float:
        """Return the seconds for all probes, or for the epochs of phases that train a head alone."""
        train, held = self.images["train"], self.images["validation"]
        if probes:
            again = AGAIN * (refits + (folds > 1)) * self._solved(train + held)
            return probes * folds * self._solved(train) + again
        alone = [phase for phase in self.phases if phase.freeze == BLOCKS]
        return sum(self._phase(phase, *images) for images in self._rounds(refits) for phase in alone)

    def blocks(self, refits: bool, workers: int = 1) -> float:
        """Return the seconds for the epochs of phases that train blocks, in which workers share each batch."""
        learning = [phase for phase in self.phases if phase.freeze != BLOCKS]
        return sum(self._phase(phase, *images, workers) for images in self._rounds(refits) for phase in learning)

    def _rounds(self, refits: bool) -> Sequence[tuple[int, int]]:
        """Return the images that each training learns from, and those that judge it."""
        train, held = self.images["train"], self.images["validation"]
        return ((train, held), (train + held, 0))[: 1 + refits]

    def steps(self, refits: bool) -> Iterator[tuple[ResolvedPhase, int]]:
        """Yield the phases of each training, and their number of steps."""
        for images, _ in self._rounds(refits):
            for phase in self.phases:
                yield phase, phase.epochs * -(-images // (self.setting.training.batch_size or 32))

    def judging(self) -> float:
        """Return the seconds from the end of training to the saved file."""
        judged = sum(number for split, number in self.images.items() if split != "train")
        fixed = JUDGING[0] + JUDGING[1] * sum(layer.weights for layer in self.layers)
        return self.crowding * fixed + judged * self.forward(self.phases[-1].cut(self.setting.head), "logits")

    def trial(self) -> float:
        """Return the seconds for a training of a search."""
        alone = self.learning or why_alone(self.setting.head, self.setting.training)
        exact = is_exact(self.setting.head, self.setting.training)
        return self.training(probes=int(exact)) + self.crowding * CLEARING * bool(alone)

    def memory(self) -> int:
        """Return the bytes at the peak: the runtime, weights, and the activations of one batch."""
        width, batch_size = 4 if self.experiment.precision == "float32" else 2, self.setting.training.batch_size or 32
        largest = max(layer.size for layer in self.layers)
        peak = TEMPORARY * largest * rows_at_once(largest) * width
        if self.learning:
            parts = [self._part(self._before_learning(phase), "logits") for phase in self.phases]
            held = max(sum(layer.size for layer in part) for part in parts)
            peak = max(peak, 2 * held * batch_size * width)
        weights = sum(4 * layer.weights for layer in self.layers)
        return RUNTIME + (4 if self.learning else 2) * weights + peak


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
