"""The sections of the report about the data: labels to look at, near-duplicates, more images, a map, and trust."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..artifact.artifact import Artifact
from ..artifact.explain import shown
from ..drawing.curves import GrowthDisplay
from ..drawing.maps import MapDisplay
from ..errors import ConfigError, DataError
from ..insight.blocks import told
from ..insight.layout import layout
from ..splits.groups import NEAR_DUPLICATES
from ..telling.display import jpeg_url, legible, percent
from ..telling.figures import svg
from ..trust.strangers import SHARE
from .names import Names

SUSPECTS, TWINS = 24, 8  # images, and groups, that are shown
COVERAGES = (0.8, 0.9, 0.95)


class Insights:
    """What a run found out about its data, as values for the template; what it did not is empty.

    Args:
        artifact: the classifier.
    """

    def __init__(self, artifact: Artifact):
        self.artifact, self.found, self.names = artifact, artifact.record.insight, Names(artifact.record)
        places = self.found.places
        self.thumbs = {places.names[n]: picture for n, picture in places.pictures.items()}

    def values(self) -> dict[str, Any]:
        """Return all sections."""
        found = {"blocks": self.blocks(), "suspects": self.suspects(), "twins": self.twins(), "growth": self.growth()}
        return found | {"map": self.map(), "trust": self.trust(), "apart": NEAR_DUPLICATES}

    def blocks(self) -> dict[str, Any]:
        """Return what each block alone knows about the images, and what that means for what to freeze."""
        return {"rows": self.found.blocks, "words": told(self.found.blocks)} if self.found.blocks else {}

    def suspects(self) -> list[dict[str, Any]]:
        """Return the images whose label may be wrong."""
        rows = [row for row in self.found.doubts.labels if row["suggested"]]
        return [{**row, **self._picture(row)} for row in rows[:SUSPECTS]]

    def twins(self) -> list[dict[str, Any]]:
        """Return groups of near-duplicates, those in several splits first."""
        groups: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for row in self.found.doubts.twins:
            groups[row["group"]].append(row)
        found = sorted(groups.values(), key=lambda rows: not rows[0]["leak"])
        return [
            {
                "leak": rows[0]["leak"],
                "pictures": [{**self._picture(row), "split": row["split"]} for row in rows[:4]],
                "more": max(0, len(rows) - 4),
            }
            for rows in found[:TWINS]
        ]

    def growth(self) -> dict[str, str]:
        """Return what more images would bring, in words and as a figure."""
        growth = self.found.growth
        if growth is None:
            return {}
        alt = "The score against the number of images to learn from"
        return {"words": str(growth), "src": svg(GrowthDisplay(growth).figure()) if growth.known else "", "alt": alt}

    def map(self) -> str:
        """Return a map of the images, as HTML."""
        places, suspected = self.found.places, {row["image"] for row in self.found.doubts.labels if row["suggested"]}
        if not places.names:
            return ""
        both = zip(places.labels, places.predicted, strict=True)
        marks = {
            "predicted wrongly": [n for n, (label, predicted) in enumerate(both) if predicted not in ("", label)],
            "label may be wrong": [n for n, name in enumerate(places.names) if name in suspected],
        }
        found = layout(places.vectors, most=len(places.names))
        return MapDisplay(
            found.points,
            places.labels,
            predictions=[predicted or label for label, predicted in zip(places.labels, places.predicted, strict=True)],
            names=[self.names.short(name) for name in places.names],
            marks={name: rows for name, rows in marks.items() if rows},
            pictures={n: jpeg_url(Image.fromarray(pixels), quality=75) for n, pixels in places.pictures.items()},
        ).to_html(f"Map of {len(places.names)} images by {found.how}: alike images are near each other")

    def trust(self) -> dict[str, Any]:
        """Return how prediction sets did on the test images, and whether strangers are told."""
        trust, artifact, rows = self.artifact.trust, self.artifact, list[dict[str, str]]()
        for coverage in COVERAGES if trust.held_out is not None else ():
            try:
                found = trust.coverage(artifact.evaluation, coverage, "lac", artifact.description.multi_label)
            except (ConfigError, DataError):  # there are no other images to count on, or too few for this coverage
                continue
            rows.append({"promised": percent(coverage), "found": percent(found.found), "size": f"{found.size:.2f}"})
        return {"sets": rows, "strangers": trust.strangers and percent(SHARE)}

    def _picture(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return a picture of the image of a row, with its name."""
        return {"src": self._photo(row["image"]), "name": self.names.short(row["image"])}

    def _photo(self, name: str) -> str:
        """Return a picture by its name as the `src` of an `<img>`; "" if it is not available."""
        try:
            return jpeg_url(legible(Image.fromarray(shown(name, self.artifact.description.reading))), quality=82)
        except DataError:
            kept = self.thumbs.get(name)
            return "" if kept is None else jpeg_url(legible(Image.fromarray(np.asarray(kept))), quality=82)
