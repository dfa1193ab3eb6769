"""What a run computes on: one device, all GPUs of a machine, or several processes, by TensorFlow's strategies."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ..errors import ConfigError
from ..fields import shown
from .cluster import ALONE, STRATEGIES, Cluster, cluster_of
from .mending import mended

NOT_HERE = (
    "strategy must replicate the network (MirroredStrategy, MultiWorkerMirroredStrategy, OneDeviceStrategy); a {name} "
    "places variables elsewhere, which vggft does not support."
)


@dataclass(frozen=True)
class Devices:
    """The devices of this process, and its place among others.

    Args:
        strategy: TensorFlow's, under which networks are built and trained; None for TensorFlow's default.
        cluster: the processes that do this run together.
        given: whether the strategy spans those processes, as one that was given to all of them does.
    """

    strategy: tf.distribute.Strategy | None = None
    cluster: Cluster = ALONE
    given: bool = False

    @property
    def replicas(self) -> int:
        """How many copies of a network compute at once, in all processes together."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    @property
    def local(self) -> int:
        """How many of them are in this process."""
        return self.replicas // (self.cluster.size if self.given else 1)

    @property
    def here(self) -> Devices:
        """The devices on which this process computes by itself."""
        return ONE if self.given else self

    def scope(self) -> AbstractContextManager[Any]:
        """Return the scope in which this process builds what it computes by itself."""
        return self.here.around()

    @contextmanager
    def around(self) -> Iterator[None]:
        """Enter the scope of the strategy, in which all processes that it spans do the same."""
        if self.strategy is None or self.replicas == 1:
            yield
            return
        with self.strategy.scope(), mended(self.strategy):
            yield

    def agree(self, flag: bool) -> bool:
        """Return whether any of the processes says so; all of them have to ask at the same time."""
        if self.strategy is None or not self.given:
            return flag
        return bool(self.strategy.reduce("SUM", tf.constant(float(flag)), axis=None) > 0)

    def told(self, batch_size: int) -> str:
        """Say what computes, for the introduction of a run; empty for one device.

        Args:
            batch_size: of all replicas together.
        """
        count = self.replicas if self.given else self.local * self.cluster.size
        if count < 2:
            return ""
        where = f"{self.cluster.size} processes ({self.cluster.named_by})" if self.cluster.size > 1 else "this machine"
        return f"{count} replicas on {where} share each batch of {batch_size}"


ONE = Devices()


def devices_of(strategy: Any) -> Devices:
    """Return what a run computes on.

    Args:
        strategy: `"auto"`: all GPUs of this machine, if there are several; `"mirrored"`: all GPUs, or all logical
            processors of TensorFlow; `"multiworker"`: the processes that the environment tells of, each with its GPUs;
            or a strategy of TensorFlow.

    Raises:
        ConfigError: it is none of these, or a strategy that places variables elsewhere.
    """
    if strategy == "auto" and len(gpus := tf.config.list_logical_devices("GPU")) > 1:
        return Devices(_mirrored(tuple(gpu.name for gpu in gpus)))
    if strategy == "auto":
        return Devices()
    if strategy == "mirrored":
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Devices(_mirrored(tuple(each.name for each in found)) if len(found) > 1 else None)
    if strategy == "multiworker":
        return Devices(cluster=cluster_of())
    if not isinstance(strategy, tf.distribute.Strategy):
        raise ConfigError(f"strategy must be {STRATEGIES}; got {shown(strategy)}.")
    kinds = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy, tf.distribute.OneDeviceStrategy)
    if not isinstance(strategy, kinds):
        raise ConfigError(NOT_HERE.format(name=type(strategy).__name__))
    resolver = strategy.cluster_resolver
    spec = {} if resolver is None else resolver.cluster_spec().as_dict()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and sum(map(len, spec.values())) > 1:
        return Devices(strategy, cluster_of(), given=True)
    return Devices(strategy)


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Return the one strategy of this process on some devices: two would give their sums of gradients the same keys."""
    return tf.distribute.MirroredStrategy(list(devices))
