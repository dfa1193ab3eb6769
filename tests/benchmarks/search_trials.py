"""The cost of a search: vggft and KerasTuner as it is used today, side by side.

    python tests/benchmarks/search_trials.py --work DIRECTORY [cached images memory]

`images`: 20 random trials of 10 epochs with the full VGG16 at 224 px and an empty cache; for the peer, one epoch over
few images is timed and multiplied. `cached`: both on the same features, 50 trials of vggft and 4 of the peer. `memory`:
500 trials in one process. Measurements are kept in DIRECTORY/search.json, from which a second call resumes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from sides import Log, clock, photographs

import vggft  # before TensorFlow, so that oneDNN is on for both sides
from vggft.features.cuts import POOLED, columns_of, shape_of
from vggft.heads.batches import FeatureBank
from vggft.heads.resampling import Fold
from vggft.run import RunDirectory
from vggft.training.phases import Setting
from vggft.tuning.goals import Goal
from vggft.tuning.rounds import Rounds
from vggft.tuning.space import declaration
from vggft.tuning.tuner import HeadTuner

IMAGES, FEW, TRIALS, EPOCHS, ROUNDS = 512, 128, 20, 10, 3
HEAD = vggft.Head(blocks="block5", normalize="standardize")
SPACE = vggft.SearchSpace(units=[128, 256, 512], layers=1, normalize="standardize", learning_rate=(1e-4, 1e-2, "log"))


def peer(hp: Any, build_inputs: Any) -> Any:
    """The model of KerasTuner's guide over something that gives inputs and features."""
    import keras

    inputs, x = build_inputs()
    x = keras.layers.Dense(hp.Choice("units", [128, 256, 512]), activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Dropout(0.5)(x)))
    rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def by_keras_tuner(build_inputs: Any, trials: int, epochs: int, train: Any, validation: Any, **fit: Any) -> float:
    """Seconds of KerasTuner's own random search."""
    import keras_tuner

    with tempfile.TemporaryDirectory() as directory:
        tuner = keras_tuner.RandomSearch(
            lambda hp: peer(hp, build_inputs), objective="val_accuracy", max_trials=trials, directory=directory, seed=1
        )
        arguments = {"validation_data": validation, "epochs": epochs, "verbose": 0, **fit}
        return clock(lambda: tuner.search(*train, **arguments))


