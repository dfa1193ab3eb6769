"""A trained network with everything that is known about it, which can predict, evaluate, save and load."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np

from ..augment import Augment
from ..caching.cache import Cache
from ..engine import keras, own_settings
from ..errors import ClassifierFileError, short_traceback
from ..evaluation.evaluation import Evaluation
from ..fields import as_path, shown
from ..heads.history import History
from ..network.assembly import Network
from ..network.description import Classification, Description
from ..telling.display import score
from ..trust.strangers import SHARE
from ..trust.trust import Trust
from .archive import classifier_file, read_archive, read_seen, write_archive
from .inputs import inputs_of
from .known import KeptFeatures, kind_for
from .predictions import Predictions, evaluation_of, predictions_of
from .record import Record, of_same_images, read_record

A = TypeVar("A", bound="Artifact")


@short_traceback
class Artifact:
    """A trained network, its description, and what is known about how it was made.

    Args:
        keras_model, description, evaluation, history, seen, record, trust: as for `vggft.Classifier`, which only adds
            methods.
    """

    def __init__(
        self,
        keras_model: keras.Model | Network,
        description: Description,
        evaluation: Evaluation | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        seen: Mapping[str, str] | None = None,
        record: Record | Path | None = None,
        trust: Trust | None = None,
    ):
        self.network = keras_model if isinstance(keras_model, Network) else Network.of(keras_model, description)
        self.description = description
        self._evaluation, self._trust = evaluation, trust or Trust()
        self.history = History(history)
        self.seen = seen or {}
        self._record = record

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file that `save` wrote, or the one in a run directory; see `vggft.load`."""
        path = classifier_file(path)
        model, description, evaluation, trust, more = read_archive(path)
        in_run = path.name == "classifier.keras" and (path.parent / "config.json").exists()
        seen, history = read_seen(more), more.get("history", ())
        network = Network.of(model, description)
        return cls(network, description, evaluation, history, seen, path.resolve().parent if in_run else None, trust)

    @property
    def keras_model(self) -> keras.Model:
        """The network as a plain `keras.Model`: (B, S, S, 3) RGB 0..255 -> (B, num_classes) float32 probabilities."""
        return self.network.hand_out()

    @keras_model.setter
    def keras_model(self, model: keras.Model) -> None:
        self.network.hand_out()
        before, self.network = self.network, Network.of(model, self.description)
        self.network.handed_out = before.handed_out

    @property
    def evaluation(self) -> Evaluation | None:
        """The evaluation of these weights; None if there is none, or if `keras_model` has been changed since."""
        self._forget_other_weights()
        return self._evaluation

    @evaluation.setter
    def evaluation(self, evaluation: Evaluation | None) -> None:
        self._trust = Trust() if self.network.has_changed() else self._trust
        if evaluation is not None and not of_same_images(self._evaluation, evaluation):
            self._record = self.record.without_images()
        self._evaluation = evaluation
        self.network.settle()

    @property
    def trust(self) -> Trust:
        """What is known of its limits: strangers, held-out images; nothing once `keras_model` has been changed."""
        self._forget_other_weights()
        return self._trust

    @trust.setter
    def trust(self, trust: Trust) -> None:
        self._trust = trust

    def _forget_other_weights(self) -> None:
        """Drop what is known of weights that have been changed since."""
        if (self._evaluation is not None or self._trust) and self.network.has_changed():
            self._evaluation, self._trust = None, Trust()
            warnings.warn(
                "The weights of keras_model have changed since this classifier was evaluated, so its evaluation, and "
                "what it knew of strangers and coverage, is dropped: evaluate it again, on images that it has not "
                "learned from.",
                stacklevel=3,
            )

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
        judged = "" if found is None else f", {found.split} {found.headline} {score(found[found.headline])}"
        return f"<{type(self).__name__} of {len(d.class_names)} classes at {d.reading.told()} on {d.backbone}{judged}>"

    @own_settings()
    def predict(
        self,
        pictures: Any,
        batch_size: int = 32,
        verbose: int = 0,
        *,
        views: int | Augment = 1,
        as_frame: bool = False,
        on_bad_image: Literal["raise", "skip"] = "raise",
        strangers: bool | float = False,
    ) -> Any:
        """Predict class probabilities for images.

        Args:
            pictures: a file, an array (H, W, 3), or several: a list of files or arrays, an array (N, H, W, 3), a folder
                (with the images in all folders inside, sorted), a CSV file or DataFrame of files, a `vggft.Table`, a
                `tf.data.Dataset`, a `keras.utils.PyDataset`, a Hugging Face dataset, tensors, or a generator; labels
                that come with them are left out. Arrays are RGB in 0..255 (uint8 or float) or 0..1 (float), or in the
                range of the training images if these had more than 8 bits; of any size. Files are rotated by their EXIF
                orientation.
            batch_size: number of images per batch.
            verbose: 1 shows a progress bar.
            views: number of views of each image over which the probabilities are averaged: the image, its mirror image,
                and further ones that are cropped by up to a tenth of each side; or an `Augment` with a number of views,
                the first of which is the image itself. The views of an image are the same every time. Each takes a
                pass through the whole network.
            as_frame: return a `pandas.DataFrame` with a row for each image: `image` (its file, or "images[3]"), `label`
                (several are joined by "|"), `probability` (the highest), and a column for each class; and `error` with
                `on_bad_image="skip"`.
            on_bad_image: `"skip"` gives an image that cannot be read a row of NaN instead of raising an error.
            strangers: also tell which images are of none of the classes: return (N,) float32 distances besides, where 0
                is usual and those above 1 are of strangers; in a DataFrame these are columns `stranger` and `distance`.
                A number in (0, 1) is the share of the images of the classes that may be taken for strangers, 0.05 for
                True; the limit comes from held-out images. How sure that is: docs/trust.md.

        Returns:
            (N, num_classes) float32, or a DataFrame. Rows sum to one, unless images may have several labels: then each
            column is an independent probability. With `strangers` a tuple of these and the distances.

        Raises:
            DataError: some images cannot be read; the message names all of them.
            ConfigError: impossible `views`, `on_bad_image` or `strangers`, or the classifier knows of no strangers.
        """
        found = self.predictions(
            pictures, batch_size, verbose, views=views, on_bad_image=on_bad_image, strangers=strangers
        )
        if as_frame:
            return found.to_frame()
        return found.probabilities if found.distances is None else (found.probabilities, found.distances)

    @own_settings()
    def predictions(
        self,
        pictures: Any,
        batch_size: int = 32,
        verbose: int = 0,
        *,
        views: int | Augment = 1,
        on_bad_image: Literal["raise", "skip"] = "raise",
        strangers: bool | float = False,
    ) -> Predictions:
        """Predict as `predict` does, and return names, labels and errors as well, which `to_csv` writes."""
        how: dict[str, Any] = {"views": views, "on_bad_image": on_bad_image, "verbose": verbose}
        if strangers is not False:
            how |= {"strangers": self.trust.known_strangers(), "share": SHARE if strangers is True else strangers}
        return predictions_of(self.network, self.description, self.kept_features, pictures, batch_size, **how)

    def kept_features(self) -> KeptFeatures | None:
        """Return the features that the cache may have of images that this classifier sees; None if it has none."""
        cache = Cache()
        kind = kind_for(self.network, self.description) if cache.has("features") else None
        return None if kind is None else KeptFeatures(self.network, kind, cache)

    def classify(self, picture: Any) -> Classification | list[Classification]:
        """Predict labels with their probabilities, and whether an image is of none of the classes, if that is known.

        Args:
            picture: one or several images, as for `predict`.

        Returns:
            One `Classification` for one image, a list for several.
        """
        given = inputs_of(picture)
        found = list(self.predictions(given.images, strangers=self.trust.strangers is not None).found)
        return found[0] if given.single else found  # type: ignore[return-value]

    def describe(self, probabilities: np.ndarray) -> Classification:
        """Turn one row of `predict`, (num_classes,), into labels with probabilities."""
        return self.description.describe(probabilities)

    @own_settings()
    def evaluate(
        self,
        dataset: Any,
        *,
        split: str | None = None,
        batch_size: int = 32,
        verbose: int = 0,
        views: int | Augment = 1,
        class_names: Sequence[str] | Mapping[str, int] | None = None,
    ) -> Evaluation:
        """Evaluate on labelled images.

        Warns if some of them were used for training or model selection, since the results are then too optimistic.

        Args:
            dataset: any kind of dataset with labels among `class_names`.
            split: the split of the dataset to use; None for its test split, else all images, or the validation split.
            batch_size: number of images per batch.
            verbose: 1 shows progress bars.
            views: number of views over which the probabilities of each image are averaged, as for `predict`.
            class_names: what the integer labels 0, 1, ... of the dataset stand for, if the dataset does not say so
                itself; None for the classes of this classifier, in its order.

        Raises:
            DataError: images cannot be read or labels are unknown; the message lists all of them.
            ConfigError: impossible `views`.
        """
        how: dict[str, Any] = {"split": split, "batch_size": batch_size, "verbose": verbose, "views": views}
        about = self.network, self.description, self.kept_features, self.seen
        return evaluation_of(*about, dataset, class_names=class_names, **how)

    @own_settings()
    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Save as one `.keras` file, which plain `keras.models.load_model` opens too.

        The file is written under a temporary name, loaded by plain Keras, and renamed only if its predictions agree.

        Args:
            path: the file.
            overwrite: replace a file that exists.

        Raises:
            ConfigError: the file exists, and `overwrite` is not set.
            ClassifierFileError: the name does not end in `.keras`, or the saved file predicts something else.
        """
        path = as_path(path)
        if path.suffix != ".keras":
            raise ClassifierFileError(f"A classifier is saved as a .keras file; got {shown(path.name)}.")
        splits = sorted(set(self.seen.values()))
        seen = {split: sorted(digest for digest, its in self.seen.items() if its == split) for split in splits}
        more = {"history": list(self.history), "seen": seen}
        write_archive(path, self.network.model, self.description, self.evaluation, self.trust, more, overwrite)
        return path

    def __reduce__(self) -> Any:
        """Pickle as the file that `save` writes, since a Keras model is not more than that."""
        with tempfile.TemporaryDirectory() as folder:
            return _from_bytes, (type(self), self.save(Path(folder) / "pickled.keras").read_bytes(), self._record)


def _from_bytes(cls: type[A], content: bytes, record: Record | Path | None) -> A:
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "pickled.keras").write_bytes(content)
        found = cls.from_file(path)
    found._record = record
    return found
