"""What a reader of results should know: chosen images far from tested ones, and too much known by heart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..evaluation.evaluation import Evaluation
from ..telling.display import score

FAR = 0.05  # difference from which something is said, if it is more than chance gives
OVERFITTED = 0.15  # accuracy of the training images minus that of others


def caveats(evaluations: Mapping[str, Evaluation], history: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """Say what a reader of the results should know.

    Args:
        evaluations: split -> evaluation, the one that counts last; others were chosen on.
        history: rows of the training, of which the kept ones have the accuracy of the training images.

    >>> import numpy as np
    >>> labels = np.arange(200) % 2
    >>> right, half = np.eye(2)[labels], np.eye(2)[labels * (np.arange(200) < 100)]
    >>> pair = {"validation": right, "test": half}
    >>> found = {name: Evaluation(name, ("cat", "dog"), labels, each) for name, each in pair.items()}
    >>> caveats(found)[0].split(",")[0]
    'accuracy is 1.000 on validation images but 0.750 on test images'
    """
    return [*_apart(evaluations), *_by_heart(list(evaluations.values())[-1], history)]


def _apart(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    *chosen, final = evaluations.values()
    name = final.headline
    for each in chosen:
        a, b = each[name], final[name]
        if a is None or b is None or abs(a - b) < FAR:
            continue
        spreads = [(ends[1] - ends[0]) / 4 for one in (each, final) if (ends := one.bootstrap(metrics=[name])[name])]
        if len(spreads) == 2 and abs(a - b) > 2 * math.hypot(*spreads):
            told = f"{name} is {score(a)} on {each.split} images but {score(b)} on {final.split} images"
            yield f"{told}, more than chance makes: they may be of another kind"


def _by_heart(final: Evaluation, history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    name = "label_accuracy" if final.multi_label else "accuracy"
    kept = [row[name] for row in history if row.get("kept") and row.get(name) is not None]
    found = final.metrics.get(name)
    if kept and found is not None and kept[-1] - found > OVERFITTED:
        told = f"{name} is {score(kept[-1])} on the training images but {score(found)} on {final.split} images"
        yield f"{told}: much was learned by heart, and more images or augmentation may help"
