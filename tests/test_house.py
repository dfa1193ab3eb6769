"""The house: imports go down only, packages stay small, and importing `vggft` imports nothing heavy."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vggft

PACKAGE = Path(vggft.__file__).parent
ROOT = Path(__file__).parents[1]

# The path that the data takes, from top to bottom: packages in order, and the modules of each in order ("" is the top).
COMMANDS = "training_commands search_commands classifier_commands cache_commands"
ROOMS = (
    ("", "foreign errors extras arguments engine fields config augment"),
    ("files", "opening isolated writing held documents archives schemas"),
    ("", "run"),
    ("caching", "kinds pulse claims store rows cache"),
    ("telling", "display figures bars notebook progress"),
    ("", "overview"),
    ("pictures", "reading formats ranges colours tiffs scientific decoding files arrays known"),
    ("listings", "listing integers labels cells columns folders files tables meaning"),
    ("data", "scan streams feeds sources dataset suspects findings quality twins audit"),
    ("splits", "groups whole_groups splitting apart parts pool"),
    ("evaluation", "mistakes calibration bootstrap metrics text operating evaluation folds checks compare"),
    ("drawing", "display curves results samples maps"),
    ("", "plots"),
    ("weightfiles", "layers chain hdf5 files presets"),
    ("network", "blocks freezing weights vgg head description forward assembly start precision"),
    ("features", "cuts layers views changes extract vectors"),
    ("heads", "history objective schedules batches resampling discriminants probe choice stacked population"),
    ("machines", "cluster mending strategies shares processes helpers telling crew"),
    ("training", "phases request optimizers jobs experiment callbacks fit worker train selection"),
    ("insight", "blocks labels doubts growth probes growing layout places insight ranking"),
    ("trust", "caveats strangers conformal trust"),
    ("artifact", "record archive inputs known predictions artifact adjust examples judge explain"),
    ("report", "names gallery verdict sections insights report card"),
    ("deploy", "savedmodel_decoder runtimes export callers connections rooms uploads service server"),
    ("", "auditing costs forecast pipeline depth finetuning crossvalidation labelling classifier"),
    ("tuning", "space trial goals oracles rounds workers tuner result terms search"),
    ("", "api learning_rates learning_curves estimators demo"),
    ("cli", f"words flags console defaults options {COMMANDS} main"),
    ("", "__main__"),
)
HOUSE = [f"{package}.{module}".lstrip(".") for package, modules in ROOMS for module in modules.split()]
PACKAGES = [package for package, _ in ROOMS if package]


def imported_modules(source: str, module: str) -> Iterator[str]:
    """Every module of this package that a source imports, at its top, inside functions and for typing alike."""
    parents = ["vggft", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            path = ".".join([*base, *([node.module] if node.module else [])])
            found = [f"{path}.{alias.name}" for alias in node.names] + [path]
        else:
            continue
        for name in found:
            inside = name.removeprefix("vggft.")
            if inside in HOUSE:
                yield inside


def test_imports_in_functions_and_for_typing_count() -> None:
    source = """
from typing import TYPE_CHECKING
from ..run import RunDirectory
from . import weights
from .. import overview
import vggft.network.head, numpy
from vggft.listings.labels import encode
if TYPE_CHECKING:
    from collections.abc import Mapping
    from ..cli.main import app
def late():
    if TYPE_CHECKING:
        from .. import api
    from .blocks import BLOCKS
"""
    found = set(imported_modules(source, "network.vgg"))
    assert found == {
        "run", "network.weights", "overview", "network.head", "listings.labels", "cli.main", "api", "network.blocks"
    }  # fmt: skip


@pytest.mark.parametrize("module", HOUSE)
def test_a_module_imports_only_from_those_above_it(module: str) -> None:
    source = (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    above = HOUSE[: HOUSE.index(module)]
    assert [name for name in imported_modules(source, module) if name not in above and name != module] == []


def test_every_module_has_its_place_and_packages_stay_small() -> None:
    found = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    assert {name for name in found if not name.endswith("__init__")} == set(HOUSE)
    for package in PACKAGES:
        files = [path for path in (PACKAGE / package).glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 10, package


@pytest.mark.parametrize("module", HOUSE)
def test_a_file_past_300_lines_wants_a_wall(module: str) -> None:
    assert len((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8").splitlines()) <= 300


def reachable(arrows: dict[str, set[str]], start: str, without: str) -> set[str]:
    """Everything that can be reached from `start`, but not by its own arrow to `without`."""
    found: set[str] = set()
    waiting = arrows[start] - {without}
    while waiting:
        room = waiting.pop()
        found.add(room)
        waiting |= arrows[room] - found
    return found


def test_the_drawing_in_contributing_shows_the_imports() -> None:
    drawn = set(
        re.findall(r"^ +(\w+) --> (\w+)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    everyone_may_use = {*ROOMS[0][1].split(), "files", "run", "caching", "telling", "overview"}
    arrows: dict[str, set[str]] = {module.split(".")[0]: set() for module in HOUSE}
    for module in HOUSE:
        source = (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        arrows[module.split(".")[0]] |= {name.split(".")[0] for name in imported_modules(source, module)}
    arrows = {room: needs - everyone_may_use - {room} for room, needs in arrows.items() if room not in everyone_may_use}
    pairs = [(room, need) for room, needs in arrows.items() for need in needs]
    assert drawn == {(room, need) for room, need in pairs if need not in reachable(arrows, room, need)}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_for_and_imports_nothing(package: str) -> None:
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))
    assert len(tree.body) == 1 and "Begin reading with" in (ast.get_docstring(tree) or "")


def test_no_room_at_the_top_bears_the_name_of_a_public_function() -> None:
    """Python binds a submodule to its package: `vggft.audit` has to stay the function."""
    rooms = {path.stem for path in PACKAGE.iterdir()}
    assert rooms & set(vggft.__all__) == {"plots"}  # which is that module


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
from vggft.cli.main import app
COMMANDS = "finetune cross-validate search find-learning-rate learning-curve predict rank report serve cache"
for command in ([], *([name] for name in COMMANDS.split())):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0, result.output
heavy = sorted({"tensorflow", "keras", "sklearn", "pandas", "matplotlib", "scipy"} & set(sys.modules))
print(json.dumps(heavy))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout) == []
