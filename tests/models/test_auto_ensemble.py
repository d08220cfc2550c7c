# SPDX-License-Identifier: Apache-2.0
"""How the experts of the auto model are combined: by hand-worked errors, each forecast scored once, when it is due."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.series import Floats, Series
from kedastral.models.auto.ensemble import (
    DRIFT_CORRECTED,
    LAST_VALUE,
    MEMBERS,
    DecayingMean,
    Drift,
    Ensemble,
    Scores,
    Surprise,
)
from kedastral.models.auto.experts import EXPERTS
from kedastral.models.auto.signal import Signal, make_signal

START = datetime(2026, 3, 2, tzinfo=UTC)
ZERO = START.timestamp()
HOUR, NAN = 3600.0, math.nan
ALL = slice(0, None)


def test_a_mean_forgets_half_within_its_half_life() -> None:
    mean = DecayingMean().add(4.0, 60.0, 60.0)
    assert (DecayingMean().mean, mean.mean) == (0.0, 4.0)
    assert mean.add(10.0, 60.0, 60.0).mean == pytest.approx((4 * 30 + 10 * 60) / 90)
    assert mean.add(10.0, 30.0, 60.0).mean == pytest.approx((4 * 60 * 0.5**0.5 + 10 * 30) / (60 * 0.5**0.5 + 30))


# -- errors of the last hours --


def test_errors_add_up_by_their_size_and_time_and_fade_within_hours() -> None:
    once = Scores.none(2, 2).add(np.array([[2.0, -4.0], [NAN, 1.0]]), 60.0)
    assert once.errors.tolist() == [[120.0, 240.0], [120.0, 60.0]]
    later = once.add(np.array([[0.0, NAN], [1.0, 0.0]]), 6 * HOUR)
    assert later.errors == pytest.approx(np.array([[60.0, 240.0], [60.0 + 6 * HOUR, 30.0]]))
    assert later.add(np.full((2, 2), NAN), HOUR).errors.tolist() == later.errors.tolist(), "nothing was due"


def test_a_member_that_made_no_forecast_counts_as_the_last_value_until_it_has_proved_better() -> None:
    scores = Scores.none(3, 1)
    for _ in range(360):  # the last value, one that is twice as good, and one that is not there yet
        scores = scores.add(np.array([[10.0], [5.0], [NAN]]), 60.0)
    assert scores.weights(np.ones((3, 1)), ALL)[:, 0] == pytest.approx([0, 1, 0], abs=1e-4)
    scores = scores.add(np.array([[10.0], [5.0], [0.0]]), 600.0)
    assert scores.weights(np.ones((3, 1)), ALL)[1, 0] > 0.99, "one good forecast proves little"
    for _ in range(24 * 60):
        scores = scores.add(np.array([[10.0], [5.0], [1.0]]), 60.0)
    assert scores.weights(np.ones((3, 1)), ALL)[2, 0] > 0.99


def test_during_a_surprise_they_fade_many_times_as_fast() -> None:
    scores = Scores(np.array([[100.0]]))
    assert scores.add(np.zeros((1, 1)), 6 * HOUR / 25, 1.0).errors == pytest.approx(50.0)
    assert scores.add(np.zeros((1, 1)), 6 * HOUR / 13, 0.5).errors == pytest.approx(50.0)


def test_the_smaller_the_errors_the_larger_the_weight_and_equals_share() -> None:
    weights = Scores(np.array([[1.0, 3.0], [2.0, 3.0], [1.0, 1.5]])).weights(np.ones((3, 2)), ALL)
    small = 2.0**-16
    assert weights[:, 0] == pytest.approx(np.array([1, small, 1]) / (2 + small))
    assert weights[:, 1] == pytest.approx(np.array([small, small, 1]) / (1 + 2 * small))
    assert Scores.none(4, 1).weights(np.ones((4, 1)), ALL) == pytest.approx(np.full((4, 1), 0.25))


def test_experts_that_are_next_to_perfect_are_equals() -> None:
    weights = Scores(np.array([[0.0], [1e-7], [1e-5], [1.0]])).weights(np.ones((4, 1)), ALL)[:, 0]
    assert weights[:2] == pytest.approx([0.5, 0.5])
    assert weights[2] < 1e-9


def test_a_forecast_that_there_is_not_has_no_weight() -> None:
    weights = Scores(np.array([[1.0], [2.0], [2.0]])).weights(np.array([[NAN], [1.0], [1.0]]), ALL)
    assert weights[:, 0].tolist() == [0.0, 0.5, 0.5]


def test_a_handicap_multiplies_the_errors_of_those_that_are_weighed() -> None:
    scores = Scores(np.array([[1.0], [5.0], [2.0]]))
    weights = scores.weights(np.ones((2, 1)), [2, 0], np.array([0.5, 1.0]))
    assert weights[:, 0].tolist() == [0.5, 0.5]
    weights = scores.weights(np.ones((2, 1)), [2, 0], np.array([1.0, 2.2]))
    assert weights[0, 0] == pytest.approx(1.1**16 / (1.1**16 + 1))


# -- the drift of the last minutes --


def test_part_of_what_load_was_above_the_forecast_of_late_is_added_to_it() -> None:
    drift = Drift.none(2, 2).add(np.array([[10.0, NAN], [-5.0, NAN]]), 60.0)
    assert drift.correct(np.full((2, 2), 100.0)) == pytest.approx(np.array([[104.0, 100.0], [98.0, 100.0]]))
    assert drift.correct(np.ones((2, 2))).min() == 0.0, "and never to less than no load"


def test_drift_is_forgotten_within_a_quarter_of_an_hour() -> None:
    drift = Drift.none(1, 1).add(np.array([[10.0]]), 60.0)
    later = drift.add(np.array([[NAN]]), 900.0)
    assert (later.sums.tolist(), later.mass.tolist()) == ([[300.0]], [30.0])
    both = drift.add(np.array([[40.0]]), 900.0)
    assert both.correct(np.array([[100.0]])) == pytest.approx(100 + 0.4 * (10 * 30 + 40 * 900) / 930)


def test_one_expert_that_has_no_forecast_does_not_hide_the_drift_of_another() -> None:
    drift = Drift.none(2, 1).add(np.array([[NAN], [10.0]]), 60.0)
    assert drift.correct(np.full((2, 1), 100.0))[:, 0].tolist() == [100.0, 104.0]


# -- surprise --


def surprise(usual: float, newest: float, last_value: float) -> float:
    return Surprise(*(DecayingMean(mean, 1.0) for mean in (usual, newest, last_value))).trust


def test_the_last_value_is_trusted_where_errors_are_unusual_and_its_own_are_small() -> None:
    assert Surprise().trust == 0.0
    assert surprise(1.0, 8.0, 1.0) > 0.99
    assert surprise(1.0, 1.0, 0.1) < 0.01, "errors are as usual"
    assert surprise(1.0, 8.0, 8.0) < 0.01, "the last value is no better"
    assert surprise(1.0, 2.0, 1.0) == pytest.approx(1 / 3)
    assert surprise(0.0, 4.0, 1.0) == pytest.approx(2.0**8 / (2.0**8 + 1))
    assert surprise(0.0, 0.0, 1.0) == 0.0


@given(st.floats(1e-9, 1e9), st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_unit_of_the_load_is_no_surprise(unit: float, usual: float, newest: float, last: float) -> None:
    trust = surprise(usual, newest, last)
    assert 0 <= trust <= 1
    assert surprise(usual * unit, newest * unit, last * unit) == pytest.approx(trust, abs=1e-6)


def test_what_is_usual_is_learnt_over_hours_and_what_is_new_over_minutes() -> None:
    calm = Surprise().add(2.0, 1.0, 6 * HOUR)
    seen = calm.add(10.0, 5.0, 600.0)
    assert seen.newest.mean == pytest.approx((2 * 3 * HOUR + 10 * 600) / (3 * HOUR + 600))
    assert seen.last_value.mean == pytest.approx((1 * 3 * HOUR + 5 * 600) / (3 * HOUR + 600))
    fade = 0.5 ** (600 / (6 * HOUR))
    assert seen.usual.mean == pytest.approx((2 * 6 * HOUR * fade + 10 * 600) / (6 * HOUR * fade + 600))
    for unknown in ((NAN, 1.0), (1.0, NAN)):
        assert calm.add(*unknown, 600.0) is calm


# -- all together --


def signal_of(values: object, until: int) -> Signal:
    """The load of the minutes up to minute ``until``, the last of ``values`` dated there."""
    array = np.asarray(values, dtype=np.float64)
    history = Series(START + timedelta(minutes=until - len(array) + 1), 60.0, array)
    made = make_signal(history, START + timedelta(minutes=until))
    assert made is not None
    return made


def loads(*of_knots: float) -> Floats:
    """All experts forecast the same."""
    return np.tile(np.array(of_knots), (len(EXPERTS), 1))


def test_at_first_all_share_and_the_last_value_counts_for_a_little_more_than_all_of_them() -> None:
    experts = loads(10.0, 10.0)
    experts[0], experts[-1] = 30.0, NAN
    made = Ensemble((1, 3), ZERO).predict(experts, ZERO)
    handicap = 0.96**16
    last_value = 1 / (1 + handicap)
    known = len(MEMBERS) - 1 - (EXPERTS[-1] in DRIFT_CORRECTED)  # its drift is that of no forecast either
    assert LAST_VALUE == 0
    assert made.weights[:, 0].sum() == pytest.approx(1.0)
    assert made.weights[0, 0] == pytest.approx(last_value + (1 - last_value) / known)
    assert made.loads == pytest.approx(np.full(2, 10 + 20 * made.weights[0, 0]))


def test_each_forecast_is_scored_once_in_the_step_that_it_is_for() -> None:
    ensemble = Ensemble((1, 3), ZERO)
    values: list[float] = [50.0]
    ensemble.predict(loads(10.0, 30.0), ZERO)
    seen = []
    for minute, load in enumerate([11.0, 500.0, 37.0, 500.0], start=1):
        values.append(load)
        before = ensemble.scores.errors.copy()
        ensemble.score(signal_of(values, minute), ZERO + 60 * minute)
        seen.append((ensemble.scores.errors != before).any(axis=0).tolist())
    assert seen == [[True, False], [False, False], [False, True], [False, False]]
    assert ensemble.scores.errors[LAST_VALUE].tolist() == [60.0, 7 * 60.0]
    ensemble.score(signal_of(values, 4), ZERO + 240)
    ensemble.score(signal_of(values, 4), ZERO + 180)
    assert ensemble.scores.errors[LAST_VALUE].tolist() == [60.0, 7 * 60.0], "time has not passed"


def test_after_missed_ticks_all_that_were_due_are_averaged() -> None:
    ensemble = Ensemble((1, 3), ZERO)
    values = [50.0, 60.0, 70.0, 80.0, 90.0]
    ensemble.predict(loads(10.0, 30.0), ZERO)
    ensemble.predict(loads(999.0, 999.0), ZERO)  # asked again at the same time: the first counts
    ensemble.score(signal_of(values[:2], 1), ZERO + 60)
    ensemble.predict(loads(20.0, 40.0), ZERO + 60)
    errors = ensemble._errors(signal_of(values, 4), ZERO + 240, 3.0)
    assert errors[LAST_VALUE].tolist() == [70.0 - 20.0, ((80.0 - 30.0) + (90.0 - 40.0)) / 2]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 2), st.sets(st.integers(0, 40)))
def test_whenever_it_is_asked_a_forecast_is_held_against_the_load_of_its_own_step(
    pauses: list[int], beyond: int, unknown: set[int]
) -> None:
    knots = (1, 2, 5)
    load = 100.0 + np.arange(60.0) ** 2
    times = np.cumsum([0, *pauses]).tolist()
    ensemble = Ensemble(knots, ZERO)
    for i, at in enumerate(times):
        signal = signal_of(load[: at + 1 + beyond], at + beyond)  # what lies after now is not looked at
        for minute in unknown:
            if minute <= at:
                signal.scorable[minute] = False
        if i:
            ensemble._now = ZERO + 60 * times[i - 1]
            errors = ensemble._errors(signal, ZERO + 60 * at, float(at - times[i - 1]))[LAST_VALUE]
            for k, ahead in enumerate(knots):
                due = [t for t in times[:i] if times[i - 1] < t + ahead <= at and (t + ahead) not in unknown]
                expected = np.mean([load[t + ahead] - (1000 * t + k) for t in due]) if due else NAN
                assert errors[k] == pytest.approx(expected, nan_ok=True)
            ensemble.score(signal, ZERO + 60 * at)
        ensemble.predict(loads(*(1000.0 * at + k for k in range(3))), ZERO + 60 * at)


def test_what_fills_an_outage_that_has_ended_scores_nothing() -> None:
    ensemble = Ensemble((1, 3), ZERO)
    ensemble.predict(loads(90.0, 90.0), ZERO)
    late = ensemble._errors(signal_of([50.0, NAN], 1), ZERO + 60, 1.0)
    assert late[LAST_VALUE] == pytest.approx([-40.0, NAN], nan_ok=True), "samples that come late score as they did"
    ended = ensemble._errors(signal_of([50.0, NAN, NAN, 91.0], 3), ZERO + 180, 3.0)
    assert ended[LAST_VALUE] == pytest.approx([NAN, 1.0], nan_ok=True)


def test_forecasts_are_kept_until_their_last_step_has_been_scored() -> None:
    ensemble = Ensemble((1, 3), ZERO)
    for minute in range(9):
        ensemble.score(signal_of(np.full(9, 5.0), minute), ZERO + 60 * minute)
        ensemble.predict(loads(5.0, 5.0), ZERO + 60 * minute)
    assert [(issued.end - ZERO) / 60 for issued in ensemble._issued] == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("step", "ahead", "tells"), [(60.0, 2, True), (60.0, 3, False), (300.0, 1, True), (300.0, 2, False)]
)
def test_only_errors_of_the_next_two_minutes_or_of_the_next_step_tell_of_a_surprise(
    step: float, ahead: int, tells: bool
) -> None:
    ensemble = Ensemble((ahead,), ZERO)
    ensemble.predict(loads(10.0), ZERO)
    signal = make_signal(Series(START, step, np.full(ahead + 1, 15.0)), START + timedelta(seconds=step * ahead))
    assert signal is not None
    ensemble.score(signal, signal.end)
    assert ensemble._surprise.newest.mean == (5.0 if tells else 0.0)


def test_after_a_jump_the_last_value_takes_over_within_minutes() -> None:
    ensemble = Ensemble((1, 30), ZERO)
    values = [100.0]
    weights = []
    for minute in range(1, 260):
        now, load = ZERO + 60 * minute, 100.0 if minute < 240 else 1000.0
        experts = loads(100.0, 100.0)
        experts[LAST_VALUE] = values[-1] + (minute % 2) * 5.0
        ensemble.predict(experts, now - 60)
        values.append(load)
        ensemble.score(signal_of(values, minute), now)
        experts[LAST_VALUE] = load
        weights.append(ensemble.predict(experts, now).weights[LAST_VALUE, 1])
    assert weights[200] < 0.6
    assert weights[-1] > 0.8, "also at horizons whose errors do not tell of it yet"
