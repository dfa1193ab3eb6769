"""What to compute frozen features in: chosen by a short measurement on this machine, not by hope.

bfloat16 doubles the rate of a processor that has instructions for it and is many times slower on one that has not.
"""

from __future__ import annotations

import time
from functools import lru_cache

import keras
import numpy as np

from .backbone import add_blocks, preprocess
from .errors import ConfigError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def policy(precision: str) -> str:
    """Keras's dtype policy: 16-bit arithmetic on weights that stay float32."""
    return precision if precision == "float32" else f"mixed_{precision}"


def resolve(precision: str, column: str, width: float, image_size: int) -> tuple[str, str]:
    """The precision to compute in, and a sentence that says why.

    Args:
        precision: one of `PRECISIONS`; `"auto"` measures the first three blocks. (The first alone moves more bytes
            than it computes: it runs as fast in bfloat16 on a processor where all that follows is many times slower.)

    Raises:
        ConfigError: for anything else.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if precision != "auto":
        return precision, "as asked"
    other = "float16" if keras.distribution.list_devices("gpu") else "bfloat16"
    plain, fast = (_seconds(p, column, width, image_size) for p in ("float32", other))
    chosen = other if fast < 0.75 * plain else "float32"
    return chosen, f"here, blocks 1 to 3 take {fast / plain:.1f} times as long in {other} as in float32"


@lru_cache
def _seconds(precision: str, column: str, width: float, image_size: int) -> float:
    """The best of a few forward passes of a few images, more of them where one is little work."""
    inputs = keras.Input((image_size, image_size, 3))
    x = add_blocks(preprocess(inputs), column, width, dtype=policy(precision), blocks=3)
    model = keras.Model(inputs, x)
    count = round(min(32.0, max(1.0, (224 / image_size / width) ** 2)))
    pixels = np.zeros((count, image_size, image_size, 3), "float32")
    model.predict_on_batch(pixels)
    times: list[float] = []
    while len(times) < 2 or (sum(times) < 0.1 and len(times) < 20):
        started = time.perf_counter()
        model.predict_on_batch(pixels)
        times.append(time.perf_counter() - started)
    return min(times)
