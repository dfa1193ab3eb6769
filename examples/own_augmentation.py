"""Augmentation of your own, by Keras's layers: what they see is new in every epoch, and the same for the same seed.

python examples/own_augmentation.py flowers/
"""

import sys

import keras

import vggft


def main(folder: str, epochs: int = 10) -> None:
    how = {"backbone": "vgg16_mini", "test": 0.2, "verbose": 0}  # for photographs, leave out the backbone
    head, training = vggft.Head(units=(256,)), vggft.Training(epochs=epochs)

    # 1. Without any, as what it is compared with.
    plain = vggft.finetune(folder, head=head, training=training, **how)
    print(f"none: {plain.evaluation['accuracy']:.3f}")

    # 2. vggft's own changes are seeded views of every image, whose frozen features are computed once.
    views = vggft.Augment(views=4, rotate=10, saturation=0.2)
    cached = vggft.finetune(folder, head=head, training=training, augment=views, **how)
    print(f"four views: {cached.evaluation['accuracy']:.3f}")

    # 3. Layers of Keras change pixels of 0 to 255 behind the cache, so the frozen blocks are computed in every epoch.
    layers = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomZoom((-0.2, 0)),
            keras.layers.RandomColorJitter((0, 255), brightness_factor=0.2, contrast_factor=0.2),
        ]
    )
    fresh = vggft.finetune(folder, head=head, training=training, augment=layers, **how)
    print(f"Keras's layers: {fresh.evaluation['accuracy']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
