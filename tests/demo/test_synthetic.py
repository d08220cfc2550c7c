# SPDX-License-Identifier: Apache-2.0
"""The demo's load: a pure function of time with the documented shape."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from kedastral.adapters.synthetic import SyntheticLoad, SyntheticSource

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def at(hours: float) -> datetime:
    return MONDAY + timedelta(hours=hours)


def test_the_same_moment_always_has_the_same_load() -> None:
    assert SyntheticLoad().at(at(12.3)) == SyntheticLoad().at(at(12.3))


def test_nights_are_quiet_and_evenings_are_busy() -> None:
    load = SyntheticLoad(noise=0.0)
    assert load.at(at(4)) < 0.3 * load.at(at(20))


def test_the_campaign_doubles_the_load_within_ten_minutes() -> None:
    load = SyntheticLoad(noise=0.0)
    assert load.at(at(9.5 + 10 / 60)) / load.at(at(9.5)) == pytest.approx(2, rel=0.1)  # the day rises too


def test_the_flash_triples_the_load_and_is_gone_after_twelve_minutes_at_another_time_each_day() -> None:
    load = SyntheticLoad(noise=0.0)
    begins = []
    for day in range(5):
        minutes = [load.at(at(24 * day + 10.9 + minute / 60)) for minute in range(510)]
        jumps = [after / before for before, after in zip(minutes, minutes[3:], strict=False)]
        begins.append(int(np.argmax(jumps)))
        before, high, gone = (minutes[begins[-1] + later] for later in (0, 6, 16))
        assert high / before == pytest.approx(3, rel=0.05)
        assert gone / before == pytest.approx(1, rel=0.08)
    assert len(set(begins)) == 5


def test_what_goes_on_is_named_while_it_does() -> None:
    load = SyntheticLoad(noise=0.0)
    minutes = [load.event_at(at(minute / 60)) for minute in range(1440)]
    flash = [minute for minute, event in enumerate(minutes) if event is not None and "flash" in event]
    assert len(flash) == 12
    assert load.at(at(flash[5] / 60)) > 2.5 * load.at(at((flash[0] - 1) / 60))
    campaign = [minute for minute, event in enumerate(minutes) if event is not None and "campaign" in event]
    assert campaign[0] == 570
    assert minutes[0] is None


def test_weekends_are_lighter() -> None:
    load = SyntheticLoad(noise=0.0)
    assert load.at(at(5 * 24 + 8)) == pytest.approx(0.7 * load.at(at(8)))


async def test_history_ends_with_the_newest_full_step_and_has_the_window_asked_for() -> None:
    source = SyntheticSource(SyntheticLoad(), window=1800.0, step=60.0)
    history = await source.history(at(9) + timedelta(seconds=42))
    assert len(history) == 30
    assert history.time_at(29) == at(9)
    assert (history.values > 0).all()


async def test_history_is_what_the_load_was_and_does_not_depend_on_when_it_is_read() -> None:
    source = SyntheticSource(SyntheticLoad(), window=600.0, step=60.0)
    early, late = await source.history(at(9)), await source.history(at(9) + timedelta(minutes=4))
    assert np.array_equal(early.values[4:], late.values[:-4])
