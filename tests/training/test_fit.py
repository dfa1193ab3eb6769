"""The craft of a training, on heads and tiny networks: schedules, averages, phases, and objects of Keras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import vggft
from vggft import ConfigError, Head, Phase, Training
from vggft.heads.batches import Batches, Examples
from vggft.heads.objective import Objective
from vggft.network.blocks import BLOCKS
from vggft.network.forward import between
from vggft.network.freezing import block_layers
from vggft.network.head import head_model
from vggft.run import RunDirectory
from vggft.telling.progress import Narrator
from vggft.training.fit import fit_phase
from vggft.training.phases import Setting, phases_of

FEATURES, CLASSES = 6, 3


def examples() -> tuple[Examples, Examples]:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(60, FEATURES)).astype("float32")
    targets = np.eye(CLASSES, dtype="float32")[inputs[:, :CLASSES].argmax(1)]
    return Examples(inputs, targets, np.arange(40)), Examples(inputs, targets, np.arange(40, 60))


def linear() -> keras.Model:
    return between(head_model((FEATURES,), Head(normalize="standardize"), CLASSES, seed=1), "features", "logits")


def fitted(training: Training, validated: bool = True, **more: Any) -> tuple[keras.Model, list[dict[str, Any]]]:
    """Train a linear head by `fit`; return it and its history."""
    model, (train, validation) = linear(), examples()
    (phase,) = phases_of(Setting(BLOCKS, Head(units=()), training))
    common: dict[str, Any] = {"multi_label": False, "seed": 5, "run": RunDirectory(None), "narrator": Narrator(0)}
    return model, fit_phase(model, train, validation if validated else None, phase, training, **common, **more)


def test_the_average_of_the_weights_is_what_is_judged_and_kept() -> None:
    how: dict[str, Any] = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 0.5}
    training = Training(epochs=2, batch_size=16, ema_momentum=0.9, **how)
    model, history = fitted(training)
    _, validation = examples()
    kept = next(row for row in history if row["kept"])
    losses = Objective(False).losses(validation.targets[validation.rows], model(validation.inputs[validation.rows]))
    assert float(np.mean(losses)) == pytest.approx(kept["val_loss"], rel=1e-5)

    plain, (train, _) = linear(), examples()
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9, nesterov=True, use_ema=True, ema_momentum=0.9)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    plain.compile(optimizer, loss, jit_compile=False)
    plain.fit(Batches(train, 16, 5), epochs=2, shuffle=False, verbose=0)  # which ends with Keras's own averages
    last, _ = fitted(training, validated=False)
    np.testing.assert_allclose(last.get_weights()[-2], plain.get_weights()[-2], rtol=1e-5)
    raw, _ = fitted(Training(epochs=2, batch_size=16, **how), validated=False)
    assert np.abs(raw.get_weights()[-2] - plain.get_weights()[-2]).max() > 0.01


@pytest.mark.parametrize("validated", [True, False])
def test_a_plateau_lowers_the_rate_by_the_validation_score_or_else_the_loss(validated: bool) -> None:
    how: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.5, "clip_norm": 1e-30}  # so that nothing changes
    _, history = fitted(Training(epochs=7, batch_size=40, schedule="plateau", patience=7, **how), validated)
    assert [row["learning_rate"] for row in history] == pytest.approx([0.5] * 4 + [0.05] * 3)


def finetune(data: Any, weights: Path, **arguments: Any) -> vggft.Classifier:
    settings = {"num_classes": 3, "backbone": weights, "image_size": 32, "verbose": 0, "precision": "float32"}
    return vggft.finetune(data, **(settings | arguments))


def moved(classifier: vggft.Classifier, weights: Path) -> set[str]:
    before = np.load(weights)
    kernels = {block: block_layers(classifier.keras_model, block)[0] for block in BLOCKS}
    return {
        block
        for block, layer in kernels.items()
        if not np.array_equal(layer.kernel.numpy(), before[f"{layer.name}/kernel"])
    }


@pytest.mark.slow
def test_gradual_unfreezing_trains_block_after_block(stripes: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    training = Training(
        phases="gradual", epochs=12, fine_tune_epochs=3, batch_size=16, learning_rate=1e-2, schedule="constant"
    )
    classifier = finetune(stripes, tiny_weights, training=training, freeze="block3", run_dir=tmp_path / "run")
    assert list(dict.fromkeys(row["phase"] for row in classifier.history)) == [
        "head",
        "block5 and head",
        "block4, block5 and head",
    ]
    assert moved(classifier, tiny_weights) <= {"block4", "block5"}
    judged = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert judged["agreement"]["largest_difference"] < 1e-5


@pytest.mark.slow
def test_a_block_may_be_trained_and_then_held(stripes: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    """What was evaluated is what was saved: no phase learns from features that a moved block gave before."""
    phases = (Phase("block4", epochs=3, learning_rate=1e-2), Phase("all", epochs=2))
    training = Training(phases=phases, batch_size=16, schedule="constant")
    head = Head(units=(16,))
    classifier = finetune(
        stripes, tiny_weights, training=training, head=head, freeze="block4", run_dir=tmp_path / "run"
    )
    assert moved(classifier, tiny_weights) == {"block5"}
    assert classifier.keras_model.get_layer("block5_conv1").trainable
    judged = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert judged["agreement"]["largest_difference"] < 1e-5
    again = vggft.load(tmp_path / "run")
    np.testing.assert_allclose(again.predict(stripes[0][:9]), classifier.predict(stripes[0][:9]), atol=1e-6)


class Counted(keras.callbacks.Callback):
    """Counts epochs, and ends the training after the second."""

    epochs = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1
        self.model.stop_training = epoch == 1


def test_callbacks_and_metrics_of_keras_are_heard_even_by_a_linear_head(stripes: tuple, tiny_weights: Path) -> None:
    counted = Counted()
    classifier = finetune(
        stripes,
        tiny_weights,
        head=Head(units=()),
        training=Training(epochs=9, batch_size=16),
        callbacks=[counted],
        metrics=[keras.metrics.AUC(name="auc"), "TopKCategoricalAccuracy", "categorical_accuracy"],
    )
    assert counted.epochs == 2 and [row["epoch"] for row in classifier.history] == [1, 2]
    last = classifier.history[-1]
    assert 0 <= last["auc"] <= 1 and 0 <= last["val_auc"] <= 1 and last["top_k_categorical_accuracy"] == 1
    assert last["val_categorical_accuracy"] == pytest.approx(last["val_accuracy"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"callbacks": [print]}, "callbacks must be a list of keras.callbacks.Callback"),
        ({"metrics": ["beauty"]}, "metrics must be a list of keras.metrics.Metric or their names; got 'beauty'"),
        ({"metrics": ["accuracy"]}, "other ones than accuracy and loss; got ..accuracy"),
        ({"training": Training(class_weight={"0": 1, "1": 1, "3": 2})}, r"no class 3; .*missing for 2\. .* 0, 1, 2\."),
        ({"training": Training(phases=(Phase("block4"),))}, "train block5, which freeze= holds"),
    ],
)
def test_what_cannot_be_is_refused_before_any_training(
    arguments: dict[str, Any], message: str, stripes: tuple, tiny_weights: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        finetune(stripes, tiny_weights, **arguments)


def test_several_labels_cannot_be_balanced(stripes: tuple, tiny_weights: Path) -> None:
    several = np.eye(3, dtype="uint8")[stripes[1]]
    several[::4, 0] = 1
    with pytest.raises(ConfigError, match="sampling needs one label per image"):
        finetune((stripes[0], several), tiny_weights, training=Training(sampling="balanced"))


def test_a_run_with_objects_of_keras_can_be_resumed(stripes: tuple, tiny_weights: Path, tmp_path: Path) -> None:
    def settings(rate: float = 1e-4) -> dict[str, Any]:
        optimizer, loss = keras.optimizers.Lion(rate), keras.losses.CategoricalHinge()
        training = Training(epochs=2, fine_tune_epochs=1, batch_size=16, optimizer=optimizer, loss=loss)
        return {"training": training, "freeze": "block4", "run_dir": tmp_path / "run"}

    first = finetune(stripes, tiny_weights, **settings())
    written = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert written["optimizer"]["class_name"] == "Lion" and written["learning_rate"] == 1e-4
    assert Training.from_dict(written).to_dict() == written
    judged, last = first.evaluation, [row for row in first.history if row["kept"]][-1]
    hinge = keras.losses.categorical_hinge(np.eye(3, dtype="float32")[judged.labels], judged.probabilities)
    assert float(np.mean(hinge)) == pytest.approx(last["val_loss"], rel=1e-4)
    again = finetune(stripes, tiny_weights, resume=True, **settings())
    np.testing.assert_array_equal(again.predict(stripes[0][:5]), first.predict(stripes[0][:5]))
    with pytest.raises(vggft.RunError, match="another configuration"):
        finetune(stripes, tiny_weights, resume=True, **settings(2e-4))
