"""A population: each member gives the result that Keras's own `fit` gives for it alone."""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from vggft.config import Head, Training
from vggft.heads import population, stacked
from vggft.heads.batches import Examples, pooled_features
from vggft.heads.population import Member, Programs, alike, size_for, why_alone
from vggft.heads.resampling import Fitted, best_epochs
from vggft.network.blocks import BLOCKS
from vggft.network.forward import between, forward
from vggft.network.freezing import learned_weights
from vggft.network.head import head_model, standardize
from vggft.run import RunDirectory
from vggft.telling.progress import Narrator
from vggft.training.fit import fit_phase
from vggft.training.phases import Setting, phases_of

FEATURES, CLASSES, NAMES = 12, 3, ("x", "y", "z")
DENSE = Head(units=(8,), normalize="standardize")
PROGRAMS = Programs()  # traced once for all tests


def train_population(members: list[Member], *examples: Examples, **arguments: Any) -> list[Fitted]:
    return population.train_population(members, *examples, programs=PROGRAMS, **arguments)


def examples(multi_label: bool = False, views: int = 0) -> tuple[Examples, Examples]:
    """70 images to learn from, so that the last of the batches of 16 is smaller, and 30 to be judged on."""
    rng = np.random.default_rng(3)
    inputs = (rng.normal(size=(100, FEATURES)) * rng.uniform(0.5, 20, FEATURES)).astype("float16")
    signal = inputs[:, :CLASSES] / inputs[:, :CLASSES].std(0) + rng.normal(size=(100, CLASSES))
    labels = (signal > 0.3).astype("float32") if multi_label else np.eye(CLASSES, dtype="float32")[signal.argmax(1)]
    rows = rng.permutation(100)
    train, validation = rows[:70], rows[70:]
    more = [inputs[np.sort(train)] + np.float16(view) for view in range(1, views + 1)]
    where = np.searchsorted(np.sort(train), train)
    return Examples(inputs, labels, train, more, view_rows=where if views else None), Examples(
        inputs, labels, validation
    )


def alone(member: Member, train: Examples, validation: Examples, multi_label: bool, seed: int) -> tuple[Any, Any, Any]:
    """The same by Keras's own `fit`: weights, probabilities and history."""
    model = head_model((FEATURES,), member.head, CLASSES, multi_label=multi_label, seed=seed)
    standardize(model, pooled_features(train), member.head.normalize)
    (phase,) = phases_of(Setting(BLOCKS, member.head, member.training))
    history = fit_phase(
        between(model, "features", "logits"),
        train,
        validation,
        phase,
        member.training,
        multi_label=multi_label,
        seed=seed,
        run=RunDirectory(None),
        narrator=Narrator(0),
        steps_at_once=8,
        class_names=NAMES,
    )
    return learned_weights(model), forward(model, validation.inputs, rows=validation.rows), history


