# SPDX-License-Identifier: Apache-2.0
"""An explanation leads, number by number, to the exact answer for KEDA, and shows the effect of other settings."""

import math
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds, round_replicas
from kedastral.core.explanation.explain import explain, find_next_change, find_reason, show_time
from kedastral.core.explanation.stages import Effect, Explanation, StageName, apply
from kedastral.core.explanation.what_if import OtherSettings, what_if
from kedastral.core.explanation.without_limits import leave_out_each, without_each_limit
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import model_failed
from kedastral.core.planning.basis import make_stages, with_policy
from kedastral.core.planning.planner import Workload, adopt_plan, plan_step, plan_step_without_model
from kedastral.core.planning.service_level import ServiceLevelGoal, SteeredBasis
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stabilization import PreviousPlan, Resumption
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.planning.steering import DaySpent
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.series import DataQuality, Series
from kedastral.core.serving import decide
from tests.parts import make_snapshot

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEP = 60.0
POLICY = PlanPolicy(100.0, 1.2, ReplicaBounds(2, 50))


def workload_of(policy: PlanPolicy = POLICY, *, steered: bool = True, lead: float = 300.0) -> Workload:
    return Workload("shop", "rps", 30, lead, policy, goal=ServiceLevelGoal() if steered else None)


def plans(
    workload: Workload, loads: list[float], forecasts: list[list[float]], learnt: UncertaintyState | None = None
) -> Snapshot:
    """The newest of a chain of plans, one a minute, each from all loads so far."""
    snapshot = None
    first = len(loads) - len(forecasts) + 1
    for i, values in enumerate(forecasts):
        seen = np.array(loads[: first + i])
        made_at = NOON + timedelta(seconds=STEP * (first + i))
        history = Series(NOON, STEP, seen)
        forecast = Forecast(made_at, STEP, np.resize(values, 30))
        snapshot = plan_step(workload, history, forecast, snapshot, learnt, served=7)
    assert snapshot is not None
    return snapshot


def replay(explanation: Explanation, policy: PlanPolicy) -> float | None:
    """The number that the stages lead to, computed only from their values."""
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
    [largest] = [step for step in explanation.plan if step.at == explanation.largest_at]
    assert explanation.planned == max(largest.replicas, snapshot.floor or 0, snapshot.served_before)
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
    same_past = UncertaintyState(Calibration(windows=1), Calibration(windows=1))
    tried = what_if(
        plans(workload_of(policy, steered=steered), seen, [forecast], same_past),
        OtherSettings(lead_time=120.0, target_per_pod=target, min=3, max=40),
    )
    changed = attrs.evolve(policy, target_per_pod=target, bounds=ReplicaBounds(3, 40))
    made = plans(workload_of(changed, steered=steered, lead=120.0), seen, [forecast], same_past)
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
    assert ": scaling in keeps more: 12 pods would do, but 29 were recommended within the last 5 minutes." in (
        explanation.sentence
    )
    assert (without(explanation, StageName.HOLD) or 0) < (explanation.told or 0)


def falling_by(share: float, minutes: int) -> str:
    """The explanation of a plan that asks for a ``share`` less for some minutes."""
    less = 4000.0 * (1 - share)
    falling = plans(workload_of(), [4000.0] * 150 + [less] * minutes, [[4000.0]] * 9 + [[less]] * minutes)
    return explain(attrs.evolve(falling, resumption=None), falling.made_at, StalePolicy()).sentence


def test_it_is_said_which_rule_keeps_a_plan_that_falls() -> None:
    assert "a fall of less than 8% changes nothing" in falling_by(0.06, 12)
    assert "a fall of less than 11% is followed once it has lasted for an hour" in falling_by(0.04, 12)
    assert "a plan that falls keeps a little more" in falling_by(0.4, 5)


def told_of(loads: list[float], forecasts: list[list[float]]) -> str:
    """The explanation of a steered plan, long after the start."""
    snapshot = attrs.evolve(plans(workload_of(), loads, forecasts), resumption=None)
    explanation = explain(snapshot, snapshot.made_at, StalePolicy())
    assert explanation.decided_by is StageName.HOLD
    return explanation.sentence


