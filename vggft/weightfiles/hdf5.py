"""Keras's HDF5 files of all versions -> layers; only arrays of numbers that are in the file are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import h5py
import numpy as np

from ..errors import WeightsError
from ..files.archives import most_of
from ..files.documents import parse_document
from .layers import Layer, in_order, layers_of_config, natural

MOST_OBJECTS = 10_000  # groups and arrays, of the largest networks and their optimizers
NOT_WEIGHTS = (
    "optimizer",
    "optimizer_weights",
    "top_level_model_weights",
    "loss_tracker",
    "compile_metrics",
    "metrics",
)


class Array:
    """An array in an HDF5 file, which is read when NumPy asks for it."""

    def __init__(self, dataset: h5py.Dataset):
        self.dataset, self.shape = dataset, tuple(dataset.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.dataset[()]
        if values.dtype.kind == "V" and values.dtype.itemsize == 2:  # bfloat16 in HDF5: the upper half of a float32
            values = (values.view("uint16").astype("uint32") << 16).view("float32")
        return np.asarray(values, dtype)


def read_hdf5(tree: h5py.File, file: BinaryIO, listed: Sequence[Layer] = ()) -> list[Layer]:
    """Return the layers with weights in an open file of Keras.

    Args:
        tree: `.weights.h5`, or an older `.h5` of weights or of a whole model.
        file: the same file.
        listed: all layers of the network in order, if they are known from elsewhere.

    Raises:
        WeightsError: as `check_tree`.
    """
    check_tree(tree, file)
    root = tree.get("model_weights", tree)
    groups: dict[str, dict[str, h5py.Dataset]] = {}

    def collect(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and path.split("/")[0] not in NOT_WEIGHTS:
            group, _, name = path.rpartition("/")
            groups.setdefault(group, {})[name] = item

    root.visititems(collect)
    order = {name: place for place, name in enumerate(_names(root, "layer_names"))}
    found = {_place(path, order): _layer(root, path, inside) for path, inside in groups.items()}
    if not listed and "model_config" in tree.attrs:
        listed = list(layers_of_config(_json(tree.attrs["model_config"])))
    return in_order(found, listed)


def check_tree(tree: h5py.File, file: BinaryIO) -> list[tuple[int, ...]]:
    """Look at everything in a file before anything in it is read.

    Keras, like HDF5 itself, follows links to other files, reads datasets that are kept there, and allocates what a
    dataset declares, whether or not the file has it.

    Args:
        tree: the open file.
        file: the same file, whose bytes are searched.

    Returns:
        The shapes of all arrays.

    Raises:
        WeightsError: something in it is not an array of numbers that is in the file; the message says where.
    """
    size = file.seek(0, 2)
    shapes, sizes = list[tuple[int, ...]](), [0, 0, 0]  # bytes of arrays, parts, texts

    def look(path: str, link: Any) -> str | None:
        if not isinstance(link, h5py.HardLink):
            return f"points outside of itself ({path} is a link)"
        item = tree[path]
        sizes[2] += _texts_of(item)
        if not isinstance(item, h5py.Dataset):
            return None
        if item.is_virtual or item.external:
            return f"points outside of itself ({path} keeps its values elsewhere)"
        if item.dtype.hasobject or item.dtype.kind not in "biufcV" or item.dtype.names:
            return f"has no numbers in {path}, but {item.dtype}"
        sizes[0] += (held := item.nbytes)
        chunk = math.prod(item.chunks or ()) * item.dtype.itemsize if item.chunks else 0
        there = item.id.get_storage_size()
        if max(sizes[0], chunk) > most_of(size) or there > size or (item.chunks is None and held > there):
            return f"declares {held / 1e6:.0f} MB in {path}, and holds {min(there, size) / 1e6:.1f} MB of them"
        shapes.append(item.shape)
        return None

    def count(path: bytes) -> bool | None:
        sizes[1] += 1
        return True if sizes[1] > MOST_OBJECTS else None

    if tree.id.links.visit(count):  # before any of them is opened
        raise WeightsError(f"has more than {MOST_OBJECTS} parts, which files of weights never do, and is not read")
    sizes[2] = _texts_of(tree)
    if (told := tree.visititems_links(look)) is not None:
        raise WeightsError(f"{told}, which files of weights never do, and is not read")
    if sizes[2] > 1 and sizes[2] * _longest_text(file) > most_of(size):
        raise WeightsError("has lists of names that are much larger than the file, and is not read")
    return shapes


def _texts_of(item: Any) -> int:
    """Return the number of texts of any length in the attributes of a group or an array."""
    about = [item.attrs.get_id(name) for name in item.attrs]
    return sum(math.prod(each.shape) for each in about if each.dtype.hasobject)


def _longest_text(file: BinaryIO) -> int:
    """Return how many bytes a text of any length in a file has at most.

    Such texts lie in heaps, which begin with their size. One may be listed any number of times, and each time HDF5
    makes a copy.
    """
    longest, before, size = 0, b"", file.seek(0, 2)
    file.seek(0)
    while part := file.read(2**24):
        whole, at = before + part, -1
        while (at := whole.find(b"GCOL", at + 1)) >= 0:
            longest = max(longest, int.from_bytes(whole[at + 8 : at + 16], "little"))
        before = whole[-15:]
    return min(longest, size)


def _layer(root: h5py.Group, path: str, inside: Mapping[str, h5py.Dataset]) -> Layer:
    """Return the layer whose arrays are in a group: `layers/conv2d_3/vars` in new files, `block1_conv1` in old ones."""
    above, _, last = path.rpartition("/")
    name = last
    if last == "vars":
        given = root[path].attrs.get("name", above.rpartition("/")[2])
        name = given.decode() if isinstance(given, bytes) else str(given)
    return Layer(name, arrays=tuple(Array(inside[each]) for each in sorted(inside, key=natural)))


def _place(path: str, order: Mapping[str, int]) -> str:
    """Return a path that sorts as an old file lists its layers."""
    first, _, rest = path.partition("/")
    return f"{order[first]}/{rest}" if first in order else path


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return a list of names in an attribute, which Keras cuts into numbered ones if it is long."""
    keys = sorted((key for key in group.attrs if key.rstrip("0123456789") == attribute), key=natural)
    return [name.decode() if isinstance(name, bytes) else str(name) for key in keys for name in group.attrs[key]]


def _json(text: Any) -> Any:
    try:
        return parse_document(text, Any, nan=True)
    except (ValueError, TypeError, AttributeError):
        return None
