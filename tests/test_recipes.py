"""Every recipe and example runs, on as little data as possible."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import runpy
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

import vggft
from vggft.network import weights

ROOT = Path(__file__).resolve().parents[1]


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


def test_every_recipe_is_tested_here() -> None:
    names = {path.stem for path in (ROOT / "recipes").glob("*.py")}
    searches = {"search_head", "search_freeze_depth", "search_distributed"}
    folds = {"cross_validation", "sklearn_pipeline", "few_shot"}
    trainings = {"linear_probe", "feature_extraction", "pretrain_backbone", "calibration", "imbalanced", "multilabel"}
    trainings |= {"gradual_unfreezing"}
    assert names == {"voc_labels"} | trainings | folds | searches
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {"quickstart"}


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


@pytest.mark.parametrize("name", ["linear_probe", "feature_extraction"])
def test_recipes_that_judge_on_a_folder(
    name: str, stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = recipe(name)
    quick = QUICK | {"training": vggft.Training(epochs=2, batch_size=8)}
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | quick)
    module.main(two_classes(tmp_path, stripes), num_classes=2, seeds=1)
    found = re.fullmatch(r"test accuracy over 1 seeds: (\d\.\d{3}) to (\d\.\d{3})\n", capsys.readouterr().out)
    assert found and 0 <= float(found[1]) == float(found[2]) <= 1


def test_the_recipe_that_calibrates(
    stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = recipe("calibration")
    quick = QUICK | {"training": vggft.Training(epochs=2, batch_size=8)}
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | quick)
    module.main(two_classes(tmp_path, stripes), num_classes=2, freeze="all", seeds=1)
    told = r"seed 0: temperature [\d.]+; test calibration error (\S+) to (\S+) \((.+?); .*\n"
    said = re.fullmatch(told, capsys.readouterr().out)
    assert said is not None
    before, after = float(said[1]), float(said[2])
    assert after <= before if said[3] == "lowered" else after >= before


@pytest.mark.slow
def test_recipes_of_few_images_and_of_gradual_unfreezing(
    stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = two_classes(tmp_path, stripes)
    module = recipe("few_shot")
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | {"image_size": 32})
    module.main(data, num_classes=2, shots=4, seeds=1)
    told = r"4 images of each class, 1 seeds: cross-validation accuracy \d.* of other images (\S+) to (\S+)\n"
    said = re.fullmatch(told, capsys.readouterr().out)
    assert said is not None and float(said[1]) > 0.5

    module = recipe("gradual_unfreezing")
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | {"image_size": 32, "freeze": "block4"})
    for name in ("GRADUAL", "TOGETHER"):
        monkeypatch.setattr(module, name, replace(getattr(module, name), fine_tune_epochs=1))
    module.main(data, num_classes=2, seeds=1)
    line = r"{}, 1 seeds: test accuracy \d\.\d{{3}} to \d\.\d{{3}}\n"
    assert re.fullmatch(line.format("gradually") + line.format("together"), capsys.readouterr().out)


@pytest.mark.slow
def test_recipes_with_folds(
    stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = two_classes(tmp_path, stripes)
    module = recipe("cross_validation")
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | QUICK | {"folds": 2, "repeats": 2})
    module.main(data, num_classes=2, seed=0)
    told = r"accuracy (\S+), 95 % interval (\S+) to (\S+)\n4 trainings: .*\n(\S+/[ab]/\d+\.png: [ab] .*\n){3}"
    said = re.fullmatch(told, capsys.readouterr().out)
    assert said is not None and float(said[2]) < float(said[1]) <= float(said[3])

    module = recipe("sklearn_pipeline")
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | QUICK)
    monkeypatch.setattr(module, "GRID", {name: values[:1] for name, values in module.GRID.items()})
    module.main(data, seeds=1)
    told = r"seed 0: {'svc__C': 1, .*}; cross-validation accuracy (\d\.\d{3}), test (\d\.\d{3})\n"


@pytest.mark.slow
def test_the_recipe_that_weights_classes(
    stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = recipe("imbalanced")
    quick = QUICK | {"training": vggft.Training(epochs=2, batch_size=8)}
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | quick)
    data = two_classes(tmp_path, stripes)
    module.main(data, num_classes=2, seeds=1)
    told = r"class_weight=(.+): balanced accuracy (.+) to (.+), recall of the smallest class .*"
    found = [re.fullmatch(told, line) for line in capsys.readouterr().out.splitlines()]
    assert [each and each[1] for each in found] == ["None", "'balanced'"]
    table = module.skewed(data, seed=0)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", "a"): 6, ("test", "b"): 6, ("train", "a"): 6, ("train", "b"): 2
    }  # fmt: skip
    assert table.image.is_unique


@pytest.mark.slow
def test_the_recipe_of_several_labels(
    stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in range(30):
        names = ["RBC", "RBC", *(["WBC"] if stripes[1][row] else [])]
        boxes = "".join(f"<object><name>{name}</name><bndbox/></object>" for name in names[row % 2 :])
        for folder, name in (("Annotations", f"{row}.xml"), ("JPEGImages", f"{row}.jpg")):
            (tmp_path / folder).mkdir(exist_ok=True)
            if folder == "Annotations":
                (tmp_path / folder / name).write_text(f"<annotation>{boxes if row % 5 else ''}</annotation>")
            else:
                Image.fromarray(stripes[0][row]).save(tmp_path / folder / name)
    module = recipe("multilabel")
    table = module.labels(str(tmp_path))
    assert list(table.columns) == ["image", "RBC", "WBC"] and table.RBC.sum() == 24 and 0 < table.WBC.sum() < 24
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | QUICK | {"training": vggft.Training(epochs=2, batch_size=8)})
    module.main(str(tmp_path), seeds=1)
    told = r"seed 0: macro F1 [01]\.\d{3} at 0\.5, [01]\.\d{3} at the thresholds RBC [\d.]+, WBC [\d.]+\n"
    assert re.fullmatch(told, capsys.readouterr().out)


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


@pytest.mark.slow
def test_recipes_that_search(
    stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On their own, they are chief of no worker: `search_distributed` then searches alone."""
    data = two_classes(tmp_path / "data", stripes)
    quick = QUICK | {"training": vggft.Training(epochs=2, fine_tune_epochs=1, batch_size=8)}
    for name, more in (("search_head", {"seeds": 1, "trials": 2}), ("search_freeze_depth", {"seeds": 1, "trials": 2})):
        module = recipe(name)
        monkeypatch.setattr(module, "CONFIG", module.CONFIG | quick)
        module.main(data, 2, **more)
        assert re.search(r"best of 2 trials, test accuracy over 1 seeds: \d\.\d{3} to", capsys.readouterr().out)
    module = recipe("search_distributed")
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | quick | {"trials": 1})
    module.main(data, 2, str(tmp_path / "run"))
    assert re.fullmatch(r"test accuracy \d\.\d{3}, validation \d.*\n", capsys.readouterr().out)


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


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.with_suffix(".log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_pretraining_stops_goes_on_and_writes_a_plain_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = recipe("pretrain_backbone"), tiny_cifar10(tmp_path / "cifar10.zip")
    config = module.Config(width=1 / 16, epochs=2, batch_size=8, watched=4)
    alone = tmp_path / "alone" / "mini.npz"
    module.main(data, alone, config)

    out = tmp_path / "stopped" / "mini.npz"
    whole_file, backups = module.whole_file, []

    def stopping(path: Path) -> Any:  # in the second epoch, between the line in the log and the backup
        backups.extend([path] if path.suffix == ".h5" else [])
        if len(backups) == 2:
            raise KeyboardInterrupt
        return whole_file(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "whole_file", stopping)
        module.main(data, out, config)
    assert [line["epoch"] for line in log_of(out)] == [0, 1] and not out.exists()
    module.main(data, out, config)

    for path in (alone, out):
        *epochs, result = log_of(path)
        assert [line["epoch"] for line in epochs] == [0, 1] and result["config"]["epochs"] == 2
        assert 0 <= result["test_accuracy_folded_float16"] <= 1
        assert {file.name for file in path.parent.iterdir()} == {"mini.npz", "mini.log.jsonl"}
    with np.load(out) as stored:
        assert {stored[name].dtype for name in stored.files} == {np.dtype("float16")}
    found, expected = weights.load_pretrained(out), weights.load_pretrained(alone)
    assert (found.column, found.width) == ("D", 1 / 16)
    for name, array in found.arrays.items():
        np.testing.assert_allclose(array, expected.arrays[name], atol=2e-3)


def test_folding_batch_normalisation_keeps_the_outputs() -> None:
    module, rng = recipe("pretrain_backbone"), np.random.default_rng(0)
    config = module.Config(width=1 / 16)
    normed, plain = module.build(config, batch_norm=True), module.build(config, batch_norm=False)
    normed.set_weights(
        [rng.uniform(0.1, 1.0, w.shape).astype("float32") * (-1) ** i for i, w in enumerate(normed.get_weights())]
    )
    for layer in normed.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(np.abs(layer.moving_variance.numpy()))
    weights = module.folded(normed)
    for layer in plain.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([weights[f"{layer.name}/{kind}"] for kind in ("kernel", "bias")])
    plain.get_layer("logits").set_weights(normed.get_layer("logits").get_weights())
    pixels = rng.uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    expected = normed.predict(pixels, verbose=0)
    np.testing.assert_allclose(
        plain.predict(pixels, verbose=0), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.slow
def test_the_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    ran = runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    assert ran["classifier"].evaluation["accuracy"] > 0.9
    out = capsys.readouterr().out
    assert "The first image is" in out and "Saved as digits.keras" in out
    assert (tmp_path / "digits.keras").is_file() and (tmp_path / "report.html").is_file()
