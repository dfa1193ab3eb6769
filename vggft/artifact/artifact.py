"""A trained network with everything that is known about it, which can predict, evaluate, save and load."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from ..cache import Cache
from ..data.arrays import as_sequence, is_single_image, read_images
from ..data.dataset import open_dataset
from ..data.scan import decode
from ..data.streams import Keep
from ..errors import ClassifierFileError, DataError
from ..evaluation.checks import evaluate
from ..evaluation.evaluation import Evaluation
from ..network.description import Classification, Description
from ..network.forward import between, forward
from ..progress import Narrator
from .archive import read_archive, write_archive
from .record import Record, read_record

LEARNED_FROM = "The classifier was trained or chosen on"  # beginning of the warning of `evaluate`


class Artifact:
    """A trained network, its description, and what is known about how it was made.

    Args:
        keras_model, description, evaluation, history, seen, record: as for `vggft.Classifier`, which only adds methods.
    """

    def __init__(
        self,
        keras_model: keras.Model,
        description: Description,
        evaluation: Evaluation | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        seen: Collection[str] = frozenset(),
        record: Record | Path | None = None,
    ):
        self._keras_model = keras_model
        self.description = description
        self.evaluation = evaluation
        self.history = history
        self.seen = seen
        self._record = record
        self._halves: dict[str, tuple[keras.Model, keras.Model]] = {}

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file that `save` wrote; see `vggft.load`."""
        path = Path(path)
        model, description, evaluation, more = read_archive(path)
        in_run = path.name == "classifier.keras" and (path.parent / "config.json").exists()
        seen, history = frozenset(more.get("seen", ())), more.get("history", ())
        return cls(model, description, evaluation, history, seen, path.resolve().parent if in_run else None)

    @property
    def keras_model(self) -> keras.Model:
        """The network as a plain `keras.Model`: (B, S, S, 3) RGB 0..255 -> (B, num_classes) float32 probabilities."""
        return self._keras_model

    @keras_model.setter
    def keras_model(self, model: keras.Model) -> None:
        self._keras_model, self._halves = model, {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the output columns."""
        return self.description.class_names

    @property
    def record(self) -> Record:
        """How the classifier was made: configuration, audit, trials. Empty for a file outside its run directory."""
        if isinstance(self._record, Path):
            self._record = read_record(self._record)
        return self._record or Record()

    @record.setter
    def record(self, value: Record) -> None:
        self._record = value

    def __repr__(self) -> str:
        d, found = self.description, self.evaluation
        judged = "" if found is None else f", {found.split} accuracy {found['accuracy']:.3f}"
        return f"<{type(self).__name__} of {len(d.class_names)} classes at {d.image_size} px on {d.backbone}{judged}>"

    def halves(self, block: str) -> tuple[keras.Model, keras.Model]:
        """Return the network up to the last convolution of a block, and from there to the logits.

        They are built once per block and kept: Keras stores every model built from a layer in that layer, so building
        them for each explanation would let a server grow without limit.
        """
        if block not in self._halves:
            layer = [each.name for each in self.keras_model.layers if each.name.startswith(f"{block}_conv")][-1]
            self._halves[block] = between(self.keras_model, None, layer), between(self.keras_model, layer, "logits")
        return self._halves[block]

    def predict(self, pictures: Any, batch_size: int = 32, verbose: int = 0) -> np.ndarray:
        """Predict class probabilities for images.

        Args:
            pictures: a file, an array (H, W, 3), or several: a list of files or arrays, or an array (N, H, W, 3).
                Arrays are RGB in 0..255 (uint8 or float) or 0..1 (float), of any size. Files are rotated by their EXIF
                orientation.
            batch_size: number of images per batch.
            verbose: 1 shows a progress bar.

        Returns:
            (N, num_classes) float32. Rows sum to one, unless images may have several labels: then each column is an
            independent probability.

        Raises:
            DataError: some images cannot be read; the message names all of them.
        """
        pictures, _ = as_sequence(pictures)
        with Narrator(verbose).bar("predict", len(pictures)) as advance:
            return np.concatenate(
                [
                    forward(self.keras_model, pixels, batch_size=batch_size, advance=advance)
                    for _, pixels in read_parts(pictures, self.description.image_size)
                ]
            )

    def classify(self, picture: Any) -> Classification | list[Classification]:
        """Predict labels with their probabilities.

        Args:
            picture: one or several images, as for `predict`.

        Returns:
            One `Classification` for one image, a list for several.
        """
        found = [self.describe(row) for row in self.predict(picture)]
        return found[0] if is_single_image(picture) else found

    def describe(self, probabilities: np.ndarray) -> Classification:
        """Turn one row of `predict`, (num_classes,), into labels with probabilities."""
        return self.description.describe(probabilities)

    def evaluate(self, dataset: Any, *, split: str | None = None, batch_size: int = 32, verbose: int = 0) -> Evaluation:
        """Evaluate on labelled images.

        Warns if some of them were used for training or model selection, since the results are then too optimistic.

        Args:
            dataset: any kind of dataset with labels among `class_names`.
            split: the split of the dataset to use; None for its test split, or all images if it has no splits.
            batch_size: number of images per batch.
            verbose: 1 shows progress bars.

        Raises:
            DataError: images cannot be read or labels are unknown; the message lists all of them.
        """
        size, cache, narrator = self.description.image_size, Cache(), Narrator(verbose)
        keep = Keep(size, cache, narrator)
        parts = open_dataset(dataset, None, self.class_names, self.description.multi_label, keep=keep)
        name = split or next(name for name in ("test", "all", *parts) if name in parts)
        if name not in parts:
            raise DataError(f"The dataset has no split {name!r}; it has {', '.join(parts)}. Pass one of them as split.")
        data = parts[name]
        pixels, found = decode(data, size, cache, narrator)
        if found.problems:
            raise DataError.listing("Some images cannot be evaluated", found.problems.values())
        if known := sum(digest in self.seen for digest in found.digests):
            warnings.warn(f"{LEARNED_FROM} {known} of these {len(data)} images, so this is not a test.", stacklevel=2)
        with narrator.bar("predict", len(data)) as advance:
            probabilities = forward(self.keras_model, pixels, batch_size=batch_size, advance=advance)
        return evaluate(
            data.labels,
            probabilities,
            self.class_names,
            split=name,
            multi_label=self.description.multi_label,
            names=data.names,
            thresholds=self.description.thresholds,
            metadata=data.metadata,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save as one `.keras` file, which plain `keras.models.load_model` opens too.

        The file is written under a temporary name, loaded by plain Keras, and renamed only if its predictions agree.

        Raises:
            ClassifierFileError: the name does not end in `.keras`, or the saved file predicts something else.
        """
        path = Path(path)
        if path.suffix != ".keras":
            raise ClassifierFileError(f"A classifier is saved as a .keras file; got {path.name!r}.")
        more = {"history": list(self.history), "seen": sorted(self.seen)}
        write_archive(path, self.keras_model, self.description, self.evaluation, more)
        return path


def read_parts(pictures: Any, image_size: int, at_once: int = 256) -> Iterator[tuple[int, np.ndarray]]:
    """Read images in parts, so that memory does not limit their number.

    Args:
        pictures: as for `Artifact.predict`.
        image_size: side in pixels, S.
        at_once: maximum number of images per part, n.

    Yields:
        The index of the first image of the part, and its pixels, (n, S, S, 3) in 0..255.

    Raises:
        DataError: after the last part, naming every image that cannot be read.
    """
    pictures, value_range = as_sequence(pictures)
    problems: list[str] = []
    for start in range(0, len(pictures), at_once):
        pixels, found = read_images(pictures[start : start + at_once], image_size, start, value_range)
        problems += found
        if not problems:
            yield start, pixels
    if problems:
        raise DataError.listing("Some images cannot be read", problems)
