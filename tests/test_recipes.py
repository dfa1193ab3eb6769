"""Every recipe runs, on a handful of images, and says what it gave."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LinearRegression

import vggft
from vggft.network import weights

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))


sys.path.append(str(ROOT / "recipes"))  # where `python recipes/...` looks for what a recipe takes from another


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


def two_classes(folder: Path, stripes: tuple) -> str:
    """A folder of two classes of 12 images."""
    for row in range(36):
        label = stripes[1][row]
        if label < 2:
            path = folder / "ab"[label] / f"{row}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(stripes[0][row]).save(path)
    return str(folder)


QUICK = {"image_size": 32, "precision": "float32"}
SHORT = QUICK | {"training": vggft.Training(epochs=2, fine_tune_epochs=1, batch_size=8)}
ONE = vggft.Training(fine_tune_epochs=1)
SCORE = r"[01]\.\d{3}"
OVER_SEEDS = rf"test accuracy over 1 seeds: ({SCORE}) to \1\n"

# What of a recipe is changed, how its `main` is called, and all that it then prints.
HANDFUL: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "linear_probe": ({"CONFIG": SHORT}, {"num_classes": 2, "seeds": 1}, OVER_SEEDS),
    "feature_extraction": ({"CONFIG": SHORT}, {"num_classes": 2, "seeds": 1}, OVER_SEEDS),
    "calibration": (
        {"CONFIG": SHORT}, {"num_classes": 2, "freeze": "all", "seeds": 1},
        r"seed 0: temperature [\d.]+; test calibration error .*\n",
    ),
    "cross_validation": (
        {"CONFIG": QUICK | {"folds": 2, "repeats": 2}}, {"num_classes": 2, "seed": 0},
        rf"accuracy {SCORE}, 95 % interval .*\n4 trainings: .*\n(\S+/[ab]/\d+\.png: [ab] .*\n){{3}}",
    ),
    "few_shot": (
        {"CONFIG": {"image_size": 32}}, {"num_classes": 2, "shots": 4, "seeds": 1},
        rf"4 images of each class, 1 seeds: cross-validation accuracy \d.* of other images {SCORE} to {SCORE}\n",
    ),
    "gradual_unfreezing": (
        {"CONFIG": {"image_size": 32, "freeze": "block4"}, "GRADUAL": replace(ONE, phases="gradual"), "TOGETHER": ONE},
        {"num_classes": 2, "seeds": 1},
        rf"gradually, 1 seeds: test accuracy {SCORE} to {SCORE}\ntogether, 1 seeds: test accuracy {SCORE} to {SCORE}\n",
    ),
    "imbalanced": (
        {"CONFIG": SHORT}, {"num_classes": 2, "seeds": 1},
        "".join(rf"class_weight={each}: balanced accuracy .* recall of the smallest class .*\n"
                for each in ("None", "'balanced'")),
    ),
    "multilabel": (
        {"CONFIG": SHORT}, {"seeds": 1},
        rf"seed 0: macro F1 {SCORE} at 0\.5, {SCORE} at the thresholds RBC [\d.]+, WBC [\d.]+\n",
    ),
    "paper_table": ({}, {}, r"Table 1\n(?s:.*)\npaper +133 +133 +133 +134 +138 +144\n"),
    "paper_training": (
        {}, {"seeds": 1, "glorot": False},
        rf"(?s:.*)seed 0: net A, .* {SCORE}\n(?s:.*)seed 0: net D, .* \d+ s\n{OVER_SEEDS}",
    ),
    "paper_transfer": (
        {"CONFIG": {"image_size": 32}}, {"backbone": "vgg16_mini", "seeds": 1},
        rf"seed 0: C=\d+, test accuracy {SCORE}\ntest accuracy over 1 seeds: {SCORE} to {SCORE}, \d+ s\n",
    ),
    "narrow_backbone": ({}, {}, r"14,550 weights in 13 convolutions: .*\.npz\n"),
    "pretrain_backbone": ({}, {}, r"(?s:.*)\"explained\": {\"block3\": (?s:.*)"),
    "search_distributed": (
        {"CONFIG": SHORT | {"trials": 1}}, {"num_classes": 2}, rf"test accuracy {SCORE}, validation \d.*\n",
    ),
    "search_freeze_depth": (
        {"CONFIG": SHORT}, {"num_classes": 2, "seeds": 1, "trials": 2},
        rf"(?s:.*)best of 2 trials, {OVER_SEEDS}",
    ),
    "search_head": (
        {"CONFIG": SHORT}, {"num_classes": 2, "seeds": 1, "trials": 2},
        rf"(?s:.*)best of 2 trials, {OVER_SEEDS}[\d.]+ s per trial\n",
    ),
    "sklearn_pipeline": (
        {"CONFIG": QUICK, "GRID": {"vggfeatures__normalize": [None], "svc__C": [1]}}, {"seeds": 1},
        rf"seed 0: {{'svc__C': 1, .*}}; cross-validation accuracy {SCORE}, test {SCORE}\n",
    ),
    "voc_labels": ({}, {}, r"30 pictures with 2 labels: .*labels\.csv\n"),
}  # fmt: skip
BY_DEFAULT = ("calibration", "linear_probe", "paper_table", "voc_labels")


def of_recipe(path: Path) -> Any:
    return pytest.param(path.stem, marks=() if path.stem in BY_DEFAULT else pytest.mark.slow)


@pytest.mark.parametrize("name", [of_recipe(path) for path in RECIPES])
def test_a_recipe_runs_on_a_handful_of_images(
    name: str, stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Searches are chief of no worker on their own: `search_distributed` then searches alone."""
    module, (changed, arguments, told) = recipe(name), HANDFUL[name]
    for field, value in changed.items():
        before = getattr(module, field)
        monkeypatch.setattr(module, field, before | value if field == "CONFIG" else value)
    given = {"data": ..., **arguments}
    if name in ("multilabel", "voc_labels"):
        given["data"] = boxes(tmp_path / "data", stripes)
    elif name == "narrow_backbone":
        given = {"config": module.Narrow(**NARROW), "out": tmp_path / "narrow.npz", **teaching(tmp_path, stripes)}
    elif name == "pretrain_backbone":
        given = {"config": module.Config(**TAUGHT), "out": tmp_path / "mini.npz", **teaching(tmp_path, stripes)}
    elif name == "paper_training":
        given["data"] = tiny_cifar10(tmp_path / "cifar10.zip")
        given["config"] = module.Config(width=1 / 16, epochs=1, batch_size=8, watched=4)
    elif name == "paper_table":
        given = {}
    else:
        given["data"] = two_classes(tmp_path / "data", stripes)
    out = {"voc_labels": {"output": "labels.csv"}, "search_distributed": {"run_dir": "run"}}.get(name, {})
    given |= {argument: str(tmp_path / file) for argument, file in out.items()}
    module.main(**given)
    assert re.fullmatch(told, found := capsys.readouterr().out), found


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_gave(path: Path) -> None:
    """Command and data, value and range over three seeds or more, and how long it takes."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"python recipes/{path.stem}.py" in doc and re.search(r"\d (s|seconds?|minutes?|hours?)\b", doc)
    if path.stem != "paper_table":  # which counts
        assert "--data ../shared/data/" in doc and re.search(r"\d\.\d{2,3}|\d %", doc)
        assert path.stem in LONG or re.search(r"\b[Ss]eeds 0 to [2-9]|\b[3-9] repeats of", doc)


LONG = (
    "narrow_backbone",
    "paper_training",
    "pretrain_backbone",
    "search_distributed",
)  # an hour each, or two processes: one seed


def test_counts_of_the_paper() -> None:
    module = recipe("paper_table")
    assert {column: round(module.parameters(column) / 1e6) for column in module.PAPER} == module.PAPER
    assert {column: module.weight_layers(column) for column in "ABCDE"} == {"A": 11, "B": 13, "C": 16, "D": 16, "E": 19}
    assert module.parameters("D") == 138_357_544  # as the docstring of `vgg` counts, by Keras


def test_net_d_begins_with_layers_of_net_a() -> None:
    module = recipe("paper_training")
    config = module.Config(width=1 / 32)
    shallow, deep = (module.network(column, config, drawn=True) for column in "AD")
    before = {layer.name: layer.kernel.numpy() for layer in module.learning(deep)}
    module.begin(deep, shallow)
    moved = [name for name, kernel in before.items() if not np.array_equal(kernel, deep.get_layer(name).kernel)]
    assert moved == [
        "block1_conv1", "block2_conv1", "block3_conv1", "block3_conv2", "fc1", "fc2", "predictions"
    ]  # fmt: skip
    for name in moved:
        np.testing.assert_array_equal(deep.get_layer(name).kernel, shallow.get_layer(name).kernel)
    kernel = deep.get_layer("block5_conv1").kernel  # and the penalty is the paper's, weight_decay / 2 * |w|^2
    np.testing.assert_allclose(kernel.regularizer(kernel), 2.5e-4 * np.square(kernel).sum(), rtol=1e-5)


def test_few_images_of_the_last_class_are_kept(stripes: tuple, tmp_path: Path) -> None:
    table = recipe("imbalanced").skewed(two_classes(tmp_path, stripes), seed=0)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", "a"): 6, ("test", "b"): 6, ("train", "a"): 6, ("train", "b"): 2
    }  # fmt: skip
    assert table.image.is_unique


def boxes(folder: Path, stripes: tuple) -> str:
    """A folder of 30 pictures, a few of them without boxes, whose boxes are of two kinds."""
    for row in range(30):
        names = ["RBC", "RBC", *(["WBC"] if stripes[1][row] else [])]
        inside = "".join(f"<object><name>{name}</name><bndbox/></object>" for name in names[row % 2 :])
        for kind, name in (("Annotations", f"{row}.xml"), ("JPEGImages", f"{row}.jpg")):
            (folder / kind).mkdir(exist_ok=True, parents=True)
            if kind == "Annotations":
                (folder / kind / name).write_text(f"<annotation>{inside if row % 5 else ''}</annotation>")
            else:
                Image.fromarray(stripes[0][row]).save(folder / kind / name)
    return str(folder)


def test_boxes_become_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    for name, cells in (("one", ["RBC", "WBC", "RBC"]), ("two", ["RBC"]), ("three", [])):
        Image.new("RGB", (40, 40), (name == "one" and "red") or "blue").save(tmp_path / "JPEGImages" / f"{name}.jpg")
        inside = "".join(f"<object><name>{cell}</name></object>" for cell in cells)
        file = tmp_path / "Annotations" / f"{name}.xml"
        file.write_text(f"<annotation><filename>{name}.JPEG</filename>{inside}</annotation>")  # the suffix is wrong
    module = recipe("voc_labels")
    module.main(str(tmp_path), str(tmp_path / "labels.csv"))
    assert "3 pictures with 2 labels" in capsys.readouterr().out
    found = vggft.audit(tmp_path / "labels.csv", verbose=0)
    assert found.multi_label and found.images == 3 and found.class_counts["all"] == {"RBC": 2, "WBC": 1}
    with pytest.raises(FileExistsError):  # nothing is overwritten
        module.main(str(tmp_path), str(tmp_path / "labels.csv"))


def tiny_cifar10(path: Path) -> Path:
    """Ten classes of three and of one 32x32 JPEG."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("train", 3), ("test", 1)):
            for label in range(10):
                for i in range(count):
                    file = io.BytesIO()
                    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "JPEG")
                    archive.writestr(f"{split}/class{label}/{i}.jpg", file.getvalue())
    return path


