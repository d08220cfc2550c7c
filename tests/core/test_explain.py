# SPDX-License-Identifier: Apache-2.0
"""An explanation leads, number by number, to the very answer that KEDA gets; and what other settings would change."""

import math
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds, round_replicas
from kedastral.core.explain import explain, find_next_change
from kedastral.core.explanation import Effect, Explanation, StageName, apply
from kedastral.core.forecast import Forecast
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import ServiceLevelSettings
from kedastral.core.planning.steering import SteeringSettings
from kedastral.core.series import DataQuality, Series
from kedastral.core.serving import Mode, OnStale, Snapshot, StalePolicy, decide, replicas_at
from kedastral.core.what_if import OtherSettings, what_if
from tests.parts import make_snapshot

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEP = 60.0
POLICY = PlanPolicy(100.0, 1.2, ReplicaBounds(2, 50))


def workload_of(policy: PlanPolicy = POLICY, *, steered: bool = True, lead: float = 300.0) -> Workload:
    level = ServiceLevelSettings(SteeringSettings(policy, lead_time=lead)) if steered else None
    return Workload("shop", "rps", 30, lead, policy, service_level=level)


def plans(workload: Workload, loads: list[float], forecasts: list[list[float]]) -> Snapshot:
    """The newest of a chain of plans, one a minute, each from all loads so far."""
    snapshot = None
    first = len(loads) - len(forecasts) + 1
    for i, values in enumerate(forecasts):
        seen = np.array(loads[: first + i])
        made_at = NOON + timedelta(seconds=STEP * (first + i))
        history = Series(NOON, STEP, seen)
        snapshot = plan_step(workload, history, Forecast(made_at, STEP, np.resize(values, 30)), snapshot, served=7)
    assert snapshot is not None
    return snapshot


def replay(explanation: Explanation, policy: PlanPolicy) -> float | None:
    """The number that the stages lead to, from their own values alone."""
    number: float | None = None
    for stage in explanation.stages:
        if stage.effect is Effect.ROUNDS:
            assert number is not None
            number = round_replicas(number, policy.rounding)
        else:
            number = apply(stage.effect, number, stage.value)
        assert number == stage.result, stage
    return number


loads = st.lists(
    st.sampled_from([0.0, 30.0, 90.0, 400.0, 950.0, 2500.0, 9000.0]) | st.floats(0, 8000), min_size=8, max_size=150
)
paths = st.lists(st.lists(st.floats(0, 9000), min_size=1, max_size=6), min_size=1, max_size=4)
policies = st.builds(
    PlanPolicy,
    st.sampled_from([10.0, 100.0, 333.3]),
    st.just(1.2),
    st.sampled_from([ReplicaBounds(0, 50), ReplicaBounds(2, 50), ReplicaBounds(1, 0), ReplicaBounds(5, 9)]),
    st.sampled_from([1.2, 2.0, 10.0]),
    st.sampled_from([0.0, 20.0, 100.0]),
    st.sampled_from([0, 2]),
)
stale = st.builds(
    StalePolicy, st.just(120.0), st.sampled_from(OnStale), st.sampled_from([0, 7]), st.sampled_from([None, *Mode])
)


@settings(max_examples=150, deadline=None)
@given(
    loads, paths, policies, stale, st.booleans(), st.sampled_from([-300.0, 0.0, 59.9, 60.0, 119.0, 121.0, 1300.0, 1e5])
)
def test_the_stages_lead_to_the_very_answer_for_every_mode_and_stale_policy(
    seen: list[float], forecasts: list[list[float]], policy: PlanPolicy, by: StalePolicy, steered: bool, after: float
) -> None:
    snapshot = plans(workload_of(policy, steered=steered), seen, forecasts)
    now = snapshot.made_at + timedelta(seconds=after)
    explanation, decision = explain(snapshot, now, by), decide(snapshot, now, by)
    assert replay(explanation, policy) == decision.replicas == explanation.told
    assert explanation.planned == replicas_at(snapshot, now)
    assert explanation.stale is decision.stale
    assert explanation.decided_by in StageName
    assert explanation.sentence.startswith("KEDA is told ")


@settings(max_examples=60, deadline=None)
@given(loads, paths, policies, st.booleans(), st.floats(0, 1400))
def test_the_next_change_is_the_first_moment_at_which_the_plan_says_another_number(
    seen: list[float], forecasts: list[list[float]], policy: PlanPolicy, steered: bool, after: float
) -> None:
    snapshot = plans(workload_of(policy, steered=steered), seen, forecasts)
    now = snapshot.made_at + timedelta(seconds=after)
    change, said = find_next_change(snapshot, now), replicas_at(snapshot, now)
    covered = snapshot.ends_at - timedelta(seconds=snapshot.lead_time)
    until = covered if change is None else change.at
    seconds = range(math.ceil(max((until - now).total_seconds() - 0.001, 0)))
    assert all(replicas_at(snapshot, now + timedelta(seconds=each)) == said for each in seconds)
    if change is not None:
        assert replicas_at(snapshot, change.at) == change.replicas != said


