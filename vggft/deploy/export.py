"""Export a classifier to SavedModel, ONNX or LiteRT, and compare its predictions there on real images."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.artifact import Artifact
from ..artifact.inputs import read_parts
from ..artifact.known import outputs_from
from ..caching.cache import Cache
from ..data.dataset import open_dataset
from ..data.streams import Keep
from ..engine import own_settings
from ..errors import ConfigError, DataError, ExportError, counted
from ..extras import OF_EXPORTS, check_extra
from ..fields import as_path, is_number, shown
from ..files.writing import check_free, check_free_folder, whole_file, whole_folder
from ..network.description import Description
from ..pictures.arrays import ArrayImage, PixelImage, as_sequence
from ..telling.display import bytes_text
from . import runtimes

FORMATS = {"": "SavedModel", ".onnx": "ONNX", ".tflite": "LiteRT"}
EXPORT_PRECISIONS = {
    "SavedModel": ("float32",),
    "ONNX": ("float32",),
    "LiteRT": ("float32", "float16", "dynamic", "int8"),
}
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}  # of probabilities; with integers, `max_changed` limits the labels
STRANGER_TOLERANCE = {"float32": 1e-2, "float16": 0.2}  # of distances, relative to themselves
CALIBRATE_ON, CHECK_ON = 100, 500  # maximum number of images
FILES = 32  # maximum number of images that a SavedModel also gets as encoded files


@dataclass(frozen=True)
class Export:
    """An exported classifier and how it compares with the original; `str` describes it.

    Args:
        path: the file, or the folder of a SavedModel.
        format: `"SavedModel"`, `"ONNX"` or `"LiteRT"`.
        precision: precision of its weights and arithmetic.
        size: size in bytes.
        images: number of images that it was compared on.
        largest_difference: largest difference between the probabilities of the two, 0..1.
        same_label: share of images with the same predicted class, 0..1.
        accuracy: accuracy of the original on those images, if their labels are known.
        exported_accuracy: accuracy of the export on the same images.
        files: number of images that a SavedModel was also given as encoded files.
        same_stranger: share of images that both take for strangers, or both do not, 0..1; None if that is not known.
        calibrated: number of other images that int8 took its value ranges from; they are not compared.
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
    same_stranger: float | None = None
    calibrated: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    def __str__(self) -> str:
        compared = counted(self.images, "image")
        if self.calibrated:
            compared = f"{self.images} of {self.images + self.calibrated} images (its value ranges are from the others)"
        told = (
            f"{self.path}: {self.format} in {self.precision}, {bytes_text(self.size)}. Compared on {compared}, "
            f"probabilities differ by at most {self.largest_difference:.2g}; the predicted class is the same for "
            f"{self.same_label:.1%}."
        )
        if self.same_stranger is not None:
            told += f" The second output, stranger, says the same for {self.same_stranger:.1%}."
        if self.format == "SavedModel":
            told += f" Also compared as encoded files: {self.files} of them."
        if self.accuracy is not None and self.exported_accuracy is not None:
            told += f" Accuracy {self.accuracy:.3f} before, {self.exported_accuracy:.3f} after."
        return told


