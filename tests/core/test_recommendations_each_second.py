# SPDX-License-Identifier: Apache-2.0
"""What KEDA is told second by second, between ticks too, by plans that are carried on from tick to tick."""

import itertools
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import ServiceLevelSettings, SteeringSettings
from kedastral.core.planning.stabilization import DOWN_TOLERANCE, STABILIZATION_WINDOW
from kedastral.core.planning.status import model_failed
from kedastral.core.series import Series
from kedastral.core.serving import replicas_at
from kedastral.core.snapshot import Snapshot

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(10.0, bounds=ReplicaBounds(1, 400))
LEAD, HORIZON, HOUR = 300.0, 1800.0, 3600
Load = Callable[[float], float]


@attrs.define
class Told:
    """One workload, ticked by hand; `by_second` is all that was told. ``ahead`` forecasts, by default the last value.

    While it is away nothing is told that is new; KEDA goes on to be told the plan by wall clock while it covers the
    lead time, and then holds what it has.
    """

    step: float
    interval: int
    measured: Load
    ahead: Callable[[float, Series], Sequence[float]] | None = None
    by_second: list[int] = attrs.field(factory=list)
    snapshot: Snapshot | None = None

    def run(self, seconds: int, away: Collection[range] = (), failing: Collection[range] = ()) -> list[int]:
        """What was told in each of the next ``seconds``; in those ``away`` no tick, in those ``failing`` no model."""
        for second in range(len(self.by_second), len(self.by_second) + seconds):
            if second % self.interval == 0 and not any(second in span for span in away):
                self.tick(second, fails=any(second in span for span in failing))
            self.by_second.append(self.read(second))
        return self.by_second[-seconds:]

    def tick(self, second: int, *, fails: bool) -> None:
        steering = SteeringSettings(POLICY, 0.99, LEAD)
        steered = ServiceLevelSettings(steering, min_history=0.0, interval=float(self.interval))
        workload = Workload("shop", "rps", round(HORIZON / self.step), LEAD, POLICY, service_level=steered)
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


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def falls(told: Sequence[int]) -> list[int]:
    """The seconds at which less is told than before."""
    return [second for second, (before, now) in enumerate(itertools.pairwise(told), 1) if now < before]


def rises(told: Sequence[int]) -> list[int]:
    return [second for second, (before, now) in enumerate(itertools.pairwise(told), 1) if now > before]


def fallen(load: float, least: float, since: float) -> Load:
    return lambda second: load if second <= since else least


def noisy(load: float) -> Load:
    noise = np.exp(np.random.default_rng(1).normal(0, 0.05, 40000))
    return lambda second: load * float(noise[int(second) + 36000])


GRIDS = pytest.mark.parametrize(("step", "interval"), [(1.0, 30), (5.0, 30), (15.0, 60), (60.0, 30), (60.0, 60)])


@GRIDS
def test_load_that_has_gone_is_told_once_and_five_minutes_later(step: float, interval: int) -> None:
    told = Told(step, interval, fallen(1000.0, 300.0, since=120)).run(900)

    assert falls(told)[0] >= 120 + STABILIZATION_WINDOW - interval
    assert all(second % interval == 0 for second in falls(told))
    assert max(told[600:]) < 0.7 * told[120]
    assert not [second for second in rises(told) if second <= falls(told)[0] + interval]


@GRIDS
def test_under_noise_it_does_not_go_back_and_forth(step: float, interval: int) -> None:
    told = Told(step, interval, noisy(1000.0)).run(HOUR)

    changes = falls(told) + rises(told)
    assert len(changes) < 12
    assert all(second % interval == 0 for second in falls(told))
    assert all(rise - fall > interval for fall in falls(told) for rise in rises(told) if rise > fall)


