"""Keras's HDF5 files of all versions -> layers; what points outside of the file is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from ..errors import WeightsError
from .layers import Layer, in_order, layers_of_config, natural

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


def read_hdf5(tree: h5py.File, listed: Sequence[Layer] = ()) -> list[Layer]:
    """Return the layers with weights in an open file of Keras.

    Args:
        tree: `.weights.h5`, or an older `.h5` of weights or of a whole model.
        listed: all layers of the network in order, if they are known from elsewhere.

    Raises:
        WeightsError: something in the file points outside of it.
    """
    refuse_outside(tree)
    root = tree.get("model_weights", tree)
    groups: dict[str, dict[str, h5py.Dataset]] = {}

    def collect(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and path.split("/")[0] not in NOT_WEIGHTS:
            group, _, name = path.rpartition("/")
            groups.setdefault(group, {})[name] = item

    root.visititems(collect)
    order = _names(root, "layer_names")
    found = {_place(path, order): _layer(root, path, inside) for path, inside in groups.items()}
    if not listed and "model_config" in tree.attrs:
        listed = list(layers_of_config(_json(tree.attrs["model_config"])))
    return in_order(found, listed)


def refuse_outside(tree: h5py.File) -> None:
    """Raise `WeightsError` if something in a file points to another file, which a weights file has no reason to do."""
    outside: list[str] = []

    def look(path: str, link: Any) -> None:
        if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
            outside.append(f"{path} is a link")
        elif isinstance(item := tree[path], h5py.Dataset) and (item.external or item.is_virtual):
            outside.append(f"{path} keeps its values elsewhere")

    tree.visititems_links(look)
    if outside:
        raise WeightsError(f"points outside of itself ({outside[0]}), which files of weights never do, and is not read")


def _layer(root: h5py.Group, path: str, inside: Mapping[str, h5py.Dataset]) -> Layer:
    """Return the layer whose arrays are in a group: `layers/conv2d_3/vars` in new files, `block1_conv1` in old ones."""
    above, _, last = path.rpartition("/")
    name = last
    if last == "vars":
        given = root[path].attrs.get("name", above.rpartition("/")[2])
        name = given.decode() if isinstance(given, bytes) else str(given)
    return Layer(name, arrays=tuple(Array(inside[each]) for each in sorted(inside, key=natural)))


def _place(path: str, order: Sequence[str]) -> str:
    """Return a path that sorts as an old file lists its layers."""
    first, _, rest = path.partition("/")
    return f"{order.index(first)}/{rest}" if first in order else path


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return a list of names in an attribute, which Keras cuts into numbered ones if it is long."""
    keys = sorted((key for key in group.attrs if key.rstrip("0123456789") == attribute), key=natural)
    return [name.decode() if isinstance(name, bytes) else str(name) for key in keys for name in group.attrs[key]]


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return None
