"""Test accuracy side by side, on the same weights and the same splits: vggft and the recipes that people use.

    python tests/benchmarks/transfer.py --work DIRECTORY --backbone WEIGHTS --data FOLDER [FOLDER ...]
        [--seeds 3] [--only default auto block4 lr5 lr45 keras fastai keras_whole fastai_whole]

A quarter of the images is for testing. vggft splits the rest into train and validation images; the others learn from
all of the rest. Results are kept in DIRECTORY/transfer.json, from which a second call resumes; it prints the table. The
two contenders that train the whole network take half an hour for 400 images at 224 px on two cores.

- `default`: `vggft.finetune(folder, test=0.25)`; `auto`: with `freeze="auto"`; `block4`: with `freeze="block4"`.
- `lr5`, `lr45`: scikit-learn's logistic regression on average-pooled outputs of block 5, or of blocks 4 and 5, each
  block's square roots at length 1; the strength by 5 folds.
- `keras`: the frozen stage of Keras's guide to transfer learning: global average pooling, dropout 0.2, dense, Adam at
  1e-3, 20 epochs, mirrored images; `keras_whole`: then everything by Adam 1e-5.
- `fastai`: what fastai's `vision_learner` adds: average and maximum pooling side by side, batch normalisation,
  dropout, 512 units; one cycle with the body frozen; `fastai_whole`: then everything, with rates from low to high.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

import vggft
from vggft.network.vgg import preprocess
from vggft.pictures.files import read_image
from vggft.training.optimizers import make_optimizer

WHOLE_EPOCHS = 3
Split = tuple[list[str], np.ndarray, list[str], np.ndarray]  # images and labels to learn from, and to be tested on


def by_vggft(folder: Path, weights: str, seed: int, run: Path, **settings: Any) -> float:
    """Accuracy on the test images of a run; its directory keeps the splits."""
    shutil.rmtree(run, ignore_errors=True)
    classes = sum(each.is_dir() for each in folder.iterdir())
    how: dict[str, Any] = {"test": 0.25, "backbone": weights, "seed": seed, "run_dir": run, "verbose": 0}
    return float(vggft.finetune(folder, classes, **how, **settings).evaluation["accuracy"])


def split_of(run: Path) -> Split:
    """The images of a run: those that vggft learned or chose from, and those of the test."""
    with (run / "splits.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = sorted({Path(row["image"]).parent.name for row in rows})
    sides = [[row["image"] for row in rows if (row["split"] == "test") == test] for test in (False, True)]
    known, unknown = ([names.index(Path(image).parent.name) for image in side] for side in sides)
    return sides[0], np.array(known), sides[1], np.array(unknown)


class Contenders:
    """The other recipes, on features of images and their mirror images that are computed once for a folder."""

    def __init__(self, folder: Path, weights: str, work: Path):
        self.base = vggft.vgg16(include_top=False, weights=weights, image_size=224)
        self.folder, self.file = folder, work / f"{folder.name}.npz"
        self.images = sorted(
            str(path) for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
        )
        self.places = {image: n for n, image in enumerate(self.images)}
        self.found: dict[str, np.ndarray] = {}

    def pixels(self, images: list[str]) -> np.ndarray:
        """(n, 224, 224, 3) float32."""
        return np.stack([read_image(image, 224).pixels for image in images]).astype("float32")

    def features(self, name: str, images: list[str], mirrored: bool = False) -> np.ndarray:
        """Pooled outputs: avg4, avg5 or max5 of images or of their mirror images."""
        if not self.file.exists():
            inputs = keras.Input((224, 224, 3))
            outputs = keras.Model(self.base.input, [self.base.get_layer(f"block{n}_pool").output for n in (4, 5)])
            four, five = outputs(preprocess(inputs))
            pooled = [keras.layers.GlobalAveragePooling2D()(each) for each in (four, five)]
            model = keras.Model(inputs, [*pooled, keras.layers.GlobalMaxPooling2D()(five)])
            names, rows = ("avg4", "avg5", "max5"), dict[str, list[np.ndarray]]()
            for start in range(0, len(self.images), 16):
                part = self.pixels(self.images[start : start + 16])
                for side, turned in (("", part), ("_mirrored", part[:, :, ::-1])):
                    for each, values in zip(names, model.predict_on_batch(turned), strict=True):
                        rows.setdefault(each + side, []).append(values)
            np.savez(self.file, **{each: np.concatenate(values) for each, values in rows.items()})
        self.found = self.found or dict(np.load(self.file))
        return self.found[name + "_mirrored" * mirrored][[self.places[image] for image in images]]

    def regression(self, blocks: tuple[int, ...], split: Split) -> float:
        """Logistic regression whose strength is chosen by folds."""

        def inputs(images: list[str]) -> np.ndarray:
            roots = [np.sqrt(self.features(f"avg{block}", images)) for block in blocks]
            return np.concatenate([each / np.linalg.norm(each, axis=1, keepdims=True) for each in roots], axis=1)

        images, labels, unseen, truth = split
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        grid = GridSearchCV(LogisticRegression(max_iter=1000), {"C": list(10.0 ** np.arange(-1, 5))}, cv=folds)
        with threadpool_limits(1):
            return float((grid.fit(inputs(images), labels).predict(inputs(unseen)) == truth).mean())

    def head(self, kind: str, classes: int, steps: int) -> keras.Model:
        """The head of a recipe, trained by no step yet: (B, C) features to logits."""
        if kind == "keras":
            layers = [keras.layers.Dropout(0.2, seed=0), keras.layers.Dense(classes)]
            optimizer = keras.optimizers.Adam(1e-3)
        else:
            norm, drop, dense = keras.layers.BatchNormalization, keras.layers.Dropout, keras.layers.Dense
            layers = [norm(), drop(0.25), dense(512, "relu", use_bias=False), norm(), drop(0.5), dense(classes)]
            optimizer = keras.optimizers.AdamW(one_cycle(2e-3, steps), weight_decay=0.01)
        model = keras.Sequential([keras.Input((512 if kind == "keras" else 1024,)), *layers])
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        return model

    def trained(self, kind: str, split: Split, seed: int, whole: bool) -> float:
        """Train a recipe on frozen features of images and their mirror images in turns, then everything if `whole`."""
        images, labels, unseen, truth = split
        names = ("avg5",) if kind == "keras" else ("avg5", "max5")
        views = [np.concatenate([self.features(n, images, side) for n in names], axis=1) for side in (False, True)]
        keras.utils.set_random_seed(seed)
        rng, epochs, batch = np.random.default_rng(seed), 20 if kind == "keras" else 10, 32
        head = self.head(kind, int(labels.max()) + 1, epochs * -(-len(images) // batch))
        for _ in range(epochs):
            turned = rng.random(len(images)) < 0.5
            head.fit(np.where(turned[:, None], views[1], views[0]), labels, batch_size=batch, verbose=0)
        if whole:
            return self.whole(kind, head, split, rng)
        seen = np.concatenate([self.features(n, unseen) for n in names], axis=1)
        return float((head.predict(seen, verbose=0).argmax(1) == truth).mean())

    def whole(self, kind: str, head: keras.Model, split: Split, rng: np.random.Generator) -> float:
        """Train everything: Keras's guide by one small rate, fastai by one cycle with rates that rise with depth."""
        images, labels, unseen, truth = split
        inputs = keras.Input((224, 224, 3))
        base = keras.models.clone_model(self.base)
        base.set_weights(self.base.get_weights())
        x = base(preprocess(keras.layers.RandomFlip("horizontal", seed=0)(inputs)))
        pooled = [keras.layers.GlobalAveragePooling2D()(x)]
        if kind == "fastai":
            pooled = [keras.layers.Concatenate()([*pooled, keras.layers.GlobalMaxPooling2D()(x)])]
        model, batch = keras.Model(inputs, head(pooled[0])), 16
        steps = WHOLE_EPOCHS * -(-len(images) // batch)
        optimizer: Any = keras.optimizers.Adam(1e-5)
        if kind == "fastai":  # slice(1e-5, 1e-3) over the depth: a rate for each third of the network
            how = vggft.Training(optimizer="adamw", weight_decay=0.01, schedule="one_cycle")
            rates = {f"block{n}": 0.01 if n < 4 else 0.1 for n in range(1, 6)}
            optimizer = make_optimizer(how, 1e-3, steps, rates)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        known = self.pixels(images)
        for _ in range(WHOLE_EPOCHS):
            order = rng.permutation(len(known))
            model.fit(known[order], labels[order], batch_size=batch, verbose=0)
        return float((model.predict(self.pixels(unseen), batch_size=16, verbose=0).argmax(1) == truth).mean())


def one_cycle(peak: float, steps: int) -> Any:
    """A quarter of the steps up, the rest down by a cosine."""
    warmup = max(1, steps // 4)
    return keras.optimizers.schedules.CosineDecay(
        peak / 25, max(1, steps - warmup), alpha=1e-5, warmup_target=peak, warmup_steps=warmup
    )


OURS: dict[str, dict[str, Any]] = {"default": {}, "auto": {"freeze": "auto"}, "block4": {"freeze": "block4"}}


def measured(name: str, folder: Path, backbone: str, seed: int, work: Path, others: Contenders) -> float:
    """Accuracy of one contender on the split of one seed, which `default` has made."""
    run = work / f"{folder.name}_{seed}"
    if name in OURS:
        place = run if name == "default" else run.with_name(f"{run.name}_{name}")
        return by_vggft(folder, backbone, seed, place, **OURS[name])
    if name.startswith("lr"):
        return others.regression(tuple(map(int, name[2:])), split_of(run))
    kind, _, whole = name.partition("_")
    return others.trained(kind, split_of(run), seed, bool(whole))


def main(work: Path, backbone: str, data: list[Path], seeds: int, only: list[str]) -> None:
    work.mkdir(parents=True, exist_ok=True)
    log = work / "transfer.json"
    found: dict[str, dict[str, dict[str, list[float]]]] = json.loads(log.read_text()) if log.exists() else {}
    for folder in data:
        others = Contenders(folder, backbone, work)
        for seed in range(seeds):
            for name in only:
                runs = found.setdefault(folder.name, {}).setdefault(name, {})
                if str(seed) not in runs:
                    started = time.perf_counter()
                    accuracy = measured(name, folder, backbone, seed, work, others)
                    runs[str(seed)] = [accuracy, time.perf_counter() - started]
                    log.write_text(json.dumps(found, indent=1))
                    told = f"{folder.name}, seed {seed}: {name} {accuracy:.3f} in {runs[str(seed)][1]:.0f} s"
                    print(f"{time.strftime('%H:%M:%S')} {told}", flush=True)
    print(table(found))


def table(found: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """The results as a table in Markdown: mean accuracy, each seed, and the mean seconds."""
    lines = ["| pictures | contender | test accuracy | each seed | seconds |", "|---|---|---|---|---|"]
    for folder, contenders in found.items():
        for name, runs in contenders.items():
            each, seconds = ([run[n] for run in runs.values()] for n in (0, 1))
            told = " ".join(f"{accuracy:.3f}" for accuracy in each)
            lines.append(f"| {folder} | {name} | {np.mean(each):.3f} | {told} | {np.mean(seconds):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--backbone", required=True, help="a weights file of the full VGG16")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["default", "auto", "block4", "lr5", "lr45", "keras", "fastai"])
    main(**vars(parser.parse_args()))
