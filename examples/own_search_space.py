"""A search space of your own: first by the fields of `SearchSpace`, then as a function of KerasTuner's hyperparameters.

python examples/own_search_space.py flowers/
"""

import sys
from typing import Any

import vggft


def space(hp: Any) -> tuple[vggft.Head, vggft.Training]:
    """Any code may decide what is drawn: here wide heads get more dropout."""
    width = hp.Int("width", 64, 512, step=2, sampling="log")
    head = vggft.Head(units=(width,), dropout=hp.Float("dropout", 0.3, 0.7) if width > 128 else 0.2)
    return head, vggft.Training(learning_rate=hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"))


def main(folder: str, trials: int = 20) -> None:
    how = {"backbone": "vgg16_mini", "test": 0.2, "trials": trials, "verbose": 0}  # for photographs, no backbone

    # 1. A field is a value, a list to choose from, or a range (low, high). None takes it from `head` and `training`.
    fields = vggft.SearchSpace(units=[64, 256], layers=[0, 1], normalize=["sqrt_l2", "l2"], dropout=(0.2, 0.6))
    first = vggft.search(folder, space=fields, **how)
    print(first.best, f"test accuracy {first.test_score:.3f}", sep="\n")

    # 2. A function draws what it likes, by KerasTuner's own means, and any oracle of KerasTuner may choose.
    second = vggft.search(folder, space=space, algorithm="random", **how)
    print(second.best, f"test accuracy {second.test_score:.3f}", sep="\n")

    # 3. The winner is a classifier like every other. It was selected by validation images; test images judged it once.
    best = max(first, second, key=lambda result: result.best.score)
    print("Saved as", best.classifier.save("searched.keras"))


if __name__ == "__main__":
    main(sys.argv[1])
