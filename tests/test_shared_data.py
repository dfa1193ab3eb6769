"""Real images, from the data beside the repository; tests are skipped where it is missing."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.pictures.files import read_image

CELLS = ("Platelets", "RBC", "WBC")


def test_rotated_photographs_are_upright(shared_data: Path) -> None:
    """Three photographs carry EXIF orientation 6; all nine orientations of one picture must decode to the same."""
    photographs = [shared_data / "sign_digits" / "7" / f"IMG_{number}.JPG" for number in (5874, 5935, 5978)]
    for path in photographs:
        picture = read_image(path, 64)
        turned = np.asarray(Image.open(path).rotate(-90).resize((64, 64), Image.Resampling.BOX), dtype=int)
        assert picture.size == (3024, 3024)
        assert np.abs(picture.pixels - turned).mean() < 3
    for kind in ("Landscape", "Portrait"):
        upright = read_image(shared_data / "exif" / f"{kind}_1.jpg", 64).pixels.astype(int)
        for n in range(2, 9):
            turned = read_image(shared_data / "exif" / f"{kind}_{n}.jpg", 64).pixels.astype(int)
            assert np.abs(turned - upright).mean() < 8, (kind, n)


@pytest.mark.slow
def test_blood_cells_as_multi_label_from_a_csv_file(shared_data: Path, tmp_path: Path) -> None:
    """BCCD: a label is a kind of cell that is in the picture; nearly every picture has red cells."""
    table = tmp_path / "cells.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels"])
        for annotation in sorted((shared_data / "bccd" / "Annotations").glob("*.xml")):
            cells = {item.text for item in ElementTree.parse(annotation).iterfind("object/name")}
            picture = shared_data / "bccd" / "JPEGImages" / f"{annotation.stem}.jpg"
            writer.writerow([picture, "|".join(cell for cell in CELLS if cell in cells)])
    classifier = vggft.finetune(
        table, num_classes=3, test=0.2, backbone="vgg16_mini", verbose=0, run_dir=tmp_path / "run"
    )
    found = classifier.evaluation
    assert found.multi_label and found.class_names == CELLS and found.split == "test"
    assert found["average_precision"] > 0.85 and 0 <= found["micro_f1"] <= 1
    again = vggft.load(tmp_path / "run" / "classifier.keras")
    picture = shared_data / "bccd" / "JPEGImages" / "BloodImage_00001.jpg"
    assert "RBC" in again.classify(picture).present
    np.testing.assert_allclose(again.predict(picture), classifier.predict(picture), atol=1e-6)


@pytest.mark.slow
def test_sign_digits_reach_what_the_readme_says(shared_data: Path) -> None:
    classifier = vggft.finetune(
        shared_data / "sign_digits", 10, backbone="vgg16_mini", freeze="block3", test=0.2, verbose=0
    )
    assert classifier.evaluation["accuracy"] >= 0.97
