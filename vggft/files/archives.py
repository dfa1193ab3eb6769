"""Zip archives and `.npz` files from outside: sizes are compared with what is there before anything is read."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import VggftError, some
from .documents import DocumentError, reading

SPARE = 64 * 2**20  # bytes that an archive may unpack to, besides twice its own size

Shape = tuple[int | None, ...]  # None is any length


def most_of(size: int) -> int:
    """Return how many bytes a file of some size may turn into; files of weights hardly shrink when they are packed."""
    return 2 * size + SPARE


@contextmanager
def open_archive(file: BinaryIO, size: int = 0) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive.

    Args:
        file: the open file.
        size: bytes of what the file is in; it may unpack to `most_of` them.

    Raises:
        DocumentError: it is damaged, encrypted, oddly packed, or unpacks to much more than its size.
    """
    size = max(size, file.seek(0, 2))
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if odd := [
                m.filename for m in members if m.flag_bits & 1 or m.compress_type not in (0, zipfile.ZIP_DEFLATED)
            ]:
                raise DocumentError(f"has a part that is encrypted, or packed in an unusual way: {some(odd)}")
            names = [member.filename for member in members]
            if len(set(names)) < len(names):
                raise DocumentError("has several parts of the same name")
            if (whole := sum(member.file_size for member in members)) > most_of(size):
                raise DocumentError(f"unpacks to {whole / 1e6:.0f} MB, from {size / 1e6:.1f} MB, and is not read")
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise DocumentError(f"is damaged: {error}") from error


class Member:
    """An array in an `.npz` file, which is read when NumPy asks for it; its shape and dtype are known before."""

    def __init__(self, archive: zipfile.ZipFile, name: str):
        self.archive, self.name = archive, name
        with archive.open(name) as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                raise DocumentError(f"has {name} in version {version} of the format")
            self.shape, _, self.dtype = read[version](file)
            held = archive.getinfo(name).file_size - file.tell()
        if self.dtype.hasobject:
            raise DocumentError(f"has objects of Python in {name}, which are never read")
        if held != (said := math.prod(self.shape) * self.dtype.itemsize):
            raise DocumentError(f"has {held} bytes of values in {name}, where {said} belong to its shape {self.shape}")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        with self.archive.open(self.name) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False), dtype)


@contextmanager
def open_arrays(file: BinaryIO, size: int = 0) -> Iterator[dict[str, Member]]:
    """Open an `.npz` file; its arrays can be read while it is open. See `open_archive` for `size`.

    Raises:
        DocumentError: it is damaged, or holds something else than arrays of numbers and text.
    """
    with open_archive(file, size) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        try:
            found = {name.removesuffix(".npy"): Member(archive, name) for name in names}
        except (ValueError, TypeError, SyntaxError, OverflowError) as error:
            if isinstance(error, DocumentError):
                raise
            raise DocumentError(f"has a damaged array ({error})") from error
        yield found


def read_arrays(
    path: Path, error: type[VggftError], expected: Mapping[str, tuple[str, Shape]] | None = None
) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` file.

    Args:
        path: the file.
        error: raised for what is wrong.
        expected: name -> kinds of dtype, such as `"f"`, and shape; floats are finite. None for arrays of any kind.

    Raises:
        error: the file cannot be read, or holds other arrays; the message names the file and the array.
    """
    with reading(path, error) as file, open_arrays(file) as arrays:
        for name, (kinds, shape) in (expected or {}).items():
            if name not in arrays:
                raise DocumentError(f"lacks the array {name}")
            check_array(name, arrays[name], kinds, shape)
        found = {name: np.asarray(each) for name, each in arrays.items()}
        for name in expected or ():
            check_finite(name, found[name])
        return found


def check_array(name: str, array: Any, kinds: str, shape: Shape) -> None:
    """Raise `DocumentError` unless an array, of which only dtype and shape are looked at, is as expected."""
    fits = len(shape) == len(array.shape) and all(a in (None, b) for a, b in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in kinds or not fits:
        told = "x".join("n" if length is None else str(length) for length in shape) or "one value"
        raise DocumentError(f"has {array.dtype} of shape {array.shape} in {name}, where {told} was expected")


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise `DocumentError` if there is NaN or infinity in an array."""
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise DocumentError(f"has NaN or infinity in {name}")
