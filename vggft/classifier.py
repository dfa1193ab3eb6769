"""Preprocessing, backbone, head and class names as one: predict, classify, evaluate, save, load."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from markupsafe import Markup

from .artifact.archive import read_archive, write_archive
from .artifact.explain import Explanation, explain
from .artifact.record import Record, read_record
from .cache import Cache
from .data.arrays import as_sequence, is_single_image, read_images
from .data.dataset import open_dataset
from .data.scan import decode
from .deploy.export import Export, export, to_compare_on
from .display import render
from .errors import ClassifierFileError, ConfigError, DataError
from .evaluation.calibration import Calibration
from .evaluation.checks import evaluate
from .evaluation.evaluation import Evaluation, calibrated
from .network.description import Classification, Description
from .network.forward import forward
from .network.head import divide_logits
from .network.vgg import draw
from .progress import Narrator
from .report.card import write_card
from .report.report import write_report


class Classifier:
    """A fine-tuned classifier. `vggft.finetune`, `vggft.search` and `vggft.load` make it.

    Args:
        keras_model: plain `keras.Model`, (B, S, S, 3) RGB 0..255 -> (B, num_classes) float32 probabilities.
        description: class names, image size and architecture.
        evaluation: how it did on images that it was not fitted on.
        history: one row an epoch.
        seen: digests of the images that it was trained or chosen on, so that `evaluate` can tell.
        record: what made it, or the run directory that says so.
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
        self.keras_model = keras_model
        self.description = description
        self.evaluation = evaluation
        self.history = history
        self.seen = seen
        self._record = record

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the output's columns."""
        return self.description.class_names

    @property
    def record(self) -> Record:
        """What made it: configuration, audit, trials; empty where a file has left its run directory."""
        if isinstance(self._record, Path):
            self._record = read_record(self._record)
        return self._record or Record()

    @record.setter
    def record(self, value: Record) -> None:
        self._record = value

    def __repr__(self) -> str:
        d = self.description
        judged = (
            "" if self.evaluation is None else f", {self.evaluation.split} accuracy {self.evaluation['accuracy']:.3f}"
        )
        return f"<Classifier of {len(d.class_names)} classes at {d.image_size} px on {d.backbone}{judged}>"

    def _repr_html_(self) -> str:
        judged = None if self.evaluation is None else Markup(self.evaluation._repr_html_())
        return render("classifier.html", description=self.description, evaluation=judged)

    def predict(self, pictures: Any, batch_size: int = 32, verbose: int = 0) -> np.ndarray:
        """Probabilities for images.

        Args:
            pictures: a file, an array (H, W, 3), or several: a list of files or arrays, or an array (N, H, W, 3).
                Arrays are RGB in 0..255 (uint8 or float) or 0..1 (float). Any size; files are turned upright.
            batch_size: images at once.
            verbose: 1 draws a progress bar.

        Returns:
            (N, num_classes) float32: rows that sum to one, or with several labels to an image, one probability each.

        Raises:
            DataError: naming every image that cannot be read.
        """
        pictures, value_range = as_sequence(pictures)
        outputs: list[np.ndarray] = []
        problems: list[str] = []
        with Narrator(verbose).bar("predict", len(pictures)) as advance:
            for start in range(0, len(pictures), 256):  # so that a folder of any size fits into memory
                part = pictures[start : start + 256]
                pixels, found = read_images(part, self.description.image_size, start, value_range)
                problems += found
                if not problems:
                    outputs.append(forward(self.keras_model, pixels, batch_size=batch_size, advance=advance))
        if problems:
            raise DataError.listing("Some images cannot be read", problems)
        return np.concatenate(outputs)

    def classify(self, picture: Any) -> Classification | list[Classification]:
        """Labels with probabilities, in words; for one picture one `Classification`, for several a list.

        Args:
            picture: as for `predict`.
        """
        found = [self.describe(row) for row in self.predict(picture)]
        return found[0] if is_single_image(picture) else found

    def describe(self, probabilities: np.ndarray) -> Classification:
        """A row of `predict` in words."""
        return self.description.describe(probabilities)

    def evaluate(self, dataset: Any, *, split: str | None = None, batch_size: int = 32, verbose: int = 0) -> Evaluation:
        """Judge the classifier on labelled images.

        Warns where it was trained or chosen on some of them, since it then looks better than it is.

        Args:
            dataset: any kind of dataset with labels among `class_names`.
            split: which part of a dataset that is split; None is its test part, or else all of it.

        Raises:
            DataError: images that cannot be read or labels that the classifier does not know, all at once.
        """
        parts = open_dataset(dataset, class_names=self.class_names, multi_label=self.description.multi_label)
        name = split or next(name for name in ("test", "all", *parts) if name in parts)
        if name not in parts:
            raise DataError(f"The dataset has no part {name!r}; it has {', '.join(parts)}. Name one of them as split.")
        data, size = parts[name], self.description.image_size
        narrator = Narrator(verbose)
        pixels, found = decode(data, size, Cache(), narrator)
        if found.problems:
            raise DataError.listing("Some images cannot be evaluated", found.problems.values())
        if known := sum(digest in self.seen for digest in found.digests):
            warnings.warn(
                f"The classifier was trained or chosen on {known} of these {len(data)} images, so this is not a test.",
                stacklevel=2,
            )
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

    def calibrate(self, dataset: Any, *, split: str | None = None, verbose: int = 0) -> Calibration:
        """Have probabilities mean what they say: fit a temperature and divide the logits by it, for good.

        Its evaluation is brought along, so that `print` of what is returned says whether that helped on other images.
        Which class is the likeliest never changes.

        Args:
            dataset: labelled images that it did not learn from: validation images, as a rule, and not the test ones.
            split: as for `evaluate`.
        """
        judged = self._to_fit_on(dataset, split, verbose)
        held = self.evaluation
        others = {} if held is None or held.split == judged.split else {held.split: held}
        calibration, _ = calibrated({judged.split: judged, **others}, judged.split)
        value = calibration.temperature
        divide_logits(self.keras_model, value)
        self.description = dataclasses.replace(self.description, temperature=self.description.temperature * value)
        self.evaluation = None if held is None else held.at_temperature(value)
        return calibration

    def tune_thresholds(self, dataset: Any, *, split: str | None = None, verbose: int = 0) -> tuple[float, ...]:
        """With several labels to an image, take for each the threshold of the highest F1 on some images, for good.

        Args:
            dataset: labelled images that it did not learn from: validation images, as a rule, and not the test ones.
            split: as for `evaluate`.

        Returns:
            One a class, 0..1; its evaluation is brought along.

        Raises:
            ConfigError: images have one label each, so the likeliest class is given whatever its probability.
        """
        if not self.description.multi_label:
            raise ConfigError("Thresholds are for images with several labels each; here the likeliest class is given.")
        cuts = self._to_fit_on(dataset, split, verbose).best_thresholds()
        self.description = dataclasses.replace(self.description, thresholds=tuple(cuts.tolist()))
        if self.evaluation is not None:
            self.evaluation = dataclasses.replace(self.evaluation, thresholds=cuts)
        return tuple(cuts.tolist())

    def _to_fit_on(self, dataset: Any, split: str | None, verbose: int) -> Evaluation:
        """An evaluation to fit something on; that it was chosen by these images is as it should be."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The classifier was trained or chosen on", category=UserWarning)
            return self.evaluate(dataset, split=split, verbose=verbose)

    def explain(
        self, pictures: Any, label: str | Sequence[str] | None = None, block: str = "block5"
    ) -> Explanation | list[Explanation]:
        """Where in a picture the classifier saw a class, by Grad-CAM; for one picture one `Explanation`.

        Args:
            pictures: as for `predict`.
            label: the class to explain, or one for each picture; None is the likeliest of each.
            block: whose maps are looked at: `"block5"` knows best what, earlier blocks see more finely where.

        Raises:
            DataError: pictures that cannot be read.
            ConfigError: an unknown class or block.
        """
        found = explain(self.keras_model, self.description, pictures, label, block)
        return found[0] if is_single_image(pictures) else found

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write all there is to see of it as one HTML file that loads nothing: data, network, curves, metrics with
        intervals, confusions, reliability, top losses with Grad-CAM, how to repeat it.

        A classifier that was saved elsewhere has left its run directory, so its report has no audit and no search.
        """
        return write_report(self, path)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        precision: str = "float32",
        dataset: Any = None,
        overwrite: bool = False,
    ) -> Export:
        """Write it for another runtime: `.onnx`, `.tflite` (LiteRT), or a name without suffix for a SavedModel.

        It is read back by that runtime and compared with this classifier on real images before it takes its place.

        Args:
            precision: `"float32"`, for LiteRT also `"float16"` or `"int8"`; what int8 costs in accuracy is told.
            dataset: labelled images to compare on; None takes those that it was judged on, if they are still there.
            overwrite: replace what is at `path`.

        Raises:
            ConfigError: an unknown format or precision, a missing package (it says which extra to install), something
                there already, or no images to compare on.
            ExportError: read back it does not say the same; nothing is left behind.
        """
        pictures, labels = to_compare_on(self.description, dataset, self.evaluation, self.record)
        how: dict[str, Any] = {"precision": precision, "overwrite": overwrite}
        return export(self.keras_model, self.description, path, pictures=pictures, labels=labels, **how)

    def model_card(self, path: str | os.PathLike[str]) -> Path:
        """Write a model card (`MODEL_CARD.md`) in the form that model hubs read; its prose is yours to complete."""
        return write_card(self, path)

    def draw(self, path: str | os.PathLike[str]) -> Path:
        """A picture of the network with shapes, by `keras.utils.plot_model`."""
        return draw(self.keras_model, path)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save as one `.keras` file, which plain `keras.models.load_model` opens too.

        The file is written aside, opened again by plain Keras, and renamed only if both give the same predictions.

        Raises:
            ClassifierFileError: a name that does not end in `.keras`, or a file that does not predict the same.
        """
        path = Path(path)
        if path.suffix != ".keras":
            raise ClassifierFileError(f"A classifier is saved as a .keras file; got {path.name!r}.")
        more = {"history": list(self.history), "seen": sorted(self.seen)}
        write_archive(path, self.keras_model, self.description, self.evaluation, more)
        return path


def load(path: str | os.PathLike[str]) -> Classifier:
    """Open a classifier that `Classifier.save` wrote.

    The network is rebuilt from our JSON in the file and only weights are read from it: no code in a file is ever run.

    Raises:
        ClassifierFileError: no such file, damaged, or a `.keras` file that vggft did not write.
    """
    path = Path(path)
    model, description, evaluation, more = read_archive(path)
    seen, history = frozenset(more.get("seen", ())), more.get("history", ())
    made_here = path.name == "classifier.keras" and (path.parent / "config.json").exists()
    return Classifier(model, description, evaluation, history, seen, path.resolve().parent if made_here else None)
