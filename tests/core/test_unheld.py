# SPDX-License-Identifier: Apache-2.0
"""What is left of a plan, by wall clock, on the steps of another forecast."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.stabilization import UnstabilizedPlan

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLAN = UnstabilizedPlan.of(START, 60.0, np.array([3, 5, 8, 6, 9, 2]))
BOUNDS = ReplicaBounds(1, 50)


def forecast_at(seconds: float, steps: int = 4, step: float = 60.0) -> Forecast:
    return Forecast(START + timedelta(seconds=seconds), step, np.ones(steps))


@pytest.mark.parametrize(
    ("seconds", "rest"),
    [
        (0, [3, 5, 8, 6]),
        (60, [5, 8, 6, 9]),
        (90, [8, 8, 9, 9]),  # each step touches two of the plan's: the larger counts
        (180, [6, 9, 2, 0]),  # past its end it wants nothing
        (359, [2, 0, 0, 0]),
        (360, [0, 0, 0, 0]),
        (-120, [0, 0, 3, 5]),
    ],
)
def test_the_rest_is_read_by_wall_clock(seconds: float, rest: list[int]) -> None:
    assert PLAN.rest_for(forecast_at(seconds), BOUNDS).tolist() == rest


def test_another_step_reads_the_same_times() -> None:
    assert PLAN.rest_for(forecast_at(60, steps=2, step=180.0), BOUNDS).tolist() == [8, 9]
    assert PLAN.rest_for(forecast_at(60, steps=4, step=30.0), BOUNDS).tolist() == [5, 5, 8, 8]


def test_bounds_that_are_new_hold() -> None:
    assert PLAN.rest_for(forecast_at(0), ReplicaBounds(4, 7)).tolist() == [4, 5, 7, 6]


@pytest.mark.parametrize(("seconds", "wanted"), [(-1, None), (0, 3), (59.999, 3), (60, 5), (359, 2), (360, None)])
def test_what_is_wanted_now_is_the_step_that_holds_the_moment(seconds: float, wanted: int | None) -> None:
    assert PLAN.wanted_at(START + timedelta(seconds=seconds)) == wanted
