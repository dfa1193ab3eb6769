"""Options come from the fields of configurations, and override the settings in a file."""

from __future__ import annotations

import builtins
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from vggft import Augment, ConfigError, Head, Phase, SearchSpace, Training
from vggft.cli import search_commands, training_commands
from vggft.cli.defaults import read_defaults
from vggft.cli.options import (
    NOT_OPTIONS,
    AdjustOptions,
    BackboneOptions,
    DataOptions,
    RunOptions,
    help_of,
    with_options,
)
from vggft.network.precision import PRECISIONS

Seen = dict[str, Any]
seen: Seen = {}
app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@with_options
def fit(
    data: DataOptions,
    backbone: BackboneOptions,
    head: Head,
    training: Training,
    augment: Augment | None,
    run: RunOptions,
) -> None:
    seen.update(locals())


@app.command()
@with_options
def explore(backbone: BackboneOptions, head: Head, training: Training, space: SearchSpace) -> None:
    seen.update(locals())


def asked(*arguments: Any) -> Seen:
    """What a command gets."""
    seen.clear()
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, ConfigError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return seen


def file_of(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["finetune", "search", "cross_validate"])
def test_every_field_is_an_option_or_listed_as_none(command: str) -> None:
    function = _function(command)
    options = set(function.__signature__.parameters)
    adjusted = [] if command == "cross_validate" else [AdjustOptions]
    for cls in (DataOptions, BackboneOptions, RunOptions, Head, Training, Augment, *adjusted):
        for field in dataclasses.fields(cls):
            assert (field.name in options) != ((cls, field.name) in NOT_OPTIONS), field.name
            assert help_of(cls)[field.name].endswith("."), field.name
    searched = {field.name for field in dataclasses.fields(SearchSpace)}
    assert (searched <= options) == (command == "search")
    help_text = " ".join(CliRunner().invoke(_command(command), ["--help"], env={"COLUMNS": "200"}).output.split())
    for name in options - {"context", "dataset", "as_json", "details"}:
        assert f"--{name.replace('_', '-')} " in help_text


def _function(name: str) -> Callable[..., None]:
    return next(getattr(each, name) for each in (training_commands, search_commands) if hasattr(each, name))


def _command(name: str) -> typer.Typer:
    single = typer.Typer(rich_markup_mode="markdown")
    single.command()(_function(name))
    return single


def test_precisions_are_those_of_the_library() -> None:
    assert {*get_args(get_type_hints(BackboneOptions)["precision"])} == {*PRECISIONS}


def test_without_options_everything_is_as_in_python() -> None:
    found = asked("fit")
    assert (found["head"], found["training"], found["augment"]) == (Head(), Training(), None)
    assert (found["data"], found["backbone"], found["run"]) == (DataOptions(), BackboneOptions(), RunOptions())
    assert asked("explore")["space"] == SearchSpace()


def test_options_become_fields() -> None:
    found = asked(
        *("fit", "--units", "512,128", "--optimizer", "sgd", "--class-weight", "balanced", "--batch-norm"),
        *(
            "--freeze",
            "block1,block4",
            "--validation",
            "elsewhere/",
            "--test",
            "0.1",
            "--run-dir",
            "runs/a",
            "--resume",
        ),
    )
    assert found["head"] == Head(units=(512, 128), batch_norm=True)
    assert found["training"] == Training(optimizer="sgd", class_weight="balanced")
    assert found["backbone"].freeze == ("block1", "block4")
    assert (found["data"].validation, found["data"].test) == ("elsewhere/", 0.1)
    assert (found["run"].run_dir, found["run"].resume) == (Path("runs/a"), True)
    assert asked("fit", "--units", "")["head"] == Head(units=())


def test_numbers_by_name_are_options_and_phases_are_tables_of_a_file(tmp_path: Path) -> None:
    written = ("--class-weight", "cat=1,dog=2.5", "--block-rates", "block5=0.1,head=3", "--phases", "gradual")
    given = Training(class_weight={"cat": 1, "dog": 2.5}, block_rates={"block5": 0.1, "head": 3}, phases="gradual")
    assert asked("fit", *written)["training"] == given
    assert asked("fit", "--class-weight", "balanced")["training"] == Training(class_weight="balanced")
    with pytest.raises(ConfigError, match=r"numbers by name.*got 'block5=little'"):
        asked("fit", "--block-rates", "block5=little")
    with pytest.raises(ConfigError, match=r"block_rates must be a mapping of block1"):
        asked("fit", "--block-rates", "block6=2")
    text = """
    [training]
    sampling = "balanced"
    [[training.phases]]
    freeze = "all"
    epochs = 3
    [[training.phases]]
    freeze = ["block1", "block2"]
    block_rates = {block5 = 0.5}
    """
    found = asked("fit", "--config", file_of(tmp_path / "a.toml", text), "--weight-decay", "0.1")["training"]
    second = Phase(("block1", "block2"), block_rates={"block5": 0.5})
    assert found == Training(sampling="balanced", weight_decay=0.1, phases=(Phase("all", epochs=3), second))
    run = file_of(tmp_path / "config.json", json.dumps({"training": found.to_dict()}))
    assert asked("fit", "--config", run)["training"] == found
    wrong = file_of(tmp_path / "b.toml", "[[training.phases]]\nfreez = 'all'")
    with pytest.raises(ConfigError, match=r"b\.toml: Phase has no field freez \(did you mean freeze\?\)"):
        asked("fit", "--config", wrong)


