"""Set which blocks are trainable, and prove by checksums that frozen blocks did not change and the others did."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from ..errors import FreezeError
from .blocks import BLOCKS


def block_layers(model: keras.Model, block: str) -> list[keras.layers.Layer]:
    """Return the layers of one block."""
    return [layer for layer in model.layers if layer.name.startswith(f"{block}_")]


def set_frozen(model: keras.Model, frozen: Iterable[str]) -> None:
    """Freeze exactly these blocks and convolutions. Call it before `compile`, when Keras collects what to train."""
    held = set(frozen)
    for block in BLOCKS:
        for layer in block_layers(model, block):
            layer.trainable = not held & {block, layer.name}


def layer_digests(model: keras.Model) -> dict[str, str]:
    """Return the SHA-256 of the weights of every convolution by its name."""
    layers = (layer for block in BLOCKS for layer in block_layers(model, block) if layer.weights)
    return {layer.name: digest_of(layer.get_weights()) for layer in layers}


def block_digests(model: keras.Model) -> dict[str, str]:
    """Return the SHA-256 of the weights of every block: equal digests mean equal weights."""
    return {
        block: digest_of(w.numpy() for layer in block_layers(model, block) for w in layer.weights) for block in BLOCKS
    }


def digest_of(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of the bytes of some arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_movement(
    before: Mapping[str, str], after: Mapping[str, str], frozen: Iterable[str], learned: bool = True
) -> None:
    """Check that what is frozen did not change in training, and that all other blocks did.

    Args:
        before, after: of `layer_digests`.
        frozen: the frozen blocks and convolutions.
        learned: whether there was anything to learn: a loss of exactly 0 moves nothing.

    Raises:
        FreezeError: something frozen changed, or a block did not; the message names it.
    """
    held = set(frozen)
    changed = {name for name in before if before[name] != after[name]}
    names = {block: [name for name in before if name.startswith(f"{block}_")] for block in BLOCKS}
    moved = [block for block in BLOCKS if block in held and changed.intersection(names[block])]
    moved += sorted(changed & held)
    free = {block: [name for name in names[block] if name not in held] for block in BLOCKS if block not in held}
    stuck = [block for block, layers in free.items() if layers and not changed.intersection(layers)]
    if moved:
        raise FreezeError(f"{', '.join(moved)} is frozen, but its weights changed during training.")
    if stuck and learned:
        raise FreezeError(
            f"{', '.join(stuck)} is not frozen, but training did not change its weights. "
            "Its learning rate is 0, or no gradient reached it, as when all units of the head are 0 for every image."
        )


def learned_weights(model: keras.Model, frozen: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Return the weights of all layers outside the frozen blocks, by layer and number: `{"fc1/0": kernel, ...}`."""
    held = tuple(f"{block}_" for block in frozen)
    layers = [layer for layer in model.layers if not (held and layer.name.startswith(held))]
    return {f"{layer.name}/{n}": array for layer in layers for n, array in enumerate(layer.get_weights())}


def assign_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Assign the output of `learned_weights` to the layers of those names."""
    for name in dict.fromkeys(key.rsplit("/", 1)[0] for key in weights):
        layer = model.get_layer(name)
        layer.set_weights([weights[f"{name}/{n}"] for n in range(len(layer.weights))])
