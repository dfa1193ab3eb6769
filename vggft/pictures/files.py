"""Decode a picture, whatever file or object it is, to upright RGB in 0..255 at the size of a reading.

Every picture that the network sees passes through `read_image` or `arrays.to_pixels`, which read by the same rules.
A picture therefore gives the same pixels from a file and from memory, but for what saves time: a JPEG is decoded at
1/2, 1/4 or 1/8 of its size if that leaves at least 4 times the requested size on both sides. For three photographs of
3024 px, resized to 64 and 224 px, the result differs from full decoding by 0.11 and 0.08 grey levels on average and by
at most 1; over eleven sizes from 64 to 378 px the worst case is 0.15 and 2. (With a factor of 2 instead of 4 it is 0.37
and 9; with 3, 0.18 and 4.)
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps

from ..errors import DataError
from ..store import Kind
from . import tiffs
from .colours import NOT_ALPHA, looks_like_alpha, to_rgb
from .dicoms import read_dicom
from .formats import UnusableError, kind_of_file, open_header
from .npys import BOMB_PIXELS, check_size, read_npy, upright
from .ranges import Values, values_of
from .reading import ImageSize, Reading, draft_size, fit, resize_pixels

# What is recorded about a decoded image: the digest of its resized pixels, then as `DecodedImage`; empty strings and
# zeros if it cannot be read. In the cache the fields have no names (`CACHED_FACTS`).
FACTS = np.dtype([("digest", "U32"), ("width", "i4"), ("height", "i4"), ("mode", "U16"), ("format", "U16")])
CACHED_FACTS = "U32,i4,i4,U16,U16"

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image"


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels: RGB, (height, width, 3): uint8, or float32 for floats that were not resized.
        size: width and height of the upright original in px.
        mode: Pillow's name of the original pixel format, "RGB", "L", "CMYK", "I;16", ..., or the dtype of an array.
        format: name of the file format, by content: "JPEG", "PNG", ... or "" for an image from memory.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    mode: str
    format: str


@dataclass(frozen=True, eq=False)
class Raw:
    """An upright picture whose values are not yet read: an image of 8 bits, or an array (H, W) or (H, W, C).

    Args:
        alpha: whether the last band of the array is declared to be transparency; None if nothing is declared.
    """

    picture: Image.Image | np.ndarray
    size: tuple[int, int]
    mode: str
    format: str
    alpha: bool | None = None


def image_kinds(reading: Reading | ImageSize, dtype: np.dtype[Any]) -> list[Kind]:
    """Return what the cache keeps of decoded images: their pixels, and the facts about them."""
    reading = Reading.of(reading)
    about = reading.parts | {"pillow": PIL.__version__}
    return [
        Kind("images", about, (*(reading.size or ()), 3), dtype.name),
        Kind("image-facts", {**about, "pixels": dtype.name}, (), CACHED_FACTS),
    ]


def read_image(
    source: ImageSource,
    reading: Reading | ImageSize | None = None,
    name: str | None = None,
    max_pixels: int = BOMB_PIXELS,
) -> DecodedImage:
    """Decode one image to upright RGB.

    EXIF orientation is applied; transparent pixels are composited on white; CMYK, YCbCr, palettes and greys become RGB;
    pictures of more than 8 bits are scaled by the range of the reading; the first frame of an animation is used.

    Args:
        source: a path, the bytes of a file, a binary file, or a PIL image (which is not changed).
        reading: how; a size alone squashes the whole image to it, and None keeps its size.
        name: name in error messages; by default the path.
        max_pixels: an image with more is refused as a decompression bomb.

    Raises:
        DataError: the file is missing, is not an image, is damaged, has more than `max_pixels` pixels, several pages,
            bands of which it is not known which are colours, or values that fit no range.
    """
    reading = Reading.of(reading)
    with _reasons(source, name):
        raw = open_raw(source, reading, max_pixels)
        if isinstance(raw.picture, Image.Image) and reading.bands is None:
            pixels = np.array(fit(_on_white(raw), reading))
        else:
            pixels = resize_pixels(to_rgb(_bands(raw, reading), reading, raw.alpha), reading)
        if reading.size is None and pixels.dtype != np.uint8:
            pixels = np.rint(pixels).astype(np.uint8)
        return DecodedImage(pixels, raw.size, raw.mode, raw.format)


def look(source: ImageSource, reading: Reading, name: str | None = None) -> Values:
    """Find which values a picture has; those of 8 bits are not decoded for it. Raises as `read_image` does."""
    with _reasons(source, name):
        raw = open_raw(source, reading, BOMB_PIXELS, decode=False)
        if isinstance(raw.picture, Image.Image):
            return Values("uint8", shape=raw.size[::-1])
        array = raw.picture
        if reading.bands is not None and array.ndim == 3 and max(reading.bands) < array.shape[2]:
            array = array[..., list(reading.bands)]
        elif raw.alpha and array.ndim == 3:
            array = array[..., :-1]
        return values_of(array)._replace(shape=raw.size[::-1])


@contextmanager
def _reasons(source: Any, name: str | None) -> Iterator[None]:
    """Raise `DataError`, with the name of the image, for everything that goes wrong with it."""
    if name is None:
        is_path = isinstance(source, (str, os.PathLike))
        name = str(source if is_path else getattr(source, "filename", "") or getattr(source, "name", "") or "the image")
    try:
        yield
        return
    except UnusableError as error:
        reason = str(error)
    except FileNotFoundError:
        reason = "does not exist"
    except PermissionError:
        reason = "may not be read (permission denied)"
    except MemoryError:
        reason = "is too large for the memory of this machine"
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = f"cannot be decoded: {str(error).rstrip('.') or type(error).__name__}"
    raise DataError(f"{name} {reason}.")


def open_raw(source: Any, reading: Reading, max_pixels: int, decode: bool = True) -> Raw:
    """Open a picture; with `decode=False`, one of 8 bits is not decoded.

    Raises:
        UnusableError: and anything that a decoder raises.
    """
    if isinstance(source, Image.Image):
        return _from_pillow(source.copy(), reading, max_pixels, source.format or "", decode)
    if isinstance(source, (str, os.PathLike)):
        if Path(source).is_dir():
            raise UnusableError("is a folder, not an image")
        with Path(source).open("rb") as file:
            return _from_file(file, reading, max_pixels, decode)
    if isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
        data = source.read() if hasattr(source, "read") else bytes(source)
        if not isinstance(data, bytes):
            raise UnusableError("must be opened as a binary file, in mode 'rb'")
        return _from_file(io.BytesIO(data), reading, max_pixels, decode)
    raise UnusableError(f"must be a path, bytes, a binary file or a PIL image; got {type(source).__name__}")


def _from_file(file: IO[bytes], reading: Reading, max_pixels: int, decode: bool) -> Raw:
    format = kind_of_file(file)
    if format == "NPY":
        return _of_array(read_npy(file, max_pixels), format)
    if format == "DICOM":
        return _of_array(read_dicom(file, reading, max_pixels), format)
    if format == "TIFF":
        tiffs.check_pages(pages := tiffs.pages_of(file))
        if pages and tiffs.is_beyond_pillow(pages[0]):
            check_size(int(pages[0].get(256, 0)), int(pages[0].get(257, 0)), max_pixels)
            array = upright(tiffs.read_bands(file), int(pages[0].get(tiffs.ORIENTATION, 1)))
            return _of_array(array, format, None if tiffs.has_alpha(pages[0]) else False)
    if format == "PNG" and _is_deep(head := file.read(26)):
        file.seek(0)
        image = open_header(file, format)
        check_size(*image.size, max_pixels)
        if "transparency" not in image.info:
            file.seek(0)
            return _deep_png(file.read(), image, alpha=head[25] in (4, 6))
    file.seek(0)
    return _from_pillow(open_header(file, format), reading, max_pixels, None, decode)


def _from_pillow(image: Image.Image, reading: Reading, max_pixels: int, format: str | None, decode: bool) -> Raw:
    format = image.format or "" if format is None else format
    mode, (width, height) = image.mode, image.size
    check_size(width, height, max_pixels)
    orientation = _orientation(image)
    turned = orientation >= 5 and image.format != "TIFF"  # whose size, and in `load` pixels, Pillow turns itself
    size = (height, width) if turned else (width, height)
    is_wide = mode.startswith("I") or mode == "F"
    if not decode and not is_wide:
        return Raw(image, size, mode, format)
    if (draft := draft_size(reading)) is not None:
        image.draft("RGB", draft[::-1] if turned else draft)
    try:
        image.load()
    except OSError as error:
        if any(word in str(error).lower() for word in ("truncated", "broken", "incomplete")):
            raise UnusableError(f"is truncated (the {format} data ends early)") from error
        raise
    with suppress(Exception):  # damaged EXIF does not make the pixels unusable
        image = ImageOps.exif_transpose(image)
    return Raw(np.asarray(image) if is_wide else image, size, mode, format)


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # as above
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _on_white(raw: Raw) -> Image.Image:
    image = raw.picture
    assert isinstance(image, Image.Image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        # Formats other than these have no fourth band but transparency.
        if raw.format in ("", "TIFF") and not looks_like_alpha(np.asarray(image.getchannel("A")), 255):
            raise UnusableError(NOT_ALPHA.format(4))
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _bands(raw: Raw, reading: Reading) -> np.ndarray:
    """Return an array of the picture in which bands can be chosen."""
    if not isinstance(raw.picture, Image.Image):
        return raw.picture
    image = raw.picture
    if image.mode not in ("L", "RGB", "RGBA", "RGBX"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return np.asarray(image)


def _of_array(array: np.ndarray, format: str, alpha: bool | None = None) -> Raw:
    if array.ndim == 3 and array.shape[2] > 4 and array.shape[0] in (1, 3, 4):
        raise UnusableError(f"has shape {array.shape}, channels first: move them last with np.moveaxis(array, 0, -1)")
    if array.ndim not in (2, 3) or not array.size:
        raise UnusableError(f"holds an array of shape {array.shape}; a picture has shape (H, W), or (H, W, bands)")
    return Raw(array, (array.shape[1], array.shape[0]), str(array.dtype), format, alpha)


def _is_deep(head: bytes) -> bool:
    """Whether the header of a PNG says that it has several bands of 16 bits, of which Pillow keeps 8."""
    return len(head) == 26 and head[24] == 16 and head[25] in (2, 4, 6)


def _deep_png(data: bytes, image: Image.Image, alpha: bool) -> Raw:
    """Read a PNG with several bands of 16 bits by TensorFlow, as Pillow keeps the upper 8 only."""
    import tensorflow as tf

    array = tf.io.decode_png(data, dtype=tf.uint16).numpy()
    mode = f"{image.mode};16"
    if array.shape[2] == 2:
        array = array[..., [0, 0, 0, 1]]
    return Raw(array := upright(array, _orientation(image)), array.shape[1::-1], mode, "PNG", alpha)
