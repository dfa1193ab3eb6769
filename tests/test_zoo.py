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
MISSING = "no-such-folder"  # a dataset that is looked for only after all cheap checks


def try_all(function: str, names: list[str], tiny: dict[str, Any], everything: bool) -> int:
    """Try all values for some arguments, first without data; return the number of pairs.

    What passes the cheap checks is tried on data: by an estimate, which is quick, or for `everything` in whole runs.
    """
    call, how, pairs = FUNCTIONS[function], {**tiny, **QUICK.get(function, {}), "verbose": 0}, 0
    for name in names:
        for label, value in ZOO.items():
            pairs += 1
            cheap = outcome(lambda name=name, value=value: call(**{**how, "dataset": MISSING, name: value}))
            assert isinstance(cheap, VggftError), (name, label)
            passed = name == "dataset" or MISSING in str(cheap)
            usual = isinstance(value, (type(None), bool, int, np.generic))
            if passed and name != "verbose" and (everything or (function == "estimate" and not usual)):
                outcome(lambda name=name, value=value: call(**{**how, name: value}))
    return pairs


@pytest.mark.parametrize(
    "function", [pytest.param(each, marks=pytest.mark.slow) if each == "estimate" else each for each in FUNCTIONS]
)
def test_arguments(function: str, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of finetune by an estimate; of other functions those that finetune has not."""
    monkeypatch.chdir(tmp_path)
    names = arguments_of(FUNCTIONS[function])
    own = names if function == "estimate" else [name for name in names if name not in arguments_of(vggft.estimate)]
    assert try_all(function, own, tiny, everything=False) == len(own) * len(ZOO)
    assert len(own) > 20 or function != "estimate"


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_pairs(function: str, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert try_all(function, arguments_of(FUNCTIONS[function]), tiny, everything=True) > 19 * len(ZOO)


NUMPY = {
    "num_classes": np.int64(2), "validation": np.float32(0.25), "test": np.float64(0.25), "image_size": np.int32(32),
    "seed": np.int64(3), "calibrate": np.bool_(False), "time_limit": np.float32(60), "verbose": np.int8(0),
    "freeze": np.str_("all"), "group": np.arange(24) // 2,
}  # fmt: skip


def test_numbers_of_numpy_are_numbers(tiny: dict[str, Any], tmp_path: Path) -> None:
    head = vggft.Head(units=np.array([4, 3]), dropout=np.float32(0.25), batch_norm=np.bool_(False))
    weights = {np.int64(0): np.float32(1), np.int64(1): np.float64(2)}
    training = vggft.Training(epochs=np.int64(2), learning_rate=np.float32(0.5), class_weight=weights)
    assert (head.units, head.dropout, training.class_weight) == ((4, 3), 0.25, {"0": 1.0, "1": 2.0})
    how = {**tiny, **NUMPY, "head": head, "training": training}
    classifier = vggft.finetune(**how, run_dir=tmp_path / "numpy")
    plain = {name: value.item() for name, value in NUMPY.items() if name != "group"}
    again = vggft.finetune(
        **{**how, **plain, "head": vggft.Head(units=(4, 3), dropout=0.25)},
    )
    images = tiny["dataset"][0]
    np.testing.assert_array_equal(classifier.predict(images), again.predict(images))


def test_class_weights_by_position_and_by_name_are_the_same(tiny: dict[str, Any]) -> None:
    found = []
    for weights in ({0: 1, 1: 5}, {"0": 1, "1": 5}, {1: 5.0, 0: 1.0}):
        training = vggft.Training(class_weight=weights)
        found.append(vggft.finetune(**tiny, training=training, verbose=0).predict(tiny["dataset"][0]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    with pytest.raises(vggft.ConfigError, match="by name or by position from 0: there is no class 2"):
        vggft.estimate(**tiny, training=vggft.Training(class_weight={0: 1, 1: 1, 2: 1}), verbose=0)


def test_large_seeds_are_seeds(tiny: dict[str, Any]) -> None:
    splits = [vggft.finetune(**tiny, seed=seed, verbose=0).seen for seed in (2**40, 2**40 + 1, 2**40, np.uint64(2**40))]
    assert splits[0] == splits[2] == splits[3] != splits[1]
    with pytest.raises(vggft.ConfigError, match="seed must be an integer >= 0; got -1"):
        vggft.finetune(**tiny, seed=-1)
