# SPDX-License-Identifier: Apache-2.0
"""What KEDA is told: the window of the lead time to the microsecond, the floor, and every policy for stale plans."""

import math
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds, plan_replicas
from kedastral.core.forecast import Forecast
from kedastral.core.planning.snapshot import Mode, Snapshot, desired_at, replicas_at
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.planning.stale_policy import OnStale, StalePolicy, last_served
from kedastral.core.serving import Activity, Decision, decide, keep_served, seconds_unchanged

MADE_AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

OLD = "the newest forecast is of 2026-03-01T12:00:00Z"


def after(seconds: float) -> datetime:
    return MADE_AT + timedelta(seconds=seconds)


def snapshot(replicas: list[int], *, lead: float = 60, step: float = 60, floor: int | None = None) -> Snapshot:
    forecast = Forecast(MADE_AT, step, np.zeros(len(replicas)))
    return Snapshot("shop", "http_rps", forecast, replicas, lead, None, floor)


def test_first_example_of_the_contract() -> None:
    policy = PlanPolicy(target_per_pod=100, headroom=1.2, prewarm_steps=2)
    plan = plan_replicas(np.array([400.0, 500.0, 1000.0]), policy, previous=5)

    assert replicas_at(snapshot(plan.tolist(), lead=120), MADE_AT) == 12


def test_second_example_of_the_contract() -> None:
    policy = PlanPolicy(target_per_pod=50, headroom=1.2, bounds=ReplicaBounds(1), prewarm_steps=0)
    plan = plan_replicas(np.array([120.0, 130.0, 125.0, 140.0, 100.0]), policy, previous=2)
    made = snapshot(plan.tolist(), lead=60)

    assert [replicas_at(made, after(i * 60)) for i in range(5)] == [4, 4, 4, 4, 3]


def test_the_largest_need_within_the_lead_is_told_while_fresh_and_the_minimum_when_stale() -> None:
    made = snapshot([3, 5, 8, 6, 9, 9], lead=180, floor=4)

    assert decide(made, MADE_AT, StalePolicy()) == Decision(8, stale=False)
    assert decide(made, after(60), StalePolicy()) == Decision(9, stale=False)
    assert decide(made, after(120.000001), StalePolicy(default_min=2)).replicas == 2


def test_both_ends_of_the_window_count() -> None:
    assert replicas_at(snapshot([9, 1, 1], lead=60), MADE_AT) == 9
    assert replicas_at(snapshot([1, 9, 1], lead=60), MADE_AT) == 9
    assert replicas_at(snapshot([1, 1, 9], lead=60), MADE_AT) == 1


@pytest.mark.parametrize("step", [0.1, 1, 7, 60, 3600, 86_400])
@pytest.mark.parametrize("index", [1, 3, 29])
def test_a_step_begins_to_the_microsecond(step: float, index: int) -> None:
    plan = [1] * 30
    plan[index] = 5
    made = snapshot(plan, lead=step / 2, step=step)
    begins = after(index * step)
    told_from = begins - timedelta(seconds=step / 2)

    assert desired_at(made, begins - MICROSECOND) == 1
    assert desired_at(made, begins) == 5
    assert replicas_at(made, told_from - MICROSECOND) == 1
    assert replicas_at(made, told_from) == 5


@pytest.mark.parametrize("step", [0.1, 1, 7, 60, 3600, 86_400])
def test_a_need_is_told_until_its_step_has_passed_to_the_microsecond(step: float) -> None:
    made = snapshot([1, 1, 1, 5, 1, 1], lead=step, step=step)
    ends = after(4 * step)

    assert replicas_at(made, ends - MICROSECOND) == 5
    assert replicas_at(made, ends) == 1


def test_a_lead_longer_than_a_step_looks_over_every_step_between() -> None:
    assert replicas_at(snapshot([1, 7, 2, 3, 1], lead=180), MADE_AT) == 7


def test_a_lead_beyond_the_plan_looks_to_its_end() -> None:
    assert replicas_at(snapshot([1, 2, 3], lead=100_000), MADE_AT) == 3


