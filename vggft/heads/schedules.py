"""Schedules of the learning rate."""

from __future__ import annotations

from typing import Any

import keras

# Of a cycle: the share of its steps that warm up, from which share of the peak, and the share of it at the end.
WARM_UP, FIRST, LAST = 0.3, 1 / 25, 4e-6


def learning_rate(schedule: str, peak: float, steps: int) -> Any:
    """Return the learning rate of a training of `steps`.

    Returns:
        A number that does not depend on the step for `"constant"` and for `"plateau"`, whose rate a callback reduces;
        otherwise a schedule of Keras.
    """
    if schedule in ("constant", "plateau"):
        return float(peak)
    cycle = schedule == "one_cycle"
    warmup = max(1, int(WARM_UP * steps) if cycle else steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        FIRST * peak if cycle else peak / (warmup + 1),  # not 0, with which a training of one step would learn nothing
        max(1, steps - warmup),
        alpha=LAST if cycle else 0.0,
        warmup_target=peak,
        warmup_steps=warmup,
    )
