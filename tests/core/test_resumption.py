# SPDX-License-Identifier: Apache-2.0
"""After a start or an outage no answer is below the earlier one until a model's forecast has been stable for a while.

The HPA forgets within 300 s what it was told, and then follows the first lower answer in one step.
"""

from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.forecast_status import StatusCode, learning_from, model_failed
from kedastral.core.planning.planner import Workload, adopt_plan, keep_plan, plan_step
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stabilization import STABILIZATION_WINDOW, Resumption, continue_resumption
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import DataQuality, Observation, Series
from kedastral.core.serving import decide, keep_served

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(100.0, 1.0, ReplicaBounds(1, 50), down_max_pct=100.0, prewarm_steps=0)
RIDES = StalePolicy(on_stale=OnStale.RIDE_FORECAST)
ERROR = StalePolicy(on_stale=OnStale.ERROR)
HIGH, LOW = 2000.0, 500.0
"""Loads: 20 pods at a hundred each, and 5."""


@attrs.define
class Ticks:
    """A workload that ticks every 30 s; KEDA is told what its newest snapshot says, and ``last`` is the last number."""

    by_level: bool = True
    policy: StalePolicy = RIDES
    served: int | None = None
    snapshot: Snapshot | None = None
    now: datetime = START
    last: int = 0

    @property
    def workload(self) -> Workload:
        goal = ServiceLevelGoal() if self.by_level else None
        return Workload("shop", "rps", 30, 300.0, POLICY, 1.0, goal, self.policy, interval=30.0)

    def tick(self, load: float, status: StatusCode = StatusCode.OK, ahead: float | None = None) -> int | None:
        """One tick in which ``load`` is measured and ``ahead`` forecast; returns what KEDA is told after it."""
        points = 60 if status is StatusCode.TOO_LITTLE_HISTORY else 200
        history = Series(self.now - timedelta(minutes=points - 1), 60.0, np.full(points, load))
        forecast = Forecast(self.now, 60.0, np.full(30, load if ahead is None else ahead))
        if status is StatusCode.LEARNING:
            forecast = fallback_forecast(history, self.now, 30, learning_from(history))
        if status is StatusCode.MODEL_FAILED:
            forecast = fallback_forecast(history, self.now, 30, model_failed(ValueError("it broke")))
        self.snapshot = plan_step(self.workload, history, forecast, self.snapshot, served=self.served)
        told = self.ask()
        self.now += timedelta(seconds=30)
        return told

    def ask(self) -> int | None:
        replicas = decide(self.snapshot, self.now, self.policy).replicas
        self.last = self.last if replicas is None else replicas
        return replicas

    def ticks(self, times: int, load: float, status: StatusCode = StatusCode.OK) -> list[int | None]:
        return [self.tick(load, status) for _ in range(times)]

    def pause(self, seconds: int) -> int:
        """No tick for a while, in which KEDA asks every 15 s; returns what it was told last."""
        for _ in range(seconds // 15):
            self.ask()
            self.now += timedelta(seconds=15)
        return self.last


both = pytest.mark.parametrize("by_level", [True, False], ids=["service level", "headroom"])
waiting = pytest.mark.parametrize("status", [StatusCode.LEARNING, StatusCode.MODEL_FAILED])


def told(answers: list[int | None]) -> list[int]:
    assert None not in answers
    return [each for each in answers if each is not None]


@both
@pytest.mark.parametrize("policy", [RIDES, ERROR], ids=["ride-forecast", "error"])
@pytest.mark.parametrize("minutes", [6, 20, 90])
def test_after_an_outage_the_first_answers_are_not_below_the_last_before_it(
    by_level: bool, policy: StalePolicy, minutes: int
) -> None:
    ticks = Ticks(by_level, policy)
    ticks.ticks(40, HIGH)
    before = ticks.pause(60 * minutes)
    after = told(ticks.ticks(25, LOW))

    assert min(after[:10]) >= before, "for as long as the HPA's own window"
    assert after[-1] < before / 2, "and no longer"


@waiting
def test_time_in_which_the_model_learns_or_fails_does_not_count(status: StatusCode) -> None:
    ticks = Ticks()
    ticks.ticks(40, HIGH)
    before = ticks.pause(3600)
    while_waiting = told(ticks.ticks(30, LOW, status))
    standing = told(ticks.ticks(25, LOW))

    assert min(while_waiting) >= before
    assert min(standing[:10]) >= before
    assert standing[-1] < before / 2


@waiting
def test_a_model_that_never_comes_does_not_keep_pods_for_ever(status: StatusCode) -> None:
    ticks = Ticks()
    ticks.ticks(40, HIGH)
    before = ticks.pause(3600)
    after = told(ticks.ticks(85, LOW, status))  # 30 minutes are the horizon

    assert min(after[:60]) >= before
    assert after[-1] < before / 2


def test_a_history_that_is_too_short_for_days_is_what_stands() -> None:
    ticks = Ticks()
    ticks.ticks(40, HIGH)
    before = ticks.pause(3600)
    after = told(ticks.ticks(25, LOW, StatusCode.TOO_LITTLE_HISTORY))

    assert min(after[:10]) >= before
    assert after[-1] < before / 2


@both
def test_after_an_outage_more_is_told_at_once(by_level: bool) -> None:
    ticks = Ticks(by_level)
    ticks.ticks(40, LOW)
    before = ticks.pause(3600)

    assert (ticks.tick(HIGH, StatusCode.LEARNING if by_level else StatusCode.OK) or 0) >= 20 > before


@both
def test_without_an_outage_nothing_is_held(by_level: bool) -> None:
    ticks = Ticks(by_level)
    ticks.ticks(40, HIGH)
    assert ticks.snapshot is not None
    assert ticks.snapshot.resumption is None
    ticks.pause(60)  # two ticks missed: the plan is not stale yet
    ticks.tick(HIGH)
    assert ticks.snapshot.resumption is None


def test_under_error_what_counts_was_told_until_the_plan_was_stale() -> None:
    ticks = Ticks(by_level=False, policy=ERROR)
    falls = np.concatenate([np.full(10, HIGH), np.full(20, LOW)])
    history = Series(START, 60.0, np.full(100, LOW))
    ticks.snapshot = plan_step(ticks.workload, history, Forecast(START, 60.0, falls), None)
    ticks.pause(1500)
    assert ticks.tick(LOW) == 20, "the plan came down while nobody was told so"

    ticks = attrs.evolve(ticks, policy=RIDES, now=START + timedelta(seconds=1500))
    ticks.snapshot = plan_step(ticks.workload, history, Forecast(START, 60.0, falls), None)
    assert ticks.tick(LOW) == 5, "KEDA was told so by wall clock"


@both
def test_what_another_process_served_before_the_start_is_kept_to(by_level: bool) -> None:
    ticks = Ticks(by_level, served=30)
    after = told(ticks.ticks(25, LOW, StatusCode.OK))
    assert after[:10] == [30] * 10
    assert max(after[11:]) < 10, "and it is no recommendation that the stabilization would keep"

    again = Ticks(by_level, served=400)
    assert again.tick(LOW) == 50, "within the bounds"
    assert again.snapshot is not None
    if again.snapshot.service_level is not None:  # the steering judges by what was served
        assert again.snapshot.service_level.state.steering.published[-1].replicas == 50


@pytest.mark.parametrize("policy", [RIDES, ERROR], ids=["ride-forecast", "error"])
@waiting
def test_where_nothing_is_known_nothing_is_told_before_a_forecast_stands(
    policy: StalePolicy, status: StatusCode
) -> None:
    ticks = Ticks(policy=policy)
    assert ticks.ticks(3, LOW, status) == [None] * 3
    assert ticks.snapshot is not None
    decision = decide(ticks.snapshot, ticks.now, policy)
    assert not decision.stale
    assert not decision.is_active(0)
    assert "it is not known what KEDA was told before the start" in decision.reason
    assert decide(ticks.snapshot, ticks.now + timedelta(minutes=5), policy).replicas is None, "nor when it is stale"

    first = ticks.tick(LOW)
    assert first is not None
    assert ticks.tick(LOW, status) is not None, "from then on something is known"


def test_where_nothing_is_known_a_short_history_and_a_model_that_never_comes_are_told_all_the_same() -> None:
    assert Ticks().tick(LOW, StatusCode.TOO_LITTLE_HISTORY) is not None
    waits = Ticks().ticks(70, LOW, StatusCode.LEARNING)
    assert waits[:60] == [None] * 60
    assert waits[-1] is not None


@pytest.mark.parametrize("policy", [RIDES, ERROR], ids=["ride-forecast", "error"])
def test_what_is_known_of_before_the_start_is_told_while_the_model_learns(policy: StalePolicy) -> None:
    assert Ticks(policy=policy, served=30).ticks(3, LOW, StatusCode.LEARNING) == [30] * 3


@both
def test_half_an_answer_is_not_enough_to_tell_anything_after_a_start(by_level: bool) -> None:
    workload, forecast = Ticks(by_level, ERROR).workload, Forecast(START, 60.0, np.full(30, LOW))
    complete = Series(START - timedelta(minutes=199), 60.0, np.full(200, LOW))
    partial = attrs.evolve(complete, quality=DataQuality(at_least=Observation(START, 1.0)))
    assert plan_step(workload, partial, forecast, None).withheld
    known = plan_step(workload, complete, forecast, None)
    assert not known.withheld
    assert not plan_step(workload, partial, forecast, known).withheld
    assert not plan_step(workload, partial, forecast, None, served=7).withheld


def test_a_clock_that_is_set_back_does_not_lengthen_a_resumption() -> None:
    ticks = Ticks(served=30)
    ticks.tick(LOW)
    ticks.now -= timedelta(seconds=90)
    ticks.tick(LOW)
    assert ticks.snapshot is not None
    assert ticks.snapshot.resumption == Resumption(START, 30, 300.0)


def test_an_outage_while_nothing_is_told_does_not_lengthen_that() -> None:
    ticks = Ticks(policy=ERROR)
    assert ticks.ticks(3, LOW, StatusCode.LEARNING) == [None] * 3
    ticks.pause(1800)
    assert ticks.tick(LOW, StatusCode.LEARNING) is not None


@pytest.mark.parametrize(("seconds", "outage"), [(600, False), (750, False), (751, True), (-750, False), (-751, True)])
def test_with_a_long_interval_two_of_them_without_a_plan_are_no_outage_and_three_are(
    seconds: float, outage: bool
) -> None:
    workload = attrs.evolve(Ticks(by_level=False).workload, interval=300.0)
    history = Series(START, 60.0, np.full(100, LOW))
    before = plan_step(workload, history, Forecast(START, 60.0, np.full(30, LOW)), None, served=5)
    before = attrs.evolve(before, resumption=None)
    later = Forecast(START + timedelta(seconds=seconds), 60.0, np.full(30, LOW))
    assert (plan_step(workload, history, later, before).resumption is not None) == outage


@both
@pytest.mark.parametrize("policy", [StalePolicy(), RIDES, ERROR], ids=["default-min", "ride-forecast", "error"])
@pytest.mark.parametrize(("missed", "outage"), [(0, False), (1, False), (2, True)])
@pytest.mark.parametrize("late", [0.0, 0.004, 5.0])
def test_one_missed_tick_is_no_outage_where_two_intervals_are_as_long_as_a_plan_is_fresh(
    by_level: bool, policy: StalePolicy, missed: int, outage: bool, late: float
) -> None:
    workload = attrs.evolve(Ticks(by_level, policy).workload, interval=60.0)
    assert policy.stale_after == 120.0
    snapshot = None
    for seconds in (*range(0, 660, 60), 660 + 60 * missed + late):
        now = START + timedelta(seconds=seconds)
        history = Series(START - timedelta(minutes=199), 60.0, np.full(200 + int(seconds // 60), HIGH))
        snapshot = plan_step(workload, history, Forecast(now, 60.0, np.full(30, HIGH)), snapshot, served=30)
    assert snapshot is not None
    assert (snapshot.resumption is not None) == outage


def test_a_resumption_in_which_a_forecast_stands_is_as_long_as_its_window_however_long_ago_it_began() -> None:
    begun = Resumption(START, 9, 300.0)
    hour = START + timedelta(hours=1)
    assert continue_resumption(begun, hour, 30.0, 1800.0, stood=True) == Resumption(START, 9, 270.0)
    assert continue_resumption(begun, hour, 30.0, 1800.0, stood=False) is None
    assert continue_resumption(begun, hour, 30.0, 3600.0, stood=False) == begun
    assert continue_resumption(begun, START + timedelta(seconds=299), 30.0, 60.0, stood=False) == begun
    assert continue_resumption(begun, hour, 300.0, 1800.0, stood=True) is None


def test_under_default_min_and_in_observe_a_plan_is_answered_as_ever() -> None:
    assert Ticks(policy=StalePolicy()).tick(LOW, StatusCode.LEARNING) is not None
    assert Ticks(policy=StalePolicy(mode=Mode.OBSERVE)).tick(LOW, StatusCode.LEARNING) == 0


def test_a_partial_answer_does_not_stand() -> None:
    ticks = Ticks(served=30)
    ticks.tick(LOW)
    assert ticks.snapshot is not None
    ticks.snapshot = attrs.evolve(ticks.snapshot, quality=DataQuality(at_least=1.0))
    ticks.tick(LOW)
    assert ticks.snapshot.resumption == Resumption(START, 30)


def test_outages_one_after_the_other_do_not_lengthen_the_resumption() -> None:
    ticks = Ticks(by_level=False)
    ticks.ticks(40, HIGH)
    after: list[int] = []
    for _ in range(4):
        ticks.pause(600)
        after += told(ticks.ticks(4, LOW))
    assert after[:9] == [20] * 9
    assert after[-1] == 5


@pytest.mark.parametrize("seconds", [30, 600])
def test_what_was_served_keeps_within_the_bounds_of_today(seconds: int) -> None:
    ticks = Ticks(by_level=False, served=30)
    ticks.tick(LOW)
    narrow = attrs.evolve(ticks.workload, policy=attrs.evolve(POLICY, bounds=ReplicaBounds(1, 10)))
    now = START + timedelta(seconds=seconds)
    later = Forecast(now, 60.0, np.full(30, LOW))
    assert replicas_at(plan_step(narrow, Series(now, 60.0, np.full(9, LOW)), later, ticks.snapshot), now) == 10


def test_a_plan_that_is_kept_keeps_within_the_bounds_of_today() -> None:
    ticks = Ticks(by_level=False, served=30)
    ticks.tick(LOW)
    assert ticks.snapshot is not None
    narrow = attrs.evolve(ticks.workload, policy=attrs.evolve(POLICY, bounds=ReplicaBounds(1, 10)))
    history = Series(START, 60.0, np.full(100, LOW))
    kept = keep_plan(narrow, history, ticks.snapshot, model_failed(ValueError("it broke")))
    assert replicas_at(kept, ticks.now) == 10


def test_a_scaler_keeps_to_what_it_told_before_its_forecaster_started_anew() -> None:
    old, new = Ticks(), Ticks(now=START + timedelta(minutes=40))
    old.ticks(40, HIGH)
    new.tick(LOW, StatusCode.LEARNING)
    before, after, now = old.snapshot, new.snapshot, new.now
    assert before is not None
    assert after is not None
    told_before = replicas_at(before, now)

    kept = keep_served(after, before, now, RIDES)
    assert decide(kept, now, RIDES).replicas == told_before >= 20
    assert keep_served(after, kept, now, RIDES) == kept, "read once more"
    new.tick(LOW)
    assert new.snapshot is not None
    assert decide(keep_served(new.snapshot, kept, now, RIDES), now, RIDES).replicas == told_before
    assert keep_served(after, None, now, RIDES) is after
    assert keep_served(before, after, now, RIDES) is before, "nothing is resumed"


@given(st.floats(1, 300), st.lists(st.tuples(st.floats(0, 120), st.booleans()), max_size=60))
def test_a_resumption_ends_once_a_forecast_has_stood_long_enough(left: float, passed: list[tuple[float, bool]]) -> None:
    resumption: Resumption | None = Resumption(START, 9, left)
    stood, now = 0.0, START
    for seconds, stands in passed:
        now += timedelta(seconds=seconds)
        stood += seconds if stands else 0.0
        assert resumption is not None
        resumption = continue_resumption(resumption, now, seconds, 1e6, stood=stands)
        if resumption is None:
            assert stood >= left * (1 - 1e-9)
            return
        assert stood < left * (1 + 1e-9)


def test_the_resumption_is_as_long_as_the_window_of_the_hpa() -> None:
    assert Resumption(START).left == STABILIZATION_WINDOW == 300


@both
def test_what_was_told_before_a_start_counts_where_default_min_hides_the_plan(by_level: bool) -> None:
    """A process that was down told KEDA nothing, so its last answer still holds."""
    ticks = Ticks(by_level, StalePolicy(on_stale=OnStale.DEFAULT_MIN))
    ticks.ticks(40, HIGH)
    ticks.now += timedelta(minutes=20)
    knowing, unknowing = attrs.evolve(ticks, served=20), attrs.evolve(ticks)

    assert min(told(knowing.ticks(10, LOW))) >= 20
    assert told(unknowing.ticks(10, LOW))[-1] < 20


@pytest.mark.parametrize("floor", [True, False])
def test_a_plan_of_former_settings_is_bound_and_read_by_those_of_now(floor: bool) -> None:
    ticks = Ticks(by_level=False)
    ticks.ticks(10, HIGH)
    assert ticks.snapshot is not None
    bounds = ReplicaBounds(1, 7)
    workload = attrs.evolve(
        ticks.workload,
        metric="other",
        policy=attrs.evolve(POLICY, bounds=bounds),
        lead_time=60.0,
        stale=StalePolicy(mode=Mode.OBSERVE),
        reactive_headroom=1.0 if floor else None,
    )
    before = attrs.evolve(ticks.snapshot, resumption=Resumption(START, 30))
    found = adopt_plan(workload, before)

    assert set(found.replicas.tolist()) == {7}
    assert (found.metric, found.lead_time, found.mode) == ("other", 60.0, Mode.OBSERVE)
    assert found.floor == (7 if floor else None)
    assert found.resumption == Resumption(START, 7)
    assert (found.forecast, found.observed) == (before.forecast, before.observed)
