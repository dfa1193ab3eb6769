"""Train the backbone that ships as the preset `vgg16_mini`: VGG16 at a quarter of its width, taught by VGG16 itself.

    python recipes/pretrain_backbone.py --data ../shared/data/cifar10.zip --teacher vgg16_imagenet \
        --pictures PHOTOGRAPHS --out vgg16_mini.npz

It begins with what `narrow_backbone.py` solves. Then linear maps of its blocks 3, 4 and 5 learn to give, at every place
of a picture, the principal components of what VGG16 has there (FitNets, arXiv:1412.6550), and the convolutions learn
with them. The pictures are random parts of photographs and images of CIFAR-10; labels are not used. The maps are thrown
away.

What VGG16 sees is computed once and kept in `<out>.backup/`, from which the same command resumes, as it does from the
last complete epoch. The network learns with batch normalisation, which is folded into the convolutions at the end: the
preset is the paper's plain network. One line per epoch and the result, the share of the variance of VGG16's components
that is explained in 500 views held out, are written to `<out>.log.jsonl`.

With 677 pictures of free software (`vggft/network/presets/README.md`): 0.486, 0.555 and 0.624 of the variance of blocks
3, 4 and 5; the default linear probe at 64 px has 0.809 on average over five folders, seeds 0 to 2, where the backbone
before, of CIFAR-10's labels, had 0.714 (`tests/benchmarks/backbones.py`). 55 minutes on two busy cores.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from narrow_backbone import CONVOLUTIONS, EPSILON, Array, Narrow, asked, cifar10, crops, narrowed, pixels_of, views

from vggft.files.writing import whole_file

# vggft is imported before Keras, as it sets variables that TensorFlow reads when it is first imported.
from vggft.network.blocks import HEAD_BLOCKS
from vggft.network.vgg import add_blocks, preprocess
from vggft.network.weights import Pretrained, load_pretrained

# isort: split
import keras
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Config(Narrow):
    crops: int = 36  # of each photograph
    images: int = 12_000  # of CIFAR-10
    components: int = 128  # of each block of VGG16, at every place
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3  # of AdamW, peak; half an epoch of warm-up, then a cosine to zero
    weight_decay: float = 0.05  # decoupled, multiplied by the learning rate
    watched: int = 500  # views held out for the log


def components(maps: dict[str, Array], count: int) -> dict[str, Array]:
    """Return the mean and the principal axes of the square roots of (N, H, W, C) maps: (C,) and (C, count) for a block.

    Square roots are what linear probes on VGG16 like. Each component is divided by the fourth root of its variance, so
    that the small ones, which tell alike things apart, count too, and all of them to a mean square of 1.
    """
    found = {}
    for block, values in maps.items():
        roots = np.sqrt(values.reshape(-1, values.shape[-1]))
        found[f"{block}/mean"] = roots.mean(0)
        spread, axes = (each[..., -count:] for each in np.linalg.eigh(np.cov(roots, rowvar=False)))
        axes = axes / np.maximum(spread, 1e-6 * spread[-1]) ** 0.25
        found[f"{block}/axes"] = axes / np.sqrt(np.square((roots - roots.mean(0)) @ axes).mean())
    return found


def see(
    given: Iterator[Image.Image], teacher: Pretrained, start: dict[str, Array], folder: Path, size: int
) -> dict[str, Array]:
    """Return views, and the components of the teacher's maps of them; keep a file per 1,000 views."""
    blocks = add_blocks(preprocess(inputs := keras.Input((size, size, 3))), teacher.column, teacher.width)
    look = keras.Model(inputs, {block: blocks[block] for block in HEAD_BLOCKS})
    teacher.assign(look)
    parts: list[dict[str, Array]] = []
    while some := list(islice(given, 1000)):
        if not (path := folder / f"{len(parts)}.npz").exists():
            seen = look.predict(pixels := pixels_of(some, size), batch_size=50, verbose=0)
            seen = {b: (np.sqrt(maps) - start[f"{b}/mean"]) @ start[f"{b}/axes"] for b, maps in seen.items()}
            with whole_file(path) as aside:
                np.savez(aside, pixels=pixels, **{block: maps.astype("float16") for block, maps in seen.items()})
        with np.load(path) as kept:
            parts.append(dict(kept))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Batches(keras.utils.PyDataset):
    """Views and their maps, half of them mirrored, which depend only on (seed, epoch, batch)."""

    def __init__(self, views: dict[str, Array], rows: Array, config: Config, epoch: int):
        super().__init__()
        self.views, self.rows, self.config, self.epoch = views, rows, config, epoch

    def __len__(self) -> int:
        return len(self.rows) // self.config.batch_size

    def __getitem__(self, index: int) -> tuple[Array, dict[str, Array]]:
        order = np.random.default_rng((self.config.seed, self.epoch)).permutation(self.rows)
        rows = order[index * self.config.batch_size : (index + 1) * self.config.batch_size]
        mirrored = np.random.default_rng((self.config.seed, self.epoch, index)).random((len(rows), 1, 1, 1)) < 0.5
        some = {name: array[rows] for name, array in self.views.items()}
        some = {name: np.where(mirrored, array[:, :, ::-1], array).astype("float32") for name, array in some.items()}
        return some.pop("pixels"), some

    def on_epoch_end(self) -> None:
        self.epoch += 1


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


