"""Configurations are checked when made and survive JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggft import Augment, ConfigError, Head, Phase, SearchSpace, Training
from vggft.training.request import Request
from vggft.tuning.space import Range


@pytest.mark.parametrize(
    ("kind", "fields", "match"),
    [
        (Head, {"units": (0,)}, "Head.units"),
        (Head, {"units": 2.5}, "Head.units"),
        (Head, {"pooling": "mean"}, "'avg', 'max' or 'flatten'; got 'mean'"),
        (Head, {"dropout": 1.0}, r"number in \[0, 1\); got 1.0"),
        (Head, {"l2": -1}, "Head.l2"),
        (Augment, {"rotate": 181}, r"number of degrees in \[0, 180\]; got 181"),
        (Augment, {"hue": 0.6}, r"Augment.hue must be a number in \[0, 0.5\]"),
        (Augment, {"erase": 1.1}, r"Augment.erase must be a number in \[0, 1\]"),
        (Augment, {"mixup": -0.2}, "Augment.mixup"),
        (Augment, {"vertical_flip": 1}, "True or False; got 1"),
        (Training, {"epochs": 0}, "integer >= 1 or None; got 0"),
        (Training, {"batch_size": 3.5}, "Training.batch_size"),
        (Training, {"learning_rate": math.nan}, "Training.learning_rate"),
        (Training, {"optimizer": "lion"}, "'adam', 'adamw' or 'sgd'"),
        (Training, {"block_decay": 0}, "Training.block_decay"),
        (Training, {"phases": "slow"}, "'standard' or 'gradual' or a tuple of vggft.Phase; got 'slow'"),
        (Training, {"phases": ()}, "a tuple of vggft.Phase; got ()"),
        (Training, {"phases": [{"freeze": "block9"}]}, "Phase.freeze must be 'all', 'none', one of block1"),
        (Training, {"block_rates": {"block6": 1}}, "Training.block_rates must be a mapping of block1"),
        (Training, {"clip_norm": 0}, r"a number in \(0, inf\) or None; got 0"),
        (Training, {"ema_momentum": 1.0}, "Training.ema_momentum"),
        (Training, {"class_weight": {"a": -1}}, "'balanced' or a mapping of class names to positive weights or None"),
        (Training, {"optimizer": keras.optimizers.Adam(clipvalue=1.0), "clip_norm": 1}, "has clipvalue already"),
        (Training, {"optimizer": keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1.0, 3))}, "a number as"),
        (Training, {"optimizer": {"class_name": "Nothing", "config": {}}}, "Keras cannot make a Nothing"),
        (Training, {"loss": keras.losses.SparseCategoricalCrossentropy()}, "one-hot targets.*use Categorical"),
        (Training, {"loss": keras.losses.Hinge(), "focal_gamma": 1}, "replaces cross-entropy"),
        (Training, {"sampling": "balanced", "class_weight": "balanced"}, "would do it twice"),
    ],
)
def test_impossible_values_are_refused_by_name(kind: type, fields: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        kind(**fields)


@given(
    st.builds(
        Head,
        units=st.lists(st.integers(1, 4096), max_size=3).map(tuple),
        pooling=st.sampled_from(["avg", "max", "flatten"]),
        dropout=st.floats(0, 0.99),
        batch_norm=st.booleans(),
        l2=st.floats(0, 1),
    )
)
def test_json_round_trip(head: Head) -> None:
    assert Head.from_dict(json.loads(json.dumps(head.to_dict()))) == head


@pytest.mark.parametrize(
    "training",
    [
        Training(phases=(Phase("all", epochs=3), Phase(("block1", "block3"), block_rates={"head": 2.0}))),
        Training(class_weight={"a": 1.0, "b": 2.5}, schedule="one_cycle", clip_norm=1.0),
        Training(optimizer=keras.optimizers.Lion(3e-4, weight_decay=0.1), loss=keras.losses.CategoricalHinge()),
    ],
)
def test_trainings_survive_json(training: Training) -> None:
    written = json.loads(json.dumps(training.to_dict()))
    again = Training.from_dict(written)
    assert again.to_dict() == written and again.phases == training.phases
    assert type(again.optimizer) is type(training.optimizer) and again.learning_rate == training.learning_rate


def test_unknown_fields_are_refused_not_dropped() -> None:
    with pytest.raises(ConfigError, match="Head has no field wings"):
        Head.from_dict({"wings": 2})


def test_one_width_may_be_a_number() -> None:
    assert Head(units=64).units == (64,)


@pytest.mark.parametrize("seed", [2**31 - 1, 2**40, 10**30])
def test_large_seeds_leave_room_for_those_that_follow_from_them(seed: int) -> None:
    """Generators take 31 bits, and repeats and layers count on from a seed."""
    assert 0 <= Request(None, seed=seed).small_seed < 2**31 - 10**6
    assert Request(None, seed=7).small_seed == 7


def test_a_learning_rate_is_that_of_the_optimizer_unless_there_is_one() -> None:
    training = Training(optimizer=keras.optimizers.AdamW(5e-4))
    assert training.resolve(100).learning_rate == 5e-4 and Training().resolve(100).learning_rate == 1e-3
    for rate in (1e-3, 1e-2):  # as a search does
        assert dataclasses.replace(training, learning_rate=rate).resolve(100).learning_rate == rate


@given(st.integers(4, 10**6))
def test_defaults_follow_the_number_of_images(num_images: int) -> None:
    training = Training().resolve(num_images)
    assert training == training.resolve(num_images)  # nothing is left open
    assert None not in (training.epochs, training.fine_tune_epochs, training.batch_size, training.patience)
    assert training.epochs <= Training().resolve(max(4, num_images // 2)).epochs
    assert Training(epochs=7).resolve(num_images).epochs == 7


def test_a_search_space_is_values_lists_and_ranges() -> None:
    space = SearchSpace(
        units=64, layers=[0, 2], dropout=(0.0, 0.5), learning_rate=(1e-4, 1e-2, "log"), freeze=("block4", "all")
    )
    assert space.choices("units") == (64,) and space.choices("layers") == (0, 2) and space.choices("l2") is None
    assert space.choices("dropout") == Range(0.0, 0.5)
    assert space.choices("learning_rate") == Range(1e-4, 1e-2, "log")
    assert space.choices("freeze") == ("block4", "all")
    again = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again.to_dict() == space.to_dict()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"units": [64, 0]}, r"SearchSpace.units: Head.units must be"),
        ({"units": []}, "SearchSpace.units: a choice needs at least one value"),
        ({"layers": -1}, r"SearchSpace.layers: expected integers >= 0; got -1"),
        ({"dropout": (0.0, 1.0)}, "SearchSpace.dropout: Head.dropout must be"),
        ({"dropout": (0.5, 0.1)}, "needs a number and a larger number; got 0.5 to 0.1"),
        ({"learning_rate": (0, 1e-2, "log")}, "must begin above 0"),
        ({"learning_rate": (1e-3, 1e-2, "square")}, "'linear' or 'log'; got 'square'"),
        ({"learning_rate": (1e-3, 1e-2, "log", 3)}, r"a range is \(low, high\)"),
        ({"pooling": ["avg", "mean"]}, "got 'mean'"),
        ({"optimizer": "lion"}, "SearchSpace.optimizer"),
        ({"freeze": (1, 2)}, "SearchSpace.freeze"),
    ],
)
def test_impossible_search_spaces_are_refused_by_name(fields: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SearchSpace(**fields)