@pytest.mark.parametrize(
    ("earlier", "recommended", "rule"),
    [
        (3840.0, 45, "a fall of less than 11% is followed once it has lasted for an hour"),
        (3900.0, 46, "a fall of less than 8% changes nothing"),
    ],
)
def test_a_small_fall_of_the_last_minutes_is_not_compared_with_the_need_of_now(
    earlier: float, recommended: int, rule: str
) -> None:
    """The load falls by a little, and much further 18 minutes later: of that the rule knows nothing yet."""
    loads = [4000.0] * 150 + [earlier] * 18 + [1000.0] * 2
    said = told_of(loads, [[4000.0]] * 9 + [[earlier]] * 18 + [[1000.0]] * 2)
    words = f"12 pods would do, but {recommended} were recommended within the last 5 minutes, and {rule}."
    assert said == f"KEDA is told 50 replicas: scaling in keeps more: {words}"


@pytest.mark.parametrize(("share", "fewer"), [(0.09, 45), (0.4, 31)])
def test_a_fall_is_announced_for_when_it_comes(share: float, fewer: int) -> None:
    """The need falls at minute 151, and stays there."""
    less, announced, told = 4000.0 * (1 - share), [], []
    for minutes in range(1, 7):
        plan = plans(workload_of(), [4000.0] * 150 + [less] * minutes, [[4000.0]] * 9 + [[less]] * minutes)
        change = find_next_change(plan, plan.made_at)
        at = None if change is None else round((change.at - NOON).total_seconds() / STEP)
        announced.append((at, None if change is None else change.replicas))
        told.append(replicas_at(plan, plan.made_at))

    assert told == [50] * 4 + [fewer] * 2
    assert announced == [(155, fewer)] * 3 + [(156, fewer)] + [(None, None)] * 2  # at least two intervals ahead


def test_a_fall_that_will_not_be_followed_is_not_announced() -> None:
    plan = plans(workload_of(), [4000.0] * 150 + [3840.0], [[4000.0]] * 9 + [[3840.0]])
    assert plan.service_level is not None
    assert plan.service_level.state.before_stabilization[-1].replicas < replicas_at(plan, plan.made_at) == 50
    assert find_next_change(plan, plan.made_at) is None


def test_of_a_plan_that_grows_nothing_is_said_to_be_held() -> None:
    said = told_of([2000.0] * 150, [[2000.0]] * 9 + [[2500.0]])
    words = "30 pods are needed, and a plan that grows gets up to 5% more at once."
    assert said == f"KEDA is told 31 replicas: scaling out adds a little: {words}"


@pytest.mark.parametrize(
    ("peak", "seasonal", "words"),
    [
        (3000.0, 0.0, "what a recent peak of 3,000 needs, or the newest load"),
        (3000.0, 4000.0, "what a load of 4,000 needs, which other days had at about this time"),
        (0.0, 500.0, "what the newest load, 1,000, needs at once"),
    ],
)
def test_it_is_said_which_load_the_floor_is_for(peak: float, seasonal: float, words: str) -> None:
    snapshot = attrs.evolve(flat(1000.0, steered=True), resumption=None)
    assert snapshot.basis is not None
    facts = attrs.evolve(snapshot.basis.facts, peak=peak, seasonal=seasonal)
    snapshot = attrs.evolve(snapshot, basis=attrs.evolve(snapshot.basis, facts=facts))
    stages = explain(snapshot, snapshot.made_at, StalePolicy()).stages
    assert [stage.words for stage in stages if stage.name is StageName.FLOOR] == [words]


def test_a_peak_that_has_passed_is_no_growth_anymore() -> None:
    """The plan grew for the next minutes, and falls afterwards; it is read when they are over."""
    policy = attrs.evolve(POLICY, down_max_pct=100.0, prewarm_steps=0)
    peak = [2500.0] + [1000.0] * 29
    snapshot = plans(workload_of(policy, lead=60.0), [1000.0] * 150, [[1000.0]] * 9 + [peak])
    snapshot = attrs.evolve(snapshot, resumption=None)
    assert ": scaling out adds a little: " in explain(snapshot, snapshot.made_at, StalePolicy()).sentence
    later = explain(snapshot, snapshot.made_at + timedelta(seconds=61), StalePolicy())
    words = ": scaling in keeps more: 12 pods would do, but more was recommended within the last 5 minutes."
    assert later.sentence.endswith(words)


