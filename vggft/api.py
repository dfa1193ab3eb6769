"""The thin face: `finetune` and its kin, from arguments to a classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

import keras
import numpy as np

from . import backbone as _backbone
from .augment import make_views
from .batches import Examples
from .classifier import Classifier, Description, build, load
from .config import Augment, Head, Training
from .errors import ConfigError
from .evaluate import Evaluation, evaluate
from .features import between, cut_layer, forward
from .precision import policy
from .precision import resolve as resolve_precision
from .progress import Narrator
from .run import RunDirectory
from .splits import Pool, prepare
from .train import train_network
from .weights import load_pretrained


def vgg(
    column: str = "D",
    *,
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    image_size: int = 224,
    width: float = 1.0,
    num_classes: int = 1000,
    dropout: float | None = None,
) -> keras.Model:
    """A column of the paper's Table 1 as a plain `keras.Model`: arXiv:1409.1556.

    Args:
        column: `"A"`, `"A-LRN"`, `"B"`, `"C"`, `"D"` (VGG16) or `"E"` (VGG19).
        include_top: whether `flatten`, `fc1`, `fc2` and `predictions` follow the five blocks.
        weights: None for fresh ones; a preset's name or a weights file for the blocks (the top stays fresh).
        image_size: height and width of the input in pixels, >= 32.
        width: multiplies the number of filters and units.
        num_classes: of the softmax.
        dropout: probability after `fc1` and `fc2`; None is the paper's 0.5 where training starts from scratch, else 0.

    Returns:
        (B, image_size, image_size, 3) BGR minus the mean, as `vggft.backbone.preprocess` gives ->
        (B, num_classes) probabilities, or (B, image_size / 32, image_size / 32, 512 * width) without the top.

    Raises:
        ConfigError: an argument out of its range.
        WeightsError: weights that are missing, damaged or of another network.

    >>> vgg("D").count_params()
    138357544
    """
    if dropout is None:
        dropout = 0.5 if weights is None else 0.0
    model = _backbone.vgg(
        column, include_top=include_top, image_size=image_size, width=width, num_classes=num_classes, dropout=dropout
    )
    if weights is not None:
        load_pretrained(weights).assign(model)
    return model


def vgg16(
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    image_size: int = 224,
    width: float = 1.0,
    num_classes: int = 1000,
    dropout: float | None = None,
) -> keras.Model:
    """The paper's VGG16, column D of its Table 1; arguments as for `vgg`."""
    return vgg(
        "D",
        include_top=include_top,
        weights=weights,
        image_size=image_size,
        width=width,
        num_classes=num_classes,
        dropout=dropout,
    )