@settings(max_examples=60, deadline=None)
@given(loads, paths, policies, st.booleans())
def test_to_try_the_settings_in_force_changes_nothing(
    seen: list[float], forecasts: list[list[float]], policy: PlanPolicy, steered: bool
) -> None:
    snapshot = plans(workload_of(policy, steered=steered), seen, forecasts)
    same = OtherSettings(snapshot.lead_time, policy.target_per_pod, min=policy.bounds.min, max=policy.bounds.max)
    assert what_if(snapshot, same) == snapshot
    assert what_if(snapshot, OtherSettings()) == snapshot


@settings(max_examples=60, deadline=None)
@given(loads, st.lists(st.floats(0, 9000), min_size=1, max_size=6), policies, st.booleans(), st.floats(1, 2000))
def test_to_try_a_setting_gives_the_plan_that_the_tick_would_have_made_with_it(
    seen: list[float], forecast: list[float], policy: PlanPolicy, steered: bool, target: float
) -> None:
    tried = what_if(
        plans(workload_of(policy, steered=steered), seen, [forecast]),
        OtherSettings(lead_time=120.0, target_per_pod=target, min=3, max=40),
    )
    changed = attrs.evolve(policy, target_per_pod=target, bounds=ReplicaBounds(3, 40))
    made = plans(workload_of(changed, steered=steered, lead=120.0), seen, [forecast])
    assert tried.replicas.tolist() == made.replicas.tolist()
    assert tried.floor == made.floor
    assert tried.served_before == made.served_before


def flat(load: float, policy: PlanPolicy = POLICY, *, steered: bool = False, expected: float | None = None) -> Snapshot:
    """A plan for a steady load, after a steady past."""
    return plans(workload_of(policy, steered=steered), [load] * 150, [[load if expected is None else expected]] * 9)


@pytest.mark.parametrize(
    ("snapshot", "decided_by", "words"),
    [
        (
            flat(1000.0),
            StageName.FORECAST,
            "KEDA is told 12 replicas: the forecast decided: 1,000 is the load expected",
        ),
        (flat(10.0), StageName.MINIMUM, "the minimum decided: 1 pod would be enough, and min is 2"),
        (flat(90_000.0), StageName.MAXIMUM, "the maximum decided: 1,080 pods are needed, and max is 50"),
        (flat(1000.0, expected=0.0), StageName.FLOOR, "the floor decided: what the newest load, 1000, needs at once"),
    ],
    ids=["forecast", "min", "max", "floor"],
)
def test_one_sentence_names_what_decided(snapshot: Snapshot, decided_by: StageName, words: str) -> None:
    explanation = explain(snapshot, snapshot.made_at, StalePolicy())
    assert explanation.decided_by is decided_by
    assert words.replace("1000,", "1,000,") in explanation.sentence


def without(explanation: Explanation, name: StageName) -> int | None:
    return next(stage.without for stage in explanation.stages if stage.name is name)


def test_what_the_answer_would_be_without_a_limit() -> None:
    low, high = flat(10.0), flat(90_000.0)
    assert without(explain(low, low.made_at, StalePolicy()), StageName.MINIMUM) == 1
    assert without(explain(high, high.made_at, StalePolicy()), StageName.MAXIMUM) == 1080
    floored = flat(1000.0, expected=0.0)
    assert without(explain(floored, floored.made_at, StalePolicy()), StageName.FLOOR) == 2


def test_a_jump_beyond_the_change_limits_is_explained_by_them() -> None:
    slow = attrs.evolve(POLICY, up_max_factor=1.5)
    workload = attrs.evolve(workload_of(slow, steered=False), reactive_headroom=None)
    snapshot = plans(workload, [500.0] * 150, [[500.0], [500.0], [4000.0]])
    explanation = explain(snapshot, snapshot.made_at, StalePolicy())
    assert without(explanation, StageName.CHANGE_LIMITS) == 48
    assert explanation.told == 48  # by the end of the lead time it has caught up
    short = explain(attrs.evolve(snapshot, lead_time=1.0), snapshot.made_at, StalePolicy())
    assert short.decided_by is StageName.CHANGE_LIMITS
    assert "48 pods needed, but the plan may not change faster" in short.sentence


