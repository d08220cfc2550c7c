# SPDX-License-Identifier: Apache-2.0
"""What the auto model keeps between forecasts: when it continues, when it starts again, and when it fits what."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from kedastral.core.series import Floats, Series
from kedastral.models.auto import AutoModel
from kedastral.models.auto.ensemble import LAST_VALUE, MEMBERS
from kedastral.models.auto.features import find_seasons
from kedastral.models.auto.model import KNOTS, Learner, _choose_replayed
from kedastral.models.auto.signal import Signal, make_signal

START = datetime(2026, 3, 2, tzinfo=UTC)
NAN = math.nan
FIVE = 300.0


def load(size: int, seed: int = 1) -> Floats:
    """A day in steps of five minutes, with noise."""
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.05, size))
    return np.asarray((200 - 100 * np.cos(2 * np.pi * np.arange(size) / 288)) * noise)


def history_of(values: Sequence[float] | Floats, begin: float = 0.0, step: float = FIVE) -> Series:
    """A history whose first value is dated ``begin`` steps after the start."""
    return Series(START + timedelta(seconds=begin * step), step, values)


def end_of(history: Series) -> datetime:
    return history.time_at(len(history) - 1)


def signal_of(values: Floats, step: float = FIVE) -> Signal:
    history = history_of(values, step=step)
    signal = make_signal(history, end_of(history))
    assert signal is not None
    return signal


def learner_of(size: int, knots: tuple[int, ...] = (1, 4)) -> Learner:
    return Learner.fitted(knots, find_seasons(signal_of(load(size)), UTC))


# -- from horizons to steps --


def test_between_two_horizons_the_forecast_is_a_line_and_each_step_has_its_own_end() -> None:
    request = AutoModel()._prepare(history_of(load(20)), end_of(history_of(load(20))), 5)
    assert request.knots == (1, 2, 3, 5)
    assert request.interpolate(np.array([10.0, 20.0, 30.0, 70.0])).tolist() == [10, 20, 30, 50, 70]
    assert request.interpolate(np.array([-10.0, 20.0, 30.0, 70.0]))[0] == 0.0


def test_steps_finer_than_a_minute_lie_around_the_middle_of_theirs() -> None:
    history = history_of(np.full(40, 5.0), step=30.0)
    request = AutoModel()._prepare(history, end_of(history), 5)
    assert request.knots == (1, 2, 3)  # minutes; the last half minute needs the third
    assert request.interpolate(np.array([10.0, 20.0, 30.0])) == pytest.approx([10.0, 12.5, 17.5, 22.5, 27.5])


def test_horizons_reach_as_far_as_the_forecast_and_no_further() -> None:
    history = history_of(load(20))
    for steps in (1, 30, 288):
        knots = AutoModel()._prepare(history, end_of(history), steps).knots
        assert knots == (*(knot for knot in KNOTS if knot < steps), steps)


@pytest.mark.parametrize(("gaps", "bridged"), [(0, 0), (1, 0), (2, 2), (10, 10), (11, 0)])
def test_a_short_gap_at_the_end_is_forecast_over_and_a_longer_one_filled(gaps: int, bridged: int) -> None:
    history = history_of([*range(10, 30), *[NAN] * gaps], step=60.0)
    request = AutoModel()._prepare(history, end_of(history), 30)
    assert request.bridged == bridged
    assert request.signal.end == end_of(history).timestamp() - 60.0 * bridged
    assert len(request.signal) == 20 + gaps - bridged
    line = request.interpolate(np.array(request.knots) * 10.0)[:20]
    assert line == pytest.approx((np.arange(1, 21) + bridged) * 10.0), "each step is that much further ahead"


# -- whether it continues --


def goes_on(before: Series, history: Series) -> bool:
    model = AutoModel()
    model.forecast(before, end_of(before), 3)
    return model._continues(history)


BEFORE = history_of(load(40))
"""A history whose newest sixteen values are compared: indices 24 to 39."""


def changed(first: int, last: int, value: float = 1.0) -> Series:
    values = load(45)
    values[first:last] = value
    return history_of(values)


def test_a_history_that_holds_most_of_the_newest_values_goes_on() -> None:
    assert goes_on(BEFORE, changed(0, 0))
    assert goes_on(BEFORE, history_of(load(45)[30:], 30)), "its beginning is forgotten"
    assert goes_on(BEFORE, changed(24, 31)), "seven of sixteen are others"
    assert not goes_on(BEFORE, changed(24, 32))
    assert goes_on(BEFORE, changed(0, 24)), "what lies before is not compared"
    assert goes_on(BEFORE, changed(40, 45))
    assert goes_on(history_of(load(10)), history_of(load(12))), "there may be fewer of them"


def test_a_history_of_other_times_steps_or_loads_does_not() -> None:
    assert not goes_on(BEFORE, history_of(load(45)[40:], 40)), "nothing is in both"
    assert not goes_on(BEFORE, history_of(load(99)[70:], 70))
    assert not goes_on(history_of(np.full(40, 5.0)), history_of(np.full(300, 5.0), step=60.0))
    assert not goes_on(BEFORE, history_of(load(45, seed=2)))
    assert not goes_on(BEFORE, history_of(load(45), 1)), "the same loads a step later"


def test_a_value_that_is_known_in_one_of_them_alone_is_no_other_load() -> None:
    assert goes_on(BEFORE, changed(24, 38, NAN))
    assert goes_on(history_of(changed(24, 38, NAN).values[:40]), changed(0, 0))
    assert not goes_on(BEFORE, changed(24, 40, NAN)), "nothing is left to compare"


def test_a_forecast_of_another_length_begins_anew_and_one_of_the_same_goes_on() -> None:
    model, history = AutoModel(), history_of(load(200))
    model.forecast(history, end_of(history), 3)
    learner = model._learner
    model.recall(history, end_of(history), 3)
    assert model._learner is learner
    assert model.forecast(history, end_of(history), 30) == AutoModel().forecast(history, end_of(history), 30)
    assert model._learner is not learner


def test_what_is_restored_is_all_that_was_kept() -> None:
    model, again = AutoModel(), AutoModel()
    for size in range(200, 204):
        history = history_of(load(size))
        model.forecast(history, end_of(history), 6)
    memory = model.memory()
    assert memory is not None
    again.restore(memory)
    kept = again.memory()
    assert kept is not None
    assert kept.keys() == memory.keys()
    for name, values in memory.items():
        np.testing.assert_array_equal(kept[name], values)


def test_on_another_grid_there_is_nothing_to_compare() -> None:
    assert goes_on(BEFORE, history_of(load(40, seed=2), 0.5))
    assert not goes_on(BEFORE, history_of(load(40, seed=2), 0.005))


def test_it_begins_anew_after_a_day_without_a_tick_and_once_its_history_has_doubled() -> None:
    learner = learner_of(100)
    now = learner._now
    for seconds, fits in ((0, True), (86400, True), (86700, False), (-600, True), (-900, False)):
        moved = signal_of(load(100 + seconds // 300))
        assert moved.end - now == seconds
        learner._first_length = 10_000
        assert learner.fits(moved) == fits
    learner._first_length = 100
    assert learner.fits(signal_of(load(199)))
    assert not learner.fits(signal_of(load(200)))
    learner._first_length = 4 * 288  # that was long enough
    learner._now = signal_of(load(8 * 288)).end
    assert learner.fits(signal_of(load(8 * 288)))


# -- what is fitted when --


def test_one_ridge_at_a_time_is_fitted_again_and_each_after_six_hours() -> None:
    """In steps of a minute, with three between fits, and twelve before one with random features."""
    values, knots = load(900), (1, 4)
    learner = Learner.fitted(knots, find_seasons(signal_of(values[:400], 60.0), UTC))
    fitted: list[tuple[int, int, int]] = []
    before = learner._fitted_at.copy()
    for minute in range(401, 800):
        learner.update(find_seasons(signal_of(values[:minute], 60.0), UTC))
        for knot, kind in np.argwhere(learner._fitted_at != before).tolist():
            fitted.append((minute, knot, kind))
        before = learner._fitted_at.copy()
    first = [(401, 0, 0), (404, 1, 0), (407, 0, 1), (410, 1, 1), (422, 0, 2), (434, 1, 2)]
    again = [(minute + 360, knot, kind) for minute, knot, kind in first]
    assert fitted == [*first, *again]


def test_asked_again_at_the_same_time_nothing_is_fitted_or_scored() -> None:
    learner = learner_of(200)
    seasons = find_seasons(signal_of(load(201)), UTC)
    learner.update(seasons)
    once = {name: values.copy() for name, values in learner.memory.items()}
    learner.update(seasons)
    learner.update(find_seasons(signal_of(load(200)), UTC))
    for name, values in learner.memory.items():
        np.testing.assert_array_equal(values, once[name])


def test_a_new_learner_is_scored_on_the_newest_part_that_it_was_not_fitted_on() -> None:
    assert learner_of(400).ensemble._now == signal_of(load(300)).end, "a quarter of a short history"
    assert learner_of(1300).ensemble._now == signal_of(load(1300 - 288)).end, "a day of a long one"


def test_the_newest_hours_are_replayed_step_by_step_and_those_before_every_five_minutes() -> None:
    rows = _choose_replayed(signal_of(load(2000), 60.0), 500).tolist()
    assert rows[-360:] == list(range(1640, 2000))
    assert rows[:-360] == [1999 - back for back in range(495, 359, -5)]
    assert _choose_replayed(signal_of(load(9)), 0).tolist() == []


def test_what_is_learnt_are_the_forecasts_of_the_last_six_hours_one_a_step() -> None:
    history = history_of(load(600))
    made_at = end_of(history) + timedelta(seconds=17)
    learnt = AutoModel().learn(history, made_at, 6)
    assert [made_at - one.made_at for one in learnt] == [timedelta(seconds=FIVE * back) for back in range(71, 0, -1)]
    assert {(one.step, len(one.values)) for one in learnt} == {(FIVE, 6)}
    truth = load(600)[-40:]
    at = len(learnt) - 39
    assert np.mean([one.values[0] for one in learnt[at - 1 : -1]]) == pytest.approx(truth[1:-1].mean(), rel=0.05)


# -- what it reports about itself --


def test_errors_are_told_beside_those_of_the_last_value_for_each_horizon_in_seconds() -> None:
    model = AutoModel()
    history = history_of(load(600))
    experts = model.forecast(history, end_of(history), 5).experts
    learner = model._learner
    assert experts is not None
    assert learner is not None
    assert experts.names == MEMBERS
    assert experts.ahead.tolist() == [FIVE * knot for knot in (1, 2, 3, 5)]
    errors = learner.ensemble.scores.errors
    assert experts.errors[LAST_VALUE].tolist() == [1.0] * 4
    assert experts.errors[3] == pytest.approx(errors[3] / errors[LAST_VALUE])
    assert experts.weights.sum(axis=0) == pytest.approx(np.ones(4))


def test_no_error_is_told_of_an_expert_that_has_made_no_forecast_yet() -> None:
    """Those with random features are fitted one after another, in later calls."""
    history = history_of(load(600))
    experts = AutoModel().forecast(history, end_of(history), 5).experts
    assert experts is not None
    silent = {name for name, errors in zip(MEMBERS, experts.errors, strict=True) if np.isnan(errors).all()}
    assert silent == {"random-features", "random-features-drift"}


def test_an_error_of_nothing_is_told_of_nobody() -> None:
    history = history_of(np.full(600, 7.0))
    experts = AutoModel().forecast(history, end_of(history), 5).experts
    assert experts is not None
    assert np.isnan(experts.errors).all()
