# SPDX-License-Identifier: Apache-2.0
"""The feedback: the rule by hand-worked numbers, each guard separately, and the share of minutes it settles at."""

import json
import math
from datetime import UTC, datetime, timedelta

import attrs
import cattrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import MAX_REPLICAS, PlanPolicy, ReplicaBounds
from kedastral.core.planning.load_cap import MAX_CAP_RELAXATION
from kedastral.core.planning.stabilization import Recommendation
from kedastral.core.planning.steering import (
    BUDGET_DAYS,
    MAX_ALLOWED,
    MAX_FACTOR,
    MAX_PEAK_HOLD,
    MIN_FACTOR,
    Account,
    DaySpent,
    SteeringSettings,
    SteeringState,
    StepOutcome,
    add_recommendation,
    allowed_share,
    apply_outcome,
    factor_of,
    judge_steps,
    longest_gap,
    next_peak_hold,
    rate_of,
    recommended_for,
)
from kedastral.core.series import Series, epoch_seconds

START = datetime(2026, 3, 2, tzinfo=UTC)
ZERO = START.timestamp()
FIRST_DATED = START + timedelta(minutes=1)  # the value of the minute that begins at START
SETTINGS = SteeringSettings(PlanPolicy(10.0, bounds=ReplicaBounds(1, 40)), 0.99, 300.0)
ENOUGH, SHORT = StepOutcome(ZERO, 1.0, 49.0, 5), StepOutcome(ZERO, 1.0, 51.0, 5)


def factor_after(
    outcome: StepOutcome, settings: SteeringSettings = SETTINGS, factor: float | None = 1.0
) -> float | None:
    return apply_outcome(SteeringState(factor), outcome, settings).factor


def recommendations(*replicas: int, first: float = 0.0, apart: float = 60.0) -> tuple[Recommendation, ...]:
    return tuple(Recommendation(ZERO + first + i * apart, count) for i, count in enumerate(replicas))


def ready_during(
    published: tuple[Recommendation, ...], at: float, step: float, settings: SteeringSettings
) -> int | None:
    """The pods Ready in the step that begins at ``at``, None if unknown."""
    return min((entry.replicas for entry in recommended_for(published, at, step, settings)), default=None)


def test_a_minute_short_of_pods_raises_the_factor_a_hundred_good_ones_take_it_back() -> None:
    assert factor_after(SHORT) == pytest.approx(math.exp(0.015 * 0.99))
    assert factor_after(ENOUGH) == pytest.approx(math.exp(-0.015 * 0.01))


@pytest.mark.parametrize(("level", "rate"), [(0.9, 0.015 * 0.1**0.5), (0.99, 0.015), (0.9999, 0.15)])
def test_rarer_violations_count_for_more(level: float, rate: float) -> None:
    assert attrs.evolve(SETTINGS, service_level=level).rate == pytest.approx(rate)


def rate_after(days: float, budgets: float, **changes: float) -> float:
    """The rate after days that spent this many times their budget, as a share of the first rate."""
    settings = attrs.evolve(SETTINGS, **changes)
    spent = (DaySpent(0, days * 1440, days * 1440 * budgets * settings.budget),)
    return rate_of(SteeringState(1.0, spent=spent), settings) / settings.rate


def test_the_more_minutes_short_the_factor_has_learnt_from_the_less_one_moves_it() -> None:
    assert rate_after(1, 1.0) == pytest.approx(1.0)
    assert rate_after(4, 1.0) == pytest.approx(0.5)
    assert rate_after(4, 1.0, service_level=0.999) == pytest.approx(0.5)


def test_without_minutes_short_the_factor_falls_as_fast_as_ever() -> None:
    assert rate_after(28, 0.0) == 1.0


def test_minutes_short_come_in_runs_of_the_lead_time_and_count_together() -> None:
    assert rate_after(1, 1.0, lead_time=900.0) == pytest.approx(3**-0.5)
    assert rate_after(4, 1.0, lead_time=60.0) == 1.0


