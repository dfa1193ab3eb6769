"""The command line `vggft`: its commands, its version, and its error messages."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import VggftError
from . import cache_commands, classifier_commands, search_commands, training_commands
from .console import print_anything, tell_error

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune VGG16 on your own images. Start with `vggft demo`, then `vggft audit FOLDER`, "
    "then `vggft finetune FOLDER`.",
)
for command in (*training_commands.COMMANDS, *search_commands.COMMANDS, *classifier_commands.COMMANDS):
    app.command()(command)
app.add_typer(cache_commands.app, name="cache")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"vggft {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; errors of vggft are printed as messages, without a traceback."""
    print_anything()
    try:
        app()
    except VggftError as error:
        tell_error(f"Error: {error}")
        sys.exit(2)
