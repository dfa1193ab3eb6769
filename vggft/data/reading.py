"""Find, decode and resize image files to upright RGB in 0..255.

Every image that the network sees passes through `read_image` or `arrays.to_pixels`, which resize by the same rule.
An image therefore gives the same pixels from a file and from memory, with one exception that saves time: a JPEG file is
decoded at 1/2, 1/4 or 1/8 of its size if that leaves at least 4 times the requested size on both sides. For three
photographs of 3024 px, resized to 64 and 224 px, the result differs from full decoding by 0.11 and 0.08 grey levels on
average and by at most 1; over eleven sizes from 64 to 378 px the worst case is 0.15 and 2. (With a factor of 2 instead
of 4 it is 0.37 and 9; with 3, 0.18 and 4.)
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
import PIL
from PIL import ExifTags, Image, ImageOps

from ..errors import DataError
from ..store import Kind

MIN_SIDE = 32  # px; the blocks of VGG halve an image five times
BOMB_PIXELS = 178_956_970  # an image with more is refused as a decompression bomb; Pillow's own limit for an error
DRAFT_FACTOR = 4  # a JPEG is decoded at a smaller scale if that leaves this many times the requested size, see above
# Part of saved files and cache keys: it has to change whenever the result of `squash` changes.
RESIZE_RULE = f"squash-bilinear-antialias-draft{DRAFT_FACTOR}"

# The formats that are tried, by Pillow's names. Others are left out: some of Pillow's plugins start programs (EPS) or
# accept nearly any bytes as an image (TGA). HEIF works if pillow-heif has been registered.
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

# What files with the suffix of an image often contain instead, by their first bytes.
_IMPOSTORS = (
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (b"<svg", "an SVG drawing: export it as PNG"),
    (b"<", "a web page or XML"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
)

# What is recorded about a decoded image: the digest of its resized pixels, then as `DecodedImage`; empty strings and
# zeros if it cannot be read. In the cache the fields have no names (`CACHED_FACTS`).
FACTS = np.dtype([("digest", "U32"), ("width", "i4"), ("height", "i4"), ("mode", "U16"), ("format", "U16")])
CACHED_FACTS = "U32,i4,i4,U16,U16"

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image"


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels: uint8 RGB, (S, S, 3) if a size was requested, else (H, W, 3).
        size: width and height of the upright original in px.
        mode: Pillow's name of the original pixel format: "RGB", "L", "CMYK", "I;16", ...
        format: Pillow's name of the file format, by content: "JPEG", "PNG", ... or "" for an image from memory.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    mode: str
    format: str


def image_kinds(image_size: int, dtype: np.dtype[Any]) -> list[Kind]:
    """Return what the cache keeps of decoded images: their pixels, and the facts about them."""
    about = {"image_size": image_size, "resize": RESIZE_RULE, "pillow": PIL.__version__}
    return [
        Kind("images", about, (image_size, image_size, 3), dtype.name),
        Kind("image-facts", {**about, "pixels": dtype.name}, (), CACHED_FACTS),
    ]


class _UnusableError(Exception):
    """The reason why an image cannot be used, as the end of a sentence that begins with its name."""


def read_image(
    source: ImageSource, image_size: int | None = None, name: str | None = None, max_pixels: int = BOMB_PIXELS
) -> DecodedImage:
    """Decode one image to upright 8-bit RGB.

    EXIF orientation is applied; transparent pixels are composited on white; CMYK, YCbCr, palettes and greys become RGB;
    16-bit greys are scaled (not clipped) to 8 bits; 32-bit greys outside 0..65535 and floats outside 0..255 are
    stretched from their own minimum and maximum; the first frame of an animation is used.

    Args:
        source: a path, the bytes of a file, a binary file, or a PIL image (which is not changed).
        image_size: side in px to squash the whole image to, or None to keep its size.
        name: name in error messages; by default the path.
        max_pixels: an image with more is refused as a decompression bomb.

    Raises:
        DataError: the file is missing, is not an image, is damaged, has less than 32 px a side or more than
            `max_pixels` pixels.
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
    """Return the format of a file by its first 16 bytes: a key of `FORMAT_SUFFIXES`, or None if it is not an image."""
    Image.init()
    for format in FORMAT_SUFFIXES:
        accept = Image.OPEN[format][1] if format in Image.OPEN else None
        accepted = accept(head) if accept else False
        if accepted and not isinstance(accepted, str):  # a string: why this build of Pillow cannot read the format
            return format
    return None


