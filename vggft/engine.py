"""Keras as vggft uses it: on TensorFlow, and with settings of its own whatever those of the program around it.

`from .engine import keras` imports both without the lines that TensorFlow prints.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    import keras as keras

BACKEND = "tensorflow"
OWN = {
    "floatx": "float32",
    "image_data_format": "channels_last",
    "epsilon": 1e-7,
    "max_epochs": None,
    "max_steps_per_epoch": None,
}

# Lines of TensorFlow's C++ code: absl's, such as "I0000 00:00:1795701414.599128   22913 port.cc:153] ...", the one that
# absl begins with, and TensorFlow's older form.
LOG_LINE = re.compile(
    rb"[IWE]\d{4} [\d:.]+ +\d+ \S+:\d+\] |WARNING: All log messages before absl|\d{4}-\d\d-\d\d [\d:.]+: [IWE] "
    rb"|To enable the following instructions: "
)

_lock = threading.Lock()
_lost: list[int] = []  # this process, if it was forked from one in which TensorFlow had run
_found: list[dict[str, Any]] = []  # for each call inside `own_settings`, in all threads: the settings when it came


def check_backend() -> None:
    """Raise `ConfigError` unless Keras runs, or will run, on TensorFlow; it is not imported for that."""
    if "keras" in sys.modules:
        backend = sys.modules["keras"].backend.backend()
    else:
        backend = os.environ.get("KERAS_BACKEND") or _configured()
    if backend != BACKEND:
        raise ConfigError(
            f"vggft needs Keras on TensorFlow, but Keras is set to {backend!r}, by KERAS_BACKEND or keras.json: start "
            "Python with KERAS_BACKEND=tensorflow."
        )


def import_tensorflow() -> None:
    """Import TensorFlow and look for devices without the lines that its C++ code prints before a log level counts.

    They go to the logger `vggft`, at DEBUG. Someone who sets TF_CPP_MIN_LOG_LEVEL to 0 or 1 sees all of them.

    Raises:
        ConfigError: Keras is set to another backend.
    """
    check_backend()
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") in ("0", "1"):
        return
    with quiet_stderr(LOG_LINE):
        import tensorflow as tf

        tf.config.list_physical_devices()  # where CUDA finds no GPU, and says so


def __getattr__(name: str) -> Any:
    if name != "keras":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_tensorflow()
    return import_module("keras")


@contextmanager
def quiet_stderr(what: re.Pattern[bytes] = re.compile(b"")) -> Iterator[None]:
    """Log at DEBUG what C++ code prints to file descriptor 2, instead of showing it, unless an exception is raised.

    Args:
        what: the beginnings of the lines that are not shown.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error, as under pythonw
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        silent = False
        try:
            yield
            silent = True
        finally:
            os.dup2(kept, 2)
            aside.seek(0)
            for line in aside:
                if silent and what.match(line):
                    logging.getLogger("vggft").debug("%s", line.decode(errors="replace").rstrip())
                else:
                    os.write(kept, line)
            os.close(kept)


@contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Silence TensorFlow's advice against rebuilding models, which every seed, split and trial here has to do."""

    def keep(record: logging.LogRecord) -> bool:
        return "tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _configured() -> str:
    """Return the backend that keras.json names, as Keras reads it."""
    try:
        home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        return str(json.loads((home / "keras.json").read_text(encoding="utf-8")).get("backend", BACKEND))
    except (OSError, RuntimeError, ValueError, AttributeError):  # no such file, no home, or no JSON object
        return BACKEND


