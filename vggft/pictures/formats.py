"""Recognise picture files by their content, find them in folders, and open their headers."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import IO

from PIL import Image

from ..extras import remedy

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
        with path.open("rb") as file:
            return sniff(file.read(HEAD))
    except OSError:
        return None


def is_hidden(name: str) -> bool:
    """Whether a file is hidden or belongs to an operating system: `.*`, `__MACOSX`, `Thumbs.db`, `desktop.ini`."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "desktop.ini")
