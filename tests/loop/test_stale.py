# SPDX-License-Identifier: Apache-2.0
"""Hours without the source or the model: what KEDA is told, and the exact second at which that changes."""

from collections.abc import Sequence

import pytest
import trio
from grpclib.const import Status
from trio.testing import MockClock

from kedastral._proto import externalscaler_pb2 as pb
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from tests.grpclib_trio.peers import Client
from tests.keda_client import open_client

from .site import HORIZON, LEAD, Outages, Site

pytestmark = pytest.mark.slow

STALE_AFTER, DEFAULT_MIN = 120.0, 3
AWAY, BACK = 1800.0, 4 * 3600.0
LAST = 1770.0
"""The last tick before the source is away: ticks come every 30 s."""
FRESH_UNTIL = LAST + STALE_AFTER
COVERED_UNTIL = LAST + HORIZON - LEAD
BARELY = 0.001
FLOOR, PEAK, RISEN, AFTER = 11, 24, 22, 2
"""1,000 measured last, at 100 a pod and 1.1; 2,000 expected, at 100 and 1.2; 2,000 measured while only the model fails,
after which the last floor stays; 100 when the source is back."""
Told = int | Status


def load(second: float) -> float:
    """1,000 until the source is away; then little, except for a forecast peak from 2,730 s to 3,030 s."""
    if second < AWAY:
        return 1000.0
    return 2000.0 if 2730 <= second < 3030 else 100.0


# each begins where the previous one ends: (until, told, active)
RIDDEN: Sequence[tuple[float, Told, bool | None]] = (
    (2730 - LEAD, FLOOR, True),  # the plan has come down by then, the last floor has not
    (3030, PEAK, True),
    (COVERED_UNTIL, FLOOR, True),
    (BACK, Status.UNAVAILABLE, None),
)
EXPECTED = {
    OnStale.RIDE_FORECAST: RIDDEN,
    OnStale.ERROR: ((FRESH_UNTIL, FLOOR, True), (BACK, Status.UNAVAILABLE, None)),
    OnStale.DEFAULT_MIN: ((FRESH_UNTIL, FLOOR, True), (BACK, DEFAULT_MIN, False)),
}
HELD_UNTIL = BACK + 300
"""The HPA's memory is empty by now: the last answer is repeated for as long as that memory lasts."""
RECOVERED: tuple[float, Told, bool | None] = (BACK + 3600, AFTER, True)


async def ask(client: Client) -> tuple[Told, bool | None]:
    """The answers of GetMetrics and IsActive now: a status for both, or a number and whether it is active."""
    ref = pb.ScaledObjectRef(name="web", namespace="prod", scalerMetadata={"workload": "shop"})
    metrics = await client.call("GetMetrics", pb.GetMetricsRequest(scaledObjectRef=ref, metricName="desired_replicas"))
    activity = await client.call("IsActive", ref)
    assert metrics.status is activity.status
    spec = await client.call("GetMetricSpec", ref)
    assert spec.status is Status.OK
    if metrics.status is not Status.OK:
        return metrics.status, None
    [value] = metrics.read(pb.GetMetricsResponse)[0].metricValues
    return value.metricValue, activity.read(pb.IsActiveResponse)[0].result


@pytest.mark.parametrize("on_stale", OnStale)
@pytest.mark.parametrize("what", ["prometheus", "model"])
async def test_every_answer_changes_at_its_second_and_at_no_other(
    autojump_clock: MockClock, nursery: trio.Nursery, on_stale: OnStale, what: str
) -> None:
    site = Site(load, StalePolicy(STALE_AFTER, on_stale, DEFAULT_MIN), Outages(**{what: ((AWAY, BACK),)}))
    nursery.start_soon(site.run)
    await trio.sleep_until(AWAY)
    begin = AWAY
    held: Sequence[tuple[float, Told, bool | None]] = ((HELD_UNTIL, RISEN if what == "model" else FLOOR, True),)
    resumed = () if on_stale is OnStale.DEFAULT_MIN else held
    for until, before, active in (*EXPECTED[on_stale], *resumed, RECOVERED):
        told = RISEN if (what, before, until) == ("model", FLOOR, COVERED_UNTIL) else before
        minutes = [begin + 60 * n for n in range(1, int((until - begin) // 60))]
        inclusive = until == FRESH_UNTIL  # a plan exactly that old is fresh
        for moment in (begin + BARELY, *minutes, until if inclusive else until - BARELY):
            await trio.sleep_until(moment)
            assert await ask(open_client(site.connect())) == (told, active), moment
        begin = until
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("on_stale", OnStale)
async def test_a_process_that_starts_anew_without_its_source_knows_no_plan(
    autojump_clock: MockClock, nursery: trio.Nursery, on_stale: OnStale
) -> None:
    away = Outages(prometheus=((600.0, 7200.0),), kedastral=((900.0, 960.0),))
    site = Site(load, StalePolicy(STALE_AFTER, on_stale, DEFAULT_MIN), away)
    nursery.start_soon(site.run)
    nothing = (DEFAULT_MIN, False) if on_stale is OnStale.DEFAULT_MIN else (Status.UNAVAILABLE, None)
    for moment in (960 + BARELY, 3600, 7200 - BARELY):
        await trio.sleep_until(moment)
        assert await ask(open_client(site.connect())) == nothing
    await trio.sleep_until(7200 + BARELY)
    assert (await ask(open_client(site.connect())))[1] is True
    nursery.cancel_scope.cancel()
