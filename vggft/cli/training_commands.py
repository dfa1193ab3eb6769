"""The commands from data to a classifier, and to more data: audit, finetune, demo, rank; and draw."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..augment import Augment
from ..config import Head, Training
from ..errors import ConfigError
from ..extras import check_extra
from ..files.writing import check_free
from ..machines.cluster import ALONE, cluster_of
from ..run import RunDirectory
from ..weightfiles.presets import check_download
from .console import (
    check_data,
    check_exists,
    import_quietly,
    is_classifier,
    next_run,
    picture_files,
    print_json,
    print_result,
    run_in,
    tell,
    tell_files,
    tell_problems,
)
from .flags import AsJson, Dataset, Force, Quiet, Verbose, Verify, Workers
from .options import AdjustOptions, BackboneOptions, DataOptions, Options, RunOptions, with_options
from .words import numbers

PAGES = (".html", ".htm")


@dataclass(frozen=True)
class FinetuneOptions(Options):
    """Options that only `vggft finetune` has.

    Args:
        tensorboard: Write curves for TensorBoard into the run directory.
        refit: Let the final classifier learn from the validation images too; by default linear probes do, and
            blocks that start from one, if there are test images.
        time_limit: Time for the whole run, such as `90s`, `10m` or `1.5h`; `--freeze auto` has 30 minutes by default.
        start: Classifier to train further, its file or run directory: with more images, corrected labels, new classes.
        strategy: What computes: all GPUs of this machine, or, with `multiworker`, all processes that TF_CONFIG or
            Slurm tell of, each started with the same command.
    """

    tensorboard: bool = False
    refit: bool | None = None
    time_limit: str | None = None
    start: Path | None = None
    strategy: Literal["auto", "mirrored", "multiworker"] = "auto"


def audit(
    dataset: Dataset,
    num_classes: Annotated[int | None, typer.Option(help="Expected number of classes.")] = None,
    value_range: Annotated[str | None, typer.Option(help="Black and white, as for finetune.")] = None,
    bands: Annotated[str | None, typer.Option(help="Red, green and blue, as for finetune.")] = None,
    check_images: Annotated[
        bool, typer.Option("--check-images", help="Also look for blurred, dark or bright images and odd sizes.")
    ] = False,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also look for pictures that are nearly the same.")
    ] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Also look for wrong labels, by what a backbone sees in all images.")
    ] = False,
    backbone: Annotated[str, typer.Option(help="For --labels, as for finetune.")] = "vgg16_imagenet",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write everything that was found: a CSV file, or a page, problems.html."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in the data, and what is wrong with it, before any training.

    Lists unreadable files, wrong extensions, duplicates, small classes and more. Exits with 1 if there are errors.
    """
    check_exists(dataset)
    if output:
        check_free(output, force)
    if labels:
        check_download(backbone)
        import_quietly(quiet or as_json)
    from ..auditing import audit as run_audit

    how: dict[str, Any] = {"value_range": value_range and numbers(value_range), "bands": bands and numbers(bands)}
    how |= {"check_images": check_images, "near_duplicates": near_duplicates, "labels": labels, "backbone": backbone}
    how["verbose"] = 0 if quiet or as_json else 1
    found = run_audit(dataset, num_classes, **how)
    if output:
        write = found.to_html if output.suffix.lower() in (".html", ".htm") else found.to_csv
        write(output, force)
    if as_json:
        print_json(found.to_dict())
    else:
        tell(str(found))
        if output:
            tell(f"\nAll of it is in {output}")
        elif found.findings:
            asked = {"--check-images": check_images, "--near-duplicates": near_duplicates, "--labels": labels}
            again = [dataset, *(name for name, wanted in asked.items() if wanted)]
            again += ["--backbone", backbone] if labels and backbone != "vgg16_imagenet" else []
            again += ["--output", "problems.html" if labels or near_duplicates else "problems.csv"]
            tell(f"\nAll of it: vggft audit {shlex.join(again)}")
    if not found.ok:
        raise typer.Exit(1)


@with_options
def finetune(
    dataset: Dataset,
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head | None,
    training: Training,
    augment: Augment | None,
    more: FinetuneOptions,
    adjust: AdjustOptions,
    run: RunOptions,
    workers: Workers = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the data, print an estimate, and stop.")] = False,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    details: Verbose = False,
) -> None:
    """Train a classifier on your images and evaluate it.

    Frozen blocks are computed once, and the head is trained on their features. Unfrozen blocks (--freeze block3) are
    then trained together with the head.
    """
    begins = backbone if more.start is None else replace(backbone, backbone="none")  # start brings its own
    run, run_dir = prepared(run, "run", dataset, "", quiet or as_json, details, data, begins, more.strategy)
    import_quietly(run.verbose == 0)
    from .. import api
    from ..machines.helpers import with_workers
    from ..machines.processes import end_with_parent

    end_with_parent()
    arguments: dict[str, Any] = vars(data) | vars(backbone) | vars(adjust) | vars(run) | vars(more)
    arguments |= {"head": head, "training": training, "augment": augment}
    if dry_run:
        cost = api.estimate(dataset, **arguments, workers=workers)
        print_result(cost, as_json)
        return
    arguments |= {"strategy": "multiworker"} if workers > 1 else {}
    with run_in(run_dir), with_workers(workers, run_dir):
        classifier = api.finetune(dataset, **arguments)
    if arguments["strategy"] == "multiworker" and not cluster_of().chief:
        return  # the chief tells the result
    print_result(classifier.evaluation, as_json, {"classifier": str(run_dir / "classifier.keras")})
    if not as_json:
        tell(f"\nNext: vggft report {shlex.quote(str(run_dir))}")


