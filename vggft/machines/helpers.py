"""Processes on this machine that run the same command as this one; one that dies is started again."""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from ..errors import RunError
from .cluster import LOOK_EVERY, Cluster, on_this_machine
from .processes import Child

MOST_STARTS = 4  # of one helper, before the run is given up
PATIENCE = 10.0  # seconds until a helper that does not end is killed


class Helpers:
    """The processes, and a thread that starts those again that die.

    Args:
        command: what all of them run.
        environments: of each, by its name.
        run_dir: beside it each writes `<run_dir>.<name>.log`, as the directory must be empty when a run begins.
    """

    def __init__(self, command: Sequence[str], environments: Mapping[str, Mapping[str, str]], run_dir: Path):
        self.command, self.environments, self.run_dir = list(command), environments, run_dir
        self.starts, self.over = dict.fromkeys(environments, 0), threading.Event()
        self.lost: str | None = None  # one that died too often
        self.children = {name: self._start(name) for name in environments}
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()

    def _start(self, name: str) -> Child:
        self.starts[name] += 1
        return Child(self.command, name, self.log(name), self.environments[name])

    def log(self, name: str) -> Path:
        """Return the file that a helper writes to."""
        return self.run_dir.with_name(f"{self.run_dir.name}.{name}.log")

    def _watch(self) -> None:
        while not self.over.wait(LOOK_EVERY):
            for name, child in self.children.items():
                if child.code() and self.starts[name] < MOST_STARTS:
                    child.end()
                    self.children[name] = self._start(name)
                elif child.code():
                    self.lost = name
                    _thread.interrupt_main()
                    return

    def check(self) -> None:
        """Raise `RunError` if a helper died too often, which has interrupted this process."""
        if self.lost is not None:
            raise RunError(
                f"{self.lost} died {MOST_STARTS} times; {self.log(self.lost)} says why. --resume continues the run."
            )

    def finish(self) -> None:
        """Wait for the helpers to end; `end` kills those that started too late to hear of the end."""
        self.over.set()
        self.watch.join()
        deadline = time.monotonic() + PATIENCE
        while any(child.code() is None for child in self.children.values()) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY / 5)

    def end(self) -> None:
        """Kill the helpers that are still running."""
        self.over.set()
        self.watch.join()  # it would start one again that is killed here
        for child in self.children.values():
            child.end()


@contextmanager
def running(
    command: Sequence[str], own: Mapping[str, str], environments: Mapping[str, Mapping[str, str]], run_dir: Path
) -> Iterator[None]:
    """Run helpers as long as what is inside, and give this process its own part of the environment.

    Raises:
        RunError: a helper died several times.
    """
    with environment(own):
        helpers = Helpers(command, environments, run_dir)
        try:
            yield
            helpers.finish()
        except KeyboardInterrupt:
            helpers.check()
            raise
        finally:
            helpers.end()


@contextmanager
def environment(own: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and give them back their values afterwards."""
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def same_command(run_dir: Path, *more: str) -> list[str]:
    """Return the command line of this process for a helper: with its run directory, and without `--workers N`."""
    kept, skip = list[str](), False
    for argument in sys.argv[1:]:
        if not skip and argument != "--workers" and not argument.startswith("--workers="):
            kept.append(argument)
        skip = argument == "--workers"
    return [sys.executable, "-m", "vggft", *kept, "--run-dir", str(run_dir), *more]


def gpu_of(number: int, count: int) -> dict[str, str]:
    """Return the environment in which a process sees one of so many GPUs; an empty one if there are none."""
    if not count:
        return {}
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    mine = number % count
    return {
        "CUDA_VISIBLE_DEVICES": visible[mine] if mine < len(visible) else str(mine),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


@contextmanager
def with_workers(count: int, run_dir: Path, command: Sequence[str] | None = None) -> Iterator[None]:
    """Make this process the chief of so many workers on this machine, and start the others with the same command.

    If there are GPUs, each worker sees one of them.

    Args:
        count: number of workers, with this one; 1 does nothing.
        run_dir: the run directory.
        command: what the others run; None for `vggft` with the arguments of this process.

    Raises:
        RunError: a worker died several times.
    """
    if count == 1:
        yield
        return
    gpus = len(tf.config.list_physical_devices("GPU"))  # which does not take them, as listing logical ones would
    cluster = on_this_machine(count)
    command = command or same_command(run_dir, "--strategy", "multiworker")
    environments = {
        f"worker{rank}": threads_of(count) | gpu_of(rank, gpus) | {"TF_CONFIG": cluster.tf_config(rank)}
        for rank in range(1, count)
    }
    own = gpu_of(0, gpus) | {"TF_CONFIG": cluster.tf_config(0)}
    with running(command, own, environments, run_dir):
        yield


def threads_of(count: int) -> dict[str, str]:
    """Return the environment in which a process takes its share of the processors, of so many processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"TF_NUM_INTRAOP_THREADS": str(max(1, cores // count))}


def same_host(cluster: Cluster) -> int:
    """Return the number of workers on the host of this one."""
    hosts = [worker.rpartition(":")[0] for worker in cluster.workers]
    return hosts.count(hosts[cluster.rank]) if hosts else 1