@pytest.mark.parametrize("seconds", [180, 181, 10_000, 10_000_000])
def test_past_its_end_the_last_element_of_a_plan_holds(seconds: float) -> None:
    assert replicas_at(snapshot([9, 9, 4]), after(seconds)) == 4


def test_before_its_plan_the_first_elements_hold() -> None:
    made = snapshot([3, 8, 1], lead=60)

    assert replicas_at(made, after(-30)) == 3
    assert replicas_at(made, after(-1000)) == 3
    assert replicas_at(made, after(-MICROSECOND.total_seconds())) == 3
    assert replicas_at(made, after(0)) == 8


def test_the_floor_is_told_where_it_is_larger() -> None:
    assert replicas_at(snapshot([3, 3], floor=7), MADE_AT) == 7
    assert replicas_at(snapshot([3, 3], floor=2), MADE_AT) == 3


def test_without_a_floor_the_plan_alone_is_told() -> None:
    assert replicas_at(snapshot([3, 3], floor=None), MADE_AT) == 3
    assert replicas_at(snapshot([0, 0], floor=None), MADE_AT) == 0
    assert replicas_at(snapshot([3, 3], floor=0), MADE_AT) == 3


def test_replicas_are_plain_whole_numbers() -> None:
    assert type(replicas_at(snapshot([3]), MADE_AT)) is int
    assert type(desired_at(snapshot([3]), MADE_AT)) is int


def test_what_a_plan_wants_for_now_is_without_lead_and_floor() -> None:
    made = snapshot([3, 8, 1], lead=120, floor=20)

    assert [desired_at(made, after(s)) for s in (0, 59.999999, 60, 120, 179.999999)] == [3, 3, 8, 1, 1]


def test_a_plan_wants_nothing_outside_itself() -> None:
    made = snapshot([3, 8, 1])

    assert desired_at(None, MADE_AT) is None
    assert desired_at(made, MADE_AT - MICROSECOND) is None
    assert desired_at(made, after(180)) is None


@pytest.mark.parametrize("on_stale", OnStale)
def test_a_plan_is_fresh_up_to_the_very_second(on_stale: OnStale) -> None:
    policy = StalePolicy(120, on_stale, default_min=1)
    made = snapshot([3, 3, 5, 5, 5], lead=60, floor=4)

    fresh = decide(made, after(120), policy)
    stale = decide(made, after(120) + MICROSECOND, policy)

    assert fresh == Decision(5, stale=False)
    assert fresh.is_active(0)
    assert stale.stale
    assert not policy.is_stale(made, after(120))
    assert policy.is_stale(made, after(120) + MICROSECOND)


def test_a_plan_from_a_clock_a_little_ahead_is_fresh() -> None:
    assert decide(snapshot([3, 8]), after(-120), StalePolicy(120)) == Decision(3, stale=False)


@pytest.mark.parametrize("on_stale", OnStale)
def test_a_plan_from_further_ahead_than_plans_are_fresh_for_is_stale_and_not_ridden(on_stale: OnStale) -> None:
    policy, now = StalePolicy(120, on_stale, default_min=2), after(-120) - MICROSECOND

    assert policy.is_stale(snapshot([30] * 30), now)
    told = decide(snapshot([30] * 30), now, policy)
    assert told.stale
    assert told.replicas == (2 if on_stale is OnStale.DEFAULT_MIN else None)
    assert told.reason == f"{OLD}, which is in the future: a clock was set back, or clocks differ"


def test_a_fresh_plan_holds_past_its_end() -> None:
    assert decide(snapshot([9, 4]), after(121), StalePolicy(stale_after=300)) == Decision(4, stale=False)


def test_default_min_is_told_when_stale_and_nothing_is_active() -> None:
    decision = decide(snapshot([9] * 30), after(121), StalePolicy(120, OnStale.DEFAULT_MIN, default_min=3))

    assert decision.replicas == 3
    assert decision.stale
    assert not decision.is_active(0)
    assert decision.reason == OLD


