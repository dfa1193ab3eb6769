"""What a run computes on: several logical processors stand for GPUs, and give what one device gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import vggft
from vggft.errors import ConfigError
from vggft.heads.batches import Batches, Examples
from vggft.machines.cluster import Cluster, on_this_machine
from vggft.machines.shares import judged_by_all, shared
from vggft.machines.strategies import Devices, devices_of

BEGIN = """
import json, os, sys
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np, vggft
rng = np.random.default_rng(0)
labels = np.arange(61) % 3
images = np.clip(rng.normal(100, 50, (61, 32, 32, 3)) + labels[:, None, None, None] * 12, 0, 255).astype("uint8")
head = vggft.Head(units=(8,), dropout=0.0, normalize="l2")
how = dict(backbone="vgg16_mini", image_size=32, test=0.2, precision="float32", head=head, verbose=0)
def weights(strategy, **more):
    training = dict(epochs=9, fine_tune_epochs=3, fine_tune_learning_rate=1e-5, batch_size=8)
    os.environ["VGGFT_CACHE_DIR"] = f"{sys.argv[1]}/{strategy}"
    found = vggft.finetune((images, labels), 3, training=vggft.Training(**training | more), strategy=strategy,
                           freeze=sys.argv[2], **how)
    return np.concatenate([each.ravel() for each in found.keras_model.get_weights()])
def difference(**more):
    return float(np.abs(weights("mirrored", **more) - weights("auto", **more)).max())
"""


def run(code: str, *arguments: object, **environment: str) -> list[Any]:
    """Run code in a process of its own; return what it prints last, as JSON."""
    asked = [sys.executable, "-c", BEGIN + code, *map(str, arguments)]
    done = subprocess.run(asked, capture_output=True, text=True, env=os.environ | environment, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_words_and_objects_for_a_strategy() -> None:
    assert devices_of("auto").replicas == 1  # there is no GPU
    own = tf.distribute.MirroredStrategy(["CPU:0"])
    assert devices_of(own).strategy is own and devices_of(own).told(32) == ""
    with pytest.raises(ConfigError, match=r"strategy must be 'auto', 'mirrored', 'multiworker', or a tf\.distribute"):
        devices_of("horovod")
    with pytest.raises(ConfigError, match="a CentralStorageStrategy places variables elsewhere"):
        devices_of(tf.distribute.experimental.CentralStorageStrategy())
    with pytest.raises(vggft.ConfigError, match="strategy must be"):
        vggft.finetune("nowhere", strategy=3)
    with own.scope(), pytest.raises(ConfigError, match="pass strategy=strategy"):
        vggft.estimate((np.zeros((20, 32, 32, 3), "uint8"), np.arange(20) % 2), backbone="vgg16_mini", verbose=0)


def test_processes_have_to_share_a_run_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", on_this_machine(2).tf_config(0))
    with pytest.raises(ConfigError, match="share a run_dir"):
        vggft.finetune("nowhere", strategy="multiworker")


class Replicas(Devices):
    """Devices as they would be on several machines, whose shares are read without them."""

    count = 3

    @property
    def replicas(self) -> int:
        return self.count


@pytest.mark.parametrize("count", [12, 13, 10, 2])
def test_the_shares_of_a_batch_are_that_batch(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Each image once, and weighed so that the sum over replicas is the mean over the batch."""
    inputs = np.arange(count, dtype="float32")[:, None]
    examples = Examples(inputs, np.eye(2, dtype="float32")[np.arange(count) % 2], np.arange(count))
    read: list[Any] = []
    monkeypatch.setattr("vggft.machines.shares._distributed", lambda generate, example, devices: read.append(generate))
    cluster = Cluster(("a:1", "b:1", "c:1"))
    for rank in range(3):
        devices = Replicas(None, Cluster(cluster.workers, rank), given=True)
        shared(Batches(examples, 5, seed=0, epoch=0), devices, 0)
        judged_by_all(examples, 12, devices)
    steps = -(-count // 5)
    mine = [[next(each) for _ in range(steps)] for each in [generate() for generate in read[::2]]]
    for step in range(steps):
        parts = [mine[rank][step] for rank in range(3)]
        counted = np.concatenate([inputs[weights > 0] for inputs, _, weights in parts])
        whole = Batches(examples, 5, seed=0, epoch=1)[step][0]
        assert sorted(counted.ravel()) == sorted(whole.ravel())
        mean = sum((inputs[:, 0] * weights).sum() / len(inputs) for inputs, _, weights in parts) / 3
        assert mean == pytest.approx(whole.mean(), rel=1e-6)
    judged = [next(generate())[0].ravel() for generate in read[1::2]]
    if count in (10, 12):  # one step
        assert sorted(np.concatenate(judged)) == sorted(inputs.ravel())
    elif count < 3:
        assert all((each == inputs.ravel()).all() for each in judged)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["block4", "none"])
