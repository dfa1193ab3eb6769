"""A trained classifier that another training starts from: its blocks, its head, and what it knows about images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Head
from ..errors import ConfigError
from ..pictures.reading import Reading, reading_of, size_text
from ..splits.splitting import Known
from ..weightfiles.presets import ALIASES
from .assembly import Network
from .blocks import BLOCKS
from .description import Description
from .freezing import learned_weights
from .weights import Pretrained, convolutions


@dataclass(frozen=True, eq=False)
class Start:
    """What a run takes from the classifier that it starts from.

    Args:
        name: where the classifier comes from, for messages and `environment.json`: its path, or its type.
        description: its architecture and its classes.
        pretrained: its blocks. They bear the name of the backbone that they come from, and where they are equal to it,
            their features in the cache are found, as these are keyed by the weights of the blocks too.
        head: the weights of its head, by layer and number: `{"fc1/0": kernel, ...}`.
        splits: digest of every image that it knows -> `"train"`, `"validation"` or `"test"`.
    """

    name: str
    description: Description
    pretrained: Pretrained
    head: Mapping[str, np.ndarray]
    splits: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, network: Network, description: Description, splits: Mapping[str, str]) -> Start:
        """Take what is needed out of a network."""
        if not network.is_built and not network.learned_blocks:
            pretrained = replace(network.pretrained, image_size=description.image_size)
            return cls(name, description, pretrained, network.learned, splits)
        about = description.backbone, convolutions(network.model), description.column, description.width
        pretrained = Pretrained(*about, image_size=description.image_size)
        return cls(name, description, pretrained, learned_weights(network.model, BLOCKS), splits)

    @property
    def known(self) -> Known:
        """What it fixes about the data."""
        return Known(self.description.class_names, self.description.multi_label, self.splits)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its weights and class names."""
        digest = hashlib.sha256(json.dumps([self.description.class_names, self.pretrained.block_digests]).encode())
        for name in sorted(self.head):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.head[name], "float32").tobytes())
        return digest.hexdigest()

    def check(self, backbone: Any, image_size: Any, **others: Any) -> Reading:
        """Return how it reads pictures; raise `ConfigError` if a run asks for another backbone or another reading.

        Args:
            backbone, image_size: as asked for; None asks for nothing.
            others: resize, value_range and bands as asked for; their defaults ask for nothing.
        """
        mine = self.description
        if backbone is not None and ALIASES.get(str(backbone).lower(), Path(str(backbone)).name) != mine.backbone:
            raise ConfigError(
                f"backbone={str(backbone)!r} contradicts start: {self.name} has blocks of its own, from "
                f"{mine.backbone}. Leave out one of the two."
            )
        asked, reading = reading_of(mine.size if image_size is None else image_size, **others), mine.reading
        if asked.size != reading.size:
            raise ConfigError(
                f"image_size={image_size!r} contradicts start: {self.name} is for {size_text(mine.image_size)}. "
                "Leave out one of the two."
            )
        for name in ("resize", "value_range", "bands"):
            wanted, has = getattr(asked, name), getattr(reading, name)
            if wanted not in (has, "squash", None):
                raise ConfigError(
                    f"{name}={wanted!r} contradicts start: that of {self.name} is {has!r}. Leave out one of the two."
                )
        return replace(reading, trained=False)

    def fits(self, head: Head) -> bool:
        """Whether a head has the same layers, so that it can begin with these weights; dropout and l2 may differ."""
        mine = self.description.head
        return replace(head, dropout=mine.dropout, l2=mine.l2) == mine

    def competes(self, head: Head, class_names: tuple[str, ...]) -> bool:
        """Whether its own head can be the best one: for the same layers and classes."""
        return self.fits(head) and class_names == self.description.class_names

    def weights(self, head: Head, num_classes: int) -> dict[str, np.ndarray] | None:
        """Return the weights that a head begins with, by layer and number; None if it has other layers.

        The columns of the old classes are as they were. A new class begins as the mean of the old ones: its logit is
        never the largest, so at first no prediction of an old class changes.

        Args:
            num_classes: number of old and new classes.
        """
        if not self.fits(head):
            return None
        more = num_classes - len(self.description.class_names)
        kernel, bias = self.head["logits/0"], self.head["logits/1"]
        return {
            **self.head,
            "logits/0": np.concatenate([kernel, np.repeat(kernel.mean(axis=1, keepdims=True), more, axis=1)], axis=1),
            "logits/1": np.concatenate([bias, np.repeat(bias.mean(), more)]),
        }
