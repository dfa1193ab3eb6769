"""What MkDocs cannot write by itself: pages made of the code, of recipes and of files beside the pages.

In a page, `{{ file NAME }}` stands for a Markdown file at the top of the repository, `{{ recipes }}` for the docstrings
of all recipes, and `{{ functions }}`, `{{ classes }}`, `{{ tables }}`, `{{ errors }}` and `{{ plots }}` for the public
names of vggft, each of which is one of these.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe

import vggft
import vggft.plots

ROOT = Path(__file__).parents[1]
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


def kind_of(name: str) -> str:
    """Return under which heading of the API a public name stands."""
    if name.endswith("Error"):
        return "errors"
    return "functions" if name.islower() else "tables" if name.isupper() else "classes"


def public_names() -> dict[str, list[str]]:
    """Return heading -> the names below it, none left out."""
    found: dict[str, list[str]] = {"plots": [f"plots.{name}" for name in vggft.plots.__all__]}
    for name in vggft.__all__:
        if name not in ("__version__", "plots"):
            found.setdefault(kind_of(name), []).append(name)
    return found


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page asks for."""
    return re.sub(
        r"^\{\{ (\w+)(?: (\S+))? \}\}$", lambda match: _written(match[1], match[2]), markdown, flags=re.MULTILINE
    )


def _written(what: str, name: str | None) -> str:
    if what == "file":
        return _file(ROOT / str(name))
    if what == "recipes":
        return "\n\n".join(map(_recipe, sorted((ROOT / "recipes").glob("*.py"))))
    return "\n\n".join(f"::: vggft.{each}" for each in public_names()[what])


def _file(path: Path) -> str:
    """Return a file with its links as they are from the pages, and its drawing of packages as a table."""
    text = path.read_text(encoding="utf-8").replace("](docs/", "](")
    text = re.sub(r"\]\(([A-Z]+)\.md\)", lambda link: f"]({PAGES[link[1]]})", text)
    return re.sub(r"```mermaid\n(.*?)```", lambda drawing: _needs(drawing[1]), text, flags=re.DOTALL)


PAGES = {"CONTRIBUTING": "develop.md", "SECURITY": "security.md", "CHANGELOG": "changes.md", "README": "index.md"}


def _needs(drawing: str) -> str:
    needs: dict[str, list[str]] = {}
    for source, target in re.findall(r"(\w+) --> (\w+)", drawing):
        needs.setdefault(source, []).append(f"`{target}`")
    rows = [f"| `{source}` | {', '.join(targets)} |" for source, targets in needs.items()]
    return "\n".join(["| package or module | needs |", "|---|---|", *rows, ""])


def _recipe(path: Path) -> str:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    title, _, rest = told.partition("\n")
    return f"## {path.stem}\n\n{title}\n{rest}"


class Doctests(griffe.Extension):  # type: ignore[misc]
    """Examples in docstrings are code."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples of a docstring."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
