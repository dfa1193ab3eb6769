"""`Growth`: how many more images? A power law through the scores of probes on growing shares of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ..drawing.curves import GrowthDisplay
from ..drawing.display import Plotted
from ..errors import RunError, short_traceback
from ..extras import data_frame
from ..telling.display import metric_name, render, score

EXPONENTS = np.geomspace(0.1, 2.0, 60)
# Measured exponents of image classifiers are from 0.3 to 0.6 (arXiv:1712.00409), and few images do not tell them: with
# this spread of their logarithm, predictions at twice the data were best on five sets of pictures.
USUAL, SPREAD = 0.5, 0.25
LEVEL = 0.9  # of intervals
LITTLE = 0.005  # a gain that is less than this is none
TITLE = "The score against the number of images"


@short_traceback
@dataclass(frozen=True, eq=False)
class Growth(Plotted[GrowthDisplay]):
    """What a classifier gets right against how many images it learned from; `str`, `predict` and `plot` tell it.

    The curve is `1 - score = a + b * n ** -c`: the form that errors of many networks follow (arXiv:1712.00409).

    Args:
        images: number of images that there are to learn from.
        metric: what is measured: `"accuracy"`, or `"average_precision"` if images have several labels.
        sizes: (S,) int64, numbers of images that probes learned from.
        scores: (S,) float64, the metric over images that the probes had not seen.
        ends: (S, 2) float64, the ends of the 90 % interval of each score.
        laws: (B, 3) float64, a, b and c: first of these scores, then of scores over images drawn with replacement.
        why: a sentence that says why there is no curve; empty if there is one.
    """

    images: int
    metric: str
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ends: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    laws: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    why: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a curve."""
        return not self.why

    def predict(self, images: int | np.ndarray) -> np.ndarray:
        """Predict the score with another number of images, of the same kind and in the same proportions.

        Args:
            images: one number, or (n,) of them. Twice as many as there are is measured in docs/more_images.md; further
                on the curve is a guess.

        Returns:
            (3,) or (n, 3) float64: the score and the ends of its 90 % interval; NaN without a curve.
        """
        count = np.atleast_1d(np.asarray(images, "float64"))
        found = _with_ends(1 - errors_at(self.laws, count)) if self.known else np.full((len(count), 3), np.nan)
        return found if np.ndim(images) else found[0]

    def gain(self, more: int) -> tuple[float, float, float]:
        """Predict by how much the score rises with so many more images: the gain and the ends of its 90 % interval.

        It is surer than the difference of two predictions, as both ends are of the same curve.
        """
        if not self.known:
            return float("nan"), float("nan"), float("nan")
        now, then = errors_at(self.laws, np.array([self.images, self.images + more], "float64")).T
        middle, low, high = _with_ends((now - then)[:, None])[0]
        return float(middle), float(low), float(high)

    def needed(self, wanted: float) -> int | None:
        """Return how many images the curve takes to a score, 0..1; None if it never gets there, or without a curve."""
        if not self.known:
            return None
        a, b, c = self.laws[0]
        error = 1 - wanted - a
        return None if error <= 0 else max(1, round(float((b / error) ** (1 / c))))

    def sentence(self, more: int | None = None) -> str:
        """Say what more images would bring, in a sentence.

        It has gains alone: the scores are of probes, and beside that of a classifier they look like a fall or a rise.

        Args:
            more: how many; None for a round number, about a third of those there are.
        """
        name = metric_name(self.metric)
        if not self.known:
            return self.why
        if max(self.gain(self.images)[2], self.gain(more or 0)[2]) < LITTLE:
            return f"More images of the same kind would change little: {name} would rise by less than {LITTLE}."
        more = more or _round(self.images / 3)
        _, *once = self.gain(more)
        _, *twice = self.gain(self.images)
        return (
            f"Another {more} images would raise {name} by about {_ends(once)}; twice as many images as now, by about "
            f"{_ends(twice)}."
        )

    def __str__(self) -> str:
        return self.sentence()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; `from_dict` reads them back."""
        found: dict[str, Any] = {"images": self.images, "metric": self.metric, "why": self.why, "told": str(self)}
        arrays = {name: getattr(self, name).tolist() for name in ("sizes", "scores", "ends")}
        return found | arrays | {"laws": self.laws.round(6).tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make one of what `to_dict` returned.

        Raises:
            RunError: arrays do not fit together.
        """
        shapes = {"sizes": (-1,), "scores": (-1,), "ends": (-1, 2), "laws": (-1, 3)}
        arrays = {name: np.asarray(values[name], "float64").reshape(shape) for name, shape in shapes.items()}
        if len({len(arrays[name]) for name in ("sizes", "scores", "ends")}) > 1 or not (
            values["why"] or len(arrays["laws"])
        ):
            raise RunError("A learning curve has as many scores and ends as sizes, and laws unless it says why not.")
        arrays["sizes"] = arrays["sizes"].astype("int64")
        return cls(int(values["images"]), str(values["metric"]), **arrays, why=str(values["why"]))

    def table(self) -> list[dict[str, Any]]:
        """List what was measured and what is predicted: images, score, low, high, and whether it is `measured`."""
        rows = [
            {"images": int(n), "score": float(s), "low": float(e[0]), "high": float(e[1]), "measured": True}
            for n, s, e in zip(self.sizes, self.scores, self.ends, strict=True)
        ]
        if self.known:
            ahead = [self.images, self.images + _round(self.images / 3), 2 * self.images]
            names = ("score", "low", "high")
            rows += [
                {"images": n, **dict(zip(names, map(float, row), strict=True)), "measured": False}
                for n, row in zip(ahead, self.predict(np.array(ahead)), strict=True)
            ]
        return rows

    def to_frame(self) -> Any:
        """Return `table` as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(self.table(), ("images", "score", "low", "high", "measured"), "table()")

    def _repr_html_(self) -> str:
        return render("plotted.html", told=str(self), plot=self._display().to_html(TITLE))

    def _display(self) -> GrowthDisplay:
        return GrowthDisplay(self)


def power_laws(sizes: np.ndarray, errors: np.ndarray, deviations: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fit `a + b * n ** -c` with a >= 0 and b >= 0 by weighted least squares, with a prior on c.

    Every curve but the first has an exponent drawn from the prior as its usual one, so that the spread of the laws is
    also that of what the errors do not tell.

    For each exponent of a grid the other two have a closed form, so that hundreds of curves take milliseconds, and none
    ends in a local minimum.

    Args:
        sizes: (S,) numbers of images.
        errors: (B, S) errors of B curves, 0..1.
        deviations: (S,) standard deviations of the errors.
        seed: of these exponents.

    Returns:
        (B, 3) float64: a, b and c.

    >>> sizes = np.array([50, 100, 200, 400])
    >>> power_laws(sizes, (0.1 + 2 * sizes**-0.5)[None], np.full(4, 0.001)).round(1).tolist()
    [[0.1, 2.0, 0.5]]
    """
    weights = 1 / deviations**2
    usual = np.log(USUAL) + SPREAD * np.random.default_rng(seed).normal(size=len(errors))
    usual[:1] = np.log(USUAL)
    found, best = np.zeros((len(errors), 3)), np.full(len(errors), np.inf)
    for exponent in EXPONENTS:
        x = sizes.astype("float64") ** -exponent
        mean_x, mean_e = np.average(x, weights=weights), np.average(errors, axis=1, weights=weights)
        b = ((errors - mean_e[:, None]) * weights) @ (x - mean_x) / (weights @ (x - mean_x) ** 2)
        a = mean_e - b * mean_x
        through_zero = (errors * weights) @ x / (weights @ x**2)
        b, a = np.where(a < 0, through_zero, b), np.maximum(a, 0)
        b, a = np.maximum(b, 0), np.where(b < 0, mean_e, a)
        misfit = (errors - a[:, None] - b[:, None] * x) ** 2 @ weights + ((np.log(exponent) - usual) / SPREAD) ** 2
        better = misfit < best
        best[better] = misfit[better]
        found[better] = np.stack([a, b, np.full(len(a), exponent)], axis=1)[better]
    return found


def errors_at(laws: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the (B, n) errors of B power laws at (n,) numbers of images."""
    a, b, c = (column[:, None] for column in laws.T)
    return np.clip(a + b * sizes[None, :] ** -c, 0, 1)


def _with_ends(drawn: np.ndarray) -> np.ndarray:
    """Return (n, 3): the first of (B, n) values, and the ends of the interval of all of them."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.stack([drawn[0], np.minimum(low, drawn[0]), np.maximum(high, drawn[0])], axis=1)


def _round(number: float) -> int:
    """Return a round number near another.

    >>> [_round(n) for n in (4.0, 37.0, 226.7, 943.0)]
    [5, 40, 200, 900]
    """
    size = 10 ** max(0, len(str(int(number))) - 1)
    return max(5, round(number / size) * size)


def _ends(gain: Sequence[float]) -> str:
    low, high = map(score, gain)
    return low if low == high else f"{low} to {high}"
