"""The few exceptions a user may want to catch. All of them are `VggftError`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


class VggftError(Exception):
    """Base of every error that vggft raises on purpose."""


class ConfigError(VggftError, ValueError):
    """An argument or a configuration field that cannot be right."""


class DataError(VggftError, ValueError):
    """Something is wrong with the images or labels; all that is wrong is listed at once."""

    @classmethod
    def listing(cls, headline: str, problems: Iterable[str], most: int = 20) -> Self:
        """One error for many problems, a line each; past `most` of them the rest are counted."""
        lines = list(problems)
        shown = [f"  - {line}" for line in lines[:most]]
        if len(lines) > most:
            shown.append(f"  ... and {len(lines) - most} more")
        return cls("\n".join([f"{headline}:", *shown]))


class WeightsError(VggftError):
    """Weights that are missing, damaged, or of another network."""


class ClassifierFileError(VggftError):
    """A `.keras` file that is no classifier of ours, is damaged, or failed its check after saving."""


class CacheError(VggftError, OSError):
    """The feature cache has no room for what is asked of it, or cannot be written."""


class FreezeError(VggftError):
    """A frozen block moved in training, or one that should have moved did not."""


class RunError(VggftError):
    """A run directory that cannot be used as asked."""


class SearchError(VggftError):
    """A search that cannot go on: trials fail one after another, or its directory is damaged."""


class ExportError(VggftError):
    """What was exported does not say what the classifier says, so it was not written."""
