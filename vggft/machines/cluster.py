"""Which process this is among several that do one run: by TF_CONFIG, as Kubernetes sets it, or by Slurm's variables."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from ..fields import shown

WORDS = ("auto", "mirrored", "multiworker")
STRATEGIES = f"{', '.join(map(repr, WORDS))}, or a tf.distribute.Strategy"
TRAINING = ("chief", "master", "worker")  # the tasks of TF_CONFIG that train, the first of them first
PATIENCE = 1800.0  # seconds that all processes of a run have, to come together
LOOK_EVERY = 0.5  # seconds
FIRST_PORT = 10_000  # of Slurm's tasks, and so many more by the number of the job
PORTS = 20_000


@dataclass(frozen=True)
class Cluster:
    """The processes that do one run, and this one among them.

    Args:
        workers: `host:port` of each, the chief first; empty for this process alone.
        rank: of this process, from 0; the chief's is 0.
        named_by: what has told it, in words.
    """

    workers: tuple[str, ...] = ()
    rank: int = 0
    named_by: str = field(default="", compare=False)

    @property
    def size(self) -> int:
        """The number of processes."""
        return max(1, len(self.workers))

    @property
    def chief(self) -> bool:
        """Whether this process leads: it decides, writes the run directory, and tells."""
        return self.rank == 0

    def name(self, rank: int | None = None) -> str:
        """Name a process for people.

        >>> Cluster(("node1:9000", "node2:9000"), 0).name(1)
        'worker 1 on node2'
        """
        rank = self.rank if rank is None else rank
        host = self.workers[rank].rpartition(":")[0] if self.workers else platform.node()
        return f"worker {rank} on {host}"

    def tf_config(self, rank: int | None = None) -> str:
        """Return the TF_CONFIG of a process."""
        task = {"type": "worker", "index": self.rank if rank is None else rank}
        return json.dumps({"cluster": {"worker": list(self.workers)}, "task": task})


ALONE = Cluster()


def cluster_of() -> Cluster:
    """Return the processes that the environment tells of; `ALONE` if it tells of none.

    TF_CONFIG is what TensorFlow's multi-worker strategies read, and what a TFJob of Kubeflow sets. Without it, the
    variables of a step of Slurm (`srun`) count, as TensorFlow's own resolver understands them.

    Raises:
        ConfigError: the variables contradict themselves.
    """
    if os.environ.get("TF_CONFIG"):
        return by_tf_config(os.environ["TF_CONFIG"])
    if "SLURM_PROCID" in os.environ and "SLURM_STEP_NODELIST" in os.environ:
        return _by_slurm()
    return ALONE


def by_tf_config(text: str) -> Cluster:
    """Return the processes that a TF_CONFIG tells of.

    Raises:
        ConfigError: it is none, this process is not among them, or there are tasks that do not train.

    >>> by_tf_config('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}').name()
    'worker 1 on b'
    """
    try:
        told = json.loads(text)
        jobs, task = told.get("cluster", {}), told.get("task", {})
        places = [(job, n) for job in TRAINING for n, _ in enumerate(jobs.get(job, []))]
        workers = tuple(str(jobs[job][n]) for job, n in places)
        if len(workers) < 2:
            return ALONE
        rank = places.index((str(task["type"]), int(task["index"])))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            'TF_CONFIG must be JSON like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
            f'"index": 0}}}}, with this process among the workers; got {shown(text)} ({error}).'
        ) from None
    if others := sorted(set(jobs) - set(TRAINING)):
        raise ConfigError(
            f"TF_CONFIG has tasks of the kind {', '.join(others)}, which vggft has no use for: all of its processes "
            "are workers, of which the first is the chief."
        )
    return Cluster(workers, rank, "TF_CONFIG")


def _by_slurm() -> Cluster:
    from ..engine import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    try:  # the resolver shares out GPUs as well, which Slurm has done already
        port = FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) % PORTS
        how: dict[str, Any] = {"gpus_per_node": 4096, "gpus_per_task": 1, "auto_set_gpu": False}
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=port, **how)
        workers = tuple(resolver.cluster_spec().as_dict()["worker"])
        rank = range(len(workers)).index(int(os.environ["SLURM_PROCID"]))
    except (RuntimeError, ValueError, KeyError) as error:
        raise ConfigError(
            "The variables of Slurm (SLURM_PROCID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE, "
            f"SLURM_STEP_NUM_TASKS) do not tell which processes there are: {error}. Start them with `srun`."
        ) from error
    return Cluster(workers, rank, "Slurm") if len(workers) > 1 else ALONE


def on_this_machine(count: int) -> Cluster:
    """Return a cluster of so many processes on this machine, with ports that are free now; this one is the chief."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return Cluster(tuple(f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes), 0, "--workers")
    finally:
        for probe in probes:
            probe.close()


def await_run(run_dir: Path) -> None:
    """Wait, in a process that is not the chief, until the chief has begun the run.

    Raises:
        RunError: it has not within half an hour.
    """
    until = time.monotonic() + PATIENCE
    while not (run_dir / "config.json").exists():
        if time.monotonic() > until:
            raise RunError(
                f"No chief has begun a run in {run_dir} within {PATIENCE / 60:.0f} minutes: is it the same run_dir, on "
                "a disk that all processes see, and has the first of them been started?"
            )
        time.sleep(LOOK_EVERY)
