"""A head of your own: by the fields of `Head`, or of any Keras layers on the frozen features.

python examples/own_head.py flowers/
"""

import sys

import keras
import numpy as np
from sklearn.datasets import load_files
from sklearn.model_selection import train_test_split

import vggft


def main(folder: str, epochs: int = 40) -> None:
    how = {"backbone": "vgg16_mini", "test": 0.2, "verbose": 0}  # for photographs, leave out the backbone

    # 1. The default compares linear probes, solved exactly. It is what a head has to beat.
    probe = vggft.finetune(folder, **how)
    print(f"the default: {probe.evaluation['accuracy']:.3f}")

    # 2. What a head may be is written in `Head`: here two hidden layers on the outputs of blocks 4 and 5.
    head = vggft.Head(units=(256, 64), activation="gelu", dropout=0.3, blocks=("block4", "block5"))
    classifier = vggft.finetune(folder, head=head, training=vggft.Training(epochs=epochs), **how)
    print(f"two hidden layers: {classifier.evaluation['accuracy']:.3f}")

    # 3. Anything else, such as layers that are skipped, is a Keras model on features, which the cache has by now.
    found = load_files(folder, load_content=False)
    blocks = ("block3", "block4", "block5")
    features = vggft.VGGFeatures("vgg16_mini", blocks=blocks, normalize="sqrt_l2").fit_transform(found.filenames)
    x_train, x_test, y_train, y_test = train_test_split(
        features, found.target, test_size=0.2, stratify=found.target, random_state=0
    )
    inputs = keras.Input(features.shape[1:])
    hidden = keras.layers.Dense(256, "gelu")(inputs)
    hidden = keras.layers.Add()([hidden, keras.layers.Dense(256, "gelu")(hidden)])
    model = keras.Model(inputs, keras.layers.Dense(len(found.target_names), "softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train, epochs=epochs, verbose=0)
    print(f"skipped layers: {np.mean(model.predict(x_test, verbose=0).argmax(axis=1) == y_test):.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