@own_settings()
def export(
    artifact: Artifact,
    path: str | os.PathLike[str],
    *,
    pictures: Any,
    labels: np.ndarray | None = None,
    precision: str = "float32",
    max_changed: float = 0.05,
    strangers: bool = True,
    overwrite: bool = False,
) -> Export:
    """Write a classifier for another runtime, load it there, and compare its predictions with the original.

    Args:
        artifact: the classifier.
        path: `.onnx`, `.tflite` (LiteRT), or no suffix for the folder of a SavedModel.
        pictures: real images to compare on, as for `Classifier.predict`. int8 uses half of them, at most 100, to
            calibrate its value ranges, and compares on the others.
        labels: (N,) class indices, or (N, num_classes) 0/1 for several labels per image, to state the accuracy.
        precision: `"float32"`; for LiteRT also `"float16"` or `"dynamic"`, which store weights in 16 or 8 bits, and
            `"int8"`, whose blocks compute with integers of 8 bits, while pixels, pooling and head are floats.
        max_changed: largest share of the images whose predicted class may be another one, 0..1.
        strangers: whether there is a second output, `stranger`, if the classifier knows it.
        overwrite: replace what is at `path`.

    Raises:
        ConfigError: an unknown format or precision, a missing package, or an existing file.
        DataError: there are no images, or some cannot be read.
        ExportError: the export does not predict the same; nothing is left behind.
    """
    path, description, known = as_path(path), artifact.description, artifact.trust.strangers if strangers else None
    format = _format(path, precision, overwrite)
    if not (is_number(max_changed) and 0 <= max_changed <= 1):
        raise ConfigError(f"max_changed must be a share of the images, 0..1; got {shown(max_changed)}.")
    given, labels = _subset(pictures, labels)
    _, pixels = next(read_parts(given, description.reading, len(given)))
    model = runtimes.outputs_of(artifact.network.model, known)
    before, *averages = outputs_from(artifact.network, None, pixels, () if known is None else known.blocks)
    far = None if known is None else np.asarray(known.distances(averages[0]))
    inside = runtimes.metadata(description, precision, known)
    calibrating = np.zeros(len(pixels), bool)
    if precision == "int8":
        calibrating[_spread(np.arange(0, len(pixels), 2), CALIBRATE_ON)] = True
        if calibrating.all():
            raise DataError("int8 needs at least two images: some to calibrate on, others to compare on.")
    judged = _spread(np.flatnonzero(~calibrating), CHECK_ON)
    place = whole_file(path, overwrite) if path.suffix else whole_folder(path, overwrite, runtimes.SAVED_MODEL)
    with place as aside, _quietly():
        if format == "SavedModel":
            runtimes.write_saved_model(model, description, inside, aside)
            runtime = runtimes.open_saved_model(aside)
        elif format == "ONNX":
            runtimes.write_onnx(model, description, inside, aside)
            runtime = runtimes.open_onnx(aside)
        else:
            runtimes.write_litert(model, description, inside, aside, precision, pixels[calibrating])
            runtime = runtimes.open_litert(aside)
        outputs = runtime(pixels[judged].astype("float32"))
        after = outputs["probabilities"]
        answers = before[judged], after, None if labels is None else labels[judged]
        result = _compare(path, format, precision, description, *answers)
        if format == "SavedModel":
            result = replace(result, **_compare_files(aside, given, before, result))
        limit = TOLERANCE.get(precision, np.inf)
        if not np.isfinite(after).all() or result.largest_difference > limit:
            raise ExportError(
                f"{path} was not written: reloaded by {format}, its probabilities differ by up to "
                f"{result.largest_difference:.2g}; expected at most {limit:g} in {precision}."
            )
        if 1 - result.same_label > max_changed:
            told = [f"{1 - result.same_label:.1%} of {result.images} images have another class in {precision}"]
            if result.accuracy is not None and result.exported_accuracy is not None:
                told.append(f"accuracy {result.accuracy:.3f} before, {result.exported_accuracy:.3f} after")
            raise ExportError(
                f"{path} was not written: {'; '.join(told)}; at most {max_changed:.1%} may. float16 changes less; "
                "max_changed (--max-changed) allows more."
            )
        if far is not None:
            result = replace(result, same_stranger=_same_stranger(path, precision, far[judged], outputs["stranger"]))
        size = sum(file.stat().st_size for file in (aside, *aside.rglob("*")) if file.is_file())
    return replace(result, size=size, calibrated=int(calibrating.sum()))


def to_compare_on(artifact: Artifact, dataset: Any = None) -> tuple[Any, np.ndarray | None]:
    """Find real images to compare an export on, as files where possible, and their labels.

    Args:
        artifact: the classifier.
        dataset: labelled images; None for those of the evaluation: their files, or those that the run has kept.

    Raises:
        ConfigError: there are none.
    """
    description, evaluation, kept = artifact.description, artifact.evaluation, artifact.record.pictures
    if dataset is not None:
        keep = Keep(description.reading, Cache())
        parts = open_dataset(dataset, None, description.class_names, description.multi_label, keep=keep)
        data = parts.get("test") or next(iter(parts.values()))
        images, labels = _subset(data.images, data.labels)
        return [np.asarray(each) if isinstance(each, ArrayImage) else each for each in images], labels
    if evaluation is not None:
        if there := [row for row, name in enumerate(evaluation.names) if Path(name).is_file()]:
            return [Path(evaluation.names[row]) for row in there], evaluation.labels[there]
        if kept:
            return [PixelImage(pixels) for pixels in kept.values()], evaluation.labels[list(kept)]
    raise ConfigError(
        "An export is compared with the original on real images, but those of its evaluation no longer exist: pass "
        "labelled images as dataset."
    )


