"""`finetune` and `estimate`: from arguments to a classifier, or to an estimate of its cost."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .arguments import answers, refuse_arguments
from .augment import Augment
from .classifier import Classifier
from .config import Head, Training
from .costs import Estimate
from .engine import own_settings
from .fields import check_count, is_word
from .finetuning import (
    MOST_FOR_FOLDS,
    about,
    check_keras,
    cost_of,
    fine_tune,
    limit_of,
    open_start,
    plan_of,
    watched_by,
)
from .forecast import forecast
from .machines.strategies import devices_of
from .network.blocks import Freeze
from .network.precision import Precision
from .pipeline import introduce, open_run
from .run import RunDirectory
from .splits.groups import Group
from .training.request import AUTO, Request

MOST_WORKERS, MOST_IMAGES = 100_000, 10**12  # of a forecast
DURING = ("tensorboard", "callbacks", "metrics")  # arguments that are of a training alone


@answers
def finetune(
    dataset: Any,
    num_classes: int | None = None,
    *,
    validation: Any = 0.2,
    test: Any = None,
    group: Group | None = None,
    backbone: Any = "vgg16_imagenet",
    freeze: Freeze = "all",
    head: Head | None = None,
    training: Training | None = None,
    augment: Augment | Callable[[np.ndarray], np.ndarray] | None = None,
    image_size: int | tuple[int, int] | None = None,
    resize: Literal["squash", "crop", "pad"] = "squash",
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, int, int] | None = None,
    precision: Precision = "auto",
    on_bad_image: Literal["raise", "skip"] = "raise",
    class_names: Sequence[str] | Mapping[str, int] | None = None,
    calibrate: bool = False,
    tune_thresholds: bool = False,
    refit: bool | None = None,
    time_limit: float | str | None = None,
    tensorboard: bool = False,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    verbose: int = 1,
    start: Classifier | str | os.PathLike[str] | None = None,
    callbacks: Sequence[Any] = (),
    metrics: Sequence[Any] = (),
    strategy: Any = "auto",
) -> Classifier:
    """Fine-tune VGG16 on your images.

    The frozen prefix of the backbone is computed once for every image and kept on disk (see `vggft cache`), so that
    another run on the same images starts at once. The head is trained on these features; then, unless all blocks are
    frozen, the unfrozen blocks and the head are trained together. Every phase stops early on the validation images and
    keeps its best weights.

    Args:
        dataset: a folder of class folders (or with train/, validation/, test/ inside), a CSV file or DataFrame of
            paths and labels (`vggft.Table` says what its columns mean), `(images, labels)` arrays or tensors, a finite
            `tf.data.Dataset` (of pairs, or of dicts as those of TensorFlow Datasets), a `keras.utils.PyDataset`, a
            generator of pairs or batches, or a Hugging Face dataset; several splits as a dict by name, or as a tuple
            `(train, validation)`. Images may have weights in the loss, `(images, labels, weights)` or as the third part
            of batches; a linear probe is then logistic regression alone, and nothing is judged by them.
        num_classes: number of classes; checked against the data. None reads it off the data, which a note says.
        validation: a stratified fraction of the images that are not test images, or a dataset.
        test: a stratified fraction of all images, a dataset, or None. Only the final evaluation uses it, once.
        group: which images belong together, for example because they show one patient: none of them are ever on two
            sides of a split, or of folds. The name of a column of the CSV file or DataFrame; one entry for each image,
            in the order of the data; a mapping of file names to groups; a regular expression such as `"(patient\\d+)"`
            or a function such as `lambda name: name.split("_")[0]`, which are given the file name, or the path where
            that alone makes no groups. `"near-duplicates"` groups pictures that are saved again, resized, slightly
            cropped, brightened or mirrored. In given splits, images whose group is also in a later split are left out.
        backbone: a preset, `"vgg16_imagenet"` or `"vgg16_mini"`; a file of weights or of a model (`.keras`,
            `.weights.h5`, `.h5`, `.npz`), a `keras.Model` or a `Classifier` that is or contains a VGG, which is found
            by the shapes of its convolutions; or None for random weights, which need `freeze="none"` to learn.
        freeze: `"all"`, `"none"`, `"block3"` (through block 3), `"block5_conv2"` (through that convolution), or a
            collection of blocks and convolutions; `"auto"` finds out from probes on each block from which one on blocks
            should learn, starts them from the best linear probe (LP-FT, arXiv:2202.10054), and keeps the frozen ones if
            validation images are not told better by the others.
        head: the dense layers. None compares a few linear probes, which are solved exactly in seconds, by the
            validation images, and says which one it takes and why; `Head(units=(256,))` has a hidden layer.
        training: epochs, learning rates and so on; `Training()` chooses them by the number of images.
        augment: an `Augment`, whose views of every training image are computed once; or a Keras layer such as
            `keras.layers.RandAugment()`, a `keras.Sequential` of them, or any function of (B, S, S, 3) float32 pixels
            in 0..255, with which frozen blocks have to be computed again in every epoch. Layers are seeded by `seed`,
            epoch and batch. The training accuracy of images mixed by `Augment(mixup=..., cutmix=...)` is that against
            the class with the larger share.
        image_size: height and width of the network's input in pixels, >= 32, one number or (height, width); None for
            the backbone's own (224, and 64 for the mini).
        resize: how images are fitted to it: `"squash"` resizes the whole image, `"crop"` the largest part in the middle
            that has its proportions, `"pad"` the whole image with its own proportions in a black frame.
        value_range: the values that are black and white in images that have not 8 bits, such as (0, 4095); values
            outside become one of the two. None decides by all images of the dataset, and says it: 0..255, 1023, 4095,
            16383 or 65535 for integers, 0..1 or 0..255 for floats, the window of the file for DICOM.
        bands: the three bands that are red, green and blue, from 0 on, for images with others than RGB, RGBA or grey.
        precision: precision of the blocks: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"` for the fastest on this
            machine by a short measurement. Weights, and the network that is evaluated and saved, are float32. Frozen
            features are stored in 16 bits, or in 32 bits for `"float32"`.
        on_bad_image: `"raise"` stops and lists all unusable images; `"skip"` leaves them out and lists them.
        class_names: the names of the classes: what the integer labels 0, 1, ... stand for, and the order of the classes
            where labels are names; or name -> position, as the `class_indices` of Keras. None takes what the data says.
        calibrate: divide the logits by a temperature fitted on the validation images (arXiv:1706.04599), so that
            probabilities match observed frequencies; the evaluation says whether that helped on the test images.
        tune_thresholds: with several labels per image, fit the threshold of each label on the validation images for
            the highest F1; otherwise all are 0.5.
        refit: whether the final classifier learns from the validation images too, with what they have chosen. It needs
            test images, or no others would be left to evaluate it on. None does so for linear probes, and for blocks
            that start from one, if there is a test split. If a class has fewer than 10 images and `validation` is a
            fraction, folds choose and judge in place of validation images, and the final probe learns from all of
            them.
        time_limit: of the whole run, in seconds or as `"10m"`: blocks stop learning so that it ends in time, with
            what is best by then. None is 30 minutes for `freeze="auto"`, else no limit. A pass is never cut.
        tensorboard: write curves for TensorBoard into the run directory during training.
        run_dir: a new directory for configuration, history, evaluation and classifier; None writes none of them.
        resume: continue the run in `run_dir`, or return its classifier if it is finished.
        seed: seed of splits, initial weights, order and dropout, >= 0.
        verbose: 0 prints nothing. What is printed also goes to the logger `vggft` of Python's `logging`, at INFO.
        start: a classifier to train further, its file or its run directory; see `Classifier.update`. `dataset` holds
            all images that there are now, and `num_classes` counts old and new classes. Blocks, image size, and the
            head if it is left out are those of `start`; another backbone or image size raises. Images that it knows
            stay in their splits, but for linear probes, and `test=None` is its share of test images. Where the data is
            already split, images that it knows from an earlier split are left out of validation and test.
        callbacks: callbacks of Keras, which see the part of the network that learns, from frozen features to logits;
            every phase has the same objects. After a resume they are called from the next epoch on, and what they
            remember themselves is lost. Even a head alone is then trained by Keras's `fit`.
        metrics: metrics of Keras, or their names, whose results are numbers; they are given one-hot or multi-hot
            targets and probabilities, and are columns of the history. Heads are then trained by `fit` as well.
        strategy: what computes: `"auto"` all GPUs of this machine; `"mirrored"` all of them, or all logical processors
            of TensorFlow; `"multiworker"` several processes, on one machine or on several, which are all started with
            the same call: TF_CONFIG (as of a TFJob) or the variables of Slurm tell them their places, and they share
            `run_dir` and the cache. They divide the pass among them, and train blocks together. Or a
            `tf.distribute.Strategy`. The batch size is that of all replicas together.

    Returns:
        A `Classifier`; its `evaluation` is on the test images if there is a test split, else on the validation images.

    Raises:
        DataError, ConfigError, WeightsError, CacheError, RunError: before any training; the message says what to do.
        WriteError: a disk is full, or a folder is gone; with room, `resume=True` continues.
        ClassifierFileError: `start` is not a file of vggft, or is damaged.
        FreezeError: a frozen block changed during training, or an unfrozen block did not.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> labels = np.arange(40) % 2
    >>> classifier = vggft.finetune((images, labels), 2, backbone="vgg16_mini", image_size=32, verbose=0)
    >>> classifier.predict(images[:3]).shape
    (3, 2)
    """
    request = Request(
        dataset,
        num_classes,
        validation=validation,
        test=test,
        group=group,
        backbone=backbone,
        freeze=freeze,
        head=head,
        training=training,
        augment=augment,
        image_size=image_size,
        resize=resize,
        value_range=value_range,
        bands=bands,
        precision=precision,
        on_bad_image=on_bad_image,
        class_names=class_names,
        calibrate=calibrate,
        tune_thresholds=tune_thresholds,
        refit=refit,
        time_limit=time_limit,
        run_dir=run_dir,
        resume=resume,
        seed=seed,
        verbose=verbose,
        start=open_start(start),
        strategy=strategy,
    )
    return fine_tune(request, Classifier, tensorboard=tensorboard, callbacks=callbacks, metrics=metrics)


@answers
@own_settings()
def estimate(
    dataset: Any,
    num_classes: int | None = None,
    *,
    workers: int = 1,
    images: int | None = None,
    verbose: int = 1,
    **arguments: Any,
) -> Estimate:
    """Estimate what a run would cost: read and check the images, and measure the machine for a moment.

    Args:
        dataset: as for `finetune`.
        num_classes: as for `finetune`.
        workers: number of machines like this one that share the work; with more than one, or with `images`, the result
            is a `Forecast`, of a run for which nothing is in the cache yet: hours, bytes and what takes them.
        images: number of images that there would be, like those of the dataset; None for those that there are.
        verbose: 0 prints nothing.
        arguments: any other `finetune` argument; those that do not affect cost are only checked.

    Raises:
        DataError, ConfigError, WeightsError, CacheError: as `finetune` would.

    >>> import numpy as np, vggft
    >>> images, labels = np.zeros((40, 32, 32, 3), np.uint8), np.arange(40) % 2
    >>> images += np.arange(40, dtype=np.uint8)[:, None, None, None]
    >>> vggft.estimate((images, labels), 2, backbone="vgg16_mini", image_size=32, verbose=0).images
    {'train': 32, 'validation': 8}
    """
    check_count("workers", workers, 1, MOST_WORKERS)
    if images is not None:
        check_count("images", images, 10, MOST_IMAGES)
    refuse_arguments("estimate", arguments, inspect.signature(finetune).parameters)
    check_keras(**{name: arguments[name] for name in DURING if name in arguments})
    asked = {name: value for name, value in arguments.items() if name not in DURING}
    start = open_start(asked.pop("start", None))
    request = Request(dataset, num_classes, verbose=verbose, start=start, **asked)
    request = watched_by(request, *(arguments.get(name) for name in ("callbacks", "metrics")))
    run = open_run(request, [request.setting()], RunDirectory(None), devices_of(request.strategy))
    plan, experiment = plan_of(request, run), run.experiment
    planned = run.passes([plan.setting])
    cost = cost_of(request, experiment, plan, planned)
    if workers > 1 or images is not None:
        train = len(experiment.pool.rows["train"]) / sum(map(len, experiment.pool.rows.values()))
        setting = run.resolve(request.setting(), None if images is None else max(1, round(images * train)))
        folds = len(plan.folds) if (images or 0) <= MOST_FOR_FOLDS else 0
        how: dict[str, Any] = {"probes": len(plan.probes), "folds": folds or 1, "refits": plan.refits}
        how |= {"limit": limit_of(request), "auto": is_word(request.freeze, (AUTO,))}
        cost = forecast(experiment, setting, planned, images=images, workers=workers, **how)
    introduce(experiment, *about(experiment, plan), cost, run.narrator)
    return cost
