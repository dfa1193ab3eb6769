"""Turn the text of options into Python values: lists of widths and blocks, sizes in pixels, ranges, sizes in bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from ..errors import ConfigError
from ..pictures.reading import check_bands, check_range, check_size

CHOICE = "One value, a list `a,b`, or a range `low:high[:log]`."

_SIDE = "an integer >= 32, or two of them, (height, width)"
Freeze = Annotated[
    str | tuple[str, ...],
    "all, none, a block or a list of blocks",
    lambda value: isinstance(value, (str, list, tuple)) and all(isinstance(block, str) for block in value),
]
Size = Annotated[int | tuple[int, int] | None, _SIDE, lambda value: value is None or _holds(check_size, value)]
ValueRange = Annotated[
    tuple[float, float] | None,
    "two numbers, black and white, such as (0, 4095)",
    lambda value: _holds(check_range, value),
]
Bands = Annotated[
    tuple[int, int, int] | None, "three indices from 0 on, such as (0, 1, 2)", lambda value: _holds(check_bands, value)
]


Names = Annotated[
    tuple[str, ...],
    "a list of names",
    lambda value: isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value),
]


def _holds(check: Callable[[Any], Any], value: Any) -> bool:
    try:
        check(value)
    except ConfigError:
        return False
    return True


def integers(text: str) -> tuple[int, ...]:
    """Read widths of layers, separated by commas.

    >>> integers("512,128"), integers("")
    ((512, 128), ())
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--units must be widths separated by commas, such as 512,128; got {text!r}.") from None


def sides(text: str) -> int | tuple[int, ...]:
    """Read one side in pixels, or height and width.

    >>> sides("224"), sides("224x320")
    (224, (224, 320))
    """
    try:
        found = tuple(int(part) for part in re.split(r"[x,]", text.strip().lower()))
    except ValueError:
        raise ConfigError(
            f"--image-size must be pixels, such as 224 or 224x320 (height x width); got {text!r}."
        ) from None
    return found[0] if len(found) == 1 else found


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers separated by commas.

    >>> numbers("0,4095"), numbers("-1000,0.5")
    ((0, 4095), (-1000, 0.5))
    """
    found = [value(part) for part in text.strip("()[] ").split(",")]
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in found):
        raise ConfigError(f"expected numbers separated by commas, such as 0,4095; got {text!r}.")
    return tuple(found)  # type: ignore[arg-type]


def fraction(text: str) -> float | str:
    """Read a number; other text is the path of a dataset."""
    try:
        return float(text)
    except ValueError:
        return text


def names(text: str) -> str | tuple[str, ...]:
    """Read one name, or several separated by commas.

    >>> names("all"), names("block1,block4")
    ('all', ('block1', 'block4'))
    """
    return tuple(part.strip() for part in text.split(",") if part.strip()) if "," in text else text


def listed(text: str) -> tuple[str, ...]:
    """Read names separated by commas.

    >>> listed("cat, dog")
    ('cat', 'dog')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def factors(text: str) -> str | dict[str, float] | None:
    """Read numbers by name; `none` is None, and another word stays text.

    >>> factors("block4=0.1,head=5"), factors("balanced")
    ({'block4': 0.1, 'head': 5.0}, 'balanced')
    """
    if "=" not in text:
        return None if text.strip() == "none" else text
    try:
        pairs = [part.rpartition("=") for part in text.split(",") if part.strip()]
        return {name.strip(): float(number) for name, _, number in pairs}
    except ValueError:
        raise ConfigError(f"expected numbers by name, such as block4=0.1,head=5; got {text!r}.") from None


def value(text: str) -> bool | int | float | str | None:
    """Read `true`, `false`, `none` and numbers as Python values; other words stay text."""
    text = text.strip()
    words = {"true": True, "false": False, "none": None}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def choice(name: str, text: str) -> Any:
    """Read choices for a search: `a,b` is a list, `low:high` or `low:high:log` a range, anything else one value.

    >>> choice("units", "64,128"), choice("learning_rate", "1e-4:1e-2:log"), choice("freeze", "none")
    ([64, 128], (0.0001, 0.01, 'log'), 'none')
    """
    read = str.strip if name == "freeze" else value
    if not text.strip():
        raise ConfigError(f"--{name.replace('_', '-')} needs a value. {CHOICE}")
    if ":" in text:
        return tuple(read(part) for part in text.split(":"))
    if "," in text:
        return [read(part) for part in text.split(",") if part.strip()]
    return read(text)


def size(text: str) -> int:
    """Read a number of bytes, with a decimal or binary unit or without one.

    >>> size("20GB"), size("1.5 KiB"), size("0")
    (20000000000, 1536, 0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?", text.strip())
    if not found:
        raise ConfigError(f"--max-size must be bytes or a number with a unit, such as 20GB or 1.5GiB; got {text!r}.")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))


READ: dict[Any, tuple[Callable[[str], Any], str]] = {  # how to read the text of an option, and help on its format
    tuple[int, ...]: (integers, " Separate several by commas; '' is none."),
    tuple[str, ...] | None: (listed, " Separate them by commas."),
    float | str: (fraction, ""),
    float | str | None: (fraction, ""),
    int | tuple[int, int] | None: (sides, ""),
    tuple[float, float] | None: (numbers, ""),
    tuple[int, int, int] | None: (numbers, ""),
    str | tuple[str, ...]: (names, " Or exactly the blocks in a list, `block1,block4`."),
    Mapping[str, float] | None: (factors, " For example `block4=0.1,head=5`."),
    Literal["balanced"] | Mapping[str, float] | None: (factors, " For example `cat=1,dog=2.5`."),
}
