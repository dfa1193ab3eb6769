"""Search for how much to freeze: all blocks, or those through block 4 or 3, together with the learning rates.

    python recipes/search_freeze_depth.py --data ../shared/data/sign_digits --num-classes 10 --trials 3 --seeds 3

On Sign Language Digits (2,062 images, 20 % for test), best validation accuracy over seeds 0 to 2: 0.976 to 0.985 frozen
through block 3, 0.936 to 0.955 through block 4, 0.942 with all frozen (one seed drew it); test accuracy of the winner,
always one that is frozen through block 3: 0.981 to 0.988. About 90 seconds a seed on two cores.
"""

from __future__ import annotations

import argparse

import vggft
from vggft.tuning.result import line as describe

CONFIG = {"backbone": "vgg16_mini", "test": 0.2}
SPACE = vggft.SearchSpace(
    units=256,
    layers=1,
    learning_rate=(3e-4, 3e-3, "log"),
    fine_tune_learning_rate=(1e-4, 3e-3, "log"),
    freeze=["block3", "block4", "all"],
)


def main(data: str, num_classes: int, seeds: int, trials: int = 9) -> None:
    scores = []
    for seed in range(seeds):
        kinds = {"space": SPACE, "trials": trials, "algorithm": "random", "seed": seed, "verbose": 0}
        result = vggft.search(data, num_classes, **kinds, **CONFIG)
        for depth in ("block3", "block4", "block5"):
            found = [trial.score for trial in result.trials if trial.frozen[-1] == depth and trial.score is not None]
            if found:
                print(f"seed {seed}, frozen through {depth}: {len(found)} trials, best validation {max(found):.3f}")
        scores.append(result.test_score)
        print(f"seed {seed}: {describe(result.best)}, test {result.test_score:.3f}, gap {result.gap:+.3f}")
    print(f"best of {trials} trials, test accuracy over {seeds} seeds: {min(scores):.3f} to {max(scores):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders, or a CSV file")
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=9)
    main(**vars(parser.parse_args()))
