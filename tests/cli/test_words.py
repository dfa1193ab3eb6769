"""What a person writes in a shell means what they would write in Python."""

from __future__ import annotations

from typing import Any

import pytest

from vggft import ConfigError
from vggft.cli import words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("256", 256),
        ("0.5", 0.5),
        ("64,128", [64, 128]),
        ("avg,max", ["avg", "max"]),
        ("true,false", [True, False]),
        ("64:512:log", (64, 512, "log")),
        ("1e-4:1e-2:log", (1e-4, 1e-2, "log")),
        ("0:0.5", (0, 0.5)),
    ],
)
def test_choices_in_the_words_of_a_shell(text: str, value: Any) -> None:
    assert words.choice("units", text) == value


def test_none_is_a_word_of_freeze_and_nothing_of_others() -> None:
    assert words.choice("freeze", "none") == "none" and words.choice("freeze", "none,block4") == ["none", "block4"]
    assert words.value("none") is None


def test_what_cannot_be_read_is_refused_by_the_option() -> None:
    with pytest.raises(ConfigError, match="--learning-rate needs a value"):
        words.choice("learning_rate", " ")
    with pytest.raises(ConfigError, match="--units must be widths separated by commas, such as 512,128; got 'wide'"):
        words.integers("wide")
    for text in ("lots", "-1", "1e3", "20XB"):
        with pytest.raises(ConfigError, match="--max-size must be bytes or a number with a unit"):
            words.size(text)


def test_sizes_have_decimal_and_binary_units() -> None:
    assert [words.size(text) for text in ("0", "1kB", "1 KiB", "0.2MB", "2G")] == [0, 1000, 1024, 200_000, 2 * 10**9]
