"""The text of an evaluation: aligned tables, limited to what is readable in a terminal."""

import numpy as np
import pytest
from four_images import MULTI_LABELS, MULTI_PROBABILITIES, letters

from vggft.errors import ConfigError
from vggft.evaluation.checks import evaluate
from vggft.evaluation.text import matrix


def test_text():
    names = ["rose", "tulip", "雛菊"]
    text = str(evaluate([0, 0, 0, 1, 2], np.eye(3)[[1, 1, 0, 1, 0]], names, names=list("vwxyz")))
    lines = text.splitlines()
    assert (
        lines[0]
        == "Test: accuracy 0.400 (95 % interval 0.073 to 0.830; most frequent class 0.600; 5 images, 3 classes)"
    )
    assert "  balanced_accuracy  0.444      0.000   0.835" in lines
    assert "  rose -> tulip: 2 (v, w)" in lines and "  雛菊 -> rose: 1 (z)" in lines
    assert lines.index("  rose -> tulip: 2 (v, w)") < lines.index("  雛菊 -> rose: 1 (z)")
    assert "  class  precision  recall     f1  roc_auc  avg_prec  images" in lines
    assert "  rose       0.500   0.333  0.400    0.417     0.567       3" in lines
    assert "  雛菊       0.000   0.000  0.000    0.500     0.200       1" in lines  # ties; 2 characters, 4 cells
    header, *rows = lines[-4:]  # the names of the classes above their columns
    assert header == "         rose  tulip    雛菊"
    assert rows == ["  rose      1      2     0", "  tulip     0      1     0", "  雛菊      1      0     0"]


@pytest.mark.parametrize(("length", "named"), [(20, 2), (200, 0)])
def test_names_that_do_not_fit_leave_no_bracket_open(length: int, named: int):
    files = [f"{n:0{length}}.jpg" for n in range(5)]
    text = str(evaluate([0, 0, 0, 0, 1], np.eye(2)[[1, 1, 1, 0, 1]], ["rose", "tulip"], names=files))
    line = next(line for line in text.splitlines() if "rose -> tulip: 3 (" in line)
    assert line.endswith("...)") and line.count(".jpg") == named and len(line) <= 80


def test_text_of_many_classes_shows_the_worst():
    y = np.arange(40)
    predicted = y.copy()
    predicted[[33, 34]] = 0
    text = str(evaluate(y, np.eye(40)[predicted], letters(40), split="validation"))
    assert text.startswith(
        "Validation: accuracy 0.950 (95 % interval 0.818 to 0.991; most frequent class 0.025; 40 images, 40 classes)"
    )
    assert "The 30 of 40 classes with the lowest F1, worst first:" in text
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("  class") and "precision" not in line]
    assert rows[:4] == ["class33", "class34", "class0", "class1"]
    table = text[text.index("avg_prec") :].split("\n\n")[0]
    assert len(table.splitlines()) == 31
    assert "class33 -> class0: 1" in text
    assert "Confusion matrix" not in text


def test_text_multi_label():
    text = str(evaluate(MULTI_LABELS, MULTI_PROBABILITIES, ["x", "y"], multi_label=True))
    assert text.startswith(
        "Test: average_precision 0.875 (95 % interval 0.625 to 1.000; random labels 0.625; 4 images, 2 classes)"
    )
    assert "Most confused" not in text
    assert text.endswith("     tn  fp  fn  tp\n  x   1   0   1   2\n  y   1   1   1   1")


def test_columns_of_long_names_bear_numbers():
    names = [f"a long name {i}" for i in range(10)]
    lines = matrix(np.eye(10, dtype=int), names).splitlines()
    assert lines[0].split() == [str(i + 1) for i in range(10)] and lines[1].split()[:5] == "1 a long name 0".split()
    digits = matrix(np.eye(10, dtype=int), [str(i) for i in range(10)]).splitlines()
    assert digits[0].split() == list("0123456789") and digits[1].split()[:2] == ["0", "1"]


def test_copies_of_an_image_are_told_with_what_they_change() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], "float32")
    evaluation = evaluate([0, 0, 1, 1], p, ["a", "b"], pictures=["one", "one", "two", "three"])
    assert "4 images, 2 classes; 0.667 without 1 copy of others)" in repr(evaluation)
    assert evaluation.to_dict()["without_copies"] == {"num_images": 3, "accuracy": pytest.approx(2 / 3)}
    assert evaluation.subset([0, 2, 3]).without_copies is None  # the others of the pair are not there
    assert evaluate([0, 1], p[:2], ["a", "b"]).without_copies is None  # not known
    with pytest.raises(ConfigError, match="pictures: expected none, or one for each of 4 images; received 1"):
        evaluate([0, 0, 1, 1], p, ["a", "b"], pictures=["one"])


def test_it_says_if_nothing_was_learned():
    labels = np.repeat([0, 1, 2], [30, 6, 4])
    one = evaluate(labels, np.tile([0.8, 0.1, 0.1], (40, 1)), "abc")
    assert "every image was predicted as a, though 10 of 40 are something else" in one.notes
    assert any(
        "cannot be told from answers that look at no image, which would have 0.750" in note for note in one.notes
    )
    assert "every image was predicted as a" in str(one)
    right = np.eye(3)[labels]
    right[-4:] = [0.1, 0.9, 0]  # b instead of c
    assert evaluate(labels, right, "abc").notes == ("never predicted: c (4 images)",)
    assert evaluate(labels, np.eye(3)[labels], "abc").notes == ()
    several = np.eye(3)[labels].astype(int)
    assert evaluate(several, several * [0.9, 0.9, 0.4], "abc", multi_label=True).notes == (
        "never predicted: c (4 images)",
    )
