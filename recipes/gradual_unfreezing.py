"""Gradual unfreezing (ULMFiT, arXiv:1801.06146): the head, then block 5 with it, then block 4 as well, and so on.

    python recipes/gradual_unfreezing.py --data ../shared/data/sign_digits --num-classes 10

Test accuracy over seeds 0 to 2, on hand signs (2,062 images, 20 % for test): gradually 0.983 to 0.988; blocks 3 to 5
at once, for as many epochs, 0.985 to 0.993, so there it is no gain. About 2 minutes a seed for each on two cores.
"""

from __future__ import annotations

import argparse

import vggft

GRADUAL = vggft.Training(phases="gradual", fine_tune_epochs=4)
TOGETHER = vggft.Training(fine_tune_epochs=12)  # as many epochs in all, with blocks 3 to 5 at once
CONFIG = {"backbone": "vgg16_mini", "freeze": "block2", "test": 0.2}


def main(data: str, num_classes: int, seeds: int) -> None:
    for name, training in (("gradually", GRADUAL), ("together", TOGETHER)):
        runs = (vggft.finetune(data, num_classes, seed=s, verbose=0, training=training, **CONFIG) for s in range(seeds))
        accuracies = [classifier.evaluation["accuracy"] for classifier in runs]
        print(f"{name}, {seeds} seeds: test accuracy {min(accuracies):.3f} to {max(accuracies):.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders, or a CSV file")
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    main(**vars(parser.parse_args()))
