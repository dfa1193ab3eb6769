"""What more images bring, foretold and true; and which images to label next, against drawing lots.

    python tests/benchmarks/growth.py --backbone WEIGHTS --data FOLDER [FOLDER ...] --output FILE.json
        [--seeds 5] [--only curves ranking]

Folders hold class folders. Results are added to FILE.json, from which a second call resumes; it prints the tables.

- `curves`: a quarter of the images is for testing. `vggft.learning_curve` sees half of the others, and predicts the
  accuracy with all of them, twice as many. The true one, on the test images, is that of the linear probe that
  `vggft.finetune` solves first: strength and shrinkage are chosen by a fifth of them, then it learns from all of them.
- `ranking`: a probe learns from a tenth of the images outside the test quarter, drawn by lot; a further tenth is chosen
  by each rule, and a probe that learns from both is judged on the test images.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import vggft
from vggft.heads.batches import Examples, Scaled
from vggft.heads.choice import mean_settings
from vggft.heads.probe import train_probe
from vggft.insight.probes import QuickProbe, Rotation
from vggft.insight.ranking import BY, rank

SUFFIXES = (".jpg", ".jpeg", ".png")
MORE_SEEDS = 4  # times as many for the ranking, which takes no time


def images_of(folder: Path) -> tuple[list[str], np.ndarray]:
    """The files of a folder of class folders, and their classes."""
    files = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return files, np.unique([Path(file).parent.name for file in files], return_inverse=True)[1]


def split(rows: np.ndarray, labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two stratified parts, the second of them a share."""
    first, second = train_test_split(rows, test_size=share, stratify=labels[rows], random_state=seed)
    return np.sort(first), np.sort(second)