def build(start: dict[str, Array]) -> keras.Model:
    """Return the narrow network, with batch normalisation before each ReLU, and its maps to components."""
    x, outputs = preprocess(inputs := keras.Input((None, None, 3))), {}
    for name, following in zip(CONVOLUTIONS, [*CONVOLUTIONS[1:], ""], strict=True):
        filters = start[f"{name}/kernel"].shape[-1]
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        if (block := name[:6]) != following[:6]:
            x = keras.layers.MaxPooling2D(2, strides=2, name=f"{block}_pool")(x)
            if block in HEAD_BLOCKS:
                even = keras.layers.BatchNormalization(name=f"{block}_even")(x)
                count = start[f"{block}/axes"].shape[-1]
                outputs[block] = keras.layers.Conv2D(count, 1, kernel_initializer="zeros", name=block)(even)
    model = keras.Model(inputs, outputs)
    for name in CONVOLUTIONS:
        model.get_layer(name).set_weights([start[f"{name}/kernel"]])
        model.get_layer(f"{name}_bn").set_weights(list(start[f"{name}/norm"]))
    return model


def folded(model: keras.Model) -> dict[str, Array]:
    """Return the convolutions with batch normalisation folded in, for the plain network.

    Each kernel is multiplied by gamma / sqrt(variance + epsilon); the rest moves into the bias.
    """
    weights = {}
    for name in CONVOLUTIONS:
        gamma, beta, mean, variance = model.get_layer(f"{name}_bn").get_weights()
        scale = gamma / np.sqrt(variance + EPSILON)
        weights[f"{name}/kernel"] = model.get_layer(name).kernel.numpy() * scale
        weights[f"{name}/bias"] = beta - mean * scale
    return weights


def learn(seen: dict[str, Array], start: dict[str, Array], log: Path, backup: Path, config: Config) -> keras.Model:
    order = np.random.default_rng(config.seed).permutation(len(seen["pixels"]))
    watched, train = np.split(order, [config.watched])
    steps, model = len(train) // config.batch_size, build(start)
    rising = {"warmup_target": config.learning_rate, "warmup_steps": max(1, steps // 2)}
    falling = keras.optimizers.schedules.CosineDecay(0.0, config.epochs * steps - max(1, steps // 2), **rising)
    optimizer = keras.optimizers.AdamW(falling, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(optimizer, "mean_squared_error", jit_compile=False)
    done = restore(model, backup, log, steps)
    held = {name: array[watched].astype("float32") for name, array in seen.items()}
    how = {"validation_data": (held.pop("pixels"), held), "callbacks": [Keep(log, backup)], "shuffle": False}
    if done < config.epochs:
        model.fit(Batches(seen, train, config, done), epochs=config.epochs, initial_epoch=done, verbose=2, **how)
    return model


def main(data: Path, out: Path, config: Config, teacher: Any, pictures: Sequence[Path]) -> None:
    keras.utils.set_random_seed(config.seed)
    log, backup, size = out.with_suffix(".log.jsonl"), out.with_suffix(".backup"), config.image_size
    backup.mkdir(parents=True, exist_ok=True)
    pretrained = load_pretrained(teacher)
    if not (begun := backup / "start.npz").exists():
        found, maps = narrowed(pretrained, views(data, pictures, config), config)
        maps = {block: maps[block] for block in HEAD_BLOCKS}
        with whole_file(begun) as aside:
            np.savez(aside, **found, **components(maps, config.components))
    start = dict(np.load(begun))
    given = chain(crops(pictures, config.crops, config.seed), cifar10(data, config.images))
    model = learn(see(given, pretrained, start, backup, size), start, log, backup / "latest.weights.h5", config)
    with whole_file(out) as aside:
        np.savez_compressed(aside, **{name: array.astype("float16") for name, array in folded(model).items()})
    last = json.loads(log.read_text().splitlines()[-1])
    explained = {block: round(1 - last[f"val_{block}_loss"], 3) for block in HEAD_BLOCKS}
    append(log, result := {"config": asdict(config), "explained": explained, "keras": keras.__version__})
    shutil.rmtree(backup)
    print(json.dumps(result))


if __name__ == "__main__":
    main(config=Config(), **asked(__doc__, "vgg16_mini.npz"))