def test_default_min_is_told_when_there_is_no_plan() -> None:
    decision = decide(None, MADE_AT, StalePolicy(default_min=3))

    assert (decision.replicas, decision.stale, decision.is_active(0)) == (3, True, False)
    assert decision.reason == "no forecast yet"


def test_a_stale_plan_is_ridden_while_it_covers_the_lead() -> None:
    policy = StalePolicy(120, OnStale.RIDE_FORECAST)
    made = snapshot([2, 2, 2, 2, 2, 6, 3, 3, 3, 3], lead=120, floor=1)  # ends after 600 s

    assert decide(made, after(180), policy) == Decision(6, stale=True, reason=OLD)
    assert decide(made, after(180), policy).is_active(0)
    last = decide(made, after(480) - MICROSECOND, policy)
    assert last == Decision(3, stale=True, reason=OLD)
    over = decide(made, after(480), policy)
    assert over.replicas is None
    assert over.stale
    assert not over.is_active(0)
    assert OLD in over.reason


def test_a_ridden_plan_has_woken_a_sleeping_workload_a_lead_time_before_the_load() -> None:
    # 500 rps from 20 minutes on, 50 for each pod, with headroom 12 pods, in doublings from none; a lead of 4 minutes
    policy = PlanPolicy(50.0, bounds=ReplicaBounds(0), prewarm_steps=0)
    plan = plan_replicas(np.repeat([0.0, 500.0], [20, 10]), policy, previous=0)
    made, rides = snapshot(plan.tolist(), lead=240), StalePolicy(on_stale=OnStale.RIDE_FORECAST)

    told = [decide(made, after(60 * minute), rides).replicas for minute in range(12, 21)]
    assert told == [0, 2, 3, 6, 12, 12, 12, 12, 12]


def test_a_ridden_plan_keeps_its_floor() -> None:
    assert decide(snapshot([2] * 10, floor=7), after(200), StalePolicy(120, OnStale.RIDE_FORECAST)).replicas == 7


@pytest.mark.parametrize("on_stale", [OnStale.RIDE_FORECAST, OnStale.ERROR])
def test_without_a_plan_no_number_is_given(on_stale: OnStale) -> None:
    decision = decide(None, MADE_AT, StalePolicy(120, on_stale))

    assert decision.replicas is None
    assert decision.stale
    assert not decision.is_active(0)
    assert decision.reason == "no forecast yet"


def test_under_error_a_stale_plan_gives_no_number() -> None:
    decision = decide(snapshot([9] * 30), after(120.5), StalePolicy(120, OnStale.ERROR))

    assert decision.replicas is None
    assert not decision.is_active(0)
    assert decision.reason


@pytest.mark.parametrize("on_stale", OnStale)
@pytest.mark.parametrize("seconds", [0, 120, 121, 10_000, -500])
def test_what_is_only_observed_is_zero_and_inactive_stale_or_not(on_stale: OnStale, seconds: float) -> None:
    """Never UNAVAILABLE, which would keep another trigger from scaling down."""
    policy = StalePolicy(120, on_stale, default_min=3)
    observed = attrs.evolve(snapshot([9] * 30, floor=5), mode=Mode.OBSERVE)

    for decision in (
        decide(observed, after(seconds), policy),
        decide(snapshot([9] * 30), after(seconds), attrs.evolve(policy, mode=Mode.OBSERVE)),
        decide(None, after(seconds), attrs.evolve(policy, mode=Mode.OBSERVE)),
    ):
        assert decision.replicas == 0
        assert not decision.is_active(0)
        assert decision.activity(0) is Activity.INACTIVE
        assert decision.mode is Mode.OBSERVE
    assert decide(observed, after(seconds), policy).stale == policy.is_stale(observed, after(seconds))
    assert replicas_at(observed, after(0)) == 9, "what would have been told"


