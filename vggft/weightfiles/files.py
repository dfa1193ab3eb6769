"""Tell files of weights apart by what is in them, and read their layers; no code in a file is ever run."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from ..errors import VggftError, WeightsError
from ..files.archives import Member, open_archive, open_arrays
from ..files.documents import DocumentError, parse_document
from ..files.opening import NotAFileError, open_file
from .hdf5 import read_hdf5
from .layers import Layer, in_order, layers_of_config, natural

EXPECTED = "a .keras, .weights.h5, .h5 or .npz file"
HDF5 = b"\x89HDF\r\n\x1a\n"
# The first bytes of files that people try, and what they are.
OTHERS = (
    (b"\x80\x02", "a pickle, such as old PyTorch files; vggft never unpickles"),
    (b"\x80\x04", "a pickle; vggft never unpickles"),
    (b"\x93NUMPY", "a .npy file of one array; numpy.savez stores several"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"<", "a web page or XML"),
    (b"{", "JSON, without weights"),
    (b"version https://git-lfs", "a pointer of Git LFS to a file that is elsewhere: `git lfs pull` fetches it"),
)


@contextmanager
def open_layers(path: Path) -> Iterator[list[Layer]]:
    """Open a file, and give its layers in order; their arrays can be read while it is open.

    Args:
        path: `.keras`, `.weights.h5`, `.h5` or `.npz`, whatever its name ends in; or a folder with `classifier.keras`.

    Raises:
        WeightsError: it is of another kind, damaged, or points outside of itself; the message says which.
    """
    if path.is_dir():
        inside = path / "classifier.keras"
        if not inside.is_file():
            told = "a SavedModel, whose weights are not read" if (path / "saved_model.pb").exists() else "a folder"
            raise WeightsError(f"{path} is {told}. Expected {EXPECTED}.")
        path = inside
    try:
        with open_file(path) as file, READERS[kind_of(file)](file) as layers:
            yield layers
    except WeightsError as error:
        told = str(error)
        if told.startswith("is "):
            told += f". Expected {EXPECTED}"
        raise WeightsError(told if str(path) in told else f"{path} {told}.") from error.__cause__
    except NotAFileError as error:
        raise WeightsError(str(error)) from None
    except OSError as error:
        if error.errno is not None:  # of the operating system, such as no permission; those of h5py have none
            raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
        raise WeightsError(f"{path} cannot be read: {error}.") from error
    except DocumentError as error:
        raise WeightsError(f"{path} {error}.") from error
    except VggftError:
        raise
    except Exception as error:  # a damaged zip, JSON or HDF5 may raise anything
        raise WeightsError(f"{path} cannot be read: {str(error) or type(error).__name__}.") from error


def kind_of(file: BinaryIO) -> str:
    """Tell by its content what an open file is: `"hdf5"`, `"keras"` or `"npz"`.

    Raises:
        WeightsError: it is something else; the message says what.
    """
    file.seek(0)
    start = file.read(64)
    file.seek(0)
    if start.startswith(HDF5):
        return "hdf5"
    if start.startswith(b"PK"):
        names = _names(file)
        if "model.weights.h5" in names:
            return "keras"
        if any(name.endswith(".npy") for name in names):
            return "npz"
        told = "a zip archive without weights of Keras"
        if any(name.endswith("data.pkl") for name in names):
            told = "a file of PyTorch, which vggft does not read: convert it to .npz or .weights.h5"
        if "config.json" in names and "model.weights.json" in names:
            told = "a .keras file in several parts: save the model in one"
    elif not start:
        told = "empty"
    else:
        found = [told for first, told in OTHERS if start.startswith(first)]
        told = found[0] if found else f"of an unknown kind: it begins with {start[:16]!r}"
    raise WeightsError(f"is {told}")


def _names(file: BinaryIO) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise WeightsError(f"begins like a .keras or .npz file, but is no whole zip archive ({error})") from error
    finally:
        file.seek(0)


@contextmanager
def _from_hdf5(file: BinaryIO) -> Iterator[list[Layer]]:
    with h5py.File(file, "r") as tree:
        yield read_hdf5(tree, file)


@contextmanager
def _from_keras(file: BinaryIO) -> Iterator[list[Layer]]:
    with open_archive(file) as archive, tempfile.TemporaryFile() as unpacked:
        config = parse_document(archive.read("config.json"), Any, nan=True)
        with archive.open("model.weights.h5") as inside:  # HDF5 goes to and fro, which a packed file cannot
            shutil.copyfileobj(inside, unpacked)
        with h5py.File(unpacked, "r") as tree:
            yield read_hdf5(tree, unpacked, list(layers_of_config(config)))


@contextmanager
def _from_npz(file: BinaryIO) -> Iterator[list[Layer]]:
    """Read arrays named `block1_conv1/kernel`, or those of `numpy.savez(file, *model.get_weights())`."""
    with open_arrays(file) as arrays:
        yield _of_arrays({name: arrays[name] for name in sorted(arrays, key=natural)})


def _of_arrays(arrays: Mapping[str, Member]) -> list[Layer]:
    found: dict[str, Layer] = {}
    current = ""
    for name, array in arrays.items():
        if "/" in name:
            current = name.rpartition("/")[0]
        elif len(array.shape) > 1:  # a kernel begins a layer, and its bias follows
            current = name
        before = found[current].arrays if current in found else ()
        found[current] = Layer(current, arrays=(*before, array))
    return in_order(found, ())


READERS = {"hdf5": _from_hdf5, "keras": _from_keras, "npz": _from_npz}
