"""Text that others wrote reaches terminals, logs, tables, cards and plots only in a form that none of them obeys."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vggft import plots
from vggft.artifact.predictions import Predictions
from vggft.cli import console
from vggft.data.audit import audit
from vggft.errors import DataError, some
from vggft.evaluation.evaluation import Evaluation
from vggft.foreign import guarded, json_text, markdown, unguarded, visible
from vggft.listings.columns import read_columns
from vggft.run import write_table
from vggft.telling.display import table
from vggft.telling.figures import style
from vggft.telling.progress import Narrator

ATTACK = "\x1b]0;owned\x07cat\r\x9b31m\u202e\n=1+1"
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


@settings(max_examples=100)
@given(st.text(st.sampled_from([*ATTACK, *"\x00\x7f\t\ud800\u2028\ufeff=+-@'1,;\"é漢"]), max_size=9))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert not OBEYED.search(visible(text)) and "\n" not in visible(text)
    assert not OBEYED.search(visible(text, lines=True)) and not OBEYED.search(json_text([text]))
    assert json.loads(json_text([text])) == [text]
    assert unguarded(guarded(text)) == text
    assert visible(visible(text)) == visible(text)


def test_what_people_read_is_left_as_it_is() -> None:
    for name in ("Käse", "漢字", "עברית", "🐈‍⬛ cat", "a b-c_d (1).jpg"):
        assert visible(name) == guarded(name) == name
    assert visible("two\nlines\tof ours", lines=True) == "two\nlines\tof ours"


def test_every_way_to_the_terminal_is_through_it(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.INFO, "vggft"):
        narrator = Narrator(1)
        narrator.line(f"line {ATTACK}")
        narrator.say(f"say {ATTACK}")
        with narrator.bar(f"bar {ATTACK}", 1) as advance:
            advance(1)
    console.tell(f"tell {ATTACK}")
    console.tell_error(f"error {ATTACK}")
    console.print_json({ATTACK: ATTACK})
    error = DataError.listing("Some images cannot be used", [f"{ATTACK} is bad"])
    written = capsys.readouterr()
    for text in (written.out, written.err, caplog.text, str(error), some([ATTACK]), table([[ATTACK]])):
        assert "cat" in text and not OBEYED.search(text)
    assert len(str(error).splitlines()) == 2  # a name cannot begin a line of its own


def test_names_of_classes_and_files_in_results(tmp_path: Path) -> None:
    for label in ("plain", "\x1b[2Jbad\rname\n$x"):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new("RGB", (40, 40), (number * 40, len(label) * 9, 0)).save(
                tmp_path / label / f"{number}\x1b[31m.png"
            )
    (tmp_path / "plain" / "\x1b[0mbroken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = audit(tmp_path, check_images=True)
    assert "bad" in str(found) and "broken.png" in str(found) and not OBEYED.search(str(found))
    assert not OBEYED.search(found._repr_html_())


def judged(names: tuple[str, ...]) -> Evaluation:
    draw = np.random.default_rng(0)
    labels = np.arange(12) % len(names)
    probabilities = draw.dirichlet(np.ones(len(names)), 12).astype(np.float32)
    return Evaluation("test", names, labels, probabilities, names=tuple(f"{ATTACK}{i}" for i in range(12)))


def test_control_characters_and_dollars_do_not_break_plots_or_texts() -> None:
    evaluation = judged(("$\\frac{", "_hidden", ATTACK))
    assert not OBEYED.search(str(evaluation))
    for kind in (plots.ConfusionMatrixDisplay, plots.RocCurveDisplay):
        with style():
            kind(evaluation).figure().savefig(text := io.StringIO(), format="svg")
        told = " ".join(xml.etree.ElementTree.fromstring(text.getvalue()).itertext())
        assert "_hidden" in told and "$\\frac{" in told and "owned" in told


def test_cells_that_spreadsheets_would_run_are_read_back_as_they_were(tmp_path: Path) -> None:
    names = ["=HYPERLINK(1)", "+1+cmd", "-x", "@SUM(1)", "'=1", "''", "plain", "-5", "＝1"]  # noqa: RUF001
    write_table(tmp_path / "a.csv", [{"image": f"{i}.png", "label": name} for i, name in enumerate(names)])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["label"] for row in csv.DictReader(file)]
    assert not [cell for cell in cells if cell[0] in "=+@＝" or cell == "-x"]  # noqa: RUF001
    assert cells[6:8] == ["plain", "-5"]
    assert list(read_columns(tmp_path / "a.csv").values["label"]) == names
    classes = ("=1+1", "b")
    found = Predictions(("=a.png",), np.array([[0.75, 0.25]], np.float32), (None,), classes)
    columns = read_columns(found.to_csv(tmp_path / "b.csv")).values
    assert "=1+1" in columns and next(iter(columns.values())) == ("=a.png",)
    assert "\n'=a.png" in (tmp_path / "b.csv").read_text(encoding="utf-8")


def test_markdown_is_plain_text() -> None:
    told = markdown('<img src=x onerror="1"> [a](http://b) `c` **d** | $e$ ~~f~~ @g www.h &lt; \x1b')
    assert "<" not in told and not re.search(r"(?<!\\)[\[\]`*|$~@]", told) and "http://" not in told
    assert "&amp;lt;" in told and "\x1b" not in told