def finetune(
    dataset: Any,
    num_classes: int,
    *,
    validation: Any = 0.2,
    test: Any = None,
    backbone: str | os.PathLike[str] = "vgg16_imagenet",
    freeze: str | Iterable[str] = "all",
    head: Head | None = None,
    training: Training | None = None,
    augment: Augment | Callable[[np.ndarray], np.ndarray] | None = None,
    image_size: int | None = None,
    precision: str = "auto",
    on_bad_image: Literal["raise", "skip"] = "raise",
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    verbose: int = 1,
) -> Classifier:
    """Fine-tune VGG16 on your images.

    The frozen prefix of the backbone is computed once for every image; a head is trained on that; then, unless all
    is frozen, the unfrozen blocks and the head together at a low rate. Every phase stops early on the validation
    images and keeps its best weights.

    Args:
        dataset: a folder of class folders (or with train/, validation/, test/ inside), a CSV file or DataFrame of
            paths and labels, `(images, labels)` arrays, a finite `tf.data.Dataset`, or a `keras.utils.PyDataset`.
        num_classes: how many classes there are; checked against the data.
        validation: a fraction of what is not test, stratified, or a dataset.
        test: a fraction of all images, a dataset, or None. It is touched once, by the final evaluation.
        backbone: a preset, `"vgg16_imagenet"` or `"vgg16_mini"`, or a weights file.
        freeze: `"all"`, `"none"`, `"block3"` (through block 3), or a collection of blocks.
        head: the dense layers; `Head()` is one of 256 units.
        training: epochs, rates and so on; `Training()` chooses by the number of images.
        augment: an `Augment`, of which several views of every training image are computed once; or any function of
            (B, S, S, 3) pixels, for which frozen blocks have to be computed anew in every epoch.
        image_size: pixels a side that the network sees, >= 32; None is the backbone's own (224, and 64 for the mini).
        precision: of the blocks: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"`, the fastest here by a short
            measurement. What is saved is float32.
        on_bad_image: `"raise"` stops with all unusable images listed; `"skip"` leaves them out and lists them.
        run_dir: a new directory for configuration, history, evaluation and classifier; None keeps nothing.
        resume: go on with the run in `run_dir`, or give back its classifier if it is finished.
        seed: of splits, initial weights, order and dropout.
        verbose: 0 prints nothing.

    Returns:
        A `Classifier`; its `evaluation` is the one on test where there is a test part, else on validation.

    Raises:
        DataError, ConfigError, WeightsError, RunError: before any training, saying what to do.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> labels = np.arange(40) % 2
    >>> classifier = vggft.finetune((images, labels), 2, backbone="vgg16_mini", image_size=32, verbose=0)
    >>> classifier.predict(images[:3]).shape
    (3, 2)
    """
    narrator = Narrator(verbose)
    head, training, frozen = head or Head(), training or Training(), _backbone.frozen_blocks(freeze)
    _check_counts(num_classes, seed)
    pretrained = load_pretrained(backbone)
    image_size = image_size or pretrained.image_size
    _backbone.check_architecture(pretrained.column, image_size, pretrained.width)
    if not (augment is None or isinstance(augment, Augment) or callable(augment)):
        raise ConfigError(f"augment must be an Augment, a function of pixels, or None; got {augment!r}.")
    precision, why = resolve_precision(precision, pretrained.column, pretrained.width, image_size)
    pool = prepare(
        dataset,
        num_classes,
        validation=validation,
        test=test,
        image_size=image_size,
        seed=seed,
        on_bad_image=on_bad_image,
        narrator=narrator,
    )
    training = training.resolve(len(pool.rows["train"]))
    config = {
        "num_classes": num_classes,
        "backbone": pretrained.name,
        "backbone_digest": pretrained.digest,
        "frozen": list(frozen),
        "head": head.to_dict(),
        "training": training.to_dict(),
        "augment": augment.to_dict() if isinstance(augment, Augment) else None if augment is None else repr(augment),
        "precision": precision,
        "image_size": image_size,
        "splits": {split: len(rows) for split, rows in pool.rows.items()},
        "data_fingerprint": pool.fingerprint,
        "seed": seed,
    }
    run = RunDirectory(run_dir, config, resume)
    if run.finished and run.classifier_path is not None:
        narrator.say(f"The run in {run.path} is finished; its classifier is {run.classifier_path}.")
        return load(run.classifier_path)
    run.write_json("audit.json", pool.audit.to_dict())
    for note in pool.notes:
        narrator.say(f"Note: {note}.")

    description = Description(
        class_names=pool.class_names,
        image_size=image_size,
        column=pretrained.column,
        width=pretrained.width,
        head=head,
        multi_label=pool.multi_label,
        backbone=pretrained.name,
        frozen=frozen,
    )
    narrator.say(_plan(pool, description, training))
    narrator.say(f"The blocks are computed in {precision}: {why}.")
    model = build(description, seed, dtype=policy(precision))
    pretrained.assign(model)
    _backbone.set_frozen(model, frozen)
    cut = cut_layer(frozen, head.pooling)
    views = augment.views if isinstance(augment, Augment) else None
    change = None
    if augment is not None and (cut is None or views is None):
        change = _change(augment, seed)
        if cut is not None:
            narrator.say(
                "Note: new views in every epoch, so the frozen blocks are computed anew each time, not once"
                + ("." if len(frozen) == 5 else "; the head's own phase uses the images as they are.")
            )
        cut = None
    features, rows = pool.pixels, pool.rows["train"]
    if cut is not None:
        enumerated = augment if isinstance(augment, Augment) else None
        features, rows = _frozen_features(between(model, None, cut), pool, enumerated, seed, narrator)
    examples = {
        "train": Examples(features, pool.targets, rows, change),
        "validation": Examples(features, pool.targets, pool.rows["validation"]),
    }
    history = train_network(
        model,
        examples,
        cut=cut,
        frozen=frozen,
        pooling=head.pooling,
        training=training,
        multi_label=pool.multi_label,
        run=run,
        narrator=narrator,
        seed=seed,
    )
    rest = between(model, cut, "predictions")
    evaluations = {
        split: _judge(rest, features[pool.rows[split]], pool, split) for split in pool.rows if split != "train"
    }
    if precision != "float32":
        trained, model = model, build(description, seed, dtype="float32")
        model.set_weights(trained.get_weights())
        _backbone.set_frozen(model, frozen)
    classifier = Classifier(model, description, list(evaluations.values())[-1], history)
    narrator.say(repr(classifier.evaluation))
    run.write_table("history.csv", history)
    run.write_json("evaluation.json", {split: found.to_dict() for split, found in evaluations.items()})
    if run.classifier_path is not None:
        classifier.save(run.classifier_path)
        run.drop_points()
        narrator.say(f"The classifier is {run.classifier_path}.")
    return classifier


