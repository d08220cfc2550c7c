# SPDX-License-Identifier: Apache-2.0
"""A snapshot has a plan that matches its forecast, and knows its age and its end."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from kedastral.core.forecast import Forecast
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.series import Observation

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def snapshot(**changes: Any) -> Snapshot:
    made = Snapshot("shop", "http_rps", Forecast(NOON, 60, [1, 2, 3]), [4, 5, 6], 300, Observation(NOON, 1), 2)
    return attrs.evolve(made, **changes)


def test_it_is_made_when_its_forecast_was_and_ends_with_it() -> None:
    assert snapshot().made_at == NOON
    assert snapshot().ends_at == NOON + timedelta(minutes=3)


def test_its_age_counts_from_when_it_was_made() -> None:
    assert snapshot().age(NOON) == 0
    assert snapshot().age(NOON + timedelta(seconds=90.25)) == 90.25


def test_one_from_a_clock_ahead_has_no_age() -> None:
    assert snapshot().age(NOON - timedelta(hours=1)) == 0


@pytest.mark.parametrize("replicas", [[], [1, 2], [1, 2, 3, 4]])
def test_a_plan_of_another_length_than_the_forecast_is_refused(replicas: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{len(replicas)} replicas for 3 values"):
        snapshot(replicas=replicas)


def test_negative_replicas_are_refused() -> None:
    with pytest.raises(ValueError, match="replicas must be >= 0"):
        snapshot(replicas=[1, -1, 1])
    with pytest.raises(ValueError, match="floor must be >= 0"):
        snapshot(floor=-1)


def test_more_replicas_than_kubernetes_can_count_are_refused() -> None:
    assert snapshot(replicas=[2**31 - 1] * 3, floor=2**31 - 1).floor == 2**31 - 1
    with pytest.raises(ValueError, match="<= 2147483647"):
        snapshot(replicas=[1, 2**31, 1])
    with pytest.raises(ValueError, match="<= 2147483647"):
        snapshot(floor=10**400)


def test_no_replicas_at_all_are_a_plan() -> None:
    assert snapshot(replicas=[0, 0, 0], floor=0, min_replicas=0).floor == 0


def test_a_fraction_of_a_replica_is_refused() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        snapshot(replicas=[1.5, 2, 3])


@pytest.mark.parametrize("lead_time", [0, -1, math.nan, math.inf])
def test_a_lead_time_that_is_no_span_is_refused(lead_time: float) -> None:
    with pytest.raises(ValueError, match="lead_time must be"):
        snapshot(lead_time=lead_time)


@pytest.mark.parametrize(
    "changes", [{"lead_time": 1e300}, {"lead_time": 1e12}, {"forecast": Forecast(NOON, 1e200, [0] * 3)}]
)
def test_a_span_that_no_calendar_reaches_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="before the year 10000"):
        snapshot(**changes)


def test_replicas_cannot_be_changed() -> None:
    replicas = [4, 5, 6]
    made = snapshot(replicas=replicas)
    replicas[0] = 99

    assert made.replicas.tolist() == [4, 5, 6]
    with pytest.raises(ValueError, match="read-only"):
        made.replicas[0] = 9


def test_equal_snapshots_are_equal() -> None:
    assert snapshot() == snapshot()
    assert snapshot() != snapshot(replicas=[4, 5, 7])
    assert snapshot() != snapshot(floor=None)
    assert snapshot() != snapshot(observed=None)
