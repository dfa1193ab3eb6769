"""Decoding is bounded in bytes and seconds: bombs, mutated files, and no process that stays behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bombs import CHEAP, bombs, jpeg_of_scans
from PIL import Image

from vggft.errors import DataError
from vggft.files.isolated import Pool
from vggft.pictures import files
from vggft.pictures.arrays import in_threads
from vggft.pictures.files import POOL, look, read_image
from vggft.pictures.reading import Reading

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is read from /proc")
BYTES, SECONDS = 10**9, 5.0


def resident(process: int | str) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


@contextmanager
def watched() -> Iterator[list[int]]:
    """Measure the most memory that this process and those of the pool take together, over what they had."""

    def taken() -> int:
        return resident("self") + sum(resident(worker.process.pid) for worker in list(POOL.all))

    base, most, done = taken(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most[0] = max(most[0], taken() - base)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def outcome(data: bytes, name: str = "the file") -> str:
    """What becomes of a file: "read", or the sentence about it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            look(data, Reading.of(64), name)
            pixels = read_image(data, 64, name).pixels
    except DataError as error:
        assert str(error).startswith(name) and "\n" not in str(error)
        return str(error)
    assert pixels.shape == (64, 64, 3)
    return "read"


@LINUX
def test_bombs_are_named_within_bounds_also_many_at_once() -> None:
    made = [(name, make()) for name, make in CHEAP.items()]
    start = time.process_time(), time.monotonic()
    with watched() as most:
        found = dict(in_threads(lambda each: (each[0], outcome(each[1])), made))
    assert most[0] < BYTES
    assert time.monotonic() - start[1] < 60 and len(found) == len(made)
    assert "decode" in found["webp of 34 bytes"] and found["npy of much"] != "read"


def test_a_picture_that_takes_too_long_is_named_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool("vggft.pictures.decoding:answer", seconds=0.3)
    monkeypatch.setattr(files, "POOL", pool)
    data = jpeg_of_scans(1000, 1000, 40_000)  # seconds on any processor
    assert "takes more than 0.3 seconds to decode" in outcome(data)
    assert not pool.all  # nor is one started for the same file
    assert "takes more than 0.3 seconds to decode" in outcome(data) and not pool.all
    good = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(good, "WEBP", lossless=True)
    assert (read_image(good.getvalue()).pixels == (255, 0, 0)).all()  # by a process that took its place
    pool.close()


@LINUX
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    """Also when it is killed, and in a child that was forked from it while a decoder was there."""
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.webp")
    script = """
import os, sys, time
from vggft.pictures.files import POOL, read_image
read_image(sys.argv[1])
print(POOL.all[0].process.pid, flush=True)
child = os.fork()
read_image(sys.argv[1])
if child == 0:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "a.webp")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker, code = int(process.stdout.readline()), process.stdout.readline()
    assert code == "0\n" and resident(worker)
    process.kill()
    process.communicate()
    end = time.monotonic() + 10
    while resident(worker) and time.monotonic() < end:
        time.sleep(0.02)
    assert not resident(worker)


def samples() -> dict[str, bytes]:
    """A good file of every format that can be written here."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    picture, found = Image.fromarray(noise), dict[str, bytes]()
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    forms: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("JPEG", picture, {"exif": exif}), ("JPEG", picture, {"progressive": True}), ("PNG", picture, {"exif": exif}),
        ("PNG", deep, {}), ("PNG", picture.quantize(16), {}), ("GIF", picture, {}), ("BMP", picture, {}),
        ("TIFF", picture, {"compression": "tiff_lzw"}), ("TIFF", picture, {"compression": "jpeg"}), ("TIFF", deep, {}),
        ("TIFF", picture, {"compression": "tiff_adobe_deflate"}), ("WEBP", picture, {}),
        ("WEBP", picture, {"lossless": True}),
        ("AVIF", picture, {}), ("JPEG2000", picture, {}), ("PPM", picture, {}),
        ("QOI", picture, {}),
    ]  # fmt: skip
    for number, (format, image, how) in enumerate(forms):
        file = io.BytesIO()
        image.save(file, format, **how)
        found[f"{format} {number}"] = file.getvalue()
    file = io.BytesIO()
    np.save(file, noise)
    return found | {"NPY": file.getvalue()}


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """Change, cut out, repeat or insert some bytes, mostly near the beginning, where formats say what comes."""
    changed = bytearray(data)
    for _ in range(int(draw.integers(1, 6))):
        end = len(changed) if draw.random() < 0.4 else min(len(changed), 200)
        at, many = int(draw.integers(0, max(1, end))), int(draw.integers(1, 9))
        match int(draw.integers(5)):
            case 0:
                changed[at : at + many] = draw.bytes(many)
            case 1:
                changed[at : at + many] = bytes([int(draw.choice([0, 1, 127, 128, 255]))]) * many
            case 2:
                del changed[at : at + many * 8]
            case 3:
                changed[at:at] = changed[at : at + many * 8] * int(draw.integers(1, 30))
            case _:
                del changed[at * 2 + 64 :]
    return bytes(changed)


def check_mutants(count: int, seed: int) -> Counter[str]:
    draw, good = np.random.default_rng(seed), list(samples().items())
    files = [(good[i % len(good)][0], mutated(good[i % len(good)][1], draw)) for i in range(count)]

    def timed(each: tuple[str, bytes]) -> tuple[str, str, float]:
        start = time.monotonic()
        return each[0], outcome(each[1]), time.monotonic() - start

    with watched() as most:
        found = list(in_threads(timed, files, 16))
    slow = [(name, told, seconds) for name, told, seconds in found if seconds > 2 * SECONDS]
    assert not slow and most[0] < BYTES
    return Counter("read" if told == "read" else "named" for _, told, _ in found)


@LINUX
def test_mutated_files_are_read_or_named() -> None:
    assert sum(check_mutants(360, seed=1).values()) == 360


@LINUX
@pytest.mark.slow
def test_ten_thousand_mutated_files() -> None:
    count = int(os.environ.get("VGGFT_MUTANTS", "10000"))
    found = check_mutants(count, seed=2)
    print(found)
    assert sum(found.values()) == count


@LINUX
@pytest.mark.slow
def test_all_bombs() -> None:
    """One after another; the clock runs on where other processes have the processor, so it is scaled by the load."""
    slow, large, told, count = [], [], Counter[str](), 0
    for name, data in bombs():
        count += 1
        start = time.monotonic()
        with watched() as most:
            found = outcome(data)
        seconds = time.monotonic() - start
        print(f"{name:40} {seconds:6.2f} s {most[0] / 1e6:7.0f} MB  {found[:110]}")
        told["read" if found == "read" else "named"] += 1
        share = min(2.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
        slow += [(name, seconds)] if seconds > SECONDS * share else []
        large += [(name, most[0])] if most[0] > BYTES else []
    print(count, told)
    assert count >= 60 and not slow and not large
