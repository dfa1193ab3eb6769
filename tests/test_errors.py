"""Errors made for users end their traceback at the user's line, and keep the rest for those who debug."""

from __future__ import annotations

import copy
import doctest
import inspect
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

import vggft
from vggft import errors
from vggft.errors import CacheError, DataError, VggftError, short_traceback

PACKAGE = Path(vggft.__file__).parent


@pytest.fixture(autouse=True)
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VGGFT_FULL_TRACEBACK")


def raised(call: object) -> VggftError:
    with pytest.raises(VggftError) as found:
        call()  # type: ignore[operator]
    return found.value


def places(error: VggftError) -> list[str]:
    return [Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)]


def test_nothing_of_vggft_stands_above_the_message() -> None:
    error = raised(lambda: vggft.finetune("no folder", verbose=0))
    assert places(error)[-1] == "errors.py" and places(error)[:-1] == ["test_errors.py"] * 2
    assert {"sources.py", "pipeline.py"} <= {Path(f.filename).name for f in traceback.extract_tb(error.full_traceback)}
    assert "During handling" not in "".join(traceback.format_exception(error))


def test_a_public_function_in_another_keeps_what_it_cut_and_the_users_own_frames() -> None:
    @short_traceback
    def outer() -> None:
        callback()

    def callback() -> None:
        vggft.audit("no folder")

    error = raised(outer)
    assert [f.name for f in traceback.extract_tb(error.__traceback__)][-1] == "callback"
    full = [f.name for f in traceback.extract_tb(error.full_traceback)]
    assert full.index("outer") < full.index("callback") < full.index("audit") < full.index("loader")


def test_two_settings_leave_tracebacks_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.config.disable_traceback_filtering()
    try:
        assert "fields.py" in places(raised(lambda: vggft.Training(epochs=-1)))
    finally:
        keras.config.enable_traceback_filtering()
    assert "fields.py" not in places(raised(lambda: vggft.Training(epochs=-1)))
    monkeypatch.setenv("VGGFT_FULL_TRACEBACK", "1")
    assert "fields.py" in places(raised(lambda: vggft.Training(epochs=-1)))


@pytest.mark.parametrize("kind", [DataError, CacheError])
def test_errors_go_to_other_processes_without_their_frames(kind: type[VggftError]) -> None:
    @short_traceback
    def fails() -> None:
        error = kind("told")
        error.where = "a.csv"  # type: ignore[attr-defined]
        raise error

    error = raised(fails)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind and str(other) == "told" and other.where == "a.csv" and not other.full_traceback


def source(function: Any) -> Path:
    return Path(inspect.unwrap(function).__code__.co_filename)


def public() -> Iterator[tuple[str, object]]:
    """Every public function, and every public method of public classes, but of exceptions and of what has no errors."""
    for name in vggft.__all__:
        found = getattr(vggft, name)
        if inspect.isfunction(found):
            yield name, found
        elif inspect.isclass(found) and not issubclass(found, Exception):
            for each, value in inspect.getmembers(found):
                method = getattr(value, "__func__", value)  # of a class method
                if inspect.isfunction(method) and not each.startswith("_") and PACKAGE in source(method).parents:
                    yield f"{name}.{each}", method


# Results that only tell what they hold.
WITHOUT_ERRORS = ("Calibration", "Classification", "Estimate", "Export", "OperatingPoint", "Trial")


def test_every_public_function_and_method_shortens_tracebacks() -> None:
    wrapped = short_traceback(lambda: None).__code__  # type: ignore[attr-defined]
    found = dict(public())
    assert len(found) > 60
    missing = [name for name, each in found.items() if each.__code__ is not wrapped]  # type: ignore[attr-defined]
    assert [name for name in missing if not name.startswith(WITHOUT_ERRORS)] == []


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(errors) == doctest.TestResults(0, doctest.testmod(errors).attempted)
