"""One search by several processes or machines: KerasTuner's chief hands out trials, workers share cache and run_dir.

    python recipes/search_distributed.py --data ../shared/data/sign_digits --num-classes 10 --run-dir runs/shared &

in one shell for each process, on one or several machines, each with

    export KERASTUNER_ORACLE_IP=127.0.0.1 KERASTUNER_ORACLE_PORT=8000
    export KERASTUNER_TUNER_ID=chief        # in one of them; worker0, worker1, ... in the others

On one machine, `vggft search ... --workers 2` does all of this, with a GPU for each worker if there are any, and
restarts a worker that dies. Elsewhere, restart it yourself with the same id: it continues with the trials it had.

With the small backbone, on Sign Language Digits (2,062 images, 20 % for test), seeds 0 to 2: the best of 12 trials had
test accuracy 0.968, 0.961 and 0.968, and validation accuracy 0.970, 0.961 and 0.964, in about 2 minutes with a
chief and two workers on two cores.
"""

from __future__ import annotations

import argparse

import vggft

CONFIG = {"backbone": "vgg16_mini", "test": 0.2, "algorithm": "random", "trials": 12}
SPACE = vggft.SearchSpace(units=[128, 256], layers=1, freeze=["block4"], fine_tune_learning_rate=(1e-4, 3e-3, "log"))


def main(data: str, num_classes: int, run_dir: str, seed: int = 0) -> None:
    result = vggft.search(data, num_classes, space=SPACE, run_dir=run_dir, seed=seed, verbose=0, **CONFIG)
    if result is None:
        print("this worker has done its part")
    else:
        print(f"test accuracy {result.test_score:.3f}, validation {result.best.score:.3f}, gap {result.gap:+.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders, or a CSV file")
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--run-dir", required=True, help="a new directory that all processes can access")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
