"""What all commands share: image files to read, files not to overwrite, quiet imports, printed results."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from ..errors import ConfigError


def next_run(name: str) -> Path:
    """Return the first of runs/NAME-1, runs/NAME-2, ... that does not exist yet."""
    return next(path for n in itertools.count(1) if not (path := Path("runs") / f"{name}-{n}").exists())


def refuse(path: Path, force: bool) -> None:
    """Raise `ConfigError` if a file exists, unless `--force` was given."""
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; --force overwrites it.")


def picture_files(given: list[Path]) -> list[Path]:
    """Return the given image files, and all image files in the given folders."""
    from ..listings.folders import walk

    files: list[Path] = []
    for path in given:
        inside = walk(path)[0] if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"There are no images in the folder {path}.")
        files += inside
    return files


def print_result(result: Any, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Print a result as text or as one line of JSON, with further values by name, such as its file."""
    more = more or {}
    if as_json:
        typer.echo(json.dumps({**(result.to_dict() if result else {}), **more}, ensure_ascii=False))
        return
    typer.echo(str(result))
    for name, value in more.items():
        typer.echo(f"\nThe {name} is {value}")


def import_quietly() -> None:
    """Import TensorFlow without the lines that its C++ code prints before any log level takes effect."""
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
