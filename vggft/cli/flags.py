"""The arguments and switches that several commands have."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated

import typer

Dataset = Annotated[str, typer.Argument(help="A folder of class folders, or a CSV file of paths and labels.")]
OUTPUT = "Output"
_output = functools.partial(typer.Option, rich_help_panel=OUTPUT)
Quiet = Annotated[bool, _output("--quiet", "-q", help="Print only the result.")]
Verbose = Annotated[bool, _output("--verbose", "-v", help="Also print every epoch, and everything that is left out.")]
Force = Annotated[bool, _output("--force", help="Overwrite existing files.")]
AsJson = Annotated[bool, _output("--json", help="Print JSON, for programs.")]


def _read_all_files(asked: bool) -> bool:
    if asked:
        os.environ["VGGFT_CACHE_CHECK"] = "1"
    return asked


Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Read every image file, also those whose size and modification time have not changed since last time.",
        callback=_read_all_files,
        rich_help_panel=OUTPUT,
    ),
]
Workers = Annotated[
    int,
    typer.Option(min=1, help="Number of processes on this machine that share the work; each sees one GPU if any."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        help="Settings from a run's config.json or a TOML, JSON or YAML file; the command line overrides them.",
        exists=True,
        dir_okay=False,
        rich_help_panel=OUTPUT,
    ),
]
