"""What training minimises and what selects the best epoch."""

from __future__ import annotations

import math


def score(accuracy: float, loss: float) -> float:
    """What the best epoch has most of: validation accuracy, and of equally accurate ones the lower loss.

    The loss alone would end fine-tuning too early: it grows with confidence while accuracy still improves.
    """
    return accuracy - 1e-4 * loss if math.isfinite(loss) else -math.inf
