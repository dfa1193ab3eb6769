"""What all commands share: image files to read, files not to overwrite, quiet imports, printed results."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from ..display import printable
from ..engine import check_backend
from ..errors import ConfigError, DataError, meant


def next_run(name: str, dataset: str | None = None) -> Path:
    """Return the first of runs/NAME-1, runs/NAME-2, ... that does not exist yet, never inside the data.

    Args:
        name: for data without a name of their own.
        dataset: a path whose own name begins NAME; in or below this folder, runs/ is beside it.
    """
    runs, data = Path("runs"), Path(dataset or "").resolve()
    if dataset and Path.cwd().is_relative_to(data):
        runs = Path(os.path.relpath(data.parent)) / "runs"
    own = "" if not dataset else data.name if data.is_dir() else data.stem
    base = "-".join(filter(None, (own, name))) or "run"
    return next(path for n in itertools.count(1) if not (path := runs / f"{base}-{n}").exists())


def refuse(path: Path, force: bool) -> None:
    """Raise `ConfigError` if a file exists, unless `--force` was given."""
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; --force overwrites it.")


def check_exists(*paths: str | Path) -> None:
    """Raise `ConfigError` for paths that do not exist, with what may have been meant; before TensorFlow is imported."""
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(f"There is no file or folder {path} (from {Path.cwd()}).{meant(path)}")


def check_data(dataset: str, validation: Any, test: Any, backbone: str, freeze: Any) -> None:
    """Check paths and words before TensorFlow is imported, which takes seconds.

    Raises:
        ConfigError: an impossible backbone or choice of frozen blocks.
        DataError: a path that holds no dataset, or a folder whose classes cannot be told.
    """
    from ..data.sources import loader
    from ..data.streams import Keep
    from ..listings.folders import list_folder
    from ..network.blocks import frozen_blocks
    from ..weightfiles.presets import preset_of

    for given in (dataset, validation, test):
        if isinstance(given, str) and (load := loader(given, Keep())) is list_folder:
            load(given)
    preset_of(backbone)
    if freeze != "auto":
        frozen_blocks(freeze)


def picture_files(given: list[Path]) -> list[Any]:
    """Return the given image files, all image files in the given folders, and those that the given tables name.

    Raises:
        ConfigError: one of them does not exist, or a folder holds no images.
    """
    from ..listings.columns import SUFFIXES
    from ..listings.folders import walk
    from ..listings.meaning import list_images
    from ..listings.tables import Table

    check_exists(*given)
    files: list[Any] = []
    for path in given:
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            files += list_images(Table(path))[0]
            continue
        inside = walk(path)[0] if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"There are no images in the folder {path}.")
        files += inside
    return files


def tell_problems(headline: str, problems: Iterable[str]) -> None:
    """List problems that do not stop a command on standard error, a line each."""
    typer.secho(str(DataError.listing(headline, problems)), fg="yellow", err=True)


def print_anything() -> None:
    """Let standard output and error print every character: what their encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print JSON, with its own escapes for what the encoding of standard output lacks, so that it can be read back."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(text if printable(text, encoding) == text else json.dumps(value, indent=indent))


def print_result(result: Any, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Print a result as text or as one line of JSON, with further values by name, such as its file."""
    more = more or {}
    if as_json:
        print_json({**(result.to_dict() if result else {}), **more}, indent=None)
        return
    typer.echo(str(result))
    for name, value in more.items():
        typer.echo(f"\nThe {name} is {value}")


def import_quietly() -> None:
    """Import TensorFlow without the lines that its C++ code prints before any log level takes effect."""
    check_backend()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("VGGFT_TF_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Suppress what C++ code prints to file descriptor 2, unless an exception is raised."""
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
