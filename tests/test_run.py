"""A run directory: whole files, nothing overwritten, resume points."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vggft import ConfigError, RunError, WriteError
from vggft.files.writing import open_to_append, whole_file, write_whole
from vggft.run import RunDirectory


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with whole_file(target) as aside:
        aside.write_text("first")
        assert not target.exists()
    with pytest.raises(ZeroDivisionError), whole_file(target, overwrite=True) as aside:
        aside.write_text("sec")
        1 / 0  # noqa: B018
    assert target.read_text() == "first"
    assert list(target.parent.iterdir()) == [target]
    with whole_file(tmp_path / "a.weights.h5") as aside:
        assert aside.name.endswith(".weights.h5")  # Keras writes weights under no other name
        aside.touch()


def test_without_a_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(None)
    run.start({"a": 1})
    run.write_json("x.json", {})
    run.save_point("head", [np.zeros(3)], {})
    assert run.load_point("head") is None and not run.finished
    assert list(tmp_path.iterdir()) == []


def test_what_made_a_run_is_said_in_it(tmp_path: Path) -> None:
    RunDirectory.open(tmp_path / "run").start({"seed": 3, "frozen": ("block1",)})
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 3, "frozen": ["block1"]}
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert {"python", "keras", "tensorflow", "vggft"} <= set(environment["versions"]) and environment["command"]


def test_another_run_or_a_users_files_are_never_overwritten(tmp_path: Path) -> None:
    RunDirectory.open(tmp_path / "run").start({"seed": 3})
    with pytest.raises(RunError, match="not empty, and a run never overwrites another") as kept:
        RunDirectory.open(tmp_path / "run")
    assert kept.tb is not None  # as a notebook keeps it, and the resume that it asks for has the directory all the same
    with pytest.raises(RunError, match="seed was 3, is 4"):
        RunDirectory.open(tmp_path / "run", resume=True).start({"seed": 4})
    RunDirectory.open(tmp_path / "run", resume=True).start({"seed": 3})

    asked = {"dataset": "flowers", "test": 0.2}
    made = {"splits": {"train": 8, "test": 2}, "data_fingerprint": "0" * 64, "head": {"units": [64], "l2": 0.1}}
    RunDirectory.open(tmp_path / "asked").start(made, asked)
    other = {"splits": {"train": 7, "test": 3}, "data_fingerprint": "1" * 64, "head": {"units": [9] * 99, "l2": 0.1}}
    with pytest.raises(RunError) as caught, RunDirectory.open(tmp_path / "asked", resume=True) as run:
        run.start(other, asked | {"test": 0.3})
    told = str(caught.value)
    assert (
        "resumed: test was 0.2, is 0.3; the images, their labels or splits are others; head.units was [64], is" in told
    )
    assert "there were 8 train, 2 test images, and are 7 train, 3 test" in told and len(told) < 400 + len(str(tmp_path))
    assert not any(same in told for same in ("dataset", "l2", "111"))
    (tmp_path / "asked" / "environment.json").unlink()
    with pytest.raises(RunError, match=r"resumed: the images, their labels or splits are others; head\.units"):
        RunDirectory.open(tmp_path / "asked", resume=True).start(other, asked)

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    for resume in (False, True):
        with pytest.raises(RunError):
            RunDirectory.open(tmp_path / "thesis", resume=resume)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "precious"
    assert len(list((tmp_path / "thesis").iterdir())) == 1
    with pytest.raises(RunError, match="is a file"):
        RunDirectory.open(tmp_path / "thesis" / "chapter1.tex")
    with pytest.raises(RunError, match="resume=True needs the run_dir"):
        RunDirectory.open(None, resume=True)


def test_resume_points_come_back_as_they_were(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run")
    run.start({})
    arrays = [np.arange(6, dtype="float32").reshape(2, 3), np.array([7], dtype="uint32")]
    run.save_point("head", [np.zeros(1)], {"epoch": 0})
    run.save_point("head", arrays, {"epoch": 1, "history": [{"loss": 0.5}]})
    stored = run.load_point("head")
    assert stored is not None
    for array, expected in zip(stored[0], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype
    assert stored[1] == {"epoch": 1, "history": [{"loss": 0.5}]}
    run.drop_points()
    assert run.load_point("head") is None and not (tmp_path / "run" / "resume").exists()


def test_tables_hold_every_column(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run")
    run.start({})
    run.write_table("history.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "accuracy": 1.0}])
    assert (tmp_path / "run" / "history.csv").read_text() == "epoch,loss,accuracy\n1,0.5,\n2,,1.0\n"


def test_a_kill_between_the_first_files_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunDirectory.open(path).start({"seed": 3})
    (path / "config.json").unlink()  # it is written last
    (path / ".4711-config.json").write_text('{"se')
    RunDirectory.open(path, resume=True).start({"seed": 3})
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "environment.json"]


def test_a_full_disk_is_told_before_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was once told at the end, when the classifier was to be saved."""
    monkeypatch.setattr("vggft.run.NEEDED", 10**18)
    with pytest.raises(RunError, match=r"MB free; a run needs up to .* name a directory on another disk"):
        RunDirectory.open(tmp_path / "a" / "new" / "run")
    assert not (tmp_path / "a").exists()


