"""Feature extraction: a dense head on pooled features, with every block frozen. It is quick, and the usual choice.

    python recipes/feature_extraction.py --data ../shared/data/eurosat --num-classes 10

Test accuracy over seeds 0 to 2: 0.887 to 0.914, on a tenth of EuroSAT (2,835 images), 20 % of them for test. The three
seeds take 17 s on two cores once the features are in the cache.
"""

from __future__ import annotations

import argparse

import vggft

CONFIG = {"backbone": "vgg16_mini", "freeze": "all", "head": vggft.Head(units=(256,), dropout=0.5), "test": 0.2}


def main(data: str, num_classes: int, seeds: int) -> None:
    runs = (vggft.finetune(data, num_classes, seed=seed, verbose=0, **CONFIG) for seed in range(seeds))
    accuracies = [classifier.evaluation["accuracy"] for classifier in runs]
    print(f"test accuracy over {seeds} seeds: {min(accuracies):.3f} to {max(accuracies):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders, or a CSV file")
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    main(**vars(parser.parse_args()))
