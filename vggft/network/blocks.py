"""The paper's Table 1 as data, and which of its blocks are frozen; needs no Keras.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from ..errors import ConfigError
from ..fields import is_number, shown
from ..pictures.reading import ImageSize, check_size

BLOCKS = ("block1", "block2", "block3", "block4", "block5")
Block: TypeAlias = Literal["block1", "block2", "block3", "block4", "block5"]
Layer: TypeAlias = Literal[
    "block1_conv1", "block1_conv2",
    "block2_conv1", "block2_conv2",
    "block3_conv1", "block3_conv2", "block3_conv3", "block3_conv4",
    "block4_conv1", "block4_conv2", "block4_conv3", "block4_conv4",
    "block5_conv1", "block5_conv2", "block5_conv3", "block5_conv4",
]  # fmt: skip
LAYERS: tuple[str, ...] = get_args(Layer)
Freeze: TypeAlias = Block | Layer | Literal["all", "none", "auto"] | Iterable[Block | Layer]  # as `finetune` takes it
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

Shape = tuple[int, ...]


def check_architecture(column: str, image_size: ImageSize, width: float) -> tuple[int, int]:
    """Return height and width of the images; raise `ConfigError` unless a network with these arguments can be built."""
    if not isinstance(column, str) or column not in COLUMNS:
        raise ConfigError(f"column must be one of {', '.join(COLUMNS)}; got {shown(column)}.")
    size = check_size(image_size)
    if not (is_number(width) and 0 < width <= 4):
        raise ConfigError(f"width multiplies the numbers of filters and must be in (0, 4]; got {shown(width)}.")
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
    """Return the blocks whose outputs a layer gives: one named by `pooling_layer`, or the pooling layer of a block."""
    return tuple(part for part in layer.split("_") if part in BLOCKS) or BLOCKS[-1:]


def usual_name(column: str) -> str:
    """Return what a column is usually called, by its convolutions and the three dense layers of the paper's top.

    >>> usual_name("D"), usual_name("E")
    ('VGG16', 'VGG19')
    """
    return f"VGG{sum(map(len, COLUMNS[column])) + 3}"


def sizes_of(blocks: Sequence[str], width: float) -> tuple[int, ...]:
    """Return the number of filters of each of some blocks."""
    return tuple(scaled(FILTERS[BLOCKS.index(block)], width) for block in blocks)


def scaled(filters: int, width: float) -> int:
    """Return the paper's number of filters at another `width`, at least one."""
    return max(1, round(filters * width))


def frozen_blocks(freeze: str | Iterable[str]) -> tuple[str, ...]:
    """Return the blocks that a `freeze` argument names, and convolutions of other blocks, in the order of the network.

    Args:
        freeze: `"all"`, `"none"`, one block (`"block3"` means through block3), one convolution (likewise), or any
            collection of these (exactly these).

    Raises:
        ConfigError: `freeze` is none of these.

    >>> frozen_blocks("block2_conv1")
    ('block1', 'block2_conv1')
    """
    expected = (
        f"'all', 'none', one of {', '.join(BLOCKS)} or a convolution such as 'block5_conv2' (through it), a collection "
        "of these, or in finetune 'auto'"
    )
    if isinstance(freeze, str):
        if freeze in ("all", "none"):
            return BLOCKS if freeze == "all" else ()
        if freeze not in (*BLOCKS, *LAYERS):
            close = difflib.get_close_matches(freeze, ("all", "none", "auto", *BLOCKS, *LAYERS), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"freeze must be {expected}; got {shown(freeze)}.{hint}")
        block = freeze.split("_")[0]
        before = BLOCKS[: BLOCKS.index(block)]
        return (
            (*before, block)
            if freeze == block
            else (*before, *(each for each in convolutions(block) if each <= freeze))
        )
    try:
        names = set() if isinstance(freeze, (Mapping, bytes)) else set(freeze)
        if not names and not isinstance(freeze, (list, tuple, set, frozenset)):
            raise TypeError
    except Exception:  # it cannot be iterated, or what is in it is no name
        raise ConfigError(f"freeze must be {expected}; got {shown(freeze)}.") from None
    if not names <= {*BLOCKS, *LAYERS}:
        raise ConfigError(f"freeze must be {expected}; got {shown(freeze)}.")
    return with_layers([block for block in BLOCKS if block in names], names)