def test_four_threads_write_one_file_without_collision(tmp_path: Path) -> None:
    target, texts = tmp_path / "a.txt", [letter * 100_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: [write_whole(target, text, overwrite=True) for _ in range(20)], texts))
        (tmp_path / "b.txt").unlink(missing_ok=True)
        results = [pool.submit(write_whole, tmp_path / "b.txt", text) for text in texts]
    assert target.read_text() in texts and sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "b.txt"]
    errors = [error for each in results if (error := each.exception())]
    assert len(errors) == 3 and all(isinstance(error, ConfigError) for error in errors)  # one was first, and stays


def test_a_link_is_not_followed_and_permissions_stay(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / f".{os.getpid()}-a.txt").symlink_to(precious)  # the name that unfinished files once had
    (link := tmp_path / "link.txt").symlink_to(precious)
    write_whole(tmp_path / "a.txt", "first")
    (tmp_path / "a.txt").chmod(0o640)
    write_whole(tmp_path / "a.txt", "second", overwrite=True)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    with pytest.raises(ConfigError, match=r"link\.txt exists already; overwrite=True \(--force\)"):
        write_whole(link, "new")
    write_whole(link, "new", overwrite=True)
    assert precious.read_text() == "precious" and link.read_text() == "new" and not link.is_symlink()
    for path, told in ((tmp_path, "is a folder"), (Path(os.devnull), "is a device"), (precious / "a", "is a file")):
        with pytest.raises(ConfigError, match=told):
            write_whole(path, "x", overwrite=True)


def test_only_files_of_ours_are_deleted_from_a_run_directory(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "head.npz").write_text("precious")
    RunDirectory.open(path := tmp_path / "run").start({"seed": 3})
    (path / "resume").mkdir()
    for name in (".2024-notes", ".vggft-0123456789abcdef.keras", ".17-head.npz", "resume/head.npz", "resume/notes.txt"):
        (path / name).write_text("x")
    (path / "resume" / "elsewhere").symlink_to(elsewhere)
    run = RunDirectory.open(path, resume=True)
    run.start({"seed": 3})
    run.drop_points()
    left = {str(file.relative_to(path)) for file in path.rglob("*")} - {"config.json", "environment.json"}
    assert left == {".2024-notes", "resume", "resume/notes.txt", "resume/elsewhere"}
    assert (elsewhere / "head.npz").read_text() == "precious"


def test_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    """The lock is the system's: a process that was killed holds nothing, and no file of it is left."""
    target = tmp_path / "run"
    first, late = RunDirectory.open(target), RunDirectory.open(target)  # neither has begun
    with first:
        first.start({"seed": 3})
        with pytest.raises(RunError, match=r"in use: another call in this process is running in it"):
            late.start({"seed": 3})
        with pytest.raises(RunError, match="in use"):
            RunDirectory.open(target, resume=True)
        before = sorted(target.iterdir())
    with pytest.raises(RunError, match="holds another run, which has begun meanwhile"):
        late.start({"seed": 3})
    late.__exit__()
    hold = "import os, sys, time; from vggft.run import RunDirectory as Run; run = Run.open(sys.argv[1], True)"
    hold += "\nif hasattr(os, 'fork') and not os.fork(): sys.exit()  # a fork that ends leaves the lock where it is"
    hold += "\nos.wait(); print(run.begun, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, str(target)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"True\n"
            with pytest.raises(RunError, match=rf"in use: another process \({other.pid}\) is running in it"):
                RunDirectory.open(target, resume=True)
        finally:
            other.kill()
    with RunDirectory.open(target, resume=True) as again:
        again.start({"seed": 3})
    assert sorted(target.iterdir()) == before


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_a_directory_that_is_gone_ends_the_run_and_is_not_half_made_again(how: str, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with RunDirectory.open(target) as run:
        run.start({"seed": 3})
        target.rename(elsewhere)
        if how == "removed":
            shutil.rmtree(elsewhere)
        elif how == "replaced":
            target.mkdir()
        for write in (
            lambda: run.write_json("audit.json", {}),
            lambda: run.write_table("history.csv", [{"a": 1}]),
            lambda: run.inside("trials/1").save_point("head", [np.zeros(3)], {}),
        ):
            with pytest.raises(RunError, match=r"run is no longer there.* resume=True"):
                write()
    assert not target.exists() or not list(target.iterdir())
    if how == "renamed":
        with RunDirectory.open(elsewhere, resume=True) as again:
            again.start({"seed": 3})


def test_a_device_that_is_full_and_a_folder_that_is_gone_are_told_in_a_sentence(tmp_path: Path) -> None:
    write_whole(target := tmp_path / "deep" / "file.txt", "first")
    told = r"file\.txt cannot be written: the disk of .* is full: make room"
    with pytest.raises(WriteError, match=told), whole_file(target, overwrite=True):
        Path("/dev/full").write_text("second")
    assert target.read_text() == "first" and list(target.parent.iterdir()) == [target]
    with pytest.raises(WriteError, match="its folder is no longer there"), whole_file(target, overwrite=True):
        shutil.rmtree(target.parent)
    assert not target.parent.exists()


def test_logs_are_added_to_files_and_never_through_links(tmp_path: Path) -> None:
    for text in (b"first ", b"second"):
        with open_to_append(tmp_path / "deep" / "a.log") as file:
            file.write(text)
    assert (tmp_path / "deep" / "a.log").read_bytes() == b"first second"
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link.log").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe.log")
    for name in ("link.log", "pipe.log", "deep"):
        with pytest.raises(ConfigError, match="to which nothing is added"):
            open_to_append(tmp_path / name)
    assert (tmp_path / "precious").read_text() == "mine"
