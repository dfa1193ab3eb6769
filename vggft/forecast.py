"""What a run would cost with other numbers of images and machines, by what is measured on this one.

The model, which docs/machines.md writes down and compares with measurements:

- Images are read and decoded, and pass through the frozen blocks, in shares: the time is divided by the workers.
- A step of blocks takes each worker its share of a batch, and then all of them a sum of the gradients of all weights
  that learn: a ring sends `2 (n - 1) / n` times their bytes through every worker (arXiv:1802.05799).
- Heads are trained, and the result is evaluated and saved, by the chief alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .costs import FIRST_BATCH, Estimate, Work
from .errors import VggftError, short_traceback
from .features.extract import Pass
from .network.blocks import BLOCKS
from .pictures.arrays import in_threads
from .pictures.files import read_image
from .pictures.reading import check_size
from .telling.display import bytes_text
from .training.experiment import Experiment
from .training.phases import Setting

NETWORK = 1.25e9  # bytes a second between two machines: 10 Gbit/s
LATENCY = 0.0005  # seconds of a message, of which a sum takes 2 (n - 1)
TRIED = 16  # images whose decoding is measured
SOLVER = 8  # bytes of memory for each value that a probe is solved from
STARTING = 8.0  # seconds until the processes of a phase are there and have built their networks


@short_traceback
@dataclass(frozen=True)
class Forecast(Estimate):
    """The estimated cost of a run on several machines like this one; `str` describes it.

    Args:
        workers: number of processes, each on a machine of its own.
        seconds: time by what takes it, the longest first.
        stores: bytes on the disk that all share, by what they are.
    """

    workers: int
    seconds: dict[str, float]
    stores: dict[str, int]

    @property
    def minutes(self) -> float:
        """The time of the whole run at most, with reading the images."""
        return sum(self.seconds.values()) / 60

    @property
    def hours(self) -> float:
        """The same in hours."""
        return self.minutes / 60

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return super().to_dict() | {"hours": self.hours}

    def __str__(self) -> str:
        whole = sum(self.seconds.values())
        parts = [f"{what} {_time(each)} ({each / whole:.0%})" for what, each in self.seconds.items()]
        stores = [f"{bytes_text(size)} of {what}" for what, size in self.stores.items()]
        number = sum(self.images.values())
        machines = "a machine like this one" if self.workers == 1 else f"{self.workers} machines like this one"
        return (
            f"Forecast for {number:,} images on {machines}: at most {_time(whole)}: {'; '.join(parts)}. On the disk "
            f"that all share: {', '.join(stores)}. About {bytes_text(self.peak_memory)} of memory in each."
        )


def forecast(
    experiment: Experiment,
    setting: Setting,
    planned: Sequence[Pass],
    *,
    images: int | None,
    workers: int,
    probes: int = 0,
    folds: int = 1,
    refits: bool = False,
    limit: float | None = None,
    auto: bool = False,
) -> Forecast:
    """Forecast the cost of a run.

    Args:
        setting: what is trained, whose `training` is resolved for so many images.
        planned: the passes over the images that there are.
        images: number of all images, of the kind and in the proportions of those that there are; None for these.
        workers: number of machines, each with one process.
        probes, folds, refits: as for `estimate_run`.
        limit: seconds of the whole run, after which blocks stop learning; None if there is no limit.
        auto: whether blocks will learn for as long as that, if it helps.
    """
    there = {split: len(rows) for split, rows in experiment.pool.rows.items()}
    times = 1.0 if images is None else images / sum(there.values())
    work = Work(experiment, setting, {split: round(times * count) for split, count in there.items()})
    views = sum(len(each.rows) for each in planned) * times
    forward = work.forward(None, list(planned[-1].kinds)[-1]) if planned else 0.0
    pixels = int(np.prod(check_size(experiment.image_size))) * 3
    total = sum(work.images.values())
    seconds = {
        "reading and decoding": total * _decoding(experiment) / workers,
        "frozen features": views * forward / workers + FIRST_BATCH * bool(planned),
        "training of the head": work.heads(probes, folds, refits),
        "training of blocks": work.blocks(refits, workers) + _sums(work, refits, workers),
        "evaluation and saving": work.judging(),
    }
    if limit is not None:
        rest = sum(seconds.values()) - seconds["training of blocks"]
        learning = math.inf if auto else seconds["training of blocks"]
        seconds["training of blocks"] = max(0.0, min(learning, limit - rest))
    each_view = sum(kind.row_bytes for each in planned[:1] for kind in each.kinds.values())
    stores = {"decoded images": total * pixels, "frozen features": round(views * each_view)}
    ordered = dict(sorted(((what, each) for what, each in seconds.items() if each > 0), key=lambda pair: -pair[1]))
    return Forecast(
        images=work.images,
        passes=len(planned),
        views=round(views),
        bytes_on_disk=sum(stores.values()),
        bytes_in_cache=0,
        peak_memory=work.memory() + (SOLVER * work.images["train"] * work.features if probes else 0),
        feature_seconds=seconds["frozen features"],
        training_seconds=sum(seconds.values()) - seconds["frozen features"] - seconds["reading and decoding"],
        workers=workers,
        seconds=ordered,
        stores=stores,
    )


def _sums(work: Work, refits: bool, workers: int) -> float:
    """Return the seconds in which workers add up gradients."""
    if workers == 1:
        return 0.0
    seconds, rounds = 0.0, 2 * (workers - 1)
    for phase, steps in work.steps(refits):
        if len(phase.freeze) < len(BLOCKS):
            size = 4 * sum(layer.weights for layer in work.layers if layer.name[:6] not in phase.freeze)
            seconds += STARTING + steps * (rounds / workers * size / NETWORK + rounds * LATENCY)
    return seconds


def _decoding(experiment: Experiment) -> float:
    """Measure the seconds per image of reading and decoding, by all processors; 0 for images that are no files."""
    pool = experiment.pool
    files = [name for name in pool.names[:: max(1, len(pool.names) // TRIED)] if Path(name).is_file()][:TRIED]
    if not files:
        return 0.0
    begun = time.perf_counter()
    try:
        for _ in in_threads(lambda file: read_image(file, pool.reading.image_size), files):
            pass
    except (VggftError, OSError):  # of a picture that cannot be read
        return 0.0
    return (time.perf_counter() - begun) / len(files)


def _time(seconds: float) -> str:
    """Say how long something takes.

    >>> _time(7200)
    '2.0 h'
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
