"""The house: a module imports only from those above it, and importing the package imports nothing heavy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import vggft

PACKAGE = Path(vggft.__file__).parent
# The path that the data takes, from top to bottom.
HOUSE = (
    "errors config pages progress run cache images augment table labels dataset pixels audit stratify splits "
    "backbone precision weights features head mistakes calibration bootstrap summary evaluation evaluate compare "
    "pictures description explain record plots report card graph_images runtimes export archive classifier "
    "uploads serve batches optimizer train stacked population plan judge estimate trials trainer oracles tuner "
    "winner results terms search workers api options cache_cli search_cli classifier_cli cli"
).split()


class Imports(ast.NodeVisitor):
    """Collects what of this package a module imports, at its top or inside a function, but for types only."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name.removeprefix("vggft.") for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = (node.module or "").removeprefix("vggft").removeprefix(".") if not node.level else node.module
        if node.level or (node.module or "").split(".")[0] == "vggft":
            self.found |= {module} if module else {alias.name for alias in node.names}


def imported_modules(source: str) -> set[str]:
    imports = Imports()
    imports.visit(ast.parse(source))
    return imports.found & set(HOUSE)


def test_imports_for_types_only_do_not_count() -> None:
    source = """
from typing import TYPE_CHECKING
from .run import RunDirectory
from . import images
import vggft.head, numpy
from vggft.labels import encode
if TYPE_CHECKING:
    from collections.abc import Mapping
    from .cli import app
else:
    from .table import Table
def late():
    if TYPE_CHECKING:
        from . import api
    from .audit import audit
"""
    assert imported_modules(source) == {"run", "images", "head", "labels", "table", "audit"}


@pytest.mark.parametrize("module", HOUSE)
def test_a_module_imports_only_from_those_above_it(module: str) -> None:
    above = HOUSE[: HOUSE.index(module)]
    assert imported_modules((PACKAGE / f"{module}.py").read_text(encoding="utf-8")) <= set(above)


def test_every_module_has_its_place() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(HOUSE)


def test_every_public_name_can_be_loaded_and_says_what_it_is() -> None:
    for name in vggft.__all__:
        assert name == "__version__" or name == "PRESETS" or getattr(vggft, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vggft.nothing  # noqa: B018


def test_import_and_help_load_nothing_heavy_and_names_stay_functions() -> None:
    """In a fresh process; modules of the package have the names of functions, and must not take their places."""
    code = """
import json, sys
import vggft
from typer.testing import CliRunner
from vggft.cli import app
for command in ([], ["finetune"], ["predict"], ["report"], ["serve"]):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0, result.output
heavy = sorted({"tensorflow", "keras", "sklearn", "pandas", "matplotlib", "scipy"} & set(sys.modules))
import vggft.splits, vggft.api
print(json.dumps([heavy, callable(vggft.audit)]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout) == [[], True]
