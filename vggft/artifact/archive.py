"""The file format of a classifier: a plain `.keras` file with vggft's own JSON added to the zip."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import h5py
import keras
import numpy as np

from ..engine import own_settings
from ..errors import ClassifierFileError, WeightsError, some
from ..evaluation.checks import evaluate
from ..evaluation.evaluation import Evaluation
from ..fields import shown
from ..files.archives import check_array, check_finite, open_archive, open_arrays
from ..files.documents import DocumentError, parse_document
from ..files.opening import open_file, special
from ..files.schemas import Epoch
from ..files.writing import whole_file
from ..network.description import Description, build
from ..pictures.reading import RULES
from ..trust.trust import Trust
from ..weightfiles.files import kind_of
from ..weightfiles.hdf5 import check_tree

ZIP = "zip archive"
MEMBER = "vggft.json"
EVALUATION_MEMBER = "vggft_evaluation.npz"
TRUST_MEMBER = "vggft_trust.npz"
WEIGHTS = "model.weights.h5"  # as Keras names it


class Contents(TypedDict, total=False):
    """What the JSON holds besides the fields of a `Description`, which are looked at when its format is known."""

    format: int
    versions: dict[str, str]
    history: list[Epoch]
    seen: dict[str, list[str]] | list[str]  # the latter in files of earlier versions
    evaluation: dict[str, Any]


def write_archive(
    path: Path,
    model: keras.Model,
    description: Description,
    evaluation: Evaluation | None,
    trust: Trust,
    more: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a classifier, and check that plain Keras predicts the same from the file before it is put in place.

    Args:
        path: the `.keras` file.
        model: the network.
        description: the description, saved as JSON.
        evaluation: an evaluation to save with its probabilities, if any.
        trust: what is known of its limits.
        more: further values for the JSON.
        overwrite: replace a file that exists.

    Raises:
        ConfigError: the file exists, and `overwrite` is not set.
        ClassifierFileError: the network that was read back predicts something else.
    """
    probe = np.random.default_rng(0).integers(0, 256, (1, *description.size, 3)).astype("float32")
    with whole_file(path, overwrite) as aside:
        model.save(aside)
        content = description.to_dict()
        with zipfile.ZipFile(aside, "a") as archive:
            if evaluation is not None:
                content["evaluation"] = evaluation.to_dict()
                archive.writestr(EVALUATION_MEMBER, _pack_evaluation(evaluation))
            if trust:
                archive.writestr(TRUST_MEMBER, trust.to_bytes())
            content |= more
            archive.writestr(MEMBER, text := json.dumps(content))  # in ASCII, of which much can be read
            parse_document(text, Contents, nan=True)
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
def read_archive(path: Path) -> tuple[keras.Model, Description, Evaluation | None, Trust, dict[str, Any]]:
    """Read a file that `write_archive` wrote. The network is rebuilt from its JSON; only weights are read, never code.

    Raises:
        ClassifierFileError: the file does not exist, is damaged, or was not written by vggft.
    """
    if not path.is_file():
        raise ClassifierFileError(
            f"{path} {told}." if (told := special(path)) else f"There is no classifier file {path}."
        )
    part = ZIP  # what is being read
    try:
        with open_file(path) as file:
            if (kind := kind_of(file)) != "keras":
                raise ClassifierFileError(
                    f"{path} holds weights ({kind}) and no classifier; a weights file may be the backbone of one."
                )
            with open_archive(file) as archive, tempfile.TemporaryDirectory() as folder:
                if MEMBER not in archive.namelist():
                    raise ClassifierFileError(
                        f"{path} is a .keras file, but vggft did not write it (it contains no {MEMBER}). "
                        "keras.models.load_model may open it, and it may be a backbone if it contains a VGG."
                    )
                part = MEMBER
                content = parse_document(archive.read(MEMBER), Contents, nan=True)
                if content.get("format", 1) > Description.format or content.get("resize") not in RULES.values():
                    raise ClassifierFileError(
                        f"{path} was saved by vggft {content.get('versions', {}).get('vggft')}, which resizes images "
                        f"by {shown(content.get('resize'))} (format {content.get('format')}); this version knows "
                        f"{', '.join(RULES.values())} "
                        f"(format {Description.format}). Open it with the version that saved it."
                    )
                description = Description.from_dict(content)
                part = WEIGHTS
                model = _with_weights(description, Path(archive.extract(WEIGHTS, folder)))
                part, evaluation = EVALUATION_MEMBER, None
                if EVALUATION_MEMBER in archive.namelist():
                    evaluation = _unpack_evaluation(archive.read(EVALUATION_MEMBER), description, path.stat().st_size)
                part, trust = TRUST_MEMBER, Trust()
                if TRUST_MEMBER in archive.namelist():
                    about = path.stat().st_size, description.width, len(description.class_names)
                    trust = Trust.from_bytes(archive.read(TRUST_MEMBER), *about)
    except ClassifierFileError:
        raise
    except (DocumentError, WeightsError) as error:
        told = f"cannot be read as a classifier, its {part} {error}" if part != ZIP else f"{error}"
        raise ClassifierFileError(f"{path} {told}. Expected a .keras file that vggft wrote.") from error
    except Exception as error:  # a damaged zip, JSON or HDF5 may raise anything
        told = str(error).rstrip(".") or type(error).__name__
        raise ClassifierFileError(f"{path} cannot be read as a classifier, its {part}: {told}.") from error
    return model, description, evaluation, trust, content


