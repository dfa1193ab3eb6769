"""Arrays in files: `.npy`, without ever running code from it, and what every decoder of arrays needs."""

from __future__ import annotations

from typing import IO

import numpy as np

from .formats import UnusableError

BOMB_PIXELS = 178_956_970  # an image with more is refused as a decompression bomb; Pillow's own limit for an error
MOST_BANDS = 64  # of an array in a file, which would else take too much memory


def check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UnusableError(
            f"is {width}x{height} = {width * height / 1e6:.0f} million pixels, above the limit of"
            f" {max_pixels / 1e6:.0f} million that guards against decompression bombs: make it smaller first"
        )


def read_npy(file: IO[bytes], max_pixels: int = BOMB_PIXELS) -> np.ndarray:
    """Read the array in a `.npy` file; never code. Its size is checked before anything is read."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        raise UnusableError(f"cannot be decoded: its NPY header is damaged ({error})") from error
    if dtype.hasobject or dtype.kind not in "biuf":
        told = "Python objects, which may run code" if dtype.hasobject else f"values of dtype {dtype}"
        raise UnusableError(f"holds {told}: save an array of numbers")
    bands = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or 0 in shape:
        raise UnusableError(f"holds an array of shape {shape}; a picture has shape (H, W), or (H, W, bands)")
    if bands <= MOST_BANDS:
        check_size(shape[1], shape[0], max_pixels)
    elif shape[0] * shape[1] * bands > max_pixels:
        raise UnusableError(f"has shape {shape}, which is too large for a picture: make it smaller first")
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    data = file.read(size)
    if len(data) < size:
        raise UnusableError("is truncated (the NPY data ends early)")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror (H, W, C) by an EXIF orientation."""
    array = np.swapaxes(array, 0, 1) if orientation >= 5 else array
    array = array[::-1] if orientation in (3, 4, 7, 8) else array
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array
