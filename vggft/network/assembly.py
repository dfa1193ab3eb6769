"""A classifier's network, built when it is first needed: on images whose features are known, its head is enough."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import keras
import numpy as np

from .blocks import BLOCKS
from .description import Description, build
from .forward import between
from .freezing import assign_weights, block_digests
from .head import divide_logits, head_model
from .weights import Pretrained


class Network:
    """The network of a classifier: pretrained blocks with learned weights, or a model that exists already.

    Args:
        description: architecture and classes.
        pretrained: weights of the blocks.
        learned: the other weights, as `freezing.learned_weights` returns them.
    """

    def __init__(self, description: Description, pretrained: Pretrained, learned: Mapping[str, np.ndarray]):
        self.description, self.pretrained, self.learned = description, pretrained, dict(learned)
        self.handed_out = False  # whether somebody may have changed the model
        self.lock = threading.RLock()  # several threads may be the first to need a part
        self._model: keras.Model | None = None
        self._digests: dict[str, str] = {}
        self._rests: dict[str, keras.Model] = {}

    @classmethod
    def of(cls, model: keras.Model, description: Description) -> Network:
        """Return the network that a model is."""
        network = cls.__new__(cls)
        network.lock = threading.RLock()
        network.description, network.learned, network.handed_out = description, {}, False
        network._model, network._digests, network._rests = model, {}, {}
        return network

    @property
    def is_built(self) -> bool:
        """Whether the whole network has been needed yet."""
        return self._model is not None

    @property
    def model(self) -> keras.Model:
        """The whole network in float32: (B, S, S, 3) RGB 0..255 -> (B, num_classes) probabilities."""
        with self.lock:
            if self._model is None:
                model = build(self.description)
                self.pretrained.assign(model)
                assign_weights(model, self.learned)
                self._model, self._rests = model, {}  # from now on, the parts share the weights of the whole
            return self._model

    @property
    def learned_blocks(self) -> set[str]:
        """The blocks whose weights are among the learned ones."""
        return {name.split("_")[0] for name in self.learned} & set(BLOCKS)

    def block_digests(self) -> dict[str, str]:
        """Return the SHA-256 of the weights of every block, computed once."""
        if not self._digests:
            if self._model is not None:
                self._digests = block_digests(self._model)
            else:
                self._digests = block_digests(self.model) if self.learned_blocks else self.pretrained.block_digests
        return self._digests

    def has_changed(self) -> bool:
        """Whether the model has been handed out and changed since; the digests are then forgotten."""
        if not self.handed_out or block_digests(self.model) == self._digests:
            return False
        self._digests = {}
        return True

    def rest(self, cut: str) -> keras.Model:
        """Return the part from after the layer `cut` to the probabilities; from a pooled cut, the head alone."""
        with self.lock:
            if cut not in self._rests:
                if self._model is None and cut == self.description.pooled:
                    weights = {name: array for name, array in self.learned.items() if not name.startswith("block")}
                    about = self.description
                    rest = head_model(about.sizes, about.head, len(about.class_names), multi_label=about.multi_label)
                    assign_weights(rest, weights)
                else:
                    rest = between(self.model, cut, "predictions")
                self._rests[cut] = rest
            return self._rests[cut]

    def divide_logits(self, temperature: float) -> None:
        """Divide the logits by a temperature, permanently; see `head.divide_logits`."""
        for name in ("logits/0", "logits/1"):
            if name in self.learned:
                self.learned[name] = self.learned[name] / temperature
        if self._model is not None:
            divide_logits(self._model, temperature)
        else:
            self._rests = {}