def random_group(rng: np.random.Generator, count: int) -> list[Member]:
    """Members that are alike, and differ in all that members may differ in."""
    units = tuple(int(u) for u in rng.choice([5, 8, 16], size=rng.integers(0, 3)))
    activation = str(rng.choice(["relu", "tanh", "gelu"]))
    normalize: Any = str(rng.choice(["standardize", "scale"]))
    about = {
        "epochs": 5,
        "batch_size": int(rng.choice([16, 35])),
        "patience": int(rng.choice([2, 5])),
        "schedule": str(rng.choice(["cosine", "constant", "one_cycle"])),
        "focal_gamma": float(rng.choice([0.0, 2.0])),
        "probe": "epochs",
    }
    return [
        Member(
            Head(
                units=units,
                activation=activation,
                normalize=normalize,
                dropout=float(rng.choice([0.0, 0.3, 0.6])),
                l2=float(rng.choice([0.0, 1e-2])),
            ),
            Training(
                **about,
                learning_rate=float(10 ** rng.uniform(-3, -1.3)),
                label_smoothing=float(rng.choice([0.0, 0.2])),
            ).resolve(70),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("case", "compile_from"),
    [
        pytest.param(0, 0, marks=pytest.mark.slow),
        (1, 500),
        pytest.param(2, 500, marks=pytest.mark.slow),
        pytest.param(3, 0, marks=pytest.mark.slow),
    ],
)
def test_each_member_ends_as_it_would_alone(case: int, compile_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an epoch is compiled by XLA (from no steps on) or not."""
    monkeypatch.setattr(stacked, "COMPILE_FROM", compile_from)
    rng = np.random.default_rng(case)
    multi_label, seed = case == 1, int(rng.integers(0, 9))
    train, validation = examples(multi_label, views=2 if case == 2 else 0)
    members = random_group(rng, 3)
    assert len({alike(member.head, member.training) for member in members}) == 1
    together = train_population(members, train, validation, multi_label=multi_label, seed=seed)
    for member, found in zip(members, together, strict=True):
        weights, probabilities, history = alone(member, train, validation, multi_label, seed)
        assert len(found.history) == len(history)
        for mine, keras_row in zip(found.history, history, strict=True):
            assert mine["val_loss"] == pytest.approx(keras_row["val_loss"], abs=1e-4)
            accuracy = "val_label_accuracy" if multi_label else "val_accuracy"
            assert mine[accuracy] == pytest.approx(keras_row[accuracy], abs=1e-6)
        assert found.epochs == best_epochs(history)
        np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-4)
        assert found.weights.keys() == weights.keys()
        for name, array in weights.items():
            np.testing.assert_allclose(found.weights[name], array, atol=1e-4, rtol=1e-4, err_msg=name)


def test_images_of_weight_0_are_images() -> None:
    """In losses and accuracies as in Keras's `fit`; they are none of those that only fill the last batch."""
    train, validation = examples()
    train = replace(train, weights=(np.arange(len(train.targets)) % 2).astype("float32"))
    member = Member(DENSE, Training(epochs=2, batch_size=16, patience=2, probe="epochs").resolve(70))
    (found,) = train_population([member], train, validation, multi_label=False, seed=1)
    *_, history = alone(member, train, validation, False, 1)
    for mine, keras_row in zip(found.history, history, strict=True):
        assert mine["accuracy"] == pytest.approx(keras_row["accuracy"], abs=1e-6)
        assert mine["loss"] == pytest.approx(keras_row["loss"], abs=1e-4)


def test_a_linear_head_of_many_steps_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dropout, which has a default, is of layers that it does not have; the epoch is compiled by XLA."""
    monkeypatch.setattr(stacked, "COMPILE_FROM", 0)
    train, validation = examples()
    member = Member(replace(DENSE, units=()), Training(epochs=3, batch_size=16, probe="epochs").resolve(70))
    (found,) = train_population([member], train, validation, multi_label=False, seed=0)
    weights, probabilities, _ = alone(member, train, validation, False, 0)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-4)
    np.testing.assert_allclose(found.weights["logits/0"], weights["logits/0"], atol=1e-4)


@pytest.mark.parametrize(
    "craft",
    [
        {"class_weight": "balanced"},
        {"class_weight": {"x": 1.0, "y": 5.0, "z": 0.5}, "sampling": "balanced"},
        {"focal_gamma": 2.0, "label_smoothing": 0.1},
        {"schedule": "one_cycle"},
    ],
)
@pytest.mark.parametrize("views", [0, 1])
def test_classes_are_weighed_and_drawn_as_alone(craft: dict[str, Any], views: int) -> None:
    train, validation = examples(views=views)
    member = Member(DENSE, Training(epochs=3, batch_size=16, **craft).resolve(70))
    (found,) = train_population([member], train, validation, multi_label=False, seed=0, class_names=NAMES)
    _, probabilities, _ = alone(member, train, validation, False, 0)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-4)


def test_a_member_does_not_notice_its_company() -> None:
    train, validation = examples()
    members = random_group(np.random.default_rng(11), 4)
    together = train_population(members, train, validation, multi_label=False, seed=1)
    turned = train_population(members[::-1], train, validation, multi_label=False, seed=1)
    for a, b in zip(together, turned[::-1], strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
        assert a.epochs == b.epochs


def test_epochs_that_are_spared_are_told() -> None:
    train, validation = examples()
    told: list[int] = []
    training = Training(epochs=30, patience=2, batch_size=16, learning_rate=0.3).resolve(70)
    (found,) = train_population(
        [Member(DENSE, training)], train, validation, multi_label=False, seed=0, on_epoch=told.append
    )
    assert sum(told) == 30 and len(found.history) < 30


def test_a_member_that_diverges_takes_no_other_with_it() -> None:
    train, validation = examples()
    training = Training(epochs=3, batch_size=16)
    wild = Member(replace(DENSE, activation="exponential", dropout=0.0), training.resolve(70))
    members = [wild, Member(wild.head, Training(epochs=3, batch_size=16, learning_rate=1e9).resolve(70))]
    sane, diverged = train_population(members, train, validation, multi_label=False, seed=0)
    assert np.isfinite(sane.probabilities).all() and not np.isfinite(diverged.probabilities).all()


@pytest.mark.parametrize(
    ("head", "training", "reason"),
    [
        (DENSE, Training(), ""),
        (replace(DENSE, batch_norm=True), Training(), "batch_norm=True"),
        (DENSE, Training(optimizer="sgd"), "optimizer='sgd'"),
        (DENSE, Training(optimizer=keras.optimizers.Lion(1e-3)), "optimizer=Lion"),
        (DENSE, Training(schedule="plateau"), "schedule='plateau'"),
        (replace(DENSE, batch_norm=True), Training(weight_decay=0.1), "batch_norm=True, weight_decay=0.1"),
    ],
)
def test_what_cannot_be_stacked_says_why(head: Head, training: Training, reason: str) -> None:
    assert why_alone(head, training) == reason


OFF_DEFAULT: dict[str, Any] = {
    "units": (7,),
    "pooling": "max",
    "blocks": ("block4",),
    "dropout": 0.1,
    "activation": "tanh",
    "batch_norm": True,
    "l2": 0.5,
    "normalize": "sqrt_l2",
    "probe": "epochs",
    "epochs": 7,
    "fine_tune_epochs": 7,
    "batch_size": 7,
    "learning_rate": 0.5,
    "fine_tune_learning_rate": 0.5,
    "block_decay": 0.5,
    "schedule": "constant",
    "optimizer": "sgd",
    "weight_decay": 0.5,
    "label_smoothing": 0.5,
    "class_weight": {"a": 1.0, "b": 2.0},
    "patience": 7,
    "phases": "gradual",
    "block_rates": {"head": 2.0},
    "clip_norm": 1.0,
    "ema_momentum": 0.9,
    "focal_gamma": 2.0,
    "loss": keras.losses.CategoricalHinge(),
    "sampling": "balanced",
}


def test_every_field_is_a_members_own_shared_by_all_or_trained_alone() -> None:
    """A population lists what it can do: a field that is added to `Head` or `Training` is never silently ignored."""
    assert set(OFF_DEFAULT) == {field.name for kind in (Head, Training) for field in dataclasses.fields(kind)}
    for kind in (Head, Training):
        for field in dataclasses.fields(kind):
            changed = {Head: DENSE, Training: Training()}
            changed[kind] = replace(changed[kind], **{field.name: OFF_DEFAULT[field.name]})
            own = field.name in population.MEMBERS_DIFFER_IN[kind]
            shared = field.name in population.MEMBERS_SHARE[kind]
            for_blocks = field.name in population.ONLY_FOR_BLOCKS[kind]
            assert own + shared + for_blocks <= 1
            stacked = why_alone(changed[Head], changed[Training]) == ""
            assert stacked == (own or shared or for_blocks), field.name
            assert shared == (alike(changed[Head], changed[Training]) != alike(DENSE, Training())), field.name


def test_what_is_alike_is_the_key_of_a_population() -> None:
    """Also weights by name, whatever their order."""
    one, other = ({"x": 1.0, "y": 5.0}, {"y": 5.0, "x": 1.0})
    keys = {alike(DENSE, Training(class_weight=each)) for each in (one, other)}
    assert len(keys) == 1 and alike(DENSE, Training(class_weight={"x": 2.0, "y": 5.0})) not in keys


def test_a_field_that_does_not_exist_yet_trains_alone() -> None:
    @dataclasses.dataclass(frozen=True)
    class Later(Training):
        mixup: float = 0.0

    assert why_alone(DENSE, Later()) == ""
    assert why_alone(DENSE, Later(mixup=0.2)) == "mixup=0.2"


def test_populations_fit_into_the_processors_caches() -> None:
    assert size_for(512, (64,), 10) == 16 and size_for(512, (256,), 10) == 4 and size_for(25088, (4096,), 1000) == 1


def test_a_population_leaves_no_graph_behind() -> None:
    def graphs() -> int:
        gc.collect()
        return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())

    members, before = [Member(DENSE, Training(epochs=2, learning_rate=0.01))], graphs()
    population.train_population(members, *examples(), multi_label=False, seed=0)
    assert graphs() == before
