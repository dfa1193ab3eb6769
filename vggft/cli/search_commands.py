"""The verb `vggft search`: what may be chosen, in the words of a shell."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import Augment, Training
from ..errors import ConfigError
from ..tuning.space import SearchSpace
from .options import AsJson, Data, OnBadImage, Quiet, fraction, import_quietly, next_run

HOW = "One value, several as a,b,c, or a range as low:high or low:high:log."


def search(
    data: Data,
    num_classes: Annotated[int, typer.Option(help="How many classes there are; checked against the data.")],
    trials: Annotated[int, typer.Option(help="At most so many.")] = 30,
    algorithm: Annotated[str, typer.Option(help="random, bayesian, hyperband or grid.")] = "bayesian",
    objective: Annotated[str | None, typer.Option(help="As val_accuracy or val_balanced_accuracy.")] = None,
    units: Annotated[str | None, typer.Option(help=f"Width of hidden layers. {HOW}")] = "64:512:log",
    layers: Annotated[str | None, typer.Option(help="How many hidden layers; 0 is a linear probe.")] = "1:2",
    dropout: Annotated[str | None, typer.Option(help=f"In the head. {HOW}")] = None,
    pooling: Annotated[str | None, typer.Option(help="Of avg, max, flatten.")] = None,
    activation: Annotated[str | None, typer.Option(help="Of Keras's, as relu,gelu.")] = None,
    batch_norm: Annotated[str | None, typer.Option(help="true, false, or both: true,false.")] = None,
    l2: Annotated[str | None, typer.Option(help="Penalty of the head's weights, as 1e-6:1e-3:log.")] = None,
    learning_rate: Annotated[str | None, typer.Option(help="Peak, for the head.")] = "1e-4:1e-2:log",
    fine_tune_learning_rate: Annotated[str | None, typer.Option(help="Peak, where blocks learn.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Of adam, adamw, sgd.")] = None,
    label_smoothing: Annotated[str | None, typer.Option(help=f"{HOW}")] = None,
    weight_decay: Annotated[str | None, typer.Option(help="Decoupled, per step.")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images per step.")] = None,
    freeze: Annotated[str, typer.Option(help="all, none, block3 ...; several as block4,all are searched.")] = "all",
    epochs: Annotated[int | None, typer.Option(help="Of the head; by default from the number of images.")] = None,
    fine_tune_epochs: Annotated[int | None, typer.Option(help="For unfrozen blocks and head.")] = None,
    folds: Annotated[int | None, typer.Option(help="Score each trial by so many folds.")] = None,
    repeats: Annotated[int, typer.Option(help="Train each trial so many times.")] = 1,
    winner: Annotated[str | None, typer.Option(help="scored: the very weights; refit: learned anew.")] = None,
    keep_top: Annotated[int, typer.Option(help="Keep the heads of so many trials.")] = 5,
    parallel_trials: Annotated[int | None, typer.Option(help="Most trials that are proposed at once.")] = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine, one for each GPU if there are.")] = 1,
    validation: Annotated[str, typer.Option(help="A fraction of what is not test, or a dataset.")] = "0.2",
    test: Annotated[str | None, typer.Option(help="A fraction of all images, or a dataset; touched once.")] = None,
    backbone: Annotated[str, typer.Option(help="vgg16_imagenet, vgg16_mini, or a weights file.")] = "vgg16_imagenet",
    augment: Annotated[bool, typer.Option("--augment", help="Learn from four seeded views of every image.")] = False,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side; by default the backbone's own.")] = None,
    precision: Annotated[
        str, typer.Option(help="Of the blocks: float32, bfloat16, float16, or auto, the fastest here.")
    ] = "auto",
    on_bad_image: Annotated[
        OnBadImage, typer.Option(help="Stop and list them all, or leave them out.")
    ] = OnBadImage.stop,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Fit a temperature on the validation images.")] = False,
    tune_thresholds: Annotated[
        bool, typer.Option("--tune-thresholds", help="Fit one for each of several labels on the validation images.")
    ] = False,
    run_dir: Annotated[
        Path | None, typer.Option(help="A new directory for all results; by default runs/<data>-search-<number>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --run-dir.")] = False,
    seed: Annotated[int, typer.Option(help="Of splits, draws, weights and order.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search for the head and its training with KerasTuner, on frozen features that are computed once.

    Whatever is not given a choice is as in `vggft finetune`. A list is written 64,128,256, a range 0.1:0.6, one that is
    drawn evenly in its logarithm 1e-4:1e-2:log.
    """
    given = {name: value for name, value in locals().items() if name in {field.name for field in fields(SearchSpace)}}
    searched = {name: read_choice(name, text) for name, text in given.items() if text is not None and name != "freeze"}
    freezes = freeze.split(",")
    space = SearchSpace(
        **{"units": None, "layers": None, "learning_rate": None}
        | searched
        | ({"freeze": freezes} if len(freezes) > 1 else {})
    )
    if resume and run_dir is None:
        raise ConfigError("--resume goes on with the search in --run-dir, which has to be named.")
    run_dir = run_dir or next_run(f"{Path(data).stem}-search")
    import_quietly()
    from ..tuning.search import search as run_search
    from ..tuning.workers import end_with_chief, with_workers

    end_with_chief()

    with with_workers(workers, run_dir) if workers > 1 else nullcontext():
        result = run_search(
            data,
            num_classes,
            space=space,
            trials=trials,
            algorithm=algorithm,
            objective=objective,
            folds=folds,
            repeats=repeats,
            winner=winner,  # type: ignore[arg-type]
            keep_top=keep_top,
            parallel_trials=parallel_trials or "auto",
            validation=fraction(validation),
            test=fraction(test),
            backbone=backbone,
            freeze=freeze if len(freezes) == 1 else "all",
            training=Training(epochs=epochs, fine_tune_epochs=fine_tune_epochs),
            augment=Augment() if augment else None,
            image_size=image_size,
            precision=precision,
            on_bad_image=on_bad_image.value,
            calibrate=calibrate,
            tune_thresholds=tune_thresholds,
            run_dir=run_dir,
            resume=resume,
            seed=seed,
            verbose=0 if quiet or as_json else 1,
        )
    if result is None:  # a worker
        return
    where = {"classifier": str(run_dir / "classifier.keras"), "table of trials": str(run_dir / "trials.csv")}
    typer.echo(json.dumps(result.to_dict() | where) if as_json else str(result))
    if not as_json:
        typer.echo("".join(f"\nThe {name} is {path}" for name, path in where.items()))


def read_choice(name: str, text: str) -> Any:
    """`a,b` a list, `low:high[:log]` a range, else one value; words stay words, whole numbers whole."""
    if ":" in text:
        return tuple(_value(part) for part in text.split(":"))
    if "," in text:
        return [_value(part) for part in text.split(",") if part.strip()]
    if not text.strip():
        raise ConfigError(f"--{name.replace('_', '-')} needs a value. {HOW}")
    return _value(text)


def _value(text: str) -> bool | int | float | str:
    if text.strip() in ("true", "false"):
        return text.strip() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()
