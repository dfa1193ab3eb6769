"""`vggft.search`: many trials for the price of one pass, on KerasTuner, judged on images that no trial saw."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import keras_tuner
import numpy as np

from ..artifact.judge import check_adjustments
from ..classifier import load
from ..config import Augment, Head, Training
from ..costs import estimate_search
from ..errors import ConfigError, VggftError
from ..evaluation.evaluation import METRICS
from ..features.cuts import cut_layer
from ..features.extract import frozen_features
from ..network.blocks import BLOCKS, frozen_blocks
from ..network.head import POOLING_LAYERS, pool
from ..network.precision import policy
from ..network.vgg import add_blocks, preprocess
from ..progress import Narrator
from ..run import RunDirectory, environment
from ..training.experiment import Base, make_base, named, plan_of
from ..training.resampling import Fit, fits_of
from .oracles import hyperband_parts, hyperband_size, make_oracle
from .result import SearchResult, line, write_hparams
from .rounds import Trainer
from .space import SearchSpace, Setting, declaration, possible_freezes, possible_poolings
from .terms import await_chief, check_terms, objective_of, parallel_of, source_of
from .trial import ranked, read_outcomes
from .tuner import PROJECT, HeadTuner, is_chief, is_worker
from .winner import classifier_of


def search(
    dataset: Any,
    num_classes: int,
    *,
    space: SearchSpace | Callable[[Any], tuple[Head, Training]] | None = None,
    trials: int = 30,
    algorithm: str = "bayesian",
    objective: str | None = None,
    folds: int | None = None,
    repeats: int = 1,
    winner: Literal["scored", "refit"] | None = None,
    keep_top: int = 5,
    parallel_trials: int | Literal["auto"] = "auto",
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
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    verbose: int = 1,
) -> SearchResult | None:
    """Search for the head, its training, and how much to freeze, with KerasTuner's oracles.

    The images go through the frozen blocks once, whatever is searched. Trials whose heads have one shape are trained
    together as one model, each as it would end alone; a trial in which blocks learn, or whose head has batch
    normalisation, another optimizer or weight decay, is trained alone.

    Args:
        dataset, num_classes, validation, backbone, augment, image_size, precision, on_bad_image: as for `finetune`.
        test: as for `finetune`; no trial sees it, and the winner once.
        space: what to choose from, or a function of `keras_tuner.HyperParameters` that gives a `Head` and a `Training`.
        trials: at most so many.
        algorithm: `"random"`, `"bayesian"`, `"hyperband"` or `"grid"`: KerasTuner's.
        objective: a metric of the evaluation on validation images, `"val_balanced_accuracy"` say; whether it is to be
            high or low is known. By default accuracy, with several labels to an image average precision.
        folds: each trial is scored by so many folds of train and validation images, the score being the mean.
        repeats: each trial is trained so many times, from other initial weights and in another order.
        winner: `"scored"`: the classifier has the very weights that were scored (of the first repeat). `"refit"`: it
            learns anew from train and validation images, as many epochs as were best; that is how it is after folds.
            With a refit there has to be a test part, since nothing else would be left to judge by.
        keep_top: the weights of so many trials are kept on the disk, of heads and blocks that learn only.
        parallel_trials: most trials of a round, which the oracle hands out before it hears of any.
        freeze, head, training: what is not searched.
        calibrate, tune_thresholds: as for `finetune`, of the winner; not where it learns anew.
        run_dir: a new directory. In it `trials/` is KerasTuner's project, `trials.csv` and `trials.png` are all
            trials, `tensorboard/` has them for the HParams plugin, and the rest is as after `finetune`.
        resume: go on with the search in `run_dir`: no trial that ended is trained again.
        seed: of splits, draws, initial weights, order and dropout.
        verbose: 0 prints nothing.

    Returns:
        The trials, the best of them, and the classifier. None in a worker: where KERASTUNER_ORACLE_IP,
        KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID are set as KerasTuner wants it, the process whose id has "chief"
        in it hands out trials to all others, which need the same `run_dir` and cache, and only the chief has a result.

    Raises:
        DataError, ConfigError, WeightsError, CacheError, RunError: before any training, saying what to do.
        SearchError: trials fail one after another; with the reasons.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> space = vggft.SearchSpace(units=[8, 16], learning_rate=[1e-3, 1e-2])
    >>> result = vggft.search((images, np.arange(40) % 2), 2, space=space, trials=4, algorithm="random",
    ...     training=vggft.Training(epochs=2), backbone="vgg16_mini", image_size=32, verbose=0)
    >>> len(result.trials)
    4
    """
    narrator = Narrator(verbose)
    space = SearchSpace() if space is None else space
    fixed = Setting(frozen_blocks(freeze), head or Head(), training or Training())
    declare = declaration(space, fixed)
    winner = winner or ("scored" if folds is None else "refit")
    check_terms(space, trials, algorithm, folds, repeats, winner, keep_top, parallel_trials, freeze)
    try:
        declare(keras_tuner.HyperParameters())
    except VggftError:
        raise
    except Exception as error:
        raise ConfigError(f"The search space cannot be drawn from ({type(error).__name__}: {error}).") from error
    if is_worker() or is_chief():
        if run_dir is None:
            raise ConfigError("A chief and its workers share a run_dir; got run_dir=None.")
        await_chief(run_dir)
    run = RunDirectory.open(run_dir, resume or is_worker())
    freezes = possible_freezes(space, fixed)
    base = make_base(
        dataset,
        num_classes,
        head=fixed.head,
        training=fixed.training,
        learning={block for frozen in freezes for block in BLOCKS if block not in frozen},
        validation=validation,
        test=test,
        backbone=backbone,
        augment=augment,
        image_size=image_size,
        precision=precision,
        on_bad_image=on_bad_image,
        seed=seed,
        earlier=run.earlier,
        narrator=narrator,
    )
    if base.change is not None and BLOCKS in freezes:
        raise ConfigError(
            "A search of heads learns from frozen views, so augment must be an Augment with a number of views, and "
            "block1 frozen in every trial; new views in every epoch would cost every trial a pass of its own."
        )
    if winner == "refit" and "test" not in base.pool.rows:
        raise ConfigError(
            "winner='refit', which is how it is after folds, learns from the validation images too, so nothing would "
            "be left to judge it by: give a test part, as test=0.2."
        )
    learned = ("train", "validation") if winner == "refit" else ("train",)
    check_adjustments(calibrate, tune_thresholds, base.pool.multi_label, learned)
    metric = objective_of(objective, base)
    fits = fits_of(base, folds, repeats)
    images = len(fits[0].train)
    epochs = fixed.training.resolve(images).epochs or 1
    parallel = parallel_of(parallel_trials, algorithm, trials)
    config = base.config | {
        "search": space.to_dict() if isinstance(space, SearchSpace) else [named(space), source_of(space)],
        "frozen": list(fixed.frozen),
        "head": fixed.head.to_dict(),
        "training": fixed.training.to_dict(),
        "trials": trials,
        "algorithm": algorithm,
        "objective": metric,
        "folds": folds,
        "repeats": repeats,
        "winner": winner,
        "parallel_trials": parallel,
        "calibrate": calibrate,
        "tune_thresholds": tune_thresholds,
    }
    cuts, network = _network(base, freezes, possible_poolings(space, fixed))
    rows = base.pool.rows
    viewed = np.concatenate([rows["train"], rows["validation"]]) if winner == "refit" else rows["train"]
    passes = base.passes(network, cuts, viewed)
    base.cache.check_room([spec for each in passes for spec in each.specs.values()])
    given = {"dataset": dataset, "validation": validation, "test": test, "backbone": backbone}
    arguments = {name: named(value) for name, value in given.items()}
    audit = {**base.pool.audit.to_dict(), "left_out": list(base.pool.left_out)}
    if is_worker():
        run.check_same(config)
    else:
        run.start(config, arguments)
    direction = METRICS[metric].direction
    if run.finished and run.path is not None and run.classifier_path is not None:
        narrator.say(f"The search in {run.path} is finished; its classifier is {run.classifier_path}.")
        outcomes = read_outcomes(run.path / PROJECT)
        told = json.loads((run.path / "search.json").read_text(encoding="utf-8"))
        best = next(trial for trial in outcomes if trial.trial_id == told["best"]["trial_id"])
        return SearchResult(tuple(outcomes), best, load(run.classifier_path), metric, winner, told["stopped"])
    oracle = make_oracle(algorithm, f"val_{metric}", direction, trials, seed)

    with ExitStack() as stack:
        directory = run.path or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vggft-search-")))
        if not is_worker():
            run.write_json("audit.json", audit)
            run.write_table("splits.csv", base.pool.table())
            _introduce(base, freezes, trials, algorithm, epochs, fits, narrator)
            plans = [plan_of(base, frozen, fixed.head, fixed.training) for frozen in freezes]
            cost = estimate_search(plans, passes, trials * len(fits))
            del plans
            run.write_json("estimate.json", cost.to_dict())
            narrator.say(str(cost))
        features = frozen_features(
            network, passes, base.pool.pixels, augment=base.views, seed=base.seed, cache=base.cache, narrator=narrator
        )
        del network
        trainer = Trainer(base, features, viewed, fits, metric, run)
        with narrator.board(trials, trials * epochs * len(fits), direction) as board:
            tuner = HeadTuner(
                oracle,
                declare,
                trainer,
                directory=directory,
                parallel=parallel,
                images=images,
                keep_top=keep_top,
                on_trial=lambda trial: board.add(line(trial), trial.score),
                on_epochs=board.advance,
            )
            tuner.search()
        if is_worker():
            return None
        outcomes, stopped = tuner.outcomes()
        best = ranked(outcomes, direction)[0]
        folder = directory / PROJECT / f"trial_{best.trial_id}"
        adjust = {"calibrate": calibrate, "tune_thresholds": tune_thresholds}
        classifier = classifier_of(trainer, best, folder, winner, run, narrator, **adjust)
        result = SearchResult(tuple(outcomes), best, classifier, metric, winner, stopped)
        classifier.record = replace(
            classifier.record,
            config=config,
            environment=environment(arguments),
            audit=audit,
            search=result.to_dict(),
            trials=tuple(trial.to_dict() for trial in outcomes),
        )
        _write(result, run)
        narrator.say(repr(result))
        if stopped:
            warnings.warn(stopped, stacklevel=2)
        if run.classifier_path is not None:
            classifier.save(run.classifier_path)
            kept = sum(file.stat().st_size for file in directory.glob("*/*/*.npz"))
            narrator.say(
                f"The classifier is {run.classifier_path}; {directory / PROJECT} keeps what the best {keep_top} trials "
                f"learned, {kept / 2**20:.1f} MiB."
            )
        return result


def _network(base: Base, freezes: list[tuple[str, ...]], poolings: list[str]) -> tuple[list[str], keras.Model]:
    """Every cut that a trial may start from, and a network that has all of them: one pass gives all."""
    size = base.image_size
    inputs = keras.Input((size, size, 3), name="image")
    x = add_blocks(preprocess(inputs), base.pretrained.column, base.pretrained.width, dtype=policy(base.precision))
    network = keras.Model(inputs, [pool(x, pooling) for pooling in poolings])
    base.pretrained.assign(network)
    cuts = {cut_layer(network, frozen) for frozen in freezes if frozen != BLOCKS} if base.change is None else set()
    return [*sorted(cut for cut in cuts if cut), *(POOLING_LAYERS[pooling] for pooling in poolings)], network


def _introduce(
    base: Base, freezes: list[Any], trials: int, algorithm: str, epochs: int, fits: list[Fit], narrator: Narrator
) -> None:
    for note in (*base.pool.notes, *base.pool.left_out[:20]):
        narrator.say(f"Note: {note}.")
    parts = hyperband_parts(trials)
    if algorithm == "hyperband" and trials < hyperband_size(parts):
        narrator.say(f"Note: one iteration of Hyperband takes {hyperband_size(parts)} trials; {trials} do not end it.")
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in base.pool.rows.items())
    each = f", each scored by {len(fits)} trainings" if len(fits) > 1 else ""
    narrator.say(
        f"{counts} images of {len(base.pool.class_names)} classes at {base.image_size} px; {base.pretrained.name}; "
        f"{trials} trials ({algorithm}) of at most {epochs} epochs{each}. "
        f"The blocks compute in {base.precision}: {base.why}."
    )


def _write(result: SearchResult, run: RunDirectory) -> None:
    if run.path is not None:
        write_hparams(run.path / "tensorboard", result.trials, result.objective)
        run.write_json("search.json", result.to_dict())
        result.to_csv(run.path / "trials.csv")
        result.plot(run.path / "trials.png")
