"""Mutants of a run directory, seeded: files that are cut, odd, deep, large, missing, or in another encoding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hostile_files import damaged_bytes, with_odd_field

READ = ("*.json", "trials/*/outcome.json", "*.npz", "resume/*.npz", "trials/*/*.npz")  # what is read of a run


def _odd_json(text: str, rng: np.random.Generator) -> bytes:
    which = int(rng.integers(10))
    if which < 5:
        return json.dumps(with_odd_field(json.loads(text), rng)).encode()
    others: tuple[bytes, ...] = (
        text.encode("utf-16"),
        b"[" * 50_000 + b"]" * 50_000,
        b"",
        b"\x00" * 1000,
        text.encode()[: int(rng.integers(len(text)))],
    )
    return others[which - 5]


def _odd_arrays(path: Path, rng: np.random.Generator) -> None:
    with np.load(path) as stored:
        arrays: dict[str, Any] = dict(stored)
    name = str(rng.choice(sorted(arrays)))
    if rng.random() < 0.3:
        del arrays[name]
    elif name == "note":
        arrays[name] = np.array(json.dumps(with_odd_field(json.loads(str(arrays[name])), rng)))
    else:
        odd = (np.full(arrays[name].shape, np.nan, "f4"), np.zeros((3, 3, 3)), np.array("text"), np.array({}, object))
        arrays[name] = odd[rng.integers(len(odd))]
    np.savez(path, **arrays)


def damaged_run(whole: Path, target: Path, seed: int) -> str:
    """Copy a run directory with the damage of this number; return which file it is in."""
    rng = np.random.default_rng(seed)
    shutil.copytree(whole, target)
    files = sorted({file for pattern in READ for file in target.glob(pattern) if file.name != "estimate.json"})
    file = files[seed % len(files)]
    which = rng.random()
    if which < 0.1:
        file.unlink()
    elif which < 0.2:
        file.write_bytes(damaged_bytes(file.read_bytes(), rng))
    elif which < 0.25:
        file.unlink()
        file.mkdir()
    elif file.suffix == ".json":
        file.write_bytes(_odd_json(file.read_text(encoding="utf-8"), rng))
    else:
        _odd_arrays(file, rng)
    return file.name
