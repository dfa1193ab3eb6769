"""The command line `vggft`: its commands, its version, and its error messages."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import VggftError
from ..files.writing import FULL
from . import cache_commands, classifier_commands, search_commands, training_commands
from .console import exit_code, print_anything, tell_error, terminate


class Commands(TyperGroup):
    """Commands that Ctrl-C and SIGTERM end without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; those that can be continued have said so before."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as ended:
            tell_error("Interrupted.")
            raise typer.Exit(exit_code(ended)) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune VGG16 on your own images. Start with `vggft demo`, then `vggft audit FOLDER`, "
    "then `vggft finetune FOLDER`.",
)
MODULES = (training_commands, search_commands, classifier_commands)
# Group -> command -> examples, in the order of use.
HELP: dict[str, dict[str, tuple[str, ...]]] = {
    "From images to a classifier": {
        "demo": ("vggft demo",),
        "audit": ("vggft audit flowers/", "vggft audit labels.csv --check-images --output problems.csv"),
        "finetune": ("vggft finetune flowers/ --test 0.2", "vggft finetune flowers/ --freeze block4 --augment"),
        "search": ("vggft search flowers/ --test 0.2", "vggft search flowers/ --units 64,256 --dropout 0:0.6"),
        "cross-validate": ("vggft cross-validate flowers/ --folds 5",),
        "find-learning-rate": ("vggft find-learning-rate flowers/ --freeze block4 --plot rates.png",),
        "learning-curve": ("vggft learning-curve flowers/ --plot curve.png",),
    },
    "With a classifier": {
        "predict": ("vggft predict runs/flowers-1 new/", "vggft predict runs/flowers-1 new/ --output new.csv"),
        "evaluate": ("vggft evaluate runs/flowers-1 other_flowers/", "vggft evaluate runs/a-1 b.csv --by site"),
        "rank": (
            "vggft rank new/ runs/flowers-1 --number 50 --page next.html",
            "vggft rank new/ runs/a-1 --csv next.csv",
        ),
        "explain": ("vggft explain runs/flowers-1 rose.jpg",),
        "runs": ("vggft runs", "vggft runs --sort test --output runs.csv"),
        "compare": ("vggft compare runs/flowers-1 runs/flowers-2",),
        "report": ("vggft report runs/flowers-1",),
        "export": ("vggft export runs/flowers-1 flowers.onnx", "vggft export runs/a-1 a.tflite --precision int8"),
        "serve": ("vggft serve runs/flowers-1",),
        "draw": ("vggft draw runs/flowers-1", "vggft draw vgg19.png --column E"),
    },
}


def _add_commands() -> None:
    found = {each.__name__.replace("_", "-"): each for module in MODULES for each in module.COMMANDS}
    for panel, commands in HELP.items():
        for name, examples in commands.items():
            lines = "\n\n".join(f"- `{example}`" for example in examples)
            app.command(name, epilog=f"Examples:\n\n{lines}", rich_help_panel=panel)(found.pop(name))
    if found:
        raise LookupError(f"commands without a place in HELP: {', '.join(found)}")
    app.add_typer(cache_commands.app, name="cache", rich_help_panel="What is kept")


_add_commands()


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"vggft {__version__}")
        raise typer.Exit


def _show_warning(message: Warning | str, category: type[Warning], *where: object) -> None:
    name = "Warning" if issubclass(category, UserWarning) else category.__name__
    tell_error(f"{name}: {message}", "yellow")


def main() -> None:
    """Run the command line; errors of vggft are printed as messages, without a traceback."""
    print_anything()
    signal.signal(signal.SIGTERM, terminate)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        app()
    except VggftError as error:
        tell_error(f"Error: {error}")
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        tell_error(f"Error: {error.filename or 'What is printed'} cannot be written: {error.strerror}.")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be printed would fail again at the end
        sys.exit(2)
