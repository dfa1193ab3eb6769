"""Text and HTML for people: Jinja2 templates, and the format of numbers and tables."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.filesize import decimal

from ..foreign import markdown, visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import Image

UNDEFINED = "-"


def score(value: float | None, sign: str = "") -> str:
    """Format a number with three decimals; `sign="+"` also writes the plus. None is undefined and becomes a dash.

    >>> score(0.5), score(0.5, "+"), score(None)
    ('0.500', '+0.500', '-')
    """
    return UNDEFINED if value is None else f"{value:{sign}.3f}"


def ends(interval: tuple[float, float] | None) -> str:
    """Format the two ends of an interval.

    >>> ends((0.25, 0.75)), ends(None)
    ('0.250 to 0.750', '-')
    """
    return UNDEFINED if interval is None else f"{score(interval[0])} to {score(interval[1])}"


NOT_SHARES = ("log_loss", "loss", "val_loss", "roc_auc", "mcc")  # metrics that are not written as percentages


def percent(value: float | None) -> str:
    """Format a share as a percentage; its space does not break.

    >>> percent(0.5), percent(None)
    ('50.0\\xa0%', '-')
    """
    return UNDEFINED if value is None else f"{100 * value:.1f}\u00a0%"


def measure(value: float | None, metric: str) -> str:
    """Format a metric on a page: shares as percentages, others with three decimals.

    >>> measure(0.5, "accuracy"), measure(0.5, "log_loss")
    ('50.0\\xa0%', '0.500')
    """
    return score(value) if metric in NOT_SHARES or " " in metric else percent(value)  # several are a sum


def metric_name(metric: str) -> str:
    """Write the name of a metric in words.

    >>> metric_name("roc_auc"), metric_name("macro_f1"), metric_name("top_2_accuracy")
    ('ROC AUC', 'macro F1', 'top 2 accuracy')
    """
    words = {"roc": "ROC", "auc": "AUC", "mcc": "MCC", "f1": "F1"}
    return " ".join(words.get(word, word) for word in metric.split("_"))


def between(interval: tuple[float, float] | None, metric: str) -> str:
    """Format the two ends of a metric's interval on a page.

    >>> between((0.25, 0.75), "accuracy"), between((0.25, 0.75), "mcc")
    ('25.0 to 75.0\\xa0%', '0.250 to 0.750')
    """
    if interval is None or metric in NOT_SHARES:
        return ends(interval)
    return f"{100 * interval[0]:.1f} to {percent(interval[1])}"


def bytes_text(number: int) -> str:
    """Write a number of bytes; of hundreds without a decimal, which would be noise.

    >>> bytes_text(942_700_000), bytes_text(44_200), bytes_text(1_640_000_000)
    ('943 MB', '44.2 kB', '1.6 GB')
    """
    told = decimal(number)
    return decimal(number, precision=0) if len(told.partition(".")[0]) > 2 else told


def printable(text: str, encoding: str) -> str:
    """Return text in which everything that an encoding lacks is written as an escape.

    >>> printable("Käse 漢", "cp1252")
    'Käse \\\\u6f22'
    """
    return text.encode(encoding, "backslashreplace").decode(encoding)


def tail(path: str) -> str:
    """Return the name of a file and of the folder that it is in.

    >>> tail("photos/train/cat/1.jpg")
    'cat/1.jpg'
    """
    return "/".join(PurePath(path).parts[-2:])


def table(rows: list[list[str]]) -> str:
    """Align cells in columns: the first column to the left, the others to the right.

    >>> print(table([["class", "f1"], ["cat", "0.500"]]))
      class     f1
      cat    0.500
    """
    rows = [list(map(visible, row)) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]  # CJK characters are two cells wide
    lines = [["", set_cell_size(row[0], widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join(map("  ".join, lines))


def legible(image: Image.Image, side: int = 160) -> Image.Image:
    """Return an image whose longer side is about as many pixels: small ones grow by a whole factor.

    >>> from PIL import Image
    >>> legible(Image.new("RGB", (32, 16))).size, legible(Image.new("RGB", (1000, 500))).size
    ((160, 80), (240, 120))
    """
    scale = max(1, side // max(image.size))
    image = image.resize((image.width * scale, image.height * scale), 3)  # bicubic, without importing Pillow for that
    image.thumbnail((1.5 * side, 1.5 * side))
    return image


def jpeg_url(image: Image.Image, quality: int = 88) -> str:
    """Encode an image as a JPEG data URL, for the `src` of an `<img>`."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package. Values are escaped, as HTML or as Markdown, but those that are `Markup`."""
    return _environment(template.endswith(".html")).get_template(template).render(**values)


@cache
def _environment(is_html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def escaped(value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        return visible(value, lines=True) if is_html else markdown(value)

    made = Environment(
        loader=PackageLoader("vggft"),
        autoescape=is_html,
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"zip": zip}
    made.filters |= {"score": score, "percent": percent, "measure": measure, "between": between}
    made.filters |= {"metric_name": metric_name, "tail": tail}
    return made
