"""KerasTuner's chief and workers: processes on this machine, or those that the environment tells of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras

from ..errors import ConfigError
from ..machines.cluster import Cluster, await_run, on_this_machine
from ..machines.helpers import environment, gpu_of, running, same_command
from ..run import RunDirectory


def is_chief() -> bool:
    """Whether this process only hands out trials to workers, by KerasTuner's environment variables."""
    return _has_chief() and "chief" in os.environ["KERASTUNER_TUNER_ID"]


def is_worker() -> bool:
    """Whether this process gets its trials from a chief."""
    return _has_chief() and not is_chief()


def _has_chief() -> bool:
    return "KERASTUNER_ORACLE_IP" in os.environ and "KERASTUNER_TUNER_ID" in os.environ


@contextmanager
def with_workers(count: int, run_dir: Path, command: Sequence[str] | None = None) -> Iterator[None]:
    """Make this process the chief of a search, and start workers that run the same command.

    A restarted worker gets its trials back, since KerasTuner knows it by its id: none is lost or counted twice.

    Args:
        count: number of workers. If there are GPUs, each worker sees one of them.
        run_dir: the run directory; beside it each worker writes `<run_dir>.worker0.log` and so on.
        command: what a worker runs; None for `vggft` with the arguments of this process.

    Raises:
        RunError: a worker died several times in a row.
    """
    common, gpus = _oracle_at(on_this_machine(1)), len(keras.distribution.list_devices("gpu"))
    names = [f"worker{number}" for number in range(count)]
    environments = {
        name: common | gpu_of(number, gpus) | {"KERASTUNER_TUNER_ID": name} for number, name in enumerate(names)
    }
    with running(command or same_command(run_dir), common | {"KERASTUNER_TUNER_ID": "chief"}, environments, run_dir):
        yield


def _oracle_at(cluster: Cluster) -> dict[str, str]:
    """Return where KerasTuner's oracle serves: at the place of the chief."""
    host, _, port = cluster.workers[0].rpartition(":")
    return {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port}


@contextmanager
def placed(cluster: Cluster) -> Iterator[None]:
    """Make this process KerasTuner's chief or a worker, by its place among the processes of a strategy."""
    if cluster.size == 1:
        yield
        return
    name = "chief" if cluster.chief else f"worker{cluster.rank}"
    with environment(_oracle_at(cluster) | {"KERASTUNER_TUNER_ID": name}):
        yield


def opened(run_dir: str | os.PathLike[str] | None, resume: bool) -> RunDirectory:
    """Open the run directory; in a worker, once the chief has begun the run."""
    if run_dir is None and (is_worker() or is_chief()):
        raise ConfigError("A chief and its workers share a run_dir; got run_dir=None.")
    if run_dir is not None and is_worker():
        await_run(Path(run_dir))
    return RunDirectory.open(run_dir, resume or is_worker(), worker=is_worker())
