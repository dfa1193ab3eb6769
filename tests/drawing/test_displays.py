"""Plots as objects: on a figure of their own or on the user's axes, from anything that has an evaluation."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

import vggft
from vggft import plots
from vggft.heads.history import History

ROWS = [
    {"phase": "head", "epoch": 1, "loss": 0.9, "val_loss": 0.8, "accuracy": 0.5, "val_accuracy": 0.5, "kept": False},
    {"phase": "head", "epoch": 2, "loss": 0.5, "val_loss": 0.6, "accuracy": 0.8, "val_accuracy": 0.7, "kept": True},
]
SOLVED = [
    {"phase": "head", "epoch": 1, "strength": 10.0, "loss": 0.2, "val_loss": 0.3, "kept": False},
    {"phase": "head", "epoch": 2, "strength": 10.0, "shrinkage": 0.05, "loss": 0.1, "val_loss": 0.2, "kept": True},
]
TRIALS = [{"trial_id": str(n), "score": n / 10, "hyperparameters": {"units": 2**n, "dropout": n / 9}} for n in range(4)]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def evaluation() -> vggft.Evaluation:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    scores = rng.random((60, 3)) + 1.2 * np.eye(3)[labels]
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype("float32")
    return vggft.Evaluation("test", ("cat", "dog", "$5"), labels, probabilities)


def displays(evaluation: vggft.Evaluation) -> list[plots.Display]:
    kinds = "ConfusionMatrixDisplay RocCurveDisplay PrecisionRecallDisplay ReliabilityDisplay"
    given = [getattr(plots, kind)(evaluation) for kind in kinds.split()]
    found = vggft.LearningRates(np.geomspace(1e-5, 1, 40), np.linspace(2, 1, 40), "learning_rate")
    pictures = {"cat": [np.zeros((96, 96, 3), "uint8")]}
    trials = plots.TrialsDisplay(TRIALS, "3", "validation accuracy")
    made: list[Any] = [plots.HistoryDisplay(History(ROWS)), plots.LearningRateDisplay(found), trials]
    laws = np.array([[0.05, 1.0, 0.5], [0.04, 1.0, 0.5]])
    growth = vggft.Growth(80, "accuracy", np.array([20, 60]), np.array([0.7, 0.8]), np.array([[0.6, 0.8]] * 2), laws)
    made += [
        plots.GrowthDisplay(growth),
        plots.MapDisplay(np.eye(3)[:, :2], ["cat", "dog", "$5"], marks={"mistake": [1]}),
    ]
    return [*given, *made, plots.SamplesDisplay(pictures)]


def test_every_display_draws_on_a_new_figure_in_a_place_of_one_and_in_a_file(
    evaluation: vggft.Evaluation, tmp_path: Path
) -> None:
    found = displays(evaluation)
    assert {type(each).__name__ for each in found} == set(plots.__all__) - {"Display"}
    for display in found:
        name = type(display).__name__
        assert display.plot() is display and display.figure_.number in pyplot.get_fignums(), name
        assert len(display.axes_) == len(display.figure_.axes) and display.ax_ is display.axes_[0]
        figure, axes = pyplot.subplots(1, 2)
        display.plot(axes[0])
        assert display.figure_ is figure and not axes[1].has_data() and any(each.has_data() for each in display.axes_)
    before = pyplot.get_fignums()
    for display in (found[0], found[-1]):  # drawing takes long
        with Image.open(display.save(tmp_path / "drawn.png", overwrite=True)) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    assert pyplot.get_fignums() == before


def test_axes_of_another_number_are_refused(evaluation: vggft.Evaluation) -> None:
    _, axes = pyplot.subplots(1, 3)
    with pytest.raises(vggft.ConfigError, match="ReliabilityDisplay has 2 panels, so ax is one or 2; got 3"):
        plots.ReliabilityDisplay(evaluation).plot(axes)
    assert list(plots.ReliabilityDisplay(evaluation).plot(axes[:2]).axes_) == list(axes[:2])


def test_what_has_an_evaluation_is_plotted_and_what_has_none_is_told(evaluation: vggft.Evaluation) -> None:
    display = plots.ConfusionMatrixDisplay(SimpleNamespace(evaluation=evaluation)).plot()
    counts = [int(text.get_text()) for text in display.ax_.texts]
    assert counts == evaluation.confusion_matrix.ravel().tolist()
    with pytest.raises(vggft.ConfigError, match="RocCurveDisplay is made from an Evaluation, such as"):
        plots.RocCurveDisplay(np.eye(3))
    several = vggft.Evaluation("test", ("a", "b"), np.eye(2, dtype=int), np.eye(2, dtype="float32"), multi_label=True)
    with pytest.raises(vggft.ConfigError, match="each has its own matrix"):
        plots.ConfusionMatrixDisplay(several)


def test_a_history_shows_and_plots_itself() -> None:
    history = History(ROWS)
    assert "<img" in (history._repr_html_() or "") and History()._repr_html_() is None
    drawn = history.plot().ax_.get_lines()
    assert [line.get_ydata().tolist() for line in drawn] == [[0.5, 0.8], [0.5, 0.7]]
    solved = History(SOLVED).plot().axes_[-1]
    assert [label.get_text() for label in solved.get_xticklabels()] == ["C = 10", "mean"]
    assert plots.HistoryDisplay(SimpleNamespace(history=history)).history is history


def test_samples_are_of_each_class_of_any_dataset(tmp_path: Path) -> None:
    for label, grey in (("dark", 20), ("light", 220)):
        for n in range(5):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("L", (60, 40), grey + n).save(tmp_path / label / f"{n}.png")
    found = plots.SamplesDisplay.from_dataset(tmp_path, each=3)
    assert {name: len(each) for name, each in found.pictures.items()} == {"dark": 3, "light": 3}
    assert all(each.max() < 30 for each in found.pictures["dark"]) and repr(found).endswith("6 images of 2 classes>")
    again = plots.SamplesDisplay.from_dataset(tmp_path, each=3)
    np.testing.assert_array_equal(found.pictures["light"], again.pictures["light"])
    with pytest.raises(vggft.ConfigError, match="each must be an integer >= 1; got 0"):
        plots.SamplesDisplay.from_dataset(tmp_path, each=0)


@pytest.mark.parametrize(
    "name", ["drawing.samples", "drawing.curves", "drawing.results", "telling.figures", "telling.bars"]
)
def test_examples_in_docstrings(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"vggft.{name}"))
    assert results.attempted and results.failed == 0
