# SPDX-License-Identifier: Apache-2.0
"""Series that vanish from the sum with their load: when and how long that is reported, and which drops are no loss."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.core.data_quality.lost_series import LostSeries, SeriesWatch
from kedastral.core.series import DataQuality, Observation, Series

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
BEFORE = 60
"""Minutes of history before any series vanishes."""


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def history_of(counts: Sequence[float], loads: Sequence[float] | None = None, step: float = 60.0) -> Series:
    """A load of 100 for each of ``counts`` series, or ``loads``."""
    quality = DataQuality(counts=Series(START, step, counts))
    return Series(START, step, [100.0 * count for count in counts] if loads is None else loads, quality)


def told(*replicas: int, since: float = 0.0) -> list[tuple[datetime, int]]:
    """What KEDA was told each minute from minute ``since`` on."""
    return [(minute(since + i), count) for i, count in enumerate(replicas)]


def lost_after(
    counts: Sequence[float],
    loads: Sequence[float] | None = None,
    said: Sequence[tuple[datetime, int]] | None = None,
    step: float = 60.0,
) -> LostSeries | None:
    """What a new watch finds in these counts; by default KEDA was always told 20."""
    watch = SeriesWatch()
    watch.restore(None, told(*[20] * BEFORE) if said is None else said)
    return watch.observe(history_of(counts, loads, step), 20, minute(BEFORE))


STEADY = [20.0] * (BEFORE - 3)


def test_series_that_stay_away_with_their_load_are_lost() -> None:
    assert lost_after([*STEADY, 5.0, 8.0, 6.0]) == LostSeries(12, 8, minute(BEFORE - 3))
    assert lost_after([*STEADY, 8.0, 5.0, 6.0]) == LostSeries(12, 8, minute(BEFORE - 3))
    assert lost_after([*STEADY, 20.0, 8.0, 8.0]) is None, "pods that restart are away for as long"
    assert lost_after([*STEADY, 8.0, 20.0, 8.0]) is None


def test_a_third_of_the_series_is_a_loss_and_less_is_none() -> None:
    before = [30.0] * (BEFORE - 3)
    assert lost_after([*before, *[20.0] * 3]) == LostSeries(10, 20, minute(BEFORE - 3))
    assert lost_after([*before, *[21.0] * 3], [*[3000.0] * (BEFORE - 3), *[1000.0] * 3]) is None


def test_a_load_that_stays_is_no_loss_and_neither_are_series_that_stay() -> None:
    loads = [2000.0] * (BEFORE - 3)
    assert lost_after([*STEADY, *[10.0] * 3], [*loads, 900.0, 1400.0, 900.0]) is None
    assert lost_after([*STEADY, *[10.0] * 3], [*loads, 900.0, 1300.0, 900.0]) is not None
    assert lost_after([*STEADY, *[20.0] * 3], [*loads, *[100.0] * 3]) is None
    burst = [*loads[1:], 9000.0]
    assert lost_after([*STEADY, *[10.0] * 3], [*burst, *[1900.0] * 3]) is None, "it has come down from a burst only"


@pytest.mark.parametrize(("before", "lost"), [(2.0, False), (3.0, True)])
def test_of_less_than_three_series_none_is_lost(before: float, lost: bool) -> None:
    assert (lost_after([*[before] * (BEFORE - 3), *[1.0] * 3]) is not None) == lost


def test_what_was_there_is_the_median_of_a_quarter_of_an_hour() -> None:
    doubled = [*STEADY[7:], *[40.0] * 7]  # a rolling update
    assert lost_after([*doubled, *[20.0] * 3]) is None
    assert lost_after([*doubled, *[8.0] * 3]) == LostSeries(12, 8, minute(BEFORE - 3))
    earlier = [*[90.0] * (BEFORE - 3 - 15), *[20.0] * 15]
    assert lost_after([*earlier, *[20.0] * 3]) is None


@pytest.mark.parametrize(("step", "gone"), [(15.0, 9), (60.0, 3), (300.0, 2)])
def test_they_have_to_be_away_for_two_minutes_and_two_points(step: float, gone: int) -> None:
    size = round(BEFORE * 60 / step)
    away = [*[20.0] * (size - gone), *[8.0] * gone]
    assert lost_after(away, step=step) == LostSeries(12, 8, START + timedelta(seconds=step * (size - gone)))
    assert lost_after([*away[1 : size - gone], 20.0, 20.0, *away[1 - gone :]], step=step) is None


def test_with_long_steps_what_was_there_is_the_median_of_two_of_them() -> None:
    watch = SeriesWatch()
    watch.restore(None, told(*[20] * 45))
    lost = watch.observe(history_of([90.0, 30.0, 20.0, 8.0, 8.0], step=600.0), 20, minute(45))
    assert lost == LostSeries(17, 8, minute(30))


def test_points_whose_series_nobody_counted_do_not_count() -> None:
    assert lost_after([*STEADY, 8.0, np.nan, 8.0]) is None
    assert lost_after([*STEADY[1:], 8.0, np.nan, 8.0, 8.0]) == LostSeries(12, 8, minute(BEFORE - 4))
    assert lost_after([np.nan] * BEFORE) is None
    assert lost_after([*[np.nan] * (BEFORE - 3), *[8.0] * 3]) is None, "nobody knows what there was before"


def test_counts_and_loads_are_compared_where_both_are_known() -> None:
    watch = SeriesWatch()
    watch.restore(None, told(*[20] * BEFORE))
    history = history_of([*STEADY, *[8.0] * 3])
    counts = Series(minute(BEFORE - 30), 60.0, [*[20.0] * 27, *[8.0] * 3, 20.0, 20.0])  # two points after the history
    history = attrs.evolve(history, quality=DataQuality(counts=counts))
    assert watch.observe(history, 20, minute(BEFORE)) == LostSeries(12, 8, minute(BEFORE - 3))


# -- what KEDA was told --


def test_a_fall_of_what_keda_was_told_takes_as_many_series() -> None:
    falling = [20] * (BEFORE - 23) + [10] * 23
    assert lost_after([*STEADY, *[10.0] * 3], said=told(*falling)) is None
    assert lost_after([*STEADY, *[7.0] * 3], said=told(*falling)) is None, "a third of what is left is allowed for"
    assert lost_after([*STEADY, *[6.0] * 3], said=told(*falling)) == LostSeries(14, 6, minute(BEFORE - 3))


def test_a_rise_after_the_fall_takes_nothing_back() -> None:
    dip = [20] * (BEFORE - 23) + [10] * 2 + [20] * 21
    assert lost_after([*STEADY, *[10.0] * 3], said=told(*dip)) is None
    rise = [10] * (BEFORE - 23) + [20] * 23
    assert lost_after([*STEADY, *[10.0] * 3], said=told(*rise)) is not None


def test_a_fall_of_more_than_half_an_hour_ago_explains_nothing() -> None:
    early = [20] * 20 + [10] * (BEFORE - 20)
    assert lost_after([*STEADY, *[10.0] * 3], said=told(*early)) is not None


def test_what_keda_is_told_after_the_loss_does_not_explain_it() -> None:
    late = [20] * (BEFORE - 2) + [1] * 2
    assert lost_after([*STEADY, *[8.0] * 3], said=told(*late)) is not None


@pytest.mark.parametrize(("since", "known"), [(BEFORE - 18, True), (BEFORE - 17, False)])
def test_nothing_is_lost_until_what_was_told_is_known_for_a_quarter_of_an_hour(since: int, known: bool) -> None:
    said = told(*[20] * (BEFORE - since), since=since)
    assert (lost_after([*STEADY, *[8.0] * 3], said=said) is not None) == known
    assert lost_after([*STEADY, *[8.0] * 3], said=[]) is None


@pytest.mark.parametrize(("pause", "known"), [(5.0, True), (5.1, False), (-1.0, False)])
def test_after_a_pause_without_ticks_or_with_a_clock_set_back_nobody_knows_what_was_told(
    pause: float, known: bool
) -> None:
    watch = SeriesWatch()
    watch.restore(None, told(*[20] * BEFORE))
    watch.observe(history_of(STEADY), 20, minute(BEFORE - 1 + pause))
    assert len(watch.told) == (BEFORE + 1 if known else 1)


def test_without_a_number_for_keda_all_that_was_told_is_forgotten() -> None:
    watch = SeriesWatch()
    watch.restore(None, told(*[20] * BEFORE))
    assert watch.observe(history_of([*STEADY, *[8.0] * 3]), None, minute(BEFORE)) is None
    assert watch.told == ()


def test_in_mode_observe_nothing_is_lost_and_what_is_planned_stays_known() -> None:
    """Another autoscaler takes the pods away, and nobody knows why. Charts show the plan after a restart, too."""
    gone, watch = history_of([*STEADY, *[8.0] * 3]), SeriesWatch()
    watch.restore(None, told(*[20] * BEFORE))
    assert watch.observe(gone, 20, minute(BEFORE), observes=True) is None
    assert len(watch.told) == BEFORE + 1


@pytest.mark.parametrize("restarts", [False, True])
def test_what_was_planned_in_mode_observe_explains_nothing_later(restarts: bool) -> None:
    watch = SeriesWatch()
    for at in range(BEFORE):
        watch.observe(history_of(STEADY), 20, minute(at), observes=True)
    if restarts:
        kept, watch = watch.told, SeriesWatch()
        watch.restore(None, kept, observes=True)
    watch.observe(history_of(STEADY), 20, minute(BEFORE))
    assert watch.told == ((minute(BEFORE), 20),)


def test_what_was_told_is_kept_for_as_long_as_it_is_read() -> None:
    watch = SeriesWatch()
    for at in range(200):
        watch.observe(history_of(STEADY), 20, minute(at))
    assert watch.told[0][0] == minute(199 - 70)  # half an hour before all that is counted
    assert watch.told[-1] == (minute(199), 20)


# -- how it ends --


def after(lost: LostSeries, counts: Sequence[float], at: float) -> LostSeries | None:
    """What is still lost at minute ``at``."""
    watch = SeriesWatch()
    watch.restore(lost, told(*[20] * 3, since=at - 3))
    return watch.observe(history_of(counts), 20, minute(at))


LOST = LostSeries(12, 8, minute(0))


def test_it_ends_once_more_than_two_thirds_are_back() -> None:
    assert after(LOST, [8.0, 13.0], 10) == LOST
    assert after(LOST, [8.0, 14.0], 10) is None
    assert after(LOST, [20.0, 8.0], 10) == LOST, "the newest point counts"


def test_it_ends_where_nothing_is_counted_any_more() -> None:
    assert after(LOST, [np.nan, np.nan], 10) is None


def test_after_an_hour_what_is_left_is_all_there_is() -> None:
    assert after(LOST, [8.0, 8.0], 60) == LOST
    assert after(LOST, [8.0, 8.0], 61) is None


def test_a_partial_answer_and_one_without_counts_say_nothing() -> None:
    gone = history_of([*STEADY, *[8.0] * 3])
    partial = attrs.evolve(gone, quality=attrs.evolve(gone.quality, at_least=Observation(START, 1.0)))
    for said_nothing in (partial, attrs.evolve(gone, quality=DataQuality())):
        watch = SeriesWatch()
        watch.restore(None, told(*[20] * BEFORE))
        assert watch.observe(said_nothing, 20, minute(BEFORE)) is None
        watch.restore(LOST, told(*[20] * BEFORE))
        assert watch.observe(said_nothing, 20, minute(BEFORE)) == LOST