def with_layers(blocks: Iterable[str], frozen: Iterable[str]) -> tuple[str, ...]:
    """Return some frozen blocks, and the convolutions of other blocks that are in `frozen`, in the network's order."""
    blocks, frozen = set(blocks), set(frozen)
    each = (
        (block,) if block in blocks else [name for name in convolutions(block) if name in frozen] for block in BLOCKS
    )
    return tuple(name for names in each for name in names)


def convolutions(block: str) -> list[str]:
    """Return the names of the convolutions that a block may have."""
    return [name for name in LAYERS if name.startswith(f"{block}_")]


def check_frozen(frozen: Iterable[str], column: str) -> None:
    """Raise `ConfigError` if a frozen convolution is not in a column of Table 1, or all of a block are named."""
    there, frozen = kernel_shapes(column, 1.0), set(frozen)
    if missing := [name for name in frozen if name not in BLOCKS and name not in there]:
        block = missing[0].split("_")[0]
        has = [name for name in convolutions(block) if name in there]
        raise ConfigError(f"freeze names {missing[0]}, but {block} of column {column} has only {', '.join(has)}.")
    for block in BLOCKS:
        if block not in frozen and frozen.issuperset(name for name in convolutions(block) if name in there):
            raise ConfigError(f"freeze names every convolution of {block} of column {column}: say {block!r} instead.")


def frozen_prefix(frozen: Iterable[str]) -> tuple[str, ...]:
    """Return the longest run of frozen blocks from the input: the part that needs to be computed only once."""
    held, prefix = set(frozen), []
    for block in BLOCKS:
        if block not in held:
            break
        prefix.append(block)
    return tuple(prefix)


def kernel_shapes(column: str, width: float, channels: int = 3) -> dict[str, Shape]:
    """Return the (height, width, channels, filters) shape of every kernel of a column, `{"block1_conv1": ...}`."""
    shapes: dict[str, Shape] = {}
    for block, kernels, filters in zip(BLOCKS, COLUMNS[column], FILTERS, strict=True):
        for k, kernel in enumerate(kernels, start=1):
            shapes[f"{block}_conv{k}"] = (kernel, kernel, channels, channels := scaled(filters, width))
    return shapes


def column_of(shapes: Sequence[Shape]) -> tuple[str, float, int] | str:
    """Find a column of Table 1 in the shapes of the kernels of a network, in order.

    Other convolutions may come after it, or before it.

    Returns:
        The column, its width, and the place of its first kernel; or else, in words, where the best column differs.
    """
    found = []
    differs, longest = "it has no convolutions", -1
    for place, first in enumerate(shapes):
        width = first[-1] / FILTERS[0]
        for column in COLUMNS:
            expected = list(kernel_shapes(column, width).values())
            given = shapes[place : place + len(expected)]
            if list(given) == expected:
                found.append((column, width, place))
                break
            same = next((n for n, (a, b) in enumerate(zip(given, expected, strict=False)) if a != b), len(given))
            if place == 0 and same >= longest:
                longest = same
                if same < len(given):
                    wanted = (3, 3, 3, "N") if same == 0 else expected[same]
                    differs = f"its {_ordinal(same)} convolution is {_by(given[same])}, in VGG it is {_by(wanted)}"
                else:
                    differs = f"it has {same} convolutions; column {column} of VGG has {len(expected)}"
    if len(found) > 1:
        return f"it holds {len(found)} networks like that, and it is not clear which is meant"
    return found[0] if found else differs


def _ordinal(n: int) -> str:
    names = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    return names[n] if n < len(names) else f"{n + 1}th"


def _by(shape: Sequence[object]) -> str:
    return "x".join(map(str, shape))
