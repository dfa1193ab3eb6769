"""Decode a picture, whatever file or object it is, to upright RGB in 0..255 at the size of a reading.

Every picture that the network sees passes through `read_image` or `arrays.to_pixels`, which read by the same rules.
A picture therefore gives the same pixels from a file and from memory, but for what saves time: a JPEG is decoded at
1/2, 1/4 or 1/8 of its size if that leaves at least 4 times the requested size on both sides. For three photographs of
3024 px, resized to 64 and 224 px, the result differs from full decoding by 0.11 and 0.08 grey levels on average and by
at most 1; over eleven sizes from 64 to 378 px the worst case is 0.15 and 2. (With a factor of 2 instead of 4 it is 0.37
and 9; with 3, 0.18 and 4.)

Decoding is bounded in bytes and seconds, whatever the file claims or holds. The usual kinds of JPEG and PNG, whose
structure tells what they take, are decoded in this process, within memory that all threads share; everything else in
a process with limits, which is ended where it exceeds them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import PIL
from PIL import Image, ImageFile

from ..caching.kinds import Kind
from ..errors import DataError
from ..files.isolated import MOST, SMALL, LimitError, Pool
from ..files.opening import open_file
from ..foreign import visible
from .decoding import DecodedImage, decode, look_into, reason
from .formats import BOMB_PIXELS, HEAD, UnusableError, is_deep, kind_of_file, needs, plain_need
from .ranges import Values
from .reading import ImageSize, Reading, draft_size

# What is recorded about a decoded image: the digest of its resized pixels, then as `DecodedImage`; empty strings and
# zeros if it cannot be read. In the cache the fields have no names (`CACHED_FACTS`).
FACTS = np.dtype([("digest", "U32"), ("width", "i4"), ("height", "i4"), ("mode", "U16"), ("format", "U16")])
CACHED_FACTS = "U32,i4,i4,U16,U16"
WHOLE = 256 * 2**20  # bytes of a file that is read at once
REFUSED = 1000  # files whose decoding took too much, which are not tried again while they are the same

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image"

POOL = Pool("vggft.pictures.decoding:answer")
_refused: OrderedDict[tuple[Any, ...], str] = OrderedDict()
_told: set[str] = set()
_lock = threading.Lock()


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
    return _bounded("decode", source, Reading.of(reading), name, max_pixels)  # type: ignore[return-value]


def look(source: ImageSource, reading: Reading, name: str | None = None) -> Values:
    """Find which values a picture has; those of 8 bits are not decoded for it. Raises as `read_image` does."""
    return _bounded("look", source, reading, name, BOMB_PIXELS)  # type: ignore[return-value]


def _bounded(what: str, source: Any, reading: Reading, name: str | None, max_pixels: int) -> DecodedImage | Values:
    """Decode a picture, or look into it, within bounds; warnings of decoders are given once, with its name."""
    if name is None:
        is_path = isinstance(source, (str, os.PathLike))
        name = str(source if is_path else getattr(source, "filename", "") or getattr(source, "name", "") or "the image")
    name, told = visible(name), list[str]()
    try:
        found = _found(what, source, reading, max_pixels, told)
    except Exception as error:
        raise DataError(f"{name} {reason(error)}.") from None if isinstance(error, UnusableError) else error
    for line in told:
        with _lock:
            new = line not in _told and len(_told) < REFUSED
            _told.add(line)
        if new:
            warnings.warn(f"{name}: {visible(line)} (this is said once, also if other images have it)", stacklevel=3)
    return found


def _found(what: str, source: Any, reading: Reading, max_pixels: int, told: list[str]) -> DecodedImage | Values:
    here = decode if what == "decode" else look_into
    if isinstance(source, Image.Image):
        return here(source, reading, max_pixels, lambda size: None)
    data, format, key = _content(source)
    deep = format == "PNG" and is_deep(data)
    needed = plain_need(data, draft_size(reading)) if len(data) > HEAD else None
    if needed is not None and needed <= (MOST if deep else SMALL):
        with POOL.budgets.take(needed, here=True):
            return here(data, reading, max_pixels, lambda size: None)
    if deep:
        raise UnusableError("is a PNG of 16 bits that is too large, or of an unusual structure: save it anew")
    key = key or (hashlib.blake2b(data, digest_size=16).digest(),)
    with _lock:
        if key in _refused:
            raise UnusableError(_refused[key])
    if format == "DICOM":
        needs("pydicom", "dicom", "a DICOM file")
    place = os.path.abspath(source) if isinstance(source, (str, os.PathLike)) else data  # noqa: PTH100, links stay
    request = pickle.dumps((what, place, format, reading, max_pixels, ImageFile.LOAD_TRUNCATED_IMAGES))
    try:
        about, *pixels = POOL.call(request)
    except LimitError as error:
        with _lock:
            _refused[key] = str(error)
            while len(_refused) > REFUSED:
                _refused.popitem(last=False)
        raise UnusableError(str(error)) from None
    facts = json.loads(about)
    told += facts["told"]
    if "reason" in facts:
        raise UnusableError(facts["reason"])
    if "values" in facts:
        kind, low, high, whole, (height, width) = facts["values"]
        return Values(kind, low, high, whole, (height, width))
    array = np.frombuffer(bytearray(pixels[0]), facts["dtype"]).reshape(facts["shape"])
    return DecodedImage(array, (facts["size"][0], facts["size"][1]), facts["mode"], facts["format"])


def _content(source: Any) -> tuple[bytes, str, tuple[Any, ...]]:
    """Return the bytes of a picture, or the first of a file that is not decoded here; its format; and a key of a file
    that has not changed.

    Raises:
        UnusableError: it is no image.
    """
    if isinstance(source, (str, os.PathLike)):
        if Path(source).is_dir():
            raise UnusableError("is a folder, not an image")
        with open_file(source) as file:
            format, state = kind_of_file(file), os.fstat(file.fileno())
            whole = format in ("JPEG", "PNG") and state.st_size <= WHOLE
            data = file.read(state.st_size if whole else HEAD)
            return data, format, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if not (isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read")):
        raise UnusableError(f"must be a path, bytes, a binary file or a PIL image; got {type(source).__name__}")
    data = source.read() if hasattr(source, "read") else bytes(source)
    if not isinstance(data, bytes):
        raise UnusableError("must be opened as a binary file, in mode 'rb'")
    format = kind_of_file(io.BytesIO(data))
    return data, format, ()
