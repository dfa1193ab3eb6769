"""What is computed again when data changes, and what a second question costs: the feature store at 224 px, full width.

    python tests/benchmarks/feature_store.py --work DIRECTORY [changes processes training memory second]

Weights are random unless a file is given, as time does not depend on them; images are JPEG files of 500 x 375.
Measurements are kept in DIRECTORY/feature_store.json, from which a second call resumes. Half an hour on two cores;
nothing else should run at the same time.

On two cores with AVX-512 (float32, 10 images/s) it gave: 10 images added to 1,000: 1.9 % of a pass; two processes 1.6
times as fast as one, 1.02 passes; block 5 learns from the store in 0.96 of the time from memory; peaks of 1,000 to
16,000 streamed images 23 MB apart; a cold fine-tune 1.24 bare passes, another head 0.64 s, a cached search 8.1 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from sides import Log, clock, photographs, random_weights

IMAGES, ROUNDS, EPOCHS = 1000, 3, 10
STREAMED = (1000, 4000, 16000)

# A process of its own: memory, imports and the number of images that it computed can then be told.
CHILD = """
import json, os, sys, time
started = time.perf_counter()
import numpy as np, vggft
from vggft.features import extract
if cores := os.environ.get("CORES"):
    os.sched_setaffinity(0, set(map(int, cores.split(","))))
forward_all, computed = extract.forward_all, []
def counting(network, images, **options):
    computed.append(len(images))
    return forward_all(network, images, **options)
extract.forward_all = counting
task, weights, *rest = sys.argv[1:]
def told(**values):
    print(json.dumps(values | {"computed": sum(computed)}), flush=True)
"""

FINETUNE = (
    CHILD
    + """
vggft.finetune(rest[0], 8, backbone=weights, training=vggft.Training(epochs=3), verbose=0)
told(seconds=time.perf_counter() - started)
"""
)

STREAM = (
    CHILD
    + """
