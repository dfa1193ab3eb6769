"""Shared by the tests of this folder: four images, single-label and multi-label, few enough to compute by hand."""

import numpy as np

# Three classes; predicted 0, 1, 1, 2: one mistake, a -> b.
LABELS = [0, 0, 1, 2]
PROBABILITIES = [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]]

# Two labels; at 0.5 the decisions are 10, 10, 01, 01.
MULTI_LABELS = [[1, 0], [1, 1], [0, 1], [1, 0]]
MULTI_PROBABILITIES = [[0.9, 0.2], [0.6, 0.4], [0.3, 0.7], [0.2, 0.5]]


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def letters(n):
    return [f"class{i}" for i in range(n)]
