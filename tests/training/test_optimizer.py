"""A learning rate for each block, also inside a distribution strategy; and the private parts of Keras it needs."""

from __future__ import annotations

import gc
import inspect
import weakref
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from vggft.config import Training
from vggft.network import vgg
from vggft.training.optimizers import OPTIMIZERS, Carried, make_optimizer

RATES = {"block1": 0.0, "block2": 0.5, "block3": 1.0}


def steps_of(strategy: tf.distribute.Strategy, optimizer_name: str) -> list[float]:
    """How far the first bias of blocks 1, 2 and 3 goes in one step of gradients of 1."""
    with strategy.scope():
        model = vgg.vgg("A", include_top=False, image_size=32, width=1 / 16)
        training = Training(optimizer=optimizer_name, schedule="constant")
        optimizer = make_optimizer(training, 0.1, 10, RATES)
        variables = [model.get_layer(f"block{n}_conv1").bias for n in (1, 2, 3)]
        optimizer.build(variables)

        @tf.function
        def step() -> None:
            optimizer.apply([keras.ops.ones_like(v) for v in variables])

        strategy.run(step)
    return [float(-variable.numpy()[0]) for variable in variables]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("strategy", [tf.distribute.get_strategy, lambda: tf.distribute.MirroredStrategy(["CPU:0"])])
def test_blocks_nearer_to_the_input_learn_slower(strategy: object, name: str) -> None:
    steps = steps_of(strategy(), name)  # type: ignore[operator]
    assert steps[0] == 0 and steps[1] == pytest.approx(steps[2] / 2, rel=1e-3) and steps[2] > 0


@pytest.mark.slow
def test_a_fit_inside_a_strategy_moves_what_it_should() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = vgg.vgg("A", image_size=32, width=1 / 16, num_classes=2)
        optimizer = make_optimizer(Training(optimizer="adam", schedule="cosine"), 0.01, 4, RATES)
        model.compile(optimizer, "categorical_crossentropy", jit_compile=False)
    before = {name: model.get_layer(name).kernel.numpy() for name in ("block1_conv1", "block3_conv1")}
    images, targets = np.random.default_rng(0).normal(0, 50, (8, 32, 32, 3)), np.eye(2)[np.arange(8) % 2]
    model.fit(images.astype("float32"), targets, batch_size=4, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.get_layer("block1_conv1").kernel.numpy(), before["block1_conv1"])
    assert not np.array_equal(model.get_layer("block3_conv1").kernel.numpy(), before["block3_conv1"])


def variables(*names: str) -> list[keras.Variable]:
    return [keras.Variable(np.ones(3, "float32"), name=name) for name in names]


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, keras.optimizers.Nadam(0.1)])
def test_what_was_trained_before_goes_on_and_what_was_not_begins(optimizer: Any) -> None:
    """In a second phase, an old variable moves as if there were one phase, and a new one as if it were the first."""
    training = Training(optimizer=optimizer, schedule="constant")
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=3).astype("float32") for _ in range(9)]
    (old,), (whole,), (fresh,) = variables("fc1"), variables("fc1"), variables("fc2")
    first, second = make_optimizer(training, 0.1, 9, {}), None
    never_stopped, carried = make_optimizer(training, 0.1, 9, {}), Carried()
    for gradient in gradients[:5]:
        first.apply([gradient], [old])
    carried.take_from(first, [old])
    second = make_optimizer(training, 0.1, 4, {}, taken=carried.steps)
    second.build([old, fresh])
    carried.hand_to(second)
    for gradient in gradients[5:]:
        second.apply([gradient, gradient], [old, fresh])
    for gradient in gradients:
        never_stopped.apply([gradient], [whole])
    begun = make_optimizer(training, 0.1, 4, {})
    (alone,) = variables("fc2")
    for gradient in gradients[5:]:
        begun.apply([gradient], [alone])
    np.testing.assert_array_equal(fresh, alone)
    # Nadam's product of momentums is not of one variable, so it begins anew
    np.testing.assert_allclose(old, whole, rtol=0.2 if isinstance(optimizer, keras.optimizers.Nadam) else 1e-6)
    carried.take_from(second, [old, fresh])
    assert carried.steps == {old.path: 9, fresh.path: 4}


def test_weights_decay_and_biases_do_not() -> None:
    kernel, bias = keras.Variable(np.ones((2, 2), "float32")), keras.Variable(np.ones(2, "float32"))
    optimizer = make_optimizer(Training(optimizer="sgd", schedule="constant", weight_decay=0.5), 0.1, 1, {})
    optimizer.apply([np.zeros((2, 2), "float32"), np.zeros(2, "float32")], [kernel, bias])
    np.testing.assert_allclose(kernel, 0.95)
    np.testing.assert_array_equal(bias, 1.0)


def graph_of_a_step(optimizer: Any) -> weakref.ref[Any]:
    (learned,) = variables("fc1")
    optimizer.build([learned])
    step = tf.function(lambda: optimizer.apply([keras.ops.ones_like(learned)], [learned]))
    step()
    assert learned.numpy()[0] < 1
    return weakref.ref(step.get_concrete_function().graph)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_graph_of_a_training_is_freed(name: str, half: bool) -> None:
    training = Training(optimizer=name, schedule="constant", clip_norm=1.0, ema_momentum=0.9)
    graph = graph_of_a_step(make_optimizer(training, 0.1, 9, RATES, half))
    gc.collect()
    assert graph() is None


def test_gradients_are_clipped_together() -> None:
    first, second = variables("fc1", "fc2")
    optimizer = make_optimizer(
        Training(optimizer=keras.optimizers.SGD(1.0), schedule="constant", clip_norm=1.0), 1.0, 1, {}
    )
    optimizer.apply([np.array([3.0, 0, 0], "float32"), np.array([0, 4.0, 0], "float32")], [first, second])
    np.testing.assert_allclose([first.numpy()[0], second.numpy()[1]], [0.4, 0.2], rtol=1e-6)


def test_an_optimizer_of_keras_is_copied_with_all_its_settings_and_learns_by_our_rates() -> None:
    given = keras.optimizers.RMSprop(0.5, rho=0.7, clipvalue=2.0)
    training = Training(optimizer=given, schedule="constant")
    rate = training.resolve(100).learning_rate
    assert rate == 0.5
    made = [make_optimizer(training, rate, 3, RATES) for _ in range(2)]
    assert made[0] is not made[1] and not given.built
    assert {**made[0].get_config(), "name": ""} == {**given.get_config(), "name": ""}


def test_keras_has_no_public_way_yet_to_tell_which_variable_a_step_is_of() -> None:
    """When this fails, `make_optimizer` may do without `_get_variable_index`."""
    public = {name for name, _ in inspect.getmembers(keras.optimizers.Optimizer) if not name.startswith("_")}
    assert not {name for name in public if "index" in name or "multiplier" in name}
    assert hasattr(keras.optimizers.Optimizer, "_get_variable_index")
