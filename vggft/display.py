"""HTML by Jinja2, every value escaped: the report, and what a notebook shows of an object."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import Image


from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    pass

DASH = "–"  # noqa: RUF001


def score(value: float | None) -> str:
    """Three decimals, or a dash for what is not defined."""
    return DASH if value is None else f"{value:.3f}"


def ends(interval: tuple[float, float] | None) -> str:
    """An interval in words."""
    return DASH if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def tail(name: str) -> str:
    """The end of a path, with the folder that the file is in."""
    return "/".join(PurePath(name).parts[-2:])


@cache
def _environment(autoescape: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("vggft"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"score": score, "ends": ends, "percent": lambda share: f"{share:.1%}", "tail": tail}
    return made


def jpeg_url(image: Image.Image, quality: int = 88) -> str:
    """A picture as the `src` of an `<img>`."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def render(template: str, **values: Any) -> str:
    """A template of this package with values filled in; in `.html` ones a class named `<script>` stays text."""
    return _environment(template.endswith(".html")).get_template(template).render(**values)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def table(rows: list[list[str]]) -> str:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]  # terminal cells: CJK names take two
    lines = [["", set_cell_size(row[0], widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join(map("  ".join, lines))
