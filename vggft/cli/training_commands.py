"""The commands from data to a classifier: audit, finetune, cross-validate, search, find-learning-rate, demo."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..config import Augment, Head, Training
from ..errors import ConfigError
from ..fields import Count
from ..tuning.space import SearchSpace
from .console import import_quietly, next_run, print_result, refuse
from .options import (
    AdjustOptions,
    AsJson,
    BackboneOptions,
    DataOptions,
    Dataset,
    Force,
    Options,
    Quiet,
    RunOptions,
    Verify,
    with_options,
)


@dataclass(frozen=True)
class FinetuneOptions(Options):
    """Options that only `vggft finetune` has.

    Args:
        tensorboard: Write curves for TensorBoard into the run directory.
        start: Classifier to train further, its file or run directory: with more images, corrected labels, new classes.
    """

    tensorboard: bool = False
    start: Path | None = None


@dataclass(frozen=True)
class FoldOptions(Options):
    """How `vggft cross-validate` makes folds.

    Args:
        folds: Number of folds; each is left out of one training, and judges it.
        repeats: Number of times that the images are put into other folds.
    """

    folds: Count = 5
    repeats: Count = 1


@dataclass(frozen=True)
class SearchOptions(Options):
    """How `vggft search` searches.

    Args:
        trials: Maximum number of trials.
        algorithm: Algorithm that proposes trials, one of KerasTuner's.
        objective: Metric on the validation images that selects the winner, such as `val_balanced_accuracy`; by default
            accuracy, or average precision with several labels per image.
        folds: Number of folds of train and validation images over which the score of each trial is averaged.
        repeats: Number of times that each trial is trained, with different initial weights and orders.
        winner: Weights of the classifier: those that were `scored`, or a `refit` on train and validation images.
        keep_top: Number of trials whose trained weights are kept on disk.
        parallel_trials: Maximum number of trials that are proposed at once.
    """

    trials: Count = 30
    algorithm: Literal["random", "bayesian", "hyperband", "grid"] = "bayesian"
    objective: str | None = None
    folds: Count | None = None
    repeats: Count = 1
    winner: Literal["scored", "refit"] | None = None
    keep_top: Count = 5
    parallel_trials: Count | Literal["auto"] = "auto"


@dataclass(frozen=True)
class RangeOptions(Options):
    """How `vggft find-learning-rate` raises the rate.

    Args:
        lowest: Learning rate of the first step.
        highest: Learning rate of the last step.
        steps: Number of steps, each of one batch.
        seed: Seed of splits, initial weights, order and dropout.
        start: Classifier to train further, its file or run directory.
    """

    lowest: float = 1e-7
    highest: float = 10.0
    steps: Count = 100
    seed: int = 0
    start: Path | None = None


def audit(
    dataset: Dataset,
    num_classes: Annotated[int | None, typer.Option(help="Expected number of classes.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in the data, and what is wrong with it, before any training.

    Lists unreadable files, wrong extensions, duplicates, small classes and more. Exits with 1 if there are errors.
    """
    from ..data.audit import audit as run_audit

    found = run_audit(dataset, num_classes, verbose=0 if quiet or as_json else 1)
    typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else str(found))
    if not found.ok:
        raise typer.Exit(1)