def curve(folder: Path, backbone: str, features: Any, seed: int) -> dict[str, Any]:
    """What is foretold from half of the images, and what is true with all of them."""
    files, labels = images_of(folder)
    learned, test = split(np.arange(len(files)), labels, 0.25, seed)
    _, half = split(learned, labels, 0.5, seed)

    def data(rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        return [files[row] for row in rows], labels[rows]

    classes, how = int(labels.max()) + 1, {"backbone": backbone, "seed": seed, "verbose": 0}
    begun = time.monotonic()
    found = vggft.learning_curve(data(half), classes, **how)
    seconds = time.monotonic() - begun
    middle, low, high = found.predict(len(learned))
    true = true_accuracy(features, labels, learned, test, seed)
    numbers = {"from": len(half), "to": len(learned), "now": found.predict(len(half))[0], "foretold": middle}
    numbers |= {"low": low, "high": high, "true": true, "seconds": seconds}
    return {name: round(float(value), 4) for name, value in numbers.items()}


def true_accuracy(
    features: tuple[np.ndarray, tuple[int, ...]], labels: np.ndarray, learned: np.ndarray, test: np.ndarray, seed: int
) -> float:
    """The accuracy on test images of an exact probe that learns from others, by (N, C) features with sizes by block."""
    (x, sizes), classes = features, int(labels.max()) + 1
    targets, head = np.eye(classes, dtype="float32")[labels], vggft.Head(units=())
    train, validation = split(learned, labels, 0.2, seed)

    def solve(rows: np.ndarray, judges: Examples | None, **how: Any) -> Any:
        examples = Examples(x, targets, rows, sizes=sizes)
        return train_probe(head, vggft.Training(), examples, judges, multi_label=False, **how)

    chosen = mean_settings([solve(train, Examples(x, targets, validation, sizes=sizes)).history])
    weights = solve(learned, None, chosen=chosen).weights
    scaled = Scaled(head.normalize, sizes, weights["standardize/0"], weights["standardize/1"])
    logits = scaled(x[test]) @ weights["logits/0"] + weights["logits/1"]
    return float((logits.argmax(axis=1) == labels[test]).mean())


def ranking(vectors: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracy before, and after a further tenth of the images that each rule chooses."""
    pool, test = split(np.arange(len(labels)), labels, 0.25, seed)
    classes = int(labels.max()) + 1
    first = max(len(pool) // 10, 2 * classes)
    rest, begun = split(pool, labels, first / len(pool), seed)
    targets = np.eye(classes, dtype="float32")[labels]

    def probe(rows: np.ndarray) -> Any:
        turned = Rotation.of(vectors[rows])
        solved = QuickProbe.of(turned(vectors[rows]), targets[rows], False)
        return lambda x: solved(turned(x))

    def accuracy(rows: np.ndarray) -> float:
        return float((probe(rows)(vectors[test]).argmax(axis=1) == labels[test]).mean())

    chosen = {"lots": np.random.default_rng(seed).permutation(rest)[:first]}
    said = probe(begun)(vectors[rest])
    for by in BY:
        chosen[by] = rest[rank(vectors[rest], said, vectors[begun], by=by, number=first)[0]]
    after = {by: accuracy(np.concatenate([begun, rows])) for by, rows in chosen.items()}
    return {"labelled": first, "before": accuracy(begun), **after}


def tables(results: dict[str, Any]) -> str:
    """The tables of docs/more_images.md."""
    curves = [("data", "images, then twice", "accuracy now", "foretold", "true", "error", "of a seed", "in 90 %", "s")]
    for name, rows in results.get("curves", {}).items():
        each = {key: np.array([row[key] for row in rows.values()]) for key in next(iter(rows.values()))}
        error = each["foretold"] - each["true"]
        by_lot = 1.645**2 * each["true"] * (1 - each["true"]) / (each["to"] / 3)  # of so few test images
        inside = (np.abs(error) <= np.sqrt(((each["high"] - each["low"]) / 2) ** 2 + by_lot)).sum()
        means = [f"{each[key].mean():.3f}" for key in ("now", "foretold", "true")]
        errors = [f"{100 * error.mean():+.1f}", f"{100 * np.abs(error).mean():.1f}", f"{inside} of {len(error)}"]
        seconds = f"{np.median(each['seconds']):.1f}"
        curves.append((name, f"{each['from'][0]:.0f}, {each['to'][0]:.0f}", *means, *errors, seconds))
    ranked = [("data", "labelled, then twice", "before", "lots", *BY)]
    for name, rows in results.get("ranking", {}).items():
        each = {key: np.array([row[key] for row in rows.values()]) for key in next(iter(rows.values()))}
        means = [f"{each[key].mean():.3f}" for key in ("before", "lots", *BY)]
        ranked.append((name, f"{each['labelled'][0]:.0f}, {2 * each['labelled'][0]:.0f}", *means))
    return "\n\n".join(_table(rows) for rows in (curves, ranked))


def _table(rows: list[tuple[str, ...]]) -> str:
    first, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([first, "|---" * len(rows[0]) + "|", *others])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vgg16_mini")
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["curves", "ranking"])
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(given.output.read_text()) if given.output.exists() else {}

    def keep(part: str, name: str, seed: int, make: Any) -> None:
        rows = results.setdefault(part, {}).setdefault(name, {})
        if str(seed) not in rows:
            rows[str(seed)] = make()
            given.output.write_text(json.dumps(results, indent=1))
            print(part, name, seed, rows[str(seed)], flush=True)

    for folder in given.data:
        files, labels = images_of(folder)
        how: dict[str, Any] = {"blocks": ("block3", "block4", "block5")}
        both = [vggft.VGGFeatures(given.backbone, **how, normalize=each) for each in (None, "sqrt_l2")]
        raw, vectors = (each.fit_transform(files) for each in both)
        features = raw, both[0].sizes_
        if "ranking" in given.only:
            with threadpool_limits(1):
                for seed in range(MORE_SEEDS * given.seeds):
                    keep("ranking", folder.name, seed, lambda s=seed, x=vectors, y=labels: ranking(x, y, s))
        if "curves" in given.only:
            for seed in range(given.seeds):
                make = lambda s=seed, f=folder, x=features: curve(f, given.backbone, x, s)  # noqa: E731
                keep("curves", folder.name, seed, make)
    print(tables(results))


if __name__ == "__main__":
    main()
