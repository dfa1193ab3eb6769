"""Bytes of a picture -> its values, upright. Runs in this process, or in one with limits; `files` decides which."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from ..files.isolated import MEGABYTE, Limits
from ..files.opening import NotAFileError, open_file
from . import tiffs
from .colours import NOT_ALPHA, looks_like_alpha, to_rgb
from .formats import UnusableError, check_size, is_deep, kind_of_file, open_header
from .ranges import Values, values_of
from .reading import Reading, draft_size, fit, resize_pixels
from .scientific import read_dicom, read_npy

Need = Callable[[int], object]  # is told how many bytes decoding needs, before it takes them
PER_PIXEL = 32  # bytes: what a decoder holds, the picture, and its copies in other modes
ASIDE = 32 * MEGABYTE  # for what does not depend on the size
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


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


def decode(source: Any, reading: Reading, max_pixels: int, need: Need) -> DecodedImage:
    """Decode one picture as `files.read_image` says; raises `UnusableError`, and anything that a decoder raises."""
    raw = open_raw(source, reading, max_pixels, need=need)
    if isinstance(raw.picture, Image.Image) and reading.bands is None:
        pixels = np.array(fit(_on_white(raw), reading))
    else:
        pixels = resize_pixels(to_rgb(_bands(raw, reading), reading, raw.alpha), reading)
    if reading.size is None and pixels.dtype != np.uint8:
        pixels = np.rint(pixels).astype(np.uint8)
    return DecodedImage(pixels, raw.size, raw.mode, raw.format)


def look_into(source: Any, reading: Reading, max_pixels: int, need: Need) -> Values:
    """Find which values a picture has; those of 8 bits are not decoded for it. Raises as `decode` does."""
    raw = open_raw(source, reading, max_pixels, False, need)
    if isinstance(raw.picture, Image.Image):
        return Values("uint8", shape=raw.size[::-1])
    array = raw.picture
    if reading.bands is not None and array.ndim == 3 and max(reading.bands) < array.shape[2]:
        array = array[..., list(reading.bands)]
    elif raw.alpha and array.ndim == 3:
        array = array[..., :-1]
    return values_of(array)._replace(shape=raw.size[::-1])


def reason(error: BaseException) -> str:
    """Say what went wrong with a picture, as the end of a sentence that begins with its name."""
    if isinstance(error, (UnusableError, NotAFileError)):
        return getattr(error, "told", str(error))
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, MemoryError):
        return "is too large for the memory of this machine"
    return f"cannot be decoded: {str(error).rstrip('.') or type(error).__name__}"  # decoders raise nearly anything


def answer(request: bytes, limits: Limits) -> list[bytes]:
    """Decode a picture in a process with limits: the parts are JSON, and the pixels.

    Raises:
        MemoryError: more was needed than there may be.
    """
    what, source, format, reading, max_pixels, truncated = pickle.loads(request)  # of the process that started this
    ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    _import(format)
    limits.ready()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found = (decode if what == "decode" else look_into)(source, reading, max_pixels, limits.need)
        except MemoryError:
            raise
        except Exception as error:
            return [json.dumps({"reason": reason(error), "told": []}).encode()]
    lines = [str(each.message) for each in told] + limits.told()
    about: dict[str, Any] = {"told": [line for line in dict.fromkeys(map(str.strip, lines)) if line][:5]}
    if isinstance(found, Values):
        return [json.dumps(about | {"values": found}).encode()]
    about |= {"shape": found.pixels.shape, "dtype": found.pixels.dtype.name}
    about |= {"size": found.size, "mode": found.mode, "format": found.format}
    return [json.dumps(about).encode(), found.pixels.tobytes()]


def _import(format: str) -> None:
    """Import what decodes a format now, as memory is limited then; what is missing is said by `formats.needs`."""
    with suppress(ImportError):
        if format == "TIFF":
            import tifffile  # noqa: F401
        elif format == "DICOM":
            import pydicom
            import pydicom.pixels

            pydicom.pixels.processing  # noqa: B018
        elif format == "HEIF":
            import pillow_heif  # type: ignore[import-not-found]

            pillow_heif.register_heif_opener()


def open_raw(
    source: Any, reading: Reading, max_pixels: int, decode: bool = True, need: Need = lambda size: None
) -> Raw:
    """Open a picture; with `decode=False`, one of 8 bits is not decoded.

    Raises:
        UnusableError: and anything that a decoder raises.
    """
    if isinstance(source, Image.Image):
        check_size(*source.size, max_pixels)  # before the copy, which decodes it
        return _from_pillow(source.copy(), reading, max_pixels, source.format or "", decode, need)
    if isinstance(source, bytes):
        return _from_file(io.BytesIO(source), reading, max_pixels, decode, need)
    with open_file(source) as file:
        return _from_file(file, reading, max_pixels, decode, need)


def _from_file(file: IO[bytes], reading: Reading, max_pixels: int, decode: bool, need: Need) -> Raw:
    format = kind_of_file(file)
    if format == "NPY":
        return _of_array(read_npy(file, max_pixels, need), format)
    if format == "DICOM":
        return _of_array(read_dicom(file, reading, max_pixels, need), format)
    if format == "TIFF":
        tiffs.check_pages(pages := tiffs.pages_of(file))
        if pages and tiffs.is_beyond_pillow(pages[0]):
            check_size(int(pages[0].get(256, 0)), int(pages[0].get(257, 0)), max_pixels)
            need(ASIDE + PER_PIXEL * tiffs.values_in(pages[0]))
            array = upright(tiffs.read_bands(file), int(pages[0].get(tiffs.ORIENTATION, 1)))
            return _of_array(array, format, None if tiffs.has_alpha(pages[0]) else False)
    if format == "PNG" and is_deep(head := file.read(26)):
        file.seek(0)
        image = open_header(file, format)
        check_size(*image.size, max_pixels)
        if "transparency" not in image.info:
            file.seek(0)
            return _deep_png(file.read(), image, alpha=head[25] in (4, 6))
    file.seek(0)
    return _from_pillow(open_header(file, format), reading, max_pixels, None, decode, need)


def _from_pillow(
    image: Image.Image, reading: Reading, max_pixels: int, format: str | None, decode: bool, need: Need
) -> Raw:
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
    need(ASIDE + PER_PIXEL * image.width * image.height + 6 * width * height)  # 6 for a progressive JPEG
    try:
        image.load()
    except OSError as error:
        if any(word in str(error).lower() for word in ("truncated", "broken", "incomplete")):
            raise UnusableError(f"is truncated (the {format} data ends early)") from error
        if "memory" in str(error).lower() or str(error).endswith("error -9"):  # of Pillow, for memory
            raise MemoryError(str(error)) from error
        raise
    orientation = orientation if image.format != "TIFF" else _orientation(image)  # which is turned by now
    image = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    return Raw(np.asarray(image) if is_wide else image, size, mode, format)


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # damaged EXIF does not make the pixels unusable
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _on_white(raw: Raw) -> Image.Image:
    image = raw.picture
    assert isinstance(image, Image.Image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        # Other formats have no fourth band but transparency, and the mode of an image in memory says so.
        if raw.format == "TIFF" and not looks_like_alpha(np.asarray(image.getchannel("A")), 255):
            raise UnusableError(NOT_ALPHA.format(4))
        return _composited(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _composited(image: Image.Image) -> Image.Image:
    """Return RGBA on white, computed in strips, so that it takes little memory besides the result."""
    found = Image.new("RGB", image.size)
    for top in range(0, image.height, rows := max(1, 2**20 // image.width)):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        found.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    return found


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


def _deep_png(data: bytes, image: Image.Image, alpha: bool) -> Raw:
    """Read a PNG with several bands of 16 bits by TensorFlow, as Pillow keeps the upper 8 only."""
    import tensorflow as tf

    array = tf.io.decode_png(data, dtype=tf.uint16).numpy()
    mode = f"{image.mode};16"
    if array.shape[2] == 2:
        array = array[..., [0, 0, 0, 1]]
    return Raw(array := upright(array, _orientation(image)), array.shape[1::-1], mode, "PNG", alpha)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror (H, W, C) by an EXIF orientation."""
    array = np.swapaxes(array, 0, 1) if orientation >= 5 else array
    array = array[::-1] if orientation in (3, 4, 7, 8) else array
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array
