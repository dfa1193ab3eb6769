"""The command line, `vggft audit|finetune|predict|draw|demo`; further verbs are in the modules beside it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..config import Augment, Head, Training
from ..errors import ConfigError, VggftError
from ..tuning.space import SearchSpace
from . import cache_commands as cache_cli
from . import classifier_commands as classifier_cli
from . import search_commands as search_cli
from .options import (
    AsJson,
    Data,
    OnBadImage,
    Quiet,
    fraction,
    import_quietly,
    integers,
    next_run,
    picture_files,
    print_evaluation,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune VGG16 on your own images. Start with `vggft demo`, then `vggft audit FOLDER`, "
    "then `vggft finetune FOLDER --num-classes N`.",
)


app.add_typer(cache_cli.app, name="cache")
app.command()(search_cli.search)
for verb in classifier_cli.VERBS:
    app.command()(verb)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"vggft {__version__}")
        raise typer.Exit


@app.command()
def audit(
    data: Data,
    num_classes: Annotated[int | None, typer.Option(help="How many classes there should be.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """What is in the data, and what is wrong with it, before any training.

    Lists unreadable files, wrong extensions, duplicates, small classes and more. Exits with 1 if there are errors.
    """
    from ..data.audit import audit as run_audit

    found = run_audit(data, num_classes, verbose=0 if quiet or as_json else 1)
    typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else str(found))
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def finetune(
    data: Data,
    num_classes: Annotated[int, typer.Option(help="How many classes there are; checked against the data.")],
    validation: Annotated[str, typer.Option(help="A fraction of what is not test, or a dataset.")] = "0.2",
    test: Annotated[str | None, typer.Option(help="A fraction of all images, or a dataset; touched once.")] = None,
    backbone: Annotated[str, typer.Option(help="vgg16_imagenet, vgg16_mini, or a weights file.")] = "vgg16_imagenet",
    freeze: Annotated[
        str, typer.Option(help="all, none, block3 (through block 3), or blocks with commas: block1,block4.")
    ] = "all",
    units: Annotated[
        str, typer.Option(help="Widths of the head's layers, as 256 or 512,128; '' is a linear probe.")
    ] = "256",
    pooling: Annotated[str, typer.Option(help="avg, max or flatten.")] = "avg",
    dropout: Annotated[float, typer.Option(help="In the head.")] = 0.5,
    epochs: Annotated[int | None, typer.Option(help="For the head; by default from the number of images.")] = None,
    fine_tune_epochs: Annotated[int | None, typer.Option(help="For unfrozen blocks and head.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak, for the head.")] = 1e-3,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side; by default the backbone's own.")] = None,
    on_bad_image: Annotated[
        OnBadImage, typer.Option(help="Stop and list them all, or leave them out.")
    ] = OnBadImage.stop,
    run_dir: Annotated[
        Path | None, typer.Option(help="A new directory for all results; by default runs/<data>-<number>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --run-dir.")] = False,
    precision: Annotated[
        str, typer.Option(help="Of the blocks: float32, bfloat16, float16, or auto, the fastest here.")
    ] = "auto",
    augment: Annotated[bool, typer.Option("--augment", help="Learn from four seeded views of every image.")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Fit a temperature on the validation images.")] = False,
    tune_thresholds: Annotated[
        bool, typer.Option("--tune-thresholds", help="Fit one for each of several labels on the validation images.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write its curves into the run directory.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the data, print an estimate, and stop.")] = False,
    seed: Annotated[int, typer.Option(help="Of splits, weights and order.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier on your images and judge it.

    Frozen blocks are computed once; the head is trained on that. With blocks unfrozen (--freeze block3), they then
    learn together with the head.
    """
    head = Head(units=integers(units), pooling=pooling, dropout=dropout)  # type: ignore[arg-type]
    training = Training(
        epochs=epochs, fine_tune_epochs=fine_tune_epochs, batch_size=batch_size, learning_rate=learning_rate
    )
    if resume and run_dir is None:
        raise ConfigError("--resume goes on with the run in --run-dir, which has to be named.")
    import_quietly()
    from .. import api

    arguments: dict[str, Any] = {
        "validation": fraction(validation),
        "test": fraction(test),
        "backbone": backbone,
        "freeze": tuple(freeze.split(",")) if "," in freeze else freeze,
        "head": head,
        "training": training,
        "augment": Augment() if augment else None,
        "image_size": image_size,
        "precision": precision,
        "on_bad_image": on_bad_image.value,
        "calibrate": calibrate,
        "tune_thresholds": tune_thresholds,
        "tensorboard": tensorboard,
        "seed": seed,
        "verbose": 0 if quiet or as_json else 1,
    }
    if dry_run:
        cost = api.estimate(data, num_classes, **arguments)
        typer.echo(json.dumps(cost.to_dict(), indent=2) if as_json else str(cost))
        return
    run_dir = run_dir or next_run(Path(data).stem)
    classifier = api.finetune(data, num_classes, run_dir=run_dir, resume=resume, **arguments)
    print_evaluation(classifier.evaluation, as_json, {"classifier": str(run_dir / "classifier.keras")})
    if not as_json:
        typer.echo(f"\nNext: vggft report {run_dir}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A classifier, as runs/flowers-1/classifier.keras.")],
    pictures: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a CSV file instead of printing.")] = None,
    top: Annotated[int, typer.Option(help="How many labels to print for each image.")] = 3,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    quiet: Quiet = False,
) -> None:
    """Classify images: labels with probabilities, or a CSV file with one row an image."""
    if output and output.exists() and not force:
        raise ConfigError(f"{output} exists already; --force overwrites it.")
    from ..run import write_whole

    files = picture_files(pictures)
    import_quietly()
    from ..classifier import load

    classifier = load(model)
    probabilities = classifier.predict(files, verbose=0 if quiet else 1)
    if output is None:
        for file, row in zip(files, probabilities, strict=True):
            order = (-row).argsort()[:top]
            typer.echo(f"{file}: " + ", ".join(f"{classifier.class_names[i]} ({row[i]:.1%})" for i in order))
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = ("image", "label", "probability")
    writer.writerow([*own, *(f"class {name}" if name in own else name for name in classifier.class_names)])
    for file, row in zip(files, probabilities, strict=True):
        label = "|".join(classifier.describe(row).present)
        writer.writerow([file, label, f"{row.max():.6f}", *(f"{p:.6f}" for p in row)])
    write_whole(output, text.getvalue())
    typer.echo(f"{len(files)} predictions are in {output}")


