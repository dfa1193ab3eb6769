"""A layer as a file or a model describes it, in the order in which images pass through."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layer:
    """A layer of a network that somebody made.

    Args:
        name: its name.
        kind: its class in Keras, such as `"Conv2D"`; empty where only weights are known.
        settings: what it was made with, as Keras's JSON has it; empty where only weights are known.
        arrays: its weights, anything with a shape that NumPy converts to an array.
    """

    name: str
    kind: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    arrays: tuple[Any, ...] = ()

    @property
    def kernel(self) -> Any:
        """The only array with more than one dimension; None if there is none, or several."""
        found = [array for array in self.arrays if len(array.shape) > 1]
        return found[0] if len(found) == 1 else None

    @property
    def bias(self) -> Any:
        """The vector beside a kernel, one value for each of its filters or units; None if there is none."""
        found = [array for array in self.arrays if len(array.shape) == 1]
        kernel = self.kernel
        fits = kernel is not None and len(found) == 1 and found[0].shape[0] == kernel.shape[-1]
        return found[0] if fits else None

    @property
    def is_convolution(self) -> bool:
        """Whether the kernel is that of a convolution of images, (height, width, channels, filters)."""
        return self.kernel is not None and len(self.kernel.shape) == 4

    @property
    def is_dense(self) -> bool:
        """Whether this is a dense layer: a kernel (features, units) and a bias."""
        return self.kernel is not None and len(self.kernel.shape) == 2 and self.bias is not None

    @property
    def normalizes(self) -> bool:
        """Whether this is a batch normalisation: four vectors of one length, if only its weights are known."""
        shapes = [tuple(array.shape) for array in self.arrays]
        return self.kind == "BatchNormalization" or (len(shapes) == 4 and len(shapes[0]) == 1 == len(set(shapes)))


def natural(path: str) -> list[list[str | int]]:
    """Return a key that sorts paths as people count.

    >>> sorted(["layers/conv2d_10", "layers/conv2d_2", "layers/conv2d"], key=natural)
    ['layers/conv2d', 'layers/conv2d_2', 'layers/conv2d_10']
    """
    return [
        [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", part)] for part in path.split("/")
    ]


def layers_of_config(config: Any) -> Iterator[Layer]:
    """Yield the layers that Keras's JSON of a model lists, those of nested models in their place; nothing is built."""
    if not isinstance(config, Mapping):
        return
    settings = config.get("config")
    if isinstance(settings, list):  # of a Sequential, by an early Keras
        settings = {"layers": settings}
    if not isinstance(settings, Mapping):
        return
    inside = settings.get("layers")
    if not isinstance(inside, list):
        inside = [settings[name] for name in ("layer", "model", "backbone") if isinstance(settings.get(name), Mapping)]
    if inside:
        for each in inside:
            yield from layers_of_config(each)
    else:
        yield Layer(str(settings.get("name")), str(config.get("class_name")), settings)


def layers_of_model(model: Any) -> Iterator[Layer]:
    """Yield the layers of a model of Keras, those of nested models in their place."""
    inside = getattr(model, "layers", None)
    if inside is None and getattr(model, "layer", None) is not None:  # a wrapper, such as TimeDistributed
        inside = [model.layer]
    for each in inside or ():
        if getattr(each, "layers", None) or getattr(each, "layer", None) is not None:
            yield from layers_of_model(each)
        else:
            yield Layer(each.name, type(each).__name__, _settings(each), tuple(each.weights))


def _settings(layer: Any) -> Mapping[str, Any]:
    try:
        return dict(layer.get_config())
    except Exception:  # a class of the user's own that cannot be saved
        return {}


def in_order(found: Mapping[str, Layer], listed: Sequence[Layer]) -> list[Layer]:
    """Join the weights of layers with what is known about these layers, in the order of the network.

    Args:
        found: layers with weights by their paths in a file; a file does not keep their order.
        listed: all layers in order, without weights, or none if the file does not say.

    Returns:
        The listed layers, with weights where they have some; without a list, those with weights, counted by path.
    """
    by_name = {layer.name: layer for layer in found.values()}
    names = Counter(layer.name for layer in listed)
    if listed and len(by_name) == len(found) and all(names[name] == 1 for name in by_name):
        return [Layer(each.name, each.kind, each.settings, _arrays(by_name.get(each.name))) for each in listed]
    return [found[path] for path in sorted(found, key=natural)]


def _arrays(layer: Layer | None) -> tuple[Any, ...]:
    return () if layer is None else layer.arrays
