# SPDX-License-Identifier: Apache-2.0
"""The last hours kept for charts: their content, their bounds, and clocks that are set back."""

from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.core.forecast import Forecast
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import Series
from kedastral.serving.recent import MAX_POINTS, RecentLoad, RecentLoads
from tests.parts import START, make_snapshot


def history_until(now: datetime, count: int, step: float = 60.0) -> Series:
    return Series(now - timedelta(seconds=step * count), step, np.arange(count, dtype=float))


def at(minutes: float, replicas: int = 3, lead: float = 60.0) -> Snapshot:
    return make_snapshot([replicas] * 30, made_at=START + timedelta(minutes=minutes), lead=lead, floor=None)


def record(recent: RecentLoad | RecentLoads, history: Series, snapshot: Snapshot) -> None:
    """As for a plan that is published as soon as it has been made."""
    recent.record(history, snapshot, snapshot.made_at)


def test_six_hours_of_load_are_kept_whatever_the_history() -> None:
    recent = RecentLoad()
    record(recent, history_until(START, 20_160), at(0))
    assert recent.loads.tolist() == list(range(19_800, 20_160))
    assert recent.start == START - timedelta(hours=6)


def test_the_plan_is_kept_where_it_changes_and_the_forecast_for_a_lead_time_ahead() -> None:
    recent = RecentLoad()
    for minutes, replicas in ((0, 3), (0.5, 3), (1, 4), (2, 4)):
        record(recent, history_until(START, 10), at(minutes, replicas))
    begin = START.timestamp()
    assert recent.planned_at.tolist() == [begin, begin + 60]
    assert recent.planned.tolist() == [3, 4]
    assert recent.expected_at.tolist() == [begin + 120, begin + 180, begin + 240]
    assert recent.expected.tolist() == [300.0, 400.0, 400.0]


@pytest.mark.parametrize("lead", [600.0, 700.0])
def test_a_forecast_has_the_date_that_its_load_has_once_it_is_measured(lead: float) -> None:
    """A load is dated by the end of its step; that of each step here is its number, and is forecast without error."""
    recent, step = RecentLoad(), 300.0
    for number in range(1, 9):
        now = START + timedelta(seconds=number * step)
        history = Series(START + timedelta(seconds=step), step, np.arange(number, dtype=float))
        forecast = Forecast(now, step, np.arange(number, number + 6, dtype=float))
        record(recent, history, attrs.evolve(at(0, lead=lead), forecast=forecast, replicas=np.ones(6, dtype=int)))
    measured = {
        (recent.start + timedelta(seconds=i * step)).timestamp(): x for i, x in enumerate(recent.loads.tolist())
    }
    both = [(x, measured[at]) for at, x in zip(recent.expected_at, recent.expected, strict=True) if at in measured]
    assert both == [(x, x) for x in (3.0, 4.0, 5.0, 6.0, 7.0)]


def test_a_plan_that_is_kept_is_recorded_as_it_goes_on() -> None:
    """Without a model the plan is that of the newest forecast, with another floor, and keeps its date."""
    recent, history = RecentLoad(), history_until(START, 10)
    kept = make_snapshot([3, 3, 5, 5], made_at=START, lead=30, floor=None)
    for minutes, floor in ((0, 3), (1, 4), (2, 4), (3, 7)):
        recent.record(history, attrs.evolve(kept, floor=floor), START + timedelta(minutes=minutes))
    assert recent.planned.tolist() == [3, 4, 5, 7]
    assert [moment - START.timestamp() for moment in recent.planned_at] == pytest.approx([0, 60, 90, 180], abs=0.001)
    assert recent.expected.tolist() == [300.0], "there is no newer forecast"


def test_a_raised_floor_is_part_of_the_plan_from_then_on() -> None:
    recent, plan = RecentLoad(), at(0, 5)
    record(recent, history_until(START, 10), plan)
    loads, expected = recent.loads.tolist(), recent.expected.tolist()
    recent.record(None, attrs.evolve(plan, floor=8), START + timedelta(minutes=1))
    assert recent.planned.tolist() == [5, 8]
    assert recent.planned_at[-1] == (START + timedelta(minutes=1)).timestamp()
    assert (recent.loads.tolist(), recent.expected.tolist()) == (loads, expected)