def test_augmentation_is_a_switch_that_its_fields_imply() -> None:
    assert asked("fit", "--augment")["augment"] == Augment()
    assert asked("fit", "--no-flip", "--views", 2)["augment"] == Augment(flip=False, views=2)
    assert asked("fit", "--augment", "--views", "none")["augment"] == Augment(views=None)
    assert asked("fit", "--no-augment")["augment"] is None
    with pytest.raises(ConfigError, match="--no-augment contradicts --crop"):
        asked("fit", "--no-augment", "--crop", 0.2)


def test_a_head_is_left_to_the_run_unless_something_is_said_of_it(tmp_path: Path) -> None:
    assert asked("fit")["head"] == Head()  # of a command that needs one

    def choose(head: Head | None, training: Training) -> None:
        found.append(head)

    found: list[Head | None] = []
    chooser = typer.Typer()
    chooser.command()(with_options(choose))
    toml = file_of(tmp_path / "a.toml", "[head]\nnormalize = 'sqrt_l2'")
    for line in ([], ["--epochs", "3"], ["--normalize", "sqrt_l2"], ["--units", ""], ["--config", str(toml)]):
        assert CliRunner().invoke(chooser, line, catch_exceptions=False).exit_code == 0
    assert found == [None, None, Head(), Head(), Head()]
    assert CliRunner().invoke(chooser, ["--no-head"]).exit_code == 2


