"""DICOM files -> the values of one picture, by pydicom: rescaled, with the window of the file, black as black."""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from .formats import UnusableError, needs
from .reading import Reading


def read_dicom(file: IO[bytes], reading: Reading, max_pixels: int) -> np.ndarray:
    """Read the picture in a DICOM file.

    Stored values are rescaled by slope and intercept, so that those of CT are Hounsfield units. Unless the reading has
    a range that the user gave, the window of the file (its centre and width) is black and white, if it has one.

    Returns:
        (H, W) or (H, W, 3): uint8 after a window, else integers or floats.

    Raises:
        UnusableError: there is no picture, or there are several; or pydicom is missing.
    """
    needs("pydicom", "dicom", "a DICOM file")
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
    if int(data.Rows) * int(data.Columns) > max_pixels:
        raise UnusableError(
            f"is {data.Columns}x{data.Rows} px, above the limit of {max_pixels / 1e6:.0f} million pixels"
        )
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
        array = low + high - array
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
