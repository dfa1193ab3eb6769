"""What a type checker has to find in users' code: `mypy` fails if one of the ignored lines is right after all."""

import vggft

classifier: vggft.Classifier = vggft.finetune("flowers/", freeze="block3", precision="bfloat16")
vggft.finetune("flowers/", freeze=["block1", "block2"], image_size=(224, 320))
vggft.finetune("flowers/", freeze="blok3")  # type: ignore[arg-type]
vggft.finetune("flowers/", freeze=["block1", "blok2"])  # type: ignore[list-item]
vggft.finetune("flowers/", precision="float61")  # type: ignore[arg-type]
vggft.finetune("flowers/", epochs=5)  # type: ignore[call-arg]
vggft.search("flowers/", algorithm="baysian")  # type: ignore[arg-type]
vggft.cross_validate("flowers/", freeze="blok3")  # type: ignore[arg-type]
vggft.Training(schedule="cosinus")  # type: ignore[arg-type]
vggft.VGGClassifier(resize="pads")  # type: ignore[arg-type]
