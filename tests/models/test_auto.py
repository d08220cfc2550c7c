# SPDX-License-Identifier: Apache-2.0
"""The auto model: its forecasts of simple loads, what must not disturb it, and what it keeps between ticks."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.data_quality.outliers import screen
from kedastral.core.kept_state import KeptHistory, KeptModel
from kedastral.core.series import Floats, Series
from kedastral.errors import ModelError
from kedastral.models.auto import AutoModel
from kedastral.models.auto.ensemble import MEMBERS
from kedastral.models.auto.ridge import fit_ridge
from kedastral.state_format import read_history, write_history

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 1440
NAN = math.nan


def series(values: Floats, end: datetime = MONDAY, step: float = 60) -> Series:
    """A history whose last value is the last full step before ``end``."""
    return Series(end - timedelta(seconds=len(values) * step), step, values)


def forecast(values: Floats, *, end: datetime = MONDAY, step: float = 60, steps: int = 30) -> Floats:
    """The forecast of a new model."""
    made = AutoModel().forecast(series(values, end, step), end, steps)
    assert (made.made_at, made.step, made.values.shape) == (end, step, (steps,))
    return made.values


def busy(minutes: int, seed: int = 1, step: float = 60) -> Floats:
    """A load with a daily pattern, a job at each full hour, and noise; it ends at midnight."""
    at = np.arange(-minutes, 0) * step / 60
    noise = np.exp(0.05 * np.random.default_rng(seed).standard_normal(minutes))
    jobs = np.where(np.mod(at, 60) < 5, 80.0, 0.0)
    return (200 - 100 * np.cos(2 * np.pi * at / DAY) + jobs) * noise


def ticks(model: AutoModel, load: Floats, first: int, count: int, every: int = 1) -> list[Floats]:
    """Forecasts of ``model`` from ``first`` on; each sees what is before it."""
    start = MONDAY - timedelta(days=20)
    made = []
    for i in range(first, first + count * every, every):
        at = start + timedelta(minutes=i)
        made.append(model.forecast(Series(start, 60, load[:i]), at, 30).values)
    return made


# ---- simple loads ----


@pytest.mark.parametrize("load", [1e-6, 0.1, 17.3, 1e12])
@pytest.mark.parametrize(
    ("step", "points"), [(1, 600), (60, 1), (60, 30), (60, 3 * DAY), (60, 14 * DAY), (300, 14 * 288)]
)
def test_a_constant_load_is_forecast_to_stay(load: float, step: float, points: int) -> None:
    assert forecast(np.full(points, load), step=step) == pytest.approx([load] * 30, rel=1e-9)


@pytest.mark.parametrize("points", [1, 300, 14 * DAY])
def test_no_load_is_forecast_to_stay(points: int) -> None:
    assert forecast(np.zeros(points)).tolist() == [0.0] * 30


@pytest.mark.parametrize("values", [[], [NAN], [NAN] * 3000])
def test_without_a_value_there_is_no_forecast(values: list[float]) -> None:
    with pytest.raises(ModelError, match="no history") as caught:
        forecast(np.array(values, dtype=np.float64))
    assert caught.value.reason == "no_history"


def test_a_value_of_more_than_two_weeks_ago_is_no_history() -> None:
    with pytest.raises(ModelError, match="no history"):
        AutoModel().forecast(series(np.full(300, 5.0)), MONDAY + timedelta(days=15), 30)


@pytest.mark.parametrize(("step", "days"), [(60, 14), (60, 5), (300, 14)])
def test_a_day_that_comes_again_is_forecast(step: float, days: int) -> None:
    per_day = round(86400 / step)
    load = 200 - 100 * np.cos(2 * np.pi * np.arange(-days * per_day, per_day) / per_day)
    origin = days * per_day + per_day // 4  # the steepest rise

    made = forecast(load[:origin], step=step, end=MONDAY + timedelta(hours=6))

    assert made == pytest.approx(load[origin : origin + 30], rel=0.02)


def test_a_job_at_each_full_hour_is_foreseen() -> None:
    made = forecast(busy(14 * DAY)[:-5], end=MONDAY - timedelta(minutes=5))  # 23:55

    assert made[7] - made[3] > 40  # 00:02 against 23:58; the job adds 80 to about 100


def test_seconds_are_averaged_to_minutes_and_spread_back() -> None:
    minutes = busy(600)
    seconds = np.repeat(minutes, 60)

    made = forecast(seconds, step=1, steps=30 * 60)

    assert made.reshape(30, 60).mean(axis=1) == pytest.approx(forecast(minutes, steps=30), rel=0.05)


# ---- what must not disturb it ----


@pytest.mark.parametrize("where", [-1, -7, -DAY, -3 * DAY])
def test_one_point_a_million_times_the_rest_moves_little(where: int) -> None:
    load = busy(14 * DAY)
    usual = forecast(load)
    load[where] *= 1e6

    assert forecast(screen(Series(MONDAY, 60.0, load)).history.values) == pytest.approx(usual, rel=0.5)


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_a_new_level_is_followed_within_a_quarter_of_an_hour(factor: float) -> None:
    load = busy(16 * DAY)
    load[14 * DAY :] *= factor

    made = ticks(AutoModel(), load, 14 * DAY - 5, 21)[-1]

    truth = load[14 * DAY + 15 : 14 * DAY + 45]
    assert np.abs(made - truth).sum() / truth.sum() < 0.25


@pytest.mark.parametrize("gap", [slice(-30, None), slice(-DAY, -DAY + 600), slice(0, 5 * DAY), slice(1, None, 2)])
def test_gaps_cost_little(gap: slice) -> None:
    load = busy(14 * DAY)
    usual = forecast(load)
    load[gap] = NAN

    assert forecast(load) == pytest.approx(usual, rel=0.3)


@pytest.mark.parametrize("minutes", [3, 6])
def test_an_outage_in_which_a_foreseen_rush_began_does_not_hide_its_end(minutes: int) -> None:
    """The value before the outage fills it, and must not prove the last value right and the others wrong."""
    began = 4 * DAY + 60
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal(began + 60))
    load = np.where(np.arange(began + 60) % 60 < 20, 200.0, 100.0) * noise
    model = AutoModel()
    ticks(model, load, began - 120, 121)  # the last one sees the minute before the rush
    load[began : began + minutes] = NAN
    [made] = ticks(model, load, began + minutes + 1, 1)
    assert made[20:].mean() < 150


def test_hours_without_load_are_no_trouble() -> None:
    load = busy(14 * DAY)
    load[np.mod(np.arange(len(load)), DAY) < 360] = 0  # every night until six

    made = forecast(load[: -DAY + 330], end=MONDAY - timedelta(minutes=DAY - 330))  # 05:30

    assert made[:25].max() < 30
    assert made[-1] < 400


def test_only_the_last_14_days_count() -> None:
    old = np.full(386 * DAY, 1e9)
    load = busy(14 * DAY)

    assert forecast(np.concatenate([old, load])).tolist() == forecast(load).tolist()


# ---- properties ----

LOADS = st.lists(st.floats(0, 1e6) | st.just(NAN) | st.just(0.0), min_size=1, max_size=500)


@settings(max_examples=40, deadline=None)
@given(LOADS, st.sampled_from([1.0, 15.0, 60.0, 300.0, 3600.0]), st.integers(1, 90))
def test_a_forecast_is_finite_not_negative_and_of_the_right_length(
    values: list[float], step: float, steps: int
) -> None:
    if not np.isfinite(values).any():
        return

    made = forecast(np.array(values), step=step, steps=steps)

    assert np.isfinite(made).all()
    assert (made >= 0).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-3, 7.0, 1e3, 1e9]), st.sampled_from([40, 600, DAY]))
def test_a_load_a_thousand_times_larger_is_forecast_a_thousand_times_larger(
    seed: int, factor: float, minutes: int
) -> None:
    load = busy(minutes, seed)

    assert forecast(load * factor) == pytest.approx(forecast(load) * factor, rel=1e-6)


def test_the_same_calls_give_the_same_forecasts() -> None:
    load = busy(15 * DAY)

    first, again = (np.array(ticks(AutoModel(), load, 14 * DAY, 30)) for _ in range(2))

    assert first.tolist() == again.tolist()


def test_what_comes_later_changes_nothing() -> None:
    load, other = busy(15 * DAY), busy(15 * DAY)
    other[14 * DAY + 20 :] *= 50

    ones, others = (np.array(ticks(AutoModel(), values, 14 * DAY, 20)) for values in (load, other))

    assert ones.tolist() == others.tolist()


# ---- what it keeps ----


def test_asked_twice_at_one_time_it_says_the_same() -> None:
    load, model = busy(14 * DAY + 60), AutoModel()
    ticks(model, load, 14 * DAY, 40)

    once, twice = (ticks(model, load, 14 * DAY + 40, 1)[0] for _ in range(2))

    assert once.tolist() == twice.tolist()


def test_a_restart_is_nearly_as_good_as_a_long_run() -> None:
    load, model = busy(16 * DAY, 3), AutoModel()
    running = ticks(model, load, 14 * DAY, 240, every=5)[-1]

    restarted = ticks(AutoModel(), load, 14 * DAY + 239 * 5, 1)[0]

    truth = load[14 * DAY + 239 * 5 :][:30]
    assert np.abs(restarted - truth).sum() < 1.3 * np.abs(running - truth).sum()


def kept(model: AutoModel) -> AutoModel:
    """A new model that continues with what ``model`` learned, saved and loaded."""
    memory = model.memory()
    assert memory is not None
    learnt = KeptModel(forecaster=(), version="1", memory=memory)
    history = KeptHistory(
        workload="shop", source="", query="", start=MONDAY, step=60.0, values=np.zeros(0), model=learnt
    )
    found = read_history(write_history(history)).model
    assert found is not None
    again = AutoModel()
    again.restore(found.memory)
    return again


@pytest.mark.parametrize("days", [0.1, 14])
def test_a_model_that_is_kept_goes_on_as_if_it_had_never_stopped(days: float) -> None:
    load, first = busy(20 * DAY), round(days * DAY)
    model = AutoModel()
    ticks(model, load, first, 20)
    again = kept(model)
    for mine, theirs in zip(ticks(model, load, first + 20, 10), ticks(again, load, first + 20, 10), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_one_that_is_kept_for_an_hour_needs_no_other_fit() -> None:
    load = busy(20 * DAY)
    model, start = AutoModel(), MONDAY - timedelta(days=20)
    ticks(model, load, 14 * DAY, 2)
    later = 14 * DAY + 62
    kept(model).recall(Series(start, 60, load[:later]), start + timedelta(minutes=later), 30)  # or it raises


def test_a_model_that_has_learnt_nothing_keeps_nothing() -> None:
    assert AutoModel().memory() is None


@pytest.mark.parametrize(
    "wrong",
    ["scores", "ridges", "ridge.sizes", "fitted", "knots", "drift.sums", "drift.mass", "surprise", "issued.ends",
     "issued.loads", "tail", "learner"],
)  # fmt: skip
def test_what_another_model_kept_is_refused(wrong: str) -> None:
    model = AutoModel()
    ticks(model, busy(DAY), DAY - 1, 1)
    memory = dict(model.memory() or {})
    for other in ({**memory, wrong: memory[wrong][:-1]}, {key: memory[key] for key in memory if key != wrong}):
        if wrong in other and wrong == "tail":
            continue  # one value less is a shorter tail
        with pytest.raises(ValueError, match="not a memory of this model"):
            AutoModel().restore(other)


@pytest.mark.parametrize("step", [15, 60, 300, 3600])
def test_ridges_of_other_features_are_refused(step: float) -> None:
    load, model = busy(20 * DAY)[:: round(max(step, 60) / 60)][:2000], AutoModel()
    model.forecast(Series(MONDAY - timedelta(seconds=step * len(load)), step, load), MONDAY, 5)
    memory = dict(model.memory() or {})
    assert len(memory["ridges"]), "it is fitted"
    AutoModel().restore(memory)
    sizes = memory["ridge.sizes"]
    less = 3 * np.count_nonzero(sizes)  # a coefficient and both ends of a range each
    shorter = {"ridge.sizes": np.maximum(sizes - 3, 0), "ridges": memory["ridges"][:-less]}
    with pytest.raises(ValueError, match="features in each ridge"):
        AutoModel().restore({**memory, **shorter})


def test_another_load_begins_afresh() -> None:
    load, other, model = busy(3 * DAY), busy(3 * DAY, 5) * 1000, AutoModel()
    first = model.forecast(series(load), MONDAY, 30)
    model.forecast(series(other), MONDAY, 30)

    assert model.forecast(series(load), MONDAY, 30) == first


def test_a_fresh_model_learns_as_its_history_grows() -> None:
    load, model = busy(20 * DAY), AutoModel()
    start = MONDAY - timedelta(days=20)
    seen = [model.forecast(Series(start, 60, load[:i]), start + timedelta(minutes=i), 30) for i in range(1, 800, 7)]

    assert len(seen) == 115
    assert sum(expert.weight for expert in seen[-1].experts_at(600) if expert.name.startswith("ridge")) > 0


def test_it_explains_what_counted_how_much() -> None:
    ten = AutoModel().forecast(series(busy(14 * DAY)), MONDAY, 30).experts_at(630)

    assert {expert.ahead for expert in ten} == {600}
    assert [expert.name for expert in ten] == list(MEMBERS)
    assert sum(expert.weight for expert in ten) == pytest.approx(1)
    assert next(expert.error for expert in ten if expert.name == "last-value") == 1
    ridge = next(expert for expert in ten if expert.name == "ridge-7d")
    assert ridge.error is not None
    assert ridge.error < 1


# ---- time zones ----


def test_a_local_day_is_followed_over_a_change_of_the_clock() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 3, 16, tzinfo=UTC)
    at = datetime(2026, 3, 30, 5, 50, tzinfo=UTC)  # 07:50 local, a day after the change
    minutes = round((at - start) / timedelta(minutes=1))
    local = [(start + timedelta(minutes=i)).astimezone(berlin) for i in range(minutes)]
    load = np.array([100.0 + 300 * (8 <= moment.hour < 20) for moment in local])

    history = Series(start, 60, load)
    by_berlin = AutoModel(berlin).forecast(history, at, 30).values
    by_utc = AutoModel().forecast(history, at, 30).values

    truth = np.array([100.0] * 10 + [400.0] * 20)
    assert np.abs(by_berlin - truth).sum() < 0.3 * np.abs(by_utc - truth).sum()


def test_what_has_hardly_varied_has_little_part_in_a_ridge() -> None:
    rng = np.random.default_rng(4)
    features, target = rng.normal(0, 1e-8, (1000, 3)), rng.normal(0, 0.01, 1000)  # rounding errors, and noise
    ridge = fit_ridge(features, target, np.ones(1000))
    assert abs(ridge.predict(np.array([[0.5, -0.5, 0.5]]))[0]) < 0.05  # a jump by half


def test_one_load_test_is_hardly_repeated_on_the_next_day() -> None:
    """docs/operations.md says so: less than a fifth more."""
    minutes = 14 * DAY
    load = busy(minutes)
    usual = forecast(load)
    load[-DAY : -DAY + 60] *= 4  # the same hour, yesterday
    assert (forecast(load) / usual).max() < 1.2
