"""The arguments of a run, as given."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ..augment import Augment, named
from ..config import Head, Training
from ..listings.integers import as_class_names
from ..network.blocks import BLOCKS, frozen_blocks
from ..network.start import Start
from .phases import Setting

AUTO = "auto"  # of `freeze`: whether blocks learn is found out

Augmentation: TypeAlias = "Augment | Callable[[np.ndarray], np.ndarray] | None"


@dataclass(frozen=True)
class Request:
    """The arguments that `finetune` and `search` share, as given, but `start` is read; `finetune` documents them."""

    dataset: Any
    num_classes: int
    validation: Any = 0.2
    test: Any = None
    backbone: str | os.PathLike[str] = "vgg16_imagenet"
    freeze: str | Iterable[str] = "all"
    head: Head | None = None
    training: Training | None = None
    augment: Augmentation = None
    image_size: int | None = None
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

    def setting(self) -> Setting:
        """Return what is trained, with defaults for everything that was left out."""
        head = self.head or (Head() if self.start is None else self.start.description.head)
        return Setting(BLOCKS if self.freeze == AUTO else frozen_blocks(self.freeze), head, self.training or Training())

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that `config.json` does not hold, for `environment.json`."""
        names = ("dataset", "validation", "test", "backbone", "on_bad_image")
        found = {name: named(getattr(self, name)) for name in names}
        if self.class_names is not None:
            found["class_names"] = list(as_class_names(self.class_names) or ())
        return found if self.start is None else found | {"start": self.start.name}
