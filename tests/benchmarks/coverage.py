"""Whether prediction sets hold what they promise: split conformal coverage over many random splits.

    VGGFT_CACHE_DIR=CACHE python tests/benchmarks/coverage.py --backbone WEIGHTS FOLDER [FOLDER ...] [--splits 100]

Each folder gives one classifier, with half of the images for testing. In each split a random half of these, n images,
sets the limit, and the other m images are covered or not. The coverage of a limit from n images is drawn from a Beta
distribution with the parameters r = ceil((n + 1) c) and n + 1 - r (arXiv:2107.07511, section 3.2), and the number of
covered ones among m images from a binomial distribution around it: together, a beta-binomial one. The band is the
range that holds 95 % of its draws; `inside` is the share of the splits in it, and `mean` is over the splits.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
from scipy.stats import betabinom

import vggft
from vggft.trust.conformal import HeldOut, coverage_of, sets_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--splits", type=int, default=100)
    options = parser.parse_args()
    print("| data | method | promised | mean | band of one split | inside | size of a set | least covered class |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for folder in options.folders:
        classes = sum(each.is_dir() for each in folder.iterdir())
        how = {"backbone": options.backbone, "verbose": 0}
        found = vggft.finetune(folder, classes, test=0.5, **how).evaluation
        assert found is not None
        for method in ("lac", "aps"):
            for coverage in (0.8, 0.9, 0.95):
                rows, inside = [], []
                for seed in range(options.splits):
                    order = np.random.default_rng(seed).permutation(len(found.labels))
                    limits, judged = order[: len(order) // 2], order[len(order) // 2 :]
                    held = HeldOut("test", found.labels[limits], found.probabilities[limits])
                    sets = sets_of(found.probabilities[judged], held.quantile(coverage, method), method)
                    one = coverage_of(found.labels[judged], sets, found.class_names, coverage, method)
                    rank = math.ceil((len(limits) + 1) * coverage - 1e-9)
                    low, high = betabinom(len(judged), rank, len(limits) + 1 - rank).interval(0.95)
                    band = low / len(judged), high / len(judged)
                    rows.append((one.found, one.size, min(each[1] for each in one.by_class.values())))
                    inside.append(band[0] <= one.found <= band[1])
                mean, size, least = np.mean(rows, axis=0)
                told = f"{mean:.3f} | {band[0]:.3f} to {band[1]:.3f} | {np.mean(inside):.0%} | {size:.2f} | {least:.2f}"
                print(f"| {folder.name} | {method} | {coverage} | {told} |", flush=True)


if __name__ == "__main__":
    main()
