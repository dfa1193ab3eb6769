"""The exceptions that vggft raises, all subclasses of `VggftError`, their tracebacks, and how messages list items."""

from __future__ import annotations

import difflib
import functools
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any, Self, TypeVar, cast

from .foreign import visible

T = TypeVar("T")

HERE = str(Path(__file__).parent)
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def some(items: Iterable[Any], limit: int = 20) -> str:
    """Join items with commas; only the first `limit` are shown, and the rest are counted.

    >>> some("abcd", limit=2)
    'a, b, ... and 2 more'
    """
    texts = list(map(visible, items))
    return ", ".join(texts[:limit]) + (f", ... and {len(texts) - limit} more" if len(texts) > limit else "")


def counted(number: int, noun: str) -> str:
    """Count things, in the singular if there is one.

    >>> counted(1, "image"), counted(0, "class")
    ('1 image', '0 classes')
    """
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def meant(path: Path) -> str:
    """Name what may have been meant by a path that does not exist, if something beside it is called alike."""
    try:
        beside = [each.name for each in path.absolute().parent.iterdir()]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f" Did you mean {path.with_name(close[0])}?" if close else ""


class VggftError(Exception):
    """Base class of every error that vggft raises on purpose; its text holds nothing that a terminal obeys.

    Its traceback ends at the line that called vggft, as its message says all there is to know. `full_traceback` has the
    rest: `pdb.post_mortem(error.full_traceback)` debugs it, and `__context__` is what the error was made of. With the
    environment variable VGGFT_FULL_TRACEBACK=1, or after `keras.config.disable_traceback_filtering()`, nothing is cut.
    """

    full_traceback: TracebackType | None = None

    def __str__(self) -> str:
        return visible(super().__str__(), lines=True)

    def __reduce__(self) -> Any:  # to another process, where tracebacks mean nothing
        kind, arguments, *state = cast("tuple[Any, ...]", super().__reduce__())
        attributes = {name: value for each in state for name, value in each.items() if name != "full_traceback"}
        return (kind, arguments, attributes) if attributes else (kind, arguments)

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the first frame is its own, and vggft's are left out."""
        first, *frames = _frames(self.__traceback__)
        kept = _linked([first, *(frames if is_full() else filter(_is_users, frames))])
        shown = sys.modules["IPython"].get_ipython().InteractiveTB
        return list(shown.structured_traceback(type(self), self, kept, tb_offset=1))


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


class WriteError(VggftError, OSError):
    """A file cannot be written, as a disk is full or a folder is gone; what was there before is as it was."""


class FreezeError(VggftError):
    """A frozen block changed during training, or a block that should have changed did not."""


class RunError(VggftError):
    """A run directory cannot be used as requested."""


class SearchError(VggftError):
    """A search cannot continue: its trials keep failing, or its directory is damaged."""


class ExportError(VggftError):
    """An exported file does not predict what the classifier predicts, so it was not kept."""


def short_traceback(public: T) -> T:
    """Decorate a public function, or a class with its public methods: a `VggftError` leaves it without vggft's frames.

    What remains are the frames outside of vggft and of libraries, such as those of a callback.

    >>> @short_traceback
    ... def load(path):
    ...     return open_file(path)
    >>> def open_file(path):
    ...     raise DataError(f"There is no file {path}.")
    >>> try:
    ...     load("a.csv")
    ... except DataError as error:
    ...     print(len(list(_frames(error.full_traceback))) > 1, error)
    True There is no file a.csv.
    """
    if isinstance(public, type):
        for name, value in list(vars(public).items()):
            if name.startswith("_") and name not in ("__init__", "__new__", "__getitem__"):
                continue
            if isinstance(value, (classmethod, staticmethod)):
                setattr(public, name, type(value)(_shortened(value.__func__)))
            elif isinstance(value, FunctionType):
                setattr(public, name, _shortened(value))
        return public
    return cast("T", _shortened(cast("Callable[..., Any]", public)))


def _shortened(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def shortened(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # from pytest and the debugger of IPython
        try:
            return function(*args, **kwargs)
        except VggftError as error:
            if is_full():
                raise
            frames = list(_frames(error.__traceback__))
            error.full_traceback = _linked([*frames, *_frames(error.full_traceback)])
            raise error.with_traceback(_linked(filter(_is_users, frames))) from None

    return shortened


def is_full() -> bool:
    """Whether tracebacks are to be left as they are."""
    if os.environ.get("VGGFT_FULL_TRACEBACK", "0") not in ("", "0"):
        return True
    config = getattr(sys.modules.get("keras"), "config", None)  # not yet there while Keras is being imported
    return config is not None and not config.is_traceback_filtering_enabled()


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_users(traceback: TracebackType) -> bool:
    name = traceback.tb_frame.f_code.co_filename
    return not name.startswith((HERE, *LIBRARIES, "<string>", "<frozen"))


def _linked(frames: Iterable[TracebackType]) -> TracebackType | None:
    """Link frames to a traceback."""
    linked: TracebackType | None = None
    for each in reversed(list(frames)):
        linked = TracebackType(linked, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return linked
