"""Pipes, sockets and devices are named and never opened, wherever a path of a user's is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vggft
from vggft.artifact.archive import read_archive
from vggft.artifact.record import read_record
from vggft.cli.console import picture_files
from vggft.errors import VggftError
from vggft.files.opening import open_file
from vggft.listings.meaning import list_table
from vggft.listings.tables import Table
from vggft.overview import read_runs
from vggft.pictures.arrays import as_sequence, read_images
from vggft.pictures.reading import Reading
from vggft.run import RunDirectory, write_whole
from vggft.weightfiles.files import open_layers

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
WORDS = r"is a (pipe \(FIFO\)|device), not a file"


def layers(path: Path) -> None:
    with open_layers(path):
        pass


DOORS: dict[str, Callable[[Path], Any]] = {
    "a file": open_file,
    "the images to predict": lambda path: picture_files([path]),
    "a dataset": vggft.audit,
    "a table": lambda path: list_table(Table(path)),
    "a classifier": read_archive,
    "a backbone": layers,
    "a run directory": RunDirectory.open,
    "an output": lambda path: write_whole(path, "text"),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_pipe_or_a_device_behind_a_link_is_named(door: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.csv").symlink_to(tmp_path / "pipe")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    for name in ("link.csv", "device.csv"):
        with pytest.raises(VggftError, match=rf"{name}.* ({WORDS}|exists already)"):
            DOORS[door](tmp_path / name)


def test_an_audit_names_them_and_reads_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        for number in range(6):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (40, 40), (number * 9, 0, 90)).save(tmp_path / name / f"{number}.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    os.mkfifo(tmp_path / "cat" / "pipe without suffix")
    (tmp_path / "dog" / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(tmp_path / "dog")
        bound.bind("socket.png")
        told = str(vggft.audit(tmp_path, check_images=True))
    assert "pipe.png is a pipe (FIFO), not a file" in told and "zero.jpg is a device, not a file" in told
    assert "socket.png is a socket, not a file" in told and "12" in told
    _, problems = read_images(as_sequence([tmp_path / "cat" / "pipe.png"]), Reading.of(32))
    assert problems[0].endswith("pipe.png is a pipe (FIFO), not a file.")


def test_a_pipe_in_a_run_directory_does_not_hold_it_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    os.mkfifo(tmp_path / "environment.json")
    with pytest.raises(VggftError, match=WORDS):
        RunDirectory.open(tmp_path, resume=True)
    with pytest.raises(VggftError, match=WORDS):
        read_record(tmp_path)
    assert len(read_runs(tmp_path).rows) <= 1
