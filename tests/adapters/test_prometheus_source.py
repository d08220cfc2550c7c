# SPDX-License-Identifier: Apache-2.0
"""The series that a tick gets from Prometheus, or the one clear error."""

import gc
import logging
import math
import threading
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kedastral.adapters.prometheus import api as prometheus_api
from kedastral.adapters.prometheus import range_queries as prometheus_range
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import RANGE_AGAIN_AFTER
from kedastral.core.history_cache import LARGEST
from kedastral.core.series import Observation
from kedastral.errors import SourceError
from tests.adapters.answers import END, STEP, Reply, Server, counting, error, matrix, reply, source_of, success

T = END.timestamp()


async def raised_by(server: Any, now: datetime = END, **more: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await source_of(server, **more).history(now)
    return caught.value


async def test_ten_points_become_ten_rows_increasing_and_numeric() -> None:
    series = await source_of(Server(counting)).history(END)
    times = [series.time_at(index) for index in range(len(series))]
    assert len(series) == 10
    assert times == sorted(set(times))
    assert times[-1] == END
    assert np.isfinite(series.values).all()
    assert series.values.dtype == np.float64


async def test_start_and_end_are_aligned_to_the_step_and_end_is_not_after_now() -> None:
    server = Server(counting)
    await source_of(server).history(END + timedelta(seconds=59.9))
    assert dict(server.requests[0].url.params) == {
        "query": "sum(rate(http_requests_total[2m]))",
        "start": str(int(T - 9 * 60)),
        "end": str(int(T)),
        "step": "60",
    }
    assert server.requests[0].method == "GET"
    assert server.requests[0].url.path == "/api/v1/query_range"


@pytest.mark.parametrize(("window", "points"), [(59.0, 1), (60.0, 1), (119.0, 1), (600.0, 10), (0.3 * 3, 1)])
def test_the_window_is_a_whole_number_of_points_and_never_none(window: float, points: int) -> None:
    start, end = RangeQuery("up", window, 60.0, 120.0).grid(END)
    assert (end - start).total_seconds() == (points - 1) * 60


@pytest.mark.parametrize("wrong", [{"query": " "}, {"window": 0.0}, {"step": -1.0}, {"stale_after": math.nan}])
def test_a_range_query_without_meaning_cannot_be_made(wrong: dict[str, Any]) -> None:
    fields = {"query": "up", "window": 600.0, "step": 60.0, "stale_after": 120.0}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RangeQuery(**{**fields, **wrong})


@given(points=st.integers(1, 60), chunk=st.integers(1, 70), late=st.floats(0, 59))
async def test_any_window_gives_the_same_series_in_chunks_as_in_one_request(
    points: int, chunk: int, late: float
) -> None:
    now = END + timedelta(seconds=late)
    server = Server(counting)
    in_chunks = await source_of(server, points=points, points_per_request=chunk).history(now)
    assert in_chunks == await source_of(Server(counting), points=points).history(now)
    assert len(in_chunks) == points
    assert len(server.requests) == -(-points // chunk)


async def test_no_request_asks_for_more_than_prometheus_gives() -> None:
    server = Server(counting)
    series = await source_of(server, points=14 * 24 * 60).history(END)
    assert len(series) == 20160
    sizes = [(float(r.url.params["end"]) - float(r.url.params["start"])) / STEP + 1 for r in server.requests]
    assert sizes == [11000, 9160]


async def test_a_large_answer_is_read_in_a_thread_so_that_nobody_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def watch(good: Any) -> Any:
        def watched(*arguments: Any) -> Any:
            threads.append(threading.get_ident())
            return good(*arguments)

        return watched

    monkeypatch.setattr(prometheus_api, "parse_answer", watch(prometheus_api.parse_answer))
    monkeypatch.setattr(prometheus_range, "sum_load", watch(prometheus_range.sum_load))
    small = await source_of(Server(counting)).history(END)
    assert set(threads) == {threading.get_ident()}
    threads.clear()
    monkeypatch.setattr(prometheus_api, "LARGE", 100)
    assert await source_of(Server(counting)).history(END) == small
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert (await raised_by(Server(reply(200, content=b"[" * 200)))).reason == "bad_answer"


async def test_a_server_that_gives_more_than_was_asked_for_changes_nothing_outside_the_chunk() -> None:
    everything = matrix([(T - 60 * index, str(index)) for index in range(-5, 30)])
    series = await source_of(Server(everything), points=10, points_per_request=3).history(END)
    np.testing.assert_array_equal(series.values, range(9, -1, -1))


async def test_large_answers_are_read_one_at_a_time_and_without_garbage_collections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prometheus_api, "LARGE", 0)
    parse, reading, seen = prometheus_api.parse_answer, threading.Lock(), []

    def watched(body: bytes) -> Any:
        assert reading.acquire(blocking=False)
        try:
            seen.append(gc.isenabled())
            return parse(body)
        finally:
            reading.release()

    monkeypatch.setattr(prometheus_api, "parse_answer", watched)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(source_of(Server(counting), points=3000).history, END)
    assert seen == [False] * 8
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (matrix(), "empty", "the query matched nothing"),
        (matrix([]), "no_load", "the query matched 1 series without a load: no value in the time asked for"),
        (matrix([(T, "NaN")]), "no_load", "the query matched 1 series without a load: of 1 values 1 NaN"),
        (matrix([(T, "-1"), (T - 60, "+Inf")], [(T, "NaN")]), "no_load", "of 3 values 1 NaN, 1 infinite, 1 negative"),
        (matrix([(T + 60, "1")]), "no_load", "no value in the time asked for"),
    ],
)
async def test_an_answer_without_one_finite_value_is_an_error(answer: Reply, reason: str, words: str) -> None:
    caught = await raised_by(Server(answer))
    assert caught.reason == reason
    assert f"{words}, from 2023-11-14T22:11:00Z to 2023-11-14T22:20:00Z; query: " in str(caught)


