"""The precision of the arithmetic, chosen by a short measurement on this machine.

bfloat16 is about twice as fast on processors that have instructions for it, and many times slower on others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import keras
import numpy as np

from ..engine import own_settings
from ..errors import ConfigError
from ..fields import Positive, is_word, shown
from ..files.documents import DocumentError, parse_document
from ..files.writing import write_whole
from ..pictures.reading import ImageSize, check_size, plain_size
from .blocks import BLOCKS
from .vgg import add_blocks, preprocess

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
MEASURED_BLOCKS = 3
HOPELESS = 1.5  # times the seconds of float32 for one convolution, from which a network is not measured

logger = logging.getLogger("vggft")
Measured = dict[str, dict[str, Positive]]  # of this machine, in a file of the cache


def policy(precision: str) -> str:
    """Return the Keras dtype policy: 16-bit arithmetic on weights that stay float32."""
    return precision if precision == "float32" else f"mixed_{precision}"


def check_precision(precision: str) -> None:
    """Raise `ConfigError` unless it is one of `PRECISIONS`."""
    if not is_word(precision, PRECISIONS):
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}; got {shown(precision)}.")


@own_settings()
def measure(column: str, width: float, image_size: ImageSize, learns: bool, memory: Path) -> dict[str, float]:
    """Measure the seconds per image through blocks 1 to 3, in float32 and in the 16-bit format of this machine.

    The first block would not be enough: it is bound by memory, and as fast in bfloat16 even on processors on which the
    other blocks are many times slower.

    Args:
        learns: whether to measure a training step, which may benefit less than a forward pass.
        memory: a JSON file of measurements, so that the next run on this machine makes the same choice despite noise.

    Returns:
        precision -> seconds that an image would take if no other program ran; see `crowding`.
    """
    other = "float16" if keras.distribution.list_devices("gpu") else "bfloat16"
    here = [platform.node(), str(os.cpu_count()), other, keras.__version__, keras.backend.backend()]
    key = " ".join([*here, column, f"{width:g}", str(plain_size(image_size)), "training" if learns else "forward"])
    try:
        known = parse_document(memory.read_bytes(), Measured)
        return {precision: known[key][precision] for precision in ("float32", other)}
    except (OSError, DocumentError, KeyError):
        pass
    share = _one_convolution(other) / _one_convolution("float32")
    steps = {p: _step(p, column, width, image_size, learns) for p in ("float32", other)[: 1 if share > HOPELESS else 2]}
    times: dict[str, list[float]] = {p: [] for p in steps}
    count = _count(width, image_size)
    while len(times["float32"]) < 2 or (sum(map(sum, times.values())) < 0.3 and len(times["float32"]) < 20):
        for precision, step in steps.items():  # in turns, so that a disturbance affects both
            started = time.perf_counter()
            step()
            times[precision].append((time.perf_counter() - started) / count)
    crowded = crowding()
    found = {precision: statistics.median(seconds) / crowded for precision, seconds in times.items()}
    found.setdefault(other, share * found["float32"])
    _remember(memory, key, found)
    return found


def crowding() -> float:
    """Return how many times as long work on all cores takes as it would if no other program ran; 1 if none does.

    It is the time of some hashing, which Python does on several cores at once, against the time that cores spent on it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    block = bytes(2**20)
    with ThreadPoolExecutor(cores) as pool:
        started, spent = time.perf_counter(), time.process_time()
        list(pool.map(lambda _: [hashlib.sha256(block) for _ in range(24)], range(cores)))
        taken, spent = time.perf_counter() - started, time.process_time() - spent
    return max(1.0, cores * taken / max(spent, 1e-9))


def choose(seconds: dict[str, float]) -> tuple[str, str]:
    """Choose the precision, 16 bits only if they save a quarter of the time; also say why in a sentence."""
    (other,) = set(seconds) - {"float32"}
    share = seconds[other] / seconds["float32"]
    if share == math.inf:
        return "float32", f"this machine has no convolutions in {other}"
    chosen = other if share < 0.75 else "float32"
    return chosen, f"here, convolutions take {share:.1f} times as long in {other} as in float32"


def _one_convolution(precision: str) -> float:
    """Measure the seconds of one convolution, a hundredth of a network, which tells where 16 bits are no question."""
    pixels, kernel = (keras.ops.ones(shape, precision) for shape in ((1, 56, 56, 64), (3, 3, 64, 64)))
    seconds = [math.inf]
    try:
        for _ in range(6):
            started = time.perf_counter()
            keras.ops.convert_to_numpy(keras.ops.conv(pixels, kernel, padding="same"))
            seconds.append(time.perf_counter() - started)
    except Exception as error:  # a processor or driver that has no such arithmetic
        if precision == "float32":
            raise
        logger.debug("no convolutions in %s: %s", precision, error)
    return min(seconds)


def _count(width: float, image_size: ImageSize) -> int:
    """Return the number of images to measure with, which is larger for smaller networks and images."""
    return round(min(32.0, max(1.0, 224**2 / math.prod(check_size(image_size)) / width**2)))


def _step(precision: str, column: str, width: float, image_size: ImageSize, learns: bool) -> partial[object]:
    inputs = keras.Input((*check_size(image_size), 3))
    maps = add_blocks(preprocess(inputs), column, width, dtype=policy(precision), blocks=MEASURED_BLOCKS)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D(dtype="float32")(maps[BLOCKS[MEASURED_BLOCKS - 1]]))
    pixels = np.zeros((_count(width, image_size), *check_size(image_size), 3), "float32")
    if not learns:
        step: partial[object] = partial(model.predict_on_batch, pixels)
    else:
        model.compile("sgd", "mse", jit_compile=False)
        step = partial(model.train_on_batch, pixels, np.zeros((len(pixels), model.output.shape[1]), "float32"))
    step()  # traces
    return step


def _remember(memory: Path, key: str, found: dict[str, float]) -> None:
    try:
        known = parse_document(memory.read_bytes(), Measured)
        known[key] = found
    except (OSError, DocumentError):
        known = {key: found}
    try:
        write_whole(memory, json.dumps(known, indent=2), overwrite=True)
    except OSError:  # measured again next time
        return