def test_two_devices_give_what_one_gives(tmp_path: Path, freeze: str) -> None:
    """Also where gradients are clipped, which has to happen after they have been added up."""
    code = (
        'print(json.dumps([difference(), difference(clip_norm=0.01), difference(phases="gradual", ema_momentum=0.9)]))'
    )
    assert max(run(code, tmp_path, freeze)) < 1e-6


@pytest.mark.slow
def test_features_of_two_devices_are_those_of_one(tmp_path: Path) -> None:
    code = """
def features(strategy):
    os.environ["VGGFT_CACHE_DIR"] = f"{sys.argv[1]}/{strategy}"
    made = vggft.VGGFeatures("vgg16_mini", image_size=32, precision="float32", strategy=strategy)
    return made.fit_transform(images)
print(json.dumps([float(np.abs(features("mirrored") - features("auto")).max())]))
"""
    assert max(run(code, tmp_path, "all")) < 1e-4  # of values up to a hundred


@pytest.mark.slow
def test_clipping_by_what_all_devices_have_changes_the_weights(tmp_path: Path) -> None:
    """So that the test before can fail: SGD's steps are as long as the gradients."""
    sgd = 'optimizer="sgd", fine_tune_learning_rate=1e-3, '
    code = f"""
whole, clipped = (weights("mirrored", {sgd} **more) for more in ({{}}, dict(clip_norm=0.001)))
print(json.dumps([float(np.abs(whole - clipped).max()), difference({sgd} clip_norm=0.001)]))
"""
    changed, apart = run(code, tmp_path, "block4")
    assert changed > 1e-5 > 10 * apart


OWN = """
import json, sys
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before anything else, as TensorFlow wants it
import numpy as np, vggft
rng = np.random.default_rng(0)
labels = np.arange(61) % 3
images = np.clip(rng.normal(100, 50, (61, 32, 32, 3)) + labels[:, None, None, None] * 12, 0, 255).astype("uint8")
how = dict(backbone="vgg16_mini", image_size=32, test=0.2, precision="float32", verbose=0)
training = vggft.Training(epochs=9, fine_tune_epochs=2, fine_tune_learning_rate=1e-5, batch_size=8)
head = vggft.Head(units=(8,), dropout=0.0, normalize="l2")
found = vggft.finetune((images, labels), 3, freeze="block4", head=head, training=training, strategy=strategy,
                       run_dir=sys.argv[1], **how)
print(json.dumps([float(np.abs(each).sum()) for each in found.keras_model.get_weights()]))
"""


@pytest.mark.slow
def test_a_strategy_of_ones_own_in_two_processes(tmp_path: Path) -> None:
    cluster = on_this_machine(2)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OWN, str(tmp_path / "run")],
            env=os.environ | {"TF_CONFIG": cluster.tf_config(rank), "VGGFT_CACHE_DIR": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=300)[0].splitlines()[-1] for process in processes]
    assert told[0] == told[1] and len(json.loads(told[0])) > 20


BARE = """
import json, os, sys
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, numpy as np
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
try:
    model.fit(np.zeros((9, 4), "float32"), np.zeros((9, 2), "float32"), batch_size=4, verbose=0)
    print(json.dumps("it trains"), flush=True)
except Exception as error:
    print(json.dumps(type(error).__name__), flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_keras_needs_no_mending(tmp_path: Path) -> None:
    """Once Keras's `fit` runs in two processes by itself, this fails, and `machines.mending` can go."""
    cluster = on_this_machine(2)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BARE],
            env=os.environ | {"TF_CONFIG": cluster.tf_config(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120)[0].splitlines()[-1:] for process in processes]
    assert '"it trains"' not in [line for lines in told for line in lines]
