"""A process that trains a job together with others, which may die and be started again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..engine import own_settings
from ..errors import RunError, VggftError
from ..features.changes import changer
from ..machines.crew import FOLDER, Crew, Start, follow
from ..machines.helpers import same_host, threads_of
from ..machines.processes import Child, call_of, end_with_parent, tell_parent
from ..machines.strategies import Devices, devices_of
from ..machines.telling import ToParent
from ..network.description import build
from ..network.forward import between
from ..network.freezing import check_movement, layer_digests, set_frozen
from ..network.precision import policy
from ..run import RunDirectory
from ..telling.progress import Narrator
from .fit import fit_phase
from .jobs import Job

LONGEST = 300  # letters of an error of TensorFlow's that are told
PEERS = (  # what TensorFlow raises in a process when another one is gone
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
    tf.errors.FailedPreconditionError,
)


@own_settings()
def train(job: Job, devices: Devices, writes: bool) -> None:
    """Train the phase; what it gives is its resume point.

    Args:
        writes: whether this process writes it.
    """
    phase, examples, run = job.phase, job.examples, RunDirectory(Path(job.run))
    deadline = None if job.seconds is None else time.monotonic() + job.seconds
    if job.augment is not None and job.keys is not None:
        examples = replace(examples, transform=changer(job.augment, job.drawn_by, job.keys))
    with devices.around():
        model = build(job.description, job.seed, policy(job.precision))
        model.set_weights(job.weights)
        set_frozen(model, phase.freeze)
        before = layer_digests(model)
        fit_phase(
            between(model, job.layer, "logits"),
            examples,
            job.validation,
            phase,
            job.training,
            multi_label=job.description.multi_label,
            seed=job.seed,
            run=run,
            narrator=ToParent() if writes else Narrator(0),
            tensorboard=job.tensorboard and writes,
            at_end=lambda rows: check_movement(
                before, layer_digests(model), phase.freeze, learned=any(row["loss"] for row in rows)
            ),
            carried=job.carried,
            class_names=job.description.class_names,
            deadline=deadline,
            devices=devices,
            writes=writes,
        )


def main(file: str) -> None:
    """Train a job in a process of its own, as one of the workers that TF_CONFIG names."""
    end_with_parent()
    try:
        devices = devices_of(tf.distribute.MultiWorkerMirroredStrategy())
        train(Job.read(Path(file)), devices, writes=devices.cluster.chief)
    except Exception as error:
        peer = isinstance(error, PEERS)
        final = isinstance(error, VggftError) or not isinstance(error, tf.errors.OpError)
        first = f"{error}".strip().split("\n")[0]
        told = f"{'lost another worker' if peer else 'failed'}: {type(error).__name__}: {first[:LONGEST]}"
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        tell_parent(told=told, peer=peer, final=final)
        os._exit(1)  # TensorFlow's threads would wait for those of the others
    os._exit(0)


class Inline:
    """A job that is trained in this process, under a strategy that was given: a `Process` that has ended."""

    error: dict[str, Any] | None = None

    def __init__(self, file: Path, devices: Devices):
        self.lines = list[str]()
        try:
            train(Job.read(file), devices, writes=devices.cluster.chief)
        except PEERS as error:
            raise RunError(
                f"{devices.cluster.name()} has lost another worker. With a strategy of your own, all processes have to "
                "be started again: resume=True goes on from the last resume point."
            ) from error

    def code(self) -> int | None:
        """It has ended well."""
        return 0

    def end(self) -> None:
        """It has ended."""


def start_of(devices: Devices, folder: Path) -> Start:
    """Return how this worker begins a job: in a process of its own, or here under a strategy that was given.

    Args:
        folder: of the logs.
    """
    cluster = devices.cluster
    if devices.given:
        return lambda job, on_told: Inline(job, devices)
    own = threads_of(same_host(cluster)) | {"TF_CONFIG": cluster.tf_config(), "TF_CPP_MIN_LOG_LEVEL": "2"}

    def start(job: Path, on_told: Callable[[dict[str, Any]], object]) -> Child:
        command = call_of("vggft.training.worker:main", str(job))
        return Child(command, cluster.name(), folder / f"worker{cluster.rank}.log", own, on_told)

    return start


@contextmanager
def crew_of(devices: Devices, directory: RunDirectory, narrator: Narrator) -> Iterator[Crew | None]:
    """Lead the other workers of a run, in the process of the chief; None in those, and without others."""
    if devices.cluster.size == 1 or not devices.cluster.chief or directory.path is None:
        yield None
        return
    start = start_of(devices, directory.path / FOLDER)
    with Crew(directory.path, devices.cluster, start, narrator) as crew:
        yield crew


def follow_chief(devices: Devices, directory: RunDirectory) -> None:
    """Follow the chief of a run, in another process, until its classifier is there.

    Raises:
        RunError: the chief has failed, with what it said, or is gone.
    """
    assert directory.path is not None
    start = start_of(devices, directory.path / FOLDER)
    follow(directory.path, devices.cluster, start, lambda: directory.finished)
    if not directory.finished:
        raise RunError(f"The chief, {devices.cluster.name(0)}, has ended without a classifier in {directory.path}.")
