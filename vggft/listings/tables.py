"""`Table`: what a user says about a table of images and labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, short_traceback
from ..fields import shown

_UNCERTAIN = ("negative", "positive", "skip")


@short_traceback
@dataclass(frozen=True, eq=False)
class Table:
    """A table of images and labels, and what its columns mean; goes wherever a dataset does.

    Args:
        data: a CSV file, a DataFrame, a Hugging Face `Dataset`, or a dict of columns. In CSV an apostrophe before
            `=`, `+`, `-`, `@` or another one is not part of the cell, as in the files that vggft writes.
        image: the column of the images: paths or ids of files (with or without suffix), arrays, PIL images, or the
            bytes of files. None finds it by its name and its cells.
        label: the column of the labels; or a list of columns of 0 and 1, one for each class. None finds it.
        split: the column that says train, validation or test. None finds it; "" is none.
        folder: where relative paths start from; None is the folder of the CSV file, or the current one. Folders inside
            are looked through for what is not there.
        uncertain: what -1 in a column of a class means, as in CheXpert (arXiv:1901.07031): "negative", "positive", or
            "skip", which leaves the image out. Empty cells are then negative. None refuses both.
        mark: what stands between several labels in a cell, such as "|" or " ". None finds out; "" is nothing.

    Raises:
        ConfigError: an argument of another kind. What does not fit the data is a `DataError` when it is read.

    >>> from pathlib import Path
    >>> rows = {"photo": ["a.png", "b.png"], "age": [3, 4], "species": ["cat", "dog"]}
    >>> Table(rows, image="photo", label="species", folder="pictures").folder == Path("pictures")
    True
    """

    data: Any
    image: str | None = None
    label: str | Sequence[str] | None = None
    split: str | None = None
    folder: str | os.PathLike[str] | None = None
    uncertain: Literal["negative", "positive", "skip"] | None = None
    mark: str | None = None

    def __post_init__(self) -> None:
        for name in ("image", "split", "mark"):
            if not isinstance(value := getattr(self, name), (str, type(None))):
                raise ConfigError(f"Table.{name} must be a string or None; got {shown(value)}.")
        labels = [self.label] if isinstance(self.label, (str, type(None))) else self.label
        if (
            not isinstance(labels, (list, tuple))
            or not labels
            or not all(isinstance(x, (str, type(None))) for x in labels)
        ):
            raise ConfigError(f"Table.label must be the name of a column, or a list of names; got {shown(self.label)}.")
        if not isinstance(self.uncertain, (str, type(None))) or self.uncertain not in (None, *_UNCERTAIN):
            raise ConfigError(
                f"Table.uncertain must be one of {', '.join(_UNCERTAIN)} or None; got {shown(self.uncertain)}."
            )
        if not isinstance(self.folder, (str, os.PathLike, type(None))):
            raise ConfigError(f"Table.folder must be a folder or None; got {shown(self.folder)}.")
        if self.folder is not None:
            object.__setattr__(self, "folder", Path(self.folder))
