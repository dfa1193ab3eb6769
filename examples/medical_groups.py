"""Medical images: patients stay on one side of every split, folds say how sure it is, and the sensitivity is chosen.

python examples/medical_groups.py scans/          two folders, healthy/ and ill/, with files like patient07_2.png

DICOM files are read as well (`pip install 'vggft[dicom]'`), by the window that is in them.
"""

import sys

import vggft

PATIENT = r"(patient\d+)"  # what the names of one patient's files have in common; a column of a CSV file does as well


def main(folder: str) -> None:
    how = {"backbone": "vgg16_mini", "group": PATIENT, "verbose": 0}  # the real weights: leave out the backbone

    # 1. The audit warns of names that look like groups, of copies, and of what else makes results too good.
    print(vggft.audit(folder, verbose=0))

    # 2. Folds of whole patients: every image is judged by a training that has seen no other image of its patient.
    folds = vggft.cross_validate(folder, folds=5, head=vggft.Head(units=()), **how)
    low, high = folds.interval
    print(f"accuracy {folds['accuracy']:.3f}, 95 % interval {low:.3f} to {high:.3f}")

    # 3. The classifier, judged by the images of patients that nothing was tuned on.
    classifier = vggft.finetune(folder, test=0.25, validation=0.25, calibrate=True, **how)
    print(classifier.evaluation)

    # 4. How probable has illness to be? As improbable as is needed to find 95 % of it, and what that costs is told: for
    #    these images, so that on others it may be a little more. Classifier.operate sets it, by images of your own.
    positive = classifier.class_names[-1]
    print(classifier.evaluation.operating_point(sensitivity=0.95, positive=positive))

    # 5. Where it looked, for one image that it was wrong about or nearly so: Grad-CAM over the image.
    worst = classifier.evaluation.top_losses(1)[0]
    classifier.explain(worst.name).save("looked_here.png")
    print("Saved as", classifier.save("scans.keras"))


if __name__ == "__main__":
    main(sys.argv[1])
