"""In a real kernel: one place for progress, pictures as values of cells, errors without vggft's own frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "first_hour.ipynb"

CELLS = """
import numpy as np, time, vggft
from vggft.telling.progress import Narrator
pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype="uint8")
vggft.audit((pixels, np.arange(20) % 2), verbose=1)
#
narrator = Narrator(1)
narrator.say("Note: <b>words</b> & more.")
with narrator.bar("frozen features", 300) as advance:
    for n in range(300):
        advance(1)
        time.sleep(0.001)
with narrator.board(2, 4, "max") as board:
    board.add("trial 0: 0.5", 0.5)
    board.advance(4)
#
with narrator.bar("in the middle", 400) as advance:
    advance(100)
    time.sleep(0.25)
    advance(1)
    raise KeyboardInterrupt
#
Narrator(0).say("nothing")
#
vggft.Training(epochs=-1)
#
vggft.audit("no folder")
"""


def executed(notebook: Any, folder: Path, **how: Any) -> list[Any]:
    """Execute a notebook in a kernel of its own; return the outputs of its cells of code."""
    NotebookClient(notebook, timeout=600, kernel_name="python3", **how).execute(cwd=str(folder))
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def test_progress_values_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VGGFT_FULL_TRACEBACK")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE.parents[1]))
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS.split("\n#\n")]
    found = executed(nbformat.v4.new_notebook(cells=cells), tmp_path, allow_errors=True)
    audit, progress, stopped, silent, field, folder = found
    assert [each.output_type for each in audit] == ["display_data", "execute_result"]
    assert "read images: 20/20" in audit[0].data["text/plain"] and "20 images, 2 classes" in audit[1].data["text/html"]
    assert len(progress) == 1
    lines = progress[0].data["text/plain"].splitlines()
    assert lines[0] == "Note: <b>words</b> & more." and lines[1].startswith("frozen features: 300/300, ")
    assert "&lt;b&gt;words&lt;/b&gt; &amp; more." in progress[0].data["text/html"]
    assert "best so far: trial 0: 0.5" in lines and "<progress" not in progress[0].data["text/html"]
    assert [each.output_type for each in stopped] == ["error"]  # the place of this narrator is above
    assert silent == []
    for (error,), name, told in ((field, "ConfigError", "Training.epochs must be"), (folder, "DataError", "no folder")):
        shown = "\n".join(error.traceback)
        assert error.ename == name and told in shown and len(shown.splitlines()) <= 6


@pytest.mark.slow
def test_the_first_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VGGFT_FULL_TRACEBACK")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE.parents[1]))
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path / "cache"))
    notebook = nbformat.read(EXAMPLE, 4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    found = executed(notebook, tmp_path)
    assert [each.text for outputs in found for each in outputs if each.get("name") == "stderr"] == []
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    by_source = dict(zip(sources, found, strict=True))
    runs = [outputs for source, outputs in by_source.items() if "run_dir=" in source]
    assert len(runs) == 2 and all([each.output_type for each in outputs] == ["display_data"] for outputs in runs)
    assert all("Test: accuracy 0.9" in outputs[0].data["text/plain"] for outputs in runs)
    plots = [outputs for source, outputs in by_source.items() if ".plot(" in source]
    assert len(plots) == 3 and all(
        [list(each.data) for each in outputs] == [["text/plain", "image/png"]] for outputs in plots
    )
    explained = next(outputs for source, outputs in by_source.items() if "explain(" in source)
    assert explained[-1].data["text/html"].count("<img") == 8 and "image/png" in explained[-1].data
    errors = [each for outputs in found for each in outputs if each.output_type == "error"]
    assert [error.ename for error in errors] == ["ConfigError"]
    assert "Did you mean 'block3'?" in errors[0].evalue and len("\n".join(errors[0].traceback).splitlines()) <= 6
