# SPDX-License-Identifier: Apache-2.0
"""The dead band: which noise of the load changes nothing, and what the band must never keep."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import DeadBand, PlanPolicy, ReplicaBounds, Rounding, plan_replicas, reactive_replicas
from kedastral.core.planning.stabilization import dead_band_of, noise_of, recent_load
from kedastral.core.series import Floats, Series

POLICY = PlanPolicy(50.0, headroom=1.0, bounds=ReplicaBounds(1, 400), prewarm_steps=0, down_max_pct=100)
START = datetime(2026, 3, 1, tzinfo=UTC)

loads = st.lists(st.floats(0, 5000), min_size=1, max_size=20) | st.lists(st.floats(400, 600), min_size=12, max_size=20)


def band_of(history: Series, last: int | None, headroom: float = 1.0) -> DeadBand | None:
    return dead_band_of(last, POLICY, headroom, noise=noise_of(history), recent=recent_load(history))


def history_of(values: Floats, step: float = 60.0) -> Series:
    return Series(START, step, values)


def noisy(deviation: float, minutes: int = 60, seed: int = 1) -> Floats:
    return np.asarray(500 * (1 + np.random.default_rng(seed).normal(0, deviation, minutes)))


def planned(need: float, band: DeadBand) -> int:
    """The plan for a need of that many pods."""
    return int(plan_replicas(np.array([need * 50.0]), POLICY, previous=None, dead_band=band)[0])


# -- what it keeps --


def test_a_need_above_by_no_more_than_noise_keeps_the_replicas() -> None:
    band = DeadBand(12, up=0.01)
    assert [planned(need, band) for need in (11.5, 12.0, 12.1, 12.2, 13.5)] == [12, 12, 12, 13, 14]


def test_a_need_below_keeps_them_until_the_last_minutes_confirm_it() -> None:
    assert planned(11.9, DeadBand(13, down=0.01, fall=0.06, recent=12.0)) == 13
    assert planned(11.9, DeadBand(13, down=0.01, fall=0.06, recent=11.85)) == 13
    assert planned(11.8, DeadBand(13, down=0.01, fall=0.06, recent=11.8)) == 12


def test_a_fall_that_is_no_noise_is_followed_at_once() -> None:
    band = DeadBand(13, down=0.01, fall=0.06, recent=12.9)
    assert [planned(need, band) for need in (11.4, 11.3, 6.0)] == [13, 12, 6]


def test_without_noise_only_the_replicas_needed_are_planned() -> None:
    assert [planned(need, DeadBand(12, recent=20.0)) for need in (11.0, 11.01, 12.0, 12.01)] == [11, 12, 12, 13]


def test_the_floor_has_the_same_band() -> None:
    band = DeadBand(12, up=0.01, down=0.01, fall=0.12, recent=11.9)
    assert [reactive_replicas(load, 1.1, POLICY, band) for load in (550.0, 556.0, 491.0, 436.0)] == [12, 13, 12, 10]


def test_the_band_never_takes_the_floor_below_what_the_newest_load_needs() -> None:
    band = DeadBand(12, up=0.01, down=0.01, fall=0.12, recent=11.9)
    assert [reactive_replicas(load, 1.0, POLICY, band) for load in (600.0, 605.0)] == [12, 13]


@pytest.mark.parametrize(
    ("rounding", "needs"), [("ceil", (12.1, 12.2)), ("round", (12.6, 12.7)), ("floor", (13.1, 13.2))]
)
def test_whatever_the_rounding_the_band_lies_around_its_edge(rounding: str, needs: tuple[float, float]) -> None:
    policy = PlanPolicy(1.0, 1.0, prewarm_steps=0, rounding=Rounding(rounding))
    replicas = plan_replicas(np.array(needs), policy, previous=None, dead_band=DeadBand(12, up=0.01))
    assert replicas.tolist() == [12, 13]


def test_needs_beyond_all_floats_are_no_noise() -> None:
    assert planned(1e300, DeadBand(12, up=0.01, down=0.01, fall=0.1, recent=1e300)) == 400


# -- how wide it is --


@pytest.mark.parametrize("deviation", [0.001, 0.01, 0.03])
def test_noise_is_the_standard_deviation_of_the_load(deviation: float) -> None:
    measured = [noise_of(history_of(noisy(deviation, seed=seed))) for seed in range(20)]
    assert np.mean(measured) == pytest.approx(deviation, rel=0.15)


def test_a_rate_over_five_minutes_is_measured_as_well() -> None:
    smoothed = [np.convolve(noisy(0.01, 64, seed) - 500, np.full(5, 0.2), "valid") for seed in range(40)]
    measured = np.mean([noise_of(history_of(500 + each)) for each in smoothed])
    assert measured == pytest.approx(0.01 / math.sqrt(5), rel=0.25)


def test_a_load_that_bends_has_the_noise_that_its_second_differences_say() -> None:
    minutes = np.arange(30)
    waves = 100 + 10 * np.sin(2 * np.pi * minutes / 60)
    bends = 10 * (2 - 2 * np.cos(2 * np.pi / 60)) * np.sin(2 * np.pi * minutes[1:-1] / 60)
    expected = 1.4826 * 3 / math.sqrt(6) * np.median(bends) / waves.mean()
    assert noise_of(history_of(waves)) == pytest.approx(expected)
    assert noise_of(history_of(np.append([1e6], waves))) == pytest.approx(expected), "of the last half hour"


def test_a_trend_a_jump_and_a_spike_are_no_noise() -> None:
    assert noise_of(history_of(np.linspace(100.0, 900.0, 60))) < 1e-9
    assert noise_of(history_of(np.repeat([500.0, 3000.0], [45, 15]))) < 1e-9
    assert noise_of(history_of(np.where(np.arange(60) == 50, 5000.0, 500.0))) < 1e-9


@pytest.mark.parametrize("values", [np.zeros(60), np.full(60, np.nan), np.full(5, 10.0), np.full(60, 1e308)])
def test_where_the_noise_is_not_known_there_is_none(values: Floats) -> None:
    assert noise_of(history_of(values)) == 0


def test_gaps_are_left_out() -> None:
    values = noisy(0.01)
    values[::7] = np.nan
    assert noise_of(history_of(values)) == pytest.approx(0.01, rel=0.5)


@pytest.mark.parametrize(
    ("noise", "up", "down", "fall"), [(0.0, 0.0, 0.0, 0.0), (0.002, 0.006, 0.002, 0.012), (0.02, 0.01, 0.02, 0.12),
                                      (0.5, 0.01, 0.03, 0.18)]
)  # fmt: skip
def test_the_band_is_so_many_deviations_wide_and_knows_the_need_of_the_last_minutes(
    noise: float, up: float, down: float, fall: float
) -> None:
    band = dead_band_of(500, POLICY, 1.2, noise=noise, recent=1000.0)
    assert band is not None
    assert (band.replicas, band.recent) == (400, 24.0)
    assert (band.up, band.down, band.fall) == pytest.approx((up, down, fall))


def test_what_was_needed_within_a_quarter_of_an_hour_is_recent() -> None:
    values = np.append([900.0], np.full(15, 500.0))
    values[4] = np.nan
    assert recent_load(history_of(values)) == 500.0
    assert recent_load(history_of(values[:-1])) == 900.0
    assert recent_load(history_of(values[:7], 400.0)) == 500.0
    assert recent_load(history_of(np.full(9, np.nan))) == 0.0


def test_there_is_no_band_before_anything_was_recommended() -> None:
    assert band_of(history_of(noisy(0.01)), None, 1.2) is None


# -- what it costs, at the most --

near = st.floats(0.7, 1.3)
"""The load as a share of what the last recommendation can just sustain."""


def planned_for(load: float, band: DeadBand | None) -> int:
    return int(plan_replicas(np.array([load]), POLICY, previous=None, dead_band=band)[0])


@given(loads, near, st.integers(1, 400))
def test_no_more_than_a_hundredth_of_the_need_is_ever_missing(history: list[float], share: float, last: int) -> None:
    load = share * last * 50.0
    replicas = planned_for(load, band_of(history_of(np.array(history)), last))
    assert replicas >= min(load / 50.0 * 0.99, 400) - 1e-6
    assert replicas in (planned_for(load, None), last)


@given(loads, near, st.integers(1, 400))
def test_no_more_is_kept_than_the_noise_may_bring_back(history: list[float], share: float, last: int) -> None:
    load, series = share * last * 50.0, history_of(np.array(history))
    widened = load * (1 + 6 * min(noise_of(series), 0.03)) * (1 + 1e-9)
    assert planned_for(load, band_of(series, last)) <= planned_for(widened, None)
