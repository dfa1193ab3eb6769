"""Plant wrong labels into data and count how many of those that are suggested were planted.

    python tests/benchmarks/label_errors.py --data ../shared/data/eurosat ../shared/data/sign_digits
    python tests/benchmarks/label_errors.py --weights vgg.npz 224 --data ../shared/data/flowers17

Prints a row for each set, share and kind: errors are uniform (any other class), or go to the class that a probe takes
most often for the true one. Confident learning (arXiv:1911.00068) by cleanlab, if it is installed, judges the same
probabilities for comparison. Precision counts errors that were in the data already as false.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

SEEDS, SHARES, KINDS = 3, (0.02, 0.05, 0.1), ("uniform", "pairs")


def read(folder: Path, weights: str, size: int) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Return embeddings, labels, the number of classes, and what may not be in two folds."""
    from vggft.caching.cache import Cache
    from vggft.data.dataset import open_dataset
    from vggft.data.scan import decode
    from vggft.features.extract import Prefix
    from vggft.features.vectors import embeddings, pooled_vectors
    from vggft.insight.doubts import CUT
    from vggft.network.weights import load_pretrained
    from vggft.telling.progress import Narrator

    how: dict[str, Any] = {"cache": Cache(), "narrator": Narrator(1)}
    whole, pretrained = open_dataset(folder)["all"], load_pretrained(weights)
    pixels, scan = decode(whole, size, **how)
    prefix = Prefix(pretrained, size, "float32", "float16")
    vectors = embeddings(pooled_vectors(prefix, CUT, pixels, scan.digests, **how), CUT, pretrained.width)
    return vectors, whole.labels, whole.num_classes, np.unique(scan.digests, return_inverse=True)[1]


def planted(labels: np.ndarray, classes: int, share: float, taken_for: np.ndarray | None, seed: int) -> np.ndarray:
    """Return labels of which a share is wrong."""
    rng = np.random.default_rng(seed)
    given, rows = labels.copy(), rng.choice(len(labels), round(share * len(labels)), replace=False)
    given[rows] = (
        (labels[rows] + rng.integers(1, classes, len(rows))) % classes if taken_for is None else taken_for[labels[rows]]
    )
    return given


def confusable(vectors: np.ndarray, labels: np.ndarray, classes: int, units: np.ndarray) -> np.ndarray:
    """Return for each class the one that a probe gives the highest mean probability besides it."""
    from scipy.special import softmax

    from vggft.insight.labels import _out_of_fold

    logits, _ = _out_of_fold(vectors, labels, classes, units, seed=0)
    mean = np.stack([softmax(logits / 2, axis=1)[labels == c].mean(axis=0) for c in range(classes)])
    np.fill_diagonal(mean, -1)
    return mean.argmax(axis=1)


def by_confident_learning(vectors: np.ndarray, given: np.ndarray, classes: int, units: np.ndarray) -> np.ndarray | None:
    """Return the rows that cleanlab suggests from the same out-of-fold probabilities; None if it is not installed."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    from scipy.special import softmax

    from vggft.insight.labels import _out_of_fold

    logits, _ = _out_of_fold(vectors, given, classes, units, seed=0)
    return np.asarray(find_label_issues(given, softmax(logits / 2, axis=1), return_indices_ranked_by="self_confidence"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs=2, metavar=("BACKBONE", "SIZE"), default=("vgg16_mini", "64"))
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    given = parser.parse_args()
    from vggft.insight.labels import label_issues

    print("| data | planted | suggested | precision | recall | seconds | confident learning: n, precision, recall |")
    print("|---|---|---|---|---|---|---|")
    for folder in given.data:
        vectors, labels, classes, units = read(folder, given.weights[0], int(given.weights[1]))
        own = label_issues(vectors, labels, classes, units).ranked()
        print(f"| {folder.name} | nothing | {len(own)} | | | | |")
        pairs = confusable(vectors, labels, classes, units)
        for share in SHARES:
            for kind in KINDS:
                rows, other = [], []
                for seed in range(SEEDS):
                    wrong = planted(labels, classes, share, pairs if kind == "pairs" else None, seed)
                    bad = wrong != labels
                    begun = time.perf_counter()
                    found = label_issues(vectors, wrong, classes, units).ranked()
                    rows.append(
                        (len(found), bad[found].mean(), bad[found].sum() / bad.sum(), time.perf_counter() - begun)
                    )
                    if (issues := by_confident_learning(vectors, wrong, classes, units)) is not None:
                        other.append((len(issues), bad[issues].mean(), bad[issues].sum() / bad.sum()))
                n, precision, recall, seconds = np.mean(rows, axis=0)
                least = min(row[1] for row in rows)
                told = "{:.0f}, {:.2f}, {:.2f}".format(*np.mean(other, axis=0)) if other else ""
                cells = f"{n:.0f} | {precision:.2f} (least {least:.2f}) | {recall:.2f} | {seconds:.1f} | {told}"
                print(f"| {folder.name} | {share:.0%} {kind} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
