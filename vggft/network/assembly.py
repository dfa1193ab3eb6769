"""A classifier's network, built when it is first needed: on images whose features are known, its head is enough."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import keras
import numpy as np

from .blocks import BLOCKS, pooling_layer
from .description import Description, build
from .forward import between
from .freezing import assign_weights, block_digests, digest_of
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
        self.handed_out = ""  # the digest of all weights, once somebody may change the model
        self.lock = threading.RLock()  # several threads may be the first to need a part
        self._model: keras.Model | None = None
        self._digests: dict[str, str] = {}
        self._rests: dict[str, keras.Model] = {}
        self._seeing: dict[tuple[str | None, tuple[str, ...]], keras.Model] = {}
        self._halves: dict[tuple[str, str | None], tuple[keras.Model, keras.Model]] = {}

    @classmethod
    def of(cls, model: keras.Model, description: Description) -> Network:
        """Return the network that a model is."""
        network = cls.__new__(cls)
        network.lock = threading.RLock()
        network.description, network.learned, network.handed_out = description, {}, ""
        network._model, network._digests, network._rests, network._halves = model, {}, {}, {}
        network._seeing = {}
        return network

    @property
    def is_built(self) -> bool:
        """Whether the whole network has been needed yet."""
        return self._model is not None

    @property
    def model(self) -> keras.Model:
        """The whole network in float32: (B, H, W, 3) RGB 0..255 -> (B, num_classes) probabilities."""
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

    def hand_out(self) -> keras.Model:
        """Return the model to somebody who may change its weights."""
        self.handed_out = self.handed_out or self.digest()
        return self.model

    def digest(self) -> str:
        """Return the SHA-256 of all weights as they are now."""
        return digest_of(self.model.get_weights())

    def has_changed(self) -> bool:
        """Whether the model has been handed out, and its weights are others since."""
        return bool(self.handed_out) and self.handed_out != self.digest()

    def settle(self) -> None:
        """Take the weights as they are now for those that everything else is known of."""
        if self.handed_out:
            self.handed_out, self._digests = self.digest(), {}

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

    def seeing(self, cut: str | None, blocks: tuple[str, ...]) -> keras.Model:
        """The part from after `cut` (None: pixels) to the probabilities and, as a second output, averages of blocks.

        Args:
            blocks: at or after the cut; their average-pooled outputs are side by side, (B, C).
        """
        with self.lock:
            if (cut, blocks) not in self._seeing:
                model = self.model
                start = model.input if cut is None else model.get_layer(cut).output
                averages = [keras.ops.mean(model.get_layer(f"{block}_pool").output, axis=(1, 2)) for block in blocks]
                beside = averages[0] if len(averages) == 1 else keras.ops.concatenate(averages, axis=1)
                self._seeing[cut, blocks] = keras.Model(start, [model.get_layer("predictions").output, beside])
            return self._seeing[cut, blocks]

    def halves(self, block: str, cut: str | None = None) -> tuple[keras.Model, keras.Model]:
        """Return the part from `cut` (None: pixels) to the feature maps of a block, and from there to the logits.

        The first also gives the pooled outputs of earlier blocks, if the head sees them, and the second takes them.
        They are built once and kept: Keras stores every model built from a layer in that layer, so building them for
        each explanation would let a server grow without limit.
        """
        with self.lock:
            if (block, cut) not in self._halves:
                layer = [each.name for each in self.model.layers if each.name.startswith(f"{block}_conv")][-1]
                head = self.description.head
                seen = [pooling_layer(head.pooling, (each,)) for each in head.blocks or () if each < block]
                parts = between(self.model, cut, [layer, *seen]), between(self.model, [layer, *seen], "logits")
                self._halves[block, cut] = parts
            return self._halves[block, cut]

    def divide_logits(self, temperature: float) -> None:
        """Divide the logits by a temperature, permanently; see `head.divide_logits`."""
        for name in ("logits/0", "logits/1"):
            if name in self.learned:
                self.learned[name] = self.learned[name] / temperature
        if self._model is not None:
            divide_logits(self._model, temperature)
        else:
            self._rests = {}
