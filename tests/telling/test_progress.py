"""The progress that a search shows while it runs."""

from __future__ import annotations

import io
import logging
import re
import sys
import time

import pytest
from rich.console import Console

from vggft.telling.bars import Bars
from vggft.telling.progress import SHOWN_TRIALS, Board, Narrator


def drawn(board: Board) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(board.render())
    return console.file.getvalue()


def test_the_board_shows_the_last_trials_the_best_and_the_time_left() -> None:
    board = Board(trials=20, epochs=200, direction="min")
    assert drawn(board).strip() == "0 of 20 trials" and board.seconds_left is None
    for number in range(12):
        board.add(f"trial {number} [red]", abs(number - 2) / 10)
        board.advance(10)
    board.add("trial 12 failed", None)
    said = drawn(board)
    assert "13 of 20 trials, about 0:00:0" in said and "best so far: trial 2 [red]" in said
    assert said.count("trial ") == SHOWN_TRIALS + 1
    board.started -= 120
    assert 79 < board.seconds_left < 82  # 80 of 200 epochs are left, and 120 took 120 s


def test_a_bar_shows_the_images_done_and_their_rate(capsys) -> None:  # type: ignore[no-untyped-def]
    with Narrator(1).bar("read images", 300) as advance:
        for _ in range(3):
            time.sleep(0.02)
            advance(100)
    out, err = capsys.readouterr()
    assert out == "" and "read images" in err and "300/300" in err and " images/s" in err


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_leaves_out_what_does_not_fit(width: int) -> None:
    told = "blocks and head, epoch 12: validation accuracy 0.852"
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Bars(console, disable=False) as bars:
        bars.update(bars.add_task(told, total=123_456), completed=123_456)
    drawn = [line.rstrip() for line in re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", console.file.getvalue()).splitlines()]
    assert max(map(len, drawn)) <= width and any(line.startswith(told) for line in drawn)
    assert any("123456/123456" in line for line in drawn) == (width == 120)


def test_where_nothing_can_move_a_line_is_printed_every_half_minute(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    now = [0.0]
    monkeypatch.setattr("vggft.telling.progress.time.monotonic", lambda: now[0])
    with Narrator(1).bar("read images", 400) as advance:
        for _ in range(8):
            now[0] += 10
            advance(50)
    with Narrator(1).board(20, 80, "max") as board:
        for number in range(4):
            now[0] += 10
            board.add(f"trial {number}", number / 10)
            board.advance(20)
    assert capsys.readouterr().err.splitlines()[:4] == [
        "read images: 150/400, 5.0 images/s, 0:00:50 left",
        "read images: 300/400, 5.0 images/s, 0:00:20 left",
        "read images: 400/400, 5.0 images/s",
        "3 of 20 trials, about 0:00:30 left; best so far: trial 2",
    ]


def test_a_silent_board_prints_nothing(capsys) -> None:  # type: ignore[no-untyped-def]
    with Narrator(0).board(3, 30, "max") as board:
        board.add("trial 0", 0.5)
        board.advance(10)
    assert capsys.readouterr() == ("", "")


def test_what_is_said_is_also_logged(capsys, caplog) -> None:  # type: ignore[no-untyped-def]
    with caplog.at_level(logging.INFO, logger="vggft"):
        Narrator(1).say("Of [all] 100 % images")
        Narrator(0).say("silent")
    assert [(each.name, each.levelname, each.getMessage()) for each in caplog.records] == [
        ("vggft", "INFO", "Of [all] 100 % images"),
        ("vggft", "INFO", "silent"),
    ]
    assert capsys.readouterr() == ("", "Of [all] 100 % images\n")


def test_a_program_that_logs_to_the_terminal_is_told_once(capsys, caplog) -> None:  # type: ignore[no-untyped-def]
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        Narrator(1).say("first")  # the logger is at WARNING, as it is by default
        with caplog.at_level(logging.INFO, logger="vggft"):
            Narrator(1).say("second")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr() == ("", "first\nsecond\n")