def rank(
    unlabeled: Annotated[Path, typer.Argument(help="Images without labels: a folder, a file, or a CSV file of them.")],
    model: Annotated[Path, typer.Argument(help="The classifier that would learn from them, or its run directory.")],
    by: Annotated[
        Literal["uncertainty", "diversity", "both"],
        typer.Option(help="Images that it is unsure of, images unlike all that it knows, or unlike ones among these."),
    ] = "both",
    number: Annotated[int, typer.Option(help="Number of images to choose.", min=1)] = 100,
    csv: Annotated[Path | None, typer.Option(help="Write the list into a CSV file.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page of the pictures, an HTML file.")] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose which images to label next, those whose labels would teach a classifier most.

    Images that it has learned from are left out, and copies. Those that cannot be read are listed, and the command
    exits with 1.
    """
    if is_classifier(unlabeled) and not is_classifier(model):  # the other way round, as for predict
        unlabeled, model = model, unlabeled
    if page and page.suffix not in PAGES:
        raise ConfigError(f"A page is an .html file; got {page.name}.")
    for file in filter(None, (csv, page)):
        check_free(file, force)
    files = picture_files([unlabeled])
    check_exists(model)
    import_quietly(quiet or as_json)
    from ..classifier import load

    how: dict[str, Any] = {"by": by, "number": number, "verbose": 0 if quiet or as_json else 1}
    found = load(model).rank(files, on_bad_image="skip", **how)
    where = {"list": str(found.to_csv(csv, force))} if csv else {}
    where |= {"page": str(found.save(page, force))} if page else {}
    print_result(found, as_json, where)
    if found.errors:
        tell_problems(f"{len(found.errors)} of {len(files)} images cannot be read", found.errors.values())
        raise typer.Exit(1)


def prepared(
    run: RunOptions,
    what: str,
    dataset: str,
    name: str,
    quiet: bool,
    details: bool,
    data: DataOptions,
    backbone: BackboneOptions,
    strategy: str = "auto",
) -> tuple[RunOptions, Path]:
    """Complete the options of a run and choose its directory, after what can be checked in no time.

    Raises:
        ConfigError, DataError, RunError, WeightsError: something is missing, does not exist, or cannot be.
    """
    check_data(dataset, data.validation, data.test, backbone.backbone, backbone.freeze)
    if run.resume and run.run_dir is None:
        raise ConfigError(f"--resume continues the {what} in --run-dir, so --run-dir must be given too.")
    cluster = cluster_of() if strategy == "multiworker" else ALONE
    if cluster.size > 1 and run.run_dir is None:
        raise ConfigError("--strategy multiworker needs --run-dir, which all processes of a run share.")
    run_dir = Path(run.run_dir or next_run(name, dataset))
    if cluster.chief and "KERASTUNER_ORACLE_IP" not in os.environ:  # a worker joins a run that has begun
        with RunDirectory.open(run_dir, run.resume):
            pass  # the run itself opens it again, when TensorFlow is there
    check_download(backbone.backbone)  # last, as it asks the network
    level = 0 if quiet else 2 if details else run.verbose
    return replace(run, run_dir=run_dir, verbose=level), run_dir


def demo(
    run_dir: Annotated[Path | None, typer.Option(help="New directory for all results.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of splits, initial weights and order.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """See it work in a minute, without a network: handwritten digits and the backbone that ships with vggft.

    Writes a folder of digits, fine-tunes on it, searches for something better, and writes a report.
    """
    import_quietly(quiet or as_json)
    from ..demo import run_demo

    found = run_demo(run_dir or next_run("demo"), seed, quiet or as_json)
    if as_json:
        print_json(found, indent=None)
    elif quiet:
        tell(found["report"])


def draw(
    output: Annotated[
        Path,
        typer.Argument(help="Image file to write, such as vgg16.png; or a classifier, drawn as network.png beside it."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="Classifier to draw, or its run directory; by default the paper's network."),
    ] = None,
    column: Annotated[
        Literal["A", "A-LRN", "B", "C", "D", "E"], typer.Option(help="Column of the paper's Table 1.")
    ] = "D",
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw a network with the shapes of its layers (needs graphviz)."""
    if model is None and (output.is_dir() or output.suffix == ".keras"):
        model, output = output, (output if output.is_dir() else output.parent) / "network.png"
    check_extra("draw", "Drawing")
    check_free(output, force)
    import_quietly(quiet or as_json)
    from ..network import vgg

    if model is not None:
        check_exists(model)
        from ..classifier import load
    network = vgg.vgg(column) if model is None else load(model).keras_model
    tell_files({"drawing": vgg.draw(network, output, force)}, as_json)


COMMANDS: tuple[Callable[..., None], ...] = (audit, finetune, demo, rank, draw)