def test_a_level_that_is_missed_is_learnt_from_as_fast_as_one_that_is_kept() -> None:
    assert rate_after(4, 5.0) == rate_after(4, 1.0)


def test_after_weeks_the_factor_still_follows() -> None:
    assert rate_after(28, 1.0) == 0.2


def test_a_minute_short_moves_the_factor_by_the_rate() -> None:
    spent = (DaySpent(int(ZERO // 86400), 4 * 1440.0, 4 * 14.4),)
    moved = apply_outcome(SteeringState(1.0, spent=spent), SHORT, SETTINGS)
    assert moved.factor == pytest.approx(math.exp(0.015 * 0.99 / 2), rel=1e-3)


def test_longer_steps_count_for_their_minutes() -> None:
    assert factor_after(attrs.evolve(SHORT, minutes=5.0)) == pytest.approx(math.exp(5 * 0.015 * 0.99))


@pytest.mark.parametrize(("level", "first"), [(0.9, 1.1), (0.995, 1.1), (0.999, 1.2), (0.9999, 1.2)])
def test_where_it_begins(level: float, first: float) -> None:
    assert factor_of(SteeringState(), attrs.evolve(SETTINGS, service_level=level)) == first


def test_load_at_exactly_what_the_pods_sustain_is_enough() -> None:
    assert factor_after(attrs.evolve(ENOUGH, load=50.0)) == factor_after(ENOUGH)


# -- guards --


def test_a_good_minute_at_the_minimum_of_replicas_moves_nothing() -> None:
    assert factor_after(attrs.evolve(ENOUGH, ready=1, load=0.0)) == 1.0


def test_a_short_minute_at_the_minimum_of_replicas_does() -> None:
    assert factor_after(attrs.evolve(SHORT, ready=1)) == factor_after(SHORT)


@pytest.mark.parametrize("load", [0.0, 399.0, 401.0])
def test_at_the_maximum_of_replicas_nothing_moves(load: float) -> None:
    assert factor_after(attrs.evolve(ENOUGH, ready=40, load=load)) == 1.0


@pytest.mark.parametrize(
    ("factor", "load", "peak", "longer"),
    [
        (1.0, 99.0, 200.0, False),
        (1.0, 101.0, 200.0, True),
        (2.0, 51.0, 60.0, True),
        (1.0, 200.0, 101.0, True),  # not all of it, but more than the factor would have brought
        (1.0, 200.0, 99.0, False),
    ],
)
def test_a_minute_short_by_more_than_the_factor_could_add_lengthens_the_hold_after_such_a_peak(
    factor: float, load: float, peak: float, longer: bool
) -> None:
    state = SteeringState(factor, peak_hold=600.0)
    assert (apply_outcome(state, attrs.evolve(SHORT, load=load, peak=peak), SETTINGS).peak_hold > 600.0) == longer


@pytest.mark.parametrize(("seen", "longer"), [((90.0, 90.0), True), ((90.0, 1.0), False), ((1.0, 1.0), False)])
def test_a_peak_counts_if_it_had_lasted_when_pods_had_to_be_ordered(seen: tuple[float, ...], longer: bool) -> None:
    state = SteeringState(1.0, ZERO + 60 * 7, recommendations(*[2] * 8), peak_hold=600.0)
    history = Series(FIRST_DATED, 60.0, np.array([*seen, 1.0, 1.0, 90.0, 90.0, 90.0, 90.0]))
    assert (judge_steps(state, history, SETTINGS).peak_hold > 600.0) == longer


@pytest.mark.parametrize(("first", "longer"), [((1.0, 90.0, 90.0, 1.0), True), ((1.0, 1.0, 90.0, 90.0), False)])
def test_pods_for_a_peak_must_have_been_known_a_lead_time_before(first: tuple[float, ...], longer: bool) -> None:
    state = SteeringState(1.0, ZERO + 60 * 7, recommendations(*[2] * 8), peak_hold=600.0)
    history = Series(FIRST_DATED, 60.0, np.array([*first, *[90.0] * 4]))
    assert (judge_steps(state, history, SETTINGS).peak_hold > 600.0) == longer


@pytest.mark.parametrize(
    ("hours", "peak_hold", "days", "longer"),
    [
        (5, 600.0, None, True),
        (6, 600.0, 1, False),
        (20, 600.0, 1, False),
        (6, 2700.0, 1, True),
        (20, 2700.0, 2.9, True),
        (20, 2700.0, 3.1, False),
        (20, 80000.0, None, False),
    ],
)
def test_a_peak_that_no_hold_would_last_for_lengthens_it_only_if_others_keep_it_up(
    hours: int, peak_hold: float, days: float | None, longer: bool
) -> None:
    """``days`` ago there was the last jump that a hold could bridge."""
    quiet = [1.0] * (60 * hours)
    end = len(quiet) + 6
    bridged_at = None if days is None else ZERO + 60 * end - 86400 * days
    state = SteeringState(
        1.0,
        ZERO + 60 * (end - 3),
        recommendations(*[2] * end),
        peak_hold=min(peak_hold, 86000.0),
        bridged_at=bridged_at,
    )
    peak_hold = state.peak_hold
    history = Series(FIRST_DATED, 60.0, np.array([90.0, 90.0, *quiet, 90.0, 90.0, 90.0, 90.0]))
    assert (judge_steps(state, history, SETTINGS).peak_hold > peak_hold) == longer


def test_a_jump_that_a_hold_can_bridge_is_remembered_and_no_other() -> None:
    jump = attrs.evolve(SHORT, load=200.0)
    state = SteeringState(1.0, peak_hold=3600.0)
    assert apply_outcome(state, attrs.evolve(jump, peak=200.0), SETTINGS).bridged_at == ZERO
    older = attrs.evolve(jump, older_peak=200.0, at=ZERO + 60)
    assert apply_outcome(state, older, SETTINGS).bridged_at is None
    assert apply_outcome(attrs.evolve(state, bridged_at=ZERO), older, SETTINGS).bridged_at == ZERO


@pytest.mark.parametrize("lead", [60.0, 300.0, 900.0])
@pytest.mark.parametrize("level", [0.9, 0.99, 0.995, 0.999])
def test_the_longest_gap_is_what_is_left_of_the_longest_hold_by_its_end(level: float, lead: float) -> None:
    gap = longest_gap(SteeringState(1.0), attrs.evolve(SETTINGS, service_level=level, lead_time=lead))
    hold, waited = MAX_PEAK_HOLD, 0.0
    while hold > waited:
        hold, waited = next_peak_hold(hold, 1.0, 1 - level, lead, longer_helps=False), waited + 60.0
    assert gap == pytest.approx(waited, abs=61.0)


def test_a_good_minute_shortens_the_hold_unless_a_guard_keeps_it() -> None:
    state = SteeringState(1.0, peak_hold=600.0)
    assert apply_outcome(state, ENOUGH, SETTINGS).peak_hold < 600.0
    assert apply_outcome(state, attrs.evolve(ENOUGH, ready=1, load=9.0), SETTINGS).peak_hold == 600.0
    assert apply_outcome(state, attrs.evolve(SHORT, ready=40, load=4e3), SETTINGS).peak_hold == 600.0
    assert apply_outcome(state, ENOUGH, attrs.evolve(SETTINGS, observing=True)).peak_hold == 600.0


def test_rests_leave_more_of_the_budget_to_the_minutes_under_load() -> None:
    def allowed(resting: float, short: float, level: float = 0.99) -> float:
        spent = (DaySpent(1, 1440.0, short, resting), DaySpent(2, 1440.0, 0.0, resting))
        state, settings = SteeringState(1.0, spent=spent), attrs.evolve(SETTINGS, service_level=level)
        return allowed_share(state, settings, state.minutes_at_minimum)

    assert allowed(0, 0) == pytest.approx(0.01)
    assert allowed(720, 0) == pytest.approx(0.02)
    assert allowed(720, 14.4) == pytest.approx(0.015)  # half of the budget is left
    assert allowed(720, 100) == pytest.approx(0.01)  # none is left
    assert allowed(1400, 0) == MAX_ALLOWED
    assert allowed(1440, 0, 0.8) == pytest.approx(0.2)  # never less than the budget


def test_rests_take_back_a_raised_factor_sooner_but_leave_the_bare_quantile_alone() -> None:
    rested = (DaySpent(20514, 1440.0, 0.0, 720.0),)

    def change(factor: float, spent: tuple[DaySpent, ...]) -> float:
        after = apply_outcome(SteeringState(factor, spent=spent), ENOUGH, SETTINGS).factor
        assert after is not None
        return math.log(after / factor)

    assert change(1.2, rested) == pytest.approx(2 * change(1.2, ()), rel=0.01)
    assert change(0.9, rested) == pytest.approx(change(0.9, ()))


def test_a_minute_at_rest_is_one_with_enough_pods_at_the_minimum() -> None:
    def resting(outcome: StepOutcome) -> float:
        return apply_outcome(SteeringState(1.0), outcome, SETTINGS).minutes_at_minimum

    assert resting(StepOutcome(ZERO, 5.0, 9.0, 1)) == 5
    assert resting(StepOutcome(ZERO, 5.0, 11.0, 1)) == resting(StepOutcome(ZERO, 5.0, 9.0, 2)) == 0


def test_a_minute_is_idle_if_the_minimum_sustains_its_load_however_many_pods_there_are() -> None:
    def idle(outcome: StepOutcome) -> float:
        return apply_outcome(SteeringState(1.0), outcome, SETTINGS).minutes_idle

    assert idle(StepOutcome(ZERO, 5.0, 9.0, 1)) == idle(StepOutcome(ZERO, 5.0, 9.0, 20)) == 5
    assert idle(StepOutcome(ZERO, 5.0, 11.0, 20)) == idle(StepOutcome(ZERO, 5.0, 11.0, 1)) == 0
    from_zero = attrs.evolve(SETTINGS, policy=PlanPolicy(10.0, bounds=ReplicaBounds(0, 40)))
    state = apply_outcome(SteeringState(1.0), StepOutcome(ZERO, 5.0, 3.0, 1), from_zero)
    assert state.minutes_idle == 0


def test_pods_that_the_hold_keeps_for_an_idle_load_do_not_keep_the_hold() -> None:
    def shortened(resting: float, idle: float) -> float:
        day = DaySpent(20514, 1440.0, 0.0, resting, idle=idle)
        state = SteeringState(1.0, peak_hold=6 * 3600.0, spent=(day,))
        return math.log(state.peak_hold / apply_outcome(state, ENOUGH, SETTINGS).peak_hold)

    assert shortened(0.0, 720.0) == pytest.approx(2 * shortened(0.0, 0.0), rel=0.01)
    assert shortened(720.0, 720.0) == shortened(0.0, 720.0)


def test_without_a_maximum_there_is_none_to_be_at() -> None:
    settings = attrs.evolve(SETTINGS, policy=PlanPolicy(10.0, bounds=ReplicaBounds(1, 0)))

    assert factor_after(attrs.evolve(SHORT, ready=40, load=401.0), settings) == factor_after(SHORT)


def test_in_mode_observe_minutes_are_counted_and_nothing_moves() -> None:
    observed = apply_outcome(SteeringState(1.0), SHORT, attrs.evolve(SETTINGS, observing=True))
    acted_on = apply_outcome(SteeringState(1.0), SHORT, SETTINGS)
    assert (observed.factor, observed.peak_hold) == (1.0, SteeringState().peak_hold)
    assert (observed.spent, observed.account) == (acted_on.spent, acted_on.account)


def test_minutes_without_effect_spend_the_budget_all_the_same() -> None:
    state = apply_outcome(SteeringState(1.0), attrs.evolve(SHORT, ready=40, load=401.0), SETTINGS)

    assert (state.factor, state.minutes_short) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("ready", "load", "most", "at_max"),
    [
        (40, 401.0, 40, 1.0),
        (41, 411.0, 40, 1.0),  # the maximum was lowered since
        (40, 399.0, 40, 0.0),  # all were needed, and were enough
        (39, 401.0, 40, 0.0),  # one more was allowed, but came late
        (40, 401.0, 0, 0.0),  # 0 means no maximum
    ],
)
def test_a_short_minute_counts_as_at_the_maximum_if_there_were_as_many_pods(
    ready: int, load: float, most: int, at_max: float
) -> None:
    settings = attrs.evolve(SETTINGS, policy=PlanPolicy(10.0, bounds=ReplicaBounds(1, most)))
    state = apply_outcome(SteeringState(), attrs.evolve(SHORT, ready=ready, load=load), settings)
    assert state.minutes_at_max == at_max
    observed = apply_outcome(SteeringState(), SHORT, attrs.evolve(settings, observing=True))
    assert observed.minutes_at_max == 0


@pytest.mark.parametrize(("at_max", "mostly"), [(0.0, False), (5.0, False), (5.1, True)])
def test_most_short_minutes_are_at_the_maximum_if_more_than_half_are(at_max: float, mostly: bool) -> None:
    days = DaySpent(1, 100.0, 6.0, 0.0, at_max), DaySpent(2, 100.0, 4.0)
    assert SteeringState(spent=days).is_mostly_at_max is mostly
    assert not SteeringState().is_mostly_at_max


def test_the_minutes_short_in_all_never_fall_while_those_of_four_weeks_do() -> None:
    state = SteeringState()
    for day in range(40):
        state = apply_outcome(state, attrs.evolve(SHORT, at=ZERO + 86400.0 * day), SETTINGS)
        state = apply_outcome(state, attrs.evolve(ENOUGH, at=ZERO + 86400.0 * day), SETTINGS)
    assert (state.minutes_short, state.account.short) == (BUDGET_DAYS, 40)


def test_missing_values_are_not_judged() -> None:
    state = SteeringState(1.0, ZERO + 60, recommendations(*[1] * 8))
    judged = judge_steps(state, Series(FIRST_DATED, 60.0, np.array([0.0, 90.0, np.nan, 90.0])), SETTINGS)

    assert (judged.minutes, judged.judged_until) == (0.0, ZERO + 240)  # nor what no pod could have been ordered for
    state = SteeringState(1.0, ZERO + 300, recommendations(*[1] * 9))
    values = np.array([0.0] * 5 + [90.0, np.nan, 90.0])
    assert judge_steps(state, Series(FIRST_DATED, 60.0, values), SETTINGS).minutes == 2.0


def test_a_minute_served_from_a_stale_plan_is_not_judged() -> None:
    # nothing was recommended for three minutes
    before, after = recommendations(5, 5, 5), recommendations(5, 5, 5, first=300.0)

    assert ready_during((*before, *after), ZERO + 420, 60.0, SETTINGS) is None


def test_the_factor_stays_in_its_bounds_and_says_so() -> None:
    assert factor_after(SHORT, factor=MAX_FACTOR) == MAX_FACTOR
    assert factor_after(ENOUGH, factor=MIN_FACTOR) == MIN_FACTOR
    assert SteeringState(MAX_FACTOR).is_factor_at_max
    assert SteeringState(1.97).is_factor_at_max  # it comes down a little between two violations
    assert not SteeringState(1.9).is_factor_at_max
    assert not SteeringState().is_factor_at_max


# -- hindsight --


def test_ready_is_the_minimum_recommended_since_a_pod_would_have_had_to_be_ordered() -> None:
    # a lead of 5 minutes: what is ordered as minute 0 ends, at 60 s, serves from minute 5, at 300 s
    recommended = recommendations(9, 4, 8, 7, 6, 5, 3)  # at 0, 60, ... 360 s

    assert ready_during(recommended, ZERO + 300, 60.0, SETTINGS) == 4
    assert ready_during(recommended, ZERO + 360, 60.0, SETTINGS) == 3


def test_what_is_recommended_later_does_not_count() -> None:
    assert ready_during(recommendations(9, 4, 8, 7, 6, 5, 1), ZERO + 300, 60.0, SETTINGS) == 4


def test_nothing_is_known_before_the_first_lead_has_passed() -> None:
    assert ready_during(recommendations(9, 9, 9, first=60.0), ZERO + 180, 60.0, SETTINGS) is None
    assert ready_during((), ZERO, 60.0, SETTINGS) is None


def test_what_was_in_force_when_the_lead_began_counts() -> None:
    # recommended every 90 s: at 0, 90 ... and at 60 s still the first is in force
    assert ready_during(recommendations(2, 7, 7, 7, apart=90.0), ZERO + 300, 60.0, SETTINGS) == 2


def test_with_long_steps_recommendations_lie_a_step_apart_and_none_is_stale_for_that() -> None:
    settings = attrs.evolve(SETTINGS, lead_time=600.0)

    assert ready_during(recommendations(4, 5, 6, apart=300.0), ZERO + 600, 300.0, settings) == 5
    assert ready_during(recommendations(4, 5, 6, apart=451.0), ZERO + 902, 300.0, settings) is None


@pytest.mark.parametrize("step", [0.1, 0.7, 60.0])
@pytest.mark.parametrize("towards", [-math.inf, 0.0, math.inf])
def test_the_rounding_of_epoch_seconds_decides_nothing(step: float, towards: float) -> None:
    settings = attrs.evolve(SETTINGS, lead_time=3 * step, stale_after=step)
    times = [epoch_seconds(START + timedelta(seconds=i * step)) for i in range(200)]
    begins = [math.nextafter(at, towards) if towards else ZERO + i * step for i, at in enumerate(times)]

    rising = tuple(Recommendation(at, 1000 + i) for i, at in enumerate(times))
    ready = [ready_during(rising, begins[i], step, settings) for i in range(2, 200)]
    assert ready == [1000 + i - 2 for i in range(2, 200)], "that of two steps before, and no earlier one"

    falling = tuple(Recommendation(at, 1000 - i) for i, at in enumerate(times))
    ready = [ready_during(falling, begins[i], step, settings) for i in range(2, 200)]
    assert ready == [1000 - i for i in range(2, 200)], "that of the moment at which the step begins"


def test_recommendations_as_far_apart_as_stale_after_were_all_served() -> None:
    step = 0.3
    settings = attrs.evolve(SETTINGS, lead_time=6 * step, stale_after=2 * step)
    recommended = tuple(Recommendation(epoch_seconds(START + timedelta(seconds=2 * i * step)), 7) for i in range(100))

    assert {ready_during(recommended, ZERO + i * step, step, settings) for i in range(10, 200)} == {7}


def test_a_lead_of_one_step_looks_at_the_newest_alone() -> None:
    settings = attrs.evolve(SETTINGS, lead_time=60.0)

    assert ready_during(recommendations(2, 7, 8), ZERO + 120, 60.0, settings) == 8


def test_a_minute_is_judged_by_the_fewest_pods_that_were_recommended_for_it() -> None:
    state = SteeringState(1.0, ZERO + 300, recommendations(7, 7, 5, 7, 7, 7, 7, 7, 7))
    judged = judge_steps(state, Series(FIRST_DATED, 60.0, np.full(9, 60.0)), SETTINGS)

    assert (judged.minutes, judged.minutes_short) == (4.0, 2.0)


def test_every_value_is_judged_once() -> None:
    state = SteeringState(1.0, ZERO + 300, recommendations(*[5] * 8))
    history = Series(FIRST_DATED, 60.0, np.full(7, 51.0))
    once = judge_steps(state, history, SETTINGS)

    assert (once.minutes, once.minutes_short, once.judged_until) == (2.0, 2.0, ZERO + 420)
    assert judge_steps(once, history, SETTINGS) == once


def test_a_value_that_comes_late_is_judged_when_it_comes() -> None:
    state = SteeringState(1.0, ZERO + 300, recommendations(*[5] * 9))
    late = judge_steps(state, Series(FIRST_DATED, 60.0, np.array([51.0] * 6 + [np.nan])), SETTINGS)
    assert (late.minutes, late.judged_until) == (1.0, ZERO + 360)

    assert judge_steps(late, Series(FIRST_DATED, 60.0, np.full(8, 51.0)), SETTINGS).minutes == 3.0
    assert judge_steps(late, Series(FIRST_DATED, 60.0, np.full(8, np.nan)), SETTINGS) is late


def test_what_was_judged_is_not_judged_again_after_a_history_that_ends_before_it() -> None:
    """As after the newest points have proved to be partial, or not to be load."""
    state = SteeringState(1.0, ZERO + 420, recommendations(*[5] * 8))
    shorter = judge_steps(state, Series(FIRST_DATED, 60.0, np.full(6, 51.0)), SETTINGS)

    assert shorter == state
    assert judge_steps(shorter, Series(FIRST_DATED, 60.0, np.full(7, 51.0)), SETTINGS).minutes == 0.0


@pytest.mark.parametrize("hours", [1, 24, 24 * 365])
def test_once_the_clock_has_been_set_back_minutes_are_judged_again_at_once(hours: int) -> None:
    """And not only from the time on that the clock had reached."""
    state = SteeringState(1.0, ZERO + 3600 * hours, recommendations(5))
    for minute in range(10):
        state = judge_steps(state, Series(FIRST_DATED, 60.0, np.full(minute + 1, 51.0)), SETTINGS)
        state = add_recommendation(state, ZERO + 60.0 * (minute + 1), 5, 60.0, SETTINGS)

    assert state.judged_until == ZERO + 600
    assert state.minutes_short == 10 - 4  # those of the first lead time were ordered before the first recommendation


def test_of_a_history_that_begins_later_what_it_holds_is_judged() -> None:
    state = SteeringState(1.0, ZERO + 300, recommendations(*[5] * 20))
    later = Series(FIRST_DATED + timedelta(minutes=10), 60.0, np.full(5, 51.0))
    judged = judge_steps(state, later, SETTINGS)
    assert (judged.minutes, judged.judged_until) == (5.0, ZERO + 900)


def test_the_past_before_the_first_tick_is_nobodys_doing() -> None:
    state = judge_steps(SteeringState(), Series(FIRST_DATED, 60.0, np.full(60, 1e6)), SETTINGS)

    assert (state.factor, state.minutes, state.judged_until) == (None, 0.0, ZERO + 60 * 60)


def test_of_the_recommendations_of_one_step_the_minimum_is_kept() -> None:
    state = SteeringState()
    for at, replicas in ((0, 5), (30, 4), (60, 9), (90, 11)):
        state = add_recommendation(state, ZERO + at, replicas, 60.0, SETTINGS)

    assert state.published == (Recommendation(ZERO, 4), Recommendation(ZERO + 60, 9))


def test_only_what_can_still_be_judged_is_kept() -> None:
    state = SteeringState()
    for minute in range(1000):
        state = add_recommendation(state, ZERO + 60.0 * minute, 5, 60.0, SETTINGS)

    assert len(state.published) == 21  # the lead, 5 minutes, and a quarter of an hour


# -- the budget --


def test_the_budget_spent_is_reported_over_four_weeks() -> None:
    state = SteeringState()
    for day in range(40):
        for _ in range(99):
            state = apply_outcome(state, attrs.evolve(ENOUGH, at=ZERO + 86400.0 * day), SETTINGS)
        state = apply_outcome(state, attrs.evolve(SHORT, at=ZERO + 86400.0 * day), SETTINGS)

    assert (state.minutes, state.minutes_short) == (BUDGET_DAYS * 100, BUDGET_DAYS)
    assert [day.minutes for day in state.spent] == [100.0] * BUDGET_DAYS
    assert state.budget_spent(SETTINGS) == pytest.approx(1.0)
    assert state.budget_spent(attrs.evolve(SETTINGS, service_level=0.995)) == pytest.approx(2.0)


def test_without_a_minute_judged_nothing_is_spent() -> None:
    assert SteeringState().budget_spent(SETTINGS) == 0.0


def test_a_short_minute_just_after_the_start_is_held_against_the_budget_of_a_day() -> None:
    state = apply_outcome(apply_outcome(SteeringState(), ENOUGH, SETTINGS), SHORT, SETTINGS)
    assert (state.minutes, state.minutes_short) == (2, 1)
    assert state.budget_spent(SETTINGS) == pytest.approx(1 / (1440 * 0.01))


def test_the_state_can_be_stored() -> None:
    state = attrs.evolve(
        apply_outcome(SteeringState(), SHORT, SETTINGS), published=recommendations(1, 2), judged_until=ZERO
    )
    again = cattrs.structure(json.loads(json.dumps(cattrs.unstructure(state))), SteeringState)

    assert again == state


# -- in the long run --


@pytest.mark.parametrize("level", [0.95, 0.99, 0.995])
def test_the_share_of_short_minutes_settles_at_the_budget(level: float) -> None:
    settings = attrs.evolve(SETTINGS, service_level=level)
    rng = np.random.default_rng(1)
    state, short = SteeringState(), 0
    for load in 100 * np.exp(rng.normal(0, 0.15, 20_000)):
        ready = math.ceil(100 * factor_of(state, settings) / 10)
        state = apply_outcome(state, StepOutcome(ZERO, 1.0, load, ready), settings)
        short += load > ready * 10

    assert short / 20_000 == pytest.approx(1 - level, rel=0.25)


@given(st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 60)), max_size=80), st.floats(0.5, 0.9999))
def test_whatever_happens_the_factor_is_bounded(minutes: list[tuple[float, int]], level: float) -> None:
    settings = attrs.evolve(SETTINGS, service_level=level)
    state = SteeringState()
    for load, ready in minutes:
        state = apply_outcome(state, StepOutcome(ZERO, 1.0, load, ready), settings)

        assert MIN_FACTOR <= factor_of(state, settings) <= MAX_FACTOR