def test_a_missed_beat_changes_nothing() -> None:
    missed = [range(start, start + 1) for start in range(150, 900, 90)]
    told = Told(1.0, 30, fallen(1000.0, 300.0, since=120)).run(900, missed)

    assert falls(told)[0] >= 120 + STABILIZATION_WINDOW - 60
    assert rises(told) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(5.0, 30), (15.0, 30), (60.0, 30)]))
def test_whatever_is_forecast_less_is_told_at_ticks_alone_and_only_what_nobody_wanted_for_minutes(
    seed: int, grid: tuple[float, int]
) -> None:
    rng, (step, interval) = np.random.default_rng(seed), grid
    told = Told(step, interval, lambda _: 10.0, lambda _, history: rng.uniform(0, 3000, round(HORIZON / history.step)))
    wanted: list[tuple[int, int]] = []
    for second in range(0, 1200, interval):
        told.run(interval)
        assert told.snapshot is not None
        assert told.snapshot.service_level is not None
        wanted.append((second, told.snapshot.service_level.state.recommendations[-1].replicas))

    for second in falls(told.by_second):
        assert second % interval == 0
        recent = max(count for when, count in wanted if second - STABILIZATION_WINDOW < when <= second)
        assert told.by_second[second] >= recent
        assert recent < told.by_second[second - 1] * (1 - DOWN_TOLERANCE)


# -- through an outage --


OUTAGES = pytest.mark.parametrize("minutes", [2, 6, 20, 40, 300])


@OUTAGES
@GRIDS
def test_after_an_outage_a_part_of_the_load_is_no_reason_to_scale_down(
    step: float, interval: int, minutes: int
) -> None:
    back = HOUR + 60 * minutes

    def measured(second: float) -> float:
        return 100.0 if back - 2 * step < second < back + 180 else 1000.0  # one series of ten is back first

    told = Told(step, interval, measured).run(back + HOUR, [range(HOUR + 1, back)])
    assert min(told[HOUR:]) > 0.8 * told[HOUR]  # the margin shrinks a little over an hour


@OUTAGES
@GRIDS
def test_load_that_fell_during_an_outage_comes_down_after_the_usual_time(
    step: float, interval: int, minutes: int
) -> None:
    back = HOUR + 60 * minutes
    told = Told(step, interval, fallen(1000.0, 300.0, since=HOUR)).run(back + HOUR, [range(HOUR + 1, back)])

    [first, *_] = falls(told[back:])
    assert 300 - 2 * interval <= first <= 300 + interval
    assert max(told[back + 900 :]) < 0.75 * told[HOUR]


@OUTAGES
def test_load_that_rose_during_an_outage_is_told_at_once(minutes: int) -> None:
    back = HOUR + 60 * minutes
    told = Told(60.0, 30, lambda second: 1000.0 if second <= HOUR else 2000.0).run(back + 60, [range(HOUR + 1, back)])

    assert told[back] >= 200


def test_what_the_plan_came_to_during_an_outage_is_what_is_kept_after_it() -> None:
    """A peak that was foreseen comes while the source is away; then a part of the load is back."""

    def ahead(second: float, history: Series) -> Sequence[float]:
        return [2000.0 if second + 60 * i >= 4200 else 1000.0 for i in range(30)]

    back = HOUR + 1200
    told = Told(60.0, 30, lambda second: 100.0 if second > HOUR else 1000.0, ahead)
    told.run(back, [range(HOUR + 1, back)])
    assert told.by_second[-1] > 1.7 * told.by_second[HOUR - 600]
    told.ahead = None
    assert min(told.run(200)) == told.by_second[back - 1]


def test_while_a_model_fails_for_hours_what_it_said_passes_and_the_load_is_followed() -> None:
    told = Told(60.0, 30, fallen(1000.0, 300.0, since=HOUR)).run(4 * HOUR, failing=[range(HOUR + 60, 5 * HOUR)])

    assert min(told[HOUR : HOUR + 1800]) > 0.8 * told[HOUR]
    assert max(told[3 * HOUR :]) < 0.6 * told[HOUR]
