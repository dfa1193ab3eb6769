"""A terminal or pipe that lacks characters never makes a command or a call fail."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggft
from vggft.telling.progress import Narrator

NAMES = ("k\u00e4se", "\u732b \U0001f600")  # one that cp1252 has, one that only UTF-8 has

# Every command in one process: importing typer and Pillow again and again would take most of the time.
COMMANDS = """
import sys
from vggft.cli.main import main
folder, code = sys.argv[1], 0
for words in (["audit", folder], ["--help"], ["finetune", "--help"], ["audit", folder + "/\u732b"], ["\u732b"],
              ["cache", "list"]):
    sys.argv = ["vggft", *words]
    try:
        main()
    except SystemExit as stop:
        code = max(code, stop.code or 0)
sys.argv = ["vggft", "audit", folder, "--json", "--quiet"]
print("=====", flush=True)
try:
    main()
except SystemExit:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for n in range(3):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{name}{n}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("encoding", ["cp1252", "cp949", "ascii"])
def test_commands_print_in_every_encoding(encoding: str, folder: Path, tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(folder)],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "VGGFT_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert b"Traceback" not in out.stderr, out.stderr.decode(encoding, "replace")
    assert out.returncode == 0
    told, _, as_json = out.stdout.partition(b"=====")
    assert b"6 images, 2 classes" in told and b"Usage" in told
    assert json.loads(as_json.decode(encoding))["class_names"] == sorted(NAMES)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp949", "ascii"])
def test_progress_never_raises(encoding: str, folder: Path) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)  # which raises for what it lacks
    with contextlib.redirect_stderr(stream):
        vggft.audit(folder, verbose=1)
        narrator = Narrator()
        narrator.say(NAMES[1])
        with narrator.board(trials=2, epochs=2, direction="max") as board:
            board.add(NAMES[1] * 40, 0.5)
        with narrator.bar(NAMES[1], None) as advance:
            advance(1)
        stream.flush()
    assert r"\u0001f600" in written.getvalue().decode(encoding).lower()


def test_without_a_standard_error_nothing_is_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert vggft.audit(folder, verbose=1).ok


def test_own_words_are_ascii(folder: Path) -> None:
    text = str(vggft.audit(folder, verbose=0))
    for name in NAMES:
        text = text.replace(name, "")
    assert text.isascii()