@pytest.mark.parametrize("level", [0.99, 0.999])
def test_rests_take_a_raised_factor_to_one_and_no_further_even_with_long_steps(level: float) -> None:
    settings = attrs.evolve(SETTINGS, service_level=level)
    rested = (DaySpent(int(ZERO // 86400), 20000.0, 0.0, 20000.0),)
    hour = attrs.evolve(ENOUGH, minutes=60.0)
    assert allowed_share(SteeringState(spent=rested), settings, 20000.0) == MAX_ALLOWED
    after = apply_outcome(SteeringState(1.05, spent=rested), hour, settings).factor
    assert after == pytest.approx(1.0)


def test_a_short_step_of_a_week_is_no_number_too_large() -> None:
    settings = attrs.evolve(SETTINGS, service_level=0.9999, lead_time=60.0)
    week = StepOutcome(ZERO, 10080.0, 200.0, 5, peak=200.0, uncapped=20)
    after = apply_outcome(SteeringState(1.0), week, settings)
    assert (after.factor, after.peak_hold) == (MAX_FACTOR, MAX_PEAK_HOLD)
    assert after.cap_relaxation == MAX_CAP_RELAXATION


def test_the_account_of_a_load_too_large_for_any_pods_stays_finite() -> None:
    account = Account()
    for minute in range(3):
        account = account.add(StepOutcome(60.0 * minute, 1.0, 1.7e308, 3), 1e-9)
    assert account == Account(needed=3.0 * MAX_REPLICAS, unserved=3.0 * (MAX_REPLICAS - 3))


def test_pods_that_were_needed_missing_and_spare_are_counted() -> None:
    account = Account().add(StepOutcome(0.0, 1.0, 50.0, 3), 10.0).add(StepOutcome(60.0, 0.5, 20.0, 6), 10.0)

    assert account == Account(needed=5 + 1, unserved=2.0, spare=2.0)