def dated(answer: Reply, seconds: float) -> Reply:
    """``answer``, by a server whose clock is so many seconds ahead of `END`."""

    def respond(request: httpx.Request) -> httpx.Response:
        response = answer(request)
        response.headers["Date"] = format_datetime(END + timedelta(seconds=seconds), usegmt=True)
        return response

    return respond


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (-240, "a step; the server's clock is 240 s behind ours, by the Date of its answer: set them right; query"),
        (3600, "a step; the server's clock is 3600 s ahead of ours, by the Date of its answer: set them right; query"),
        (-2, "a step; its clock agrees with ours: samples reach it late, or no longer, as after a renamed metric"),
    ],
)
async def test_a_stale_value_is_told_with_the_skew_of_the_clocks_or_the_lag(
    autojump_clock: MockClock, ahead: float, words: str
) -> None:
    assert words in str(await raised_by(Server(dated(matrix([(T - 240, "5")]), ahead))))


async def test_a_value_is_as_old_as_the_servers_clock_says_where_ours_was_set_back(autojump_clock: MockClock) -> None:
    caught = await raised_by(Server(dated(matrix([(T, "5")]), 3600)))
    assert caught.reason == "stale"
    assert "is 3600 s old" in str(caught)
    assert len(await source_of(Server(dated(matrix([(T, "5")]), 60))).history(END)) == 10
    assert len(await source_of(Server(dated(matrix([(T, "5")]), -3600))).history(END)) == 10


async def test_what_an_answer_takes_is_no_skew(autojump_clock: MockClock) -> None:
    async def late(request: httpx.Request) -> httpx.Response:
        await trio.sleep(9)
        return dated(matrix([(T - 240, "5")]), 9)(request)

    assert "its clock agrees with ours" in str(await raised_by(late))