@pytest.mark.parametrize("steered", [True, False])
def test_a_plan_under_changed_settings_says_so(steered: bool) -> None:
    made = attrs.evolve(flat(1000.0, steered=steered), resumption=None)
    for least, most in ((20, 50), (2, 8)):
        workload = workload_of(attrs.evolve(POLICY, bounds=ReplicaBounds(least, most)), steered=steered)
        adopted = attrs.evolve(adopt_plan(workload, made), floor=None)
        words = "a change of settings decided: the settings changed after the plan was made."
        assert explain(adopted, made.made_at, StalePolicy()).sentence.endswith(words)


def test_stale_plans_observers_and_the_unknown_past_are_told_apart() -> None:
    fresh = flat(1000.0)
    late = fresh.made_at + timedelta(seconds=200)
    stale_one = explain(fresh, late, StalePolicy(default_min=3))
    assert stale_one.sentence.startswith(
        "KEDA is told 3 replicas: the stale policy decided: the newest forecast is of 2026-03-01T14:30:00Z"
    )
    assert without(stale_one, StageName.STALE) == 12
    held = explain(fresh, late, StalePolicy(on_stale=OnStale.ERROR))
    assert held.told is None
    assert "holds its replicas; the plan says 12" in held.sentence
    observed = explain(fresh, fresh.made_at, StalePolicy(mode=Mode.OBSERVE))
    assert observed.sentence.startswith(
        "KEDA is told 0, since the mode is observe; the plan says 12 replicas: the forecast decided: 1,000 is the load"
    )
    assert observed.decided_by is StageName.MODE
    assert without(observed, StageName.MODE) == 12
    withheld = attrs.evolve(fresh, withheld=True)
    assert explain(withheld, fresh.made_at, StalePolicy(on_stale=OnStale.ERROR)).decided_by is StageName.RESUMPTION


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (Mode.SCALE, "steered so that 99 % of minutes have enough"),
        (Mode.OBSERVE, "not steered in mode observe; in mode scale it is, so that 99 % of minutes have enough"),
    ],
)
def test_the_stage_of_steering_says_whether_the_factor_moves(mode: Mode, words: str) -> None:
    snapshot = attrs.evolve(flat(1000.0, steered=True), mode=mode)
    stages = explain(snapshot, snapshot.made_at, StalePolicy()).stages
    assert [stage.words for stage in stages if stage.name is StageName.STEERING] == [words]


@pytest.mark.parametrize(
    ("spent", "words"),
    [(0.99, ""), (1.0, "; the error budget is spent: 1,106 min short of pods, 1,050 of them at max")],
)
def test_once_the_error_budget_is_spent_the_steering_says_how_many_minutes_max_explains(
    spent: float, words: str
) -> None:
    snapshot = flat(1000.0, steered=True)
    report = snapshot.service_level
    assert report is not None
    steering = attrs.evolve(report.state.steering, spent=(DaySpent(1, 40320.0, 1105.6, 0.0, 1050.0),))
    report = attrs.evolve(report, state=attrs.evolve(report.state, steering=steering), budget_spent=spent)
    stages = explain(attrs.evolve(snapshot, service_level=report), snapshot.made_at, StalePolicy()).stages
    [found] = [stage.words for stage in stages if stage.name is StageName.STEERING]
    assert found == "steered so that 99 % of minutes have enough" + words


@pytest.mark.parametrize(("load", "words"), [(10.0, "the minimum decided: 1 pod"), (1000.0, "the forecast decided: ")])
def test_in_mode_observe_the_sentence_gives_the_reason_of_the_plan(load: float, words: str) -> None:
    snapshot = flat(load)
    for policy in (StalePolicy(mode=Mode.OBSERVE), StalePolicy(stale_after=1.0, mode=Mode.OBSERVE)):
        later = snapshot.made_at + timedelta(seconds=2)
        said = explain(snapshot, later, policy)
        assert (said.told, said.decided_by) == (0, StageName.MODE)
        assert f"; the plan says {said.planned} replicas: {words}" in said.sentence


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


# -- stage by stage --


def told_by(explanation: Explanation) -> dict[StageName, tuple[float | None, str]]:
    """The value and the words of each stage."""
    return {stage.name: (stage.value, stage.words) for stage in explanation.stages}


