"""A classifier for other runtimes: SavedModel, ONNX, LiteRT; each asked there, on real images, before it is done."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..artifact.record import Record
from ..data.arrays import as_sequence, read_images
from ..data.dataset import open_dataset
from ..errors import ConfigError, DataError, ExportError
from ..evaluation.checks import score
from ..evaluation.evaluation import Evaluation
from ..network.description import Description
from ..network.forward import forward
from ..run import whole_file
from . import runtimes

FORMATS = {"": "SavedModel", ".onnx": "ONNX", ".tflite": "LiteRT"}
PRECISIONS = {"SavedModel": ("float32",), "ONNX": ("float32",), "LiteRT": ("float32", "float16", "int8")}
NEEDS = {"SavedModel": {}, "ONNX": {"tf2onnx": "onnx", "onnxruntime": "onnx"}, "LiteRT": {"ai_edge_litert": "litert"}}
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}  # of probabilities; what int8 changes is stated
CALIBRATE_ON, CHECK_ON = 100, 500  # images, at most
FILES = 32  # of those given to a SavedModel as bytes


@dataclass(frozen=True)
class Export:
    """A classifier that another runtime has read back; `str` puts it in words.

    Args:
        path: the file, or the folder of a SavedModel.
        format: `"SavedModel"`, `"ONNX"` or `"LiteRT"`.
        precision: of its weights and arithmetic.
        size: in bytes.
        images: on how many it was compared with the original.
        largest_difference: of probabilities.
        same_label: the share of images whose likeliest class is the same, 0..1.
        accuracy: of the original on those images, where their labels are known.
        exported_accuracy: of what was exported.
        files: how many images were given to a SavedModel as the bytes of their files, too.
    """

    path: str
    format: str
    precision: str
    size: int
    images: int
    largest_difference: float
    same_label: float
    accuracy: float | None = None
    exported_accuracy: float | None = None
    files: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def __str__(self) -> str:
        told = (
            f"{self.path}: {self.format} in {self.precision}, {self.size / 2**20:.1f} MiB. Read back on {self.images} "
            f"images, probabilities differ by {self.largest_difference:.2g} at most; the likeliest class is the same "
            f"for {self.same_label:.1%}."
        )
        if self.format == "SavedModel":
            told += f" {self.files} of them were also given to it as files."
        if self.accuracy is not None and self.exported_accuracy is not None:
            told += f" Accuracy {self.accuracy:.3f} before, {self.exported_accuracy:.3f} after."
        return told


def export(
    model: keras.Model,
    description: Description,
    path: str | os.PathLike[str],
    *,
    pictures: Any,
    labels: np.ndarray | None = None,
    precision: str = "float32",
    overwrite: bool = False,
) -> Export:
    """Write a classifier for another runtime, read it back there, and compare it with the original.

    Args:
        path: `.onnx`, `.tflite` (LiteRT), or no suffix: the folder of a SavedModel.
        pictures: real ones, as for `Classifier.predict`, to compare on; int8 sees half of them, at most 100, for the
            ranges of its numbers, and is compared on the others.
        labels: (N,) class indices, or (N, num_classes) 0/1 where there are several, for the accuracy.
        precision: `"float32"`, for LiteRT also `"float16"` or `"int8"` (whole numbers inside, floats outside).
        overwrite: replace what is at `path`.

    Raises:
        ConfigError: an unknown format or precision, a package that is missing, or something there already.
        DataError: there are no pictures, or some cannot be read.
        ExportError: read back it does not say the same; nothing is left behind.
    """
    path = Path(path)
    format = _format(path, precision, overwrite)
    given, labels = _some(pictures, labels)
    pixels = _pixels(given, description.image_size)
    before = forward(model, pixels)
    inside = runtimes.metadata(description, precision)
    calibrating = np.zeros(len(pixels), bool)
    if precision == "int8":
        calibrating[_spread(np.arange(0, len(pixels), 2), CALIBRATE_ON)] = True
    if precision == "int8" and not (~calibrating).any():
        raise DataError("int8 needs at least two images: some for the ranges of its numbers, others to compare on.")
    judged = _spread(np.flatnonzero(~calibrating), CHECK_ON)
    with _aside(path) as aside, _quietly():
        if format == "SavedModel":
            runtimes.write_saved_model(model, description, inside, aside)
            runtime = runtimes.open_saved_model(aside)
        elif format == "ONNX":
            runtimes.write_onnx(model, description, inside, aside)
            runtime = runtimes.open_onnx(aside)
        else:
            runtimes.write_litert(model, description, inside, aside, precision, pixels[calibrating])
            runtime = runtimes.open_litert(aside)
        after = runtime(pixels[judged].astype("float32"))
        truth = None if labels is None else labels[judged]
        result = _compare(path, format, precision, before[judged], after, truth)
        if format == "SavedModel":
            result = replace(result, **_compare_files(aside, given, before, result))
        limit = TOLERANCE.get(precision, np.inf)
        if not np.isfinite(after).all() or result.largest_difference > limit:
            raise ExportError(
                f"{path} was not written: read back by {format}, probabilities differ by "
                f"{result.largest_difference:.2g}, where at most {limit:g} is expected in {precision}."
            )
        size = sum(file.stat().st_size for file in ([aside] if aside.is_file() else aside.rglob("*")) if file.is_file())
    return Export(**result.to_dict() | {"size": size})


def to_compare_on(
    description: Description, dataset: Any, evaluation: Evaluation | None, record: Record
) -> tuple[Any, np.ndarray | None]:
    """Real pictures, files where they are files, and their labels.

    Args:
        dataset: labelled images; None takes those of the evaluation, as files or as the run has kept them.

    Raises:
        ConfigError: none are to be had.
    """
    if dataset is not None:
        parts = open_dataset(dataset, class_names=description.class_names, multi_label=description.multi_label)
        data = parts.get("test") or next(iter(parts.values()))
        return data.images, data.labels
    if evaluation is not None:
        if there := [row for row, name in enumerate(evaluation.names) if Path(name).is_file()]:
            return [Path(evaluation.names[row]) for row in there], evaluation.labels[there]
        if kept := record.pictures:
            return np.stack(list(kept.values())), evaluation.labels[list(kept)]
    raise ConfigError(
        "An export is compared with the original on real images, but those that it was judged on are not there: give "
        "some as dataset."
    )


def _format(path: Path, precision: str, overwrite: bool) -> str:
    """What is to be written; everything that can be refused before the work is."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            "An export is called .onnx, .tflite (LiteRT), or has no suffix (the folder of a SavedModel); "
            f"got {path.name!r}."
        )
    format = FORMATS[path.suffix.lower()]
    if precision not in PRECISIONS[format]:
        raise ConfigError(f"precision of {format} must be one of {', '.join(PRECISIONS[format])}; got {precision!r}.")
    missing = []
    for package, extra in NEEDS[format].items():
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append((package.replace("_", "-"), extra))
    if missing:
        names, extra = " and ".join(package for package, _ in missing), missing[0][1]
        raise ConfigError(f"Exporting to {format} needs {names}: pip install 'vggft[{extra}]'.")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already; overwrite=True (--force) replaces it.")
    if path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").exists():
        raise ConfigError(f"{path} is a folder of other things than a SavedModel, which is not replaced.")
    return format