def test_impossible_values_are_refused() -> None:
    assert "lion" in CliRunner().invoke(app, ["fit", "--optimizer", "lion"]).output
    for option, value, message in (
        ("--dropout", 2, r"Head.dropout must be a number in \[0, 1\); got 2.0"),
        ("--views", "many", "Augment.views must be an integer >= 1 or None; got 'many'"),
        ("--num-classes", "0", "^num_classes must be an integer >= 1 or None; got 0"),
        ("--units", "0", "Head.units must be a tuple of integers >= 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            asked("fit", option, value)
    with pytest.raises(ConfigError, match=r"SearchSpace\.optimizer: Training\.optimizer must be"):
        asked("explore", "--optimizer", "adam,lion")


def test_a_search_takes_choices_where_it_can_search() -> None:
    found = asked(
        *("explore", "--units", "64,128", "--dropout", "0:0.5", "--optimizer", "sgd", "--batch-norm", "true,false"),
        *("--freeze", "none,block4", "--schedule", "constant", "--patience", 3),
    )
    choices = {"units": [64, 128], "dropout": (0, 0.5), "optimizer": "sgd", "batch_norm": [True, False]}
    assert found["space"] == SearchSpace(**choices, freeze=["none", "block4"])
    assert found["training"] == Training(schedule="constant", patience=3) and found["head"] == Head()
    text = " ".join(CliRunner().invoke(app, ["explore", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "range low:high[:log]" in text.replace("`", "") and "[default: 64:512:log]" in text


TOML = """
num_classes = 3
test = 0.1
freeze = ["block1", "block4"]
[head]
units = [64, 32]
dropout = 0.1
[training]
learning_rate = 1e-4
[augment]
crop = 0.3
"""
YAML = """
num_classes: 3
test: 0.1
freeze: [block1, block4]
head: {units: [64, 32], dropout: 0.1}
training:
  learning_rate: 1e-4
augment:
  crop: 0.3
"""


@pytest.mark.parametrize(("name", "text"), [("a.toml", TOML), ("a.yaml", YAML)])
def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(name: str, text: str, tmp_path: Path) -> None:
    if name == "a.yaml":
        pytest.importorskip("yaml")
    path = file_of(tmp_path / name, text)
    found = asked("fit", "--config", path, "--dropout", 0.2, "--test", 0.3, "--flip")
    assert found["head"] == Head(units=(64, 32), dropout=0.2) and found["training"] == Training(learning_rate=1e-4)
    assert (found["data"].num_classes, found["data"].test, found["data"].validation) == (3, 0.3, 0.2)
    assert found["augment"] == Augment(crop=0.3)
    assert list(found["backbone"].freeze) == ["block1", "block4"]
    assert asked("fit", "--config", path, "--no-augment")["augment"] is None


def test_a_file_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="pip install pyyaml"):
        asked("fit", "--config", file_of(tmp_path / "a.yml", "seed: 1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epocs = 3", r"a\.toml: `vggft fit` has no setting epocs \(did you mean training\.epochs\?\)"),
        ("[head]\nunit = 3", r"head\.unit \(did you mean head\.units\?\)"),
        ("[head]\nlearning_rate = 3", r"head\.learning_rate \(did you mean training\.learning_rate\?\)"),
        ("trails_of = 3", "there are .*num_classes"),
        ("[head]\ndropout = 'much'", r"a\.toml: head\.dropout must be a number in \[0, 1\); got 'much'"),
        ("num_classes = 'three'", r"a\.toml: num_classes must be an integer >= 1 or None; got 'three'"),
        ("resume = 'yes'", r"a\.toml: resume must be True or False; got 'yes'"),
        ("augment = 'my_function'", r"a\.toml: augment must be a section .* got 'my_function'"),
        ("seed = ", r"a\.toml is not valid TOML"),
    ],
)
def test_errors_name_the_file_and_the_key(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        asked("fit", "--config", file_of(tmp_path / "a.toml", text))


def test_files_that_hold_no_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads \.json, \.toml, \.yaml and \.yml files; got .*a\.ini"):
        asked("fit", "--config", file_of(tmp_path / "a.ini", ""))
    with pytest.raises(ConfigError, match="must hold settings by name; got list"):
        asked("fit", "--config", file_of(tmp_path / "a.json", "[1]"))
    assert "does not exist" in CliRunner().invoke(app, ["fit", "--config", str(tmp_path / "none.toml")]).output


def test_a_space_in_a_file(tmp_path: Path) -> None:
    text = """
    [space]
    units = [64, 128]
    layers = "0:2"
    learning_rate = {low = 1e-4, high = 1e-2, sampling = "log"}
    optimizer = "sgd"
    """
    found = asked("explore", "--config", file_of(tmp_path / "a.toml", text), "--optimizer", "adam,sgd")["space"]
    assert found.choices("units") == (64, 128) and found.layers == (0, 2)
    assert found.learning_rate == (1e-4, 1e-2, "log") and found.optimizer == ["adam", "sgd"]
    with pytest.raises(ConfigError, match=r"space\.l2: a range has low, high"):
        asked("explore", "--config", file_of(tmp_path / "b.toml", "[space]\nl2 = {from = 1, to = 2}"))


def test_the_configuration_of_a_run_is_a_file_of_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = {"backbone_digest": "0", "data_fingerprint": "1", "stored_as": "float16", "splits": {"train": 3}}
    results |= {"precision": "float32"}  # by "auto": float32 that is asked for is also stored so
    results |= {"first_trials": 3}  # of a search that was made longer
    blocks = [f"block{n}" for n in range(1, 6)]
    config = results | {"frozen": blocks, "backbone": "vgg16_mini", "search": SearchSpace(l2=(0.1, 0.2)).to_dict()}
    config |= {"refit": True, "time_limit": 600.0}  # of `finetune`; this command has none
    found = asked("explore", "--config", file_of(tmp_path / "config.json", json.dumps(config)))
    assert found["backbone"] == BackboneOptions(backbone="vgg16_mini", freeze="all")
    assert found["space"].to_dict() == config["search"]
    deep = config | {"frozen": [*blocks[:4], "block5_conv1"]}  # as many names as there are blocks
    found = asked("explore", "--config", file_of(tmp_path / "deep.json", json.dumps(deep)))
    assert found["backbone"].freeze == [*blocks[:4], "block5_conv1"]
    sections: Any = {"space": SearchSpace}
    read_defaults(tmp_path / "config.json", "explore", sections, {"more": BackboneOptions})
    told = capsys.readouterr().err
    assert "refit=True is left out" in told and "time_limit='600s' is left out" in told
    with pytest.raises(ConfigError, match="`vggft fit` has no setting space"):
        asked("fit", "--config", tmp_path / "config.json")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vggft fine", ["finetune"]),
        ("vggft finetune --optimizer ", ["adam", "adamw", "sgd"]),
        ("vggft finetune --precision bf", ["bfloat16"]),
        ("vggft search --optimizer ad", ["adam", "adamw"]),
    ],
)
def test_the_shell_completes_commands_and_choices(line: str, expected: list[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_VGGFT_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['vggft']; from vggft.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | words
    )
    assert done.stdout.split() == expected, done