def test_the_stages_of_a_plan_by_headroom_are_all_that_it_goes_through() -> None:
    snapshot = flat(1000.0)
    stages = explain(snapshot, snapshot.made_at + timedelta(seconds=20), StalePolicy()).stages
    assert [(stage.name.value, stage.value) for stage in stages] == [
        ("newest-load", 1000.0),
        ("age", 80.0),  # the last step was measured as it began
        ("lead-time", 300.0),
        ("forecast", 1000.0),
        ("target-per-pod", 100.0),
        ("headroom", 1.2),
        ("rounding", None),
        ("dead-band", 12.0),
        ("min", 2.0),
        ("max", 50.0),
        ("change-limits", 12.0),
        ("hold", 12.0),
        ("floor", 11.0),
        ("stale-policy", 120.0),
        ("mode", None),
    ]
    words = {stage.name.value: stage.words for stage in stages}
    assert words["lead-time"] == (
        "the plan is read from 14:30:20 UTC to 14:35:20 UTC; its largest step begins at 14:30:00 UTC"
    )
    assert words["headroom"] == "the headroom that was set"
    assert words["change-limits"] == "a step may have 2 times as many, or 50 % fewer"
    assert words["hold"] == "nothing is kept from the last minutes"
    assert words["floor"] == "what the newest load, 1,000, needs at once"
    assert words["stale-policy"] == "the forecast is 20 s old, and stale after 2 min (default-min)"


@pytest.mark.parametrize(
    ("headroom", "words"), [(None, "steered so that 99 % of minutes have enough"), (1.5, "the headroom that was set")]
)
def test_it_is_said_who_sets_the_factor(headroom: float | None, words: str) -> None:
    workload = attrs.evolve(workload_of(), goal=ServiceLevelGoal(headroom=headroom))
    snapshot = plans(workload, [1000.0] * 150, [[1000.0]] * 2)
    said = told_by(explain(snapshot, snapshot.made_at, StalePolicy()))
    factor = snapshot.service_level.factor if snapshot.service_level is not None else None
    assert said[StageName.STEERING] == (factor, words)
    assert StageName.LOAD_CAP not in said
    assert StageName.HEADROOM not in said


def test_the_step_that_is_explained_is_the_largest_within_the_lead_time() -> None:
    rising = [1000.0] * 6 + [3000.0] * 24
    policy = attrs.evolve(POLICY, prewarm_steps=0, up_max_factor=10.0)
    snapshot = plans(workload_of(policy, steered=False), [1000.0] * 150, [rising])
    said = told_by(explain(snapshot, snapshot.made_at, StalePolicy()))
    assert said[StageName.FORECAST] == (1000.0, "the load expected at 14:30:00 UTC")
    later = told_by(explain(snapshot, snapshot.made_at + timedelta(minutes=1), StalePolicy()))
    assert later[StageName.FORECAST] == (3000.0, "the load expected at 14:36:00 UTC")
    prewarmed = plans(workload_of(attrs.evolve(policy, prewarm_steps=2), steered=False), [1000.0] * 150, [rising])
    said = told_by(explain(prewarmed, prewarmed.made_at, StalePolicy()))
    assert said[StageName.FORECAST] == (1000.0, "the load expected at 14:34:00 UTC")
    assert said[StageName.PREWARM] == (3000.0, "the load expected at 14:36:00 UTC, for which the step is prewarmed")


def test_the_words_of_the_dead_band_say_what_it_keeps_and_why() -> None:
    """The explanation of a plan for 1000, with a dead band around the earlier recommendation of 12."""
    snapshot = flat(1000.0)
    basis = snapshot.basis
    assert basis is not None

    def said(forecast: float, recent: float, noise: float) -> tuple[float | None, str]:
        changed = attrs.evolve(basis, facts=attrs.evolve(basis.facts, recent=recent, noise=noise))
        made = Forecast(snapshot.made_at, STEP, np.full(30, forecast))
        replicas = make_stages(changed, made).replicas
        plan = attrs.evolve(snapshot, forecast=made, replicas=replicas, basis=changed)
        return told_by(explain(plan, plan.made_at, StalePolicy()))[StageName.DEAD_BAND]

    assert said(1005.0, 1005.0, 0.01) == (
        12.0,
        "13 pods differ from the 12 planned before by no more than the noise of the load",
    )
    kept, words = said(910.0, 1000.0, 0.02)
    assert kept == 12.0
    assert words.startswith("11 pods would do by now, but the largest load of the last 15 minutes, with its noise, ")
    assert words.endswith("needs the 12 planned before")
    assert said(2000.0, 1000.0, 0.01) == (
        12.0,
        "the need differs from the 12 planned before by more than the noise of the load",
    )


