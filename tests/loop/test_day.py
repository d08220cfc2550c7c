# SPDX-License-Identifier: Apache-2.0
"""A day with outages of everything: never fewer replicas than the last good plan or the floor asks for."""

import math

import pytest
from trio.testing import MockClock

from kedastral.core.planning.stale_policy import OnStale, StalePolicy

from .play import play
from .scaled_object import PROMPT, Fallback, ScaledObjectSpec
from .site import Outages, Site, Span

pytestmark = pytest.mark.slow

HOUR = 3600.0


def in_hours(*spans: tuple[float, float]) -> tuple[Span, ...]:
    return tuple((begin * HOUR, end * HOUR) for begin, end in spans)


def day(second: float) -> float:
    """From 200 to 3,000 and back, with a jump every two hours that the plan knows."""
    base = 1600 - 1400 * math.cos(second / 86400 * 2 * math.pi)
    return base * (1.8 if second % 7200 < 900 else 1.0)


OUTAGES = Outages(
    prometheus=in_hours((1, 1.2), (3, 5), (9.97, 10.4), (20, 20.6)),
    model=in_hours((6, 6.3), (7, 8.5), (20.3, 21)),
    kedastral=in_hours((9, 9.03), (10, 10.2), (12, 13), (21.5, 21.51)),
)


@pytest.mark.parametrize(
    ("on_stale", "fallback", "hours"),
    [(OnStale.RIDE_FORECAST, Fallback(), 24), (OnStale.ERROR, None, 4)],
    ids=["a day of ride-forecast with fallback", "four hours of error without"],
)
async def test_through_all_outages_there_are_never_fewer_replicas_than_the_last_good_plan_wants(
    autojump_clock: MockClock, on_stale: OnStale, fallback: Fallback | None, hours: int
) -> None:
    site = Site(day, StalePolicy(120.0, on_stale), OUTAGES)
    played = await play(site, ScaledObjectSpec(fallback=fallback, behavior=PROMPT), hours)
    assert played.too_few() == []
    assert len(played.changes) > hours
    told = {what for _, what in played.said if isinstance(what, str)}
    assert told == {"UNAVAILABLE", "unreachable"} if hours > 10 else {"UNAVAILABLE"}


async def test_default_min_is_what_the_user_chose_and_does_fall_below_the_plan(autojump_clock: MockClock) -> None:
    site = Site(day, StalePolicy(120.0, OnStale.DEFAULT_MIN, default_min=2), Outages(prometheus=in_hours((1, 2))))
    played = await play(site, ScaledObjectSpec(behavior=PROMPT), 1.6)
    wrong = played.too_few()
    assert wrong
    assert wrong[0][0] > HOUR
    assert played.replicas(1.5 * HOUR) == 2
