"""Recognise picture files by their content, find them in folders, open their headers, and bound what decoding takes."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import IO

from PIL import Image

from ..extras import remedy
from ..files.opening import open_file

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
    "NPY": (".npy",),
    "DICOM": (".dcm", ".dicom"),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMAT_SUFFIXES.values() for suffix in suffixes)
HEAD = 132  # bytes that tell the format of a file; those of DICOM begin with 128 that may be anything
NPY, DICOM = b"\x93NUMPY", b"DICM"

# What files with the suffix of an image often contain instead, by their first bytes.
_IMPOSTORS = (
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (b"<svg", "an SVG drawing: export it as PNG"),
    (b"<", "a web page or XML"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (or .npz): unpack it"),
)


class UnusableError(Exception):
    """The reason why an image cannot be used, as the end of a sentence that begins with its name."""


def sniff(head: bytes) -> str | None:
    """Return the format of a file by its first `HEAD` bytes: a key of `FORMAT_SUFFIXES`, or None if it is no image."""
    if head.startswith(NPY):
        return "NPY"
    if head[128:132] == DICOM:
        return "DICOM"
    Image.init()
    for format in FORMAT_SUFFIXES:
        accept = Image.OPEN[format][1] if format in Image.OPEN else None
        accepted = accept(head[:16]) if accept else False
        if accepted and not isinstance(accepted, str):  # a string: why this build of Pillow cannot read the format
            return format
    return None


def suffix_fits(suffix: str, format: str) -> bool:
    """Whether a suffix is one of the format's. Pillow calls a JPEG with several frames "MPO"."""
    return (
        not suffix
        or suffix[1:].isdigit()
        or suffix.lower() in FORMAT_SUFFIXES.get("JPEG" if format == "MPO" else format, (suffix.lower(),))
    )


def kind_of_file(file: IO[bytes]) -> str:
    """Return the format of an open file, which is then at its beginning again.

    Raises:
        UnusableError: it is not an image, and what it seems to be.
    """
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise UnusableError("is an empty file (0 bytes)")
    if (format := sniff(head)) is not None:
        return format
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        raise UnusableError("is an HEIC image, which Pillow cannot read: convert it to JPEG")
    known = next((f", {what}" for start, what in _IMPOSTORS if head.lstrip().lower().startswith(start.lower())), "")
    raise UnusableError(f"is not an image: it begins with {head[:16]!r}{known}")


def open_header(file: IO[bytes], format: str | None = None) -> Image.Image:
    """Read only the header. Unlike `Image.open`, do not limit the size or warn; decoding applies the limit."""
    format = format or kind_of_file(file)
    if format not in Image.OPEN:
        raise UnusableError(f"is a {format} file, which Pillow does not read")
    try:
        return Image.OPEN[format][0](file, "")
    except (SyntaxError, IndexError, TypeError, ValueError, OSError, EOFError, struct.error) as error:
        raise UnusableError(f"cannot be decoded: its {format} header is damaged ({error})") from error


def needs(package: str, extra: str, what: str) -> None:
    """Raise `UnusableError` unless a package is installed."""
    if importlib.util.find_spec(package) is None:
        raise UnusableError(f"is {what}, which needs {package}: {remedy(extra)}")


def is_unnamed_image(path: Path) -> bool:
    """Whether a file is an image whose name does not say so, such as `IM0001` or `1.2.840.113619`."""
    return (not path.suffix or path.suffix[1:].isdigit()) and format_of(path) is not None


def format_of(path: Path) -> str | None:
    """Return the format of a file by content, as `sniff` does, or None if it is not an image or cannot be opened."""
    try:
        with open_file(path) as file:
            return sniff(file.read(HEAD))
    except OSError:
        return None