def suffix_fits(suffix: str, format: str) -> bool:
    """Whether a suffix is one of the format's. Pillow calls a JPEG with several frames "MPO"."""
    return suffix.lower() in FORMAT_SUFFIXES.get("JPEG" if format == "MPO" else format, (suffix.lower(),))


def open_header(file: IO[bytes]) -> Image.Image:
    """Read only the header. Unlike `Image.open`, do not limit the size or warn; `_decode` applies the limit."""
    head = file.read(32)
    if not head:
        raise _UnusableError("is an empty file (0 bytes)")
    format = sniff(head[:16])
    if format is None:
        if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
            raise _UnusableError("is an HEIC image, which Pillow cannot read: convert it to JPEG")
        known = next((f", {what}" for start, what in _IMPOSTORS if head.lstrip().lower().startswith(start.lower())), "")
        raise _UnusableError(f"is not an image: it begins with {head[:16]!r}{known}")
    file.seek(0)
    try:
        return Image.OPEN[format][0](file, "")
    except (SyntaxError, IndexError, TypeError, ValueError, OSError, EOFError, struct.error) as error:
        raise _UnusableError(f"cannot be decoded: its {format} header is damaged ({error})") from error


def _decode(image: Image.Image, image_size: int | None, max_pixels: int, format: str | None = None) -> DecodedImage:
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
        if "truncated" in str(error).lower():
            raise _UnusableError(f"is truncated (the {format} data ends early)") from error
        raise
    if _is_turned(image):
        width, height = height, width
    with suppress(Exception):  # damaged EXIF does not make the pixels unusable
        image = ImageOps.exif_transpose(image)
    image = _to_rgb(image)
    pixels = np.array(image) if image_size is None else squash(image, image_size)
    return DecodedImage(pixels, (width, height), mode, format)


def _is_turned(image: Image.Image) -> bool:
    """Whether the EXIF orientation swaps width and height; Pillow has already rotated TIFFs in `load`."""
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


def _grey_to_8_bits(grey: np.ndarray, mode: str) -> np.ndarray:
    low, high = float(grey.min()), float(grey.max())
    if not np.isfinite([low, high]).all():
        raise _UnusableError("holds NaN or infinite pixels")
    if mode != "F" and low >= 0 and high <= 65535:  # 16 bits, which Pillow may hold in 32
        low, high = 0.0, 65535.0
    elif mode == "F" and low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    return np.rint((grey.astype(np.float64) - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def squash(image: Image.Image, image_size: int) -> np.ndarray:
    """Squash the whole image to a square (`RESIZE_RULE`); Pillow's bilinear filter is antialiased when it shrinks."""
    square = (image_size, image_size)
    if image.size == square:
        return np.array(image)
    # No `reducing_gap`: its first step depends on the decoded size, so files and arrays would differ by up to 6 levels.
    return np.array(image.resize(square, Image.Resampling.BILINEAR))


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the visible files below a folder, sorted: those with the suffix of an image, and the others."""
    images: list[Path] = []
    others: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for path in (Path(parent, name) for name in sorted(files) if not is_hidden(name)):
            (images if path.suffix.lower() in IMAGE_SUFFIXES else others).append(path)
    return images, others


def format_of(path: Path) -> str | None:
    """Return the format of a file by content, as `sniff` does, or None if it is not an image or cannot be opened."""
    try:
        with path.open("rb") as file:
            return sniff(file.read(16))
    except OSError:
        return None


def is_hidden(name: str) -> bool:
    """Whether a file is hidden or belongs to an operating system: `.*`, `__MACOSX`, `Thumbs.db`, `desktop.ini`."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "desktop.ini")
