"""The time that frozen features save: vggft and today's usual ways, side by side, with the full VGG16 at 224 px.

    python tests/benchmarks/frozen_features.py --work DIRECTORY [forward frozen block4 size none]

Weights are random, as time does not depend on them; images are JPEG files of 500 x 375. One epoch of the Keras guide's
loop over 128 images is timed and multiplied by the images and epochs of vggft, as all take equally long. vggft computes
in the precision that `"auto"` chooses on the machine. About an hour on two cores; measurements are kept in
DIRECTORY/log.json, from which a second call resumes. Nothing else should run at the same time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from sides import Log, clock, peak_memory, photographs, random_weights

EPOCHS, IMAGES, FEW, ROUNDS = 10, 512, 128, 3
SIZES = (256, 512, 1024, 2048)
GFLOP = 30.7  # of VGG16's blocks for one image of 224 pixels


class Bench:
    """The sides of all points over one work directory."""

    def __init__(self, work: Path):
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.log = work, Log(work / "log.json")
        files = sorted(self.folder(SIZES[0]).rglob("*.jpg"))[:16]
        images = np.stack([np.asarray(Image.open(file).resize((224, 224))) for file in files])
        self.weights = random_weights(work / "random.npz", images)

    def folder(self, count: int) -> Path:
        return photographs(self.work / f"images{count}", count)

    def finetune(self, count: int, *, keep: bool = False, epochs: int = EPOCHS, **arguments: Any) -> Any:
        """`vggft.finetune` as a user calls it; the cache is empty unless it is kept from the call before."""
        import vggft

        cache = self.work / "cache"
        if not keep:
            shutil.rmtree(cache, ignore_errors=True)
        os.environ["VGGFT_CACHE_DIR"] = str(cache)
        training = vggft.Training(epochs=epochs, fine_tune_epochs=epochs, patience=epochs, batch_size=32)
        data = self.folder(count)
        return vggft.finetune(data, 8, backbone=self.weights, training=training, verbose=0, **arguments)

    def guide(self, count: int, learns: str = "") -> float:
        """The loop of the Keras guide on transfer learning: seconds of an epoch with validation, behind the tracing."""
        import keras

        folder = self.folder(count)
        kinds = {"validation_split": 0.2, "seed": 0, "image_size": (224, 224), "batch_size": 32, "label_mode": "int"}
        train = keras.utils.image_dataset_from_directory(folder, subset="training", verbose=False, **kinds)
        validation = keras.utils.image_dataset_from_directory(folder, subset="validation", verbose=False, **kinds)
        base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(224, 224, 3))
        for layer in base.layers:
            layer.trainable = bool(learns) and (learns == "all" or layer.name.startswith(learns))
        inputs = keras.Input((224, 224, 3))
        x = keras.applications.vgg16.preprocess_input(inputs)
        x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
        x = keras.layers.Dropout(0.5)(keras.layers.Dense(256, activation="relu")(x))
        model = keras.Model(inputs, keras.layers.Dense(8)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-5), loss, metrics=["accuracy"])
        model.fit(train.take(1), validation_data=validation.take(1), verbose=0)  # traces
        return clock(lambda: model.fit(train, validation_data=validation, verbose=0))

    def predict(self, pixels: np.ndarray, policy: str) -> float:
        """Images a second of `keras.Model.predict` from an array in memory, after a first call."""
        import keras

        from vggft.network import vgg

        inputs = keras.Input((224, 224, 3))
        x = vgg.add_blocks(vgg.preprocess(inputs), "D", 1.0, dtype=policy)["block5"]
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D(dtype="float32")(x))
        model.predict(pixels[:32], batch_size=32, verbose=0)
        return len(pixels) / clock(lambda: model.predict(pixels, batch_size=32, verbose=0))

    def forward(self) -> None:
        """Point 1."""
        import tensorflow as tf

        from vggft.caching.cache import Cache
        from vggft.data.dataset import open_dataset
        from vggft.data.scan import decode
        from vggft.features.extract import Prefix, frozen_features, passes
        from vggft.network.precision import choose, measure
        from vggft.network.weights import load_pretrained
        from vggft.telling.progress import Narrator

        count, quiet = FEW, Narrator(0)
        folder = self.folder(count)
        precision, why = choose(measure("D", 1.0, 224, False, self.work / "precision.json"))
        say(1, f"{precision}: {why}")
        prefix = Prefix(load_pretrained(self.weights), 224, precision, "float16")
        array = np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3)).astype("float32")

        def ours(number: int) -> float:
            cache = Cache(self.work / "cache")

            def work() -> None:
                pixels, found = decode(open_dataset(folder, 8)["all"], 224, cache, quiet)
                planned = passes(prefix, ["avg_pool"], found.digests, np.arange(count))
                frozen_features(prefix, planned, pixels, cache=cache, narrator=quiet)

            shutil.rmtree(cache.root, ignore_errors=True)
            return count / clock(work)

        def product(dtype: tf.DType) -> float:
            a = tf.cast(tf.random.normal((2048, 2048)), dtype)
            tf.matmul(a, a).numpy()
            seconds = min(clock(lambda: tf.matmul(a, a).numpy()) for _ in range(5))
            return 2 * 2048**3 / seconds / 1e9 / GFLOP

        found = self.log.turns(
            "forward, images/s",
            ROUNDS,
            keras_float32=lambda _: self.predict(array, "float32"),
            keras_bfloat16=lambda _: self.predict(array[:32], "mixed_bfloat16"),
            ours_from_jpeg=ours,
            product_float32=lambda _: product(tf.float32),
            product_bfloat16=lambda _: product(tf.bfloat16),
        )
        best = max(found["keras_float32"], found["keras_bfloat16"])
        say(1, f"{found}; ours / TensorFlow's best {found['ours_from_jpeg'] / best:.2f} (goal 0.9)")
        say(
            1,
            f"ours / keras float32 {found['ours_from_jpeg'] / found['keras_float32']:.2f}; ours / bf16 matrix product "
            f"{found['ours_from_jpeg'] / found['product_bfloat16']:.2f}; ours / fp32 matrix product "
            f"{found['ours_from_jpeg'] / found['product_float32']:.2f}",
        )

    def frozen(self) -> None:
        """Points 2 and 4. The guide is timed twice: as here, and as in a process that sets nothing in its environment.

        TensorFlow by itself leaves oneDNN off on processors without AVX-512; vggft turns it on.
        """
        array = np.random.default_rng(0).integers(0, 256, (FEW, 224, 224, 3)).astype("float32")
        found = self.log.turns(
            "frozen, seconds",
            ROUNDS,
            guide_epoch=lambda _: self.guide(FEW),
            guide_epoch_untouched=lambda _: self.alone("--guide", "frozen", untouched=True)[0],
            ours=lambda _: clock(lambda: self.finetune(IMAGES)),
            ours_again=lambda _: clock(lambda: self.finetune(IMAGES, keep=True)),
            keras_pass=lambda _: IMAGES / self.predict(array, "float32"),
        )
        for side in ("guide_epoch", "guide_epoch_untouched"):
            whole = EPOCHS * found[side] * IMAGES / FEW
            say(2, f"{side} x {EPOCHS * IMAGES // FEW} / ours {whole / found['ours']:.1f} (goal 15)")
        say(2, f"{found}; ours / one pass of Keras {found['ours'] / found['keras_pass']:.2f} (goal 1.25)")
        say(4, f"second / first {found['ours_again'] / found['ours']:.3f} (goal 0.05)")

    def block4(self) -> None:
        """Point 3, with fewer images: the ratio does not depend on how many."""
        count = FEW // 2
        found = self.log.turns(
            "block4, seconds",
            ROUNDS,
            guide_epoch=lambda _: self.guide(count, "block5"),
            guide_epoch_untouched=lambda _: self.alone("--guide", "block5", "--count", str(count), untouched=True)[0],
            ours=lambda _: clock(lambda: self.finetune(count, freeze="block4")),
        )
        for side in ("guide_epoch", "guide_epoch_untouched"):
            say(3, f"{side} x {EPOCHS} / ours {EPOCHS * found[side] / found['ours']:.2f} (goal 6)")
        say(3, f"{found}")

    def alone(self, *arguments: str, untouched: bool = False) -> list[float]:
        """Call this script in a process of its own: the numbers that it prints last."""
        command = [sys.executable, __file__, "--work", str(self.work), *arguments]
        environment = {name: value for name, value in os.environ.items() if not (untouched and name.startswith("TF_"))}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return [float(part) for part in done.stdout.splitlines()[-1].split()]

    def size(self) -> None:
        """Point 5, each size in a process of its own; at 64 px, a twelfth of the work."""

        def one(count: int, which: int) -> float:
            if which == 0:
                told[count] = self.alone("--one", str(count))
            return told[count][which]

        told: dict[int, list[float]] = {}
        for count in SIZES:
            self.folder(count)
        sides = {}
        for count in SIZES:
            sides[f"seconds_{count}"] = lambda _, count=count: one(count, 0)
            sides[f"mebibytes_{count}"] = lambda _, count=count: one(count, 1)
        found = self.log.turns("size", ROUNDS, **sides)
        seconds = np.array([found[f"seconds_{count}"] for count in SIZES])
        slope, start = np.polyfit(SIZES, seconds, 1)
        off = np.abs(seconds / (slope * np.array(SIZES) + start) - 1).max()
        memory = [round(found[f"mebibytes_{count}"]) for count in SIZES]
        say(
            5,
            f"{found}; {1000 * slope:.1f} ms an image + {start:.1f} s, off by at most {off:.1%} (goal 5 %); "
            f"peak MiB {memory}",
        )

    def one(self, count: int) -> None:
        """A run of one size, for `size`: prints seconds and the peak of anonymous memory in MiB."""
        import tensorflow  # noqa: F401  (imports are not timed)

        self.finetune(256, epochs=1, image_size=32)  # nor is what happens once in a process
        with peak_memory() as peak:
            seconds = clock(lambda: self.finetune(count, freeze="block4", epochs=1, image_size=64))
        print(seconds, peak[0] / 2**20)

    def none(self) -> None:
        """Point 6: an epoch of each, with validation, behind the tracing."""
        count = FEW // 4

        def ours(number: int) -> float:
            history = self.finetune(count, freeze="none", epochs=2).history
            return float(history[-1]["seconds"])

        found = self.log.turns(
            "none, seconds",
            ROUNDS,
            keras=lambda _: self.guide(count, "all"),
            keras_untouched=lambda _: self.alone("--guide", "all", "--count", str(count), untouched=True)[0],
            ours=ours,
        )
        ratios = {side: round(found[side] / found["ours"], 2) for side in ("keras", "keras_untouched")}
        say(6, f"{found}; Keras in float32 / ours {ratios} (goal 1.95 where the processor has bfloat16)")


def say(point: int, text: str) -> None:
    print(f"Point {point}: {text}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="*", default=["forward", "frozen", "none", "block4", "size"])
    parser.add_argument("--work", type=Path, required=True, help="a directory with 1 GB of room")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--guide", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=FEW, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not asked.guide:
        import vggft  # noqa: F401  (turns oneDNN on, so it has to come before TensorFlow; the guide's user has none of it)
    bench = Bench(asked.work)
    if asked.guide:
        print(bench.guide(asked.count, "" if asked.guide == "frozen" else asked.guide))
    elif asked.one:
        bench.one(asked.one)
    else:
        for name in asked.points:
            getattr(bench, name)()