def is_hidden(name: str) -> bool:
    """Whether a file is hidden or belongs to an operating system: `.*`, `__MACOSX`, `Thumbs.db`, `desktop.ini`."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "desktop.ini")


# What decoding takes --------------------------------------------------------------------------------------------------

BOMB_PIXELS = 178_956_970  # an image with more is refused as a decompression bomb; Pillow's own limit for an error
PIECES = 100_000  # of a PNG, which are read one by one
SEGMENTS = 100  # of a JPEG
TAGS = 200  # of Exif; each may claim all of its bytes
TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # by type
SCANNED = 200_000_000  # pixels, over all scans of a JPEG: about two seconds
COPIES = 9  # bytes per pixel: the picture, and a copy in another mode


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise `UnusableError` for a picture with too many pixels."""
    if width * height > max_pixels:
        raise UnusableError(
            f"is {width}x{height} = {width * height / 1e6:.0f} million pixels, above the limit of"
            f" {max_pixels / 1e6:.0f} million that guards against decompression bombs: make it smaller first"
        )


def is_deep(head: bytes) -> bool:
    """Whether the header of a PNG says that it has several bands of 16 bits, of which Pillow keeps 8."""
    return len(head) >= 26 and head[:4] == b"\x89PNG" and head[24] == 16 and head[25] in (2, 4, 6)


def plain_need(data: bytes, least: tuple[int, int] | None) -> int | None:
    """Return how many bytes decoding takes at most, for the usual kinds of JPEG and PNG, which are decoded at once.

    Args:
        data: the whole file.
        least: width and height down to which a JPEG may be decoded smaller.

    Returns:
        None for anything else: what it takes, in memory or time, is not known before it is decoded.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _need_of_jpeg(data, least)
        return _need_of_png(data) if data[:8] == b"\x89PNG\r\n\x1a\n" else None
    except (IndexError, struct.error):  # it ends early
        return None


def _need_of_jpeg(data: bytes, least: tuple[int, int] | None) -> int | None:
    at, segments, exif, frame, marker = 2, 0, 0, b"", 0
    while data[at + 1] != 0xDA:  # the pixels of the first scan
        if data[at] != 0xFF or (segments := segments + 1) > SEGMENTS:
            return None
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame or marker > 0xC2:
                return None
            frame, progressive = body, marker == 0xC2
        elif marker == 0xE1 and body.startswith(b"Exif"):
            exif += 1
            if exif > 1 or not _is_plain_exif(body[6:]):
                return None
        elif (marker == 0xE2 and body.startswith(b"MPF")) or not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xD9:
            return None
        at += 2 + length
    height, width, bands = struct.unpack_from(">HHB", frame, 1)
    sampling = [(each >> 4, each & 15) for each in frame[7 : 6 + 3 * bands : 3]]
    most = max((x for x, _ in sampling), default=0) * max((y for _, y in sampling), default=0)
    scans = data.count(b"\xff\xda", at)
    if not most or not height or scans * width * height > SCANNED:
        return None
    smaller = 1 if least is None else next((n for n in (8, 4, 2) if min(width, height) // n >= max(least)), 1)
    kept = 2 * sum(x * y for x, y in sampling) / most if progressive or scans > 1 else 0
    return int(width * height * (COPIES / smaller**2 + kept))


def _need_of_png(data: bytes) -> int | None:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    at, pieces, packed = 8, 0, 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        pieces, packed = pieces + 1, packed + (kind in (b"zTXt", b"iTXt", b"iCCP"))
        exif = kind == b"eXIf" and not _is_plain_exif(data[at + 8 : at + 8 + length])
        if pieces > PIECES or packed > 32 or exif or (kind == b"IHDR" and pieces > 1):
            return None
        at += 12 + length
    deep = depth == 16 and colour != 0
    return width * height * (COPIES if not deep else 24 if colour == 2 else 48)


def _is_plain_exif(data: bytes) -> bool:
    """Whether Exif has few tags and is whole, so that reading it takes no time and gives no warning."""
    order = ">" if data[:2] == b"MM" else "<"
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, first)
    tags = list(struct.iter_unpack(f"{order}HHII", data[first + 2 : first + 2 + 12 * count])) if count <= TAGS else []
    sizes = [(TAG_BYTES.get(kind, len(data)) * number, at) for _, kind, number, at in tags]
    whole = all(size <= 4 or at + size <= len(data) for size, at in sizes)
    return len(data) <= 2**16 and len(tags) == count and whole
