"""How pictures become pixels: the size, how they are fitted to it, which bands, and which values are black and white.

A `Reading` is decided once, over the data that a classifier learns from, and kept in the classifier: `predict`,
`serve` and every export read pictures by it, so that a picture gives the same pixels everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..fields import is_integer, is_number, shown

MIN_SIZE = 32  # px; the blocks of VGG halve an image five times
SMALL = 32  # px; pictures with a smaller side are enlarged, and named in a warning
DRAFT_FACTOR = 4  # a JPEG is decoded at a smaller scale if that leaves this many times the requested size
Resize: TypeAlias = Literal["squash", "crop", "pad"]
# Parts of saved files and cache keys: they have to change whenever the result of `fit` changes.
RULES: dict[str, str] = {name: f"{name}-bilinear-antialias-draft{DRAFT_FACTOR}" for name in get_args(Resize)}
RESIZE_RULE = RULES["squash"]
WORDS = {
    "squash": "the whole image squashed to this size",
    "crop": "the largest part in the middle that has these proportions, resized to this size",
    "pad": "the whole image with its proportions, in the middle of a black frame of this size",
}

ImageSize: TypeAlias = "int | tuple[int, int]"
Range: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Reading:
    """How a picture becomes pixels.

    Args:
        size: height and width in px; None keeps those of each picture.
        resize: `"squash"`, `"crop"` (the middle) or `"pad"` (black).
        bands: the three bands that are red, green and blue; None if the pictures are RGB, RGBA or grey.
        integers: black and white of pictures in integers of more than 8 bits; None if it is not decided.
        floats: black and white of pictures in floats; None if it is not decided.
        clips: whether values outside these ranges become black or white, as the ranges were given by the user; else
            such a picture is refused.
        trained: whether it is that of a classifier. Integers of more than 8 bits that it has not learned from then have
            the narrowest range for each picture, so that one is read the same alone, in a batch and in an export.
    """

    size: tuple[int, int] | None = None
    resize: str = "squash"
    bands: tuple[int, ...] | None = None
    integers: Range | None = None
    floats: Range | None = None
    clips: bool = False
    trained: bool = False

    @classmethod
    def of(cls, given: Reading | ImageSize | None) -> Reading:
        """Return a reading as it is; a size alone as the reading with this size and no more decisions."""
        if given is None or isinstance(given, Reading):
            return given or cls()
        return cls(check_size(given))

    @property
    def image_size(self) -> ImageSize:
        """The size as in the argument of this name: one number for a square."""
        assert self.size is not None
        height, width = self.size
        return height if height == width else (height, width)

    @property
    def rule(self) -> str:
        """The resize rule with everything that its result depends on."""
        return RULES[self.resize]

    @property
    def value_range(self) -> Range | None:
        """Black and white of pictures with other values than 8 bits; None if there were none."""
        return self.integers or self.floats

    @property
    def parts(self) -> dict[str, Any]:
        """What pixels depend on, for the keys of the cache; what is not used is left out."""
        found: dict[str, Any] = {"image_size": plain_size(self.image_size), "resize": self.rule}
        for name in ("bands", "integers", "floats"):
            if (value := getattr(self, name)) is not None:
                found[name] = list(value)
        return found | ({"clips": True} if self.clips else {})

    def told(self) -> str:
        """Describe it in words, such as "224 px" or "224x320 px, padded"."""
        words = {"squash": "", "crop": ", cropped", "pad": ", padded"}
        return f"{size_text(self.image_size)}{words[self.resize]}"


AS_IT_IS = Reading()  # decides nothing


def reading_of(image_size: Any, resize: Any = "squash", value_range: Any = None, bands: Any = None) -> Reading:
    """Check the public arguments of these names, and return the reading that they ask for.

    Raises:
        ConfigError: one of them has an impossible value.
    """
    size = check_size(image_size)
    if not (isinstance(resize, str) and resize in RULES):
        raise ConfigError(f"resize must be one of {', '.join(map(repr, RULES))}; got {shown(resize)}.")
    given = check_range(value_range)
    return Reading(size, resize, check_bands(bands), given, given, given is not None)


def check_size(image_size: Any) -> tuple[int, int]:
    """Return height and width; raise `ConfigError` unless they are one or two integers from 32 on."""
    pair = isinstance(image_size, (tuple, list, np.ndarray)) and np.shape(image_size) == (2,)
    sides = tuple(image_size) if pair else (image_size, image_size)
    if not all(is_integer(side) and side >= MIN_SIZE for side in sides):
        raise ConfigError(
            f"image_size must be an integer >= {MIN_SIZE}; got {shown(image_size)}. Two of them are (height, width); "
            "the blocks of VGG halve both five times."
        )
    return int(sides[0]), int(sides[1])


def check_range(value_range: Any) -> Range | None:
    """Return (black, white); raise `ConfigError` unless it is None or two numbers, the lower first."""
    if value_range is None:
        return None
    try:
        low, high = (each.item() if isinstance(each, np.generic) else each for each in value_range)
    except (TypeError, ValueError):
        low = high = None
    if not (is_number(low) and is_number(high) and low < high):
        raise ConfigError(
            "value_range must be two numbers, the values of black and of white, such as (0, 4095); "
            f"got {shown(value_range)}."
        )
    return float(low), float(high)


def check_bands(bands: Any) -> tuple[int, ...] | None:
    """Return three indices; raise `ConfigError` unless it is None or three integers from 0 on."""
    if bands is None:
        return None
    found = tuple(bands) if isinstance(bands, (tuple, list, range, np.ndarray)) else ()
    if len(found) != 3 or not all(is_integer(band) and band >= 0 for band in found):
        raise ConfigError(
            "bands must be three indices from 0 on, of the bands that are red, green and blue, such as (0, 1, 2); "
            f"got {shown(bands)}."
        )
    return tuple(map(int, found))


def plain_size(image_size: ImageSize) -> int | list[int]:
    """Return a size as JSON has it."""
    return list(image_size) if isinstance(image_size, tuple) else image_size


def size_text(image_size: ImageSize | Sequence[int]) -> str:
    """Return a size in words: "224 px", or "224x320 px" for height and width."""
    return f"{image_size} px" if is_integer(image_size) else f"{image_size[0]}x{image_size[1]} px"  # type: ignore[index]


# Fitting a picture to the size ----------------------------------------------------------------------------------------


def fit(image: Image.Image, reading: Reading) -> Image.Image:
    """Fit a picture to the size by the resize rule; Pillow's bilinear filter is antialiased when it shrinks."""
    if reading.size is None:
        return image
    (left, top, right, bottom), (x, y, width, height) = places(image.size, reading)
    if (left, top, right, bottom) != (0, 0, *image.size):
        image = image.crop((left, top, right, bottom))
    # No `reducing_gap`: its first step depends on the decoded size, so files and arrays would differ by up to 6 levels.
    image = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    if (height, width) == reading.size:
        return image
    framed = Image.new(image.mode, reading.size[::-1])
    framed.paste(image, (x, y))
    return framed


