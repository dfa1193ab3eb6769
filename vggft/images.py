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

from .errors import DataError

MIN_SIDE = 32  # VGG halves a picture five times
MAX_PIXELS = 178_956_970  # the size at which Pillow itself refuses a decompression bomb
DRAFT_FACTOR = 4  # a JPEG is decoded at a smaller scale down to this many times the wanted size, see above
# In saved files and cache keys: change it with the code of `_resize`.
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
    pixels = np.array(image) if image_size is None else _resize(image, image_size)
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


def _resize(image: Image.Image, image_size: int) -> Array:
    """`RESIZE_RULE`: the whole picture is squashed to a square; Pillow's bilinear filter widens when it shrinks."""
    square = (image_size, image_size)
    if image.size == square:
        return np.array(image)
    # Without `reducing_gap`: its first step depends on the size decoded, and alone made files and memory differ by 6.
    return np.array(image.resize(square, Image.Resampling.BILINEAR))


def resize_pixels(pixels: Array, image_size: int) -> Array:
    """(H, W, 3) uint8 or float32 in 0..255 -> (S, S, 3) by `RESIZE_RULE`: unchanged if it has that size, else uint8."""
    if pixels.shape[:2] == (image_size, image_size):
        return pixels
    return _resize(Image.fromarray(_rounded(pixels)), image_size)


def _rounded(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8))


def pixel_range(array: Array, name: str = "images") -> str:
    """Which values an array of images holds, so that callers can say which it was taken for.

    Returns:
        "uint8 0..255", "integer 0..255", "uint16 0..65535", "bool 0..1", "float 0..1" (none above 1) or "float 0..255".

    Raises:
        DataError: another dtype, NaN, infinity, or values outside every one of these ranges; all such images are named.
    """
    kind = array.dtype.kind
    if kind not in "biuf":
        raise DataError(f"{name} must be an array of numbers; got dtype {array.dtype}.")
    if array.dtype == np.uint8 or kind == "b" or not array.size:
        return "bool 0..1" if kind == "b" else "uint8 0..255"
    low, high = array.min(), array.max()  # NaN comes through both
    if low >= 0 and high <= 255:
        return "integer 0..255" if kind != "f" else "float 0..1" if high <= 1 else "float 0..255"
    if array.dtype == np.uint16:
        return "uint16 0..65535"
    bad = []
    for i, image in enumerate(array):
        low, high = image.min(), image.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            bad.append(f"{name}[{i}] holds NaN or infinity")
        elif low < 0 or high > 255:
            bad.append(f"{name}[{i}] holds the value {low if low < 0 else high}")
    hint = "float pixels must be in 0..1 or 0..255" if kind == "f" else "integer pixels must be in 0..255"
    raise DataError.listing(
        f"{hint}; other values usually mean that the images were already preprocessed (mean subtracted, or scaled to"
        " -1..1), where the original pixels are needed",
        bad,
    )


def to_pixels(array: Any, image_size: int | None = None, name: str = "images", values: str | None = None) -> Array:
    """Check an array of images and bring it to RGB in 0..255.

    Args:
        array: (N, H, W, 3) RGB, (N, H, W, 1) or (N, H, W) grey, or (N, H, W, 4) RGBA (put on white); bool, any
            integers in 0..255, uint16 (scaled to 8 bits if anything is above 255), or floats in 0..1 or 0..255.
        image_size: side in px that they are squashed to, or None to keep their size.
        name: what error messages call the array.
        values: what `pixel_range` says, where the caller knows it from more than this array.

    Returns:
        (N, H, W, 3) uint8, or float32 where floats came and no resizing rounded them; the array itself where it fits.

    Raises:
        DataError: another shape or dtype, values out of range, or sides below 32 px.
    """
    array = _checked_shape(np.asarray(array), name)
    values = values or pixel_range(array, name)
    if values == "uint16 0..65535":
        array = np.rint(array / np.float32(257)).astype(np.uint8)
    elif values == "bool 0..1":
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
        array = array * np.float32(255) if values == "float 0..1" else array
    else:
        array = array.astype(np.uint8, copy=False)
    if array.shape[3] == 1:
        array = np.repeat(array, 3, axis=3)
    elif array.shape[3] == 4:
        array = _on_white(array)
    if image_size is None or array.shape[1:3] == (image_size, image_size):
        return array
    resized = np.empty((len(array), image_size, image_size, 3), np.uint8)
    for i, pixels in enumerate(array):
        resized[i] = resize_pixels(pixels, image_size)
    return resized


def _checked_shape(array: Array, name: str) -> Array:
    """The array as (N, H, W, C) with C in 1, 3, 4."""
    shape = array.shape
    if array.ndim == 3 and shape[2] in (1, 3, 4):
        raise DataError(f"{name} has shape {shape}, a single image: add the axis of images, as {name}[None].")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4):
        raise DataError(f"{name} has shape {shape}, channels first: move them last, as np.moveaxis({name}, 1, -1).")
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4):
        raise DataError(f"{name} must have shape (N, H, W, 3), or (N, H, W), or 1 or 4 channels; got {shape}.")
    if min(array.shape[1:3]) < MIN_SIDE:
        raise DataError(
            f"{name} are {array.shape[2]}x{array.shape[1]} px; at least {MIN_SIDE} px a side are needed, as VGG halves"
            " them five times: enlarge them first."
        )
    return array


def _on_white(array: Array) -> Array:
    colour, alpha = array[..., :3].astype(np.float32), array[..., 3:].astype(np.float32) / 255
    flat: Array = colour * alpha + 255 * (1 - alpha)
    return np.rint(flat).astype(np.uint8) if array.dtype == np.uint8 else flat


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
