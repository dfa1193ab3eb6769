"""How well pictures of none of the classes are told from those of the classes, by a classifier as `finetune` makes it.

    VGGFT_CACHE_DIR=CACHE python tests/benchmarks/strangers.py --backbone WEIGHTS FOLDER [FOLDER ...]
        [--from FOLDER ...] [--seeds 3]

Each folder of class folders gives a classifier with `vggft.finetune(..., test=0.25)`. Far strangers are the pictures of
the other folders (and of those after `--from`, which give no classifier); near strangers those of a third of the
classes, which a second classifier never sees. Against them stand the test images. It prints a table, the mean over
the seeds:

- `probability`, `distance`: area under the ROC curve by 1 - the greatest probability, and by the distance.
- `sure before`, `after`: share of the strangers with a probability above 0.9, and of those not called strangers.
- `found`, `false`: share of the strangers, and of the test images, that are called strangers at the default of 0.05.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import chain
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

import vggft

SURE = 0.9
COLUMNS = ("probability", "distance", "sure before", "after", "found", "false")
SUFFIXES = (".jpg", ".jpeg", ".png")


def pictures_of(folder: Path) -> dict[str, list[str]]:
    """The pictures of each class folder."""
    found = {each.name: sorted(map(str, each.iterdir())) for each in sorted(folder.iterdir()) if each.is_dir()}
    return {name: [file for file in files if file.lower().endswith(SUFFIXES)] for name, files in found.items()}


def measured(classifier: vggft.Classifier, strangers: list[str]) -> list[float]:
    """The `COLUMNS` for some strangers, against the test images of a classifier."""
    assert classifier.evaluation is not None and classifier.evaluation.split == "test"
    own, far = (classifier.predict(files, strangers=True) for files in (list(classifier.evaluation.names), strangers))
    truth = np.r_[np.zeros(len(own[1])), np.ones(len(far[1]))]
    doubt = [1 - found[0].max(axis=1) for found in (own, far)]
    sure = far[0].max(axis=1) > SURE
    by = roc_auc_score(truth, np.concatenate(doubt)), roc_auc_score(truth, np.r_[own[1], far[1]])
    return [*by, sure.mean(), (sure & (far[1] <= 1)).mean(), (far[1] > 1).mean(), (own[1] > 1).mean()]


def trained(files: dict[str, list[str]], backbone: str, seed: int) -> vggft.Classifier:
    """A classifier of these pictures."""
    rows = [(file, name) for name, each in files.items() for file in each]
    table = pd.DataFrame(rows, columns=["image", "label"])
    return vggft.finetune(table, len(files), backbone=backbone, test=0.25, seed=seed, verbose=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--from", dest="others", nargs="*", type=Path, default=[])
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = {folder.name: pictures_of(folder) for folder in [*options.folders, *options.others]}
    print("| trained on | strangers | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (2 + len(COLUMNS)), flush=True)
    for name in (folder.name for folder in options.folders):
        found: dict[str, list[list[float]]] = {}
        for seed in range(options.seeds):
            began = time.monotonic()
            classifier = trained(data[name], options.backbone, seed)
            seconds, looked_at = time.monotonic() - began, classifier.trust.known_strangers().blocks
            print(f"{name} {seed}: {seconds:.1f} s, {looked_at}", file=sys.stderr, flush=True)
            for other in data:
                if other != name:
                    found.setdefault(other, []).append(measured(classifier, [*chain(*data[other].values())]))
            if len(data[name]) > 3:
                left = set(np.random.default_rng(seed).permutation(sorted(data[name]))[: len(data[name]) // 3].tolist())
                some = trained({k: v for k, v in data[name].items() if k not in left}, options.backbone, seed)
                near = measured(some, [file for each in sorted(left) for file in data[name][each]])
                found.setdefault("its other classes", []).append(near)
        for other, rows in found.items():
            cells = [name, other, *(f"{value:.2f}" for value in np.mean(rows, axis=0))]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
