"""Every argument of the public functions, times a zoo of foreign values: a result or a `VggftError`, nothing else.

Arguments are found in the signatures, so that new ones are tried too. Most values are refused before any image is read,
which is fast; those that are not are tried in a whole run on a few tiny images.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggft
from vggft.errors import VggftError


class Anything:
    """An object that has no use here."""


class Rude:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


ZOO: dict[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "0": 0,
    "-1": -1,
    "2.5": 2.5,
    "10**30": 10**30,
    "nan": float("nan"),
    "inf": float("inf"),
    "complex": 1j,
    "empty text": "",
    "all": "all",
    "text": "no-such-thing",
    "text with a zero": "a\0b",
    "bytes": b"all",
    "path": Path("no/such/file"),
    "object": Anything(),
    "rude object": Rude(),
    "class": Anything,
    "type": int,
    "function": lambda value: value,
    "function of nothing": lambda: None,
    "empty list": [],
    "list": [1, 2, 3],
    "list of None": [None],
    "nested list": [[1, 2], [3, 4]],
    "empty tuple": (),
    "pair": ("a", None),
    "empty dict": {},
    "dict": {"a": 1, 2: "b"},
    "set": {1, 2},
    "array": np.arange(3),
    "empty array": np.array([]),
    "matrix": np.eye(3),
    "array of objects": np.array([None, "a", 3], object),
    "NumPy integer": np.int64(3),
    "NumPy number": np.float32(0.25),
    "NumPy bool": np.bool_(True),
    "NumPy text": np.str_("all"),
    "array of no dimensions": np.array(3),
    "generator": (n for n in range(3)),
    "exception": ValueError("?"),
    "module": np,
    "slice": slice(3),
}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(vggft, name) for name in ("finetune", "search", "cross_validate", "estimate", "find_learning_rate")
}
CONFIGURATIONS = (vggft.Head, vggft.Training, vggft.Phase, vggft.Augment, vggft.SearchSpace)


def arguments_of(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments; of **arguments, those of finetune."""
    found = inspect.signature(function).parameters
    names = [name for name, each in found.items() if each.kind is not each.VAR_KEYWORD]
    return names if len(names) == len(found) else list(dict.fromkeys([*names, *arguments_of(vggft.finetune)]))


def outcome(call: Callable[[], Any]) -> VggftError | Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except VggftError as error:
            assert str(error)
            return error


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_configurations(kind: type) -> None:
    for name in inspect.signature(kind).parameters:
        for value in ZOO.values():
            required = {"freeze": "all"} if kind is vggft.Phase else {}
            found = outcome(lambda name=name, value=value, required=required: kind(**{**required, name: value}))
            assert isinstance(found, (VggftError, kind))
            if isinstance(found, kind):
                assert found.to_dict() is not None


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    images[::2] //= 4
    return {"dataset": (images, np.arange(24) % 2), "backbone": "vgg16_mini", "image_size": 32, "precision": "float32"}


QUICK = {
    "search": {"trials": 1, "training": vggft.Training(epochs=1), "space": vggft.SearchSpace(units=8)},
    "cross_validate": {"folds": 2},
    "find_learning_rate": {"head": vggft.Head(units=(4,)), "steps": 20},
}
TRIED: dict[str, int] = {}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_arguments(function: str, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    how = {**tiny, **QUICK.get(function, {}), "verbose": 0}
    for name in arguments_of(FUNCTIONS[function]):
        for label, value in ZOO.items():
            cheap = {**how, "dataset": "no-such-folder", name: value}
            found = outcome(lambda cheap=cheap: FUNCTIONS[function](**cheap))
            assert isinstance(found, VggftError), (name, label)
            if name == "dataset" or "'no-such-folder' is" not in str(found):
                continue
            TRIED[f"{function} {name} {label}"] = 1
            outcome(lambda how=how, name=name, value=value: FUNCTIONS[function](**{**how, name: value}))