def test_memory_has_a_bound() -> None:
    recent = RecentLoad()
    for minute in range(2 * MAX_POINTS):
        record(recent, history_until(START, 2000, 1.0), at(minute, 3 + minute % 2))
    assert len(recent.loads) == len(recent.planned) == len(recent.expected) == MAX_POINTS
    assert recent.bytes_used <= 24_000


def test_a_clock_set_back_takes_away_what_has_become_the_future() -> None:
    recent = RecentLoad()
    for minutes in (0, 10, 5):
        record(recent, history_until(START, 10), at(minutes, 3 + minutes))
    assert recent.planned.tolist() == [3, 8]
    assert recent.expected_at[-1] == (START + timedelta(minutes=7)).timestamp()


def told(*minutes_and_replicas: tuple[float, int]) -> list[tuple[datetime, int]]:
    return [(START + timedelta(minutes=minutes), replicas) for minutes, replicas in minutes_and_replicas]


@pytest.mark.parametrize("minutes", [1.0, 5.0, 5.1, 60.0])
def test_what_the_process_before_planned_goes_on_and_a_pause_is_a_gap(minutes: float) -> None:
    recents, last = RecentLoads(lambda _: True), at(0, 5)
    recents.restore(last, told((-70, 3), (-69, 3), (-30, 4), (0, 4), (1, 9)))
    record(recents, history_until(START, 10), at(minutes, 5))
    record(recents, history_until(START, 10), at(minutes + 1, 6))
    recent, begin = recents.get("shop"), START.timestamp()
    assert recent is not None
    again = [] if minutes <= 5 else [(0.0, -1), (minutes, 5)]
    times, replicas = zip(*[(-70.0, 3), (-30.0, 4), (0.0, 5), *again, (minutes + 1, 6)], strict=True)
    assert [(moment - begin) / 60 for moment in recent.planned_at] == pytest.approx(times)
    assert np.nan_to_num(recent.planned, nan=-1).tolist() == list(replicas)


def test_what_another_pod_planned_meanwhile_replaces_only_that_time() -> None:
    recents = RecentLoads(lambda _: True)
    for minutes, replicas in ((-90, 7), (-20, 8)):
        record(recents, history_until(START, 10), at(minutes, replicas))
    recents.restore(at(0, 5), told((-60, 3), (-10, 4)))
    recent = recents.get("shop")
    assert recent is not None
    assert recent.planned.tolist() == [7, 3, 4, 5]
    assert recent.planned_at.tolist() == sorted(recent.planned_at)


RIDE, DEFAULT_MIN = StalePolicy(on_stale=OnStale.RIDE_FORECAST), StalePolicy(on_stale=OnStale.DEFAULT_MIN)
ERROR, OBSERVE = StalePolicy(on_stale=OnStale.ERROR), StalePolicy(mode=Mode.OBSERVE)


@pytest.mark.parametrize(
    ("policy", "spans"),
    [
        (DEFAULT_MIN, [(2, 40, 2)]),
        (ERROR, [(2, 40, None)]),
        (RIDE, [(29, 40, None)]),
        (OBSERVE, [(0, 41, 0)]),
    ],
)
def test_what_keda_was_told_instead_of_the_plan_is_kept(
    policy: StalePolicy, spans: list[tuple[float, float, int | None]]
) -> None:
    """There is no new forecast for 40 minutes, the plan has 30, and the lead time is one."""
    recents = RecentLoads(lambda _: True, lambda _: policy)
    record(recents, history_until(START, 10), at(0, 3))
    for minutes in (1.0, 17.3, 33.0):  # whoever looks meanwhile changes nothing
        recents.get_until(at(0, 3), START + timedelta(minutes=minutes))
    record(recents, history_until(START, 10), at(40, 3))
    recent = recents.get_until(at(40, 3), START + timedelta(minutes=41))
    assert recent is not None
    assert told_instead(recent) == [(pytest.approx(a, abs=0.001), pytest.approx(b, abs=0.001), r) for a, b, r in spans]