def test_a_rest_and_a_sparse_load_are_named() -> None:
    policy = attrs.evolve(POLICY, bounds=ReplicaBounds(0, 50), down_max_pct=100.0)
    workload = attrs.evolve(workload_of(policy, steered=False), reactive_headroom=None)
    idle = plans(workload, [500.0] * 60 + [0.0] * 90, [[5.0]])
    said = explain(attrs.evolve(idle, resumption=None), idle.made_at, StalePolicy())
    assert (said.decided_by, said.told) == (StageName.REST, 0)
    assert told_by(said)[StageName.REST] == (0.0, "the workload is idle, and no load is expected")
    sparse = plans(workload, ([1.0] + [0.0] * 19) * 8, [[0.0]])
    said = explain(attrs.evolve(sparse, resumption=None), sparse.made_at, StalePolicy())
    assert (said.decided_by, said.told) == (StageName.REST, 1)
    assert told_by(said)[StageName.REST] == (1.0, "load comes too often to let the last pod go")


def test_a_plan_that_the_last_forecast_of_the_model_holds_says_so() -> None:
    seen, high, low = [1000.0] * 150, [3000.0] * 30, [1000.0] * 30
    before = plans(workload_of(), seen, [high])
    history = Series(NOON, STEP, np.array(seen))
    at = before.made_at + timedelta(minutes=1)
    status = model_failed(ValueError("it broke"))
    snapshot = plan_step_without_model(workload_of(), history, at, status, before)
    assert snapshot is not None
    explained = explain(attrs.evolve(snapshot, resumption=None), at, StalePolicy())
    assert ": the last plan of the model decided: " in explained.sentence
    hold = told_by(explained)[StageName.HOLD]
    assert hold[1].endswith("would do, but the last forecast of the model asked for more")
    assert told_by(explain(snapshot, at, StalePolicy()))[StageName.FORECAST][1] == (
        f"a naive forecast (the last value), since {status.reason}"
    )
    assert plans(workload_of(), seen, [high, low]).replicas[20] < before.replicas[20]


@pytest.mark.parametrize("prewarm_steps", [0, 2])
def test_each_step_is_shown_with_its_load_its_quantile_and_what_it_needs_by_itself(prewarm_steps: int) -> None:
    policy = attrs.evolve(POLICY, prewarm_steps=prewarm_steps, up_max_factor=1.5)
    snapshot = plans(workload_of(policy, steered=True), [1000.0] * 150, [[1000.0], [1000.0, 2000.0]])
    shown = explain(snapshot, snapshot.made_at, StalePolicy()).plan
    assert snapshot.service_level is not None
    assert [step.at for step in shown] == [snapshot.made_at + timedelta(minutes=i) for i in range(30)]
    assert [step.load for step in shown] == snapshot.forecast.values.tolist()
    assert [step.upper for step in shown] == pytest.approx(snapshot.service_level.upper.tolist())
    assert shown[1].upper > 1.05 * shown[1].load
    factor = snapshot.service_level.factor
    assert [step.planned_for for step in shown] == pytest.approx([step.upper * factor for step in shown])
    assert [step.needed for step in shown] == [math.ceil((step.planned_for or 0) / 100) for step in shown]
    assert [step.replicas for step in shown] == snapshot.replicas.tolist()


def test_a_plan_with_a_fixed_headroom_is_for_the_forecast_times_that() -> None:
    snapshot = flat(1000.0)
    assert {step.planned_for for step in explain(snapshot, snapshot.made_at, StalePolicy()).plan} == {1200.0}


def test_no_load_is_planned_for_while_a_workload_rests() -> None:
    policy = attrs.evolve(POLICY, bounds=ReplicaBounds(0, 50))
    snapshot = plans(workload_of(policy, steered=False), [0.0] * 150, [[0.5]] * 2)
    assert {(step.planned_for, step.needed) for step in explain(snapshot, snapshot.made_at, StalePolicy()).plan} == {
        (0.0, 0)
    }


