"""The arguments of a run, as given, and what can be checked of each before any image is read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np

from ..augment import Augment, named
from ..config import Head, Training
from ..errors import ConfigError
from ..fields import check_count, is_integer, is_number, is_word, shown, unwrapped
from ..listings.integers import as_class_names
from ..machines.cluster import STRATEGIES, WORDS
from ..network.blocks import BLOCKS, frozen_blocks
from ..network.precision import check_precision
from ..network.start import Start
from ..splits.groups import Group, check_group
from .phases import Setting

AUTO = "auto"  # of `freeze`: whether blocks learn is found out
UNITS = {"s": 1, "m": 60, "h": 3600}  # of a time limit, in seconds
MOST_CLASSES = 1_000_000
SEEDS = 2**31 - 2**20  # what every generator takes, and room for the seeds of repeats

Augmentation: TypeAlias = "Augment | Callable[[np.ndarray], np.ndarray] | None"


@dataclass(frozen=True)
class Request:
    """The arguments that `finetune` and `search` share, as given, but `start` is read; `finetune` documents them.

    Raises:
        ConfigError: one of them is of an impossible kind. What depends on the data is checked with these.
    """

    dataset: Any
    num_classes: int | None = None
    validation: Any = 0.2
    test: Any = None
    group: Group | None = None
    backbone: Any = "vgg16_imagenet"
    freeze: str | Iterable[str] = "all"
    head: Head | None = None
    training: Training | None = None
    augment: Augmentation = None
    image_size: Any = None
    resize: str = "squash"
    value_range: Any = None
    bands: Any = None
    precision: str = "auto"
    on_bad_image: Literal["raise", "skip"] = "raise"
    class_names: Sequence[str] | Mapping[str, int] | None = None
    calibrate: bool = False
    tune_thresholds: bool = False
    refit: bool | None = None
    time_limit: float | str | None = None
    run_dir: str | os.PathLike[str] | None = None
    resume: bool = False
    seed: int = 0
    verbose: int = 1
    start: Start | None = None
    strategy: Any = "auto"

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, unwrapped(getattr(self, field.name)))
        for name, holds, expected in RULES:
            if not holds(value := getattr(self, name)):
                raise ConfigError(f"{name} must be {expected}; got {shown(value)}.")
        if self.num_classes is not None:
            check_count("num_classes", self.num_classes, 2, MOST_CLASSES)
        check_group(self.group)
        check_precision(self.precision)
        seconds_of(self.time_limit)
        self.setting()

    @property
    def small_seed(self) -> int:
        """The seed, where it is larger than what all generators take as a number that follows from it."""
        if self.seed < SEEDS:
            return int(self.seed)
        return int.from_bytes(hashlib.sha256(str(self.seed).encode()).digest()[:8], "big") % SEEDS

    def setting(self) -> Setting:
        """Return what is trained, with defaults for everything that was left out."""
        head = self.head
        if head is None:
            head = Head() if self.start is None else self.start.description.head
        auto, training = is_word(self.freeze, (AUTO,)), Training() if self.training is None else self.training
        if auto and not isinstance(training.phases, str):
            raise ConfigError(
                "Training.phases name the blocks of each phase, and freeze='auto' finds out which blocks learn: leave "
                "phases out, or pass 'gradual', or say what freeze is."
            )
        return Setting(BLOCKS if auto else frozen_blocks(self.freeze), head, training)

    def fixed_setting(self, instead: str) -> Setting:
        """Return what is trained, for what does not find out which blocks learn; `instead` says what it takes."""
        if is_word(self.freeze, (AUTO,)):
            raise ConfigError(f"freeze='auto' (--freeze auto) is for finetune; {instead}.")
        return self.setting()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that `config.json` does not hold, for `environment.json`."""
        names = ("dataset", "validation", "test", "backbone", "on_bad_image")
        found = {name: named(getattr(self, name)) for name in names}
        if self.class_names is not None:
            found["class_names"] = list(as_class_names(self.class_names) or ())
        return found if self.start is None else found | {"start": self.start.name}


def seconds_of(time_limit: Any) -> float | None:
    """Return a time limit in seconds: of a number of seconds, or of "90s", "10m", "1.5h".

    >>> seconds_of("1.5h")
    5400.0
    """
    if time_limit is None:
        return None
    if is_number(time_limit) and time_limit > 0:
        return float(time_limit)
    found = re.fullmatch(r"(\d+\.?\d*) ?([smh]?)", time_limit.strip()) if isinstance(time_limit, str) else None
    if not found or not float(found[1]):
        raise ConfigError(
            "time_limit must be a number of seconds, or a time such as '90s', '10m' or '1.5h'; got "
            f"{shown(time_limit)}."
        )
    return float(found[1]) * UNITS[found[2] or "s"]


def is_path(value: Any) -> bool:
    """Whether a value can be the path of a file."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    return isinstance(text, str) and text != "" and "\0" not in text


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_distributed(value: Any) -> bool:
    """Whether a value is a strategy of TensorFlow, which is not imported to tell."""
    return any(base.__module__.startswith("tensorflow.python.distribute") for base in type(value).__mro__)


# The name of an argument, a predicate, and in words what it has to be.
RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "head",
        lambda value: value is None or isinstance(value, Head),
        "a vggft.Head, such as Head(units=(256,)), or None",
    ),
    (
        "training",
        lambda value: value is None or isinstance(value, Training),
        "a vggft.Training, such as Training(epochs=20), or None",
    ),
    (
        "augment",
        lambda value: value is None or isinstance(value, Augment) or (callable(value) and not isinstance(value, type)),
        "a vggft.Augment, a Keras layer, a function of pixels, or None",
    ),
    ("on_bad_image", lambda value: is_word(value, ("raise", "skip")), "'raise' or 'skip'"),
    ("calibrate", _is_switch, "True or False"),
    ("tune_thresholds", _is_switch, "True or False"),
    ("resume", _is_switch, "True or False"),
    ("refit", lambda value: value is None or _is_switch(value), "True, False or None"),
    ("run_dir", lambda value: value is None or is_path(value), "the path of a directory, or None"),
    ("seed", lambda value: is_integer(value) and value >= 0, "an integer >= 0"),
    (
        "strategy",
        lambda value: is_word(value, WORDS) if isinstance(value, str) else _is_distributed(value),
        STRATEGIES,
    ),
    ("verbose", lambda value: isinstance(value, bool) or (is_integer(value) and value >= 0), "0 or 1"),
)
