"""A learning rate for each block, also inside a distribution strategy; and the private parts of Keras it needs."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from vggft.config import Training
from vggft.network import vgg
from vggft.training.optimizers import OPTIMIZERS, make_optimizer

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


def test_keras_has_no_public_way_yet_to_tell_which_variable_a_step_is_of() -> None:
    """When this fails, `make_optimizer` may do without `_get_variable_index`."""
    public = {name for name, _ in inspect.getmembers(keras.optimizers.Optimizer) if not name.startswith("_")}
    assert not {name for name in public if "index" in name or "multiplier" in name}
    assert hasattr(keras.optimizers.Optimizer, "_get_variable_index")
