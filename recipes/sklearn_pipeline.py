"""scikit-learn on frozen features: any classifier, any search, any cross-validation, from one pass.

    python recipes/sklearn_pipeline.py --data ../shared/data/eurosat

Test accuracy of a support vector machine over seeds 0 to 2: 0.847 to 0.859, on a tenth of EuroSAT (2,835 images), 20 %
of it for test. Each seed transforms about 71,000 images, for 31 fits, but only one pass of 2,835 is computed: the three
seeds take 74 seconds on two cores.
"""

from __future__ import annotations

import argparse

from sklearn.datasets import load_files
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import vggft

CONFIG = {"backbone": "vgg16_mini"}
GRID = {"vggfeatures__normalize": [None, "sqrt_l2"], "svc__C": [1, 10, 100]}


def main(data: str, seeds: int) -> None:
    found = load_files(data, load_content=False, allowed_extensions=[".jpg", ".JPG", ".png"])
    files, labels = list(found.filenames), [found.target_names[label] for label in found.target]
    pipeline = make_pipeline(vggft.VGGFeatures(**CONFIG), StandardScaler(), SVC())
    for seed in range(seeds):
        train, test, y_train, y_test = train_test_split(
            files, labels, test_size=0.2, stratify=labels, random_state=seed
        )
        search = GridSearchCV(pipeline, GRID, cv=5).fit(train, y_train)
        print(
            f"seed {seed}: {search.best_params_}; cross-validation accuracy {search.best_score_:.3f}, "
            f"test {search.score(test, y_test):.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--seeds", type=int, default=3)
    main(**vars(parser.parse_args()))
