"""The verbs for a classifier that is finished: evaluate, compare, explain, report, export, serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from .options import AsJson, Data, Quiet, import_quietly, picture_files, print_evaluation, quiet_stderr

Model = Annotated[Path, typer.Argument(help="A classifier, as runs/flowers-1/classifier.keras, or its run directory.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Split = Annotated[str | None, typer.Option(help="A part of data that are split; by default test, or all.")]


def load(model: Path) -> Any:
    """The classifier of a file or of a run directory."""
    import_quietly()
    from ..classifier import load as load_file

    return load_file(model / "classifier.keras" if model.is_dir() else model)


def refuse(path: Path, force: bool) -> None:
    """Raise `ConfigError` rather than overwrite anything without being asked."""
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; --force overwrites it.")


def evaluate(
    model: Model,
    data: Data,
    split: Split = None,
    by: Annotated[str | None, typer.Option(help="Also by a column of the data: site or device, say.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Judge a classifier on labelled images."""
    found = load(model).evaluate(data, split=split, verbose=0 if quiet or as_json else 1)
    slices = {} if by is None else found.slices(by)
    if as_json:
        more = {"slices": {name: each.to_dict() for name, each in slices.items()}} if slices else {}
        print_evaluation(found, as_json, more)
        return
    print_evaluation(found, as_json, {})
    if slices:
        typer.echo(f"\nBy {by}:")
        for name, each in slices.items():
            typer.echo(f"  {name}: {each!r}")


def compare(
    first: Model,
    second: Annotated[Path, typer.Argument(help="Another one.")],
    data: Annotated[str | None, typer.Argument(help="By default the images that both were judged on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two classifiers on the same images: McNemar's test, and the difference in every metric."""
    classifiers = load(first), load(second)
    from ..evaluation.compare import compare as run_compare

    names = (first.parent.name, first.name) if first.suffix else (first.name, first.name)
    others = (second.parent.name, second.name) if second.suffix else (second.name, second.name)
    told = next(((a, b) for a, b in zip(names, others, strict=True) if a != b), (str(first), str(second)))
    found = run_compare(*classifiers, data, names=told)
    typer.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else str(found))


def explain(
    model: Model,
    pictures: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the overlays.")] = Path("explained"),
    label: Annotated[str | None, typer.Option(help="The class to explain; by default the likeliest.")] = None,
    block: Annotated[str, typer.Option(help="block5 knows best what, earlier ones see more finely where.")] = "block5",
    force: Force = False,
) -> None:
    """Show where in pictures the classifier saw a class, by Grad-CAM."""
    files = picture_files(pictures)
    targets = [output / f"{file.stem}.{block}.jpg" for file in files]
    if len(set(targets)) < len(targets):
        targets = [output / f"{i:05d}-{target.name}" for i, target in enumerate(targets)]
    for target in targets:
        refuse(target, force)
    classifier = load(model)
    for start in range(0, len(files), 64):
        found = classifier.explain(files[start : start + 64], label, block)
        for file, target, each in zip(files[start:], targets[start:], found, strict=False):
            typer.echo(f"{file}: {each.label} ({each.probability:.1%}) -> {each.save(target)}")


def report(
    model: Model,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="By default report.html beside it.")] = None,
    card: Annotated[Path | None, typer.Option(help="Of the model; by default MODEL_CARD.md.")] = None,
    force: Force = False,
) -> None:
    """Write all there is to see of a run as one HTML file, and a model card."""
    folder = model if model.is_dir() else model.parent
    output, card = output or folder / "report.html", card or folder / "MODEL_CARD.md"
    refuse(output, force)
    refuse(card, force)
    classifier = load(model)
    typer.echo(f"The report is {classifier.report(output)}")
    typer.echo(f"The model card is {classifier.model_card(card)}")


def export(
    model: Model,
    output: Annotated[Path, typer.Argument(help="flowers.onnx, flowers.tflite, or a name without suffix: SavedModel.")],
    precision: Annotated[str, typer.Option(help="float32; for LiteRT also float16 or int8.")] = "float32",
    data: Annotated[
        str | None,
        typer.Option(help="Labelled images to check it on; by default those it was judged on."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a classifier for another runtime, and check there that it says the same."""
    refuse(output, force)
    classifier = load(model)
    with quiet_stderr():  # the converters' own log
        found = classifier.export(output, precision=precision, dataset=data, overwrite=force)
    typer.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else str(found))


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Loopback by default: nobody else can reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Of the page.")] = 8000,
    max_megabytes: Annotated[float, typer.Option(help="Of an upload.")] = 10.0,
) -> None:
    """Open a page where a picture is dropped and classified, and a JSON endpoint. Nothing is kept."""
    classifier = load(model)
    from ..deploy.server import serve as run_serve

    url = f"http://{host}:{port}"
    told = f"{url} (Ctrl+C ends it); for programs: curl --data-binary @picture.jpg {url}/classify"
    how: dict[str, Any] = {"host": host, "port": port, "max_bytes": int(max_megabytes * 2**20)}
    run_serve(classifier, **how, on_listening=lambda: typer.echo(told))


VERBS = (evaluate, compare, explain, report, export, serve)
