"""JSON from outside: read within bounds, and held against a schema; what is wrong is told with the file and the field.

A schema is a `TypedDict` or another annotation, as in the fields of a `Config`: `str`, `dict[str, int]`,
`list[float] | None`, `Literal["a", "b"]`, `Annotated[int, "an integer >= 1", holds]`. Keys that it does not have come
from other versions, and are let through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BufferedReader
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from ..errors import VggftError
from ..fields import PLAIN, is_word, shown
from .opening import NotAFileError, open_file

MOST_BYTES = 128 * 2**20
MOST_WIDE = 16 * 2**20  # bytes of text that is not ASCII, which takes up to four times as much memory
MOST_VALUES, MOST_CONTAINERS = 4_000_000, 400_000  # so that the values take at most some 300 MB
DEEPEST = 50  # lists and objects in each other
LARGEST = 2**63  # integers are smaller


class DocumentError(ValueError):
    """A document is damaged, too large, or not as its schema says; the message says where, without the file."""


@contextmanager
def reading(path: Path, error: type[VggftError]) -> Iterator[BufferedReader]:
    """Open a file; what is wrong with it, or with what is read in it, is raised as `error` with its name."""
    try:
        with open_file(path) as file:
            yield file
    except NotAFileError as problem:
        raise error(str(problem)) from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}.") from problem
    except DocumentError as problem:
        raise error(f"{path} {problem}.") from problem


def read_document(path: Path, schema: Any, error: type[VggftError], *, nan: bool = False) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        schema: what is in it.
        error: raised for what is wrong.
        nan: whether NaN and infinity may be in it, as losses of a training that diverged.

    Raises:
        error: the file cannot be read, or holds something else; the message names the file and the field.
    """
    with reading(path, error) as file:
        return parse_document(file.read(MOST_BYTES + 1), schema, nan=nan)


def parse_document(content: bytes | str, schema: Any, *, nan: bool = False) -> Any:
    """Read JSON from memory; see `read_document`.

    Raises:
        DocumentError: it holds something else.
    """
    if len(content) > (MOST_WIDE if not content.isascii() else MOST_BYTES):
        raise DocumentError(f"is too large to be read: {len(content) / 1e6:.0f} MB of JSON")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        if text.count("[") + text.count("{") > MOST_CONTAINERS or text.count(",") > MOST_VALUES:
            raise DocumentError("has more values than any file of vggft")
        found = json.loads(text)
    except DocumentError:
        raise
    except UnicodeDecodeError as problem:
        raise DocumentError(f"is not text in UTF-8 ({problem.reason} at byte {problem.start})") from None
    except RecursionError:
        raise DocumentError(f"is nested more than {DEEPEST} deep") from None
    except ValueError as problem:
        raise DocumentError(f"is not valid JSON: {problem}") from None
    check_values(found, nan=nan)
    if (fault := fault_in(found, schema)) is not None:
        raise DocumentError(fault)
    return found


def check_values(document: Any, *, nan: bool = False) -> None:
    """Raise `DocumentError` for values that nothing of vggft has: numbers out of all bounds, lists that are too deep.

    Args:
        document: what a reader of JSON, TOML or YAML has returned; what YAML repeats counts each time.
        nan: whether numbers may be NaN or infinite.
    """
    waiting: list[tuple[Any, str, int]] = [([document], "", -1)]
    count = 0
    while waiting:
        inside, where, depth = waiting.pop()
        if (count := count + len(inside)) > MOST_VALUES + MOST_CONTAINERS:
            raise DocumentError("has more values than any file of vggft")
        for name, value in inside.items() if isinstance(inside, Mapping) else enumerate(inside):
            if isinstance(value, (list, Mapping)):
                if depth + 1 >= DEEPEST:
                    raise DocumentError(f"is nested more than {DEEPEST} deep")
                waiting.append((value, "" if depth < 0 else _inside(where, name), depth + 1))
            elif (isinstance(value, float) and not nan and not math.isfinite(value)) or (
                isinstance(value, int) and abs(value) >= LARGEST
            ):
                place = "it" if depth < 0 else _inside(where, name)
                raise DocumentError(f"has {shown(value, 60)} in {place}, where a finite number of 64 bits was expected")


