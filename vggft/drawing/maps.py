"""A map of images: a dot for each, coloured by class, with marks, and pictures that show when a dot is pointed at."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError, short_traceback
from ..telling.display import render
from ..telling.figures import short
from .display import Display, ink

TEN = "#4c87c7 #e0823d #4a9f5c #cf5754 #9575c4 #9a7465 #d67bb4 #858a94 #adab3f #3fadbd".split()
MOST_COLOURS = 30  # classes with a colour of their own; the others, with the fewest images, are grey
GREY = "#858a94"
TURN = 0.618034  # of the colour circle, the golden section: colours of neighbours in the legend are far from each other


@short_traceback
class MapDisplay(Display):
    """Images as dots, alike ones near each other, coloured by class; `to_html` shows a picture for a dot.

    Args:
        points: (n, 2) places, each coordinate in 0..1, such as `insight.layout.layout` gives.
        labels: (n,) the class of each image, in words.
        predictions: (n,) the predicted class of each, in words; empty for none.
        names: (n,) of the images; empty for none.
        marks: what is marked -> the images among the n, by number: `{"mistake": [3, 7], "label suspect": [7]}`.
        pictures: image, by number -> a small picture as the `src` of an `<img>`; a few hundred keep a page small.

    Raises:
        ConfigError: they differ in length.

    >>> MapDisplay(np.random.default_rng(0).random((4, 2)), ["cat", "dog", "cat", "cat"], marks={"mistake": [1]})
    <MapDisplay of 4 images of 2 classes>
    """

    size = 6.4, 4.8

    def __init__(
        self,
        points: np.ndarray,
        labels: Sequence[str],
        *,
        predictions: Sequence[str] = (),
        names: Sequence[str] = (),
        marks: Mapping[str, Sequence[int]] | None = None,
        pictures: Mapping[int, str] | None = None,
    ):
        lengths = {len(points), len(labels)} | ({len(predictions)} - {0}) | ({len(names)} - {0})
        if len(lengths) > 1 or np.shape(points)[1:] != (2,):
            raise ConfigError(f"A map needs (n, 2) points and n labels, predictions and names; got {sorted(lengths)}.")
        self.points, self.labels = np.asarray(points, "float64"), [*map(str, labels)]
        self.predictions, self.names = [*map(str, predictions)], [*map(str, names)]
        self.marks = {name: [*map(int, rows)] for name, rows in (marks or {}).items()}
        self.pictures = dict(pictures or {})
        counts = Counter(self.labels)
        biggest = sorted(sorted(counts), key=lambda name: -counts[name])[:MOST_COLOURS]
        shown = sorted(biggest)
        self.colours = {name: _colour(n, len(shown)) for n, name in enumerate(shown)}
        self.counts = {name: counts[name] for name in shown}
        self.others = len(counts) - len(shown), len(self.labels) - sum(self.counts.values())

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        ax = axes[0]
        colours = [self.colours.get(label, GREY) for label in self.labels]
        ax.scatter(*self.points.T, s=14, c=colours, linewidths=0, alpha=0.85)
        for (name, rows), (marker, colour) in zip(
            self.marks.items(), (("o", "tab:red"), ("D", ink()), ("s", "tab:purple"), ("^", "tab:brown")), strict=False
        ):
            ring: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.1, "label": name}
            ax.scatter(*self.points[rows].T, s=48, marker=marker, **ring)
        for name, colour in self.colours.items():
            ax.scatter([], [], s=24, c=colour, linewidths=0, label=short(name))
        ax.set(xticks=[], yticks=[], aspect="equal")
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, ncols=1 + len(self.colours) // 18)

    def to_html(self, alt: str = "") -> str:
        """Return it as HTML that loads nothing and runs no script: pointing at, tapping or focusing a dot shows it.

        Args:
            alt: what it shows, for those who do not see it.
        """
        from markupsafe import Markup

        marked: dict[int, list[str]] = {}
        for name, rows in self.marks.items():
            for row in rows:
                marked.setdefault(row, []).append(name)
        kinds = list(self.marks)
        order = sorted(range(len(self.labels)), key=lambda row: (row in marked, row))  # marked ones above the others
        dots = [
            {
                "x": f"{100 * self.points[row, 0]:.1f}",
                "y": f"{100 * (1 - self.points[row, 1]):.1f}",
                "colour": self.colours.get(self.labels[row], GREY),
                "rings": [kinds.index(name) for name in marked.get(row, ())],
                "told": self._about(row, marked.get(row, ())),
                "picture": self.pictures.get(row, ""),
                "right": self.points[row, 0] > 0.5,
                "low": self.points[row, 1] < 0.5,
            }
            for row in order
        ]
        legend = [(name, self.colours[name], count) for name, count in self.counts.items()]
        marks = [(name, len(rows)) for name, rows in self.marks.items()]
        how = {"dots": dots, "legend": legend, "marks": marks, "others": self.others, "grey": GREY}
        return Markup(render("map.html", alt=alt or repr(self)[1:-1], **how))

    def _about(self, row: int, marks: Sequence[str]) -> list[str]:
        """Say in short lines what a dot is."""
        label = self.labels[row]
        predicted = self.predictions[row] if self.predictions else label
        told = [label if predicted == label else f"{label}, predicted {predicted}"]
        told += [", ".join(marks)] if marks else []
        return [*told, *([self.names[row]] if self.names else [])]

    def __repr__(self) -> str:
        return f"<MapDisplay of {len(self.labels)} images of {len(set(self.labels))} classes>"


def _colour(number: int, count: int) -> str:
    """Return one of `count` colours that can be told apart on light and on dark pages, as #rrggbb."""
    if count <= len(TEN):
        return TEN[number]
    rgb = colorsys.hls_to_rgb(number * TURN % 1, (0.45, 0.6)[number % 2], 0.55)
    return "#" + "".join(f"{round(255 * each):02x}" for each in rgb)
