# SPDX-License-Identifier: Apache-2.0
"""The recommendation second by second, also between ticks, by plans that continue from tick to tick."""

import itertools
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.forecast_status import model_failed
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.planning.stabilization import DOWN_TOLERANCE, STABILIZATION_WINDOW
from kedastral.core.series import Series

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(10.0, bounds=ReplicaBounds(1, 400))
LEAD, HORIZON, HOUR = 300.0, 1800.0, 3600
Load = Callable[[float], float]


@attrs.define
class Ticks:
    """One workload, ticked by hand; `by_second` are its recommendations. It forecasts ``ahead``, else the last value.

    Without ticks the last plan is read by wall clock while it covers the lead time; then KEDA holds its replicas.
    """

    step: float
    interval: int
    measured: Load
    ahead: Callable[[float, Series], Sequence[float]] | None = None
    by_second: list[int] = attrs.field(factory=list)
    snapshot: Snapshot | None = None

    def run(self, seconds: int, away: Collection[range] = (), failing: Collection[range] = ()) -> list[int]:
        """The recommendations of each of the next ``seconds``; ``away``: no tick; ``failing``: no model."""
        for second in range(len(self.by_second), len(self.by_second) + seconds):
            if second % self.interval == 0 and not any(second in span for span in away):
                self.tick(second, fails=any(second in span for span in failing))
            self.by_second.append(self.read(second))
        return self.by_second[-seconds:]

    def tick(self, second: int, *, fails: bool) -> None:
        steps, goal = round(HORIZON / self.step), ServiceLevelGoal(min_history=0.0)
        workload = Workload("shop", "rps", steps, LEAD, POLICY, goal=goal, interval=float(self.interval))
        newest = second // self.step
        ends = np.arange(newest - 599, newest + 1) * self.step
        history = Series(at(float(ends[0])), self.step, [self.measured(end) for end in ends])
        forecast = fallback_forecast(history, at(second), workload.steps, model_failed(ValueError("it broke")))
        if not fails:
            values = forecast.values if self.ahead is None else self.ahead(second, history)
            forecast = Forecast(at(second), self.step, np.asarray(values, dtype=float))
        self.snapshot = plan_step(workload, history, forecast, self.snapshot)

    def read(self, second: int) -> int:
        assert self.snapshot is not None
        covered = at(second + LEAD) < self.snapshot.ends_at
        return replicas_at(self.snapshot, at(second)) if covered else self.by_second[-1]


@cache
def steady_hour(step: float, interval: int) -> Ticks:
    """A workload after its first hour, with a load of 1000: shared by all outages, so its ticks run once."""
    ticks = Ticks(step, interval, lambda _: 1000.0)
    ticks.run(HOUR)
    return ticks


def after_an_hour(step: float, interval: int, measured: Load) -> Ticks:
    """A workload that continues `steady_hour` with the load ``measured``, which was 1000 until then."""
    before = steady_hour(step, interval)
    ticks = Ticks(step, interval, measured, by_second=before.by_second.copy())
    ticks.snapshot = before.snapshot
    return ticks


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def falls(pods: Sequence[int]) -> list[int]:
    """The seconds at which less is recommended than before."""
    return [second for second, (before, now) in enumerate(itertools.pairwise(pods), 1) if now < before]


def rises(pods: Sequence[int]) -> list[int]:
    return [second for second, (before, now) in enumerate(itertools.pairwise(pods), 1) if now > before]


def fallen(load: float, least: float, since: float) -> Load:
    return lambda second: load if second <= since else least


def noisy(load: float) -> Load:
    noise = np.exp(np.random.default_rng(1).normal(0, 0.05, 40000))
    return lambda second: load * float(noise[int(second) + 36000])


GRID = [(1.0, 30), (5.0, 30), (15.0, 60), (60.0, 60), (60.0, 30)]
GRIDS = pytest.mark.parametrize(("step", "interval"), GRID)


@GRIDS
def test_load_that_has_gone_scales_down_once_and_five_minutes_later(step: float, interval: int) -> None:
    pods = Ticks(step, interval, fallen(1000.0, 300.0, since=120)).run(900)

    assert falls(pods)[0] >= 120 + STABILIZATION_WINDOW - interval
    assert all(second % interval == 0 for second in falls(pods))
    assert max(pods[600:]) < 0.7 * pods[120]
    assert not [second for second in rises(pods) if second <= falls(pods)[0] + interval]


@GRIDS
def test_under_noise_it_does_not_go_back_and_forth(step: float, interval: int) -> None:
    pods = Ticks(step, interval, noisy(1000.0)).run(HOUR)

    changes = falls(pods) + rises(pods)
    assert len(changes) < 12
    assert all(second % interval == 0 for second in falls(pods))
    assert all(rise - fall > interval for fall in falls(pods) for rise in rises(pods) if rise > fall)


