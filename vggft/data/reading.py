"""Find, decode and resize pictures: from a file or an array to upright RGB in 0..255.

Everything that the network ever sees comes through `read_image` or `to_pixels`, and both resize by the same rule.
So a picture gives the same pixels whether it comes from a file or from memory, with one exception that saves time: a
JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where that leaves at least 4 times the wanted size in both sides.
Three photographs of 3024 px, resized to 64 and 224 px, then differ from their full decoding by 0.11 and 0.08 grey
levels in the mean and by 1 at most; at the worst of eleven sizes from 64 to 378 px it is 0.15 and 2 (leaving only 2
times the size: 0.37 and 9; 3 times: 0.18 and 4).
"""

from __future__ import annotations

import io
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import DataError

MIN_SIDE = 32  # VGG halves a picture five times
MAX_PIXELS = 178_956_970  # the size at which Pillow itself refuses a decompression bomb
DRAFT_FACTOR = 4  # a JPEG is decoded at a smaller scale down to this many times the wanted size, see above
# In saved files and cache keys: change it with the code of `squash`.
RESIZE_RULE = f"squash-bilinear-antialias-draft{DRAFT_FACTOR}"

# The formats that are tried, by Pillow's names. A list rather than all that Pillow has: some of its plugins start
# other programs (EPS) or take nearly any bytes for a picture (TGA). HEIF works where pillow-heif has been registered.
FORMAT_SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".j2c", ".jpf"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "HEIF": (".heic", ".heif", ".hif"),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMAT_SUFFIXES.values() for suffix in suffixes)