@pytest.mark.parametrize(
    ("model", "factor", "why"),
    [
        (Calibration(0.5, 0.5, (-0.9, 0.5)), 1.1, "as most forecasts were too high"),
        (Calibration(0.01, 0.01, (0.1, 0.5)), 0.8, "as fewer pods have been enough"),
    ],
)
def test_it_is_said_why_less_is_planned_for_than_forecast(model: Calibration, factor: float, why: str) -> None:
    snapshot = attrs.evolve(flat(1000.0, steered=True, expected=2000.0), resumption=None)
    basis = snapshot.basis
    assert isinstance(basis, SteeredBasis)
    state = attrs.evolve(
        basis.state,
        uncertainty=attrs.evolve(basis.state.uncertainty, model=model),
        steering=attrs.evolve(basis.state.steering, factor=factor),
        before_stabilization=(),
        last_recommendation=None,
    )
    basis = attrs.evolve(basis, state=state, previous=PreviousPlan())
    stages = make_stages(basis, snapshot.forecast)
    lower = attrs.evolve(snapshot, basis=basis, replicas=stages.replicas, floor=None)
    explained = explain(lower, lower.made_at, StalePolicy())
    words = f" is the load expected at {show_time(lower.made_at)}, but "
    assert words in explained.sentence
    assert explained.sentence.endswith(f" is planned for, {why}, at 100 a pod.")
    quantile = told_by(explained)[StageName.QUANTILE][1]
    assert quantile.endswith(": most forecasts were too high") is (model.thresholds[0] < 0)
    assert all((step.planned_for or 0) < step.load for step in explained.plan)


def test_a_snapshot_without_what_it_was_made_from_shows_its_forecast() -> None:
    received = attrs.evolve(flat(1000.0), basis=None)
    explained = explain(received, received.made_at, StalePolicy())
    assert {step.planned_for for step in explained.plan} == {None}
    said = told_by(explained)
    assert said[StageName.FORECAST] == (1000.0, "the forecast")
    assert said[StageName.HOLD] == (12.0, "the plan as it was received")


# -- without each limit, and under other settings --


def received(floor: int | None, served: int | None) -> Snapshot:
    """A plan of 3 now and 8 within the lead time."""
    resumption = None if served is None else Resumption(NOON, served)
    return attrs.evolve(make_snapshot(floor=floor), resumption=resumption)


@pytest.mark.parametrize(
    ("floor", "served", "lead", "no_floor", "no_resumption"),
    [(None, None, 3, 8, 8), (9, None, 9, 8, 9), (4, 12, 12, 12, 8), (10, 9, 10, 9, 10), (6, 5, 6, 8, 8)],
)
def test_without_lead_time_floor_or_start_what_is_left_of_them_counts(
    floor: int | None, served: int | None, lead: int, no_floor: int, no_resumption: int
) -> None:
    snapshot = received(floor, served)
    found = without_each_limit(snapshot, snapshot.made_at, leave_out_each(snapshot, None), StalePolicy())
    assert found[StageName.LEAD_TIME] == lead
    assert found[StageName.FLOOR] == no_floor
    assert found[StageName.RESUMPTION] == no_resumption
    assert found[StageName.STALE] == found[StageName.MODE] == replicas_at(snapshot, snapshot.made_at)
    assert StageName.HOLD not in found


@pytest.mark.parametrize("steered", [True, False])
def test_without_a_bound_the_plan_is_made_as_if_there_were_none(steered: bool) -> None:
    high = flat(90_000.0, steered=steered)
    assert (without(explain(high, high.made_at, StalePolicy()), StageName.MAXIMUM) or 0) > 900
    assert without(explain(high, high.made_at, StalePolicy()), StageName.MINIMUM) == 50


@pytest.mark.parametrize(("reactive", "needed"), [(1.1, 22), (None, 2)])
def test_without_the_hold_what_is_needed_counts(reactive: float | None, needed: int) -> None:
    """A plan that has just fallen from 3000 to nothing, while the newest load is 2000."""
    workload = attrs.evolve(workload_of(), reactive_headroom=reactive, goal=ServiceLevelGoal(headroom=1.0))
    snapshot = plans(workload, [3000.0] * 148 + [2000.0] * 2, [[3000.0]] * 3 + [[0.0]])
    snapshot = attrs.evolve(snapshot, resumption=None)
    stages = make_stages(snapshot.basis, snapshot.forecast) if snapshot.basis is not None else None
    assert stages is not None
    found = without_each_limit(snapshot, snapshot.made_at, leave_out_each(snapshot, stages), StalePolicy())
    assert found[StageName.HOLD] == max(int(stages.limited[:6].max()), needed)
    assert replicas_at(snapshot, snapshot.made_at) >= 30


