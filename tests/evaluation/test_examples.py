"""Every module of the package: the examples in its docstrings run, and it does not import TensorFlow."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from vggft import evaluation

FILES = Path(evaluation.__file__).parent.glob("[a-z]*.py")
MODULES = ["vggft.telling.display", *(f"vggft.evaluation.{path.stem}" for path in sorted(FILES))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted and results.failed == 0


def test_imports_no_tensorflow():
    code = f"import sys, {', '.join(MODULES)}; sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