import tensorflow as tf
count = int(rest[0])
images = tf.data.Dataset.range(count).map(lambda i: (tf.cast(tf.random.stateless_uniform((224, 224, 3), (0, i), 0, 256,
    tf.int32) // (1 + 3 * tf.cast(i % 2, tf.int32)), tf.uint8), i % 2)).batch(32)
vggft.finetune(images, 2, backbone="vgg16_mini", image_size=224, training=vggft.Training(epochs=1), verbose=0)
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]  # getrusage would tell the parent's, if larger
told(megabytes=int(peak) * 1.024 / 1000)
"""
)

SECOND = (
    CHILD
    + """
import keras, keras_tuner
from vggft.network import vgg
imported = time.perf_counter() - started
def clock(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
def finetune(**arguments):
    training = vggft.Training(epochs=10)
    vggft.finetune(rest[0], 8, backbone=weights, training=training, verbose=0, **arguments)
def search():
    vggft.search(rest[0], 8, backbone=weights, trials=20, algorithm="random", training=vggft.Training(epochs=10),
        run_dir=rest[1], verbose=0)
def bare():
    inputs = keras.Input((224, 224, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(vgg.add_blocks(vgg.preprocess(inputs))["block5"]))
    pixels = np.zeros((160, 224, 224, 3), "float32")
    model.predict(pixels[:32], verbose=0)
    return clock(lambda: model.predict(pixels, batch_size=32, verbose=0))
if task == "cold":
    seconds = clock(finetune)
    told(imported=imported, seconds=seconds, bare=bare())
elif task == "search":
    told(imported=imported, seconds=clock(search))
else:
    finetune()
    heads = [clock(lambda units=units: finetune(head=vggft.Head(units=(units,)))) for units in (64, 96, 128)]
    told(imported=imported, seconds=sorted(heads)[1])
"""
)


class Bench:
    """All points over one work directory."""

    def __init__(self, work: Path, backbone: Path | None):
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.log = work, Log(work / "feature_store.json")
        files = sorted(self.folder(IMAGES).rglob("*.jpg"))[:16]
        images = np.stack([np.asarray(Image.open(file).resize((224, 224))) for file in files])
        self.weights = backbone or random_weights(work / "random.npz", images)

    def folder(self, count: int, classes: int = 8) -> Path:
        return photographs(self.work / f"images{count}", count, classes)

    def cache(self, keep: bool = False) -> Path:
        cache = self.work / "cache"
        if not keep:
            shutil.rmtree(cache, ignore_errors=True)
        os.environ["VGGFT_CACHE_DIR"] = str(cache)
        return cache

    def start(self, script: str, *arguments: Any, task: str = "-", **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-c", script, task, str(self.weights), *map(str, arguments)]
        more = {"TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | more)

    def run(self, script: str, *arguments: Any, task: str = "-", **environment: str) -> dict[str, float]:
        output, _ = self.start(script, *arguments, task=task, **environment).communicate()
        return dict(json.loads(output.splitlines()[-1]))

    def changes(self) -> None:
        """Point 1: what is computed after a change of 1,000 images, and the seconds beyond those of no change."""
        import vggft
        from vggft.features import extract

        computed: list[int] = []
        forward_all = extract.forward_all

        def counting(network: Any, images: Any, **options: Any) -> Any:
            computed.append(len(images))
            return forward_all(network, images, **options)

        extract.forward_all = counting
        folder, spare = self.work / "changing", self.folder(IMAGES + 40)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder(IMAGES), folder)
        self.cache()

        def finetune(classes: int = 8, **arguments: Any) -> Callable[[], object]:
            training = vggft.Training(epochs=EPOCHS)
            return lambda: vggft.finetune(
                folder, classes, backbone=self.weights, training=training, verbose=0, **arguments
            )

        def measured(name: str, work: Callable[[], object]) -> float:
            computed.clear()
            seconds = clock(work)
            exact = 4 if name == "cold" else 0  # of the agreement of 16 bits with 32
            say(1, f"{name}: {sum(computed)} images computed (of these {exact} or more in float32), {seconds:.2f} s")
            return seconds

        cold = measured("cold", finetune())
        same = measured("no change", finetune())
        new = sorted(spare.rglob("*.jpg"))
        new = [file for file in new if int(file.stem) >= IMAGES]
        for file in new[:10]:
            shutil.copy(file, folder / file.parent.name / f"new-{file.name}")
        added = measured("10 added", finetune())
        say(1, f"10 added / a pass: {(added - same) / (cold - same):.4f} (goal 0.02)")
        for file in sorted(folder.rglob("new-*")):
            file.unlink()
        measured("10 removed", finetune())
        measured("another seed and split", finetune(seed=1, validation=0.3))
        (folder / "class9").mkdir()
        for file in new[10:30]:
            shutil.copy(file, folder / "class9" / file.name)
        measured("a new class of 20", finetune(9))
        extract.forward_all = forward_all

    def processes(self) -> None:
        """Point 2: one and two processes, each on a core of its own, and one of two killed."""
        folder = self.folder(200)

        def one(number: int) -> float:
            self.cache()
            return self.run(FINETUNE, folder, CORES="0")["seconds"]

        totals: list[float] = []

        def two(number: int) -> float:
            self.cache()
            both = [self.start(FINETUNE, folder, CORES=core) for core in "01"]
            found = [json.loads(each.communicate()[0].splitlines()[-1]) for each in both]
            totals.append(sum(each["computed"] for each in found))
            return float(max(each["seconds"] for each in found))

        found = self.log.turns("processes, seconds", ROUNDS, one=one, two=two)
        say(2, f"two processes / one: {found['one'] / found['two']:.2f} times as fast (goal 1.6); computed {totals}")
        cache = self.cache()
        first, second = (self.start(FINETUNE, folder, CORES=core) for core in "01")
        while not list(cache.glob("features/*/*.keys.npy")):
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        last = json.loads(second.communicate()[0].splitlines()[-1])
        say(2, f"one of two killed: the other finished, having computed {last['computed']} of 200 images")

    def training(self) -> None:
        """Point 4: block 5 learns from block 4's maps in random order, from the store and from memory."""
        import vggft
        from vggft.caching import rows

        folder = self.folder(512)
        self.cache(keep=True)

        def epochs(limit: int) -> float:
            rows.IN_MEMORY = limit
            found = vggft.finetune(
                folder,
                8,
                backbone=self.weights,
                freeze="block4",
                training=vggft.Training(epochs=1, fine_tune_epochs=2, patience=9),
                verbose=0,
            )
            return min(row["seconds"] for row in found.history if row["phase"] == "blocks and head")

        epochs(0)  # fills the store
        found = self.log.turns(
            "epoch of 410 images, seconds", ROUNDS, store=lambda _: epochs(0), memory=lambda _: epochs(2**40)
        )
        say(4, f"{found}; store / memory {found['store'] / found['memory']:.3f} (goal 1.05)")

    def memory(self) -> None:
        """Point 5: peak resident memory of a tf.data.Dataset of N images of 224 px, mini backbone."""

        def peak(count: int) -> float:
            self.cache()
            return self.run(STREAM, count)["megabytes"]

        found = self.log.turns(
            "tf.data, MB resident", 1, **{str(count): lambda _, count=count: peak(count) for count in STREAMED}
        )
        say(5, f"{found}; the largest less the smallest: {max(found.values()) - min(found.values()):.0f} MB (goal 50)")

    def second(self) -> None:
        """Point 7: 160 images."""
        folder, told = self.folder(160), {}

        def asked(task: str) -> Callable[[int], float]:
            def measure(number: int) -> float:
                self.cache(keep=task != "cold")
                run_dir = self.work / "search"
                shutil.rmtree(run_dir, ignore_errors=True)
                told[task] = self.run(SECOND, folder, run_dir, task=task)
                if task == "cold":
                    return told[task]["seconds"] / told[task]["bare"]
                return told[task]["seconds"]

            return measure

        for task, what in (
            ("cold", "cold fine-tune / one bare forward pass (goal 1.3)"),
            ("head", "another head in one process, seconds (goal 1.5)"),
            ("search", "a cached search of 20 trials with its files, seconds (goal 5)"),
        ):
            found = self.log.turns(f"second, {task}", ROUNDS, ours=asked(task))
            say(7, f"{what}: {found['ours']:.2f}; last round {told.get(task)}")


def say(point: int, sentence: str) -> None:
    print(f"[{point}] {sentence}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    points = ("changes", "processes", "training", "memory", "second")
    parser.add_argument("points", nargs="*", default=points, help=", ".join(points))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, help="a weights file of the full VGG16")
    chosen = parser.parse_args()
    bench = Bench(chosen.work, chosen.backbone)
    for point in chosen.points:
        getattr(bench, point)()


if __name__ == "__main__":
    main()