def test_a_floor_that_a_partial_answer_keeps_is_kept_under_other_settings_within_their_bounds() -> None:
    kept = attrs.evolve(flat(1000.0), floor=30)
    assert flat(1000.0).floor == 11
    assert what_if(kept, OtherSettings(target_per_pod=50.0)).floor == 30
    assert what_if(kept, OtherSettings(target_per_pod=20.0)).floor == 50
    assert what_if(kept, OtherSettings(max=20)).floor == 20
    assert what_if(flat(1000.0), OtherSettings(target_per_pod=200.0)).floor == 6, "one that is not kept may fall"
    assert what_if(attrs.evolve(kept, floor=None), OtherSettings(target_per_pod=50.0)).floor == 22


def test_what_was_served_before_a_start_lies_within_the_bounds_that_are_tried() -> None:
    snapshot = attrs.evolve(flat(1000.0), resumption=Resumption(NOON, 30))
    assert what_if(snapshot, OtherSettings(max=20)).served_before == 20
    assert what_if(snapshot, OtherSettings(min=40)).served_before == 40
    unknown = attrs.evolve(snapshot, resumption=Resumption(NOON, None))
    assert what_if(unknown, OtherSettings(min=40)).resumption == Resumption(NOON, None)


def test_a_bound_that_is_tried_is_held_against_the_other_one_in_force() -> None:
    assert OtherSettings(max=1).find_problems(flat(100.0)) == ("min (2) must not be above max (1)",)
    assert OtherSettings(min=51).find_problems(flat(100.0)) == ("min (51) must not be above max (50)",)
    assert OtherSettings(max=0).find_problems(flat(100.0)) == OtherSettings(max=2).find_problems(flat(100.0)) == ()


def test_the_reason_alone_is_that_of_the_whole_explanation() -> None:
    for snapshot in (flat(1000.0), flat(10.0, steered=True), make_snapshot()):
        sentence = explain(snapshot, snapshot.made_at, StalePolicy()).sentence
        assert sentence.endswith(f": {find_reason(snapshot, snapshot.made_at, StalePolicy())}.")


def test_a_load_that_is_dated_after_now_has_no_age() -> None:
    snapshot = flat(1000.0)
    early = told_by(explain(snapshot, snapshot.made_at - timedelta(minutes=3), StalePolicy()))
    assert early[StageName.AGE][0] == 0.0


@pytest.mark.parametrize("steered", [True, False])
def test_without_prewarming_and_limits_of_change_only_what_is_needed_within_the_lead_time_counts(steered: bool) -> None:
    policy = attrs.evolve(POLICY, up_max_factor=1.5, down_max_pct=10.0)
    workload = attrs.evolve(workload_of(policy, steered=steered), reactive_headroom=None)
    rising = plans(workload, [1000.0] * 150, [[1000.0], [1000.0] * 8 + [5000.0] * 22])
    made_at = rising.made_at
    assert rising.basis is not None
    found = without_each_limit(
        rising, made_at, leave_out_each(rising, make_stages(rising.basis, rising.forecast)), StalePolicy()
    )
    later = attrs.evolve(policy, up_max_factor=1e12)
    other = make_stages(with_policy(rising.basis, later), rising.forecast).replicas
    assert found[StageName.CHANGE_LIMITS] == max(int(other[:6].max()), rising.served_before)
    other = make_stages(with_policy(rising.basis, attrs.evolve(policy, prewarm_steps=0)), rising.forecast).replicas
    assert found[StageName.PREWARM] == max(int(other[:6].max()), rising.served_before)
    assert int(other[6]) > int(other[:6].max())


def test_without_limits_of_change_a_plan_falls_at_once() -> None:
    slow = attrs.evolve(POLICY, down_max_pct=10.0, prewarm_steps=0)
    workload = attrs.evolve(workload_of(slow, steered=False), reactive_headroom=None)
    falling = plans(workload, [3000.0] * 150, [[3000.0], [500.0]])
    falling = attrs.evolve(falling, resumption=None)
    explanation = explain(falling, falling.made_at, StalePolicy())
    assert explanation.told == 32
    assert without(explanation, StageName.CHANGE_LIMITS) == 6