def told_instead(recent: RecentLoad) -> list[tuple[float, float, int | None]]:
    """When and what, in minutes since `START`."""
    others, begin = recent.other_answers, START.timestamp()
    return [
        ((a - begin) / 60, (b - begin) / 60, None if np.isnan(replicas) else int(replicas))
        for a, b, replicas in zip(others.begins, others.ends, others.told, strict=True)
    ]


def test_an_old_plan_that_counts_is_followed_step_by_step() -> None:
    recents = RecentLoads(lambda _: True, lambda _: RIDE)
    falling = make_snapshot([9] * 5 + [7] * 5 + [4] * 20, made_at=START, lead=60.0, floor=None)
    record(recents, history_until(START, 10), falling)
    recent = recents.get_until(falling, START + timedelta(minutes=12))
    assert recent is not None
    assert recent.planned.tolist() == [9, 7, 4]
    begin = START.timestamp()
    assert recent.planned_at.tolist() == pytest.approx([begin, begin + 300, begin + 600], abs=0.001)
    assert told_instead(recent) == []


def test_a_fresh_plan_is_what_keda_is_told() -> None:
    recents = RecentLoads(lambda _: True, lambda _: DEFAULT_MIN)
    for minutes in range(60):
        record(recents, history_until(START, 10), at(minutes, 3 + minutes % 4))
    recent = recents.get("shop")
    assert recent is not None
    assert told_instead(recent) == []


def test_what_another_pod_told_keda_meanwhile_is_not_made_up() -> None:
    recents = RecentLoads(lambda _: True, lambda _: DEFAULT_MIN)
    record(recents, history_until(START, 10), at(0, 3))
    recent = recents.get_until(at(30, 3), START + timedelta(minutes=31))
    assert recent is not None
    assert told_instead(recent) == []
    recents.restore(at(30, 5), ())
    record(recents, history_until(START, 10), at(32, 3))
    assert told_instead(recent) == []


def test_a_clock_set_back_takes_away_what_was_told_in_the_future() -> None:
    recents = RecentLoads(lambda _: True, lambda _: DEFAULT_MIN)
    record(recents, history_until(START, 10), at(0, 3))
    recent = recents.get_until(at(0, 3), START + timedelta(minutes=30))
    assert recent is not None
    record(recents, history_until(START, 10), at(10, 3))
    assert [(round(a), round(b)) for a, b, _ in told_instead(recent)] == [(2, 10)]
    record(recents, history_until(START, 10), at(1, 3))
    assert told_instead(recent) == []


def test_a_long_outage_costs_no_more_than_the_plan_has_steps() -> None:
    recents = RecentLoads(lambda _: True, lambda _: DEFAULT_MIN)
    record(recents, history_until(START, 10), at(0, 3))
    record(recents, history_until(START, 10), at(30 * 24 * 60, 3))
    recent = recents.get("shop")
    assert recent is not None
    [(begin, end, replicas)] = told_instead(recent)
    assert (end - begin, replicas) == (pytest.approx(6 * 60), 2)


def test_gaps_stay_gaps_and_loads_too_large_stay_finite() -> None:
    recent = RecentLoad()
    record(recent, Series(datetime(2026, 1, 1, tzinfo=UTC), 60.0, np.array([1.0, np.nan, 1e300])), at(0))
    assert np.isnan(recent.loads[1])
    assert np.isfinite(recent.loads[2])


def test_the_load_begins_with_the_first_value_of_a_new_workload() -> None:
    recent, window = RecentLoad(), np.full(500, np.nan)
    window[-3:] = [1.0, np.nan, 3.0]
    record(recent, Series(START - timedelta(minutes=500), 60.0, window), at(0))
    assert recent.start == START - timedelta(minutes=3)
    assert [float(value) for value in recent.loads[::2]] == [1.0, 3.0]
    record(recent, Series(START - timedelta(minutes=500), 60.0, np.full(500, np.nan)), at(1))
    assert len(recent.loads) == 0


def test_workloads_that_are_gone_are_dropped_as_another_one_comes() -> None:
    known = {"shop", "web"}
    recent = RecentLoads(known.__contains__)
    record(recent, history_until(START, 10), at(0))
    known.remove("shop")
    assert recent.get("shop") is not None
    record(recent, history_until(START, 10), attrs.evolve(at(0), workload="web"))
    assert recent.get("shop") is None
    assert recent.get("web") is not None
