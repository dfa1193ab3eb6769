"""What all commands share: image files to read, quiet imports, printed results."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from ..engine import check_backend, import_tensorflow
from ..errors import ConfigError, DataError, meant
from ..files.opening import check_file
from ..foreign import json_text, visible
from ..telling.display import printable
from ..telling.progress import Narrator, results_printed

STARTING = "Starting TensorFlow ..."


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


def check_exists(*paths: str | Path) -> None:
    """Raise `ConfigError` for paths that do not exist, with what may have been meant; before TensorFlow is imported."""
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(f"There is no file or folder {path} (from {Path.cwd()}).{meant(path)}")
        check_file(path)


def is_classifier(path: Path) -> bool:
    """Whether this is the file of a classifier, or a run directory."""
    return path.suffix == ".keras" or (path / "config.json").exists()


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return names that tell classifiers apart: of their run directories, else of their files, else their paths."""
    runs = [path.parent.name if path.suffix else path.name for path in paths]
    for names in (runs, [path.name for path in paths]):
        if len(set(names)) == len(paths) and all(names):
            return names
    return [str(path) for path in paths]


def check_data(dataset: str, validation: Any, test: Any, backbone: str, freeze: Any) -> None:
    """Check paths and words before TensorFlow is imported, which takes seconds.

    Raises:
        ConfigError: an impossible backbone or choice of frozen blocks, or a path that does not exist.
        DataError: a path that holds no dataset, or a folder whose classes cannot be told.
    """
    from ..data.sources import loader
    from ..data.streams import Keep
    from ..listings.folders import list_folder
    from ..network.blocks import frozen_blocks
    from ..weightfiles.presets import preset_of

    for given in (dataset, validation, test):
        if isinstance(given, str):
            check_exists(given)
            if (load := loader(given, Keep())) is list_folder and (problems := load(given).problems):
                raise DataError("\n".join(problems))
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
    tell_error(str(DataError.listing(headline, problems)), "yellow")


def print_anything() -> None:
    """Let standard output and error print every character: what their encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print JSON, with its own escapes for what the encoding of standard output lacks, so that it can be read back."""
    text = json_text(value, indent=indent)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(text if printable(text, encoding) == text else json.dumps(value, indent=indent))


def print_result(result: Any, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Print a result as text or as one line of JSON, with further values by name, such as its file."""
    more = more or {}
    if as_json:
        print_json({**(result.to_dict() if result else {}), **more}, indent=None)
        return
    tell(str(result))
    for name, value in more.items():
        tell(f"\nThe {name} is {value}")


def tell_files(files: Mapping[str, Path], as_json: bool) -> None:
    """Print where files are that were written, by what they are."""
    if as_json:
        print_json({name: str(path) for name, path in files.items()})
        return
    for name, path in files.items():
        tell(f"The {name} is {path}")


def tell(text: str) -> None:
    """Print text on standard output: on a terminal broken between words, into a pipe or a file as it is.

    Rows of tables, which begin with spaces, are cut at the edge of the terminal.
    """
    text, console = visible(text, lines=True), Console(highlight=False)
    if not console.is_terminal:
        typer.echo(text)
        return
    for line in text.splitlines():
        if line.startswith("  ") and not line.startswith("  - "):
            console.print(line, markup=False, no_wrap=True, overflow="ellipsis")
            continue
        indent = "    " if line.startswith("  - ") else ""
        how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
        for part in textwrap.wrap(line, console.width, **how) or [""]:
            typer.echo(part)


def width() -> int | None:
    """Return the number of columns of the terminal; None if standard output is none."""
    console = Console()
    return console.width if console.is_terminal else None


def is_plain() -> bool:
    """Whether colours are not wanted, or cannot be shown."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def tell_note(text: str) -> None:
    """Print a remark on standard error, apart from what a command prints for others to read."""
    Narrator().line(text)


def tell_error(text: str, colour: str = "red") -> None:
    """Print on standard error, in colour on a terminal that has some."""
    console = Console(stderr=True, highlight=False)
    style = None if is_plain() else colour
    with suppress(OSError):  # nobody can be told of an error here
        console.print(visible(text, lines=True), style=style, markup=False, soft_wrap=not console.is_terminal)


def import_quietly(quiet: bool = False) -> None:
    """Import TensorFlow without the lines that its C++ code prints before any log level takes effect.

    Args:
        quiet: whether not to say that this takes seconds.
    """
    check_backend()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("VGGFT_TF_LOG_LEVEL", "3")
    narrator = Narrator(0 if quiet or "tensorflow" in sys.modules else 1)
    if narrator.moves:
        narrator.console.print(STARTING, end="\r")
    else:
        narrator.line(STARTING)
    import_tensorflow()
    if narrator.moves:
        narrator.console.print(" " * len(STARTING), end="\r")


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and containers send it before they kill; it ends a command as Ctrl-C does."""


def terminate(number: int, frame: Any) -> None:
    """Handle SIGTERM."""
    raise Terminated


def exit_code(ended: KeyboardInterrupt) -> int:
    """Return 128 and the number of the signal that ended a command."""
    return 128 + (signal.SIGTERM if isinstance(ended, Terminated) else signal.SIGINT)


@contextmanager
def run_in(run_dir: Path) -> Iterator[None]:
    """Run what may take long: its results are printed once, and Ctrl-C or SIGTERM says how to continue."""
    try:
        with results_printed():
            yield
    except KeyboardInterrupt as ended:
        words = [word for word in sys.argv[1:] if word != "--resume"]
        given = any(word == "--run-dir" or word.startswith("--run-dir=") for word in words)
        again = ["vggft", *words, *([] if given else ["--run-dir", str(run_dir)]), "--resume"]
        begun = (run_dir / "config.json").exists()
        told = f"To continue: {shlex.join(again)}" if begun else "Nothing was kept, as the run had not begun."
        typer.echo(f"\nInterrupted. {told}", err=True)
        raise typer.Exit(exit_code(ended)) from None