def test_a_stream_may_say_false_of_a_plan_only() -> None:
    made = snapshot([3] * 30)

    assert decide(made, MADE_AT, StalePolicy()).activity(2) is Activity.ACTIVE
    assert decide(made, MADE_AT, StalePolicy()).activity(3) is Activity.INACTIVE
    assert decide(made, after(500), StalePolicy()).activity(0) is Activity.ASSUMED
    assert decide(made, after(500), StalePolicy(on_stale=OnStale.ERROR)).activity(0) is Activity.HELD
    assert decide(made, after(500), StalePolicy(on_stale=OnStale.RIDE_FORECAST)).activity(3) is Activity.INACTIVE


def test_a_workload_is_active_above_its_activation_only() -> None:
    decision = decide(snapshot([3, 3]), MADE_AT, StalePolicy())

    assert decision.is_active(0)
    assert decision.is_active(2.5)
    assert not decision.is_active(3)
    assert not decide(snapshot([0, 0]), MADE_AT, StalePolicy()).is_active(0)


@pytest.mark.parametrize(("stale_after", "default_min"), [(0, 2), (-1, 2), (120, -1)])
def test_a_policy_that_makes_no_sense_is_refused(stale_after: float, default_min: int) -> None:
    with pytest.raises(ValueError, match=r"stale_after|default_min"):
        StalePolicy(stale_after, default_min=default_min)


plans = st.lists(st.integers(0, 100), min_size=1, max_size=20)
steps = st.sampled_from([0.1, 1.0, 7.0, 60.0, 90.5, 3600.0])
moments = st.timedeltas(timedelta(minutes=-5), timedelta(days=1)).map(lambda d: MADE_AT + d)
leads = st.floats(0.001, 7200)


def step_holding(made: Snapshot, moment: datetime) -> int:
    """The replicas of the step that holds ``moment``, found by walking along the plan."""
    found = int(made.replicas[0])
    for i, replicas in enumerate(made.replicas.tolist()):
        if made.made_at + i * timedelta(seconds=made.forecast.step) <= moment:
            found = replicas
    return found


@given(plans, steps, moments, leads, st.none() | st.integers(0, 100))
def test_never_less_is_told_than_is_needed_now_and_a_lead_from_now(
    plan: list[int], step: float, now: datetime, lead: float, floor: int | None
) -> None:
    made = snapshot(plan, lead=lead, step=step, floor=floor)

    told = replicas_at(made, now)

    assert told >= step_holding(made, now)
    assert told >= step_holding(made, now + timedelta(seconds=lead))
    assert told >= (floor or 0)
    assert told <= max(*plan, floor or 0, 0)


@given(plans, steps, moments, leads, leads)
def test_a_longer_lead_never_tells_less(
    plan: list[int], step: float, now: datetime, one_lead: float, another_lead: float
) -> None:
    shorter, longer = sorted((one_lead, another_lead))

    assert replicas_at(snapshot(plan, lead=shorter, step=step), now) <= replicas_at(
        snapshot(plan, lead=longer, step=step), now
    )


@given(plans, steps, moments, leads, st.sampled_from(OnStale))
def test_every_decision_has_a_number_or_a_reason(
    plan: list[int], step: float, now: datetime, lead: float, on_stale: OnStale
) -> None:
    decision = decide(snapshot(plan, lead=lead, step=step), now, StalePolicy(120, on_stale))

    assert decision.replicas is not None or (decision.stale and decision.reason)
    assert decision.trusted or decision.stale


def test_a_workload_that_is_scaled_again_is_told_its_last_plan_though_that_was_only_observed() -> None:
    policy = StalePolicy(120.0, OnStale.RIDE_FORECAST, mode=Mode.SCALE)
    observed = attrs.evolve(snapshot([9] * 30, floor=5), mode=Mode.OBSERVE)
    assert decide(observed, after(0), policy).replicas == 9
    assert decide(observed, after(300), policy).replicas == 9
    assert decide(observed, after(0), attrs.evolve(policy, mode=None)).replicas == 0


# -- until when an answer holds, and what was answered before --


