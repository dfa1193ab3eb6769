"""The thin face: `finetune` and its kin, from arguments to a classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from .artifact.judge import check_adjustments, judge
from .artifact.record import Record, write_pictures
from .classifier import Classifier, load
from .config import Augment, Head, Training
from .costs import Estimate, make_estimate
from .errors import ConfigError
from .features.extract import frozen_features
from .network.description import build
from .progress import Narrator
from .run import RunDirectory, environment
from .training.batches import Examples
from .training.experiment import Plan, make_plan, named
from .training.fit import Start, train_network

NOT_ESTIMATED = ("run_dir", "resume", "calibrate", "tune_thresholds", "tensorboard")


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
    calibrate: bool = False,
    tune_thresholds: bool = False,
    tensorboard: bool = False,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    verbose: int = 1,
) -> Classifier:
    """Fine-tune VGG16 on your images.

    The frozen prefix of the backbone is computed once for every image and kept on disk (see `vggft cache`), so that
    another run on the same images starts at once. A head is trained on that; then, unless all is frozen, the unfrozen
    blocks and the head together at a low rate. Every phase stops early on the validation images and keeps its best
    weights.

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
        precision: of the arithmetic in the blocks: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"`, the fastest
            here by a short measurement. Weights are float32 in any, and so is what is judged and saved. Frozen
            features are kept in 16 bits, with `"float32"` in 32.
        on_bad_image: `"raise"` stops with all unusable images listed; `"skip"` leaves them out and lists them.
        calibrate: divide the logits by a temperature fitted on the validation images (arXiv:1706.04599), so that
            probabilities mean what they say; the evaluation tells whether they do so better on test images.
        tune_thresholds: with several labels to an image, fit a threshold for each on the validation images, the one of
            the highest F1; else all are 0.5.
        tensorboard: write curves for TensorBoard into the run directory while it trains.
        run_dir: a new directory for configuration, history, evaluation and classifier; None keeps nothing.
        resume: go on with the run in `run_dir`, or give back its classifier if it is finished.
        seed: of splits, initial weights, order and dropout.
        verbose: 0 prints nothing.

    Returns:
        A `Classifier`; its `evaluation` is the one on test where there is a test part, else on validation.

    Raises:
        DataError, ConfigError, WeightsError, CacheError, RunError: before any training, saying what to do.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> labels = np.arange(40) % 2
    >>> classifier = vggft.finetune((images, labels), 2, backbone="vgg16_mini", image_size=32, verbose=0)
    >>> classifier.predict(images[:3]).shape
    (3, 2)
    """
    run, narrator = RunDirectory.open(run_dir, resume), Narrator(verbose)
    if tensorboard and run.path is None:
        raise ConfigError("tensorboard=True writes into the run directory: name one as run_dir.")
    plan = make_plan(
        dataset,
        num_classes,
        validation=validation,
        test=test,
        backbone=backbone,
        freeze=freeze,
        head=head,
        training=training,
        augment=augment,
        image_size=image_size,
        precision=precision,
        on_bad_image=on_bad_image,
        seed=seed,
        earlier=run.earlier,
        narrator=narrator,
    )
    pool = plan.pool
    check_adjustments(calibrate, tune_thresholds, pool.multi_label)
    plan.cache.check_room([spec for each in plan.planned for spec in each.specs.values()])
    given = {"dataset": dataset, "validation": validation, "test": test, "backbone": backbone}
    given |= {"on_bad_image": on_bad_image}
    arguments = {name: named(value) for name, value in given.items()}
    config = plan.config | {"calibrate": calibrate, "tune_thresholds": tune_thresholds}
    run.start(config, arguments)
    if run.finished and run.classifier_path is not None:
        narrator.say(f"The run in {run.path} is finished; its classifier is {run.classifier_path}.")
        run.drop_points()
        return load(run.classifier_path)
    audit = {**pool.audit.to_dict(), "left_out": list(pool.left_out)}
    run.write_json("audit.json", audit)
    run.write_table("splits.csv", pool.table())
    for note in plan.notes:
        narrator.say(f"Note: {note}.")
    narrator.say(str(plan))
    cost = make_estimate(plan)
    run.write_json("estimate.json", cost.to_dict())
    narrator.say(str(cost))

    head_start, blocks_start = _starts(plan, narrator)
    history = train_network(
        plan.model,
        head_start,
        blocks_start,
        frozen=plan.description.frozen,
        training=plan.training,
        multi_label=pool.multi_label,
        run=run,
        narrator=narrator,
        seed=plan.seed,
        tensorboard=tensorboard,
    )
    model = build(plan.description)
    model.set_weights(plan.model.get_weights())
    last = blocks_start or head_start
    judged = judge(
        model,
        plan.description,
        last.layer,
        last.train.inputs,
        pool,
        calibrate=calibrate,
        tune_thresholds=tune_thresholds,
    )
    seen, summary = pool.digests_of("train", "validation"), judged.to_dict()
    record = Record(config, environment(arguments), audit, summary, pictures=judged.pictures)
    classifier = Classifier(model, judged.description, judged.final, history, seen, record)
    for told in (*map(repr, judged.evaluations.values()), *([str(judged.calibration)] if judged.calibration else [])):
        narrator.say(told)
    run.write_table("history.csv", history)
    run.write_json("evaluation.json", summary)
    write_pictures(run, judged.pictures)
    if run.classifier_path is not None:
        classifier.save(run.classifier_path)
        run.drop_points()
        narrator.say(f"The classifier is {run.classifier_path}.")
    return classifier


def estimate(dataset: Any, num_classes: int, *, verbose: int = 1, **arguments: Any) -> Estimate:
    """What a run would cost, without it: the images are read and checked, the machine is measured for a moment.

    Args:
        dataset: as for `finetune`.
        num_classes: as for `finetune`.
        verbose: 0 prints nothing.
        arguments: all others of `finetune`; what costs nothing is not looked at.

    Raises:
        DataError, ConfigError, WeightsError, CacheError: as `finetune` would.

    >>> import numpy as np, vggft
    >>> images, labels = np.zeros((40, 32, 32, 3), np.uint8), np.arange(40) % 2
    >>> images += np.arange(40, dtype=np.uint8)[:, None, None, None]
    >>> vggft.estimate((images, labels), 2, backbone="vgg16_mini", image_size=32, verbose=0).images
    {'train': 32, 'validation': 8}
    """
    asked = {name: value for name, value in arguments.items() if name not in NOT_ESTIMATED}
    narrator = Narrator(verbose)
    plan = make_plan(dataset, num_classes, **asked, narrator=narrator)
    for note in plan.notes:
        narrator.say(f"Note: {note}.")
    narrator.say(str(plan))
    return make_estimate(plan)


def _starts(plan: Plan, narrator: Narrator) -> tuple[Start, Start | None]:
    """What the head and what unfrozen blocks learn from, its frozen features computed."""
    pool, features = plan.pool, {}
    if plan.planned:
        features = frozen_features(
            plan.model,
            plan.planned,
            pool.pixels,
            augment=plan.views,
            seed=plan.seed,
            cache=plan.cache,
            narrator=narrator,
        )

    def start(cut: str | None) -> Start:
        inputs, *views = [pool.pixels] if cut is None else features[cut]
        train = Examples(inputs, pool.targets, pool.rows["train"], views, plan.change if cut is None else None)
        return Start(cut, train, Examples(inputs, pool.targets, pool.rows["validation"]))

    return start(plan.head_cut), start(plan.blocks_cut) if plan.learning else None
