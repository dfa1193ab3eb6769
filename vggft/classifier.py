"""The public classifier: an artifact that can be adjusted, with methods to update, explain, report and export it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .arguments import refuse_arguments
from .artifact.adjust import Adjustable
from .artifact.inputs import inputs_of
from .errors import short_traceback

if TYPE_CHECKING:
    from .artifact.explain import Explanation, Explanations
    from .deploy.export import Export
    from .labelling import Ranking
    from .trust.conformal import Coverage, Method, PredictionSets


@short_traceback
class Classifier(Adjustable):
    """A fine-tuned classifier, as returned by `vggft.finetune`, `vggft.search` and `vggft.load`.

    Args:
        keras_model: plain `keras.Model`, (B, height, width, 3) RGB 0..255 -> (B, num_classes) float32 probabilities.
        description: class names, image size and architecture.
        evaluation: results on images that the network was not fitted on.
        history: one row per epoch; `history["val_loss"]` and `history.history` are columns, `history.to_frame()` is a
            table.
        seen: digest of every image of its run -> `"train"`, `"validation"` or `"test"`, so that `evaluate` recognises
            what it was trained or selected on, and `update` keeps images in their splits. A file of an earlier version
            does not tell train and validation images apart: all of them are `"train"`, and test images are not listed.
        record: how it was made, or the run directory that holds this information.
        trust: what it knows of its limits: how far strangers are, and what held-out images were told.
    """

    def _repr_html_(self) -> str:
        from markupsafe import Markup

        from .telling.display import render

        evaluation = None if self.evaluation is None else Markup(self.evaluation._repr_html_())
        return render("classifier.html", description=self.description, evaluation=evaluation)

    def embed(self, pictures: Any, batch_size: int = 32, verbose: int = 0) -> np.ndarray:
        """Return an (N, C) float32 vector for each image, by which images can be compared, searched and mapped.

        These are the average-pooled outputs of the blocks that the head sees, their square roots, those of each block
        at length 1: the scalar product of two vectors is at most the number of blocks, for equal images. Arguments and
        errors are those of `predict`.
        """
        from .artifact.known import embed_images

        return embed_images(self.network, self.kept_features(), inputs_of(pictures).images, batch_size, verbose)

    def predict_sets(
        self, pictures: Any, coverage: float = 0.9, method: Method = "lac", *, batch_size: int = 32, verbose: int = 0
    ) -> PredictionSets:
        """Predict a set of classes for each image, which holds the true one for a promised share of the images.

        By split conformal prediction (arXiv:2107.07511): the limit comes from images that the classifier had not
        learned from, and the promise holds on average over images that are drawn like these, not for each class, nor
        for other kinds of images. `coverage` tells how it held on the evaluation's images, by class.

        Args:
            pictures, batch_size, verbose: as for `predict`.
            coverage: the share of sets that hold the true class, in (0, 1).
            method: `"lac"` for the smallest sets on average, or `"aps"` for larger sets of difficult images
                (arXiv:2006.02544; not randomised, so a picture always has the same set).

        Raises:
            DataError: some images cannot be read, or there were too few held-out images for this coverage.
            ConfigError: impossible `coverage` or `method`, or nothing is known of held-out images.
        """
        from .trust.conformal import PredictionSets

        limit = self.trust.limit(coverage, method, self.description.multi_label)
        return PredictionSets.of(self.predictions(pictures, batch_size, verbose), limit, coverage, method)

    def coverage(self, coverage: float = 0.9, method: Method = "lac") -> Coverage:
        """Count how often prediction sets hold the true class on the images of the evaluation, overall and by class.

        Raises:
            DataError, ConfigError: as for `predict_sets`; also if there is no evaluation on images that set no limit.
        """
        return self.trust.coverage(self.evaluation, coverage, method, self.description.multi_label)

    def update(self, dataset: Any, num_classes: int | None = None, **arguments: Any) -> Classifier:
        """Train this classifier further, with more images, corrected labels or new classes; it is itself unchanged.

        The head continues from its weights where classes agree. Old classes keep their columns, new ones come after
        them, sorted by name. The blocks are those of this classifier, so features of known images are not computed
        again if the run has the same precision and augmentation. If no class is new, the old head competes: it is kept
        unless an epoch is better on the validation images.

        An image stays in its split, also over several updates: what was once trained on never becomes a validation or
        test image. Only new images are split, so that the whole comes as near to the fractions as they allow.

        A linear probe on pretrained blocks is solved anew instead, from all images there are, and takes no weights from
        this classifier. Then only its test images stay apart, the others are split again, and a refit is the default as
        in `vggft.finetune`.

        Args:
            dataset: all images that there are now, old and new, of any kind that `vggft.finetune` takes. An image whose
                label has changed has its new label.
            num_classes: number of old and new classes, checked against the data; None for as many as now.
            arguments: any argument of `vggft.finetune` but `start`, with the same defaults: `freeze="all"` trains only
                the head; `validation`, `test`, `training`, `augment`, `precision`, `calibrate`, `run_dir` and `seed`
                are not taken from this classifier's own run. `head` is its head by default; one with other layers
                begins afresh. Thresholds and temperature are fitted again only if asked for.

        Returns:
            A new classifier.

        Raises:
            DataError, ConfigError, CacheError, RunError, FreezeError: as `vggft.finetune`; also if a class of this
                classifier has no images.
        """
        from .finetuning import fine_tune, open_start
        from .training.request import Request

        known = [field.name for field in dataclasses.fields(Request) if field.name != "start"]
        refuse_arguments("update", arguments, [*known, "tensorboard", "callbacks", "metrics"])
        during = {name: arguments.pop(name) for name in ("tensorboard", "callbacks", "metrics") if name in arguments}
        count = len(self.class_names) if num_classes is None else num_classes
        request = Request(dataset, count, start=open_start(self), **arguments)
        return fine_tune(request, type(self), **during)

    def explain(
        self, pictures: Any, label: str | Sequence[str] | None = None, block: str | None = None
    ) -> Explanation | Explanations:
        """Show where in an image the classifier saw a class, by Grad-CAM (arXiv:1610.02391).

        Args:
            pictures: one or several images, as for `predict`.
            label: the class to explain, or one for each image; None for the predicted class of each.
            block: the block whose feature maps are used. None is the last one that the head sees, as a rule block5,
                which is the most specific to the class; earlier blocks have a finer resolution.

        Returns:
            One `Explanation` for one image, a list of them for several; a notebook shows both as pictures.

        Raises:
            DataError: some images cannot be read; the message names all of them.
            ConfigError: an unknown class or block.
        """
        from .artifact.explain import explain

        given = inputs_of(pictures)
        found = explain(self, given.images, label, block)
        return found[0] if given.single else found

    def rank(
        self,
        pictures: Any,
        *,
        by: Literal["uncertainty", "diversity", "both"] = "both",
        number: int | None = None,
        on_bad_image: Literal["raise", "skip"] = "raise",
        verbose: int = 0,
    ) -> Ranking:
        """Order pictures without labels by what their labels would teach: which to label next.

        Pictures that this classifier has been made with are left out, and copies of others.

        Args:
            pictures: as for `predict`.
            by: `"uncertainty"` takes those between whose two most probable classes it can hardly decide, `"diversity"`
                those that are unlike all that it knows (k-centre, arXiv:1708.00489), `"both"` unlike ones among the
                uncertain. `docs/more_images.md` compares them with drawing lots.
            number: how many to choose; None orders all of them.
            on_bad_image: `"skip"` leaves out images that cannot be read instead of raising an error.
            verbose: 1 shows a progress bar.

        Returns:
            A `Ranking`: `to_csv`, `to_frame`, and `save` for a page of pictures.

        Raises:
            DataError: some images cannot be read; the message names all of them.
            ConfigError: an argument has an impossible value.
        """
        from .labelling import rank_pictures

        return rank_pictures(self, pictures, by=by, number=number, on_bad_image=on_bad_image, verbose=verbose)

    def report(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write a report as one self-contained HTML file: data, network, learning curves, metrics with intervals,
        confusion matrix, reliability, top losses with Grad-CAM, and how to repeat the run.

        Audit and search are missing from the report of a classifier that was saved outside its run directory. A file
        that exists is only replaced if `overwrite` is set, else there is a `ConfigError`.
        """
        from .report.report import write_report

        return write_report(self, path, overwrite)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        precision: str = "float32",
        dataset: Any = None,
        max_changed: float = 0.05,
        strangers: bool = True,
        overwrite: bool = False,
    ) -> Export:
        """Export for another runtime: `.onnx`, `.tflite` (LiteRT), or a name without suffix for a SavedModel.

        The export is loaded by that runtime and compared with this classifier on real images before it is put in place.

        Args:
            path: the file, or the folder of a SavedModel.
            precision: `"float32"`; for LiteRT also `"float16"` or `"dynamic"`, which store weights in 16 or 8 bits, and
                `"int8"`, whose blocks compute with integers of 8 bits. The result states what that costs in accuracy.
            dataset: labelled images to compare on; None for those of its evaluation, if they still exist.
            max_changed: largest share of these images whose predicted class may be another one in the export, 0..1.
            strangers: whether output 0, the probabilities, is followed by another one, `stranger`, if that is known:
                the distances of `predict(strangers=True)`. False is for programs that expect a single output.
            overwrite: replace what is at `path`.

        Raises:
            ConfigError: an unknown format or precision, a missing package (the message names the extra to install),
                an existing file, or no images to compare on.
            ExportError: the export does not predict the same; nothing is left behind.
        """
        from .deploy.export import export, to_compare_on

        pictures, labels = to_compare_on(self, dataset)
        how: dict[str, Any] = {"precision": precision, "max_changed": max_changed, "strangers": strangers}
        return export(self, path, pictures=pictures, labels=labels, overwrite=overwrite, **how)

    def model_card(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write a model card (`MODEL_CARD.md`) in the format of model hubs, for you to complete.

        A file that exists is only replaced if `overwrite` is set, else there is a `ConfigError`.
        """
        from .report.card import write_card

        return write_card(self, path, overwrite)

    def draw(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Draw the network with the shapes of its layers, by `keras.utils.plot_model`; see `report` for `overwrite`."""
        from .network.vgg import draw

        return draw(self.network.model, path, overwrite)


@short_traceback
def load(path: str | os.PathLike[str]) -> Classifier:
    """Load a classifier that `Classifier.save` wrote, from its file or its run directory.

    The network is rebuilt from vggft's JSON in the file, and only weights are read: code in a file is never run.

    Raises:
        ClassifierFileError: the file does not exist, is damaged, or was not written by vggft.
    """
    return Classifier.from_file(path)
