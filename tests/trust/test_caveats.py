"""What a reader of results is told without asking."""

import doctest

import numpy as np

from vggft.evaluation.checks import evaluate
from vggft.trust import caveats as module
from vggft.trust.caveats import caveats


def judged(split, images, right):
    labels = np.arange(images) % 2
    return evaluate(labels, np.eye(2)[np.where(np.arange(images) < right, labels, 1 - labels)], "ab", split=split)


def test_examples():
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_differences_that_chance_makes_are_not_told():
    few = {"validation": judged("validation", 20, 19), "test": judged("test", 20, 16)}
    many = {"validation": judged("validation", 500, 475), "test": judged("test", 500, 400)}
    assert caveats(few) == []
    assert caveats(many) == [
        "accuracy is 0.950 on validation images but 0.800 on test images, more than chance makes: they may be of"
        " another kind"
    ]


def test_what_was_learned_by_heart_is_told():
    history = [{"accuracy": 1.0, "kept": True}, {"accuracy": 0.5, "kept": False}]
    (told,) = caveats({"test": judged("test", 100, 70)}, history)
    assert "1.000 on the training images but 0.700 on test images" in told
    assert caveats({"test": judged("test", 100, 95)}, history) == []
