"""Schedules of the learning rate."""

from __future__ import annotations

import numpy as np
import pytest

from vggft.heads.schedules import learning_rate


def test_one_cycle_warms_up_for_a_third_of_the_way_and_ends_near_zero() -> None:
    schedule = learning_rate("one_cycle", 0.5, 100)
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert rates.argmax() == 30 and rates[30] == 0.5
    assert rates[0] == pytest.approx(0.5 / 25) and 0 < rates[100] < 1e-5
    assert (np.diff(rates[:31]) > 0).all() and (np.diff(rates[30:]) < 0).all()


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_the_shortest_training_has_a_rate(schedule: str) -> None:
    found = learning_rate(schedule, 0.5, 1)
    assert np.isfinite([float(found(step)) for step in range(3)]).all() and float(found(0)) > 0


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_a_rate_that_no_step_changes_is_a_number(schedule: str) -> None:
    assert learning_rate(schedule, 0.5, 10) == 0.5