class Bench:
    """The points over one work directory."""

    def __init__(self, work: Path):
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.log = work, Log(work / "search.json")

    def images(self) -> None:
        """Point 1."""
        import keras

        base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(224, 224, 3))
        base.trainable = False
        few = photographs(self.work / f"images{FEW}", FEW, 10)
        kinds = {"validation_split": 0.2, "seed": 0, "image_size": (224, 224), "batch_size": 32, "verbose": False}
        train = keras.utils.image_dataset_from_directory(few, subset="training", **kinds)
        validation = keras.utils.image_dataset_from_directory(few, subset="validation", **kinds)

        def frozen() -> tuple[Any, Any]:
            inputs = keras.Input((224, 224, 3))
            x = base(keras.applications.vgg16.preprocess_input(inputs), training=False)
            return inputs, keras.layers.GlobalAveragePooling2D()(x)

        folder = photographs(self.work / f"images{IMAGES}", IMAGES, 10)
        weights = self.work / "random.npz"
        if not weights.exists():
            from vggft.network import vgg
            from vggft.network.weights import convolutions

            keras.utils.set_random_seed(0)
            np.savez(weights, **convolutions(vgg.vgg("D", include_top=False)))

        def ours(keep: bool) -> float:
            if not keep:
                shutil.rmtree(self.work / "cache", ignore_errors=True)
            os.environ["VGGFT_CACHE_DIR"] = str(self.work / "cache")
            training = vggft.Training(epochs=EPOCHS, patience=EPOCHS, batch_size=32)
            kinds = {
                "space": SPACE,
                "trials": TRIALS,
                "algorithm": "random",
                "head": HEAD,
                "training": training,
                "verbose": 0,
            }
            return clock(lambda: vggft.search(folder, 10, backbone=weights, **kinds))

        found = self.log.turns(
            "20 trials, seconds",
            ROUNDS,
            peer_one_epoch=lambda _: by_keras_tuner(frozen, 1, 1, (train,), validation),
            ours=lambda _: ours(False),
            ours_again=lambda _: ours(True),
        )
        whole = found["peer_one_epoch"] * TRIALS * EPOCHS * IMAGES / FEW
        print(
            f"Point 1: {found}; peer x {TRIALS * EPOCHS * IMAGES // FEW} / ours {whole / found['ours']:.0f} (goal 300)"
        )
        print(f"Point 1: on features that are cached {whole / found['ours_again']:.0f}", flush=True)

    def search_features(self, trials: int) -> float:
        """Seconds of our search over features that are in memory."""
        features, labels = self.features()
        pool = SimpleNamespace(
            names=[str(row) for row in range(len(labels))],
            targets=np.eye(10, dtype="float32")[labels],
            multi_label=False,
            class_names=tuple("0123456789"),
        )
        experiment: Any = SimpleNamespace(pool=pool, pretrained=SimpleNamespace(width=1.0))
        pooled = np.zeros((len(labels), *shape_of(POOLED, 224, 1.0)), "float16")
        pooled[:, columns_of("avg_pool", 1.0)] = features
        rows, bank = np.arange(len(labels)), FeatureBank(pooled, pool.targets, {POOLED: [pooled]})
        folds, goal = [Fold(rows[:2000], rows[2000:], 0)], Goal(("val_accuracy",))
        rounds = Rounds(experiment, bank, folds, goal, RunDirectory(None))
        training = vggft.Training(epochs=EPOCHS, patience=EPOCHS, batch_size=32)
        from vggft.network.blocks import BLOCKS
        from vggft.tuning.oracles import make_oracle

        declare = declaration(SPACE, Setting(BLOCKS, HEAD, training))
        with tempfile.TemporaryDirectory() as directory:
            tuner = HeadTuner(
                make_oracle("random", goal, trials, 0),
                declare,
                rounds,
                directory=Path(directory),
                parallel=64,
                images=2000,
                keep_top=5,
                on_trial=lambda trial: None,
            )
            seconds = clock(tuner.search)
            assert len(tuner.outcomes()[0]) == trials
        return seconds

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        centres, labels = rng.normal(size=(10, 512)), rng.integers(0, 10, 2500)
        return (centres[labels] * 0.2 + rng.normal(size=(2500, 512))).astype("float16"), labels

    def cached(self) -> None:
        """Point 2."""
        import keras

        features, labels = self.features()
        features = features.astype("float32")

        def given() -> tuple[Any, Any]:
            inputs = keras.Input((512,))
            return inputs, inputs

        def theirs(trials: int) -> float:
            train, validation = (features[:2000], labels[:2000]), (features[2000:], labels[2000:])
            return by_keras_tuner(given, trials, EPOCHS, train, validation, batch_size=32) / trials

        found = self.log.turns(
            "cached, seconds a trial",
            ROUNDS,
            keras_tuner=lambda _: theirs(4),
            ours=lambda _: self.search_features(50) / 50,
        )
        print(
            f"Point 2: {found}; ours {found['ours']:.2f} s per trial (goal 0.25), "
            f"KerasTuner / ours {found['keras_tuner'] / found['ours']:.1f} (goal 15.6, as 3.9 to 0.25)",
            flush=True,
        )

    def memory(self) -> None:
        """500 trials in this process: resident memory after each hundred."""

        def resident() -> int:
            status = Path("/proc/self/status").read_text()
            return int(status.split("VmRSS:")[1].split()[0]) // 1024

        self.search_features(50)
        sizes = []
        for _ in range(5):
            self.search_features(100)
            sizes.append(resident())
        print(f"Memory: MiB after each 100 trials {sizes}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="*", default=["cached", "images", "memory"])
    parser.add_argument("--work", type=Path, required=True, help="a directory with 1 GB of room")
    asked = parser.parse_args()
    bench = Bench(asked.work)
    for name in asked.points:
        getattr(bench, name)()
