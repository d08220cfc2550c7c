# SPDX-License-Identifier: Apache-2.0
"""The cached history equals a full read, whatever happened between the ticks."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.history_cache import LARGEST, HistoryCache, Span

NAN = math.nan


class Server:
    """Holds the load of each point; a point may be final only ``late`` steps after its time, and different before."""

    def __init__(self, late: int) -> None:
        self.late = late

    def value(self, point: int, now: int) -> float:
        if point > now:
            return 999.0  # what a server returns for the future: not reliable
        delay = (point * 7919) % (self.late + 1)
        if now - point >= delay:
            return NAN if point % 5 == 0 else float(point % 1000)
        return NAN if point % 2 else 500.0

    def read(self, span: Span, now: int) -> np.ndarray:
        return np.array([self.value(point, now) for point in range(span.first, span.last + 1)])


def fill(kept: HistoryCache, server: Server, now: int, chunk: int, most: int = sys.maxsize) -> list[Span]:
    """Read up to ``most`` chunks; returns what was read."""
    read: list[Span] = []
    while len(read) < most and (span := kept.next_unread(chunk)) is not None:
        kept.put(span, server.read(span, now))
        read.append(span)
    return read


@given(
    window=st.integers(1, 40),
    overlap=st.integers(1, 6),
    patience=st.sampled_from([0, 1, 5, 30, 100]),
    chunk=st.integers(1, 50),
    start=st.integers(-50, 10**6),
    ticks=st.lists(st.tuples(st.integers(-12, 60) | st.integers(0, 2), st.integers(0, 4)), max_size=25),
)
def test_after_any_past_it_is_what_a_full_reading_would_give(
    window: int, overlap: int, patience: int, chunk: int, start: int, ticks: list[tuple[int, int]]
) -> None:
    overlap = min(overlap, window)
    kept, server, now = HistoryCache(window, overlap, patience), Server(overlap), start
    for moved, chunks in ticks:
        now += moved
        kept.move_to(now)
        fill(kept, server, now, chunk, chunks)
        part = kept.newest_part()
        due = server.read(Span(now - window + 1, now), now)
        np.testing.assert_array_equal(part, due[window - len(part) :])
    kept.move_to(now)
    fill(kept, server, now, chunk)
    assert kept.unread == 0
    np.testing.assert_array_equal(kept.newest_part(), server.read(Span(now - window + 1, now), now))


def read_to(now: int, window: int = 100, overlap: int = 3) -> tuple[HistoryCache, Server]:
    kept, server = HistoryCache(window, overlap), Server(overlap)
    kept.move_to(now)
    fill(kept, server, now, 1000)
    return kept, server


def test_the_first_reading_is_in_chunks_newest_first() -> None:
    kept = HistoryCache(10, 3)
    kept.move_to(1000)
    assert fill(kept, Server(0), 1000, 4) == [Span(997, 1000), Span(993, 996), Span(991, 992)]


def test_until_all_is_read_the_newest_part_ends_at_the_first_hole() -> None:
    kept = HistoryCache(10, 3)
    kept.move_to(1000)
    fill(kept, Server(0), 1000, 4, 1)
    assert len(kept.newest_part()) == 4
    assert kept.unread == 6


def test_afterwards_only_the_new_points_and_the_overlap_are_read() -> None:
    kept, server = read_to(1000)
    kept.move_to(1000)
    assert fill(kept, server, 1000, 50) == [Span(998, 1000)]
    kept.move_to(1002)
    assert fill(kept, server, 1002, 50) == [Span(998, 1002)]


def test_after_an_outage_the_missing_span_is_read_and_not_everything() -> None:
    kept, server = read_to(1000)
    for now in range(1001, 1040):
        kept.move_to(now)  # and nothing could be read
    assert fill(kept, server, 1039, 30) == [Span(1010, 1039), Span(998, 1009)]


@pytest.mark.parametrize("moved", [100, 101, 5000, -4, -5000])
def test_after_a_pause_as_long_as_the_window_and_a_clock_set_back_it_starts_afresh(moved: int) -> None:
    kept, _ = read_to(1000)
    kept.move_to(1000 + moved)
    assert kept.unread == 100


@pytest.mark.parametrize("back", [1, 2, 3])
def test_a_clock_set_back_within_the_overlap_costs_no_new_beginning(back: int) -> None:
    kept, server = read_to(1000)
    now = 1000 - back
    kept.move_to(now)
    assert fill(kept, server, now, 50) == [Span(now - 2, now), Span(901 - back, 900)]


def test_gaps_at_the_end_are_read_again_with_the_overlap_before_them_up_to_a_limit() -> None:
    kept = HistoryCache(100, 3, 10)
    kept.move_to(1000)
    kept.put(Span(901, 1000), np.ones(100))
    for now, first in ((1001, 998), (1002, 998), (1010, 998), (1011, 998), (1012, 999)):
        kept.move_to(now)
        assert kept.next_unread(100) == Span(first, now)
        kept.put(Span(first, now), np.where(np.arange(first, now + 1) <= 1000, 1.0, NAN))
    kept.move_to(1013)
    kept.put(Span(1000, 1013), np.ones(14))
    kept.move_to(1014)
    assert kept.next_unread(100) == Span(1011, 1014)


def test_a_value_that_vanishes_from_the_overlap_is_a_gap() -> None:
    kept, _ = read_to(1001)
    span = Span(999, 1001)
    kept.put(span, np.array([1.0, NAN, 3.0]))
    np.testing.assert_array_equal(kept.newest_part()[-3:], [1.0, NAN, 3.0])


def test_what_float32_cannot_hold_is_the_most_it_holds_and_the_rest_is_close() -> None:
    kept = HistoryCache(4, 1)
    kept.move_to(3)
    kept.put(Span(0, 3), np.array([1e308, 0.1, 1e-60, NAN]))
    np.testing.assert_allclose(kept.newest_part(), [LARGEST, 0.1, 0.0, NAN], rtol=1e-7)


def test_what_was_read_for_another_window_does_not_get_in() -> None:
    kept = HistoryCache(3, 1)
    kept.move_to(10)
    kept.put(Span(5, 12), np.arange(5.0, 13.0))
    np.testing.assert_array_equal(kept.newest_part(), [8, 9, 10])
    kept.move_to(20)
    kept.put(Span(8, 10), np.arange(3.0))
    kept.put(Span(30, 49), np.arange(20.0))
    assert kept.unread == 3


def test_two_weeks_of_minutes_take_81_kilobytes_and_never_more() -> None:
    kept, server = read_to(30_000, window=20_160)
    for now in range(30_001, 30_050):
        kept.move_to(now)
        fill(kept, server, now, 11_000)
    arrays = [getattr(kept, name) for name in kept.__slots__ if isinstance(getattr(kept, name, None), np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 80_640
    assert all(array.base is None for array in arrays)


@pytest.mark.parametrize(("window", "overlap"), [(0, 1), (1, 0), (1, -5)])
def test_a_history_of_nothing_cannot_be_kept(window: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        HistoryCache(window, overlap)


def test_values_that_are_no_answer_to_the_span_are_refused() -> None:
    kept = HistoryCache(3, 1)
    with pytest.raises(ValueError, match="has not been set"):
        kept.put(Span(1, 1), np.zeros(1))
    kept.move_to(1)
    with pytest.raises(ValueError, match="2 values for 1 points"):
        kept.put(Span(1, 1), np.zeros(2))
