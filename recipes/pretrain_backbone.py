"""Train the backbone that ships as the preset `vgg16_mini`: VGG16 at a quarter of its width, on CIFAR-10.

    python recipes/pretrain_backbone.py --data ../shared/data/cifar10.zip --out vgg16_mini.npz

It is trained with batch normalisation, which is folded into the convolutions at the end, so that the preset is the
paper's plain network. The schedule is fixed beforehand and the last weights are kept; CIFAR-10's test images are used
once, at the end. After an interruption, the same command resumes from the last complete epoch, which is kept in
`<out>.backup/`. One line per epoch and the result are written to `<out>.log.jsonl`. The weights in
`vggft/network/presets/` and the log beside this recipe were copied by hand from one such run. It reached 86.55 % on the
test images, folded and in float16, in 52 minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vggft.files.writing import whole_file

# vggft is imported before Keras, as it sets variables that TensorFlow reads when it is first imported.
from vggft.network.blocks import BLOCKS, COLUMNS, FILTERS, scaled
from vggft.network.vgg import add_blocks, preprocess

# isort: split
import keras
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Config:
    width: float = 0.25
    image_size: int = 32
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 0.1  # peak; one epoch of warm-up, then a cosine to zero
    erased: int = 12  # side of the square that is greyed in every training image (Cutout, arXiv:1708.04552)
    weight_decay: float = 5e-3  # decoupled; equivalent to an L2 term of 2.5e-4 with momentum 0.9
    watched: int = 2000  # training images held out for the log's validation accuracy
    seed: int = 0


class Crops(keras.utils.PyDataset):
    """Images with random crops, flips and an erased square, which depend only on (seed, epoch)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, config: Config, epoch: int):
        super().__init__()
        self.padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
        self.labels, self.config, self.epoch = labels, config, epoch
        self._shuffle()

    def _shuffle(self) -> None:
        rng = np.random.default_rng((self.config.seed, self.epoch))
        n = len(self.labels)
        self.order, self.offsets, self.flips = rng.permutation(n), rng.integers(0, 9, (n, 2)), rng.random(n) < 0.5
        self.centres = rng.integers(0, self.config.image_size, (n, 2))

    def __len__(self) -> int:
        return len(self.labels) // self.config.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.config.batch_size : (index + 1) * self.config.batch_size]
        span = np.arange(self.config.image_size)
        top, left = self.offsets[rows, 0, None] + span, self.offsets[rows, 1, None] + span
        images = self.padded[rows[:, None, None], top[:, :, None], left[:, None, :]]
        images = np.where(self.flips[rows, None, None, None], images[:, :, ::-1], images)
        down, right = (np.abs(span - self.centres[rows, axis, None]) < self.config.erased / 2 for axis in (0, 1))
        images = np.where((down[:, :, None] & right[:, None, :])[..., None], 118, images)
        return images.astype("float32"), self.labels[rows]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()


class Keep(keras.callbacks.Callback):
    """After every epoch, append a line of JSON to the log, then save weights and optimizer to resume from."""

    def __init__(self, log: Path, backup: Path):
        super().__init__()
        self.log, self.backup = log, backup

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        line = {"epoch": epoch, "seconds": round(time.monotonic() - self.started, 1)}
        append(self.log, line | {key: round(float(value), 4) for key, value in (logs or {}).items()})
        with whole_file(self.backup, overwrite=True) as aside:
            self.model.save_weights(aside)


def append(log: Path, line: dict[str, Any]) -> None:
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def restore(model: keras.Model, backup: Path, log: Path, steps: int) -> int:
    """Return to the last complete epoch, if any, and drop later lines of the log; return the number of epochs done."""
    if backup.exists():
        model.optimizer.build(model.trainable_variables)
        model.load_weights(backup)
    done = int(model.optimizer.iterations.numpy()) // steps
    lines = log.read_text().splitlines(keepends=True)[:done] if log.exists() else []
    with whole_file(log, overwrite=True) as aside:
        aside.write_text("".join(lines))
    return done


