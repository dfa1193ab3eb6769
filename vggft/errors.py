"""The exceptions that vggft raises, all subclasses of `VggftError`, and how messages list many items."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from .foreign import visible


def some(items: Iterable[Any], limit: int = 20) -> str:
    """Join items with commas; only the first `limit` are shown, and the rest are counted.

    >>> some("abcd", limit=2)
    'a, b, ... and 2 more'
    """
    texts = list(map(visible, items))
    return ", ".join(texts[:limit]) + (f", ... and {len(texts) - limit} more" if len(texts) > limit else "")


def meant(path: Path) -> str:
    """Name what may have been meant by a path that does not exist, if something beside it is called alike."""
    try:
        beside = [each.name for each in path.absolute().parent.iterdir()]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f" Did you mean {path.with_name(close[0])}?" if close else ""


class VggftError(Exception):
    """Base class of every error that vggft raises on purpose; its text holds nothing that a terminal obeys."""

    def __str__(self) -> str:
        return visible(super().__str__(), lines=True)


class ConfigError(VggftError, ValueError):
    """An argument or a configuration field has an impossible value."""


class ArgumentError(ConfigError, TypeError):
    """A call has an argument that does not exist, or lacks one; the message says which one may have been meant."""


class DataError(VggftError, ValueError):
    """Images or labels cannot be used; the message lists every problem."""

    @classmethod
    def listing(cls, headline: str, problems: Iterable[str], limit: int = 20) -> Self:
        """Combine problems into one error, a line each; only the first `limit` are shown, and the rest are counted."""
        lines = list(map(visible, problems))
        shown = [f"  - {line}" for line in lines[:limit]]
        if len(lines) > limit:
            shown.append(f"  ... and {len(lines) - limit} more")
        return cls("\n".join([f"{headline}:", *shown]))


class WeightsError(VggftError):
    """A weights file is missing, damaged, or belongs to another network."""


class ClassifierFileError(VggftError):
    """A `.keras` file is damaged, was not saved by vggft, or failed its check after saving."""


class CacheError(VggftError, OSError):
    """The feature cache cannot be written, or the disk has too little free space for it."""


class FreezeError(VggftError):
    """A frozen block changed during training, or a block that should have changed did not."""


class RunError(VggftError):
    """A run directory cannot be used as requested."""


class SearchError(VggftError):
    """A search cannot continue: its trials keep failing, or its directory is damaged."""


class ExportError(VggftError):
    """An exported file does not predict what the classifier predicts, so it was not kept."""