NARROW: dict[str, Any] = {"width": 1 / 32, "image_size": 32, "views": 30, "places": 200}
TAUGHT = NARROW | {"crops": 2, "images": 20, "components": 4, "epochs": 2, "batch_size": 8, "watched": 4}


def teaching(folder: Path, stripes: tuple) -> dict[str, Any]:
    """A small teacher, pictures without labels, and CIFAR-10's place."""
    np.savez(folder / "teacher.npz", **weights.random_weights(0, width=1 / 16).arrays)
    pictures = [Path(two_classes(folder / "pictures", stripes))]
    return {"teacher": folder / "teacher.npz", "pictures": pictures, "data": tiny_cifar10(folder / "cifar10.zip")}


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.with_suffix(".log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_pretraining_stops_goes_on_and_writes_a_plain_backbone(
    tmp_path: Path, stripes: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the teacher looks at the pictures: what it saw is then as if it had not been stopped."""
    module, given = recipe("pretrain_backbone"), teaching(tmp_path, stripes)
    config, alone = module.Config(**TAUGHT), tmp_path / "alone" / "mini.npz"
    module.main(out=alone, config=config, **given)

    out, whole_file = tmp_path / "stopped" / "mini.npz", module.whole_file
    for stop, times in (("0.npz", 1), ("latest.weights.h5", 2)):  # the last epoch is then in the log
        written: list[Path] = []

        def stopping(path: Path, overwrite: bool = False, stop: str = stop, times: int = times) -> Any:
            written.extend([path] if path.name == stop else [])  # noqa: B023 - called in this turn
            if len(written) == times:  # noqa: B023
                raise KeyboardInterrupt
            return whole_file(path, overwrite)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, "whole_file", stopping)
            module.main(out=out, config=config, **given)
    assert [line["epoch"] for line in log_of(out)] == [0, 1] and not out.exists()
    module.main(out=out, config=config, **given)

    for path in (alone, out):
        *epochs, result = log_of(path)
        assert [line["epoch"] for line in epochs] == [0, 1] and result["config"]["epochs"] == 2
        assert set(result["explained"]) == {"block3", "block4", "block5"}
        assert {file.name for file in path.parent.iterdir()} == {"mini.npz", "mini.log.jsonl"}
    with np.load(out) as stored:
        assert {stored[name].dtype for name in stored.files} == {np.dtype("float16")}
    found, expected = weights.load_pretrained(out), weights.load_pretrained(alone)
    assert (found.column, found.width) == ("D", 1 / 32)
    for name, array in found.arrays.items():
        np.testing.assert_allclose(array, expected.arrays[name], atol=2e-3)


def test_a_narrowed_network_computes_what_the_wide_one_does() -> None:
    """All of it with all channels; with half of them, where each channel is there twice, as much as half can."""
    module, rng = recipe("narrow_backbone"), np.random.default_rng(0)
    single = weights.random_weights(0, width=1 / 32)
    twice = {}
    for number, name in enumerate(module.CONVOLUTIONS):
        kernel, bias = (single.arrays[f"{name}/{kind}"] for kind in ("kernel", "bias"))
        kernel = np.concatenate([kernel, kernel], axis=2) / 2 if number else kernel
        twice |= {f"{name}/kernel": np.tile(kernel, 2), f"{name}/bias": np.tile(bias, 2)}
    wide = weights.Pretrained("twice", twice, "D", 1 / 16, 32)
    pixels = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    for width in (1 / 16, 1 / 32):
        config = module.Narrow(width=width, image_size=32, places=2000)
        found, maps = module.narrowed(wide, pixels, config)
        x = np.asarray(module.preprocess(pixels.astype("float32")))
        for name, following in zip(module.CONVOLUTIONS, [*module.CONVOLUTIONS[1:], ""], strict=True):
            gamma, beta, mean, variance = found[f"{name}/norm"]
            x = (module.convolved(x, found[f"{name}/kernel"]) - mean) / np.sqrt(variance + module.EPSILON)
            x = module.rectified(x * gamma + beta, name[:6] != following[:6])
        assert x.shape[-1] == 512 * width
        line = LinearRegression().fit(x.reshape(len(x), -1), maps["block5"].reshape(len(x), -1))
        assert line.score(x.reshape(len(x), -1), maps["block5"].reshape(len(x), -1)) > 0.9


def test_folding_batch_normalisation_keeps_the_outputs() -> None:
    module, rng = recipe("pretrain_backbone"), np.random.default_rng(0)
    start = {f"{block}/axes": np.zeros((8, 4)) for block in module.HEAD_BLOCKS}
    for name, array in weights.random_weights(0, width=1 / 16).arrays.items():
        start |= {name: array, name.replace("kernel", "norm"): rng.uniform(0.1, 1, (4, array.shape[-1]))}
    normed = module.build(start)
    blocks = module.add_blocks(module.preprocess(inputs := keras.Input((32, 32, 3))), width=1 / 16)
    plain = keras.Model(inputs, blocks["block5"])
    weights.Pretrained("folded", module.folded(normed), "D", 1 / 16, 32).assign(plain)
    expected = keras.Model(normed.input, normed.get_layer("block5_pool").output)
    pixels = rng.uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    found, expected = (model.predict(pixels, verbose=0) for model in (plain, expected))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
