"""Whether a run of layers is a chain of convolutions with ReLU and of maximum poolings, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .layers import Layer

CONVOLUTION, POOLING = "convolution", "pooling"

# Settings that such layers have, and layers that change nothing between them when the network predicts.
USUAL: dict[str, Mapping[str, Any]] = {
    "Conv2D": {"padding": "same", "activation": "relu", "strides": 1, "dilation_rate": 1, "groups": 1},
    "MaxPooling2D": {"pool_size": 2, "strides": 2},
    "Activation": {"activation": "relu"},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
}
WITHOUT_EFFECT = ("ZeroPadding2D", "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "InputLayer")


def what_is_odd(layers: Sequence[Layer], steps: Sequence[str]) -> str | None:
    """Say in words what some layers do besides the expected steps, as far as it is known; None for nothing.

    Args:
        layers: from the first convolution to the last.
        steps: what they should do, `CONVOLUTION` or `POOLING` each.
    """
    for layer in layers:
        if layer.normalizes:
            return f"between them is batch normalisation ({layer.name})"
        if layer.is_convolution and layer.bias is None:
            return f"{layer.name} has no bias"
    if not all(layer.kind for layer in layers):  # only weights are known
        return None
    for n, layer in enumerate(layers):
        if layer.kind not in USUAL and layer.kind not in WITHOUT_EFFECT:
            return f"between them is the layer {layer.name} ({layer.kind})"
        excused = _excused(layer, layers[max(0, n - 1) : n], layers[n + 1 : n + 2])
        for key, usual in USUAL.get(layer.kind, {}).items():
            if key not in excused and not _is(layer.settings.get(key, usual), usual):
                return f"{layer.name} has {key}={layer.settings[key]!r}"
    kinds = {"Conv2D": CONVOLUTION, "MaxPooling2D": POOLING}
    done = [kinds[layer.kind] for layer in layers if layer.kind in kinds]
    return None if done == list(steps) else "its poolings are at other places"


def _excused(layer: Layer, before: Sequence[Layer], after: Sequence[Layer]) -> set[str]:
    """Return settings of a convolution that layers next to it make good."""
    excused = set()
    if layer.is_convolution and (layer.kernel.shape[0] == 1 or any(each.kind == "ZeroPadding2D" for each in before)):
        excused.add("padding")
    if layer.settings.get("activation") == "linear" and any(each.kind in ("Activation", "ReLU") for each in after):
        excused.add("activation")
    return excused


def _is(value: Any, usual: Any) -> bool:
    """Whether a setting has its usual value; sizes may be one number or several."""
    return all(each == usual for each in (value if isinstance(value, (list, tuple)) else (value,)))
