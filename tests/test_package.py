"""What is published: the wheel and the source distribution hold all that the package needs, and versions agree."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import vggft

ROOT = Path(__file__).parents[1]
PACKAGE = Path(vggft.__file__).parent
MADE = {"__pycache__"}  # folders that are no source

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the tests are not in a checkout")


@pytest.fixture(scope="module")
def sources() -> set[str]:
    """Every file of the package, modules, templates, weights and `py.typed`: `{"vggft/api.py", ...}`."""
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and not MADE & set(path.parts))
    return {path.relative_to(PACKAGE.parent).as_posix() for path in files}


def test_the_wheel_is_the_package(tmp_path: Path, sources: set[str]) -> None:
    builders = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = builders.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        points = archive.read(next(name for name in names if name.endswith("/entry_points.txt"))).decode()
        weights = archive.read("vggft/network/presets/vgg16_mini.npz")
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert sum(name.endswith(".dist-info/licenses/LICENSE") for name in names) == 1
    assert f"\nVersion: {vggft.__version__}\n" in metadata and "vggft = vggft.cli.main:main" in points
    assert weights == (PACKAGE / "network" / "presets" / "vgg16_mini.npz").read_bytes()


def test_the_source_distribution_can_be_built_tested_and_read(tmp_path: Path, sources: set[str]) -> None:
    builders = pytest.importorskip("hatchling.builders.sdist")
    (archive,) = builders.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(archive) as packed:
        names = {name.split("/", 1)[1] for name in packed.getnames()}
    assert sources <= names
    for folder, kind in (("tests", "*.py"), ("recipes", "*.py"), ("examples", "*"), ("docs", "*.md")):
        assert {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(kind) if path.is_file()} <= names
    assert {"pyproject.toml", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"} <= names
    assert not [name for name in names if name.startswith((".", "dist", "build", "runs")) and name != ".gitignore"]


def test_the_version_is_written_once_and_the_others_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project and project["dynamic"] == ["version"]
    changes = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert changes[0] == ("Unreleased", "") and changes[1][0] == vggft.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^(?:version|date-released): (\S+)$", citation, re.M) == [*changes[1]]