def read_cifar10(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(f"{split}/") and name.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names])
    return images, np.array([classes.index(name.split("/")[1]) for name in names])


def build(config: Config, batch_norm: bool) -> keras.Model:
    inputs = keras.Input((config.image_size, config.image_size, 3))
    pixels = preprocess(inputs)
    x = (
        add_normalised_blocks(pixels, config.width)
        if batch_norm
        else add_blocks(pixels, width=config.width)[BLOCKS[-1]]
    )
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x))


def add_normalised_blocks(x: Any, width: float) -> Any:
    """Add the blocks of VGG16 with batch normalisation between each convolution and its ReLU."""
    for block, kernels, filters in zip(BLOCKS, COLUMNS["D"], FILTERS, strict=True):
        for k, kernel in enumerate(kernels, start=1):
            x = keras.layers.Conv2D(
                scaled(filters, width),
                kernel,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"{block}_conv{k}",
            )(x)
            x = keras.layers.BatchNormalization(name=f"{block}_conv{k}_bn")(x)
            x = keras.layers.ReLU(name=f"{block}_conv{k}_relu")(x)
        x = keras.layers.MaxPooling2D(2, strides=2, name=f"{block}_pool")(x)
    return x


def folded(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the convolutions with batch normalisation folded in, for the plain network.

    Each kernel is multiplied by gamma / sqrt(variance + epsilon); the rest moves into the bias.
    """
    weights = {}
    for layer in [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]:
        norm = model.get_layer(f"{layer.name}_bn")
        gamma, beta, mean, variance = norm.get_weights()
        scale = gamma / np.sqrt(variance + norm.epsilon)
        weights[f"{layer.name}/kernel"] = layer.kernel.numpy() * scale
        weights[f"{layer.name}/bias"] = beta - mean * scale
    return weights


def main(data: Path, out: Path, config: Config) -> None:
    keras.utils.set_random_seed(config.seed)
    log, backup = out.with_suffix(".log.jsonl"), out.with_suffix(".backup") / "latest.weights.h5"
    images, labels = read_cifar10(data, "train")
    shuffled = np.random.default_rng(config.seed).permutation(len(labels))
    watched, train = shuffled[: config.watched], shuffled[config.watched :]
    steps = len(train) // config.batch_size

    model = build(config, batch_norm=True)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, config.epochs - 1) * steps, warmup_target=config.learning_rate, warmup_steps=steps
    )
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    done = restore(model, backup, log, steps)
    model.fit(
        Crops(images[train], labels[train], config, epoch=done),
        epochs=config.epochs,
        initial_epoch=done,
        validation_data=(images[watched].astype("float32"), labels[watched]),
        callbacks=[Keep(log, backup)],
        shuffle=False,
        verbose=2,
    )

    plain = build(config, batch_norm=False)
    weights = {name: array.astype("float16") for name, array in folded(model).items()}
    for layer in plain.layers:
        if f"{layer.name}/kernel" in weights:
            layer.set_weights([weights[f"{layer.name}/kernel"], weights[f"{layer.name}/bias"]])
    plain.get_layer("logits").set_weights(model.get_layer("logits").get_weights())
    plain.compile(loss=loss, metrics=["accuracy"], jit_compile=False)
    test_images, test_labels = read_cifar10(data, "test")
    _, accuracy = plain.evaluate(test_images.astype("float32"), test_labels, batch_size=500, verbose=0)
    with whole_file(out) as aside:
        np.savez_compressed(aside, **weights)
    result = {
        "config": asdict(config),
        "test_accuracy_folded_float16": round(float(accuracy), 4),
        "keras": keras.__version__,
    }
    append(log, result)
    shutil.rmtree(backup.parent)
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="cifar10.zip: train/<class>/*.jpg and test/<class>/*.jpg"
    )
    parser.add_argument("--out", type=Path, default=Path("vgg16_mini.npz"))
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    arguments = parser.parse_args()
    main(arguments.data, arguments.out, Config(epochs=arguments.epochs))