def test_a_missed_tick_changes_nothing() -> None:
    missed = [range(start, start + 1) for start in range(150, 900, 90)]
    pods = Ticks(1.0, 30, fallen(1000.0, 300.0, since=120)).run(900, missed)

    assert falls(pods)[0] >= 120 + STABILIZATION_WINDOW - 60
    assert rises(pods) == []


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(5.0, 30), (15.0, 30), (60.0, 30)]))
def test_scaling_down_happens_at_ticks_alone_and_as_far_as_the_maximum_of_the_last_minutes(
    seed: int, grid: tuple[float, int]
) -> None:
    rng, (step, interval) = np.random.default_rng(seed), grid
    ticks = Ticks(
        step, interval, lambda _: 10.0, lambda _, history: rng.uniform(0, 3000, round(HORIZON / history.step))
    )
    recommendations: list[tuple[int, int]] = []
    for second in range(0, 1200, interval):
        ticks.run(interval)
        assert ticks.snapshot is not None
        assert ticks.snapshot.service_level is not None
        recommendations.append((second, ticks.snapshot.service_level.state.before_stabilization[-1].replicas))

    for second in falls(ticks.by_second):
        assert second % interval == 0
        recent = max(count for when, count in recommendations if second - STABILIZATION_WINDOW < when <= second)
        assert ticks.by_second[second] >= recent
        assert recent < ticks.by_second[second - 1] * (1 - DOWN_TOLERANCE)


# -- through an outage --


MINUTES = [2, 6, 20, 40, 300]
OUTAGES = pytest.mark.parametrize("minutes", MINUTES)
GRIDS_AND_OUTAGES = pytest.mark.parametrize(
    ("step", "interval", "minutes"),
    [*((60.0, 30, minutes) for minutes in MINUTES), *((*grid, 20) for grid in GRID[:-1])],
)  # what an outage does depends on the grid in no way that depends on its length


@GRIDS_AND_OUTAGES
def test_after_an_outage_a_part_of_the_load_is_no_reason_to_scale_down(
    step: float, interval: int, minutes: int
) -> None:
    back = HOUR + 60 * minutes

    def measured(second: float) -> float:
        return 100.0 if back - 2 * step < second < back + 180 else 1000.0  # one series of ten is back first

    ticks = after_an_hour(step, interval, measured)
    ticks.run(60 * minutes + HOUR, [range(HOUR + 1, back)])
    pods = ticks.by_second
    assert min(pods[HOUR:]) > 0.8 * pods[HOUR]  # the margin shrinks a little over an hour


@GRIDS_AND_OUTAGES
def test_load_that_fell_during_an_outage_comes_down_after_the_usual_time(
    step: float, interval: int, minutes: int
) -> None:
    back = HOUR + 60 * minutes
    ticks = after_an_hour(step, interval, fallen(1000.0, 300.0, since=HOUR))
    ticks.run(60 * minutes + HOUR, [range(HOUR + 1, back)])
    pods = ticks.by_second

    [first, *_] = falls(pods[back:])
    assert 300 - 2 * interval <= first <= 300 + interval
    assert max(pods[back + 900 :]) < 0.75 * pods[HOUR]


@OUTAGES
def test_load_that_rose_during_an_outage_scales_up_at_once(minutes: int) -> None:
    back = HOUR + 60 * minutes
    ticks = after_an_hour(60.0, 30, lambda second: 1000.0 if second <= HOUR else 2000.0)
    pods = [*steady_hour(60.0, 30).by_second, *ticks.run(60 * minutes + 60, [range(HOUR + 1, back)])]

    assert pods[back] >= 200


def test_what_the_plan_came_to_during_an_outage_is_what_is_kept_after_it() -> None:
    """A forecast peak comes while the source is away; then a part of the load is back."""

    def ahead(second: float, history: Series) -> Sequence[float]:
        return [2000.0 if second + 60 * i >= 4200 else 1000.0 for i in range(30)]

    back = HOUR + 1200
    ticks = Ticks(60.0, 30, lambda second: 100.0 if second > HOUR else 1000.0, ahead)
    ticks.run(back, [range(HOUR + 1, back)])
    assert ticks.by_second[-1] > 1.6 * ticks.by_second[HOUR - 600]
    ticks.ahead = None
    assert min(ticks.run(200)) == ticks.by_second[back - 1]


def test_while_a_model_fails_for_hours_its_last_plan_passes_and_the_load_is_followed() -> None:
    pods = Ticks(60.0, 30, fallen(1000.0, 300.0, since=HOUR)).run(4 * HOUR, failing=[range(HOUR + 60, 5 * HOUR)])

    assert min(pods[HOUR : HOUR + 1800]) > 0.8 * pods[HOUR]
    assert max(pods[3 * HOUR :]) < 0.6 * pods[HOUR]
