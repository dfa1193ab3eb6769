"""`cross_validate`: every image is judged by a classifier that has not seen it, from one set of frozen features."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np

from .arguments import answers
from .artifact.judge import AGREE_ON, evaluate_split, predict_splits
from .augment import Augment
from .config import Head, Training
from .costs import Estimate, estimate_run
from .engine import keras, own_settings
from .errors import ConfigError, RunError, counted, some
from .evaluation.evaluation import Evaluation
from .evaluation.folds import SPLIT, CrossValidation, FoldScore
from .fields import check_count, shown, unwrapped
from .files.archives import read_arrays
from .finetuning import Plan, about, config_of
from .heads.batches import FeatureBank
from .heads.resampling import Fold, nested
from .network.blocks import BLOCKS, Freeze
from .network.precision import Precision
from .pipeline import Run, introduce, open_run
from .run import RunDirectory
from .splits.groups import Group
from .splits.pool import Pool
from .telling.display import score
from .training.experiment import Experiment
from .training.phases import Setting
from .training.request import Request
from .training.selection import probes_of, train_chosen

MOST = 1000  # folds and repeats

Exact: TypeAlias = "Callable[[str, np.ndarray], np.ndarray]"  # cut, rows -> float32 features


@answers
@own_settings()
def cross_validate(
    dataset: Any,
    num_classes: int | None = None,
    *,
    folds: int = 5,
    repeats: int = 1,
    validation: float | None = 0.2,
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
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    verbose: int = 1,
) -> CrossValidation:
    """Estimate how good the classifiers are that `finetune` makes with these arguments, by cross-validation.

    With few images, a single test split says little: 20 % of 100 images are 20. Here, every image is judged by a
    classifier that was neither trained nor selected on it. Frozen blocks are computed once for all folds. No classifier
    is kept: make the final one by `finetune`, on all images.

    Args:
        dataset: as for `finetune`. Train and validation images are put into folds together, stratified by class, and
            copies of one image into the same fold. Images of a test split are in no fold.
        num_classes: as for `finetune`.
        folds: number of folds, >= 2. Each is left out of one training, and judges it.
        repeats: number of times that the images are put into other folds, >= 1, with other initial weights.
        validation: the stratified share of the images outside a fold that is not trained on, but selects the best epoch
            or the strength of a linear probe, so that the images of the fold only judge; None trains on all of them and
            keeps the last epoch, or a strength that suits most data.
        test: a fraction or a dataset that is left out, as for `finetune` with the same seed.
        group: as for `finetune`; images of one group are in one fold, and select none of their own.
        backbone, freeze, head, training, augment, image_size, resize, value_range, bands, precision, on_bad_image,
            class_names: as for `finetune`.
        run_dir: a new directory for configuration, scores (`folds.csv`), predictions (`predictions.csv`), `splits.csv`,
            histories and evaluation; None writes none of them.
        resume: continue in `run_dir`; folds that are finished are not trained again.
        seed: seed of folds, initial weights, order and dropout; each repeat adds 1.
        verbose: 0 prints nothing.

    Returns:
        A `CrossValidation`: scores, their mean and interval, and the out-of-fold predictions as an `Evaluation`.

    Raises:
        DataError: also if a class has fewer distinct images than there are folds, or too few to select on.
        ConfigError, WeightsError, CacheError, RunError: before any training; the message says what to do.
        WriteError: a disk is full, or a folder is gone; with room, `resume=True` continues.
        FreezeError: a frozen block changed during training, or an unfrozen block did not.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> data, how = (images, np.arange(40) % 2), {"backbone": "vgg16_mini", "image_size": 32, "verbose": 0}
    >>> result = vggft.cross_validate(data, 2, folds=4, head=vggft.Head(units=()), **how)
    >>> len(result.scores), result.evaluation.split, result["accuracy"] > 0.9
    (4, 'out-of-fold', True)
    """
    folds, repeats, validation = map(unwrapped, (folds, repeats, validation))
    _check(folds, repeats, validation)
    request = Request(
        dataset,
        num_classes,
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
        run_dir=run_dir,
        resume=resume,
        seed=seed,
        verbose=verbose,
    )
    setting = request.fixed_setting("here give the blocks that it found, such as freeze='block4' (--freeze block4)")
    with RunDirectory.open(run_dir, resume) as directory:
        run = open_run(request, [setting], directory)
        run.learn_from(("train", "validation"), judged=True)
        experiment = run.experiment
        trainings = list(nested(experiment.pool, folds, repeats, validation, experiment.seed))
        first = trainings[0][0]
        resolved = run.resolve(setting, len(first.train))
        probes = probes_of(experiment, resolved, free=head is None and first.validation is not None)
        planned = run.passes([resolved])
        how = {"folds": folds, "repeats": repeats, "validation": validation}
        run.start(config_of(setting, probes) | how)
        directory.write_table("splits.csv", _splits(experiment.pool, trainings))
        cost = estimate_run(experiment, run.resolve(setting), planned, probes=len(probes), trainings=len(trainings))
        notes = _introduce(run, Plan(resolved, probes, first, (), False), trainings, cost)
        bank = experiment.bank(planned, run.narrator)
        judged = _judge_all(run, bank, setting, trainings)
        result = _collect(experiment.pool, trainings, judged, repeats, notes)
        directory.write_table("folds.csv", result.table())
        directory.write_table("predictions.csv", result.predictions())
        directory.write_json("evaluation.json", result.to_dict())
        run.note_time()
        return result


def _check(folds: Any, repeats: Any, validation: Any) -> None:
    for name, value, least in (("folds", folds, 2), ("repeats", repeats, 1)):
        check_count(name, value, least, MOST)
    if validation is not None and not (isinstance(validation, float) and 0 < validation < 1):
        raise ConfigError(
            "validation must be the share of the images outside a fold that selects, in (0, 1), or None; got"
            f" {shown(validation)}. Validation images of the dataset's own are put into folds with the others."
        )


def _splits(pool: Pool, trainings: Sequence[tuple[Fold, np.ndarray]]) -> list[dict[str, str]]:
    """List the images of every training: those that it learns from, that select, and, as test, that judge it."""
    rows: list[dict[str, str]] = []
    for fold, inside in trainings:
        split_of = dict.fromkeys(fold.train.tolist(), "train") | dict.fromkeys(inside.tolist(), "test")
        if fold.validation is not None:
            split_of |= dict.fromkeys(fold.validation.tolist(), "validation")
        rows += [{"training": fold.name} | pool.cells(row, split_of[row]) for row in sorted(split_of)]
    return rows


def _introduce(run: Run, plan: Plan, trainings: Sequence[tuple[Fold, np.ndarray]], cost: Estimate) -> tuple[str, ...]:
    """Announce the trainings and what all of them cost; return what is left out, as sentences."""
    experiment, first = run.experiment, plan.fold
    pool = experiment.pool
    tested = pool.rows.get("test", ())
    left_out = [f"test images are in no fold ({len(tested)}): judge the final classifier on them"] * bool(len(tested))
    told, notes = about(experiment, plan)
    selects = "" if first.validation is None else f", selected by {counted(len(first.validation), 'other')}"
    told = f"{len(trainings)} trainings, each of about {len(first.train)} images{selects}; {told}"
    folded = {"cross-validation": np.concatenate([pool.rows["train"], pool.rows["validation"]])}
    shown = replace(experiment, pool=replace(pool, rows=folded))
    run.directory.write_json("audit.json", run.audit)
    run.directory.write_json("estimate.json", cost.to_dict())
    introduce(shown, told, [*notes, *left_out], cost, run.narrator)
    few = [f"images were left out ({len(pool.left_out)}): {some(pool.left_out, limit=5)}"] * bool(pool.left_out)
    return (*left_out, *few)


def _judge_all(
    run: Run, bank: FeatureBank, setting: Setting, trainings: Sequence[tuple[Fold, np.ndarray]]
) -> list[Evaluation]:
    """Train each fold and judge it by the images inside; what is finished is read from the run directory."""
    pool, judged = run.experiment.pool, list[Evaluation]()
    exact = _exact_features(run.experiment, [inside for _, inside in trainings])
    for number, (fold, inside) in enumerate(trainings, start=1):
        file = None if run.directory.path is None else run.directory.path / "folds" / f"{fold.name}.npz"
        if file is not None and file.exists():
            shape = (len(inside), len(pool.class_names))
            probabilities = read_arrays(file, RunError, {"probabilities": ("f", shape)})["probabilities"]
        else:
            probabilities = _train_and_predict(run, bank, run.resolve(setting, len(fold.train)), fold, inside, exact)
        judged.append(evaluate_split(pool, SPLIT, inside, probabilities))
        name = judged[-1].headline
        told = f"{name} {score(judged[-1][name])} of {counted(len(inside), 'image')}"
        run.narrator.say(f"Training {number} of {len(trainings)}: {told} that it has not seen.")
    return judged


def _train_and_predict(
    run: Run, bank: FeatureBank, setting: Setting, fold: Fold, inside: np.ndarray, exact: Exact
) -> np.ndarray:
    """Train one fold, and predict the (n,) images inside it, (n, num_classes), by the network that would be saved."""
    experiment, name = run.experiment, f"folds/{fold.name}"
    points = run.directory.inside(name)
    probes = probes_of(experiment, setting, free=run.request.head is None)
    refits = fold.validation is not None and setting.frozen == BLOCKS and bool(probes)
    how: dict[str, Any] = {"refits": refits, "run": points, "narrator": run.narrator}
    outcome = train_chosen(experiment, bank, setting, probes, fold, **how)
    fitted, setting = outcome.fitted, outcome.setting
    network, cut = experiment.assemble(setting, fitted.weights), experiment.phases(setting)[-1].cut(setting.head)
    found, _ = predict_splits(network, cut, bank.inputs(cut), experiment.pool, {SPLIT: inside}, exact)
    run.directory.write_table(f"{name}.csv", fitted.history)
    run.directory.write_arrays(f"{name}.npz", probabilities=found[SPLIT])  # last, as it ends the fold
    points.drop_points()
    if network.is_built:  # heads alone are small, and collecting takes longer than solving a probe
        keras.backend.clear_session()
    return found[SPLIT]


def _exact_features(experiment: Experiment, insides: Sequence[np.ndarray]) -> Exact:
    """Return the function that gives exact features, computed for all folds in one pass when needed."""
    few = np.unique(np.concatenate([inside[:AGREE_ON] for inside in insides]))

    @functools.cache
    def all_at(cut: str) -> np.ndarray:
        return experiment.exact_features(cut, few)

    return lambda cut, rows: all_at(cut)[np.searchsorted(few, rows)]


def _collect(
    pool: Pool,
    trainings: Sequence[tuple[Fold, np.ndarray]],
    judged: Sequence[Evaluation],
    repeats: int,
    notes: tuple[str, ...],
) -> CrossValidation:
    """Put the predictions of all folds together, in the order of the data."""
    folds = len(trainings) // repeats
    scores, evaluations, fold_of = list[FoldScore](), list[Evaluation](), list[np.ndarray]()
    for repeat in range(repeats):
        mine = slice(repeat * folds, (repeat + 1) * folds)
        rows = np.concatenate([inside for _, inside in trainings[mine]])
        order = np.argsort(rows)
        probabilities = np.concatenate([each.probabilities for each in judged[mine]])[order]
        evaluations.append(evaluate_split(pool, SPLIT, rows[order], probabilities))
        fold_of.append(np.repeat(np.arange(folds), [len(inside) for _, inside in trainings[mine]])[order])
        for number, ((fold, inside), each) in enumerate(zip(trainings[mine], judged[mine], strict=True)):
            selected = 0 if fold.validation is None else len(fold.validation)
            scores.append(FoldScore(repeat, number, len(fold.train), selected, len(inside), each.metrics))
    return CrossValidation(tuple(scores), tuple(evaluations), tuple(fold_of), notes)
