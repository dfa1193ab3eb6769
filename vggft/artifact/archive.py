"""The file format of a classifier: a plain `.keras` file with vggft's own JSON added to the zip."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..errors import ClassifierFileError
from ..evaluation.checks import evaluate
from ..evaluation.evaluation import Evaluation
from ..network.description import Description, build
from ..pictures.reading import RULES
from ..run import whole_file

MEMBER = "vggft.json"
EVALUATION_MEMBER = "vggft_evaluation.npz"


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


def read_archive(path: Path) -> tuple[keras.Model, Description, Evaluation | None, dict[str, Any]]:
    """Read a file that `write_archive` wrote. The network is rebuilt from its JSON; only weights are read, never code.

    Raises:
        ClassifierFileError: the file does not exist, is damaged, or was not written by vggft.
    """
    if not path.is_file():
        raise ClassifierFileError(f"There is no classifier file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                raise ClassifierFileError(
                    f"{path} is a .keras file, but vggft did not write it (it contains no {MEMBER}). "
                    "keras.models.load_model may open it."
                )
            content = json.loads(archive.read(MEMBER))
            weights = archive.read("model.weights.h5")
            judged = archive.read(EVALUATION_MEMBER) if EVALUATION_MEMBER in archive.namelist() else None
        if content.get("format", 1) > Description.format or content.get("resize") not in RULES.values():
            raise ClassifierFileError(
                f"{path} was saved by vggft {content.get('versions', {}).get('vggft')}, which resizes images by "
                f"{content.get('resize')!r} (format {content.get('format')}); this version knows "
                f"{', '.join(RULES.values())} "
                f"(format {Description.format}). Open it with the version that saved it."
            )
        description = Description.from_dict(content)
        model = build(description)
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "model.weights.h5").write_bytes(weights)
            model.load_weights(Path(directory) / "model.weights.h5")
    except ClassifierFileError:
        raise
    except Exception as error:  # a damaged zip, JSON or HDF5 may raise anything
        raise ClassifierFileError(
            f"{path} cannot be read as a classifier ({error}). The file was probably only partly copied."
        ) from error
    evaluation = None if judged is None else _unpack_evaluation(judged, description)
    return model, description, evaluation, content


def _pack_evaluation(evaluation: Evaluation) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(
        file,
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
        )
