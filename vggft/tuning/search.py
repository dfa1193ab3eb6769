"""`vggft.search`: many trials for about the cost of one pass, by KerasTuner; no trial uses the test images."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras_tuner
import numpy as np

from ..arguments import answers
from ..augment import Augment
from ..classifier import Classifier
from ..config import Head, Training
from ..costs import estimate_search
from ..engine import own_settings
from ..errors import ConfigError
from ..heads.batches import FeatureBank
from ..heads.choice import mean_settings
from ..heads.probe import is_exact
from ..heads.resampling import Fold, resample
from ..machines.strategies import devices_of
from ..network.blocks import BLOCKS, Freeze
from ..network.precision import Precision
from ..pipeline import Run, open_run
from ..splits.groups import Group
from ..training.phases import Setting
from ..training.request import Request
from ..training.selection import refit
from .oracles import Oracle, hyperband_parts, hyperband_size, make_oracle
from .result import SearchResult, line, result_of, write_hparams
from .rounds import Rounds
from .space import SearchSpace, declaration, possible_settings
from .terms import Terms
from .trial import PROJECT, ranked, scored
from .tuner import HeadTuner, clear_project
from .workers import is_worker, opened, placed

FEW = 200  # validation images, of which an accuracy of 0.9 has a standard error of 2 points


@answers
@own_settings()
def search(
    dataset: Any,
    num_classes: int | None = None,
    *,
    space: SearchSpace | Callable[[Any], tuple[Head, Training]] | keras_tuner.HyperModel | None = None,
    trials: int | None = None,
    algorithm: Literal["random", "bayesian", "hyperband", "grid"] | Oracle = "bayesian",
    objective: str | keras_tuner.Objective | Sequence[str | keras_tuner.Objective] | None = None,
    folds: int | None = None,
    repeats: int = 1,
    winner: Literal["scored", "refit"] | None = None,
    keep_top: int = 5,
    parallel_trials: int | Literal["auto"] = "auto",
    callbacks: Sequence[Any] = (),
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
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    verbose: int = 1,
    strategy: Any = "auto",
) -> SearchResult | None:
    """Search for the head, its training, and how much to freeze, with KerasTuner's oracles.

    The images pass through the frozen blocks once, whatever is searched. Trials whose heads have the same shape are
    trained together as one model, each with the result it would have alone. A trial that trains blocks, or has batch
    normalisation, another optimizer or weight decay, is trained alone.

    Args:
        dataset, num_classes, validation, group, backbone, augment, image_size, resize, value_range, bands, precision,
            on_bad_image, class_names: as for `finetune`.
        test: as for `finetune`; no trial uses it, and the winner is evaluated on it once.
        space: a `SearchSpace`, or a function of `keras_tuner.HyperParameters` that returns a `Head` and a `Training`,
            or a `keras_tuner.HyperModel` whose `build` is such a function.
        trials: maximum number of trials; None for 30, or for as many as an oracle has.
        algorithm: `"random"`, `"bayesian"`, `"hyperband"` or `"grid"`, or an oracle of KerasTuner with arguments of its
            own, such as `keras_tuner.oracles.HyperbandOracle(max_epochs=27, factor=3)`. Its `hyperparameters` replace
            fields of the space; Hyperband's epochs are those of `training` if that says nothing else.
        objective: a metric on validation images, for example `"val_balanced_accuracy"`, a `keras_tuner.Objective`, or a
            list of these, whose sum is searched for as KerasTuner does. `"val_loss"` is the log loss, without penalties
            and smoothing. The default is accuracy, or average precision with several labels per image.
        folds: number of folds of train and validation images that each trial is scored by; its score is the mean.
        repeats: number of times that each trial is trained, with different initial weights and orders.
        winner: `"scored"`: the classifier has the weights that were scored (of the first repeat). `"refit"`: it is
            retrained on train and validation images, for the best number of epochs, which needs a test split, since no
            other images are left to evaluate it on. None is a refit with folds, or with a test split and nothing to
            adjust.
        keep_top: number of trials whose weights (of the head and unfrozen blocks) are kept on disk.
        parallel_trials: maximum number of trials that the oracle proposes before it receives any score.
        callbacks: callbacks of Keras; every training of a trial has copies, and trials are then trained alone. A refit
            has none.
        freeze, head, training: the values of everything that is not searched.
        calibrate, tune_thresholds: as for `finetune`, applied to the winner; not available with a refit.
        run_dir: a new directory. `trials/` in it is KerasTuner's project, `trials.csv` and `trials.png` show all
            trials, `tensorboard/` holds them for the HParams plugin, and the rest is as after `finetune`.
        resume: continue the search in `run_dir`; trials that ended are not trained again. With more `trials`, a search
            that is finished goes on, and its classifier stays beside the new one, as `classifier-of-<trials>.keras`.
        seed: seed of splits, draws, initial weights, order and dropout.
        verbose: 0 prints nothing.
        strategy: as for `finetune`, for trials that train blocks. With `"multiworker"`, the first of the processes is
            KerasTuner's chief, which hands out trials to all others.

    Returns:
        The trials, the best of them, and the classifier; None in a worker, of a `strategy` or by KerasTuner's own
        environment variables KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID. Chief and workers
        need the same `run_dir` and cache.

    Raises:
        DataError, ConfigError, WeightsError, CacheError, RunError: before any training; the message says what to do.
        SearchError: several trials failed in a row; the message gives the reasons.
        keras_tuner.errors.FatalError: as a space or a callback raised it; it ends the search.

    >>> import numpy as np, vggft
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    >>> images[::2] //= 4
    >>> space = vggft.SearchSpace(units=[8, 16], learning_rate=[1e-3, 1e-2])
    >>> result = vggft.search((images, np.arange(40) % 2), 2, space=space, trials=4, algorithm="random",
    ...     training=vggft.Training(epochs=2), backbone="vgg16_mini", image_size=32, verbose=0)
    >>> len(result.trials)
    4
    """
    terms = Terms(
        SearchSpace() if space is None else space,
        trials=trials,
        algorithm=algorithm,
        objective=objective,
        folds=folds,
        repeats=repeats,
        winner=winner,
        keep_top=keep_top,
        parallel_trials=parallel_trials,
        callbacks=callbacks,
    )
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
        run_dir=run_dir,
        resume=resume,
        seed=seed,
        verbose=verbose,
        strategy=strategy,
    )
    fixed = request.fixed_setting("here SearchSpace(freeze=['block4', 'all']) (--freeze block4,all) compares depths")
    terms = terms.check(freeze, fixed)
    devices = devices_of(strategy)
    with placed(devices.cluster), opened(run_dir, resume) as directory:
        terms = terms.longer_than(directory.earlier)
        settings = possible_settings(terms.space, fixed)
        run = open_run(request, settings, directory, devices)
        if run.experiment.transform is not None and any(setting.frozen == BLOCKS for setting in settings):
            raise ConfigError(
                "A search of heads trains on frozen features, so augment must be an Augment with a number of views, and"
                " block1 must be frozen in every trial; new views in every epoch would need passes for every trial."
            )
        terms = terms.resolve(run.experiment.pool, calibrate or tune_thresholds)
        run.learn_from(terms.learned)
        planned = run.passes(settings)
        longer = terms.start(run, fixed)
        if directory.finished and directory.path is not None and not longer:
            return terms.finished(run, directory.path)
        folds_ = resample(run.experiment.pool, folds, repeats, run.experiment.seed)
        if not is_worker():
            _introduce(run, terms, fixed, folds_, planned)
        bank = run.experiment.bank(planned, run.narrator)
        place = directory.path or Path(tempfile.mkdtemp(prefix="vggft-search-"))
        try:
            tuner = _tune(run, terms, fixed, bank, folds_, place)
            result = None if is_worker() else _result(run, terms, bank, tuner, place)
        except BaseException:
            if directory.path is None:
                shutil.rmtree(place, ignore_errors=True)
            raise
        if directory.path is None:  # the best networks are there for as long as the result
            weakref.finalize(result, shutil.rmtree, place, ignore_errors=True)
        return result


def _introduce(run: Run, terms: Terms, fixed: Setting, folds: list[Fold], planned: list[Any]) -> None:
    """Announce what will be searched and what it will cost."""
    notes, trials = [], terms.trials or 0
    whole = hyperband_size(hyperband_parts(trials))
    if terms.algorithm == "hyperband" and trials < whole:
        notes.append(f"one iteration of Hyperband takes {whole} trials; {trials} do not complete it")
    few = np.asarray(folds[0].validation)
    if len(few) < FEW and np.array_equal(few, np.asarray(folds[-1].validation)):
        chance = f"{len(few)} validation images choose among {trials} trials, and chance with them"
        notes.append(f"{chance}: try folds=5 (--folds 5)")
    each = f", each scored by {len(folds)} trainings" if len(folds) > 1 else ""
    epochs = terms.epochs(fixed, len(folds[0].train))
    about = f"{trials} trials ({terms.name}) of at most {epochs} epochs{each}"
    settings, proposals = terms.drawn(fixed)
    resolved = [run.resolve(setting) for setting in settings]
    run.introduce(about, notes, estimate_search(run.experiment, resolved, planned, trials * len(folds), proposals))


def _tune(run: Run, terms: Terms, fixed: Setting, bank: FeatureBank, folds: list[Fold], place: Path) -> HeadTuner:
    """Run all trials; in a worker, until the chief has no more."""
    images, goal, trials = len(folds[0].train), terms.objective, terms.trials or 0
    oracle = make_oracle(terms.algorithm, goal, trials, run.experiment.seed, terms.first)
    epochs = terms.epochs(fixed, images)
    if not is_worker():
        clear_project(place)
    with run.narrator.board(trials, trials * epochs * len(folds), goal.direction) as board:
        tuner = HeadTuner(
            oracle,
            declaration(terms.space, fixed),
            Rounds(run.experiment, bank, folds, goal, run.directory, terms.callbacks),
            directory=place,
            parallel=terms.parallel,
            images=images,
            keep_top=terms.keep_top,
            on_trial=lambda trial: board.add(line(trial), trial.score),
            on_epochs=board.advance,
        )
        tuner.search()
    return tuner


def _result(run: Run, terms: Terms, bank: FeatureBank, tuner: HeadTuner, place: Path) -> SearchResult:
    """Turn the winner into a classifier, evaluate it, and write all results."""
    outcomes, stopped = tuner.outcomes()
    best = ranked(outcomes, terms.objective.direction)[0]
    winner = Setting(best.frozen, best.head, best.training)
    if terms.winner == "refit":
        run.narrator.say("The winner is retrained on train and validation images.")
        inside = run.directory.inside(f"trials/trial_refit/{best.trial_id}")
        rows = run.experiment.pool.rows
        settings = mean_settings([best.history]) if is_exact(winner.head, winner.training) else {}
        both = np.concatenate([rows["train"], rows["validation"]])
        whole = Fold(both, None, run.experiment.seed, settings=settings)
        how: dict[str, Any] = {"run": inside, "narrator": run.narrator}
        winner, fitted = refit(run.experiment, bank, winner, best.epochs or {}, whole, **how)
        inside.drop_points()
    else:
        fitted = scored(best, place / PROJECT / f"trial_{best.trial_id}")
    classifier = run.finish(bank, winner, fitted, Classifier)
    result = result_of(run.experiment, terms.objective, str(terms.winner), outcomes, best, classifier, stopped, place)
    told = tuple(trial.to_dict() for trial in outcomes)
    classifier.record = replace(classifier.record, search=result.to_dict(), trials=told)
    if (path := run.directory.path) is not None:
        write_hparams(path / "tensorboard", result.trials, result.objective)
        run.directory.write_json("search.json", result.to_dict())
        result.to_csv(path / "trials.csv", overwrite=True)
        result.plot(path / "trials.png", overwrite=True)
    run.narrator.conclude(repr(result))
    if stopped:
        warnings.warn(stopped, stacklevel=6)  # in the line that called `search`
    run.save(classifier)
    return result
