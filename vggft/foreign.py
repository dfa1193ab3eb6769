"""Text that others wrote, such as names of files and classes: made printable, and safe in CSV, JSON and Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# What a terminal obeys (escape sequences, returns), what turns text round, and halves of characters, which files named
# in another encoding have. Line breaks and tabs are ours in whole texts, but not in names.
_OBEYED = "\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_TEXT, _IN_NAME = re.compile(f"[{_OBEYED}]"), re.compile(f"[{_OBEYED}\t\n]")
_FORMULA = tuple("=+-@\t\r＝＋－＠")  # noqa: RUF001, which spreadsheets in Japanese take for the former
_MARKS: dict[str, Any] = {mark: f"\\{mark}" for mark in "\\`*_{}[]#|~$@"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def visible(text: object, lines: bool = False) -> str:
    r"""Return text in which everything that a terminal obeys is written as an escape.

    Args:
        text: what is printed; a name, unless `lines` says that it is a whole text.
        lines: whether it is a whole text, whose line breaks and tabs are our own.

    >>> print(visible("cat\x1b[31m\rdog\n"))
    cat\x1b[31m\rdog\n
    """
    return (_IN_TEXT if lines else _IN_NAME).sub(lambda found: ascii(found[0])[1:-1], str(text))


def json_text(value: Any, **how: Any) -> str:
    r"""Return JSON, which is YAML too, whose strings hold nothing that a terminal or a parser of YAML obeys.

    >>> print(json_text({"Käse": "\x9b31m"}))
    {"Käse": "\u009b31m"}
    """
    return _IN_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False, **how))


def guarded(cell: Any) -> Any:
    """Return a cell of a CSV file with an apostrophe before what spreadsheets would run; `unguarded` takes it away.

    >>> guarded("=1+1"), guarded("-5"), guarded(-5.0), unguarded(guarded("'=1"))
    ("'=1+1", '-5', -5.0, "'=1")
    """
    if not isinstance(cell, str) or not (_is_run(cell) or (cell.startswith("'") and cell[1:2] in ("'", *_FORMULA))):
        return cell
    return f"'{cell}"


def unguarded(cell: str) -> str:
    """Return a cell of a CSV file as it was before `guarded`."""
    return cell[1:] if cell.startswith("'") and cell[1:2] in ("'", *_FORMULA) else cell


def guarded_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Guard the names and the cells of a row."""
    return {guarded(name): guarded(cell) for name, cell in row.items()}


def _is_run(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.startswith(_FORMULA)
    return cell.startswith(("\t", "\r"))


def markdown(text: str) -> str:
    r"""Return a text as plain text in Markdown, also within a table: no markup, HTML, formulas or links.

    >>> print(markdown("<b>cat</b> | *dog* http://x"))
    &lt;b&gt;cat&lt;/b&gt; \| \*dog\* http\://x
    """
    plain = " ".join(visible(text, lines=True).split()).translate(str.maketrans(_MARKS))
    return plain.replace("://", "\\://").replace("www.", "www\\.")
