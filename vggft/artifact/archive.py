"""The file format of a classifier: a plain `.keras` file with vggft's own JSON added to the zip."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from ..engine import own_settings
from ..errors import ClassifierFileError, WeightsError, some
from ..evaluation.checks import evaluate
from ..evaluation.evaluation import Evaluation
from ..fields import shown
from ..network.description import Description, build
from ..opening import open_file, special
from ..pictures.reading import RULES
from ..run import whole_file
from ..weightfiles.files import kind_of
from ..weightfiles.hdf5 import refuse_outside

MEMBER = "vggft.json"
EVALUATION_MEMBER = "vggft_evaluation.npz"
WEIGHTS = "model.weights.h5"  # as Keras names it


def write_archive(
    path: Path, model: keras.Model, description: Description, evaluation: Evaluation | None, more: Mapping[str, Any]
) -> None:
    """Write a classifier, and check that plain Keras predicts the same from the file before it is put in place.

    Args:
        path: the `.keras` file.
        model: the network.
        description: the description, saved as JSON.
        evaluation: an evaluation to save with its probabilities, if any.
        more: further values for the JSON.

    Raises:
        ClassifierFileError: the network that was read back predicts something else.
    """
    probe = np.random.default_rng(0).integers(0, 256, (1, *description.size, 3)).astype("float32")
    with whole_file(path) as aside:
        model.save(aside)
        content = description.to_dict()
        with zipfile.ZipFile(aside, "a") as archive:
            if evaluation is not None:
                content["evaluation"] = evaluation.to_dict()
                archive.writestr(EVALUATION_MEMBER, _pack_evaluation(evaluation))
            content |= more
            archive.writestr(MEMBER, json.dumps(content, indent=2, ensure_ascii=False))
        again = keras.models.load_model(aside, compile=False)
        before, after = (np.asarray(each(probe, training=False)) for each in (model, again))
        if not np.allclose(before, after, atol=1e-6):
            raise ClassifierFileError(
                f"{path} was not written: after reloading, probabilities differ by {np.abs(before - after).max():.2g}."
            )


def classifier_file(path: Any) -> Path:
    """Return the file of a classifier: itself, or the one in its run directory.

    Raises:
        ClassifierFileError: it is no path, or a folder without one; the message says what there is instead.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        told = "A classifier is loaded from its .keras file or its run directory"
        raise ClassifierFileError(f"{told}; got {shown(path)}.")
    path = Path(os.fsdecode(path))
    if not path.is_dir() or (path / "classifier.keras").is_file():
        return path / "classifier.keras" if path.is_dir() else path
    names = {each.name for each in path.iterdir()}
    runs = sorted(str(each.parent) for each in path.glob("*/classifier.keras"))
    files = sorted(str(each) for each in path.glob("*.keras"))
    told = "it is not a run directory"
    if "saved_model.pb" in names:
        told = "it is a SavedModel, an export; load the .keras file that it was made from"
    elif "folds.csv" in names or "folds" in names:
        told = "it holds a cross-validation, which keeps no classifier: make one by finetune"
    elif "config.json" in names:
        told = "its run has not finished: continue it by resume=True (--resume)"
    elif runs or files:
        told = f"it holds {'run directories' if runs else 'files'} to choose from: {some(runs or files, limit=10)}"
    raise ClassifierFileError(f"There is no classifier file in the folder {path}: {told}.")


@own_settings()
def read_archive(path: Path) -> tuple[keras.Model, Description, Evaluation | None, dict[str, Any]]:
    """Read a file that `write_archive` wrote. The network is rebuilt from its JSON; only weights are read, never code.

    Raises:
        ClassifierFileError: the file does not exist, is damaged, or was not written by vggft.
    """
    if not path.is_file():
        raise ClassifierFileError(
            f"{path} {told}." if (told := special(path)) else f"There is no classifier file {path}."
        )
    part = "zip archive"  # what is being read
    try:
        with open_file(path) as file:
            if (kind := kind_of(file)) != "keras":
                raise ClassifierFileError(
                    f"{path} holds weights ({kind}) and no classifier; a weights file may be the backbone of one."
                )
            with zipfile.ZipFile(file) as archive:
                if MEMBER not in archive.namelist():
                    raise ClassifierFileError(
                        f"{path} is a .keras file, but vggft did not write it (it contains no {MEMBER}). "
                        "keras.models.load_model may open it, and it may be a backbone if it contains a VGG."
                    )
                part = MEMBER
                content = json.loads(archive.read(MEMBER))
                part = WEIGHTS
                weights = archive.read(WEIGHTS)
                part = EVALUATION_MEMBER
                judged = archive.read(EVALUATION_MEMBER) if EVALUATION_MEMBER in archive.namelist() else None
        part = MEMBER
        if content.get("format", 1) > Description.format or content.get("resize") not in RULES.values():
            raise ClassifierFileError(
                f"{path} was saved by vggft {content.get('versions', {}).get('vggft')}, which resizes images by "
                f"{content.get('resize')!r} (format {content.get('format')}); this version knows "
                f"{', '.join(RULES.values())} "
                f"(format {Description.format}). Open it with the version that saved it."
            )
        description = Description.from_dict(content)
        model = build(description)
        part = WEIGHTS
        with h5py.File(io.BytesIO(weights), "r") as tree:
            refuse_outside(tree)
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / WEIGHTS).write_bytes(weights)
            model.load_weights(Path(directory) / WEIGHTS)
    except ClassifierFileError:
        raise
    except WeightsError as error:
        told = str(error)
        raise ClassifierFileError(f"{path} {told}. Expected a .keras file that vggft wrote.") from error
    except Exception as error:  # a damaged zip, JSON or HDF5 may raise anything
        told = str(error).rstrip(".") or type(error).__name__
        raise ClassifierFileError(f"{path} cannot be read as a classifier, its {part}: {told}.") from error
    evaluation = None if judged is None else _unpack_evaluation(judged, description)
    return model, description, evaluation, content


def _pack_evaluation(evaluation: Evaluation) -> bytes:
    file = io.BytesIO()
    pictures: dict[str, Any] = {} if evaluation.pictures is None else {"pictures": evaluation.pictures}
    np.savez_compressed(
        file,
        **pictures,
        split=np.array(evaluation.split),
        labels=evaluation.labels,
        probabilities=evaluation.probabilities,
        names=np.array(evaluation.names, dtype=str),
        metadata=np.array(json.dumps({column: list(cells) for column, cells in evaluation.metadata.items()})),
    )
    return file.getvalue()


def _unpack_evaluation(packed: bytes, description: Description) -> Evaluation:
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        return evaluate(
            stored["labels"],
            stored["probabilities"],
            description.class_names,
            split=str(stored["split"]),
            multi_label=description.multi_label,
            names=tuple(stored["names"].tolist()),
            thresholds=description.thresholds,
            metadata=json.loads(str(stored["metadata"])) if "metadata" in stored.files else {},
            pictures=stored["pictures"].tolist() if "pictures" in stored.files else (),
        )
