"""The command line, as used by people and programs."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import vggft
from vggft.cli import console
from vggft.cli import main as cli


@pytest.fixture(scope="module")
def folder(stripes: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stripes as a folder of class folders."""
    root = tmp_path_factory.mktemp("data") / "stripes"
    for i, (image, label) in enumerate(zip(*stripes, strict=True)):
        path = root / "abc"[label] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def run_dir(folder: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `vggft finetune` leaves."""
    path = tmp_path_factory.mktemp("run") / "first"
    finetune(folder, tiny_weights, "--run-dir", path, "--test", "0.2", "--epochs", "60", "--learning-rate", "0.003")
    return path


def run(*arguments: Any, status: int = 0) -> str:
    """Run a command in this process; returns what it printed on standard output."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if isinstance(result.exception, vggft.VggftError):
        raise result.exception  # `main` prints these
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout


def finetune(folder: Path, weights: Path, *arguments: Any) -> str:
    quick = ("--num-classes", 3, "--backbone", weights, "--image-size", 32, "--units", "16", "--quiet")
    return run("finetune", folder, *quick, *arguments)


def test_finetune_prints_how_good_it_is_and_where_it_is(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    printed = finetune(folder, tiny_weights, "--run-dir", tmp_path / "run", "--epochs", 2, "--test", 0.2)
    about = r"95 % interval 0\.\d+ to [01]\.\d+; most frequent class 0\.\d+; 24 images, 3 classes"
    assert re.search(rf"Test: accuracy \d\.\d+ \({about}\)", printed)
    assert f"The classifier is {tmp_path / 'run' / 'classifier.keras'}" in printed.replace("\n", " ")
    assert (tmp_path / "run" / "classifier.keras").exists()
    assert f"Next: vggft report {tmp_path / 'run'}" in printed.replace("\n", " ")


def test_results_are_told_once_and_an_interruption_says_how_to_go_on(
    folder: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    quick = ("--backbone", tiny_weights, "--image-size", 32, "--test", 0.2, "--run-dir", tmp_path / "run", "--verbose")
    arguments = [str(each) for each in ("finetune", folder, *quick, "--freeze", "block4", "--fine-tune-epochs", 2)]
    told = CliRunner().invoke(cli.app, arguments).output
    assert told.count("Test: accuracy") == 1 and told.count("The classifier is") == 1
    assert told.count("blocks and head, epoch 2: validation accuracy") == 1
    assert re.search(r"blocks and head: 2 epochs, kept (1|2|the weights before it): ", told)

    monkeypatch.setattr("sys.argv", ["vggft", "finetune", "my data", "--epochs", "9"])
    for run_dir, expected in (
        (tmp_path / "run", f"vggft finetune 'my data' --epochs 9 --run-dir {tmp_path / 'run'} --resume"),
        (tmp_path / "other", "the run had not begun"),
    ):
        with pytest.raises(typer.Exit) as caught, console.run_in(run_dir):
            raise KeyboardInterrupt
        assert caught.value.exit_code == 130 and expected in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_any_command_without_a_traceback(
    number: signal.Signals, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("vggft.auditing.audit", lambda *data, **how: signal.raise_signal(number))
    monkeypatch.setattr("sys.argv", ["vggft", "audit", str(folder)])
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == code and capsys.readouterr().err.strip().endswith("Interrupted.")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", ["read images", "frozen features", "head: "])
def test_a_run_that_is_signalled_stops_soon_and_goes_on(
    after: str, number: signal.Signals, folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    how = ("--backbone", tiny_weights, "--image-size", 32, "--units", 64, "--epochs", 400, "--patience", 400)
    more = ("--optimizer", "sgd", "--run-dir", tmp_path / "run", "--verbose")
    command = [sys.executable, "-m", "vggft", "finetune", *map(str, (folder, *how, *more))]
    environment = os.environ | {"VGGFT_CACHE_DIR": str(tmp_path / "cache")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr or ():
            if after in line:
                break
        process.send_signal(number)
        asked = time.monotonic()
        told = process.stderr.read() if process.stderr else ""
        assert process.wait() == 128 + number and time.monotonic() - asked < 5
    assert "Traceback" not in told and "Interrupted." in told
    if "--resume" in told:
        subprocess.run([*command, "--resume"], check=True, env=environment, capture_output=True)
        assert (tmp_path / "run" / "classifier.keras").exists()


def test_without_a_run_dir_a_new_one_is_taken(
    folder: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for n in (1, 2):
        found = json.loads(finetune(folder, tiny_weights, "--epochs", 1, "--json"))
        assert found["classifier"] == f"runs/stripes-{n}/classifier.keras"
        assert found["split"] == "validation" and 0 <= found["accuracy"] <= 1


def test_evaluate_says_the_same_again(run_dir: Path, folder: Path) -> None:
    with (run_dir / "splits.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    table = run_dir.parent / "test.csv"
    table.write_text("image,label\n" + "".join(f"{row['image']},{Path(row['image']).parent.name}\n" for row in rows))
    found = json.loads(run("evaluate", run_dir / "classifier.keras", table, "--json"))
    judged = json.loads((run_dir / "evaluation.json").read_text())
    assert found["num_images"] == 24 and found["accuracy"] == judged["test"]["accuracy"]
    numbers = {name: number for number, name in enumerate("cba")}
    table.write_text(
        "image,label\n" + "".join(f"{row['image']},{numbers[Path(row['image']).parent.name]}\n" for row in rows)
    )
    numbered = json.loads(run("evaluate", run_dir, table, "--class-names", "c,b,a", "--json"))
    assert numbered["accuracy"] == found["accuracy"]
    with pytest.warns(UserWarning, match="trained or chosen on 96 of these 120 images"):
        assert "All: accuracy" in run("evaluate", run_dir / "classifier.keras", folder, "--quiet")


def test_verify_reads_files_that_seem_unchanged(
    run_dir: Path, tmp_path: Path, stripes: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGGFT_CACHE_CHECK", "0")  # and as it was, after the test
    lines = ["image,label"]
    for row in range(12):
        Image.fromarray(stripes[0][row]).save(tmp_path / f"{row}.bmp")
        os.utime(tmp_path / f"{row}.bmp", (1e9, 1e9))
        lines.append(f"{row}.bmp,{'abc'[stripes[1][row]]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))

    def loss(*options: str) -> float:
        with pytest.warns(UserWarning, match="trained or chosen on"):
            found = run("evaluate", run_dir, tmp_path / "labels.csv", "--json", *options)
        return json.loads(found)["log_loss"]

    before = loss()
    Image.fromarray(255 - stripes[0][0]).save(tmp_path / "0.bmp")  # as large as before
    os.utime(tmp_path / "0.bmp", (1e9, 1e9))
    assert loss() == before
    after = loss("--verify")
    assert after != before
    monkeypatch.setenv("VGGFT_CACHE_CHECK", "0")
    assert loss() == after


def test_predict_prints_words_or_writes_a_csv_file(run_dir: Path, folder: Path, tmp_path: Path) -> None:
    model = run_dir / "classifier.keras"
    words = run("predict", model, folder / "a" / "000.png", "--quiet")
    assert re.search(r"000\.png: [abc] \(\d+\.\d%\), [abc] \(", words)

    output = tmp_path / "predictions.csv"
    run("predict", model, folder, "--output", output, "--quiet")
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120 and list(rows[0]) == ["image", "label", "probability", "a", "b", "c", "error"]
    expected = vggft.load(model).predict([rows[5]["image"]])[0]
    np.testing.assert_allclose([float(rows[5][name]) for name in "abc"], expected, atol=1e-5)
    with pytest.raises(vggft.ConfigError, match=r"exists already; overwrite=True \(--force\)"):
        run("predict", model, folder, "--output", output)


def test_predict_says_what_is_none_of_the_classes_and_which_labels_may_be(
    run_dir: Path, folder: Path, tmp_path: Path
) -> None:
    tiles = np.random.default_rng(5).integers(0, 2, (4, 4, 3)) * 255
    Image.fromarray(np.kron(tiles, np.ones((8, 8, 1))).astype("uint8")).save(tmp_path / "tiles.png")
    pictures = tmp_path / "tiles.png", folder / "a" / "000.png"
    words = run("predict", run_dir, *pictures, "--strangers", "--quiet").splitlines()
    assert "tiles.png: none of the classes? " in words[0] and "none of" not in words[1]
    first, second = json.loads(run("predict", run_dir, *pictures, "--strangers", "--coverage", "0.8", "--json"))
    assert first["stranger"] is True and first["distance"] > 1 > second["distance"] and second["stranger"] is False
    assert second["set"].split("|")[0] == second["label"]
    assert re.search(
        r"000\.png: [abc] \(\d+\.\d%\)", run("predict", run_dir, *pictures, "--coverage", "0.8", "--quiet")
    )
    with pytest.raises(vggft.ConfigError, match="leave out --views"):
        run("predict", run_dir, *pictures, "--coverage", "0.8", "--views", "2")


def test_one_bad_file_does_not_stop_a_folder(run_dir: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "new")
    (tmp_path / "new" / "010.png").write_bytes(b"no picture")
    (tmp_path / "new" / "torn.png").write_bytes((folder / "a" / "000.png").read_bytes()[:200])
    output = tmp_path / "predictions.csv"
    told = CliRunner().invoke(cli.app, ["predict", str(run_dir), str(tmp_path / "new"), "-o", str(output), "-q"])
    assert told.exit_code == 1 and told.stdout.startswith("40 predictions are in")
    assert "2 of 42 images cannot be read:" in told.stderr and "010.png" in told.stderr and "torn.png" in told.stderr
    with output.open() as file:
        rows = {Path(row["image"]).name: row for row in csv.DictReader(file)}
    assert len(rows) == 42 and "torn.png" in rows["torn.png"]["error"]
    assert (rows["torn.png"]["label"], rows["torn.png"]["a"], rows["000.png"]["error"]) == ("", "", "")
    listed = json.loads(run("predict", run_dir, tmp_path / "new", "--json", "--on-bad-image", "skip"))
    assert sum(row["error"] is None for row in listed) == 40
    expected = vggft.load(run_dir).predict(folder / "a" / "021.png")[0]
    np.testing.assert_allclose([float(rows["021.png"][name]) for name in "abc"], expected, atol=1e-5)
    for images in ((tmp_path / "new", "--on-bad-image", "raise"), (tmp_path / "new" / "torn.png",)):
        with pytest.raises(vggft.DataError, match=r"torn\.png"):
            run("predict", run_dir, *images)
    with pytest.raises(vggft.ConfigError, match="no file or folder nowhere"):
        run("predict", run_dir, "nowhere")


def test_audit_reports_and_exits_with_one_where_there_are_errors(folder: Path, tmp_path: Path) -> None:
    assert "120 images" in run("audit", folder, "--quiet")
    assert json.loads(run("audit", folder, "--json"))["errors"] == []
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "note.jpg").write_text("hello")
    printed = run("audit", tmp_path / "bad", "--quiet", status=1)
    assert "note.jpg" in printed and f"vggft audit {tmp_path / 'bad'} --output problems.csv" in printed
    asked = ("audit", tmp_path / "bad", "--check-images", "--output", tmp_path / "problems.csv")
    assert f"All of it is in {tmp_path / 'problems.csv'}" in run(*asked, status=1)
    with (tmp_path / "problems.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["problem"], row["image"]) == ("unreadable", "a/note.jpg") and "is not an image" in row["detail"]
    with pytest.raises(vggft.ConfigError, match=r"problems\.csv exists already; overwrite=True \(--force\)"):
        run(*asked)


def test_errors_are_sentences_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["vggft", "finetune", "no such folder", "--num-classes", "3", "--backbone", "vgg17"]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert (
        printed.err.startswith("Error: There is no file or folder no such folder (from ")
        and "Traceback" not in printed.err
    )
    assert printed.out == ""


@pytest.mark.parametrize("command", ["", "audit", "finetune", "search", "evaluate", "predict", "draw", "demo"])
def test_help_teaches(command: str) -> None:
    text = run(*command.split(), "--help")
    assert "Usage" in text and len(text) > 300
    assert f"vggft {vggft.__version__}" in run("--version")


def plain(text: str) -> list[str]:
    """The words of a text, without frames and the marks of code."""
    return re.sub(r"[\u2500-\u257f]", " ", text.replace("`", "")).split()


@pytest.mark.parametrize("command", [name for group in cli.HELP.values() for name in group])
def test_help_shows_every_word_and_examples_that_can_be_typed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Markdown once ate what stood in angle brackets."""
    monkeypatch.setenv("COLUMNS", "300")
    words = plain(run(command, "--help"))
    shown = " ".join(words)
    found = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    for told in (found.help, *(each.help for each in found.params if each.name != "help")):
        assert " ".join(plain(told or "")) in shown, told
    examples = [example for group in cli.HELP.values() for example in group.get(command, ())]
    for example in examples:
        assert example in shown
        program, name, *arguments = shlex.split(example)
        assert (program, name) == ("vggft", command)
        with found.make_context(command, arguments, resilient_parsing=False):
            pass
    if command == "finetune":
        common = words[words.index("--test") : words.index("--num-classes")]
        assert {"--freeze", "--backbone", "--epochs", "--run-dir", "--resume"} <= set(common)


def test_choices_are_completed() -> None:
    found = typer.main.get_command(cli.app).commands["search"]  # type: ignore[attr-defined]
    context = typer.Context(found)

    def completed(name: str, begun: str) -> list[str]:
        option = next(each for each in found.params if each.name == name)
        return [item.value for item in option.shell_complete(context, begun)]

    assert completed("backbone", "vgg16") == ["vgg16_imagenet", "vgg16_mini"]
    assert "block3" in completed("freeze", "b")
    assert completed("algorithm", "b") == ["bayesian"] and completed("precision", "b") == ["bfloat16"]


def test_no_colours_where_none_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.tell_error("red [x]")
    assert "\x1b[31m" in stream.getvalue() and "red [x]" in stream.getvalue()
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            stream.truncate(0)
            console.tell_error("plain")
            assert "\x1b" not in stream.getvalue()


def test_a_dry_run_says_what_it_would_cost_and_leaves_no_run(
    folder: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path / "cache"))  # other tests have computed features of these images
    run_dir = tmp_path / "run"
    printed = finetune(folder, tiny_weights, "--dry-run", "--run-dir", run_dir, "--freeze", "block3")
    assert re.search(r"Estimate: .*; training and evaluation at most .*; about .* of memory", " ".join(printed.split()))
    assert not run_dir.exists()
    told = json.loads(finetune(folder, tiny_weights, "--dry-run", "--json", "--augment", "--precision", "float32"))
    assert told["images"] == {"train": 96, "validation": 24} and told["minutes"] > 0
    assert (told["passes"], told["views"]) == (4, 120 + 3 * 96)  # four views of what is trained on


def test_the_cache_is_listed_verified_and_pruned(
    folder: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGGFT_CACHE_DIR", str(tmp_path))
    assert "0 bytes" in run("cache", "list")
    finetune(folder, tiny_weights, "--epochs", 1, "--run-dir", tmp_path / "run")
    precision = json.loads((tmp_path / "run" / "config.json").read_text())["precision"]  # the fastest, as measured
    listed = json.loads(run("cache", "list", "--json"))
    exact = [store for store in listed if store["kind"] == "features" and store["dtype"] == "float32"]
    assert [store["images"] for store in exact] == [4]  # to compare those in 16 bits with
    stores = {store["kind"]: store for store in listed if store not in exact}
    assert stores["features"]["cut"] == "pooled" and stores["features"]["images"] == 120
    assert stores["features"]["backbone"] == tiny_weights.name and stores["features"]["precision"] == precision
    assert stores["images"]["bytes"] > 120 * 32 * 32 * 3
    assert f"features {tiny_weights.name} pooled" in run("cache", "list")
    assert " 0 damaged" in run("cache", "verify")

    (rows,) = tmp_path.glob("images/*/*.rows.npy")
    content = bytearray(rows.read_bytes())
    content[5000] ^= 1
    rows.write_bytes(content)
    assert f"images/{rows.parent.name}: 1 rows are damaged" in run("cache", "verify", status=1)
    assert json.loads(run("cache", "verify", "--json", status=1))["damaged"] == {f"images/{rows.parent.name}": 1}
    finetune(folder, tiny_weights, "--epochs", 1, "--run-dir", tmp_path / "run2")
    assert " 0 damaged" in run("cache", "verify")
    assert run("cache", "compact").endswith("files merged\n")

    with pytest.raises(vggft.ConfigError, match=r"such as 20GB or 1\.5GiB"):
        run("cache", "prune", "--max-size", "lots")
    run("cache", "prune", "--max-size", "0.2MB")
    left = json.loads(run("cache", "list", "--json"))
    assert sum(store["bytes"] for store in left) <= 200_000
    assert "0 bytes remain" in run("cache", "prune", "--max-size", "0")


def test_search_prints_its_trials_and_where_they_are(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    # one width, as compiling heads of another would take longer than everything else here
    fixed = ("--num-classes", 3, "--backbone", tiny_weights, "--image-size", 32, "--precision", "float32", "--quiet")
    asked = ("--trials", 3, "--algorithm", "grid", "--units", 16, "--layers", 1, "--learning-rate", "0.003,0.01")
    asked += ("--normalize", "l2")
    searched = ("search", folder, *fixed, *asked, "--epochs", 2, "--run-dir", tmp_path / "run", "--test", 0.2)
    searched += ("--calibrate",)
    printed = run(*searched)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["calibration"]["temperature"] > 0
    assert "2 trials, objective: validation accuracy (max)" in printed and "learning_rate 0.003" in printed
    assert "Test images were used once" in printed and (tmp_path / "run" / "trials.csv").exists()
    with pytest.raises(vggft.RunError, match="not empty"):
        run(*searched)
    with pytest.raises(vggft.RunError, match=r"cannot be resumed: test was 0\.2, is 0\.3; .*there were 77 train"):
        run(*searched, "--test", 0.3, "--resume")
    again = json.loads(run(*searched, "--resume", "--json"))
    assert again["trials"] == 2 and again["winner"] == "scored" and Path(again["classifier"]).exists()
    with pytest.raises(vggft.ConfigError, match="--resume continues the search in --run-dir"):
        run("search", folder, *fixed, "--resume")
    with pytest.raises(vggft.ConfigError, match="--units needs a value"):
        run("search", folder, *fixed, "--units", " ")


@pytest.mark.slow
def test_a_learning_rate_is_found_and_plotted(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    fixed: tuple[Any, ...] = ("find-learning-rate", folder, "--backbone", tiny_weights, "--image-size", 32, "--quiet")
    asked = (*fixed, "--num-classes", 3, "--units", 16, "--steps", 40, "--plot", tmp_path / "rates.svg")
    found = json.loads(run(*asked, "--json"))
    assert found["field"] == "learning_rate" and 1e-5 < found["suggestion"] < 10 and len(found["losses"]) <= 40
    assert (tmp_path / "rates.svg").read_text().count("<svg") == 1 and list(tmp_path.iterdir()) == [Path(found["plot"])]
    with pytest.raises(vggft.ConfigError, match=r"exists already; overwrite=True \(--force\)"):
        run(*asked)
    assert f"Training(learning_rate={found['suggestion']:.1e})" in run(*asked, "--force")
    with pytest.raises(vggft.ConfigError, match="\\.png, \\.svg or \\.pdf file; got 'rates'"):
        run(*asked[:-1], tmp_path / "rates")


@pytest.mark.slow
def test_predictions_from_several_views(run_dir: Path, folder: Path) -> None:
    classifier = vggft.load(run_dir)
    files = sorted((folder / "a").iterdir())[:2]
    (line, _) = run("predict", run_dir, *files, "--views", 4, "--quiet").splitlines()
    assert f"({classifier.predict(files, views=4)[0].max():.1%})" in line
    with pytest.warns(UserWarning, match="trained or chosen on"):
        told = json.loads(run("evaluate", run_dir, folder, "--views", 2, "--json"))
    with pytest.warns(UserWarning, match="trained or chosen on"):
        assert told["log_loss"] == classifier.evaluate(folder, views=2)["log_loss"]


@pytest.mark.parametrize(("command", "home"), [("finetune", "vggft.api"), ("search", "vggft.tuning.search")])
def test_a_command_passes_on_every_argument_of_the_function(
    command: str, home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").touch()
    only_in_python = {"dataset", "callbacks", "metrics"}
    arguments = set(inspect.signature(getattr(vggft, command)).parameters) - only_in_python

    def passed_on(*options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {}

        def end(dataset: Any, **arguments: Any) -> None:
            given.update(arguments, dataset=dataset)
            raise vggft.RunError("far enough")

        with monkeypatch.context() as patch, pytest.raises(vggft.RunError, match="far enough"):
            patch.setattr(f"{home}.{command}", end)
            patch.chdir(tmp_path)
            run(command, "data.csv", "--backbone", "vgg16_mini", *options)
        return given

    given = passed_on("--num-classes", 3, "--augment", "--freeze", "block4", "--run-dir", "runs/a")
    assert given.pop("dataset") == "data.csv" and set(given) == arguments
    assert (given["augment"], given["freeze"], given["run_dir"]) == (vggft.Augment(), "block4", Path("runs/a"))
    several = passed_on("--num-classes", 3, "--units", "64,32", "--freeze", "block1,block4", "--quiet")
    assert several["verbose"] == 0
    if command == "finetune":
        assert (several["head"], several["freeze"]) == (vggft.Head(units=(64, 32)), ("block1", "block4"))
    else:
        assert given["space"] == vggft.SearchSpace()
        assert several["space"] == vggft.SearchSpace(units=[64, 32], freeze=["block1", "block4"])
        assert several["freeze"] == "all"
    least = passed_on("--group", "patient_id")  # a dataset is enough
    assert (least["num_classes"], least["group"]) == (None, "patient_id")


def test_a_run_is_repeated_from_its_config(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    head = ("--activation", "gelu", "--batch-norm", "--l2", "1e-4", "--dropout", 0.1)
    how = (
        "--precision",
        "float32",
        "--optimizer",
        "sgd",
        "--schedule",
        "constant",
        "--class-weight",
        "balanced",
        "--label-smoothing",
        0.1,
    )
    finetune(folder, tiny_weights, "--run-dir", first, *head, *how, "--epochs", 2, "--no-flip", "--views", 2)
    config = json.loads((first / "config.json").read_text())
    assert (
        config["head"]
        == vggft.Head(
            (16,), "avg", 0.1, blocks=("block3", "block4", "block5"), activation="gelu", batch_norm=True, l2=1e-4
        ).to_dict()
    )
    assert config["training"]["optimizer"] == "sgd" and config["training"]["label_smoothing"] == 0.1
    assert config["augment"] == vggft.Augment(flip=False, views=2).to_dict()

    repeat = ("finetune", folder, "--config", first / "config.json", "--backbone", tiny_weights, "--quiet")
    run(*repeat, "--run-dir", again)
    assert json.loads((again / "config.json").read_text()) == config
    assert (again / "evaluation.json").read_text() == (first / "evaluation.json").read_text()


@pytest.mark.slow
def test_report_writes_a_page_and_a_card_beside_the_run(
    run_dir: Path, folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    printed = run("report", run_dir)
    page = run_dir / "report.html"
    assert str(page) in printed and (run_dir / "MODEL_CARD.md").read_text(encoding="utf-8").startswith("---\n")
    card = (run_dir / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "vggft.finetune(" in card and "stripes" in card
    assert str(folder.parent) not in card and str(tiny_weights.parent) not in card  # a card is for others
    text = page.read_text(encoding="utf-8")
    assert text.count("where the classifier saw") == 12 and "Images of each class" in text
    page.write_text("mine")
    with pytest.raises(vggft.ConfigError, match=r"report\.html exists already; overwrite=True \(--force\)"):
        run("report", run_dir)
    assert page.read_text() == "mine"
    run("report", run_dir / "classifier.keras", "--output", tmp_path / "a.html", "--card", tmp_path / "b.md")
    assert (tmp_path / "a.html").exists() and (tmp_path / "b.md").exists()
    run("report", run_dir, "--force")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_explain_writes_an_overlay_for_each_picture(run_dir: Path, folder: Path, tmp_path: Path) -> None:
    printed = run("explain", run_dir, folder / "a" / "000.png", folder / "b", "--output", tmp_path / "out")
    assert re.search(r"000\.png: [abc] \(\d+\.\d%\) -> .*000\.block5\.jpg", printed)
    assert len(list((tmp_path / "out").iterdir())) == 41
    with Image.open(tmp_path / "out" / "000.block5.jpg") as overlay:
        assert overlay.size == (32, 32)
    common = ("explain", run_dir, folder / "a" / "000.png", "--output", tmp_path / "out")
    with pytest.raises(vggft.ConfigError, match=r"exists already; overwrite=True \(--force\)"):
        run(*common)
    assert ": b (" in run(*common, "--block", "block4", "--label", "b")
    with pytest.raises(vggft.ConfigError, match="There are no images in the folder"):
        run("explain", run_dir, run_dir)


def test_compare_two_runs_on_what_both_were_judged_on(
    run_dir: Path, folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    finetune(folder, tiny_weights, "--run-dir", tmp_path / "second", "--test", "0.2", "--epochs", "1")
    printed = run("compare", run_dir, tmp_path / "second" / "classifier.keras")
    assert "first and second on the same 24 test images" in printed and "McNemar's exact test: p = " in printed
    found = json.loads(run("compare", run_dir, tmp_path / "second", "--json"))
    assert found["metrics"]["accuracy"]["difference"] == pytest.approx(
        found["metrics"]["accuracy"]["second"] - found["metrics"]["accuracy"]["first"]
    )
    with pytest.warns(UserWarning, match="trained or chosen on"):
        assert json.loads(run("compare", run_dir, tmp_path / "second", folder, "--json"))["images"] == 120
    shutil.copytree(run_dir, tmp_path / "third")
    three = run("compare", run_dir, tmp_path / "second", tmp_path / "third")
    assert "3 classifiers on the same 24 test images" in three and "first  second  third" in three
    assert "third against first: only third is right 0 times" in three
    told = json.loads(run("compare", run_dir, tmp_path / "second", tmp_path / "third", "--json"))
    p_value = found["p_value"]
    assert told["adjusted_p_values"] == [pytest.approx(min(1, 2 * p_value)), 1] and len(told["comparisons"]) == 2
    with pytest.raises(vggft.ConfigError, match="compare needs two classifiers or more"):
        run("compare", run_dir, folder)


def test_runs_are_listed_sorted_and_written(run_dir: Path, folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "runs" / "good")
    finetune(folder, tiny_weights, "--run-dir", tmp_path / "runs" / "poor", "--epochs", "1", "--test", 0.2)
    (tmp_path / "runs" / "killed").mkdir()
    shutil.copy(run_dir / "config.json", tmp_path / "runs" / "killed")
    about = json.loads((run_dir / "environment.json").read_text())
    del about["seconds"]  # which are written at the end
    (tmp_path / "runs" / "killed" / "environment.json").write_text(json.dumps(about))
    printed = run("runs", tmp_path / "runs", "--sort", "test")
    rows = [line.split() for line in printed.splitlines()[3:]]
    assert [row[0] for row in rows] == ["good", "poor", "killed"] and "3 runs in" in printed
    judged = json.loads((run_dir / "evaluation.json").read_text())["test"]
    assert f"{judged['accuracy']:.3f} ({judged['intervals']['accuracy'][0]:.3f}-" in printed
    assert rows[2][1:4] == ["-", "-", "-"] and rows[0][-3:] == ["all", "16", "stripes"]
    assert "3 runs are in" in run("runs", tmp_path / "runs", "--output", tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open() as file:
        written = {row["run"]: row for row in csv.DictReader(file)}
    assert float(written["good"]["test"]) == judged["accuracy"] and 0 < float(written["good"]["seconds"]) < 300
    assert (written["poor"]["freeze"], written["poor"]["what"], written["killed"]["test"]) == ("all", "finetune", "")
    assert json.loads(run("runs", tmp_path / "runs", "--json"))["runs"][0]["data"] == str(folder)
    with pytest.raises(vggft.ConfigError, match="can be sorted by run, what"):
        run("runs", tmp_path / "runs", "--sort", "accuracy")
    with pytest.raises(vggft.RunError, match="no folder"):
        run("runs", tmp_path / "nowhere")


@pytest.mark.slow
def test_export_says_what_it_compared(run_dir: Path, folder: Path, tmp_path: Path) -> None:
    printed = run("export", run_dir, tmp_path / "model.onnx")
    assert "ONNX in float32" in printed and "Compared on 24 images" in printed
    found = json.loads(run("export", run_dir, tmp_path / "model.tflite", "--precision", "float16", "--json"))
    assert found["exported_accuracy"] == pytest.approx(found["accuracy"], abs=0.05)
    given = run("export", run_dir, tmp_path / "given.onnx", "--data", folder)
    assert "Compared on 120 images" in given
    with pytest.raises(vggft.ConfigError, match=r"model\.onnx exists already; overwrite=True \(--force\)"):
        run("export", run_dir, tmp_path / "model.onnx")


def test_evaluate_by_a_column(run_dir: Path, folder: Path, tmp_path: Path) -> None:
    rows = [(path, path.parent.name, "ab"[i % 2]) for i, path in enumerate(sorted(folder.rglob("*.png")))]
    table = tmp_path / "sites.csv"
    table.write_text("image,label,site\n" + "".join(f"{path},{label},site {site}\n" for path, label, site in rows))
    with pytest.warns(UserWarning, match="trained or chosen on"):
        printed = run("evaluate", run_dir, table, "--by", "site", "--quiet")
    assert "By site:" in printed and re.search(r"- site b: All: accuracy .* 60 images", printed)
    with pytest.warns(UserWarning, match="trained or chosen on"):
        found = json.loads(run("evaluate", run_dir, table, "--by", "site", "--json"))
    assert found["slices"]["site a"]["num_images"] == 60


@pytest.mark.slow
def test_calibration_and_curves_are_asked_for_by_flags(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    finetune(folder, tiny_weights, "--run-dir", tmp_path / "run", "--epochs", 2, "--calibrate", "--tensorboard")
    judged = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert judged["calibration"]["temperature"] > 0
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))
    with pytest.raises(vggft.ConfigError, match=r"True \(--tune-thresholds\) is for images with several labels"):
        finetune(folder, tiny_weights, "--run-dir", tmp_path / "other", "--tune-thresholds")


def test_serve_passes_on_where_and_how_much(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("vggft.deploy.server.serve", lambda classifier, **how: asked.update(how))
    run("serve", run_dir, "--host", "0.0.0.0", "--port", 8123, "--max-megabytes", 2)
    assert (asked["host"], asked["port"], asked["max_bytes"]) == ("0.0.0.0", 8123, 2_000_000)


def test_further_options_are_passed_on(run_dir: Path, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    asked: dict[str, Any] = {}

    def end(*given: Any, **how: Any) -> None:
        asked.update(how)
        raise vggft.RunError("far enough")

    for home, *command in (
        ("vggft.Classifier.export", "export", run_dir, tmp_path / "saved", "--no-strangers", "--max-changed", "0.2"),
        ("vggft.learning_rates.find_learning_rate", "find-learning-rate", folder, "--backbone", "vgg16_mini", "-v"),
    ):
        monkeypatch.setattr(home, end)
        with pytest.raises(vggft.RunError, match="far enough"):
            run(*command)
    assert (asked["strangers"], asked["max_changed"], asked["verbose"]) == (False, 0.2, 2)
    monkeypatch.setattr("vggft.demo.run_demo", lambda run_dir, seed, quiet: {"report": f"{run_dir}", "quiet": quiet})
    assert json.loads(run("demo", "--run-dir", tmp_path / "demo", "--json"))["quiet"] is True


@pytest.mark.slow
def test_a_run_in_the_folder_of_the_data_is_beside_it(
    folder: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vggft finetune .` once wrote runs/-1 into the data, which the next run took for a class."""
    data = shutil.copytree(folder, tmp_path / "stripes")
    for here in (data, data / "a"):
        monkeypatch.chdir(here)
        dataset = os.path.relpath(data)
        found = json.loads(finetune(Path(dataset), tiny_weights, "--epochs", 1, "--json"))
        assert Path(found["classifier"]).resolve().parent.parent == tmp_path / "runs"
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"stripes-1", "stripes-2"}
    shutil.copytree(tmp_path / "runs", data / "runs")  # as earlier versions did
    listed = json.loads(run("audit", data, "--json"))
    assert listed["class_names"] == ["a", "b", "c"] and listed["ok"]
    assert listed["warnings"] == ["the folder runs with runs of vggft was left out."]


def test_what_cannot_be_is_told_before_tensorflow_is_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def imported() -> None:
        raise AssertionError("TensorFlow is imported")

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    monkeypatch.setenv("KERAS_HOME", str(folder.parent))  # which has no weights
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # as if there were no network
    for module in (cli.training_commands, cli.search_commands, cli.classifier_commands):
        monkeypatch.setattr(module, "import_quietly", imported)
    monkeypatch.chdir(folder.parent)
    (folder.parent / "high" / "classes").mkdir(parents=True)
    for name in "abcde":
        shutil.copytree(folder / "a", folder.parent / "high" / "classes" / name)
    shutil.copytree(folder / "b", folder.parent / "high" / "figures")
    for arguments, message in (
        (("finetune", "strips"), r"no file or folder strips .*Did you mean stripes\?"),
        (("finetune", "high"), r"classes in it holds no image itself, but 5 folders\. Did you mean high/classes\?"),
        (("finetune", "stripes", "--test", "stripe"), "no file or folder stripe "),
        (("search", "stripes", "--backbone", "vgg16_mimi"), r"Did you mean 'vgg16_mini'\?"),
        (("cross-validate", "stripes", "--freeze", "blok3"), r"Did you mean 'block3'\?"),
        (("find-learning-rate", "nowhere"), "no file or folder nowhere"),
        (("finetune", "stripes", "--run-dir", "stripes"), "is not empty"),
        (("finetune", "stripes/a"), r"directly in it.* Did you mean .*stripes, which holds 3 folders of images\?"),
        (("predict", "strips", "stripes"), r"no file or folder strips \(from .*\)\. Did you mean stripes\?"),
        (("evaluate", "stripes", "nowhere"), "no file or folder nowhere"),
        (("export", "stripes", "a.onnx"), r"Exporting needs tf2onnx: pip install tf2onnx onnxruntime onnx \(the extra"),
        (("serve", "stripes"), "Serving needs uvicorn"),
        (("search", "stripes"), "could not be downloaded .*\n.*--backbone vgg16_mini"),
    ):
        with pytest.raises(vggft.VggftError, match=message):
            run(*arguments)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_on_a_disk_that_is_full_ends_in_one_sentence() -> None:
    told = "Error: What is printed cannot be written: No space left on device.\n"
    for stream, folder, said in (("stdout", ".", told), ("stderr", "/nowhere", None)):
        with Path("/dev/full").open("w") as full:
            streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
            done = subprocess.run([sys.executable, "-m", "vggft", "runs", folder], check=False, text=True, **streams)
        assert (done.returncode, done.stderr) == (2, said)