def _check_counts(num_classes: Any, seed: Any) -> None:
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 2:
        raise ConfigError(f"num_classes must be an integer >= 2; got {num_classes!r}.")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed must be an integer >= 0; got {seed!r}.")


def _frozen_features(
    prefix: keras.Model, pool: Pool, augment: Augment | None, seed: int, narrator: Narrator
) -> tuple[np.ndarray, np.ndarray]:
    """One pass over all images and over further views of those in train: the features, and their rows, view by view."""
    train, more = pool.rows["train"], (augment.views or 1) - 1 if augment else 0
    with narrator.bar("frozen features", len(pool.pixels) + more * len(train)) as advance:
        passes = [forward(prefix, pool.pixels, advance=advance)]
        for view in range(1, more + 1):
            for part in np.array_split(train, -(-len(train) // 256)):
                assert augment is not None
                changed = make_views(pool.pixels[part], part, view, augment, seed)
                passes.append(forward(prefix, changed, advance=advance))
    further = len(pool.pixels) + np.arange(more * len(train)).reshape(more, len(train))
    return np.concatenate(passes), np.concatenate([train[None], further])


def _change(augment: Any, seed: int) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """What to do with each batch of training pixels; every epoch is another view."""
    if isinstance(augment, Augment):
        return lambda pixels, rows, epoch: make_views(pixels, rows, epoch + 1, augment, seed)
    return lambda pixels, rows, epoch: np.asarray(augment(pixels.astype("float32")))


def _judge(rest: keras.Model, features: Any, pool: Pool, split: str) -> Evaluation:
    """The evaluation on a split, from its frozen features."""
    return evaluate(
        pool.labels(split),
        forward(rest, features),
        pool.class_names,
        split=split,
        multi_label=pool.multi_label,
        names=tuple(pool.names[row] for row in pool.rows[split]),
    )


def _plan(pool: Pool, description: Description, training: Training) -> str:
    """One sentence before the work: what is trained on what."""
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in pool.rows.items())
    free = [block for block in _backbone.BLOCKS if block not in description.frozen]
    learning = f"{', '.join(free)} and the head" if free else "the head"
    epochs = f"at most {training.epochs} epochs" + (f" and {training.fine_tune_epochs} with blocks" if free else "")
    return (
        f"{counts} images of {len(pool.class_names)} classes at {description.image_size} px; "
        f"{description.backbone}: {learning} will learn, {epochs} of batch {training.batch_size}."
    )


__all__ = ["Classifier", "finetune", "load", "vgg", "vgg16"]