async def test_a_query_that_matches_nothing_by_another_clock_is_told_with_the_skew(autojump_clock: MockClock) -> None:
    caught = await raised_by(Server(dated(matrix(), -7200)))
    assert "the server's clock is 7200 s behind ours" in str(caught)
    assert "clock" not in str(await raised_by(Server(dated(matrix(), 0))))


HUGE = "9" * 20


@pytest.mark.parametrize(
    "date", ["", "yesterday", "\xff", f"Mon, 01 Jan {HUGE} 00:00:00 GMT", f"Mon, 01 Jan 2026 00:00:00 +{HUGE}"]
)
async def test_a_date_that_cannot_be_read_says_nothing_of_the_clock(date: str) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        response = matrix([(T - 240, "5")])(request)
        response.headers["Date"] = date
        return response

    assert "clock" not in str(await raised_by(Server(respond)))


async def test_an_ha_pair_without_deduplication_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    values = [[T - 60 * n, str(n)] for n in range(10)]
    pair = [{"metric": {"pod": "a", "prometheus_replica": replica}, "values": values} for replica in "01"]
    source = source_of(Server(success(pair)))
    for _ in range(3):
        await source.history(END)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert '{"pod": "a", "prometheus_replica": "0"} and {"pod": "a", "prometheus_replica": "1"}' in record.getMessage()


async def test_a_newest_value_as_old_as_stale_after_and_a_step_still_counts() -> None:
    answer = Server(matrix([(T - 180, "5")]))
    assert (await source_of(answer).history(END)).newest.value == 5  # type: ignore[union-attr]


async def test_a_newest_value_older_than_that_is_stale() -> None:
    caught = await raised_by(Server(matrix([(T - 180, "5"), (T, "NaN")])), END + timedelta(seconds=1))
    assert caught.reason == "stale"
    assert "of 2023-11-14T22:17:00Z, is 181 s old, more than the 180 s of --stale-after and a step;" in str(caught)


async def test_a_query_that_matches_nothing_any_more_is_empty_though_its_past_is_known() -> None:
    source = source_of(Server(counting, matrix()))
    await source.history(END)
    with pytest.raises(
        SourceError, match="matches nothing any more; the newest value it had, of 2023-11-14T2"
    ) as caught:
        await source.history(END + timedelta(seconds=240))
    assert caught.value.reason == "empty"


async def test_a_renamed_metric_is_stale_for_an_hour_while_its_old_series_match_and_then_empty() -> None:
    def until_then(request: httpx.Request) -> httpx.Response:
        asked = {name: float(request.url.params[name]) for name in ("start", "end", "step")}
        times = np.arange(asked["start"], min(asked["end"], T) + 1, asked["step"])
        return success([{"metric": {}, "values": [[at, "5"] for at in times.tolist()]}] if len(times) else [])(request)

    source = source_of(until_then, points=360)
    await source.history(END)
    reasons = list[str]()
    for minute in range(4, 71):
        with pytest.raises(SourceError) as caught:
            await source.history(END + timedelta(minutes=minute))
        reasons.append(caught.value.reason)
    assert set(reasons[:56]) == {"stale"}
    assert reasons[-1] == "empty"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login</html>",
        b"[" * 100_000,
        b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{}}]}}',
        b'{"status":"success","data":{"resultType":"vector","result":[]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[[' + b"9" * 400 + b',"1"]]}]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[[' + b"9" * 5000 + b',"1"]]}]}}',
    ],
)
async def test_whatever_the_parser_raises_is_a_source_error_with_its_cause(body: bytes) -> None:
    caught = await raised_by(Server(reply(content=body)))
    assert caught.reason == "bad_answer"
    assert caught.__cause__ is not None
    assert "\n" not in str(caught)


async def test_history_has_ten_seconds_retries_included(autojump_clock: MockClock) -> None:
    async def slow(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(4)
        return httpx.Response(503)

    began = trio.current_time()
    caught = await raised_by(slow)
    assert trio.current_time() - began == pytest.approx(10)
    assert caught.reason == "timeout"
    assert "no complete answer within 10 s" in str(caught)
    assert isinstance(caught.__cause__, trio.TooSlowError)


async def test_no_chunk_is_begun_without_the_time_for_it(autojump_clock: MockClock) -> None:
    async def slow(request: httpx.Request) -> httpx.Response:
        await trio.sleep(3)
        return counting(request)

    began = trio.current_time()
    source = source_of(slow, points=10, points_per_request=2)
    assert len(await source.history(END)) == 4
    assert trio.current_time() - began == pytest.approx(6)


async def test_a_body_that_drips_does_not_hold_the_tick(autojump_clock: MockClock) -> None:
    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            while True:
                await trio.sleep(1)
                yield b" "

    assert (await raised_by(Server(lambda _request: httpx.Response(200, stream=Dripping())))).reason == "timeout"


async def test_the_callers_own_timeout_stays_the_callers(autojump_clock: MockClock) -> None:
    async def slow(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(60)
        raise AssertionError

    with pytest.raises(trio.TooSlowError), trio.fail_after(3):
        await source_of(slow).history(END)


def instant(value: str = "7", at: float | None = None, kind: str = "vector") -> Reply:
    """An answer of ``/query`` for the time asked, unless ``at`` is given."""

    def answer(request: httpx.Request) -> httpx.Response:
        point = [float(request.url.params["time"]) if at is None else at, value]
        return success(point if kind == "scalar" else [{"metric": {}, "value": point}], kind)(request)

    return answer


def only_instant(range_reply: Reply, instant_reply: Reply) -> Server:
    def answer(request: httpx.Request) -> httpx.Response:
        return (range_reply if request.url.path.endswith("query_range") else instant_reply)(request)

    return Server(answer)


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("kind", ["vector", "scalar"])
async def test_where_range_queries_are_not_served_one_value_per_tick_is_gathered(
    autojump_clock: MockClock, status: int, kind: str
) -> None:
    server = only_instant(reply(status), instant(kind=kind))
    source = source_of(server)
    for tick in range(3):
        series = await source.history(END + timedelta(minutes=tick, seconds=30))
        assert len(series) == tick + 1
        assert series.time_at(tick) == END + timedelta(minutes=tick)
        np.testing.assert_array_equal(series.values, [7.0] * (tick + 1))
    assert server.endpoints == ["query_range", "query", "query", "query"]
    assert server.requests[1].url.params["time"] == str(int(T))


async def test_a_gathered_series_never_outgrows_the_window(autojump_clock: MockClock) -> None:
    source = source_of(only_instant(reply(404), instant()), points=4)
    for tick in range(9):
        series = await source.history(END + timedelta(minutes=tick))
    assert len(series) == 4
    assert series.time_at(3) == END + timedelta(minutes=8)


async def test_a_tick_without_a_value_leaves_a_gap_in_what_is_gathered(autojump_clock: MockClock) -> None:
    given = {0: "1", 1: "NaN", 3: "3"}

    def answer(request: httpx.Request) -> httpx.Response:
        tick = round((float(request.url.params["time"]) - T) / 60)
        return instant(given[tick])(request)

    source = source_of(only_instant(reply(404), answer))
    for tick in given:
        series = await source.history(END + timedelta(minutes=tick))
    np.testing.assert_array_equal(series.values, [1, math.nan, math.nan, 3])


@pytest.mark.parametrize("number_of_series", [1, 2])
async def test_a_load_beyond_all_measure_is_load(autojump_clock: MockClock, number_of_series: int) -> None:
    history = await source_of(Server(matrix(*[[(T, "1e308")]] * number_of_series))).history(END)
    assert history.newest == Observation(END, LARGEST)


async def test_an_instant_value_of_the_servers_own_now_counts_for_its_step(autojump_clock: MockClock) -> None:
    source = source_of(only_instant(reply(404), instant(at=T + 59)))
    np.testing.assert_array_equal((await source.history(END + timedelta(seconds=59))).values, [7])


@pytest.mark.parametrize("at", [T - 31, T + 60, T - 3600])
async def test_an_instant_value_of_another_time_is_none(autojump_clock: MockClock, at: float) -> None:
    body = f'{{"status":"success","data":{{"resultType":"scalar","result":[{at!r}, "7"]}}}}'
    caught = await raised_by(only_instant(reply(404), reply(content=body.encode())))
    assert caught.reason == "no_load"


async def test_range_queries_are_tried_again_now_and_then_and_taken_when_they_work(autojump_clock: MockClock) -> None:
    served = [reply(404)]

    def range_query(request: httpx.Request) -> httpx.Response:
        return served[-1](request)

    server = only_instant(range_query, instant())
    source = source_of(server)
    await source.history(END)
    await trio.sleep(RANGE_AGAIN_AFTER + 1)
    await source.history(END)
    assert server.endpoints == ["query_range", "query", "query_range", "query"]
    served.append(counting)
    await source.history(END)
    assert server.endpoints[4:] == ["query"]
    await trio.sleep(RANGE_AGAIN_AFTER + 1)
    assert len(await source.history(END)) == 10
    assert server.endpoints[5:] == ["query_range"]
    await source.history(END)
    assert server.endpoints[6:] == ["query_range"]


async def test_falling_back_is_logged_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    source = source_of(only_instant(error(404, "unknown endpoint", "not_found"), instant()))
    for _ in range(3):
        await source.history(END)
        await trio.sleep(RANGE_AGAIN_AFTER)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "not_found: unknown endpoint" in record.getMessage()


async def test_falling_back_again_is_logged_again(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    served = iter([reply(404), counting, reply(404), reply(404)])

    def range_query(request: httpx.Request) -> httpx.Response:
        return next(served)(request)

    source = source_of(only_instant(range_query, instant()))
    for _ in range(4):
        await source.history(END)
        await trio.sleep(RANGE_AGAIN_AFTER)
    assert len(caplog.records) == 2


async def test_a_url_that_serves_neither_query_is_an_error_and_not_remembered() -> None:
    server = Server(reply(404))
    source = source_of(server)
    for _ in range(2):
        with pytest.raises(SourceError, match="HTTP 404") as caught:
            await source.history(END)
        assert caught.value.reason == "refused"
    assert server.endpoints == ["query_range", "query"] * 2


async def test_the_words_of_a_404_reach_the_log_when_the_instant_query_fails_too() -> None:
    caught = await raised_by(Server(error(404, "no such tenant", "not_found")))
    assert "HTTP 404: not_found: no such tenant" in str(caught)


async def test_an_instant_matrix_is_refused(autojump_clock: MockClock) -> None:
    caught = await raised_by(only_instant(reply(404), matrix([(T, "1")])))
    assert caught.reason == "bad_answer"
    assert "its result is a matrix" in str(caught)


async def test_remarks_of_prometheus_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kedastral.source")
    answer = matrix([(T, "1")], warnings=["PromQL warning: a\nmix", "PromQL warning: a\nmix"], infos=["not a counter"])
    source = source_of(Server(answer))
    await source.history(END)
    await source.history(END)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Prometheus notes: PromQL warning: a mix"),
        ("INFO", "Prometheus notes: not a counter"),
    ]


async def test_ever_new_remarks_fill_neither_log_nor_memory(caplog: pytest.LogCaptureFixture) -> None:
    ticks = iter(range(1000))

    def answer(request: httpx.Request) -> httpx.Response:
        tick = next(ticks)
        return matrix([(T, "1")], warnings=[f"PromQL warning: {tick} {index}" for index in range(5000)])(request)

    source = source_of(Server(answer))
    for _ in range(30):
        await source.history(END)
    assert len(caplog.records) == 300
    assert len(source._api._warnings._seen) == 100
