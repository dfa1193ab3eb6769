"""What the commands share: common options, reading of arguments, and quiet imports."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError


class OnBadImage(StrEnum):
    """What to do with an image that cannot be read."""

    stop = "raise"
    skip = "skip"


Data = Annotated[str, typer.Argument(help="A folder of class folders, or a CSV file of paths and labels.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def integers(text: str) -> tuple[int, ...]:
    """Widths with commas between."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--units must be widths with commas between, as 512,128; got {text!r}.") from None


def fraction(text: str | None) -> float | str | None:
    """A number if it is one, else the path of a dataset."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def next_run(name: str) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that is not there yet."""
    return next(path for n in itertools.count(1) if not (path := Path("runs") / f"{name}-{n}").exists())


def picture_files(given: list[Path]) -> list[Path]:
    """Image files as they are, and those inside of folders."""
    from ..data.reading import find_images

    files: list[Path] = []
    for path in given:
        inside = find_images(path)[0] if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"There are no images in the folder {path}.")
        files += inside
    return files


def print_evaluation(evaluation: Any, as_json: bool, more: dict[str, Any]) -> None:
    """In words or as JSON, and where things are."""
    if as_json:
        typer.echo(json.dumps({**(evaluation.to_dict() if evaluation else {}), **more}, ensure_ascii=False))
        return
    typer.echo(str(evaluation))
    for name, value in more.items():
        typer.echo(f"\nThe {name} is {value}")


def import_quietly() -> None:
    """Import TensorFlow without the lines that its C++ side prints before any log level holds."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("VGGFT_TF_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Without what code in C++ prints, which goes to file descriptor 2; if something fails, it is shown."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
