"""One classifier in several threads, copies and processes says what it says in one thread."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from queue import Empty
from typing import Any

import numpy as np
import pytest

import vggft
from vggft.network.assembly import Network
from vggft.network.description import Description, build
from vggft.network.freezing import learned_weights
from vggft.network.weights import Pretrained, convolutions

ABOUT = Description(("cat", "dog", "fox"), 32, width=1 / 16, backbone="tiny")
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 40, 32, 3), dtype="uint8")


@cache
def weights() -> tuple[Pretrained, dict[str, np.ndarray]]:
    model = build(ABOUT, seed=3)
    return Pretrained("tiny", convolutions(model), "D", 1 / 16, 32), learned_weights(model)


def unbuilt() -> vggft.Classifier:
    """A classifier as `finetune` returns it: its network is built when something needs it first."""
    return vggft.Classifier(Network(ABOUT, *weights()), ABOUT)


def told(classifier: vggft.Classifier, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What it says of an image, and why."""
    return classifier.predict(image), classifier.explain(image, "dog").heatmap


def test_eight_threads_that_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network and its parts are built by whoever comes first, and nobody sees them half-built."""
    expected = [told(one, image) for one in [unbuilt()] for image in IMAGES]
    shared, together, assign = unbuilt(), threading.Barrier(8), Pretrained.assign
    slowly = lambda *arguments: (time.sleep(0.2), assign(*arguments))  # noqa: E731
    monkeypatch.setattr(Pretrained, "assign", slowly)  # so that the others would see it half-built

    def work(image: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        together.wait()
        return [told(shared, image) for _ in range(2)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, IMAGES))
    for answers, (row, heat) in zip(found, expected, strict=True):
        for again, map_again in answers:
            np.testing.assert_allclose(again, row, atol=1e-6)
            np.testing.assert_allclose(map_again, heat, atol=1e-4)


def test_a_copy_and_a_pickle_say_the_same() -> None:
    classifier = unbuilt()
    expected = classifier.predict(IMAGES)
    for again in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_array_equal(again.predict(IMAGES), expected)
        assert again.keras_model is not classifier.keras_model


def _in_a_process(classifier: vggft.Classifier, answers: Any) -> None:
    try:
        answers.put(classifier.predict(IMAGES))
    except Exception as error:
        answers.put((type(error).__name__, str(error)))


def answer_of(kind: str, seconds: float) -> Any:
    """What a process answers that was started by "fork" or "spawn"."""
    context: Any = multiprocessing.get_context(kind)
    answers, classifier = context.Queue(), unbuilt()
    expected = classifier.predict(IMAGES)
    process = context.Process(target=_in_a_process, args=(classifier, answers))
    process.start()
    try:
        return answers.get(timeout=seconds), expected
    except Empty:
        pytest.fail(f"no answer within {seconds} s")
    finally:
        process.kill()
        process.join()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_after_use_is_told_and_does_not_hang() -> None:
    (kind, sentence), _ = answer_of("fork", seconds=30)
    assert kind == "ConfigError" and "forked from one in which TensorFlow had already run" in sentence
    assert "get_context('spawn')" in sentence


@pytest.mark.slow
def test_a_process_that_was_spawned_says_the_same() -> None:
    found, expected = answer_of("spawn", seconds=120)
    np.testing.assert_allclose(found, expected, atol=1e-6)
