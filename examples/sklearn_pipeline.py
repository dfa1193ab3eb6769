"""With scikit-learn: frozen features as a step of a pipeline, and fine-tuning as an estimator.

python examples/sklearn_pipeline.py flowers/
"""

import sys

from sklearn.datasets import load_files
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

import vggft


def main(folder: str) -> None:
    # 1. X is a list of files, as scikit-learn itself finds them; y is a number for each.
    found = load_files(folder, load_content=False)
    train, test, y_train, y_test = train_test_split(
        found.filenames, found.target, test_size=0.25, stratify=found.target, random_state=0
    )

    # 2. Features are computed once and kept, so every fold and every pipeline after the first costs next to nothing.
    features = vggft.VGGFeatures("vgg16_mini", blocks=("block4", "block5"), normalize="sqrt_l2")  # photographs: no name
    machine = make_pipeline(features, PCA(0.99), SVC(C=10))
    scores = cross_val_score(machine, train, y_train, cv=3)
    print(f"support vector machine, three folds: {scores.mean():.3f} +- {scores.std():.3f}")

    # 3. `vggft.finetune` as a classifier of scikit-learn; what it made is in `classifier_`.
    probe = vggft.VGGClassifier("vgg16_mini").fit(train, y_train)
    print(f"linear probe, test images: {probe.score(test, y_test):.3f}")
    print("Saved as", probe.classifier_.save("pipeline.keras"))


if __name__ == "__main__":
    main(sys.argv[1])
