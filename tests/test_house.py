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
    "errors config progress run images augment table labels dataset audit splits "
    "backbone precision weights head features evaluate classifier batches train api cli"
).split()


def imported_modules(path: Path) -> set[str]:
    """The modules of this package that a module imports, at its top or inside a function, but for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body.clear()
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found & set(HOUSE)


@pytest.mark.parametrize("module", HOUSE)
def test_a_module_imports_only_from_those_above_it(module: str) -> None:
    above = HOUSE[: HOUSE.index(module)]
    assert imported_modules(PACKAGE / f"{module}.py") <= set(above)


def test_every_module_has_its_place() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(HOUSE)


def test_every_public_name_can_be_loaded_and_says_what_it_is() -> None:
    for name in vggft.__all__:
        assert name == "__version__" or name == "PRESETS" or getattr(vggft, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vggft.nothing  # noqa: B018


def test_import_and_help_load_nothing_heavy() -> None:
    code = """
import json, sys
import vggft
from typer.testing import CliRunner
from vggft.cli import app
for command in ([], ["finetune"], ["predict"]):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0, result.output
print(json.dumps(sorted({"tensorflow", "keras", "sklearn", "pandas", "matplotlib", "scipy"} & set(sys.modules))))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(out.stdout) == []