def _inside(where: str, name: Any) -> str:
    name = f"[{name}]" if isinstance(name, int) else shown(str(name), 40)[1:-1]
    return f"{where}{name}" if not where or name.startswith("[") else f"{where}.{name}"


def fault_in(value: Any, schema: Any, where: str = "") -> str | None:
    """Say where a value is not as a schema says, and what was expected there; None if all is as it says."""
    if schema is Any:
        return None
    if is_typeddict(schema):
        return _fault_in_fields(value, schema, where)
    kind, inside = get_origin(schema), get_args(schema)
    faults: Iterable[str | None]
    if kind in (Union, UnionType):
        faults = [fault_in(value, each, where) for each in inside]
        if None in faults:
            return None
        deeper = [fault for each, fault in zip(inside, faults, strict=True) if _is_of_kind(value, each)]
        return deeper[0] if deeper else _told(value, schema, where)
    if not _is_of_kind(value, schema):
        return _told(value, schema, where)
    if kind is dict:
        faults = (fault_in(each, inside[1], _inside(where, name)) for name, each in value.items())
    elif kind in (list, tuple):
        each_of = inside if kind is tuple and Ellipsis not in inside else inside[:1] * len(value)
        faults = (fault_in(each, its, _inside(where, n)) for n, (each, its) in enumerate(zip(value, each_of)))  # noqa: B905
        if len(each_of) != len(value):
            return _told(value, schema, where)
    else:
        return None
    return next((fault for fault in faults if fault is not None), None)


def _fault_in_fields(value: Any, schema: Any, where: str) -> str | None:
    if not isinstance(value, Mapping):
        return _told(value, dict, where)
    for name, (hint, required) in _hints(schema).items():
        place = _inside(where, name)
        if name not in value:
            if required:
                return f"lacks {place}, {expected(hint)}"
        elif (fault := fault_in(value[name], hint, place)) is not None:
            return fault
    return None


@cache
def _hints(schema: Any) -> dict[str, tuple[Any, bool]]:
    """Return the annotation of each key, and whether it is required.

    `__required_keys__` does not know, as annotations are strings when Python makes it.
    """
    found = dict[str, tuple[Any, bool]]()
    for name, hint in get_type_hints(schema, include_extras=True).items():
        kind = get_origin(hint)
        required = kind is Required or (kind is not NotRequired and name in schema.__required_keys__)
        found[name] = (get_args(hint)[0] if kind in (Required, NotRequired) else hint), required
    return found


def _told(value: Any, schema: Any, where: str) -> str:
    return f"has {shown(value, 60)} {f'in {where}' if where else 'in it'}, where {expected(schema)} was expected"


def _is_of_kind(value: Any, schema: Any) -> bool:
    """Whether a value is of a kind, whatever is in it."""
    kind, inside = get_origin(schema), get_args(schema)
    if schema is Any:
        return True
    if is_typeddict(schema) or dict in (kind, schema):
        return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    if kind in (list, tuple) or schema is list:
        return isinstance(value, (list, tuple))
    if kind is Literal:
        return is_word(value, inside)
    if hasattr(schema, "__metadata__"):
        return bool(schema.__metadata__[-1](value))
    if kind in (Union, UnionType):
        return any(_is_of_kind(value, each) for each in inside)
    return PLAIN[schema if schema is not None else type(None)][1](value)


def expected(schema: Any) -> str:
    """Say in words what a schema allows."""
    kind, inside = get_origin(schema), get_args(schema)
    if is_typeddict(schema) or dict in (kind, schema):
        return "an object"
    if kind in (list, tuple) or schema is list:
        return "a list" if kind is not tuple or Ellipsis in inside else f"a list of {len(inside)}"
    if kind is Literal:
        return " or ".join(map(repr, inside))
    if hasattr(schema, "__metadata__"):
        return str(schema.__metadata__[-2])
    if kind in (Union, UnionType):
        return " or ".join(map(expected, inside))
    return "anything" if schema is Any else PLAIN[schema if schema is not None else type(None)][0]
