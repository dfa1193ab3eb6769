"""`Display`: what all plots have in common, in the manner of scikit-learn's Display classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import numpy as np

from ..errors import ConfigError, short_traceback
from ..telling.figures import new_figure, style, svg, write_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 4.8  # inches; text stays legible on a phone


@short_traceback
class Display:
    """What all plots here have in common.

    Attributes:
        figure_: the matplotlib figure, once it is drawn.
        axes_: (n,) object array of its `Axes`.
        ax_: the first of them.
    """

    size: tuple[float, float] = (WIDTH, 3.4)  # inches
    panels: Mapping[str, Any] = {"nrows": 1, "ncols": 1}
    figure_: Figure
    axes_: np.ndarray
    ax_: Any

    def plot(self, ax: Any = None) -> Self:
        """Draw it, and return this display.

        Args:
            ax: `Axes` to draw on, or as many of them as the plot has panels; one of a figure's subplots is divided into
                panels. None makes a new figure with `matplotlib.pyplot`, so that `plt.show()` and notebooks show it.

        Raises:
            ConfigError: `ax` has another number of axes than the plot.
        """
        count = self.panels["nrows"] * self.panels["ncols"]
        if ax is None:
            from matplotlib import pyplot

            return self._draw_on(pyplot.figure(figsize=self.size, layout="constrained"))
        given = np.ravel(np.asarray(ax, object))
        if len(given) == 1 and count > 1 and (place := given[0].get_subplotspec()) is not None:
            given[0].set_axis_off()
            return self._draw_on(given[0].figure, place.subgridspec)
        if len(given) != count:
            raise ConfigError(f"{type(self).__name__} has {count} panels, so ax is one or {count}; got {len(given)}.")
        return self._drawn(given, own=False)

    def figure(self) -> Figure:
        """Draw it on a figure of its own that pyplot does not know, such as for a file."""
        return self._draw_on(new_figure(*self.size)).figure_

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Draw it into a `.png`, `.svg` or `.pdf` file.

        Args:
            overwrite: replace what is at `path`.

        Raises:
            ConfigError: the name of the file has another ending, or something is there already.
        """
        return write_plot(path, self.figure, overwrite)

    def to_html(self, alt: str = "") -> str:
        """Return it as an `<img>` that loads nothing, dark on light pages and light on dark ones."""
        from markupsafe import Markup

        with style():
            return Markup('<img src="{}" alt="{}" style="max-width: 100%;">').format(svg(self.figure()), alt or self)

    def _draw_on(self, figure: Figure, grid: Any = None) -> Self:
        shared = {name: value for name, value in self.panels.items() if name.startswith("share")}
        rest = {name: value for name, value in self.panels.items() if name not in shared}
        made = (grid or figure.add_gridspec)(**rest).subplots(squeeze=False, **shared)
        return self._drawn(np.ravel(made), own=grid is None)

    def _drawn(self, axes: np.ndarray, own: bool) -> Self:
        self.axes_, self.ax_, self.figure_ = axes, axes[0], axes[0].figure
        self._draw(axes, own)
        return self

    def _draw(self, axes: np.ndarray, own: bool) -> None:
        """Draw on as many axes as there are panels; `own` says that nothing else is on the figure."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


D = TypeVar("D", bound=Display)


@short_traceback
class Plotted(Generic[D]):
    """A result that a display draws."""

    def _display(self) -> D:
        raise NotImplementedError

    @overload
    def plot(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path: ...
    @overload
    def plot(self, path: None = None, *, ax: Any = None) -> D: ...
    def plot(self, path: str | os.PathLike[str] | None = None, *, ax: Any = None, overwrite: bool = False) -> Path | D:
        """Plot it, as its display in `vggft.plots` says.

        Args:
            path: a `.png`, `.svg` or `.pdf` file to draw it into.
            ax: matplotlib `Axes` to draw on, if there is no path; None makes a new figure.
            overwrite: replace what is at `path`.

        Returns:
            The path of the file, or without one the display, with `figure_` and `axes_`.

        Raises:
            ConfigError: the name of the file has another ending, or something is there already.
        """
        display = self._display()
        return display.plot(ax) if path is None else display.save(path, overwrite)


def ink() -> Any:
    """Return the colour that text has at the moment, for lines that have to be seen on any background."""
    import matplotlib as mpl

    return mpl.rcParams["text.color"]
