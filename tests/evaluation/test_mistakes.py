"""The images that a classifier got wrong, by name."""

import numpy as np
import pytest

from vggft.evaluation.checks import evaluate

NAMES = [f"cats/{i}.jpg" for i in range(6)]


def test_top_losses_name_the_images_that_surprised_most() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.99, 0.01], [0.5, 0.5], [0.7, 0.3]])
    evaluation = evaluate([0, 1, 1, 1, 0, 0], p, ["cat", "dog"], names=NAMES)
    worst, second, *_ = evaluation.top_losses()
    assert (worst.name, worst.true, worst.predicted, worst.wrong) == ("cats/3.jpg", ("dog",), ("cat",), True)
    assert worst.loss == pytest.approx(-np.log(0.01), rel=1e-5) and worst.probability == pytest.approx(0.01)
    assert str(second) == "cats/2.jpg: dog (40.0%), predicted cat"
    assert len(evaluation.top_losses(3)) == 3
    assert evaluation.confused_images("dog", "cat") == ["cats/2.jpg", "cats/3.jpg"]
    assert "dog -> cat: 2 (cats/2.jpg, cats/3.jpg)" in str(evaluation)


def test_top_losses_of_several_labels() -> None:
    evaluation = evaluate([[1, 0], [1, 1]], [[0.9, 0.2], [0.8, 0.1]], ["x", "y"], multi_label=True)
    worst = evaluation.top_losses()[0]
    assert (worst.name, worst.true, worst.predicted) == ("image 1", ("x", "y"), ("x",))
    assert worst.probability == pytest.approx(0.1) and worst.loss == pytest.approx(-np.log(0.8 * 0.1) / 2, rel=1e-5)
