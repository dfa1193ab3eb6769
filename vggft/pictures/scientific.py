"""DICOM files, by pydicom, and arrays in `.npy` files, never code -> the values of one picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import numpy as np

from .formats import BOMB_PIXELS, UnusableError, check_size
from .reading import Reading

MOST_BANDS = 64  # of an array in a file, which would else take too much memory
COPIES = 4  # of an array, in other dtypes, while it becomes RGB


def read_dicom(file: IO[bytes], reading: Reading, max_pixels: int, need: Callable[[int], object]) -> np.ndarray:
    """Read the picture in a DICOM file.

    Stored values are rescaled by slope and intercept, so that those of CT are Hounsfield units. Unless the reading has
    a range that the user gave, the window of the file (its centre and width) is black and white, if it has one.

    Returns:
        (H, W) or (H, W, 3): uint8 after a window, else integers or floats.

    Raises:
        UnusableError: there is no picture, or there are several.
    """
    import pydicom
    from pydicom.pixels import processing as pixels

    data = pydicom.dcmread(file)
    if "PixelData" not in data and "FloatPixelData" not in data and "DoubleFloatPixelData" not in data:
        raise UnusableError("is a DICOM file without a picture (a report, a plan or an index): leave it out")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnusableError(
            f"has {frames} frames, and a picture is one: write each frame that you need as a file of its own"
        )
    check_size(int(data.Columns), int(data.Rows), max_pixels)
    need(32 * 2**20 + int(data.Rows) * int(data.Columns) * 32)
    try:
        array = data.pixel_array  # colours are RGB
    except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
        raise UnusableError(
            f"cannot be decoded by pydicom ({str(error).rstrip('.')}); compressed pictures need its plugins:"
            " pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error
    if array.ndim == 3:
        return np.asarray(array)
    if data.get("PhotometricInterpretation") == "PALETTE COLOR":
        return np.asarray(pixels.apply_color_lut(array, data))
    array = np.asarray(pixels.apply_modality_lut(array, data))
    inverted = str(data.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    if not reading.clips and (data.get("WindowWidth") is not None or "VOILUTSequence" in data):
        array = np.asarray(pixels.apply_voi_lut(array, data), np.float64)
        low, high = _outputs(data)
        array = np.rint(np.clip((array - low) * 255 / max(high - low, 1e-12), 0, 255)).astype(np.uint8)
        return 255 - array if inverted else array
    if array.dtype.kind == "f" and (array == np.rint(array)).all():
        array = array.astype(np.int32)
    if inverted:
        low, high = _ends(data, reading)
        array = low + high - (array if array.dtype.kind == "f" else array.astype(np.int64))
    return array


def _outputs(data: Any) -> tuple[float, float]:
    """Return the ends of what pydicom's window gives: the values that the stored bits can have, rescaled."""
    low, high = _stored(data)
    if "VOILUTSequence" in data:
        return 0.0, float(2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    if "ModalityLUTSequence" in data:
        return 0.0, float(2 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def _stored(data: Any) -> tuple[int, int]:
    bits = int(data.BitsStored)
    signed = int(data.PixelRepresentation) == 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _ends(data: Any, reading: Reading) -> tuple[int, int]:
    """Return the values that are exchanged where white is the lowest: the ends of the range, or of the stored bits."""
    low, high = reading.integers if reading.clips and reading.integers is not None else _outputs(data)
    return round(low), round(high)


def read_npy(
    file: IO[bytes], max_pixels: int = BOMB_PIXELS, need: Callable[[int], object] = lambda size: None
) -> np.ndarray:
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
    need(32 * 2**20 + COPIES * size)
    data = file.read(size)
    if len(data) < size:
        raise UnusableError("is truncated (the NPY data ends early)")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
