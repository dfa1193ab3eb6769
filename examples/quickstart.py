"""The library in twenty lines, on a folder of images, or on scikit-learn's handwritten digits if none is named.

python examples/quickstart.py [flowers/]
"""

import sys
import tempfile
from pathlib import Path

import vggft
from vggft.demo import write_digits


def main(folder: str) -> None:
    # 1. What is in the data, and what is wrong with it.
    print(vggft.audit(folder))

    # 2. The backbone that ships inside the package; for photographs, leave it out: the real one is downloaded once.
    #    Blocks 1 to 3 stay frozen and are computed once; a fifth of the images are test images.
    classifier = vggft.finetune(folder, test=0.2, backbone="vgg16_mini", image_size=32, freeze="block3")

    # 3. How good it is, on images that nothing was tuned on; and its prediction for one image.
    print(classifier.evaluation)
    print("One image is", classifier.classify(next(file for file in Path(folder).rglob("*") if file.is_file())))

    # 4. Everything about it, mistakes included, on one page.
    print("The report is", classifier.report("report.html"))

    # 5. One file, which plain keras.models.load_model opens too.
    print("Saved as", classifier.save("classifier.keras"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as made:
            write_digits(Path(made) / "digits")
            main(str(Path(made) / "digits" / "test"))
