"""The thin face: `finetune` and its kin, from arguments to a classifier."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

import keras
import numpy as np

from . import backbone as _backbone
from .augment import changer
from .batches import Examples
from .classifier import Classifier, Description, build, load
from .config import Augment, Head, Training
from .errors import ConfigError
from .evaluate import Evaluation, evaluate
from .features import between, cut_layer, forward, frozen_features
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
        precision: that frozen features are computed in: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"`, the
            fastest here by a short measurement. What learns, is judged and is saved is float32.
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
    num_classes, seed = _whole("num_classes", num_classes, 2), _whole("seed", seed, 0)
    _check_kinds(head, training, augment)
    pretrained = load_pretrained(backbone)
    image_size = pretrained.image_size if image_size is None else _whole("image_size", image_size, 32)
    run = RunDirectory(run_dir, resume)
    if precision == "auto" and "precision" in run.earlier:  # a measurement may come out differently the next time
        precision = run.earlier["precision"]
    asked = precision != "auto"
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
    if pool.multi_label and training.class_weight:
        raise ConfigError(
            f"Training.class_weight={training.class_weight!r} needs one label an image; here are several."
        )
    training = training.resolve(len(pool.rows["train"]))
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
    model = build(description, seed)
    pretrained.assign(model)
    _backbone.set_frozen(model, frozen)
    cut = cut_layer(model, frozen)
    change = None
    if cut is None and precision != "float32" and asked:
        raise ConfigError(f"precision={precision!r} is of frozen features, but with freeze={freeze!r} there are none.")
    if augment is not None and (cut is None or getattr(augment, "views", None) is None):
        change = changer(augment, seed, pool.pixels[:2])
    config = {
        "num_classes": num_classes,
        "backbone": pretrained.name,
        "backbone_digest": pretrained.digest,
        "frozen": list(frozen),
        "head": head.to_dict(),
        "training": training.to_dict(),
        "augment": _named(augment),
        "precision": precision,
        "image_size": image_size,
        "splits": {split: len(rows) for split, rows in pool.rows.items()},
        "data_fingerprint": pool.fingerprint,
        "seed": seed,
    }
    given = {"dataset": dataset, "validation": validation, "test": test, "on_bad_image": on_bad_image}
    run.start(config, {name: _named(value) for name, value in given.items()})
    if run.finished and run.classifier_path is not None:
        narrator.say(f"The run in {run.path} is finished; its classifier is {run.classifier_path}.")
        run.drop_points()
        return load(run.classifier_path)
    run.write_json("audit.json", {**pool.audit.to_dict(), "left_out": list(pool.left_out)})
    run.write_table("splits.csv", pool.table())
    for note in (*pool.notes, *pool.left_out[:20]):
        narrator.say(f"Note: {note}.")
    narrator.say(_plan(pool, description, training))
    if cut is not None:
        narrator.say(f"Frozen features are computed in {precision}: {why}.")
    if change is not None:
        if cut is not None:
            narrator.say("Note: every epoch has new views, so the frozen blocks are computed anew each time, not once.")
        if len(frozen) < len(_backbone.BLOCKS):
            narrator.say("Note: the first phase, of the head alone, uses the images as they are.")
        cut = None

    features, rows = pool.pixels, pool.rows["train"]
    if cut is not None:
        views = augment if isinstance(augment, Augment) else None
        total = len(pool.pixels) + ((views.views or 1) - 1 if views else 0) * len(rows)
        with narrator.bar("frozen features", total) as advance:
            prefix = between(_in_precision(model, description, precision), None, cut)
            features, rows = frozen_features(prefix, pool.pixels, rows, views, seed, advance)
    examples = {
        "train": Examples(features, pool.targets, rows, change),
        "validation": Examples(features, pool.targets, pool.rows["validation"]),
    }
    history = train_network(
        model,
        examples,
        cut=cut,
        frozen=frozen,
        training=training,
        multi_label=pool.multi_label,
        run=run,
        narrator=narrator,
        seed=seed,
    )
    if precision != "float32":  # what is judged is what is saved
        features, cut = pool.pixels, None
    rest = between(model, cut, "predictions")
    evaluations = {split: _judge(rest, features, pool, split) for split in pool.rows if split != "train"}
    seen = pool.digests_of("train", "validation")
    classifier = Classifier(model, description, list(evaluations.values())[-1], history, seen)
    for evaluation in evaluations.values():
        narrator.say(repr(evaluation))
    run.write_table("history.csv", history)
    run.write_json("evaluation.json", _results(evaluations))
    if run.classifier_path is not None:
        classifier.save(run.classifier_path)
        run.drop_points()
        narrator.say(f"The classifier is {run.classifier_path}.")
    return classifier


def _whole(name: str, value: Any, low: int) -> int:
    """An integer argument; NumPy's do as well."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or isinstance(value, bool):
        raise ConfigError(f"{name} must be an integer >= {low}; got {value!r}.")
    return number


def _check_kinds(head: Any, training: Any, augment: Any) -> None:
    if not isinstance(head, Head):
        raise ConfigError(f"head must be a vggft.Head, as Head(units=(256,)); got {head!r}.")
    if not isinstance(training, Training):
        raise ConfigError(f"training must be a vggft.Training, as Training(epochs=20); got {training!r}.")
    if not (augment is None or isinstance(augment, Augment) or callable(augment)):
        raise ConfigError(f"augment must be a vggft.Augment, a function of pixels, or None; got {augment!r}.")
    try:
        keras.activations.get(head.activation)
    except ValueError:
        raise ConfigError(f"Head.activation must be the name of a Keras activation; got {head.activation!r}.") from None


def _named(value: Any) -> Any:
    """An argument as JSON: itself if it is simple, else what it is called or what kind it is."""
    if isinstance(value, Augment):
        return value.to_dict()
    if value is None or isinstance(value, (bool, int, float, str, os.PathLike)):
        return os.fspath(value) if isinstance(value, os.PathLike) else value
    return getattr(value, "__qualname__", type(value).__name__)


def _in_precision(model: keras.Model, description: Description, precision: str) -> keras.Model:
    """The same network computing in another precision."""
    if precision == "float32":
        return model
    other = build(description, dtype=policy(precision))
    other.set_weights(model.get_weights())
    return other


def _judge(rest: keras.Model, features: Any, pool: Pool, split: str) -> Evaluation:
    """The evaluation on a split, from its frozen features or pixels."""
    rows = pool.rows[split]
    return evaluate(
        pool.labels(split),
        forward(rest, features[rows]),
        pool.class_names,
        split=split,
        multi_label=pool.multi_label,
        names=tuple(pool.names[row] for row in rows),
    )


def _results(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """Every evaluation, and the gap from validation, which weights were chosen on, to test, which nothing was."""
    results: dict[str, Any] = {split: found.to_dict() for split, found in evaluations.items()}
    if "test" in evaluations:
        chosen, touched = evaluations["validation"].metrics, evaluations["test"].metrics
        both = {name: (chosen[name], touched[name]) for name in ("accuracy", "average_precision", "log_loss")}
        results["gap"] = {name: a - b for name, (a, b) in both.items() if a is not None and b is not None}
    return results


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
