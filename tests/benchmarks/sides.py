"""Shared by the benchmarks: generated data, sides that run in turns, medians, and a log to resume from."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image


class Log:
    """Measured seconds by point, side and round in a JSON file: what is there is not measured again."""

    def __init__(self, path: Path):
        self.path = path
        self.found: dict[str, dict[str, list[float]]] = json.loads(path.read_text()) if path.exists() else {}

    def turns(self, point: str, rounds: int, **sides: Callable[[int], float]) -> dict[str, float]:
        """Measure the sides in turns, so that a disturbance meets all of them; the median of each.

        Args:
            sides: each is given the number of the round and returns what it measured.
        """
        values = self.found.setdefault(point, {side: [] for side in sides})
        for number in range(rounds):
            for side, measure in sides.items():
                if len(values[side]) <= number:
                    values[side].append(measure(number))
                    self.path.write_text(json.dumps(self.found, indent=1))
                    print(
                        f"{time.strftime('%H:%M:%S')} {point}, round {number + 1}: {side} {values[side][-1]:.2f}",
                        flush=True,
                    )
        return {side: statistics.median(measured) for side, measured in values.items()}


def clock(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def photographs(folder: Path, count: int, classes: int = 8) -> Path:
    """A folder of class folders with JPEG images of 500 x 375 pixels, about 50 kB each."""
    for number in range(count):
        path = folder / f"class{number % classes}" / f"{number:05}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(number)
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
            noisy = np.asarray(coarse) + rng.normal(0, 12, (375, 500, 3))
            Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(path, quality=88)
    return folder


def random_weights(path: Path, images: np.ndarray) -> Path:
    """Random weights of the full VGG16, scaled layer by layer so that features vary as trained ones do.

    Every channel gets mean 0 and variance 1 over some images before its ReLU (after arXiv:1511.06422). Weights straight
    from an initializer give nearly the same features for all images, which a head then has to tell apart by their last
    digits.

    Args:
        images: (B, 224, 224, 3) RGB 0..255.
    """
    if not path.exists():
        import keras

        from vggft.network import vgg, weights

        keras.utils.set_random_seed(0)
        model = vgg.vgg("D", include_top=False)
        x = vgg.preprocess(keras.ops.convert_to_tensor(images, "float32"))
        for layer in model.layers[1:]:
            if isinstance(layer, keras.layers.Conv2D):
                kernel = layer.kernel.numpy()
                linear = keras.ops.conv(x, kernel, padding="same").numpy()
                mean, deviation = linear.mean((0, 1, 2)), linear.std((0, 1, 2))
                layer.set_weights([kernel / deviation, -mean / deviation])
            x = layer(x)
        np.savez(path, **weights.convolutions(model))
    return path


@contextmanager
def peak_memory(every: float = 0.05) -> Iterator[list[int]]:
    """The most bytes of anonymous memory that this process has meanwhile: mapped files, which may go, do not count."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(every):
            status = Path("/proc/self/status").read_text()
            peak[0] = max(peak[0], int(status.split("RssAnon:")[1].split()[0]) * 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
