"""The commands about many trainings: cross-validate, search, find-learning-rate, learning-curve, runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..augment import Augment
from ..config import Head, Training
from ..fields import Count
from ..files.writing import check_free
from ..overview import COLUMNS, read_runs
from ..telling.figures import check_plot
from ..tuning.space import SearchSpace
from ..weightfiles.presets import check_download
from .console import check_data, import_quietly, print_json, print_result, run_in, tell, width
from .flags import AsJson, Dataset, Force, Quiet, Verbose, Verify, Workers
from .options import AdjustOptions, BackboneOptions, DataOptions, Options, RunOptions, with_options
from .training_commands import prepared


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
        strategy: What computes, as for finetune; with `multiworker`, the first process only hands out trials.
    """

    trials: Count = 30
    algorithm: Literal["random", "bayesian", "hyperband", "grid"] = "bayesian"
    objective: str | None = None
    folds: Count | None = None
    repeats: Count = 1
    winner: Literal["scored", "refit"] | None = None
    keep_top: Count = 5
    parallel_trials: Count | Literal["auto"] = "auto"
    strategy: Literal["auto", "mirrored", "multiworker"] = "auto"


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


@dataclass(frozen=True)
class CurveOptions(Options):
    """What `vggft learning-curve` looks at.

    Args:
        backbone: Pretrained blocks, as for finetune; all of them are frozen.
        precision: Precision of the blocks; `auto` is the fastest on this machine.
        seed: Seed of the folds and draws.
    """

    backbone: str = "vgg16_imagenet"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: int = 0


@with_options
def cross_validate(
    dataset: Dataset,
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head | None,
    training: Training,
    augment: Augment | None,
    more: FoldOptions,
    run: RunOptions,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    details: Verbose = False,
) -> None:
    """Estimate how good a classifier will be if there are few images, by cross-validation; no classifier is kept.

    Every image is judged by a training that has not seen it. Frozen blocks are computed once for all folds. Of the
    images outside a fold, --validation is the share that selects the best epoch; those of a test split are in no fold.
    """
    run, run_dir = prepared(run, "cross-validation", dataset, "folds", quiet or as_json, details, data, backbone)
    import_quietly(run.verbose == 0)
    from ..crossvalidation import cross_validate as run_folds

    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(run) | vars(more)
    with run_in(run_dir):
        result = run_folds(dataset, **arguments, head=head, training=training, augment=augment)
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
    workers: Workers = 1,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    details: Verbose = False,
) -> None:
    """Search for the head and its training with KerasTuner, on frozen features that are computed once.

    An option of the search space takes one value, which is fixed, a list (64,128,256), a range (0.1:0.6), or a
    logarithmic range (1e-4:1e-2:log). All other options are as in `vggft finetune`.
    """
    run, run_dir = prepared(run, "search", dataset, "search", quiet or as_json, details, data, backbone, more.strategy)
    if space.freeze is not None:  # one value is not a choice
        fixed = isinstance(space.freeze, str)
        backbone = replace(backbone, freeze=space.freeze if fixed else "all")
        space = replace(space, freeze=None) if fixed else space
    import_quietly(run.verbose == 0)
    from ..machines.processes import end_with_parent
    from ..tuning.search import search as run_search
    from ..tuning.workers import with_workers

    end_with_parent()
    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(adjust) | vars(run) | vars(more)
    arguments |= {"head": head, "training": training, "space": space, "augment": augment}
    with run_in(run_dir), with_workers(workers, run_dir) if workers > 1 else nullcontext():
        result = run_search(dataset, **arguments)
    if result is not None:  # a worker has none
        where = {"classifier": str(run_dir / "classifier.keras"), "table of trials": str(run_dir / "trials.csv")}
        print_result(result, as_json, where)


@with_options
def find_learning_rate(
    dataset: Dataset,
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head | None,
    training: Training,
    augment: Augment | None,
    more: RangeOptions,
    plot: Annotated[Path | None, typer.Option(help="Plot the loss into a .png, .svg or .pdf file.")] = None,
    force: Force = False,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    details: Verbose = False,
) -> None:
    """Find a learning rate: raise it from step to step, and see where the loss falls and where training diverges.

    With all blocks frozen it is the --learning-rate, else the --fine-tune-learning-rate. Nothing is trained for good.
    """
    begins = backbone.backbone if more.start is None else "none"  # start brings its own
    check_data(dataset, data.validation, data.test, begins, backbone.freeze)
    check_download(begins)
    import_quietly(quiet or as_json)
    from ..learning_rates import find_learning_rate

    if plot:
        check_free(check_plot(plot), force)
    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(more)
    arguments |= {"head": head, "training": training, "augment": augment}
    level = 0 if quiet or as_json else 2 if details else 1
    found = find_learning_rate(dataset, **arguments, verbose=level)
    print_result(found, as_json, {"plot": str(found.plot(plot, overwrite=force))} if plot else {})


@with_options
def learning_curve(
    dataset: Dataset,
    data: DataOptions,
    more: CurveOptions,
    plot: Annotated[Path | None, typer.Option(help="Plot the curve into a .png, .svg or .pdf file.")] = None,
    force: Force = False,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    details: Verbose = False,
) -> None:
    """Tell how many more images would help: probes on growing shares of them, and a power law.

    It takes seconds once the frozen features are in the cache. Images of a test split are not used.
    """
    check_data(dataset, data.validation, data.test, more.backbone, "all")
    if plot:
        check_free(check_plot(plot), force)
    check_download(more.backbone)
    import_quietly(quiet or as_json)
    from ..learning_curves import learning_curve as find_curve

    level = 0 if quiet or as_json else 2 if details else 1
    found = find_curve(dataset, **vars(data), **vars(more), verbose=level)
    print_result(found, as_json, {"plot": str(found.plot(plot, overwrite=force))} if plot else {})


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that run directories are in, or below.")] = Path("runs"),
    sort: Annotated[
        str | None,
        typer.Option(
            help="Column to sort by, such as test, seconds or data; the best first.",
            autocompletion=lambda: list(COLUMNS),
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all columns into a CSV file instead of printing.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """List all runs: data, frozen blocks, head, validation and test with intervals, and seconds."""
    if output:
        check_free(output, force)
    found = read_runs(folder)
    found = found.sorted_by(sort) if sort else found
    if output:
        found.to_csv(output, force)
    if as_json:
        print_json(found.to_dict())
    else:
        tell(found.text(width()) if output is None else f"{len(found.rows)} runs are in {output}")


COMMANDS: tuple[Callable[..., None], ...] = (cross_validate, search, find_learning_rate, learning_curve, runs)
