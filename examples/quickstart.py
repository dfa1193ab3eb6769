"""The library in twenty lines, on scikit-learn's handwritten digits and the backbone that ships with it.

python examples/quickstart.py
"""

import numpy as np
from sklearn.datasets import load_digits

import vggft

# 1. Images and labels. A folder of class folders works as well: vggft.finetune("flowers/", num_classes=10)
digits = load_digits()
images = np.kron(digits.images * (255 / 16), np.ones((1, 4, 4)))  # 8x8 to 32x32
images = np.repeat(images[..., None], 3, axis=-1).astype("uint8")

# 2. What is in the data, and what is wrong with it.
print(vggft.audit((images, digits.target), num_classes=10))

# 3. Blocks 1 to 3 stay frozen and are computed once; a fifth of the images are test images.
classifier = vggft.finetune(
    (images, digits.target), num_classes=10, test=0.2, backbone="vgg16_mini", image_size=32, freeze="block3"
)

# 4. How good it is, on images that nothing was tuned on; and its prediction for one image.
print(classifier.evaluation)
print("The first image is", classifier.classify(images[0]))

# 5. Everything about it, mistakes included, on one page.
print("The report is", classifier.report("report.html"))

# 6. One file, which plain keras.models.load_model opens too.
print("Saved as", classifier.save("digits.keras"))