def _format(path: Path, precision: str, overwrite: bool) -> str:
    """Return the format of an export by its path, after all checks that need no work."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            "The name of an export ends in .onnx or .tflite (LiteRT), or has no suffix (the folder of a SavedModel); "
            f"got {shown(path.name)}."
        )
    format = FORMATS[path.suffix.lower()]
    if precision not in EXPORT_PRECISIONS[format]:
        raise ConfigError(
            f"precision of {format} must be one of {', '.join(EXPORT_PRECISIONS[format])}; got {shown(precision)}."
        )
    check_extra(OF_EXPORTS.get(path.suffix.lower()), f"Exporting to {format}")
    if path.suffix:
        check_free(path, overwrite)
    else:
        check_free_folder(path, overwrite, runtimes.SAVED_MODEL)
    return format


def _spread(rows: Any, most: int) -> Any:
    """Return at most `most` rows, evenly spaced, as they may be sorted by class."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def _subset(pictures: Any, labels: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
    """Select the images that are used, and their labels."""
    pictures = as_sequence(pictures)
    if labels is not None and len(labels) != len(pictures):
        raise ConfigError(f"labels: expected one for each of {len(pictures)} images; got {len(labels)}.")
    rows = _spread(np.arange(len(pictures)), CALIBRATE_ON + CHECK_ON)
    pictures = pictures[rows] if isinstance(pictures, np.ndarray) else [pictures[row] for row in rows]
    return pictures, None if labels is None else np.asarray(labels)[rows]


def _compare(
    path: Path,
    format: str,
    precision: str,
    description: Description,
    before: np.ndarray,
    after: np.ndarray,
    labels: np.ndarray | None,
) -> Export:
    decided = [description.decide(each) for each in (before, after)]
    same = float((decided[0] == decided[1]).reshape(len(before), -1).all(axis=1).mean())
    difference = float(np.abs(before - after).max())
    accuracies: list[float | None] = [None, None]
    if labels is not None and np.isfinite(after).all():
        accuracies = [float((each == labels).mean()) for each in decided]
    return Export(str(path), format, precision, 0, len(before), difference, same, accuracies[0], accuracies[1])


def _same_stranger(path: Path, precision: str, before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of images for which two arrays of distances, (N,), say the same."""
    limit = STRANGER_TOLERANCE.get(precision, np.inf)
    difference = float((np.abs(before - after) / (1 + np.abs(before))).max())
    if not difference <= limit:
        raise ExportError(
            f"{path} was not written: its second output, stranger, differs by up to {difference:.2g} of its value; "
            f"expected at most {limit:g} in {precision}."
        )
    return float(((before > 1) == (after > 1)).mean())


def _compare_files(folder: Path, pictures: Any, before: np.ndarray, result: Export) -> dict[str, Any]:
    """Compare a SavedModel on encoded files, which its own graph decodes."""
    rows = [i for i, each in enumerate(pictures) if isinstance(each, (str, os.PathLike))]
    rows = [i for i in rows if Path(pictures[i]).suffix.lower() in (".jpg", ".jpeg", ".png")]
    rows = _spread(rows, FILES)
    found = runtimes.saved_model_of_files(folder, [Path(pictures[i]) for i in rows])
    differences = [
        float(np.abs(after - before[i]).max()) for i, after in zip(rows, found, strict=True) if after is not None
    ]
    if rows and not differences:
        raise ExportError(
            f"{result.path} was not written: its graph could decode none of {len(rows)} files. Usually they are CMYK "
            "images, or have another format than their suffix says: pass JPEG or PNG files as dataset."
        )
    return {"files": len(differences), "largest_difference": max([result.largest_difference, *differences])}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress output and warnings of the converters, which no user can act on."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
