# SPDX-License-Identifier: Apache-2.0
"""How long points keep changing is learned from reading them again, for every lag, rate window, step and phase."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.data_quality.settling import MAX_SETTLING, SettlingState, SettlingTime, find_partial_windows

ZERO = 1_790_000_400.0
"""Epoch seconds; a multiple of every step below."""


def rate_seen(at: float, now: float, lag: float, window: float, load: float = 2000.0) -> float:
    """``rate(x[window])`` of a steady load, evaluated ``now`` for the moment ``at``, as samples come ``lag`` late.

    As Prometheus extrapolates it: by at most half a scrape beyond the samples there are.
    """
    newest = min(at, now - lag)
    seen = max(newest - (at - window), 0.0)
    return load * min(seen + 7.5, window) / window if seen > 0 else float("nan")


def learn(lag_at, *, window: float = 300.0, step: float = 60.0, interval: float = 30.0, phase: float = 0.0,
          seconds: float = 3600.0, points: int = 11, learned: SettlingTime | None = None,
          begin: float = ZERO) -> SettlingTime:  # fmt: skip
    """What is learned from reading the newest points every ``interval`` seconds for the given time."""
    settling = learned or SettlingTime(step)
    now = begin + phase
    while now < begin + seconds:
        newest = int(now // step)
        gaps = max(math.ceil((lag_at(now) - window) / step), 0)  # the source reads again what is absent at the end
        first = newest - gaps - max(points, settling.reread) + 1
        values = np.array([rate_seen(n * step, now, lag_at(now), window) for n in range(first, newest + 1)])
        settling.observe(first, values, now)
        now += interval
    return settling


def never_wrong(settling: SettlingTime, lag: float, window: float, now: float) -> None:
    """Points that count as load equal the load, within `CHANGED`."""
    newest = int(now // settling.step)
    numbers = range(newest - 60, newest + 1)
    values = np.array([rate_seen(n * settling.step, now, lag, window) for n in numbers])
    kept = settling.mask(numbers[0], values, now)
    kept = kept[np.isfinite(kept)]
    assert len(kept)
    assert kept.min() >= 2000.0 * 0.97


@pytest.mark.parametrize("lag", [60.0, 120.0, 180.0, 300.0])
@pytest.mark.parametrize("window", [60.0, 300.0, 600.0])
@pytest.mark.parametrize("step", [15.0, 60.0, 300.0])
def test_the_lag_is_learned_and_what_is_kept_is_the_load(lag: float, window: float, step: float) -> None:
    settling = learn(lambda _now: lag, window=window, step=step, seconds=4 * 3600.0)
    assert settling.seconds <= lag + 30.0 + step
    never_wrong(settling, lag, window, ZERO + 4 * 3600.0 + 1.0)


@pytest.mark.parametrize("interval", [30.0, 60.0, 120.0])
def test_points_that_are_absent_at_first_are_no_outage_when_ticks_are_rare(interval: float) -> None:
    settling = learn(lambda _now: 240.0, window=60.0, step=15.0, interval=interval)
    assert 180.0 <= settling.seconds <= 240.0 + interval


@given(lag=st.floats(45, 300), phase=st.floats(0, 29), interval=st.sampled_from([15.0, 30.0, 60.0]))
def test_the_phase_of_the_ticks_does_not_matter(lag: float, phase: float, interval: float) -> None:
    settling = learn(lambda _now: lag, phase=phase, interval=interval)
    last = ZERO + phase + interval * int((3600.0 - phase - 1e-9) // interval)
    never_wrong(settling, lag, 300.0, last)


def test_points_that_are_right_at_once_are_kept_at_once() -> None:
    settling = learn(lambda _now: 0.0)
    assert settling.seconds == 0.0
    assert np.isfinite(settling.mask(int(ZERO // 60), np.ones(1), ZERO)).all()


def test_a_lag_that_grows_and_shrinks_is_followed() -> None:
    settling = learn(lambda now: 60.0 if now < ZERO + 3600 else 240.0, seconds=3600.0 + 600.0)
    assert settling.seconds >= 240.0
    settling = learn(lambda _now: 60.0, learned=settling, begin=ZERO + 4200.0, seconds=45 * 60.0)
    assert 60.0 <= settling.seconds <= 90.0


def test_a_pipeline_that_catches_up_after_an_outage_does_not_count_as_lag() -> None:
    settling = learn(lambda _now: 0.0)
    newest = int((ZERO + 3600) // 60) + 30
    now = newest * 60.0
    settling.observe(newest - 10, np.full(11, np.nan), now - 30.0)
    settling.observe(newest - 10, np.full(11, 2000.0), now)
    assert settling.seconds == 0.0


@pytest.mark.parametrize(("filled", "lag"), [(3, True), (6, False)])
def test_many_gaps_that_are_filled_at_once_are_no_lag_though_the_points_before_them_stay(
    filled: int, lag: bool
) -> None:
    settling, newest = learn(lambda _now: 0.0), int((ZERO + 3600) // 60) + 10
    gaps = np.full(11, 2000.0)
    gaps[-filled:] = np.nan
    for tick in range(12):  # most of the points that are judged, so that a lag is noticed
        now = (newest + tick * filled) * 60.0
        settling.observe(newest + tick * filled - 10, gaps, now - 30.0)
        settling.observe(newest + tick * filled - 10, np.full(11, 2000.0), now)
    assert (settling.seconds > 0) == lag


def test_old_points_that_stay_do_not_hide_that_the_first_new_ones_change() -> None:
    assert learn(lambda _now: 30.0, window=60.0, points=60, seconds=40.0).seconds == 30.0


def test_points_that_were_old_when_they_were_first_read_say_nothing() -> None:
    settling = SettlingTime(60.0)
    settling.observe(int(ZERO // 60) - 9, np.full(5, 2000.0), ZERO)
    assert settling.seconds == 0.0


def test_noise_below_the_tolerance_is_no_change() -> None:
    settling = SettlingTime(60.0)
    random = np.random.default_rng(1)
    for tick in range(60):
        newest = int(ZERO // 60) + tick
        settling.observe(newest - 4, 1000.0 + random.uniform(-5, 5, 5), newest * 60.0)
    assert settling.seconds == 0.0


def test_points_that_never_settle_are_waited_for_no_longer_than_the_most() -> None:
    settling = SettlingTime(60.0)
    random = np.random.default_rng(1)
    for tick in range(120):
        newest = int(ZERO // 60) + tick
        first = newest - max(4, settling.reread)
        settling.observe(first, random.uniform(500, 1500, newest - first + 1), newest * 60.0)
    assert settling.seconds <= MAX_SETTLING


@pytest.mark.parametrize(
    ("known", "fixed", "points"),
    [(0.0, None, 7), (120.0, None, 7), (200.0, None, 8), (240.0, None, 9), (500.0, None, 11), (300.0, 45.0, 2),
     (0.0, 900.0, 11)],
)  # fmt: skip
def test_so_many_points_are_read_again_that_a_lag_twice_as_long_is_noticed(
    known: float, fixed: float | None, points: int
) -> None:
    settling = SettlingTime(60.0, fixed)
    settling.restore(SettlingState(seconds=known))
    assert settling.reread == points


def test_a_reading_in_which_every_point_differs_is_that_of_another_server() -> None:
    settling, newest = learn(lambda _now: 0.0), int((ZERO + 3600) // 60)
    for tick in range(9):
        now = (newest + tick) * 60.0
        settling.observe(newest + tick - 10, np.full(11, 1900.0 if tick else 2000.0), now)
    assert settling.seconds == 0.0


def test_three_points_that_differ_say_that_they_are_late() -> None:
    settling, newest = SettlingTime(60.0), int(ZERO // 60)
    for tick in range(60):
        settling.observe(newest + tick - 2, np.array([3.0, 2.0, 1.0]), (newest + tick) * 60.0)
    assert settling.seconds == 120.0


def test_what_is_known_goes_on_as_it_was_stored() -> None:
    settling, again = learn(lambda _now: 120.0, window=60.0), SettlingTime(60.0)
    again.restore(settling.state)
    assert again.state == settling.state
    begin = ZERO + 3600.0
    for each in (settling, again):
        learn(lambda _now: 240.0, window=60.0, learned=each, begin=begin, seconds=600.0)
    assert again.state == settling.state
    assert again.seconds > 200.0
    fresh = SettlingTime(60.0)
    fresh.restore(SettlingTime(60.0).state)
    assert fresh.state == SettlingState()


def test_a_fixed_time_is_not_learned() -> None:
    settling = learn(lambda _now: 120.0, learned=SettlingTime(60.0, fixed=45.0))
    assert settling.seconds == 45.0


def test_memory_does_not_grow_with_time() -> None:
    settling = learn(lambda _now: 120.0, seconds=6 * 3600.0)
    assert len(settling._points) <= 40


GAP = math.nan


@pytest.mark.parametrize(
    ("values", "width", "partial"),
    [
        ([5, 5, 2, GAP, 3, 5, 5], 1, [2, 4]),
        ([5, 4, 2, GAP, GAP, 1, 3, 5], 2, [1, 2, 5, 6]),
        ([5, 5, 5, GAP, GAP], 2, []),
        ([GAP, 1, 5], 1, [1]),
        ([5, GAP, 5], 0, []),
        ([GAP, GAP], 1, []),
        ([], 1, []),
    ],
    ids=[
        "one step",
        "two steps",
        "missing at the end is no outage yet",
        "at the start",
        "no range",
        "nothing",
        "empty",
    ],
)
def test_points_beside_a_gap_rest_on_a_part_of_their_range(values: list[float], width: int, partial: list[int]) -> None:
    assert np.flatnonzero(find_partial_windows(np.array(values, dtype=float), width)).tolist() == partial


@pytest.mark.parametrize(
    ("values", "width", "settled", "partial"),
    [
        ([5, 5, 4, 2, GAP], 2, 5, [2, 3]),
        ([5, 5, 4, 2, GAP], 2, 4, []),
        ([5, 5, 4, 2, GAP, GAP, GAP], 2, 5, [2, 3]),
        ([5, 4, 3, 2], 2, 4, []),
        ([5, 5, 2, GAP], 0, 4, []),
        ([5, GAP, 3, 5, 5, 5], 1, 5, [0, 2]),
        ([GAP, GAP], 2, 2, []),
    ],
    ids=["missing", "may be late", "some may be late", "a load that falls", "no range", "an earlier gap", "nothing"],
)
def test_points_before_the_last_that_must_have_come_rest_on_a_part_of_their_range(
    values: list[float], width: int, settled: int, partial: list[int]
) -> None:
    found = find_partial_windows(np.array(values, dtype=float), width, settled)
    assert np.flatnonzero(found).tolist() == partial


def test_how_many_points_have_settled_is_what_the_mask_leaves() -> None:
    settling, now = SettlingTime(60.0, 130.0), ZERO + 59.0
    values = np.ones(10)
    first = int(now // 60) - 9
    count = settling.count_settled(first, len(values), now)
    assert np.isfinite(settling.mask(first, values, now)).tolist() == [True] * count + [False] * (10 - count)
    assert count == 8
    assert SettlingTime(60.0).count_settled(first, 10, now) == 10
