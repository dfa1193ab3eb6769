"""The paper's Table 1 as data, and which of its blocks are frozen; needs no Keras.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ConfigError
from ..pictures.reading import ImageSize, check_size

BLOCKS = ("block1", "block2", "block3", "block4", "block5")
FILTERS = (64, 128, 256, 512, 512)
POOLING_LAYERS = {"avg": "avg_pool", "max": "max_pool", "flatten": "flatten"}  # of the head, by `Head.pooling`
HEAD_BLOCKS = BLOCKS[2:]  # of a head, by default: at or near the best on seven sets of pictures, for both presets

# Table 1: the kernel sizes of the convolutions in each of the five blocks, column by column.
COLUMNS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}


def check_architecture(column: str, image_size: ImageSize, width: float) -> tuple[int, int]:
    """Return height and width of the images; raise `ConfigError` unless a network with these arguments can be built."""
    if column not in COLUMNS:
        raise ConfigError(f"column must be one of {', '.join(COLUMNS)}; got {column!r}.")
    size = check_size(image_size)
    if not 0 < width <= 4:
        raise ConfigError(f"width multiplies the numbers of filters and must be in (0, 4]; got {width!r}.")
    return size


def pooling_layer(pooling: str, blocks: Sequence[str] = BLOCKS[-1:]) -> str:
    """Return the name of the layer that gives a head its vector: `avg_pool`, or `block4_block5_avg_pool`.

    Args:
        pooling: as in `Head.pooling`.
        blocks: the blocks whose outputs are pooled, in the order of the network.
    """
    own = POOLING_LAYERS[pooling]
    return own if tuple(blocks) == BLOCKS[-1:] else "_".join((*blocks, own))


def pooled_blocks(layer: str) -> tuple[str, ...]:
    """Return the blocks whose pooled outputs a layer named by `pooling_layer` gives."""
    return tuple(part for part in layer.split("_") if part in BLOCKS) or BLOCKS[-1:]


def sizes_of(blocks: Sequence[str], width: float) -> tuple[int, ...]:
    """Return the number of filters of each of some blocks."""
    return tuple(scaled(FILTERS[BLOCKS.index(block)], width) for block in blocks)


def scaled(filters: int, width: float) -> int:
    """Return the paper's number of filters at another `width`, at least one."""
    return max(1, round(filters * width))


def frozen_blocks(freeze: str | Iterable[str]) -> tuple[str, ...]:
    """Return the blocks that a `freeze` argument names, in the order of the network.

    Args:
        freeze: `"all"`, `"none"`, one block (`"block3"` means through block3), or any collection of blocks
            (exactly these).

    Raises:
        ConfigError: `freeze` is none of these.
    """
    expected = f"'all', 'none', one of {', '.join(BLOCKS)} (through that block), or a collection of blocks"
    if isinstance(freeze, str):
        if freeze in ("all", "none"):
            return BLOCKS if freeze == "all" else ()
        if freeze not in BLOCKS:
            raise ConfigError(f"freeze must be {expected}; got {freeze!r}.")
        return BLOCKS[: BLOCKS.index(freeze) + 1]
    try:
        names = set(freeze)
    except TypeError:
        raise ConfigError(f"freeze must be {expected}; got {freeze!r}.") from None
    if not names <= set(BLOCKS):
        raise ConfigError(f"freeze must be {expected}; got {sorted(map(str, names - set(BLOCKS)))} in the collection.")
    return tuple(block for block in BLOCKS if block in names)


def frozen_prefix(frozen: Iterable[str]) -> tuple[str, ...]:
    """Return the longest run of frozen blocks from the input: the part that needs to be computed only once."""
    held, prefix = set(frozen), []
    for block in BLOCKS:
        if block not in held:
            break
        prefix.append(block)
    return tuple(prefix)