def test_an_answer_holds_until_a_step_comes_within_the_lead_time_or_passes_or_the_plan_is_stale() -> None:
    made, policy = snapshot([1, 2, 3, 4], lead=90), StalePolicy(100.0, OnStale.RIDE_FORECAST)
    moments = [-150.0, -110.0, -100.0, -50.0, 0.0, 10.0, 30.0, 60.0, 95.0, 100.0, 140.0, 149.0]
    assert [seconds_unchanged(made, after(at), policy) for at in moments] == [
        30.0, 10.0, 10.0, 20.0, 30.0, 20.0, 30.0, 30.0, 5.0, 0.0, 10.0, 1.0,
    ]  # fmt: skip
    assert seconds_unchanged(None, after(0), policy) == math.inf


RIDES, DEFAULTS = StalePolicy(120.0, OnStale.RIDE_FORECAST), StalePolicy(120.0, OnStale.DEFAULT_MIN)
ERRS = StalePolicy(120.0, OnStale.ERROR)


@pytest.mark.parametrize(
    ("policy", "seconds", "served"),
    [(RIDES, 60.0, 2), (RIDES, 180.0, 9), (RIDES, 300.0, 9), (RIDES, 9e5, 9), (ERRS, 60.0, 2), (ERRS, 121.0, 3),
     (ERRS, 9e5, 3), (DEFAULTS, 120.0, 3), (DEFAULTS, 121.0, None)],
)  # fmt: skip
def test_what_was_served_last_is_what_was_read_while_the_plan_was_read(
    policy: StalePolicy, seconds: float, served: int | None
) -> None:
    made = snapshot([1, 2, 3, 9, 9, 1], lead=60)
    assert last_served(made, after(seconds), policy) == served
    assert last_served(attrs.evolve(made, withheld=True), after(seconds), policy) is None
    assert last_served(attrs.evolve(made, mode=Mode.OBSERVE), after(seconds), policy) is None


def test_a_plan_is_ahead_where_it_comes_from_further_in_the_future_than_plans_are_fresh_for() -> None:
    assert [RIDES.is_ahead(snapshot([1]), after(at)) for at in (-121.0, -120.0, 0.0, 121.0)] == [True, *[False] * 3]


def test_where_no_number_may_be_given_it_is_said_why() -> None:
    withheld = attrs.evolve(snapshot([5, 5, 5]), withheld=True)
    assert "it is not known what KEDA was told before the start" in decide(withheld, after(0), ERRS).reason
    assert decide(withheld, after(300), ERRS) == Decision(None, stale=True, reason=OLD)


def resumed(since: float, served: int | None, *, withheld: bool = False) -> Snapshot:
    return attrs.evolve(snapshot([5, 5, 5]), resumption=Resumption(after(since), served), withheld=withheld)


def test_a_snapshot_that_resumes_keeps_to_what_was_served_before_it() -> None:
    unknown, now = resumed(0, None, withheld=True), after(0)
    before = attrs.evolve(snapshot([7, 7, 7]), forecast=Forecast(after(-60), 60, np.zeros(3)))
    kept = keep_served(unknown, before, now, RIDES)
    assert (kept.served_before, kept.withheld) == (7, False)
    assert keep_served(resumed(0, 6), before, now, RIDES).served_before == 7
    fewer = resumed(0, 8)
    assert keep_served(fewer, before, now, RIDES) is fewer


def test_what_nobody_was_told_is_not_kept_to() -> None:
    now = after(0)
    for snapshot_ in (resumed(0, None, withheld=True), resumed(0, 6)):
        for before in (resumed(-60, None, withheld=True), attrs.evolve(snapshot([7]), mode=Mode.OBSERVE)):
            assert keep_served(snapshot_, before, now, RIDES) is snapshot_


def test_within_one_resumption_what_it_keeps_to_goes_on_and_after_it_what_was_told_counts() -> None:
    unknown, now = resumed(0, None), after(30)
    assert keep_served(unknown, resumed(0, 30), now, RIDES).served_before == 30
    assert keep_served(unknown, resumed(0, None), now, RIDES) is unknown
    told = attrs.evolve(resumed(-900, 3), floor=11)
    assert keep_served(unknown, told, now, RIDES).served_before == 11