@with_options
def finetune(
    dataset: Dataset,
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head,
    training: Training,
    augment: Augment | None,
    more: FinetuneOptions,
    adjust: AdjustOptions,
    run: RunOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the data, print an estimate, and stop.")] = False,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier on your images and evaluate it.

    Frozen blocks are computed once, and the head is trained on their features. Unfrozen blocks (--freeze block3) are
    then trained together with the head.
    """
    run, run_dir = _prepared(run, data, "run", Path(dataset).stem, quiet or as_json)
    import_quietly()
    from .. import api

    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(adjust) | vars(run) | vars(more)
    arguments |= {"head": _head(head), "training": training, "augment": augment}
    if dry_run:
        cost = api.estimate(dataset, **arguments)
        typer.echo(json.dumps(cost.to_dict(), indent=2) if as_json else str(cost))
        return
    classifier = api.finetune(dataset, **arguments)
    print_result(classifier.evaluation, as_json, {"classifier": str(run_dir / "classifier.keras")})
    if not as_json:
        typer.echo(f"\nNext: vggft report {run_dir}")


@with_options
def cross_validate(
    dataset: Dataset,
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head,
    training: Training,
    augment: Augment | None,
    more: FoldOptions,
    run: RunOptions,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Estimate how good a classifier will be if there are few images, by cross-validation; no classifier is kept.

    Every image is judged by a training that has not seen it. Frozen blocks are computed once for all folds. Of the
    images outside a fold, --validation is the share that selects the best epoch; those of a test split are in no fold.
    """
    run, run_dir = _prepared(run, data, "cross-validation", f"{Path(dataset).stem}-folds", quiet or as_json)
    import_quietly()
    from ..crossvalidation import cross_validate as run_folds

    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(run) | vars(more)
    result = run_folds(dataset, **arguments, head=_head(head), training=training, augment=augment)
    where = {"table of folds": str(run_dir / "folds.csv"), "table of predictions": str(run_dir / "predictions.csv")}
    print_result(result, as_json, where)


@with_options
def search(
    dataset: Dataset,
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head,
    training: Training,
    space: SearchSpace,
    augment: Augment | None,
    more: SearchOptions,
    adjust: AdjustOptions,
    run: RunOptions,
    workers: Annotated[int, typer.Option(help="Number of processes on this machine, one per GPU if any.")] = 1,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search for the head and its training with KerasTuner, on frozen features that are computed once.

    An option of the search space takes one value, which is fixed, a list (64,128,256), a range (0.1:0.6), or a
    logarithmic range (1e-4:1e-2:log). All other options are as in `vggft finetune`.
    """
    run, run_dir = _prepared(run, data, "search", f"{Path(dataset).stem}-search", quiet or as_json)
    if space.freeze is not None:  # one value is not a choice
        fixed = isinstance(space.freeze, str)
        backbone = replace(backbone, freeze=space.freeze if fixed else "all")
        space = replace(space, freeze=None) if fixed else space
    import_quietly()
    from ..tuning.search import search as run_search
    from ..tuning.workers import end_with_chief, with_workers

    end_with_chief()
    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(adjust) | vars(run) | vars(more)
    arguments |= {"head": head, "training": training, "space": space, "augment": augment}
    with with_workers(workers, run_dir) if workers > 1 else nullcontext():
        result = run_search(dataset, **arguments)
    if result is not None:  # a worker has none
        where = {"classifier": str(run_dir / "classifier.keras"), "table of trials": str(run_dir / "trials.csv")}
        print_result(result, as_json, where)


@with_options
def find_learning_rate(
    dataset: Dataset,
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head,
    training: Training,
    augment: Augment | None,
    more: RangeOptions,
    plot: Annotated[Path | None, typer.Option(help="Plot the loss into a .png, .svg or .pdf file.")] = None,
    force: Force = False,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find a learning rate: raise it from step to step, and see where the loss falls and where training diverges.

    With all blocks frozen it is the --learning-rate, else the --fine-tune-learning-rate. Nothing is trained for good.
    """
    _check_classes(data)
    import_quietly()
    from .. import learning_rates

    if plot:
        refuse(learning_rates.check_plot(plot), force)
    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(more)
    arguments |= {"head": _head(head), "training": training, "augment": augment}
    found = learning_rates.find_learning_rate(dataset, **arguments, verbose=0 if quiet or as_json else 1)
    print_result(found, as_json, {"plot": str(found.plot(plot))} if plot else {})


def _head(head: Head) -> Head | None:
    """Return None, which leaves the choice to the run, if no option of the head was given."""
    return None if head == Head() else head


def _check_classes(data: DataOptions) -> None:
    if data.num_classes is None:
        raise ConfigError("The number of classes is missing: give --num-classes, or num_classes in the --config file.")


def _prepared(run: RunOptions, data: DataOptions, what: str, name: str, quiet: bool) -> tuple[RunOptions, Path]:
    """Complete the options of a run and choose its directory; raise `ConfigError` if something is missing."""
    _check_classes(data)
    if run.resume and run.run_dir is None:
        raise ConfigError(f"--resume continues the {what} in --run-dir, so --run-dir must be given too.")
    run_dir = Path(run.run_dir or next_run(name))
    return replace(run, run_dir=run_dir, verbose=0 if quiet else run.verbose), run_dir


def demo(
    run_dir: Annotated[Path | None, typer.Option(help="New directory for all results.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of splits, initial weights and order.")] = 0,
    quiet: Quiet = False,
) -> None:
    """See it work in a minute or two, without a network: handwritten digits and the backbone that ships with vggft.

    Fine-tunes two blocks and a head, then searches for a head on frozen features.
    """
    import_quietly()
    import numpy as np
    from sklearn.datasets import load_digits

    from ..api import finetune as run_finetune
    from ..tuning.search import search as run_search

    run_dir = run_dir or next_run("demo")
    digits = load_digits()
    # 8x8 images of 17 greys: each pixel becomes a 4x4 square, as the network needs at least 32 px
    images = np.kron(digits.images * (255 / 16), np.ones((1, 4, 4))).astype("uint8")
    data = np.repeat(images[..., None], 3, axis=-1), digits.target
    common: dict[str, Any] = {"num_classes": 10, "test": 0.2, "backbone": "vgg16_mini", "image_size": 32}
    common |= {"seed": seed, "verbose": 0 if quiet else 1}
    training = Training(epochs=20, fine_tune_epochs=8)
    classifier = run_finetune(data, **common, freeze="block3", training=training, run_dir=run_dir)
    print_result(classifier.evaluation, False, {"classifier": f"{run_dir / 'classifier.keras'}\n"})
    space = SearchSpace(units=[64, 128], layers=1)
    how: dict[str, Any] = {"trials": 8, "algorithm": "random", "training": Training(epochs=20)}
    typer.echo(str(run_search(data, **common, space=space, **how, run_dir=run_dir / "search")))


COMMANDS: tuple[Callable[..., None], ...] = (audit, finetune, cross_validate, search, find_learning_rate, demo)
