"""KerasTuner's chief and workers: processes on this machine, or those that the environment tells of."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import keras

from ..machines.cluster import ALONE, Cluster, on_this_machine
from ..machines.helpers import environment, gpu_of, running, same_command
from ..machines.strategies import devices_of

P = ParamSpec("P")
T = TypeVar("T")


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


def placed(search: Callable[P, T]) -> Callable[P, T]:
    """Make a process KerasTuner's chief or a worker, in a search whose `strategy` has several processes."""

    @functools.wraps(search)
    def search_in_place(*args: P.args, **kwargs: P.kwargs) -> T:
        strategy = kwargs.get("strategy", "auto")
        cluster = devices_of(strategy).cluster if strategy not in ("auto", "mirrored") else ALONE
        if cluster.size == 1:
            return search(*args, **kwargs)
        name = "chief" if cluster.chief else f"worker{cluster.rank}"
        with environment(_oracle_at(cluster) | {"KERASTUNER_TUNER_ID": name}):
            return search(*args, **kwargs)

    return search_in_place
