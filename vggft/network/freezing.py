"""Set which blocks are trainable, and prove by checksums that frozen blocks did not change and the others did."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from ..errors import FreezeError, WeightsError
from .blocks import BLOCKS


def block_layers(model: keras.Model, block: str) -> list[keras.layers.Layer]:
    """Return the layers of one block."""
    return [layer for layer in model.layers if layer.name.startswith(f"{block}_")]


def set_frozen(model: keras.Model, frozen: Iterable[str]) -> None:
    """Freeze exactly these blocks. Call it before `compile`, which is when Keras collects the trainable weights."""
    held = set(frozen)
    for block in BLOCKS:
        for layer in block_layers(model, block):
            layer.trainable = block not in held


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
    """Check that frozen blocks did not change in training and that all others did.

    Args:
        before, after: digests of the blocks.
        frozen: the frozen blocks.
        learned: whether there was anything to learn: a loss of exactly 0 moves nothing.

    Raises:
        FreezeError: a frozen block changed, or another one did not; the message names the blocks.
    """
    held = set(frozen)
    moved = [block for block in BLOCKS if block in held and before[block] != after[block]]
    stuck = [block for block in BLOCKS if block not in held and before[block] == after[block]]
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
        try:
            layer = model.get_layer(name)
            layer.set_weights([weights[f"{name}/{n}"] for n in range(len(layer.weights))])
        except (KeyError, ValueError) as error:
            raise WeightsError(f"The weights of {name} are not those of this network: {error}.") from error
