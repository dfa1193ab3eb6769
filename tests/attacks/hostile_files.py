"""Mutants of a classifier file, seeded: what somebody might send to do harm, or what a bad disk might do."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Parts = dict[str, bytes]
WEIGHTS, DESCRIPTION, EVALUATION = "model.weights.h5", "vggft.json", "vggft_evaluation.npz"
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e300, 10**30, float("nan"), float("inf"), "", "x" * 5000, "\x1b[2J", [], [[]], {}, {"a": 1},
    [None], ["a", "a"], [20000, 20000], [8] * 3000, "../../etc/passwd",
)  # fmt: skip


def read(path: Path) -> Parts:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, parts: Parts, packed: bool = False) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def with_odd_field(content: Any, rng: np.random.Generator) -> Any:
    """Return JSON in which one value, somewhere, is another one, or is missing."""
    place, name = content, None
    while isinstance(place, (dict, list)) and place and (name is None or rng.random() < 0.6):
        above, name = place, rng.choice(sorted(place)) if isinstance(place, dict) else int(rng.integers(len(place)))
        place = above[name]
    if rng.random() < 0.2:
        del above[name]
    else:
        above[name] = ODD[rng.integers(len(ODD))]
    return content


def damaged_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes that are cut, or in which some are others, as on a bad disk."""
    if rng.random() < 0.5:
        return content[: int(rng.integers(len(content)))]
    changed = bytearray(content)
    for place in rng.integers(len(changed), size=8):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def _fields(parts: Parts, rng: np.random.Generator) -> Parts:
    content = with_odd_field(json.loads(parts[DESCRIPTION]), rng)
    return parts | {DESCRIPTION: json.dumps(content).encode()}


def _sizes(parts: Parts, rng: np.random.Generator) -> Parts:
    """Believable descriptions of networks that are much larger than the weights."""
    content, which = json.loads(parts[DESCRIPTION]), int(rng.integers(6))
    if which == 0:
        content["head"]["units"] = [20000, 20000]
    elif which == 1:
        content["class_names"] = [f"class {n}" for n in range(300_000)]
    elif which == 2:
        content["head"]["units"] = [8] * 3000
    elif which == 3:
        content["width"] = 4.0
    elif which == 4:
        content |= {"image_size": [4096, 4096], "head": content["head"] | {"pooling": "flatten", "blocks": ["block5"]}}
    else:
        content["image_size"] = 10**6
    return parts | {DESCRIPTION: json.dumps(content).encode()}


def _json(parts: Parts, rng: np.random.Generator) -> Parts:
    """JSON that is large or deep."""
    texts = (b"[" * 100_000, b'{"a":' * 100_000, b" " * 60_000_000, b"[" + b"[]," * 2_000_000 + b"[]]", b"\xff\xfe{}")
    text = texts[rng.integers(len(texts))]
    return parts | {(DESCRIPTION, "config.json")[int(rng.integers(2))]: text, DESCRIPTION: text}


def in_hdf5(content: bytes, change: Callable[[h5py.File], None]) -> bytes:
    held = io.BytesIO(content)
    with h5py.File(held, "r+") as tree:
        change(tree)
    return held.getvalue()


def hdf5_change(tree: h5py.File, which: int, elsewhere: Path) -> None:
    """Change one array of a weights file into something that files of weights never hold."""
    paths: list[str] = []
    tree.visititems(lambda path, item: paths.append(path) if isinstance(item, h5py.Dataset) else None)
    path = next(path for path in paths if tree[path].ndim == 2 or path == paths[-1])
    shape = tree[path].shape
    if which == 0:
        tree[path][...] = np.nan
        return
    del tree[path]
    if which == 1:
        tree.create_dataset(path, shape, "f4", external=[(str(elsewhere), 0, h5py.h5f.UNLIMITED)])
    elif which == 2:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource(str(elsewhere), "data", shape)
        tree.create_virtual_dataset(path, layout)
    elif which == 3:
        tree[path] = h5py.ExternalLink(str(elsewhere), "data")
    elif which == 4:
        tree[path] = h5py.SoftLink("/nowhere")
    elif which == 5:
        tree.create_dataset(path, (32768, 32768), "f4")  # 4 GiB that are not there
    elif which == 6:
        tree.create_dataset(path, (8192, 8192), "f4", chunks=(1024, 1024), compression="gzip", fillvalue=1.0)
    elif which == 7:
        tree.create_dataset(path, shape, h5py.string_dtype())
    elif which == 8:
        for n in range(12_000):
            tree.create_group(f"{path}/{n}")
    elif which == 9:
        tree[path] = np.zeros(shape, "f4")
        tree["big"] = "x" * 2_000_000
        tree.attrs.create("layer_names", np.array(["y" * 60_000] * 2000, object), dtype=h5py.string_dtype())
    else:
        tree.create_dataset(path, (*shape, 2), "f4", data=np.zeros((*shape, 2)))


CHANGES = 11


def _weights(parts: Parts, rng: np.random.Generator) -> Parts:
    which = int(rng.integers(CHANGES))
    changed = in_hdf5(parts[WEIGHTS], lambda tree: hdf5_change(tree, which, Path("/etc/passwd")))
    return parts | {WEIGHTS: changed}


def _evaluation(parts: Parts, rng: np.random.Generator) -> Parts:
    if EVALUATION not in parts:
        return parts
    with np.load(io.BytesIO(parts[EVALUATION])) as stored:
        arrays: dict[str, Any] = dict(stored)
    name = str(rng.choice(sorted(arrays)))
    odd = (np.zeros((0, 7)), np.array({}, object), np.zeros(30_000_000), np.full(arrays[name].shape, "\x1b"), np.nan)
    arrays[name] = odd[rng.integers(len(odd))]
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    return parts | {EVALUATION: held.getvalue()}


def _bytes(parts: Parts, rng: np.random.Generator) -> Parts:
    name = str(rng.choice(sorted(parts)))
    return parts | {name: damaged_bytes(parts[name], rng)}


def _missing(parts: Parts, rng: np.random.Generator) -> Parts:
    return {name: content for name, content in parts.items() if name != rng.choice(sorted(parts))}


KINDS = (_fields, _fields, _fields, _weights, _weights, _sizes, _json, _evaluation, _bytes, _missing)


def hostile_file(whole: Path, target: Path, seed: int) -> str:
    """Write the mutant of this number; return what kind it is."""
    rng, kind = np.random.default_rng(seed), KINDS[seed % len(KINDS)]
    parts = kind(read(whole), rng)
    write(target, parts, packed=kind is _json or bool(rng.random() < 0.2))
    if rng.random() < 0.05:
        target.write_bytes(damaged_bytes(target.read_bytes(), rng))
    return kind.__name__.strip("_")
