"""The commands for a finished classifier: predict, evaluate, compare, explain, report, export, serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..engine import quiet_stderr
from ..errors import ConfigError
from ..extras import OF_EXPORTS, check_extra
from ..files.writing import check_free
from ..foreign import visible
from .console import (
    check_exists,
    import_quietly,
    is_classifier,
    picture_files,
    print_json,
    print_result,
    short_names,
    tell,
    tell_files,
    tell_note,
    tell_problems,
)
from .flags import AsJson, Dataset, Force, Quiet, Verify
from .words import listed

Model = Annotated[
    Path, typer.Argument(help="A classifier, such as runs/flowers-1/classifier.keras, or its run directory.")
]
Images = Annotated[list[Path], typer.Argument(help="Image files, folders of them, or a CSV file that names them.")]
Split = Annotated[str | None, typer.Option(help="Split to evaluate on, if the dataset is split; test by default.")]
Views = Annotated[
    int,
    typer.Option(help="Number of views to average over: the image, its mirror image, then cropped ones.", min=1),
]


def load(model: Path, quiet: bool = False) -> Any:
    """Load a classifier from its file or its run directory."""
    check_exists(model)
    import_quietly(quiet)
    from ..classifier import load as load_file

    return load_file(model)


def predict(
    model: Model,
    images: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a CSV file instead of printing.")] = None,
    top: Annotated[int, typer.Option(help="Number of labels to print for each image.", min=1)] = 3,
    views: Views = 1,
    strangers: Annotated[
        bool, typer.Option("--strangers", help="Also say which images are probably of none of the classes.")
    ] = False,
    coverage: Annotated[
        float | None,
        typer.Option(help="Print sets of labels that hold the true one for this share of images, such as 0.9."),
    ] = None,
    on_bad_image: Annotated[
        Literal["raise", "skip"] | None,
        typer.Option(
            help="Whether images that cannot be read stop the command, or are left out. By default those among several "
            "are listed and left out, and the command exits with 1.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify images: print labels with their probabilities, or write a CSV file with one row for each image.

    The file has a column for each class, and a column error for images that cannot be read; with --strangers also
    stranger and distance, and with --coverage the labels of the set.
    """
    if output:
        check_free(output, force)
    files = picture_files(images)
    rule = on_bad_image or ("skip" if len(files) > 1 else "raise")
    if coverage is not None and views > 1:
        raise ConfigError("--coverage promises what held for one view of each image: leave out --views.")
    classifier = load(model, quiet or as_json)
    limit = None if coverage is None else classifier.trust.limit(coverage, "lac", classifier.description.multi_label)
    found = classifier.predictions(
        files, verbose=0 if quiet or as_json else 1, views=views, on_bad_image=rule, strangers=strangers
    )
    if limit is not None:
        found = found.with_sets(limit, "lac")
    if output:
        found.to_csv(output, force)
    if as_json:
        cuts = {"thresholds": dict(found.thresholds)} if found.thresholds else {}
        print_json([row | cuts for row in found.rows()])
    elif output:
        typer.echo(visible(f"{len(files) - len(found.errors or ())} predictions are in {output}"))
    else:
        for row, one in enumerate(found.found):
            if one is not None:
                tell(found.line(row, top))
    if found.rule and not quiet and not as_json:
        tell_note(found.rule)
    if found.errors:
        tell_problems(f"{len(found.errors)} of {len(files)} images cannot be read", found.errors.values())
        if on_bad_image is None:
            raise typer.Exit(1)


