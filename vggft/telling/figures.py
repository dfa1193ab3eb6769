"""Matplotlib figures for pages: their style, SVG for light and dark ones, and image files."""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..fields import as_path, shown
from ..files.writing import whole_file
from ..foreign import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#0a0b0c"  # a colour that nothing else has; it is replaced by the text colour of the page


@contextmanager
def style() -> Iterator[None]:
    """Draw in `INK` on a transparent background, and give the same bytes for the same numbers."""
    import matplotlib as mpl

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    settings: dict[str, Any] = dict.fromkeys(inked, INK) | {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "grid.alpha": 0.15,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text, in the fonts of the reader, which cover the reader's scripts
        "svg.hashsalt": "vggft",
    }
    with warnings.catch_warnings(), mpl.rc_context(settings):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Create a matplotlib figure without pyplot, which would keep it alive."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure) -> str:
    """Convert a figure to the `src` of an `<img>`; it is dark on light pages and in print, light on dark pages."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    colours = "svg{color:#1d1f24}@media screen and (prefers-color-scheme:dark){svg{color:#d9dce3}}"
    text = text.replace(">", f"><style>{colours}</style>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def check_plot(path: str | os.PathLike[str]) -> Path:
    """Return the path of a plot; raise `ConfigError` if it has another ending than .png, .svg or .pdf."""
    path = as_path(path, "plot")
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"A plot is a .png, .svg or .pdf file; got {shown(path.name)}.")
    return path


def write_plot(path: str | os.PathLike[str], draw: Callable[[], Figure], overwrite: bool = False) -> Path:
    """Draw a figure into an image file.

    Raises:
        ConfigError: the name of the file has another ending than .png, .svg or .pdf, or something is there already.
    """
    path = check_plot(path)
    with style(), whole_file(path, overwrite) as aside:
        draw().savefig(aside, format=path.suffix[1:], dpi=150)
    return path


def percentages(*axes: Any) -> None:
    """Write the shares along some axes as percentages."""
    from matplotlib.ticker import PercentFormatter

    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1))


def short(name: str, most: int = 18) -> str:
    """Shorten a name to fit beside an axis; matplotlib takes dollar signs for formulas, and leaves out names in `_`.

    >>> short("a long name of a class"), short("$5")
    ('a long name of a …', '\\\\$5')
    """
    name = visible(name)
    name = (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name
