"""The pictures of the report: some of each class, what augmentation does, confused pairs, and the highest losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..artifact.artifact import Artifact
from ..artifact.examples import LOSSES, of_classes, of_pairs
from ..artifact.explain import Explanation, grad_cam, last_seen, shown
from ..artifact.known import digests_of
from ..augment import Augment
from ..errors import DataError, VggftError
from ..evaluation.evaluation import Evaluation
from ..evaluation.mistakes import Mistake, image_name
from ..features.views import keys_of, make_views
from ..network.blocks import BLOCKS
from ..pictures.files import read_image
from ..telling.display import jpeg_url, legible
from .names import Names

MISTAKES = 12
AUGMENTED, VIEWS = 3, 4  # images and their views
ALIKE = 4.0  # mean difference of pixel values, 0..255, below which two images are shown as one


class Gallery:
    """The images of an evaluation, from the run directory or from their files if they are still there.

    Args:
        artifact: the classifier.
        evaluation: its evaluation.
    """

    def __init__(self, artifact: Artifact, evaluation: Evaluation):
        self.artifact, self.evaluation = artifact, evaluation
        self.names = Names(artifact.record)
        self.photos: dict[int, str] = {}

    def pixels(self, row: int) -> np.ndarray | None:
        """Return (height, width, 3) uint8 as the network sees it, or None if the image is not available."""
        kept = self.artifact.record.pictures
        if row in kept:
            return np.rint(kept[row]).astype("uint8")
        try:
            read = read_image(image_name(self.evaluation.names, row), self.artifact.description.reading)
        except DataError:
            return None
        return np.rint(read.pixels).astype("uint8")

    def photo(self, row: int) -> str:
        """Return a small picture with its own proportions as the `src` of an `<img>`; "" if it is not available."""
        if row not in self.photos:
            try:
                found = shown(image_name(self.evaluation.names, row), self.artifact.description.reading)
                self.photos[row] = jpeg(found)
            except DataError:
                pixels = self.pixels(row)
                self.photos[row] = "" if pixels is None else jpeg(pixels)
        return self.photos[row]

    def photo_of(self, row: int) -> dict[str, str]:
        """Return a picture with its name."""
        return {"src": self.photo(row), "name": self.names.short(image_name(self.evaluation.names, row))}

    def of_classes(self) -> dict[str, list[dict[str, str]]]:
        """Return class -> some pictures of it."""
        found = of_classes(self.evaluation)
        return {name: [each for row in rows if (each := self.photo_of(row))["src"]] for name, rows in found.items()}

    def of_pairs(self) -> list[dict[str, Any]]:
        """Return the most confused pairs of classes with some pictures of each."""
        support = {row.name: row.support for row in self.evaluation.per_class}
        return [
            {
                "true": true,
                "predicted": predicted,
                "images": len(self.evaluation.confused_images(true, predicted)),
                "of": support[true],
                "pictures": [self.photo_of(row) for row in rows],
            }
            for (true, predicted), rows in of_pairs(self.evaluation).items()
        ]

    def augmented(self) -> list[list[str]]:
        """Return some images, each followed by views of it as training has them; empty if training had none."""
        config = self.artifact.record.config
        fields = config.get("augment")
        if not isinstance(fields, Mapping):
            return []
        try:
            augment = Augment.from_dict(fields)
        except VggftError:  # of another version
            return []
        rows = [rows[0] for rows in of_classes(self.evaluation).values() if rows]
        found = [pixels for row in rows[:AUGMENTED] if (pixels := self.pixels(row)) is not None]
        if not found:
            return []
        images = np.stack(found)
        keys = keys_of(digests_of(images))
        views = [make_views(images, keys, view, augment, config.get("seed", 0)) for view in range(1, VIEWS + 1)]
        return [[jpeg(each[i]) for each in (images, *views)] for i in range(len(images))]

    def mistakes(self) -> list[dict[str, Any]]:
        """Return the images with the highest losses, each once, with Grad-CAM of the predicted class."""
        artifact, found = self.artifact, dict[int, np.ndarray]()
        groups: list[list[Mistake]] = []
        for each in self.evaluation.top_losses(LOSSES):
            pixels = self.pixels(each.row)
            for group in groups if pixels is not None else ():
                first = group[0]
                same = (first.true, first.predicted) == (each.true, each.predicted)
                if same and first.row in found and is_copy(found[first.row], pixels):
                    group.append(each)
                    break
            else:
                groups.append([each])
                if pixels is not None:
                    found[each.row] = pixels
        shown_groups = groups[:MISTAKES]
        first_rows = [group[0].row for group in shown_groups if group[0].row in found]
        classes = [predicted_class(self.evaluation, row) for row in first_rows]
        heat = grad_cam(artifact, np.stack([found[row] for row in first_rows]), classes) if first_rows else ()
        overlays = {
            row: Explanation(found[row], each, artifact.class_names[c], 1.0, last_seen(artifact))
            for row, each, c in zip(first_rows, heat, classes, strict=True)
        }
        return [self._card(group, overlays.get(group[0].row)) for group in shown_groups]

    def _card(self, group: list[Mistake], overlay: Explanation | None) -> dict[str, Any]:
        """Return what is said of an image, of which `group[1:]` are copies."""
        each = group[0]
        return {
            "names": [self.names.short(copy.name) for copy in group],
            "true": " | ".join(each.true) or "nothing",
            "predicted": " | ".join(each.predicted) or "nothing",
            "wrong": each.wrong,
            "probability": each.probability,
            "certainty": float(self.evaluation.probabilities[each.row, predicted_class(self.evaluation, each.row)]),
            "loss": each.loss,
            "seen": overlay.label if overlay else "",
            "picture": jpeg(overlay.picture) if overlay else "",
            "overlay": jpeg(overlay.overlay()) if overlay else "",
        }

    def cells(self) -> str:
        """Say how fine Grad-CAM is."""
        block = last_seen(self.artifact)
        side = 2 ** BLOCKS.index(block)  # a pooling layer after each block before it
        height, width = self.artifact.description.size
        return (
            f"Grad-CAM at {block} has {height // side} × {width // side} cells of {side} px for the {height} × {width} "  # noqa: RUF001
            "px that the network sees, drawn smoothly: finer detail in it means nothing."
        )


def predicted_class(evaluation: Evaluation, row: int) -> int:
    """Return the column of the class that an image is predicted as; with several labels, of the most probable one."""
    return int(evaluation.probabilities[row].argmax() if evaluation.multi_label else evaluation.predictions[row])


def is_copy(a: np.ndarray, b: np.ndarray | None) -> bool:
    """Whether two images of one size show the same, also if they were compressed differently."""
    return b is not None and a.shape == b.shape and float(np.abs(a.astype(np.int16) - b).mean()) < ALIKE


def jpeg(pixels: np.ndarray) -> str:
    """Convert pixels to the `src` of an `<img>`, enlarged or made smaller to about 160 px."""
    return jpeg_url(legible(Image.fromarray(pixels)), quality=82)
