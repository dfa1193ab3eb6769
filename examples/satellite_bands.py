"""Satellite images: TIFF files of many bands and 16 bits, seen from above, where no side is up.

python examples/satellite_bands.py tiles/         a folder for each class, with .tif files of at least four bands

Needs `pip install 'vggft[tiff]'`.
"""

import sys

import vggft


def main(folder: str, black_and_white: tuple[float, float] = (0, 4095)) -> None:
    # 1. The network takes three bands, here of tiles of near infrared, blue, green and red. Those that begin with near
    #    infrared tell plants from the rest. What is black and white is the same for all tiles, not for each its own.
    bands = {"true colours": (3, 2, 1), "near infrared first": (0, 3, 2)}

    # 2. No side is up, so tiles are mirrored both ways and turned; the views are computed once.
    views = vggft.Augment(views=4, vertical_flip=True, rotate=180, crop=0.0)
    found = {}
    for name, three in bands.items():
        found[name] = vggft.finetune(
            folder,
            test=0.25,
            backbone="vgg16_mini",  # the real weights: leave this out
            bands=three,
            value_range=black_and_white,
            head=vggft.Head(units=(128,)),
            augment=views,
            verbose=0,
        )
        print(f"{name}: {found[name].evaluation['accuracy']:.3f}")

    # 3. The classifier knows its bands and its range: it is given the same kind of file, and nothing else to mind.
    #    Which bands are better is decided here by the test images, so the better score is a little too good.
    best = max(found.values(), key=lambda classifier: classifier.evaluation["accuracy"])
    worst = best.evaluation.top_losses(1)[0]
    print(worst.name, "->", best.classify(worst.name))
    print("Saved as", best.save("tiles.keras"))


if __name__ == "__main__":
    main(sys.argv[1])
