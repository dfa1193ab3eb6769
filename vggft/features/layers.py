"""The layers of a classifier with their sizes and multiplications, from Table 1; no network is built for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import Head
from ..network.blocks import BLOCKS, COLUMNS, FILTERS, scaled
from ..pictures.reading import ImageSize, check_size
from .cuts import cut_of, shape_of


@dataclass(frozen=True)
class Layer:
    """A layer: size of its output and multiplications, both for one image, and number of weights."""

    name: str
    size: int
    products: int = 0
    weights: int = 0


def layers_of(column: str, width: float, image_size: ImageSize, head: Head, num_classes: int) -> list[Layer]:
    """List the layers of a classifier, in order, computed from Table 1."""
    layers, channels = [], 3
    for n, (block, kernels) in enumerate(zip(BLOCKS, COLUMNS[column], strict=True)):
        pixels, filters = math.prod(side >> n for side in check_size(image_size)), scaled(FILTERS[n], width)
        for k, kernel in enumerate(kernels, start=1):
            weights = kernel**2 * channels * filters
            layers.append(Layer(f"{block}_conv{k}", pixels * filters, pixels * weights, weights + filters))
            channels = filters
        layers.append(Layer(f"{block}_pool", math.prod(shape_of(f"{block}_pool", image_size, width))))
    pooled = cut_of(BLOCKS, head) or ""
    (features,) = shape_of(pooled, image_size, width)
    layers += [Layer(pooled, features), Layer("standardize", features, 0, 2 * features)]
    for n, units in enumerate((*head.units, num_classes), start=1):
        name = "logits" if n > len(head.units) else f"fc{n}"
        layers.append(Layer(name, units, features * units, features * units + units))
        features = units
    return layers
