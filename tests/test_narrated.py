"""Every example runs, on a folder of a few small images, and says what it should."""

from __future__ import annotations

import ast
import runpy
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

# How the `main` of an example is called besides its folder, what it prints in that order, and the files that it leaves.
WAYS: dict[str, tuple[dict[str, Any], tuple[str, ...], set[str]]] = {
    "medical_groups": (
        {},
        ("images", "accuracy ", "95 % interval", "sensitivity", "Saved as scans.keras"),
        {"scans.keras", "looked_here.png"},
    ),
    "own_augmentation": ({"epochs": 2}, ("none: ", "four views: ", "Keras's layers: "), set()),
    "own_head": ({"epochs": 2}, ("the default: ", "two hidden layers: ", "skipped layers: "), set()),
    "own_search_space": ({"trials": 2}, ("test accuracy", "test accuracy", "Saved as"), {"searched.keras"}),
    "predict_folder": (
        {},
        ("61 pictures, 1 of them could not be read", "probability", "of none of the classes", "a single class"),
        {"folder.keras", "predictions.csv"},
    ),
    "quickstart": (
        {},
        ("images, 2 classes", "accuracy", "One image is", "Saved as"),
        {"classifier.keras", "report.html"},
    ),
    "satellite_bands": (
        {},
        ("true colours: ", "near infrared first: ", "-> ", "Saved as tiles.keras"),
        {"tiles.keras"},
    ),
    "serving": ({}, ("200 {", "served.onnx"), {"served.onnx"}),
    "sklearn_pipeline": ({}, ("three folds: ", "test images: ", "Saved as"), {"pipeline.keras"}),
}
BY_DEFAULT = ("sklearn_pipeline",)


def of_example(path: Path) -> Any:
    return pytest.param(path, marks=() if path.stem in BY_DEFAULT else pytest.mark.slow, id=path.stem)


@pytest.fixture
def folder(stripes: tuple, tmp_path: Path) -> Path:
    """60 images of two classes, four of every patient, as their names say."""
    images, labels = stripes
    for row in np.flatnonzero(labels[:90] < 2):
        file = tmp_path / "data" / ("healthy", "ill")[labels[row]] / f"patient{row // 6:02}_{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).save(file)
    return tmp_path / "data"


def tiles(folder: Path, stripes: tuple) -> Path:
    """The images as TIFF files of four bands of 12 bits, whose classes differ in the first band alone."""
    tifffile = pytest.importorskip("tifffile")
    images, labels = stripes
    for row in np.flatnonzero(labels[:60] < 2):
        bands = np.stack([images[row][..., 0], *[images[n][..., 0] for n in (row % 40, 41, 42)]]).astype("uint16") * 16
        file = folder / ("forest", "water")[labels[row]] / f"{row}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(file, bands.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig")
    return folder


@pytest.mark.parametrize("path", [of_example(path) for path in sorted(EXAMPLES.glob("*.py"))])
def test_an_example_runs_on_a_folder(
    path: Path, folder: Path, stripes: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    more, told, files = WAYS[path.stem]
    given: list[Any] = [str(folder)]
    if path.stem == "predict_folder":
        new = tmp_path / "new"
        new.mkdir()
        (new / "damaged.png").write_bytes(b"no picture")
        for file in folder.rglob("*.png"):
            (new / file.name).write_bytes(file.read_bytes())
        given.append(str(new))
    elif path.stem == "satellite_bands":
        given = [str(tiles(tmp_path / "tiles", stripes))]
    elif path.stem == "serving":
        with socket.create_server(("127.0.0.1", 0)) as free:
            more = {"port": free.getsockname()[1]}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    runpy.run_path(str(path))["main"](*given, **more)
    out, place = capsys.readouterr().out, 0
    for words in told:
        place = out.find(words, place) + len(words)
        assert place >= len(words), (words, out)
    assert {file.name for file in (tmp_path / "here").iterdir()} == files


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert f"python examples/{path.stem}.py" in (ast.get_docstring(ast.parse(source)) or "")
    body = source[source.index("def main(") :].splitlines()
    assert len([line for line in body if line.strip()]) <= 40
