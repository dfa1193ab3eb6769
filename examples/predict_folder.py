"""Predict over a folder: a table of all pictures, which ones somebody should look at, and what belongs to no class.

python examples/predict_folder.py flowers/ new/          needs pandas
"""

import sys

import vggft


def main(labelled: str, new: str) -> None:
    # 1. A classifier: one that was saved, or a new one, whose probabilities are calibrated on validation images.
    classifier = vggft.finetune(labelled, backbone="vgg16_mini", calibrate=True, verbose=0)  # for photographs: no name
    classifier.save("folder.keras")
    classifier = vggft.load("folder.keras")

    # 2. Every picture in the folder and below. One that cannot be read has a row with its error and stops nothing.
    table = classifier.predict(new, as_frame=True, on_bad_image="skip", strangers=True)
    table.to_csv("predictions.csv", index=False)
    print(f"{len(table)} pictures, {int(table.error.notna().sum())} of them could not be read: predictions.csv")

    # 3. Where somebody should look: the least certain ones, and those that are unlike everything it has learned from.
    read = table[table.error.isna()]
    print(read.nsmallest(5, "probability")[["image", "label", "probability"]].to_string(index=False))
    print(f"{int(read.stranger.sum())} are probably of none of the classes")

    # 4. One set of classes for each picture holds the true one for 9 pictures of 10.
    sets = classifier.predict_sets(list(read.image), coverage=0.9)
    print(f"{sum(len(each) == 1 for each in sets.labels)} of {len(read)} are sure enough for a single class")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