def evaluate(
    model: Model,
    dataset: Dataset,
    split: Split = None,
    by: Annotated[str | None, typer.Option(help="Also evaluate each value of a column, such as site.")] = None,
    views: Views = 1,
    class_names: Annotated[
        str | None,
        typer.Option(
            help="What the labels 0, 1, ... stand for, separated by commas; by default the classifier's classes."
        ),
    ] = None,
    verify: Verify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a classifier on labelled images."""
    check_exists(dataset)
    how: dict[str, Any] = {"split": split, "views": views, "class_names": class_names and listed(class_names)}
    found = load(model, quiet or as_json).evaluate(dataset, verbose=0 if quiet or as_json else 1, **how)
    slices = {} if by is None else found.slices(by)
    if as_json:
        more = {"slices": {name: each.to_dict() for name, each in slices.items()}} if slices else {}
        print_result(found, as_json, more)
        return
    print_result(found, as_json)
    if slices:
        typer.echo(f"\nBy {visible(by)}:")
        for name, each in slices.items():
            tell(f"- {name}: {each!r}")


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more classifiers, or their run directories; then labelled images, if not those that "
            "all were evaluated on."
        ),
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare classifiers on the same images: McNemar's test, and the difference in every metric.

    All are compared with the first, and the probabilities of McNemar's test are adjusted to their number.
    """
    check_exists(*models)
    *classifiers, last = models
    dataset = None if is_classifier(last) else str(last)
    classifiers = models if dataset is None else classifiers
    if len(classifiers) < 2:
        raise ConfigError(f"compare needs two classifiers or more; got {', '.join(map(str, models))}.")
    loaded = [load(each, quiet or as_json) for each in classifiers]
    from ..evaluation.compare import compare_all

    print_result(compare_all(loaded, dataset, names=short_names(classifiers)), as_json)


def explain(
    model: Model,
    images: Images,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the overlays; by default explained next to the classifier."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Class to explain; by default the predicted class.")] = None,
    block: Annotated[
        Literal["block1", "block2", "block3", "block4", "block5"] | None,
        typer.Option(help="Block to use: the last one is the most specific, earlier ones have a finer resolution."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show where in images the classifier saw a class, by Grad-CAM."""
    files = picture_files(images)
    output = output or (model if model.is_dir() else model.parent) / "explained"
    classifier = load(model, quiet or as_json)
    from ..artifact.explain import last_seen

    targets = [output / f"{file.stem}.{block or last_seen(classifier)}.jpg" for file in files]
    if len(set(targets)) < len(targets):
        targets = [output / f"{i:05d}-{target.name}" for i, target in enumerate(targets)]
    for target in targets:
        check_free(target, force)
    told = []
    for start in range(0, len(files), 64):
        found = classifier.explain(files[start : start + 64], label, block)
        for file, target, each in zip(files[start:], targets[start:], found, strict=False):
            saved = str(each.save(target, force))
            told.append({"image": str(file), "label": each.label, "probability": each.probability, "overlay": saved})
            if not as_json:
                typer.echo(visible(f"{file}: {each.label} ({each.probability:.1%}) -> {saved}"))
    if as_json:
        print_json(told)


def report(
    model: Model,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file; by default report.html next to the classifier.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Model card; by default MODEL_CARD.md next to the classifier.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a report of a classifier as one HTML file, and a model card."""
    folder = model if model.is_dir() else model.parent
    output, card = output or folder / "report.html", card or folder / "MODEL_CARD.md"
    check_free(output, force)
    check_free(card, force)
    classifier = load(model, quiet or as_json)
    tell_files({"report": classifier.report(output, force), "model card": classifier.model_card(card, force)}, as_json)


def export(
    model: Model,
    output: Annotated[
        Path, typer.Argument(help="File to write: flowers.onnx, flowers.tflite, or no suffix for a SavedModel.")
    ],
    precision: Annotated[
        Literal["float32", "float16", "dynamic", "int8"],
        typer.Option(help="16 or 8 (dynamic) bits for weights, or blocks that compute with 8 bits (int8), for LiteRT."),
    ] = "float32",
    data: Annotated[
        str | None,
        typer.Option(help="Labelled images to check the export on; by default those of the last evaluation."),
    ] = None,
    max_changed: Annotated[
        float, typer.Option(help="Largest share of these images whose predicted class may be another one, 0..1.")
    ] = 0.05,
    strangers: Annotated[
        bool, typer.Option(help="Whether a second output tells images of none of the classes, if that is known.")
    ] = True,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Export a classifier to another runtime, and check that it predicts the same there."""
    if output.suffix:
        check_free(output, force)
    check_extra(OF_EXPORTS.get(output.suffix.lower()), "Exporting")
    classifier = load(model, quiet or as_json)
    with quiet_stderr():  # the converters' own log
        how: dict[str, Any] = {"max_changed": max_changed, "strangers": strangers, "overwrite": force}
        found = classifier.export(output, precision=precision, dataset=data, **how)
    print_result(found, as_json)


def serve(
    model: Model,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default cannot be reached from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    max_megabytes: Annotated[float, typer.Option(help="Maximum size of an upload in MB.")] = 10.0,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name of it, as a proxy's; repeatable.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Serve a page that classifies the images dropped on it, and a JSON endpoint. Images are not stored."""
    check_extra("serve", "Serving")
    classifier = load(model, quiet or as_json)
    from ..deploy.server import serve as run_serve

    url, most, names = f"http://{host}:{port}", int(max_megabytes * 10**6), allow_host or ()
    told = f"{url} (Ctrl+C ends it); for programs: curl --data-binary @picture.jpg {url}/classify"
    how: dict[str, Any] = {"host": host, "port": port, "max_bytes": most, "allow_hosts": names}
    run_serve(classifier, **how, on_listening=lambda: print_json({"url": url}, None) if as_json else typer.echo(told))


COMMANDS: tuple[Callable[..., None], ...] = (predict, evaluate, compare, explain, report, export, serve)
