"""Schedules of the learning rate."""

from __future__ import annotations

from typing import Any

import keras


def learning_rate(schedule: str, peak: float, steps: int) -> Any:
    """Return a constant rate, or a schedule over `steps`: a short warm-up, then a cosine to zero."""
    if schedule == "constant":
        return peak
    warmup = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(0.0, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup)
