"""The examples in docstrings run and give what they say; those of `evaluation` and `drawing` are run by their tests."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import vggft

ROOT = Path(vggft.__file__).parent
ELSEWHERE = ("evaluation", "drawing", "estimators", "crossvalidation")
MODULES = [
    ".".join(("vggft", *path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
    and path.relative_to(ROOT).parts[0].removesuffix(".py") not in ELSEWHERE
]


SLOW = ("vggft.network.vgg", "vggft.learning_rates", "vggft.learning_curves")


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in MODULES])
def test_the_examples_of_a_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGGFT_FULL_TRACEBACK")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed
