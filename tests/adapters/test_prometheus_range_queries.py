# SPDX-License-Identifier: Apache-2.0
"""The source reads its window once, then only new points; whatever happens, the result equals a full read."""

import math
from datetime import datetime, timedelta
from itertools import pairwise

import httpx
import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kedastral.adapters.prometheus.limits import RequestLimits, RequestSlot
from kedastral.adapters.prometheus.range_queries import BACKFILL_PATIENCE, SMALL, RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.series import Series
from kedastral.errors import SourceError
from kedastral.models.auto.model import AutoModel
from tests.adapters.answers import (
    END,
    STEP,
    Server,
    ask_within,
    client_of,
    counting,
    failure,
    matrix,
    reply,
    source_of,
    success,
)

T = int(END.timestamp())
OVERLAP = 3


def minutes(count: float) -> datetime:
    return END + timedelta(minutes=count)


def asked(server: Server) -> list[tuple[int, int]]:
    """The ranges asked for, in minutes from END."""
    params = [request.url.params for request in server.requests]
    return [((int(each["start"]) - T) // 60, (int(each["end"]) - T) // 60) for each in params]


class Load:
    """A Prometheus whose samples may come late: a point differs or is missing until ``delay`` steps after its time."""

    def __init__(self) -> None:
        self.now = END
        self.broken = False
        self.requests: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.broken:
            return httpx.Response(400)
        params = request.url.params
        times = range(int(params["start"]), int(params["end"]) + 1, int(params["step"]))
        self.requests.append(len(times))
        points = [[(at, value) for at in times if (value := self._value(at, part))] for part in range(2)]
        return matrix(*points)(request)

    def _value(self, at: int, part: int) -> str:
        number = at // 60
        age = (int(self.now.timestamp()) - at) // 60
        if (number + part) % 11 == 0:
            return ""  # a gap forever
        if age < (number * 31) % (OVERLAP + 1):
            return ["", "NaN", "77.7"][number % 3]
        return f"{math.sin(number * 0.7 + part) * 50 + 50:.3f}"


Tick = tuple[float, bool]


@given(
    points=st.integers(1, 40),
    chunk=st.integers(1, 50),
    ticks=st.lists(st.tuples(st.floats(0, 3) | st.floats(-10, 60), st.booleans()), min_size=1, max_size=15),
)
async def test_any_past_gives_the_same_series_as_a_full_reading(points: int, chunk: int, ticks: list[Tick]) -> None:
    load = Load()

    async def answer(request: httpx.Request) -> httpx.Response:
        return load(request)

    source = source_of(answer, points=points, points_per_request=chunk)
    for moved, broken in [*ticks, (0.5, False)]:
        load.now += timedelta(minutes=moved)
        load.broken = broken
        got = await read_or_none(source, load.now)
        load.requests.clear()
        load.broken = False
        due = await read_or_none(source_of(answer, points=points), load.now)
        if broken:
            assert got is None
        else:
            assert got == due
            assert source.progress == 1


async def read_or_none(source: PrometheusSource, now: datetime) -> Series | None:
    try:
        return await source.history(now)
    except SourceError:
        return None


async def test_a_steady_tick_asks_for_the_new_points_and_the_overlap() -> None:
    server = Server(counting)
    source = source_of(server, points=100)
    for at in (0, 0.5, 1, 3):
        await source.history(minutes(at))
    assert asked(server) == [(-99, 0), (-2, 0), (-2, 1), (-1, 3)]
    assert source.progress == 1


@pytest.mark.parametrize(("step", "overlap"), [(60.0, 3), (300.0, 3), (50.0, 4), (15.0, 9), (1.0, 121), (0.5, 241)])
def test_the_overlap_is_three_points_and_all_that_are_not_stale(step: float, overlap: int) -> None:
    assert RangeQuery("up", 1e6, step, 120.0).overlap == overlap
    assert RangeQuery("up", 2 * step, step, 120.0).overlap == 2


async def test_samples_that_are_all_late_are_read_when_they_come() -> None:
    def lagging(request: httpx.Request) -> httpx.Response:
        start, end = (int(request.url.params[key]) for key in ("start", "end"))
        return matrix([(at, str(at // 60 % 1000)) for at in range(start, min(end, T + sent * 60) + 1, 60)])(request)

    sent = 0
    server = Server(lagging)
    source = source_of(server, points=300)
    await source.history(END)
    for at in range(1, 50):
        if at <= 3:
            await source.history(minutes(at))
        else:
            with pytest.raises(SourceError, match="the newest value, of"):
                await source.history(minutes(at))
    assert asked(server)[-1] == (-2, 49)
    sent = 50
    assert await source.history(minutes(50)) == await source_of(Server(counting), points=300).history(minutes(50))
    await source.history(minutes(51))
    assert asked(server)[-1] == (48, 51)


async def test_a_query_without_values_is_not_read_all_over_again_at_each_tick() -> None:
    server = Server(matrix())
    source = source_of(server, points=20_160)
    for at in (0, 1):
        with pytest.raises(SourceError):
            await source.history(minutes(at))
    assert asked(server) == [(-10_999, 0), (-20_159, -11_000), (-62, 1)]


async def test_after_an_outage_only_the_missing_stretch_is_read(autojump_clock: MockClock) -> None:
    cut = failure(httpx.ConnectError)
    server = Server(counting, *[cut] * 6, counting)
    source = source_of(server, points=100)
    await source.history(END)
    for at in (20, 40):
        with pytest.raises(SourceError):
            await source.history(minutes(at))
    series = await source.history(minutes(41))
    assert asked(server)[-1] == (-2, 41)
    assert series == await source_of(Server(counting), points=100).history(minutes(41))


async def test_the_newest_chunk_is_read_first_and_an_error_in_an_older_one_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(counting, counting, reply(400), reply(400), counting)
    source = source_of(server, points=10, points_per_request=4)
    for tick, length in ((0, 8), (0, 8), (0, 10)):
        series = await source.history(minutes(tick))
        assert len(series) == length
        assert series.time_at(length - 1) == minutes(tick)
        assert np.isfinite(series.values).all()
        assert source.progress == pytest.approx(length / 10)
        if tick == 0 and length == 8 and len(server.requests) == 3:
            server.replies.insert(0, counting)  # the overlap of the next tick
    assert asked(server) == [(-3, 0), (-7, -4), (-9, -8), (-2, 0), (-9, -8), (-2, 0), (-9, -8)]
    assert [record.getMessage()[:33] for record in caplog.records] == ["only part of the history was read"]


async def test_a_history_read_in_part_is_told_again_at_the_next_backfill(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(counting, reply(400), counting)
    source = source_of(server, points=10, points_per_request=5)
    assert len(await source.history(END)) == 5
    assert len(await source.history(END)) == 10
    server.replies[:] = [counting, reply(400), counting]
    assert len(await source.history(minutes(100))) == 5
    assert len(caplog.records) == 2


async def test_a_tick_that_is_cancelled_or_out_of_time_loses_nothing(autojump_clock: MockClock) -> None:
    waits = [0.0, 0.0, 30.0, 0.0, 0.0, 30.0, 0.0, 0.0]
    server = Server(counting)

    async def slow(request: httpx.Request) -> httpx.Response:
        await trio.sleep(waits.pop(0))
        return await server(request)

    source = source_of(slow, points=12, points_per_request=4)
    with trio.move_on_after(3) as tick:
        await source.history(END)
    assert tick.cancelled_caught
    assert source.progress == pytest.approx(8 / 12)
    assert len(await source.history(END)) == 12
    assert asked(server) == [(-3, 0), (-7, -4), (-2, 0), (-11, -8)]

    source = source_of(slow, points=8, points_per_request=4)
    waits[:] = [0.0, 30.0, 0.0, 0.0]
    assert len(await source.history(END)) == 4
    assert len(await source.history(END)) == 8
    assert asked(server)[4:] == [(-3, 0), (-2, 0), (-7, -4)]


async def test_what_is_too_much_for_the_server_is_asked_for_in_halves_and_then_whole_again() -> None:
    sizes: list[int] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        start, end = (int(request.url.params[key]) for key in ("start", "end"))
        sizes.append((end - start) // 60 + 1)
        if sizes[-1] > 3000:
            return reply(422, json={"status": "error", "error": "too many samples"})(request)
        return counting(request)

    source = source_of(answer, points=20_000)
    for _ in range(2):
        with pytest.raises(SourceError, match="too many samples"):
            await source.history(END)
    assert sizes == [11000, 5500]
    while source.progress < 1:
        await source.history(END)
    assert max(sizes[2:]) <= 5500
    assert len(sizes) < 40
    assert await source.history(END) == await source_of(Server(counting), points=20_000).history(END)


async def test_a_small_request_is_never_divided() -> None:
    server = Server(reply(422))
    source = source_of(server, points=SMALL)
    for _ in range(3):
        with pytest.raises(SourceError):
            await source.history(END)
    assert asked(server) == [(-SMALL + 1, 0)] * 3


async def test_a_value_that_vanishes_from_the_overlap_is_a_gap_as_in_a_full_reading() -> None:
    source = source_of(Server(counting, matrix([(T, "5")])), query="requests")
    await source.history(END)
    np.testing.assert_array_equal((await source.history(END)).values[-3:], [math.nan, math.nan, 5.0])


async def test_waiting_for_the_limits_does_not_count_as_asking(autojump_clock: MockClock) -> None:
    limits = RequestLimits(max_concurrent=1, max_per_second=1)
    server = Server(reply(503), reply(503), counting)
    source = source_of(server, limits=limits)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, limits, 100.0)
        await trio.sleep(0.1)
        await source.history(END)
    assert trio.current_time() - began == pytest.approx(102)
    assert [at - server.asked_at[0] for at in server.asked_at] == pytest.approx([0, 1, 2])


async def test_waiting_for_the_turn_of_a_retry_does_not_count_either(autojump_clock: MockClock) -> None:
    server = Server(reply(503), reply(503), counting)
    began = trio.current_time()
    await source_of(server, limits=RequestLimits(max_per_second=0.1)).history(END)
    assert trio.current_time() - began == pytest.approx(20)


async def hold(limits: RequestLimits, seconds: float, urgent: bool = True) -> None:
    async def request(_slot: RequestSlot) -> None:
        await trio.sleep(seconds)

    await ask_within(limits, request, urgent=urgent)


async def test_the_time_of_a_reading_can_be_set(autojump_clock: MockClock) -> None:
    async def slow(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(100)
        raise AssertionError

    began = trio.current_time()
    with pytest.raises(SourceError, match="no complete answer within 3 s"):
        await source_of(slow, timeout=3.0).history(END)
    assert trio.current_time() - began == pytest.approx(3)


def newest_only(request: httpx.Request) -> httpx.Response:
    """One point, the last of the range: a large answer would be parsed in a thread, during which virtual time jumps."""
    return matrix([(float(request.url.params["end"]), "1")])(request)


async def test_the_first_chunk_waits_for_others_as_long_as_it_takes(autojump_clock: MockClock) -> None:
    limits = RequestLimits(max_concurrent=2)
    source = source_of(Server(newest_only), points=20_160, limits=limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, limits, 100.0, False)
        await trio.sleep(0.1)
        assert len(await source.history(END)) == 20_160
        assert trio.current_time() == pytest.approx(100)


async def test_older_chunks_wait_for_others_a_little_and_go_on_at_the_next_tick(autojump_clock: MockClock) -> None:
    limits = RequestLimits(max_concurrent=2)

    async def take_the_place_afterwards(request: httpx.Request) -> httpx.Response:
        if not server.requests:
            nursery.start_soon(hold, limits, 100.0, False)  # is in the queue before the second chunk
            await trio.sleep(0.1)
        return await server(request)

    server = Server(newest_only)
    source = source_of(take_the_place_afterwards, points=20_160, limits=limits)
    async with trio.open_nursery() as nursery:
        assert len(await source.history(END)) == 11_000
        assert trio.current_time() == pytest.approx(0.1 + BACKFILL_PATIENCE)
        assert source.progress == pytest.approx(11_000 / 20_160)
        await trio.sleep(200)
        assert len(await source.history(minutes(1))) == 20_160
    assert asked(server) == [(-10_999, 0), (-2, 1), (-20_158, -11_000)]


async def test_a_hundred_backfills_keep_to_the_limits_while_steady_ticks_go_on(autojump_clock: MockClock) -> None:
    limits = RequestLimits(max_concurrent=8, max_per_second=50)
    at_once = most = 0
    times: list[float] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        times.append(trio.current_time())
        try:
            await trio.sleep(0.3)
            return newest_only(request)
        finally:
            at_once -= 1

    client = client_of(answer)
    wide = RangeQuery("x", 20_160 * STEP, STEP, 120.0)
    steady = PrometheusSource(client, RangeQuery("y", 30 * STEP, STEP, 120.0), limits=limits)
    sources = [PrometheusSource(client, wide, limits=limits) for _ in range(100)]

    async def tick(source: PrometheusSource) -> None:
        while source.progress < 1:
            await source.history(END)

    async with trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(tick, source)
        for _ in range(10):
            await trio.sleep(0.5)
            began = trio.current_time()
            await steady.history(END)
            assert trio.current_time() - began < 1
    assert all(source.progress == 1 for source in sources)
    assert most <= 8
    assert min(after - before for before, after in pairwise(times)) >= 0.02 - 1e-9


async def test_one_history_goes_on_in_the_next_for_the_model() -> None:
    server = Server(counting)
    source, model = source_of(server, points=300), AutoModel()
    model.forecast(await source.history(END), END, 30)
    for at in (1, 1, 4):
        history = await source.history(minutes(at))
        assert model._continues(history)
        model.forecast(history, minutes(at), 30)


async def test_without_range_queries_there_is_no_backfill_to_wait_for(autojump_clock: MockClock) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/query_range"):
            return httpx.Response(404)
        return success([{"metric": {}, "value": [float(request.url.params["time"]), "7"]}], "vector")(request)

    source = source_of(answer)
    assert source.progress == 0
    await source.history(END)
    assert source.progress == 1


class Mistaken:
    """A server that at times denies one of its endpoints; ``asked`` are those it was asked for, in turn."""

    def __init__(self, status: int = 404) -> None:
        self.status = status
        self.denied: set[str] = set()
        self.asked: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        endpoint = request.url.path.rpartition("/")[2]
        self.asked.append(endpoint)
        if endpoint in self.denied:
            return httpx.Response(self.status)
        if endpoint == "query_range":
            return counting(request)
        at = float(request.url.params["time"])
        return success([{"metric": {}, "value": [at, str(at // 60 % 1000)]}], "vector")(request)


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_range_that_is_denied_once_after_it_was_served_costs_a_tick_and_no_history(
    autojump_clock: MockClock, status: int
) -> None:
    server = Mistaken(status)
    source = source_of(server, points=100)
    await source.history(END)
    await trio.sleep(30)
    server.denied = {"query_range"}
    with pytest.raises(SourceError, match=f"HTTP {status}"):
        await source.history(minutes(0.5))
    await trio.sleep(30)
    server.denied = set()
    assert await source.history(minutes(1)) == await source_of(server, points=100).history(minutes(1))
    assert set(server.asked) == {"query_range"}


async def test_a_range_that_stays_denied_is_gone_on_with_by_instant_values_until_it_is_served(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = Mistaken()
    source = source_of(server, points=100)
    await source.history(END)
    server.denied = {"query_range"}
    for at in range(1, 6):
        await trio.sleep(60)
        got = await source.history(minutes(at))
        assert len(got) == 100
        assert got.newest is not None
        assert got.newest.at == minutes(at)
        gaps = np.isnan(got.values)
        assert (got.values == np.arange(T // 60 + at - 99, T // 60 + at + 1) % 1000)[~gaps].all()
        assert gaps.sum() <= OVERLAP  # what was to be read again
    assert len(caplog.records) == 1
    server.denied = set()
    assert await source.history(minutes(5.5)) == await source_of(server, points=100).history(minutes(5.5))
    assert server.asked[-3:] == ["query", "query_range", "query_range"]


async def test_an_instant_query_that_fails_too_is_the_error_of_that_tick(autojump_clock: MockClock) -> None:
    server = Mistaken()
    source = source_of(server, points=100)
    await source.history(END)
    server.denied = {"query_range", "query"}
    await trio.sleep(300)
    with pytest.raises(SourceError, match="HTTP 404"):
        await source.history(minutes(5))
    server.denied = {"query_range"}
    assert len(await source.history(minutes(5))) == 100


async def test_when_all_that_was_kept_is_too_old_there_are_instant_values_alone(autojump_clock: MockClock) -> None:
    server = Mistaken()
    source = source_of(server, points=100)
    await source.history(END)
    server.denied = {"query_range"}
    await trio.sleep(7200)
    assert (await source.history(minutes(120))).values.tolist() == [(T // 60 + 120) % 1000]