@app.command()
def draw(
    output: Annotated[Path, typer.Argument(help="The picture to write, as vgg16.png.")],
    model: Annotated[Path | None, typer.Option(help="A classifier; by default the paper's network.")] = None,
    column: Annotated[str, typer.Option(help="Of Table 1: A, A-LRN, B, C, D or E.")] = "D",
) -> None:
    """Draw a network with the shapes of its layers (needs graphviz)."""
    import_quietly()
    from ..classifier import load
    from ..network import vgg

    network = vgg.vgg(column) if model is None else load(model).keras_model
    typer.echo(f"The picture is {vgg.draw(network, output)}")


@app.command()
def demo(
    run_dir: Annotated[Path | None, typer.Option(help="A new directory for all results.")] = None,
    seed: Annotated[int, typer.Option(help="Of splits, weights and order.")] = 0,
    quiet: Quiet = False,
) -> None:
    """See it work in a minute or two, with no network: handwritten digits on the backbone that ships with vggft.

    Fine-tunes two blocks and a head, then searches for a head on frozen features.
    """
    import_quietly()
    import numpy as np
    from sklearn.datasets import load_digits

    from ..api import finetune as run_finetune
    from ..tuning.search import search as run_search

    run_dir = run_dir or next_run("demo")
    digits = load_digits()
    # 8x8 pictures of 17 greys: each pixel becomes a 4x4 square, for a network that starts at 32 px
    pictures = np.kron(digits.images * (255 / 16), np.ones((1, 4, 4))).astype("uint8")
    data = np.repeat(pictures[..., None], 3, axis=-1), digits.target
    common: dict[str, Any] = {
        "test": 0.2,
        "backbone": "vgg16_mini",
        "image_size": 32,
        "seed": seed,
        "verbose": 0 if quiet else 1,
    }
    classifier = run_finetune(
        data,
        num_classes=10,
        freeze="block3",
        training=Training(epochs=20, fine_tune_epochs=8),
        run_dir=run_dir,
        **common,
    )
    typer.echo(str(classifier.evaluation))
    typer.echo(f"\nThe classifier is {run_dir / 'classifier.keras'}\n")
    result = run_search(
        data,
        num_classes=10,
        space=SearchSpace(units=[64, 128], layers=1),
        trials=8,
        algorithm="random",
        training=Training(epochs=20),
        run_dir=run_dir / "search",
        **common,
    )
    typer.echo(str(result))


def main() -> None:
    """The entry point: errors that we raise on purpose are printed as sentences, not as tracebacks."""
    try:
        app()
    except VggftError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(2)