# What files that are called pictures often are instead, by their first bytes.
_IMPOSTORS = (
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (b"<svg", "an SVG drawing: export it as PNG"),
    (b"<", "a web page or XML: the download probably failed"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
)

Array: TypeAlias = "np.ndarray[Any, Any]"
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image"


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: uint8 RGB, (S, S, 3) if a size was asked for, else (H, W, 3).
        size: the original width and height in px, upright.
        mode: Pillow's name of the original pixel format: "RGB", "L", "CMYK", "I;16", ...
        format: Pillow's name of the file format, by content: "JPEG", "PNG", ... or "" for a picture from memory.
    """

    pixels: Array
    size: tuple[int, int]
    mode: str
    format: str


class _UnusableError(Exception):
    """Why a picture cannot be used, as the rest of a sentence that begins with its name."""


def read_image(
    source: ImageSource, image_size: int | None = None, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Decode one picture to upright 8-bit RGB.

    Orientation in EXIF is applied; transparency is put on white; CMYK, YCbCr, palettes and greys become RGB; 16-bit
    greys are scaled (not clipped) to 8 bits; 32-bit greys outside of 0..65535, and floats outside of 0..255, are
    stretched from their own minimum and maximum; of an animation the first frame is taken.

    Args:
        source: a path, the bytes of a file, a binary file, or a PIL image (left as it is).
        image_size: side in px to squash the whole picture to, or None to keep its size.
        name: what error messages call it; by default its path.
        max_pixels: above which it is taken for a decompression bomb.

    Raises:
        DataError: the picture is missing, no picture, damaged, smaller than 32 px a side, or larger than `max_pixels`.
    """
    if name is None:
        is_path = isinstance(source, (str, os.PathLike))
        name = str(source if is_path else getattr(source, "filename", "") or getattr(source, "name", "") or "the image")
    try:
        if isinstance(source, Image.Image):
            return _decode(source.copy(), image_size, max_pixels, source.format or "")
        if isinstance(source, (str, os.PathLike)):
            if Path(source).is_dir():
                raise _UnusableError("is a folder, not an image")
            with Path(source).open("rb") as file:
                return _decode(open_header(file), image_size, max_pixels)
        if isinstance(source, bytes) or hasattr(source, "read"):
            data = source if isinstance(source, bytes) else source.read()
            return _decode(open_header(io.BytesIO(data)), image_size, max_pixels)
        reason = f"must be a path, bytes, a binary file or a PIL image; got {type(source).__name__}"
    except _UnusableError as error:
        reason = str(error)
    except FileNotFoundError:
        reason = "does not exist"
    except PermissionError:
        reason = "may not be read (permission denied)"
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        reason = f"cannot be decoded: {str(error).rstrip('.') or type(error).__name__}"
    raise DataError(f"{name} {reason}.")


def sniff(head: bytes) -> str | None:
    """The format of a file by its first 16 bytes, a key of `FORMAT_SUFFIXES`, or None if it is no picture."""
    Image.init()
    for format in FORMAT_SUFFIXES:
        accept = Image.OPEN[format][1] if format in Image.OPEN else None
        accepted = accept(head) if accept else False
        if accepted and not isinstance(accepted, str):  # a string says why this build of Pillow cannot read it
            return format
    return None


def suffix_fits(suffix: str, format: str) -> bool:
    """Whether a file with this content is rightly called so. JPEGs with several frames are "MPO" to Pillow."""
    return suffix.lower() in FORMAT_SUFFIXES.get("JPEG" if format == "MPO" else format, (suffix.lower(),))


def open_header(file: IO[bytes]) -> Image.Image:
    """Read the header only. Unlike `Image.open` it has no limit and no warning: `_decode` refuses by our own limit."""
    head = file.read(32)
    if not head:
        raise _UnusableError("is an empty file (0 bytes)")
    format = sniff(head[:16])
    if format is None:
        if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
            raise _UnusableError("is an HEIC picture, which Pillow cannot read: convert it to JPEG")
        known = next((f", {what}" for start, what in _IMPOSTORS if head.lstrip().lower().startswith(start.lower())), "")
        raise _UnusableError(f"is not an image: it begins with {head[:16]!r}{known}")
    file.seek(0)
    try:
        return Image.OPEN[format][0](file, "")
    except (SyntaxError, IndexError, TypeError, ValueError, OSError, EOFError, struct.error) as error:
        raise _UnusableError(f"has a damaged {format} header ({error}): copy or download it again") from error


def _decode(image: Image.Image, image_size: int | None, max_pixels: int, format: str | None = None) -> Picture:
    format = image.format or "" if format is None else format
    mode, (width, height) = image.mode, image.size
    if width * height > max_pixels:
        raise _UnusableError(
            f"is {width}x{height} = {width * height / 1e6:.0f} million pixels, above the limit of"
            f" {max_pixels / 1e6:.0f} million that guards against decompression bombs: make it smaller first"
        )
    if min(width, height) < MIN_SIDE:
        raise _UnusableError(f"is {width}x{height} px; at least {MIN_SIDE} px a side are needed")
    if image_size is not None:
        image.draft("RGB", (DRAFT_FACTOR * image_size, DRAFT_FACTOR * image_size))
    try:
        image.load()
    except OSError as error:
        if any(word in str(error).lower() for word in ("truncated", "broken", "incomplete")):
            raise _UnusableError(f"is truncated (the {format} data ends early): copy or download it again") from error
        raise
    if _is_turned(image):
        width, height = height, width
    with suppress(Exception):  # damaged EXIF says nothing against the picture beside it
        image = ImageOps.exif_transpose(image)
    image = _to_rgb(image)
    pixels = np.array(image) if image_size is None else squash(image, image_size)
    return Picture(pixels, (width, height), mode, format)


def _is_turned(image: Image.Image) -> bool:
    """Whether upright means width and height exchanged; TIFFs are turned already, by `load`."""
    with suppress(Exception):  # as above
        return image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return False


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_grey_to_8_bits(np.asarray(image), image.mode))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _grey_to_8_bits(grey: Array, mode: str) -> Array:
    low, high = float(grey.min()), float(grey.max())
    if not np.isfinite([low, high]).all():
        raise _UnusableError("holds NaN or infinite pixels")
    if mode != "F" and low >= 0 and high <= 65535:  # 16 bits, also where Pillow holds them in 32
        low, high = 0.0, 65535.0
    elif mode == "F" and low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    return np.rint((grey.astype(np.float64) - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def squash(image: Image.Image, image_size: int) -> Array:
    """`RESIZE_RULE`: the whole picture is squashed to a square; Pillow's bilinear filter widens when it shrinks."""
    square = (image_size, image_size)
    if image.size == square:
        return np.array(image)
    # Without `reducing_gap`: its first step depends on the size decoded, and alone made files and memory differ by 6.
    return np.array(image.resize(square, Image.Resampling.BILINEAR))


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """All files below a folder, sorted: those with the suffix of an image, and the others. Hidden ones are skipped."""
    images: list[Path] = []
    others: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not is_hidden(f))
        for file in sorted(f for f in files if not is_hidden(f)):
            path = Path(parent, file)
            (images if path.suffix.lower() in IMAGE_SUFFIXES else others).append(path)
    return images, others


def is_hidden(name: str) -> bool:
    """Whether operating systems made it for themselves: dot files, `__MACOSX`, `Thumbs.db`, `desktop.ini`."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "desktop.ini")
