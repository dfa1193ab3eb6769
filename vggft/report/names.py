"""Names in the report: of the data, and of its images without the folders of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..artifact.record import Record
from ..telling.display import tail

PLACES = ("dataset", "validation", "test", "backbone", "start")  # arguments that may be paths


class Names:
    """What a reader is told of the paths of a run: those inside the data are relative to it.

    Args:
        record: how the classifier was made; its arguments say where the data was.

    >>> names = Names(Record(environment={"arguments": {"dataset": "/home/me/flowers"}}))
    >>> names.data, names.short("/home/me/flowers/rose/1.jpg"), names.inside("/home/me/flowers/rose/1.jpg is empty")
    ('flowers', 'rose/1.jpg', 'rose/1.jpg is empty')
    >>> Names(Record(environment={"arguments": {"dataset": "/home/me/my flowers.csv"}})).argument
    "'my flowers.csv'"
    """

    def __init__(self, record: Record):
        arguments: Mapping[str, Any] = record.environment.get("arguments", {})
        paths = [value for name in PLACES if isinstance(value := arguments.get(name), str) and is_path(value)]
        self.paths = sorted(paths, key=len, reverse=True)
        given = arguments.get("dataset")
        place = Path(given).resolve() if isinstance(given, str) and is_path(given) else Path()
        self.data = place.stem
        self.argument = shlex.quote(place.name or "FOLDER")  # of a command

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

        >>> Names(Record()).command("vggft finetune /home/me/flowers --freeze=all")
        'vggft finetune flowers --freeze=all'
        """
        return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in shlex.split(line))

    def call(self, text: str) -> str:
        """Shorten the paths in a call to their last part."""
        for path in self.paths:
            text = text.replace(repr(path), repr(Path(path).name or path))
        return text


def is_path(text: str) -> bool:
    """Whether an argument is a path rather than the type of an object."""
    return len(Path(text).parts) > 1 or Path(text).exists()
