# SPDX-License-Identifier: Apache-2.0
"""A forecast is finite, not negative, in UTC and immutable; anything else is refused."""

import math
from datetime import UTC, datetime, timedelta, timezone

import attrs
import numpy as np
import pytest

from kedastral.core.forecast import Experts, ExpertView, Forecast, fallback_forecast
from kedastral.core.forecast_status import OK
from kedastral.core.series import Series

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_horizon_is_as_long_as_its_values() -> None:
    assert Forecast(NOON, 60, [1, 2, 3]).horizon == 180


@pytest.mark.parametrize(
    ("ahead", "index"), [(-1, None), (0, 0), (59.9, 0), (60, 1), (179.9, 2), (180, None), (1e9, None)]
)
def test_a_moment_is_in_one_step_and_in_none_outside(ahead: float, index: int | None) -> None:
    assert Forecast(NOON, 60, [1, 2, 3]).index_at(ahead) == index


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="values must all be finite"):
        Forecast(NOON, 60, [1, value])


def test_a_negative_value_is_refused() -> None:
    with pytest.raises(ValueError, match="values must all be >= 0"):
        Forecast(NOON, 60, [1, -1e-12])


def test_no_load_at_all_is_a_forecast() -> None:
    assert Forecast(NOON, 60, [0, 0.5]).values.tolist() == [0, 0.5]


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="values must not be empty"):
        Forecast(NOON, 60, [])


def test_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="one-dimensional"):
        Forecast(NOON, 60, [[1, 2]])


@pytest.mark.parametrize("step", [0, -60, math.nan, math.inf])
def test_a_step_that_is_no_span_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match="step must be"):
        Forecast(NOON, step, [1])


def test_a_time_that_is_not_utc_is_refused() -> None:
    for wrong in (NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=-5)))):
        with pytest.raises(ValueError, match="made_at must be an aware UTC datetime"):
            Forecast(wrong, 60, [1])


def test_values_cannot_be_changed() -> None:
    values = np.array([1.0, 2.0])
    made = Forecast(NOON, 60, values)
    values[0] = 9

    assert made.values.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        made.values[0] = 9
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.step = 30  # type: ignore[misc]


def test_equal_forecasts_are_equal() -> None:
    assert Forecast(NOON, 60, [1, 2]) == Forecast(NOON, 60.0, (1.0, 2.0))
    assert Forecast(NOON, 60, [1, 2]) != Forecast(NOON, 60, [1, 3])
    assert Forecast(NOON, 60, [1, 2]) != Forecast(NOON, 60, [1])


# ---- the experts behind a forecast ----

EXPERTS = Experts(("last", "ridge"), np.array([60.0, 600.0]), [[0.75, 0.25], [0.25, 0.75]], [[1, 1], [np.nan, 0.5]])


def test_experts_are_shown_at_the_nearest_horizon() -> None:
    forecast = Forecast(NOON, 60.0, np.ones(10), EXPERTS)
    assert forecast.experts_at(400) == (ExpertView("last", 600, 0.25, 1), ExpertView("ridge", 600, 0.75, 0.5))
    assert Forecast(NOON, 60.0, np.ones(10)).experts_at(400) == ()


def test_an_expert_that_was_never_judged_has_no_error() -> None:
    assert [expert.error for expert in EXPERTS.at(0)] == [1, None]


@pytest.mark.parametrize(("names", "ahead"), [(("last",), [60.0, 600.0]), (("last", "ridge"), [60.0]), ((), [])])
def test_experts_of_another_shape_are_refused(names: tuple[str, ...], ahead: list[float]) -> None:
    with pytest.raises(ValueError, match="shape"):
        Experts(names, np.array(ahead), EXPERTS.weights, EXPERTS.errors)


def test_tables_of_nothing_are_no_experts() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Experts((), np.array([60.0]), np.zeros((0, 1)), np.zeros((0, 1)))


def test_the_last_value_is_forecast_where_there_is_one() -> None:
    made = fallback_forecast(Series(NOON, 60, [3, 4, np.nan]), NOON, 3, OK)
    assert made == Forecast(NOON, 60, [4, 4, 4])
    with pytest.raises(ValueError, match="no value to forecast from"):
        fallback_forecast(Series(NOON, 60, [np.nan]), NOON, 3, OK)
