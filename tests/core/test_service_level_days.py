# SPDX-License-Identifier: Apache-2.0
"""Scripted days: how the feedback reacts when load shifts, drops, starts from zero, or is not measured."""

import numpy as np
import pytest

from kedastral.core.planning.service_level import MARGIN_EXPONENT
from kedastral.core.planning.steering import MAX_FACTOR, MIN_FACTOR
from kedastral.core.series import Floats
from tests.core.service_level_runs import DAY, TARGET, drive

pytestmark = pytest.mark.slow

HOUR = 60


def noisy(load: float, minutes: int, seed: int = 1, spread: float = 0.05) -> Floats:
    return np.asarray(load * np.exp(np.random.default_rng(seed).normal(0, spread, minutes)))


def test_a_shift_up_by_three_is_short_for_about_the_lead_time() -> None:
    run = drive(np.concatenate([noisy(100, DAY), noisy(300, DAY, 2)]))

    # the pods ordered as the first minute ends serve five minutes later
    assert run.minutes_short(DAY, DAY + HOUR) <= 10
    assert run.minutes_short(DAY + HOUR) <= 0.03 * DAY
    assert run.factors.min() > MIN_FACTOR
    assert run.factors.max() < 1.4


def test_a_shift_down_by_three_gives_pods_back_within_minutes() -> None:
    run = drive(np.concatenate([noisy(300, DAY), noisy(100, DAY, 2)]))

    assert run.minutes_short(DAY, DAY + HOUR) <= 2
    assert run.served[DAY + 8 : DAY + 20].max() < 0.6 * run.served[DAY - 1]
    # the margin that the jump itself widened is gone within hours
    assert run.served[DAY + 6 * HOUR :].mean() < 16
    assert run.minutes_short(DAY) <= 0.03 * DAY


def test_a_quiet_week_winds_nothing_down_and_the_return_does_not_pay_for_it() -> None:
    busy = noisy(200, DAY)
    quiet = noisy(2, 3 * DAY, 2)  # 1 %: one pod is more than enough
    run = drive(np.concatenate([busy, quiet, noisy(200, DAY, 3)]))
    back = 4 * DAY

    # what is left of winding down: while the pods of the busy day are still there
    assert run.factors[back - 1] == pytest.approx(run.factors[DAY - 1], rel=0.02)
    assert run.served[DAY + HOUR : back].max() <= 2
    assert run.minutes_short(back, back + HOUR) <= 10
    assert run.minutes_short(back) <= 0.03 * DAY


def test_a_launch_from_zero_is_short_for_about_the_lead_time() -> None:
    run = drive(np.concatenate([np.zeros(DAY), noisy(300, DAY)]))

    assert run.served[:DAY].max() == 1
    assert run.minutes_short(0, DAY) == 0
    assert run.minutes_short(DAY, DAY + HOUR) <= 10
    assert run.served[DAY + 6 * HOUR :].mean() < 45  # not for long twice what is needed
    assert run.factors.max() < 1.3


def test_a_day_without_measurements_teaches_nothing() -> None:
    missing = np.full(DAY, np.nan)
    run = drive(np.concatenate([noisy(200, DAY), missing, noisy(200, DAY, 2)]))
    gone, back = DAY + 5, 2 * DAY

    assert np.ptp(run.factors[gone:back]) == 0.0
    # nor do the first minutes after it, for which nothing was recommended a lead time before
    assert run.factors[back + 2] == run.factors[gone]
    assert run.minutes_short(back) <= 0.03 * DAY
    assert run.state.steering.minutes == pytest.approx(2 * DAY, abs=20)


def test_single_missing_minutes_change_little() -> None:
    loads = noisy(200, 2 * DAY)
    holed = loads.copy()
    holed[np.random.default_rng(4).random(len(loads)) < 0.1] = np.nan
    whole, run = drive(loads), drive(holed)

    assert run.factors[-1] == pytest.approx(whole.factors[-1], rel=0.1)
    assert run.minutes_short(DAY) <= 0.03 * DAY


