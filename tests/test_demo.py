"""The demo: its folder, its pictures in a terminal, and the whole story."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import vggft
from vggft.demo import OWN_FOLDER, TEST, TRAIN, Story, compared, run_demo, write_digits
from vggft.evaluation.evaluation import Evaluation


def console(width: int, encoding: str = "utf-8") -> tuple[Console, io.TextIOWrapper]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    return Console(file=file, width=width, highlight=False), file


def printed(file: io.TextIOWrapper) -> str:
    file.seek(0)
    return file.read()


def test_it_writes_a_folder_that_can_be_trained_on(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits")
    found = vggft.audit(tmp_path / "digits", verbose=0)
    assert found.ok and found.splits == {"train": 10 * TRAIN, "test": 10 * TEST} and found.leaks == ()
    assert found.class_names == tuple("0123456789")


@pytest.mark.parametrize(("width", "encoding"), [(60, "utf-8"), (80, "ascii"), (120, "cp1252")])
def test_its_pictures_fit_every_terminal(tmp_path: Path, width: int, encoding: str) -> None:
    """As many as fit side by side, each above its caption, in characters that the terminal has."""
    write_digits(tmp_path / "digits")
    files = [next((tmp_path / "digits" / "test" / name).iterdir()) for name in "03589"]
    where, file = console(width, encoding)
    Story(where, quiet=False).show(files, ["a 0", "a 3", "a 5", "a 8", "a 9"])
    lines = printed(file).splitlines()
    assert max(map(len, lines)) <= width and len({len(line) for line in lines[:7]}) == 1
    assert lines[6].split() == ["a", "0", "a", "3", "a", "5", "a", "8", "a", "9"][: 8 if width == 60 else 10]
    assert sum(len(line.strip()) > 20 for line in lines[:6]) == 6
    assert max(map(len, OWN_FOLDER.splitlines()[1:])) <= 70


def test_it_says_what_is_chance() -> None:
    labels = np.arange(200) % 2

    def right(count: int) -> Evaluation:
        p = np.eye(2, dtype="float32")[np.where(np.arange(200) < count, labels, 1 - labels)]
        return Evaluation("test", ("a", "b"), labels, p)

    assert compared(right(150), right(155)).endswith("by 5 of 200 test images, few enough to be chance.")
    assert compared(right(150), right(195)).endswith("by 45 of 200 test images.")
    assert compared(right(150), right(148)).endswith("did not beat the fine-tuning this time: 2 more are wrong.")


@pytest.mark.slow
def test_the_whole_story(tmp_path: Path) -> None:
    """It ends with a report, in about half a minute on two cores that do nothing else."""
    where, file = console(80)
    start = time.perf_counter()
    found = run_demo(tmp_path / "demo", console=where)
    report = Path(found["report"])
    assert time.perf_counter() - start < 120
    text = printed(file)
    shares = [float(share) for share in re.findall(r"([\d.]+) % of 600 test images", text)]
    assert len(shares) == 2 and shares[0] > 95 and shares[1] > 95
    assert found["finetune_accuracy"] == pytest.approx(shares[0] / 100, abs=1e-3)
    assert "The search beat the fine-tuning" in text or "did not beat" in text
    assert text.rstrip().endswith(f"The report, for the browser: {report}") and report.stat().st_size > 100_000
    assert vggft.load(tmp_path / "demo" / "finetune").evaluation["accuracy"] == pytest.approx(shares[0] / 100, abs=1e-3)
    with pytest.raises(vggft.RunError, match="not empty"):
        run_demo(tmp_path / "demo")