def _with_weights(description: Description, file: Path) -> keras.Model:
    """Build a network with the weights of an HDF5 file, of which everything is known before anything is allocated.

    Raises:
        WeightsError: the weights are not those of the network, or not finite; the message names one.
    """
    with file.open("rb") as content, h5py.File(content, "r") as tree:
        there = Counter(check_tree(tree, content))
    for name, shape in description.weight_shapes.items():
        if not there[shape]:
            raise WeightsError(f"lacks {name} of shape {shape}, which belongs to the network that {MEMBER} describes")
        there[shape] -= 1
    model = build(description)
    model.load_weights(file)
    for layer in model.layers:
        for weight in layer.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                raise WeightsError(f"has NaN or infinity in {layer.name}/{weight.name}")
    return model


def read_seen(content: Mapping[str, Any]) -> dict[str, str]:
    """Return digest -> split. Earlier versions stored one list of train and validation images: all are "train"."""
    stored = content.get("seen", {})
    by_split = stored if isinstance(stored, Mapping) else {"train": stored}
    return {digest: split for split, digests in by_split.items() for digest in digests}


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


def _unpack_evaluation(packed: bytes, description: Description, size: int) -> Evaluation:
    classes, several = len(description.class_names), description.multi_label
    with open_arrays(io.BytesIO(packed), size) as arrays:
        expected = {"probabilities": ("f", (None, classes)), "names": ("U", (None,)), "split": ("U", ())}
        expected["labels"] = ("iu", (None, classes) if several else (None,))
        if lacking := sorted(set(expected) - set(arrays)):
            raise DocumentError(f"lacks the array {lacking[0]}")
        if "pictures" in arrays:
            expected["pictures"] = ("iu", (None,))
        for name, (kinds, shape) in expected.items():
            check_array(name, arrays[name], kinds, shape)
        stored = {name: np.asarray(each) for name, each in arrays.items()}
    metadata = {}
    if "metadata" in stored:
        metadata = parse_document(str(stored["metadata"]), dict[str, list[str]])
    check_finite("probabilities", stored["probabilities"])
    return evaluate(
        stored["labels"],
        stored["probabilities"],
        description.class_names,
        split=str(stored["split"]),
        multi_label=description.multi_label,
        names=tuple(stored["names"].tolist()),
        thresholds=description.thresholds,
        metadata=metadata,
        pictures=stored["pictures"].tolist() if "pictures" in stored else (),
    )