def test_at_the_maximum_the_factor_does_not_run_away() -> None:
    run = drive(np.concatenate([noisy(100, DAY), noisy(500, DAY, 2)]), max_replicas=30)

    assert run.minutes_short(DAY + HOUR) == DAY - HOUR
    assert run.served[DAY + HOUR :].min() == 30
    assert run.factors[-1] == pytest.approx(run.factors[DAY + HOUR], rel=0.01)


def test_where_nothing_acts_on_it_the_factor_stays() -> None:
    run = drive(np.concatenate([noisy(100, 200), noisy(300, 200, 2)]), observing=True)

    assert np.ptp(run.factors) == 0.0
    assert run.state.steering.minutes_short > 0, "the minutes are counted all the same"


@pytest.mark.parametrize("level", [0.95, 0.99, 0.995])
def test_the_stated_level_is_kept_on_noise_that_no_forecast_foresees(level: float) -> None:
    run = drive(noisy(200, 6 * DAY, spread=0.15), level)

    assert run.short[DAY:].mean() == pytest.approx(1 - level, rel=0.35)
    assert run.factors.max() < MAX_FACTOR
    assert run.state.steering.minutes_short == pytest.approx(run.minutes_short(), abs=6)


def test_load_that_is_on_or_off_for_hours_keeps_its_pods_once_the_budget_is_spent() -> None:
    loads = noisy(20, 5 * DAY)
    for on in range(0, len(loads), 4 * HOUR):  # twenty-fold for two hours, after two hours of nothing
        loads[on : on + 2 * HOUR] *= 20.0
    run = drive(loads)

    assert run.short[:DAY].mean() > 0.01
    assert run.short[2 * DAY :].mean() <= 0.015
    assert run.factors.max() < MAX_FACTOR  # which would not have helped


def test_jumps_that_nothing_announces_bring_the_factor_to_its_cap() -> None:
    loads = noisy(20, 3 * DAY)
    # one minute in two hours on the average: too rare for the quantile, too many for the level, at no time that recurs
    loads[np.random.default_rng(7).choice(3 * DAY, 36, replace=False)] *= 20.0
    run = drive(loads, 0.999)

    assert run.state.steering.is_factor_at_max
    # A strict level multiplies the margin too, to the power that MARGIN_EXPONENT says, and without a week of history no
    # cap on load holds it. The margin itself, a logarithm, is 0.27 at the most here.
    widest = np.exp(0.3 * MAX_FACTOR**MARGIN_EXPONENT)
    assert run.served.max() <= loads.max() * widest * MAX_FACTOR / TARGET


def test_a_batch_that_begins_unforeseen_each_night_keeps_no_pods_for_the_rest_of_the_day() -> None:
    """Its first minutes are short whatever the factor, and within the budget of the whole day."""
    rng, load = np.random.default_rng(3), np.zeros(10 * DAY)
    for night in range(10):
        begins = night * DAY + 3 * HOUR + int(rng.integers(-30, 30))
        load[begins : begins + 2 * HOUR] = noisy(300, 2 * HOUR, night)
    run = drive(load)

    resting = np.convolve(load, np.ones(HOUR), "full")[: len(load)] == 0
    assert 0.002 * len(load) < run.minutes_short() < 0.01 * len(load)
    assert run.served[resting].mean() < 1.05
    assert run.factors[-1] < 1.2
    assert run.state.steering.minutes_at_minimum > 8 * DAY


def test_batches_that_no_hold_can_bridge_keep_no_pods_for_the_rest_of_the_day() -> None:
    """Two starts a day spend more than the budget of 0.995, but each is too far away from the next for a hold."""
    rng, load = np.random.default_rng(3), np.zeros(10 * DAY)
    for night in range(10):
        for hour, jitter in ((4, 90), (16, 90)):
            begins = night * DAY + hour * HOUR + int(rng.integers(-jitter, jitter))
            load[begins : begins + HOUR] += noisy(300, HOUR, night)
    run = drive(load, 0.995)

    resting = np.convolve(load, np.ones(4 * HOUR), "full")[: len(load)] == 0
    assert run.minutes_short() > 0.005 * len(load)
    assert run.served[resting].mean() < 1.05