def test_a_plan_that_falls_is_held_and_the_hold_is_named() -> None:
    falling = plans(workload_of(), [2000.0] * 150 + [200.0] * 3, [[2000.0]] * 9 + [[200.0]])
    explanation = explain(attrs.evolve(falling, resumption=None), falling.made_at, StalePolicy())
    assert explanation.decided_by is StageName.HOLD
    assert "more was recommended within the last 5 minutes" in explanation.sentence
    assert (without(explanation, StageName.HOLD) or 0) < (explanation.told or 0)


def falling_by(share: float, minutes: int) -> str:
    """Why a plan that asks for a ``share`` less for some minutes says what it says."""
    less = 4000.0 * (1 - share)
    falling = plans(workload_of(), [4000.0] * 150 + [less] * minutes, [[4000.0]] * 9 + [[less]] * minutes)
    return explain(attrs.evolve(falling, resumption=None), falling.made_at, StalePolicy()).sentence


def test_it_is_said_which_rule_keeps_a_plan_that_falls() -> None:
    assert "a fall of less than 8% changes nothing" in falling_by(0.06, 12)
    assert "a fall of less than 11% is followed once it has lasted for an hour" in falling_by(0.04, 12)
    assert "a plan that falls keeps a little more" in falling_by(0.4, 5)


def test_stale_plans_observers_and_the_unknown_past_are_told_apart() -> None:
    fresh = flat(1000.0)
    late = fresh.made_at + timedelta(seconds=200)
    stale_one = explain(fresh, late, StalePolicy(default_min=3))
    assert stale_one.sentence.startswith(
        "KEDA is told 3 replicas: the stale policy decided: the newest forecast is 200 s old"
    )
    assert without(stale_one, StageName.STALE) == 12
    held = explain(fresh, late, StalePolicy(on_stale=OnStale.ERROR))
    assert held.told is None
    assert "holds its replicas; the plan says 12" in held.sentence
    observed = explain(fresh, fresh.made_at, StalePolicy(mode=Mode.OBSERVE))
    assert observed.sentence.startswith("KEDA is told 0 replicas (observe); the plan says 12: the mode decided")
    assert without(observed, StageName.MODE) == 12
    withheld = attrs.evolve(fresh, withheld=True)
    assert explain(withheld, fresh.made_at, StalePolicy(on_stale=OnStale.ERROR)).decided_by is StageName.RESUMPTION


def test_a_snapshot_of_another_process_is_explained_as_far_as_it_goes() -> None:
    explanation = explain(make_snapshot(), make_snapshot().made_at, StalePolicy())
    assert explanation.told == 8
    assert [step.replicas for step in explanation.plan] == [3, 5, 8, 6, 9, 9]
    assert explanation.next_change is not None
    assert explanation.next_change.replicas == 9


def test_just_after_a_start_the_floor_is_not_said_to_be_that_of_the_newest_load() -> None:
    history = Series(NOON, STEP, np.array([900.0] * 145 + [1500.0] + [700.0] * 4), DataQuality(watched=60.0))
    forecast = Forecast(NOON + timedelta(seconds=150 * STEP), STEP, np.full(30, 500.0))
    snapshot = plan_step(workload_of(), history, forecast, None, served=None)
    explanation = explain(snapshot, snapshot.made_at, StalePolicy())
    [floor] = [stage for stage in explanation.stages if stage.name is StageName.FLOOR]
    assert floor.words == "what the largest load of the last 15 minutes, 1,500, needs, just after a start"


def test_what_cannot_be_tried_is_said_all_at_once() -> None:
    other = OtherSettings(lead_time=1800.0, service_level=0.99, headroom=1.1, min=9, max=3)
    assert other.find_problems(flat(100.0)) == (
        "leadTime must be below the horizon of the forecast, 1800 s",
        "serviceLevel and headroom exclude each other",
        "serviceLevel needs the model auto; this plan has a fixed headroom",
        "min (9) must not be above max (3)",
    )
    with pytest.raises(ValueError, match="not made by this process"):
        what_if(make_snapshot(), OtherSettings(min=3))


def test_a_steered_plan_can_be_tried_with_a_headroom_and_another_level() -> None:
    snapshot = flat(1000.0, steered=True)
    doubled = what_if(snapshot, OtherSettings(headroom=2.0))
    assert doubled.service_level is not None
    assert (doubled.service_level.factor, doubled.service_level.level) == (2.0, None)
    assert replicas_at(doubled, snapshot.made_at) >= 20
    strict = what_if(snapshot, OtherSettings(service_level=0.999))
    assert strict.service_level is not None
    assert strict.service_level.level == 0.999