def test_without_the_dead_band_what_is_needed_counts() -> None:
    snapshot = flat(1000.0)
    assert snapshot.basis is not None
    noisy = attrs.evolve(snapshot.basis, facts=attrs.evolve(snapshot.basis.facts, recent=1000.0, noise=0.02))
    made = Forecast(snapshot.made_at, STEP, np.full(30, 910.0))
    stages = make_stages(noisy, made)
    kept = attrs.evolve(snapshot, forecast=made, replicas=stages.replicas, floor=None, resumption=None, basis=noisy)
    found = without_each_limit(kept, kept.made_at, leave_out_each(kept, stages), StalePolicy())
    assert (replicas_at(kept, kept.made_at), found[StageName.HOLD]) == (12, max(12, stages.needed_floor or 0))
    assert found[StageName.DEAD_BAND] == 11


@pytest.mark.parametrize(
    ("steered", "recent", "ahead", "more"),
    [
        (False, 1000.0, [910.0], None),
        (False, 1000.0, [910.0, 910.0, 910.0, 1000.0], "; without it, forecast leads to as many at 14:33:00 UTC"),
        (True, 1250.0, [1100.0], "; without it, hold leads to as many"),
    ],
)
def test_of_a_stage_that_decided_in_vain_it_is_said_what_else_leads_to_as_many(
    steered: bool, recent: float, ahead: list[float], more: str | None
) -> None:
    policy = attrs.evolve(POLICY, prewarm_steps=0)
    snapshot = attrs.evolve(flat(1000.0, policy, steered=steered), resumption=None)
    assert snapshot.basis is not None
    noisy = attrs.evolve(snapshot.basis, facts=attrs.evolve(snapshot.basis.facts, recent=recent, noise=0.02))
    made = Forecast(snapshot.made_at, STEP, np.resize(ahead, 30))
    kept = attrs.evolve(snapshot, forecast=made, replicas=make_stages(noisy, made).replicas, floor=None, basis=noisy)
    explained = explain(kept, kept.made_at, StalePolicy())
    words = told_by(explained)[StageName.DEAD_BAND][1]
    assert explained.decided_by is StageName.DEAD_BAND
    assert (without(explained, StageName.DEAD_BAND) == explained.planned) is (more is not None)
    assert words.endswith(more) if more else "without it" not in words
    assert "without it" not in explained.sentence
    assert [stage.name for stage in explained.stages if "without it" in stage.words] == (
        [StageName.DEAD_BAND] if more else []
    )


def test_settings_may_be_tried_one_after_the_other() -> None:
    snapshot = attrs.evolve(flat(1000.0), resumption=None)
    assert what_if(snapshot, OtherSettings(headroom=2.0)).replicas[20] == 20
    narrow = what_if(snapshot, OtherSettings(max=8))
    assert set(what_if(narrow, OtherSettings(headroom=2.0)).replicas.tolist()) == {8}
    off = attrs.evolve(workload_of(steered=False), reactive_headroom=None)
    without_floor = plans(off, [1000.0] * 9, [[1000.0]])
    assert what_if(without_floor, OtherSettings(target_per_pod=10.0)).floor is None


@pytest.mark.parametrize("steered", [True, False])
def test_a_load_that_needs_more_pods_than_a_number_can_say_is_explained_quietly(steered: bool) -> None:
    """An overflow of numpy is a warning, which is an error in tests."""
    few = attrs.evolve(POLICY, target_per_pod=1e-8)
    snapshot = plans(workload_of(few, steered=steered), [1e304] * 150, [[1e304]] * 9)
    assert explain(snapshot, snapshot.made_at, StalePolicy()).told == 50


@pytest.mark.parametrize("steered", [True, False])
def test_a_lead_time_that_is_tried_is_that_of_the_plan_and_of_its_reading(steered: bool) -> None:
    snapshot = flat(1000.0, steered=steered)
    tried = what_if(snapshot, OtherSettings(lead_time=120.0))
    assert (snapshot.lead_time, tried.lead_time) == (300.0, 120.0)
    if steered:
        assert isinstance(tried.basis, SteeredBasis)
        assert tried.basis.settings.lead_steps(STEP) == 3
        assert tried.service_level is not None
    else:
        assert tried.service_level is None


def test_a_floor_that_is_off_is_said_to_be() -> None:
    workload = attrs.evolve(workload_of(steered=False), reactive_headroom=None)
    snapshot = plans(workload, [1000.0] * 150, [[1000.0]] * 2)
    said = told_by(explain(snapshot, snapshot.made_at, StalePolicy()))
    assert said[StageName.FLOOR] == (None, "the reactive floor is off")
