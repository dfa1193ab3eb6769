"""Which images of an evaluation a report shows: the highest losses, some of each class, some of each confused pair."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..evaluation.evaluation import Evaluation

LOSSES = 24  # images with the highest losses; twice as many as are shown, as copies of an image are shown as one
PAIRS = 6  # confused pairs of classes
OF_A_PAIR = 4  # images
OF_A_CLASS = 4  # images at most
OF_ALL = 120  # images of all classes together, unless each has only one


def of_classes(evaluation: Evaluation) -> dict[str, list[int]]:
    """Choose rows of each class, evenly spread over its images and not by whether they are right.

    >>> of_classes(Evaluation("test", ("cat", "dog"), np.array([0, 0, 0, 0, 0, 0]), np.eye(2)[[0] * 6]))
    {'cat': [0, 2, 3, 5], 'dog': []}
    """
    most = max(1, min(OF_A_CLASS, OF_ALL // len(evaluation.class_names)))
    found = {}
    for c, name in enumerate(evaluation.class_names):
        rows = np.flatnonzero(evaluation.labels[:, c] if evaluation.multi_label else evaluation.labels == c)
        places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
        found[name] = rows[places].tolist()
    return found


def of_pairs(evaluation: Evaluation) -> dict[tuple[str, str], list[int]]:
    """Choose rows of the most confused pairs, (true class, predicted class); none if images have several labels."""
    found = {}
    for true, predicted, _ in evaluation.most_confused(PAIRS):
        a, b = map(evaluation.class_names.index, (true, predicted))
        wrong = (evaluation.labels == a) & (evaluation.predictions == b)
        found[true, predicted] = np.flatnonzero(wrong)[:OF_A_PAIR].tolist()
    return found


def shown_rows(evaluation: Evaluation) -> list[int]:
    """List every row that a report shows, the highest losses first."""
    groups: Iterable[list[int]] = (*of_pairs(evaluation).values(), *of_classes(evaluation).values())
    worst = [each.row for each in evaluation.top_losses(LOSSES)]
    return list(dict.fromkeys([*worst, *(row for rows in groups for row in rows)]))