def places(size: tuple[int, int], reading: Reading) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Return which part of a picture is used, and where it comes to lie.

    Args:
        size: width and height of the picture in px.

    Returns:
        left, top, right and bottom in the picture; and x, y, width and height in the pixels for the network.
    """
    assert reading.size is not None
    (width, height), (high, wide) = size, reading.size
    too_wide, too_high = width * high > height * wide, width * high < height * wide
    if reading.resize == "crop":
        across = max(1, _divided(height * wide, high)) if too_wide else width
        down = max(1, _divided(width * high, wide)) if too_high else height
        left, top = (width - across) // 2, (height - down) // 2
        return (left, top, left + across, top + down), (0, 0, wide, high)
    if reading.resize == "pad":
        across = max(1, _divided(width * high, height)) if too_high else wide
        down = max(1, _divided(height * wide, width)) if too_wide else high
        return (0, 0, width, height), ((wide - across) // 2, (high - down) // 2, across, down)
    return (0, 0, width, height), (0, 0, wide, high)


def _divided(number: int, by: int) -> int:
    """Divide integers and round half up."""
    return (2 * number + by) // (2 * by)


def draft_size(reading: Reading) -> tuple[int, int] | None:
    """Return the least width and height at which a JPEG may be decoded; None for its full size.

    A smaller picture may have slightly other proportions, which only squashing evens out.
    """
    if reading.size is None or reading.resize != "squash":
        return None
    return DRAFT_FACTOR * reading.size[1], DRAFT_FACTOR * reading.size[0]


def resize_pixels(pixels: np.ndarray, reading: Reading | ImageSize | None) -> np.ndarray:
    """Fit one image to the size of a reading.

    Args:
        pixels: (H, W, 3) uint8 or float32 in 0..255.
        reading: how; a size alone squashes.

    Returns:
        (height, width, 3): `pixels` itself if it has that size, else uint8.
    """
    reading = Reading.of(reading)
    if reading.size in (None, pixels.shape[:2]):
        return pixels
    whole = pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8)
    return np.array(fit(Image.fromarray(whole), reading))


def over_picture(heat: np.ndarray, size: tuple[int, int], reading: Reading) -> np.ndarray:
    """Return a map over the network's pixels as a map over the whole picture: 0 where the network saw nothing.

    Args:
        heat: (height, width) float32 of the size of the reading.
        size: width and height of the picture in px.
    """
    (left, top, right, bottom), (x, y, width, height) = places(size, reading)
    seen = Image.fromarray(heat[y : y + height, x : x + width])
    whole = np.zeros(size[::-1], np.float32)
    whole[top:bottom, left:right] = seen.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    return whole
