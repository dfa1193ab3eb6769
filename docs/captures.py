"""Make the pictures of the terminal in docs/terminal again, from the real commands (needs pyte; not on Windows).

    python docs/captures.py --data ../shared/data/ants_bees --output docs/terminal

Each story is run in a terminal of 60, 80 and 120 columns, and drawn light and dark. It is what stands there at the end;
`--all` also draws help, the audit and wrong inputs, to be looked at.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pty
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
from rich.text import Text

LINES = 300  # of a terminal that never scrolls
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
FIRST = {"finetune": ["audit DATA", "finetune DATA --test 0.2 --backbone vgg16_mini", "runs"]}
OTHERS = {
    "help": ["--help", "predict --help", "finetune --help"],
    "story": ["evaluate runs/DATA-1 DATA", "cross-validate DATA --backbone vgg16_mini --folds 3"],
    "errors": ["finetune nosuch", "finetune DATA --freeze blok3", "predict runs DATA", "finetune DATA/ants"],
}


def capture(commands: list[str], width: int, data: Path, folder: Path) -> list[Text]:
    """Run commands one after the other in a terminal, and return the lines that stand there at the end."""
    screen = pyte.Screen(width, LINES)
    stream = pyte.ByteStream(screen)
    for command in commands:
        stream.feed(f"\x1b[1m$ vggft {command.replace('DATA', data.name)}\x1b[0m\r\n".encode())
        words = [word.replace("DATA", data.name) for word in shlex.split(command)]
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(folder)
            os.environ.update(COLUMNS=str(width), LINES="40", TERM="xterm-256color")
            os.execv(sys.executable, [sys.executable, "-m", "vggft", *words])
        while True:
            try:
                found = os.read(terminal, 65536)
            except OSError:  # the end of a terminal, on Linux
                break
            if not found:
                break
            stream.feed(found)
        os.waitpid(child, 0)
        os.close(terminal)
        stream.feed(b"\r\n")
    lines = [_line(screen, row, width) for row in range(LINES)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return lines


def _line(screen: pyte.Screen, row: int, width: int) -> Text:
    line = Text()
    cells = [screen.buffer[row][column] for column in range(width)]
    for style, alike in itertools.groupby(cells, key=_style):
        line.append("".join(cell.data for cell in alike), style)
    line.rstrip()
    return line


def _style(cell: Any) -> Style:
    colour = {"default": None, "brown": "yellow"}.get(cell.fg, cell.fg)
    if colour and re.fullmatch("[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    return Style(color=colour, bold=cell.bold, italic=cell.italics)


def main(data: Path, output: Path, everything: bool, widths: list[int]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for name, commands in (FIRST | (OTHERS if everything else {})).items():
        for width in widths:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / data.name).symlink_to(data.resolve())
                if name == "story":
                    capture(FIRST["finetune"][1:2], width, data, Path(folder))
                lines = capture(commands, width, data, Path(folder))
            for theme, colours in THEMES.items():
                with Path(os.devnull).open("w") as nothing:
                    console = Console(record=True, width=width, file=nothing, color_system="truecolor")
                    for line in lines:
                        console.print(line, soft_wrap=True)
                    file = output / f"{name}-{width}-{theme}.svg"
                    console.save_svg(str(file), title=f"{width} columns", theme=colours)
                    print(file, file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--output", type=Path, default=Path("docs/terminal"))
    parser.add_argument("--all", action="store_true", dest="everything")
    parser.add_argument("--widths", type=int, nargs="+", default=[60, 80, 120])
    main(**vars(parser.parse_args()))