def _spread(rows: Any, most: int) -> Any:
    """At most so many, from all over, for they may be in the order of their classes."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def _some(pictures: Any, labels: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
    """As many as are looked at."""
    pictures, _ = as_sequence(pictures)
    if labels is not None and len(labels) != len(pictures):
        raise ConfigError(f"labels: expected one for each of {len(pictures)} pictures; got {len(labels)}.")
    rows = _spread(np.arange(len(pictures)), CALIBRATE_ON + CHECK_ON)
    pictures = pictures[rows] if isinstance(pictures, np.ndarray) else [pictures[row] for row in rows]
    return pictures, None if labels is None else np.asarray(labels)[rows]


def _pixels(pictures: Any, image_size: int) -> np.ndarray:
    """As the network sees them."""
    pixels, problems = read_images(pictures, image_size, 0, as_sequence(pictures)[1])
    if problems:
        raise DataError.listing("Some images to check the export on cannot be read", problems)
    return pixels


def _compare(
    path: Path, format: str, precision: str, before: np.ndarray, after: np.ndarray, labels: np.ndarray | None
) -> Export:
    same = float((before.argmax(axis=1) == after.argmax(axis=1)).mean())
    difference = float(np.abs(before - after).max())
    accuracies: list[float | None] = [None, None]
    if labels is not None and np.isfinite(after).all():
        several = labels.ndim == 2
        # Whole numbers leave sums that are off by more than an evaluation takes.
        rows = [each if several else each / each.sum(axis=1, keepdims=True) for each in (before, after)]
        accuracies = [score("accuracy", labels, each, several) for each in rows]
    return Export(str(path), format, precision, 0, len(before), difference, same, accuracies[0], accuracies[1])


def _compare_files(folder: Path, pictures: Any, before: np.ndarray, result: Export) -> dict[str, Any]:
    """A SavedModel also takes files, which its own graph decodes."""
    rows = [i for i, each in enumerate(pictures) if isinstance(each, (str, os.PathLike))]
    rows = [i for i in rows if Path(pictures[i]).suffix.lower() in (".jpg", ".jpeg", ".png")]
    rows = _spread(rows, FILES)
    found = runtimes.saved_model_of_files(folder, [Path(pictures[i]) for i in rows])
    differences = [
        float(np.abs(after - before[i]).max()) for i, after in zip(rows, found, strict=True) if after is not None
    ]
    if rows and not differences:
        raise ExportError(
            f"{result.path} was not written: its graph could decode none of {len(rows)} files. This usually occurs "
            "when all are CMYK, or of another format than their names say: give JPEG or PNG files as dataset."
        )
    return {"files": len(differences), "largest_difference": max([result.largest_difference, *differences])}


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file or a folder, which then takes its place whole, or leaves nothing."""
    if path.suffix:
        with whole_file(path) as aside:
            yield aside
        return
    aside, earlier = (path.with_name(f".{os.getpid()}-{kind}{path.name}") for kind in ("", "earlier-"))
    try:
        yield aside
        if path.exists():
            os.replace(path, earlier)
        try:
            os.replace(aside, path)
        except OSError:
            if earlier.exists():
                os.replace(earlier, path)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if path.exists():
            shutil.rmtree(earlier, ignore_errors=True)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the converters print and warn of, which no user can act on."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
