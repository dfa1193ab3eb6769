"""Classes of very different sizes: weighting them inversely to their frequency, or not.

    python recipes/imbalanced.py --data ../shared/data/eurosat --num-classes 10

Half of the images of each class are for test. Of the others, the first class keeps all and every further one fewer,
down to a tenth. Seeds 0 to 2, on a tenth of EuroSAT (2,835 images):

    class_weight=None          balanced accuracy 0.837 to 0.862, recall of the smallest class 0.793 to 0.940
    class_weight="balanced"    balanced accuracy 0.849 to 0.878, recall of the smallest class 0.807 to 0.947

All six trainings take 1 minute on two cores with features in the cache. Needs pandas.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import vggft

CONFIG = {"backbone": "vgg16_mini", "freeze": "all", "training": vggft.Training()}
SMALLEST = 0.1  # share of its training images that the last class keeps


def skewed(data: str, seed: int) -> pd.DataFrame:
    """List the images of a folder of class folders: half for test, of the others fewer from class to class."""
    rows, rng = [], np.random.default_rng(seed)
    folders = sorted(path for path in Path(data).iterdir() if path.is_dir())
    for folder, share in zip(folders, np.geomspace(1, SMALLEST, len(folders)), strict=True):
        files = rng.permutation(sorted(map(str, folder.iterdir())))
        test, others = np.array_split(files, 2)
        train = others[: max(2, round(share * len(others)))]  # one to learn from, and one to validate on
        rows += [(file, folder.name, split) for split, part in (("train", train), ("test", test)) for file in part]
    return pd.DataFrame(rows, columns=["image", "label", "split"])


def main(data: str, num_classes: int, seeds: int) -> None:
    for class_weight in (None, "balanced"):
        settings = CONFIG | {"training": replace(CONFIG["training"], class_weight=class_weight), "verbose": 0}
        found = [
            vggft.finetune(skewed(data, seed), num_classes, seed=seed, **settings).evaluation for seed in range(seeds)
        ]
        balanced = [evaluation["balanced_accuracy"] for evaluation in found]
        smallest = [evaluation.per_class[-1].recall for evaluation in found]
        print(
            f"class_weight={class_weight!r}: balanced accuracy {min(balanced):.3f} to {max(balanced):.3f}, "
            f"recall of the smallest class {min(smallest):.3f} to {max(smallest):.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    main(**vars(parser.parse_args()))
