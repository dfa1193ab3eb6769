"""Names in the report: of the data, and of its images without the folders of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..artifact.record import Record
from ..listings.columns import SUFFIXES
from ..telling.display import tail

PLACES = ("dataset", "validation", "test", "backbone", "start")  # arguments that may be paths


class Names:
    """What a reader is told of the paths of a run: those inside the data are relative to it.

    Args:
        record: how the classifier was made; its arguments say where the data was.

    >>> names = Names(Record(environment={"arguments": {"dataset": "/home/me/flowers"}}))
    >>> names.data, names.short("/home/me/flowers/rose/1.jpg"), names.inside("/home/me/flowers/rose/1.jpg is empty")
    ('flowers', 'rose/1.jpg', 'rose/1.jpg is empty')
    >>> Names(Record(run_dir=Path("/home/me/runs/my flowers-1"))).classifier
    "'my flowers-1'"
    """

    def __init__(self, record: Record):
        arguments: Mapping[str, Any] = record.environment.get("arguments", {})
        paths = [value for name in PLACES if isinstance(value := arguments.get(name), str) and is_path(value)]
        self.paths = sorted(paths, key=len, reverse=True)
        given = arguments.get("dataset")
        place = Path(given).resolve() if isinstance(given, str) and is_path(given) else Path()
        self.data = place.stem if place.suffix.lower() in SUFFIXES else place.name
        self.function = "search" if record.search else "finetune"
        self.words = shlex.split(self.command(record.command))
        self.classifier = "CLASSIFIER" if record.run_dir is None else shlex.quote(_from_here(record.run_dir))

    def short(self, name: str) -> str:
        """Return the name of an image: relative to the data, else with the folder that it is in."""
        told = self.inside(name)
        return tail(name) if told == name else told

    def inside(self, text: str) -> str:
        """Leave the folder of the data out of the paths in a sentence."""
        for path in self.paths:
            if Path(path).name:  # "." and "/" have none
                text = re.sub(rf"(?<![\w./\\-]){re.escape(path.rstrip('/'))}[/\\]", "", text)
        return text

    def command(self, line: str) -> str:
        """Shorten absolute paths in a command line to their last part.

        >>> Names(Record()).command("vggft finetune /home/me/flowers --freeze=all --validation=/home/me/others")
        'vggft finetune flowers --freeze=all --validation=others'
        """
        return shlex.join(map(_shortened, shlex.split(line)))

    def again(self, option: str, value: str | float | None = None) -> str:
        """Return the command of a new run that differs in one option; the call, if no command made this one.

        >>> names = Names(Record(environment={"command": "vggft finetune ab --test=0.3 --run-dir runs/ab-1".split()}))
        >>> names.again("test", 0.2), names.again("augment")
        ('vggft finetune ab --test 0.2', 'vggft finetune ab --test=0.3 --augment')
        >>> Names(Record()).again("test", 0.2), Names(Record()).again("augment")
        ('vggft.finetune(..., test=0.2)', 'vggft.finetune(..., augment=vggft.Augment())')
        """
        if not self._by_command:
            return f"vggft.{self.function}(..., {option}={'vggft.Augment()' if value is None else repr(value)})"
        kept = self._without({f"--{option}": value is not None})
        return shlex.join([*kept, f"--{option}", *([] if value is None else [str(value)])])

    @property
    def repeated(self) -> str:
        """The command of a new run that does the same, into a run directory of its own; empty if there was none.

        >>> names = Names(Record(environment={"command": "vggft finetune ab --run-dir runs/ab-1 --resume".split()}))
        >>> names.repeated
        'vggft finetune ab'
        """
        return shlex.join(self._without({}) if self._by_command else self.words)

    @property
    def _by_command(self) -> bool:
        return self.words[:2] == ["vggft", self.function]

    def _without(self, options: Mapping[str, bool]) -> list[str]:
        """Leave options out of the command, true for those with a value, and what names the directory of this run."""
        kept, words = list[str](), iter(self.words)
        left_out = {**options, "--run-dir": True, "--resume": False}
        for word in words:
            name, sign, _ = word.partition("=")
            if name not in left_out:
                kept.append(word)
            elif left_out[name] and not sign:
                next(words, "")
        return kept

    def call(self, text: str) -> str:
        """Shorten the paths in a call to their last part."""
        for path in self.paths:
            text = text.replace(repr(path), repr(Path(path).name or path))
        return text


def _from_here(path: Path) -> str:
    """Return a path as it is typed where the report is written; elsewhere it is shortened to its last part."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def _shortened(word: str) -> str:
    name, mark, path = word.rpartition("=") if word.startswith("-") else ("", "", word)
    return name + mark + Path(path).name if Path(path).is_absolute() else word


def is_path(text: str) -> bool:
    """Whether an argument is a path rather than the type of an object."""
    return len(Path(text).parts) > 1 or Path(text).exists()
