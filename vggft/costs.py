"""What a run will cost, before it: passes, disk, memory and minutes, from a moment's measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .features.extract import Pass
from .network.blocks import BLOCKS
from .network.forward import batch_size_for, between
from .network.precision import MEASURED_BLOCKS
from .training.experiment import Plan

SECONDS_A_STEP = 0.004  # to and from Python, whatever the network
RUNTIME = 700 * 2**20  # bytes that TensorFlow, Keras and the rest take before any image
TEMPORARY = 3  # arrays of the size of the largest layer that live at once in a forward pass


@dataclass(frozen=True)
class Estimate:
    """What a run will cost; `str` puts it in words.

    Args:
        images: how many in each split.
        passes: times that the frozen prefix is computed for a set of images; those in the cache are not counted.
        views: images that go through it, with every view of each.
        bytes_on_disk: of frozen features that are to be written.
        bytes_in_cache: of those that are there already.
        peak_memory: bytes, roughly.
        feature_seconds: for those passes.
        training_seconds: at most; early stopping makes it shorter.
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
        """Of the whole run, at most."""
        return (self.feature_seconds + self.training_seconds) / 60

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"minutes": self.minutes}

    def __str__(self) -> str:
        if self.passes:
            features = (
                f"frozen features of {self.views} images in {_times(self.passes)}, {_seconds(self.feature_seconds)} "
                f"and {_bytes(self.bytes_on_disk)} on disk"
            )
        elif self.bytes_in_cache:
            features = f"all frozen features are in the cache ({_bytes(self.bytes_in_cache)})"
        else:
            features = "no frozen features"
        return (
            f"Estimate: {features}; training at most {_seconds(self.training_seconds)}; "
            f"about {_bytes(self.peak_memory)} of memory."
        )


def make_estimate(plan: Plan) -> Estimate:
    """The estimate of a plan."""
    work = _Work(plan)
    images = {split: len(rows) for split, rows in plan.pool.rows.items()}
    return _estimate(work, plan.planned, work.training(images))


def estimate_search(plans: Sequence[Plan], planned: Sequence[Pass], trainings: int) -> Estimate:
    """The estimate of a search.

    Args:
        plans: one for each choice of what is frozen; they are taken for equally likely.
        planned: the passes that give the features of all of them.
        trainings: how many there are, each trial as often as it is scored.
    """
    works = [_Work(plan) for plan in plans]
    images = {split: len(rows) for split, rows in plans[0].pool.rows.items()}
    each = [work.in_population(images) if not work.plan.learning else work.training(images) for work in works]
    widest = max(works, key=lambda work: work.memory())
    return _estimate(widest, planned, trainings * sum(each) / len(each))


def _estimate(work: _Work, planned: Sequence[Pass], training_seconds: float) -> Estimate:
    pool, cache = work.plan.pool, work.plan.cache
    missing = [(each, [cut for cut, spec in each.specs.items() if not cache.holds(spec)]) for each in planned]
    specs = [spec for each in planned for spec in each.specs.values()]
    to_write = sum(each.specs[cut].num_bytes for each, cuts in missing for cut in cuts)
    return Estimate(
        images={split: len(rows) for split, rows in pool.rows.items()},
        passes=sum(1 for _, cuts in missing if cuts),
        views=sum(len(each.rows) for each, cuts in missing if cuts),
        bytes_on_disk=to_write,
        bytes_in_cache=sum(spec.num_bytes for spec in specs) - to_write,
        peak_memory=work.memory(),
        feature_seconds=sum(len(each.rows) * work.forward(None, cuts[-1]) for each, cuts in missing if cuts),
        training_seconds=training_seconds,
    )


class _Work:
    """Multiplications of a plan's network by the layer, and how long one takes here."""

    def __init__(self, plan: Plan):
        self.plan, model = plan, plan.model
        self.names = [layer.name for layer in model.layers]
        self.sizes = {layer.name: math.prod(layer.output.shape[1:]) for layer in model.layers}
        self.products = {
            layer.name: math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
            for layer in model.layers
            if hasattr(layer, "kernel")
        }
        measured = sum(self.products.get(name, 0) for name in self._layers(None, f"block{MEASURED_BLOCKS}_pool"))
        seconds = plan.seconds.get(plan.precision, plan.seconds["float32"])
        self.rate = seconds / measured / (3 if plan.learning else 1)  # a step of training is three passes

    def _layers(self, first: str | None, last: str) -> list[str]:
        start = 0 if first is None else self.names.index(first) + 1
        return self.names[start : self.names.index(last) + 1]

    def forward(self, first: str | None, last: str) -> float:
        """Seconds that an image takes from behind one layer up to and with another; any pooling is behind block 5."""
        last = last if last in self.names else "block5_pool"
        return self.rate * sum(self.products.get(name, 0) for name in self._layers(first, last))

    def _phase(self, cut: str | None, learns_after: str, epochs: int, images: dict[str, int]) -> float:
        forward, backward = self.forward(cut, "logits"), 2 * self.forward(learns_after, "logits")
        steps = -(-images["train"] // (self.plan.training.batch_size or 32))
        epoch = images["train"] * (forward + backward) + images["validation"] * forward + steps * SECONDS_A_STEP
        return epochs * epoch

    @property
    def _first_learning(self) -> str | None:
        """The layer before the first that learns in the second phase."""
        before = BLOCKS.index(self.plan.learning[0])
        return f"{BLOCKS[before - 1]}_pool" if before else None

    def training(self, images: dict[str, int]) -> float:
        """Seconds of all epochs and of the evaluation."""
        plan, judged = self.plan, sum(number for split, number in images.items() if split != "train")
        pooled = self.names[self.names.index("block5_pool") + 1]
        seconds = self._phase(plan.head_cut, pooled, plan.training.epochs or 1, images)
        cut = plan.head_cut
        if plan.learning:
            cut = plan.blocks_cut
            after = self._first_learning or self.names[0]
            seconds += self._phase(cut, after, plan.training.fine_tune_epochs or 1, images)
        return seconds + judged * self.forward(cut, "predictions")

    def in_population(self, images: dict[str, int]) -> float:
        """Seconds of a head that is trained with others, for which the way to and from Python is no matter."""
        return 3 * (self.plan.training.epochs or 1) * images["train"] * self.forward(self.plan.head_cut, "logits")

    def memory(self) -> int:
        """Bytes at the peak: the runtime, weights, and the activations of one batch."""
        plan, width = self.plan, 4 if self.plan.precision == "float32" else 2
        batch = batch_size_for(between(plan.model, None, "block5_pool"))
        peak = TEMPORARY * max(self.sizes.values()) * batch * width
        if plan.learning:
            held = sum(self.sizes[name] for name in self._layers(self._first_learning, "logits"))
            peak = max(peak, 2 * held * (plan.training.batch_size or 32) * width)
        weights = sum(4 * math.prod(weight.shape) for weight in plan.model.weights)
        return RUNTIME + (4 if plan.learning else 2) * weights + peak


def _times(passes: int) -> str:
    return "one pass" if passes == 1 else f"{passes} passes"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