@contextmanager
def own_settings() -> Iterator[None]:
    """Give Keras vggft's settings inside: float32, channels last, no cap on epochs; also as a decorator.

    What is built inside depends on nothing that the program around set (`keras.config.set_dtype_policy`, `set_floatx`,
    `set_image_data_format`, `set_epsilon`, keras.json ...), and its settings are back afterwards. Calls may be nested,
    and may run in several threads.

    Raises:
        ConfigError: TensorFlow does not execute eagerly, without which Keras cannot train; or this process was forked
            after TensorFlow had run.
    """
    check_not_forked()
    import keras
    from keras import config

    check_backend()
    _check_eager()
    policy = config.dtype_policy()  # of this thread
    with _lock:
        _found.append(_settings())
        _apply(OWN)
    config.set_dtype_policy(keras.dtype_policies.DTypePolicy("float32"))
    try:
        with without_retracing_warnings():
            yield
    finally:
        config.set_dtype_policy(policy)
        with _lock:
            first = _found.pop()
            if not _found:  # the last to leave gives back what the first one found
                _apply(first)


class Summed:
    """A mixin for Keras's optimizers: how gradients are summed over replicas.

    With one replica they are not. TensorFlow never frees a graph in which a `tf.custom_gradient` was called
    (tensorflow/tensorflow#97697, mended after 2.21), and that sum is one: each training would leave its graphs, of some
    megabytes, until the process ends. In the cross-replica context, Keras leaves it out. tests/attacks/leaks.py
    measures what stays.

    With several replicas, Keras clips the part of a gradient that each of them has, before it sums them. Here the sum
    is clipped, which only a private method of Keras has; tests/machines/test_strategies.py compares the two.
    """

    whole_norm: float | None = None  # to which the sum over replicas is clipped

    def build(self, variables: list[Any]) -> None:
        """Make the optimizer's variables, as Keras does."""
        import tensorflow as tf

        super().build(variables)  # type: ignore[misc]
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            self.whole_norm, self.global_clipnorm = getattr(self, "global_clipnorm", None), None

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Update the variables by their gradients, as Keras does."""
        import tensorflow as tf

        replica, update = tf.distribute.get_replica_context(), super().apply  # type: ignore[misc]
        if replica is None or tf.distribute.has_strategy():
            return update(grads, trainable_variables)
        return replica.merge_call(lambda strategy: update(grads, trainable_variables))

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        import tensorflow as tf

        summed = super()._all_reduce_sum_gradients(grads_and_vars)  # type: ignore[misc]
        if self.whole_norm is None:
            return summed
        clipped, _ = tf.clip_by_global_norm([gradient for gradient, _ in summed], self.whole_norm)
        return [(gradient, variable) for gradient, (_, variable) in zip(clipped, summed, strict=True)]


def check_undistributed() -> None:
    """Raise `ConfigError` inside the scope of a `tf.distribute` strategy, where heads cannot be trained."""
    import tensorflow as tf

    if tf.distribute.has_strategy():
        name = type(tf.distribute.get_strategy()).__name__
        raise ConfigError(
            f"vggft enters the scope of a strategy itself, and cannot be called inside that of a {name}: call it "
            "outside of `with strategy.scope()`, and pass strategy=strategy."
        )


def check_not_forked() -> None:
    """Raise `ConfigError` in a process that was forked after TensorFlow had run: there, it would wait for ever.

    A fork has none of the threads of its parent, but their locks.
    """
    if _lost:
        raise ConfigError(
            "This process was forked from one in which TensorFlow had already run, where it cannot run again. Start "
            "processes by multiprocessing.get_context('spawn'), and pass or load the classifier there; or use threads, "
            "which may share one classifier."
        )


def _after_fork() -> None:
    """Notice in a forked process, before anything else, that TensorFlow has run."""
    module = sys.modules.get("tensorflow.python.eager.context")
    if module is not None and getattr(module.context(), "_initialized", True):
        _lost.append(os.getpid())


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)


def _settings() -> dict[str, Any]:
    from keras import config

    return {name: getattr(config, name)() for name in OWN if hasattr(config, name)}


def _apply(settings: dict[str, Any]) -> None:
    from keras import config

    for name, value in settings.items():
        if hasattr(config, f"set_{name}"):  # the caps on epochs came with Keras 3.11
            getattr(config, f"set_{name}")(value)


def _check_eager() -> None:
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise ConfigError(
            "vggft needs TensorFlow's eager execution, which is off here: call it outside of tf.function, and without "
            "tf.compat.v1.disable_eager_execution() or disable_v2_behavior()."
        )
