# SPDX-License-Identifier: Apache-2.0
"""A source that continues from what another one saved reads only what is new, and knows what that one knew."""

from datetime import datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.kept_state import KeptHistory
from kedastral.core.ports import RestorableSource
from kedastral.errors import SourceError
from tests.adapters import test_data_quality as quality
from tests.adapters.answers import END, Reply, Server, counting, error, matrix, reply, source_of, success

MINUTE = timedelta(minutes=1)


def kept_history(source: PrometheusSource) -> KeptHistory | None:
    """What ``source`` keeps, as a store gives it to the next process."""
    kept = source.kept_history()
    if kept is None:
        return None
    points, instant = kept
    return KeptHistory(
        workload="shop", source="", query="", start=points.start, step=points.step,
        values=points.values.astype(np.float32), instant=instant,
    )  # fmt: skip


def restored(before: PrometheusSource, after: PrometheusSource) -> PrometheusSource:
    """``after``, which continues from ``before``."""
    after.restore(before.kept_state(), kept_history(before))
    return after


def spans(server: Server) -> list[tuple[datetime, datetime]]:
    """The first and the last point of each request."""
    asked = [request.url.params for request in server.requests]
    return [tuple(datetime.fromtimestamp(float(one[key]), END.tzinfo) for key in ("start", "end")) for one in asked]  # type: ignore[misc]


def test_a_source_of_prometheus_can_be_restored() -> None:
    assert isinstance(source_of(Server(counting)), RestorableSource)


async def test_one_that_has_read_nothing_keeps_nothing() -> None:
    assert source_of(Server(counting)).kept_history() is None


@pytest.mark.parametrize("pause", [0, 1, 7, 60, 599])
async def test_after_a_restart_only_what_is_new_is_asked_for_with_an_overlap(pause: int) -> None:
    before, now = source_of(Server(counting), points=600), END + pause * MINUTE
    await before.history(END)
    server = Server(counting)
    after = restored(before, source_of(server, points=600))
    series = await after.history(now)
    assert spans(server) == [(max(END - 2 * MINUTE, now - 599 * MINUTE), now)]
    assert series == await source_of(Server(counting), points=600).history(now)


async def test_after_a_pause_as_long_as_the_window_all_of_it_is_read() -> None:
    before, now = source_of(Server(counting), points=60), END + timedelta(hours=3)
    await before.history(END)
    server = Server(counting)
    await restored(before, source_of(server, points=60)).history(now)
    assert spans(server) == [(now - 59 * MINUTE, now)]


@pytest.mark.parametrize(("points", "asked"), [(300, 3), (1200, 603)])
async def test_another_window_is_filled_from_what_is_there(points: int, asked: int) -> None:
    before = source_of(Server(counting), points=600)
    await before.history(END)
    server = Server(counting)
    series = await restored(before, source_of(server, points=points)).history(END)
    assert series == await source_of(Server(counting), points=points).history(END)
    assert sum((end - start) // MINUTE + 1 for start, end in spans(server)) == asked


async def test_what_was_not_read_yet_is_read_then() -> None:
    """The first process read only the newest chunk; the rest failed."""
    half = Server(counting, error(422, "too many samples", "execution"))
    before = source_of(half, points=3000, points_per_request=1000)
    newest = await before.history(END)
    assert len(newest) == 1000
    server = Server(counting)
    series = await restored(before, source_of(server, points=3000)).history(END)
    assert len(series) == 3000
    assert sum((end - start) // MINUTE + 1 for start, end in spans(server)) == 2003


async def test_a_history_on_another_grid_is_not_used() -> None:
    before = source_of(Server(counting), points=60)
    await before.history(END)
    history = kept_history(before)
    assert history is not None
    for other in (attrs.evolve(history, start=history.start + timedelta(seconds=30)), attrs.evolve(history, step=30.0)):
        server = Server(counting)
        after = source_of(server, points=60)
        after.restore(None, other)
        await after.history(END)
        assert spans(server) == [(END - 59 * MINUTE, END)]


async def test_while_a_reading_fails_no_history_with_holes_is_kept() -> None:
    source = source_of(Server(counting, reply(503)), points=60)
    await source.history(END)
    whole = source.kept_history()
    with pytest.raises(SourceError):
        await source.history(END + MINUTE)
    assert whole is not None
    assert source.kept_history() is None


async def test_the_settling_time_that_was_learned_holds_at_once() -> None:
    """Points settle after 120 s there; a source without that knowledge would count them as load."""
    server = quality.late(120.0)
    before = quality.source_of(server)
    known = await server.run(before, 60)
    after = quality.source_of(server)
    after.restore(before.kept_state(), kept_history(before))
    server.now += timedelta(seconds=30)
    again, fresh = await after.history(server.now), await quality.source_of(server).history(server.now)
    assert again.quality.settling == known.quality.settling > 0
    assert fresh.quality.settling == 0
    assert again == await before.history(server.now)
    assert again.quality.watched == known.quality.watched + 30
    assert fresh.quality.watched == 0


async def test_how_many_series_are_summed_is_known_at_once() -> None:
    two: Reply = lambda request: matrix(*[[(at, "1") for at in times_of(request)]] * 2)(request)  # noqa: E731
    before = source_of(Server(two), points=60)
    await before.history(END)
    series = await restored(before, source_of(Server(two), points=60)).history(END + MINUTE)
    assert series.quality.counts is not None
    assert len(series.quality.counts) == 41
    assert set(series.quality.counts.values) == {2.0}


def times_of(request: object) -> list[float]:
    params = request.url.params  # type: ignore[attr-defined]
    return list(np.arange(float(params["start"]), float(params["end"]) + 1, 60.0))


async def test_instant_values_that_were_gathered_go_on_being_gathered() -> None:
    def instant(request: object) -> object:
        if request.url.path.endswith("query_range"):  # type: ignore[attr-defined]
            return reply(404)(request)  # type: ignore[arg-type]
        at = float(request.url.params["time"])  # type: ignore[attr-defined]
        return success([{"metric": {}, "value": [at, str(at // 60 % 1000)]}], "vector")(request)  # type: ignore[arg-type]

    before, now = source_of(Server(instant), points=60), END  # type: ignore[arg-type]
    for _ in range(5):
        series, now = await before.history(now), now + MINUTE
    assert len(series) == 5
    after = restored(before, source_of(Server(instant), points=60))  # type: ignore[arg-type]
    again = await after.history(now)
    assert again.values.tolist() == [*series.values.tolist(), series.values[-1] + 1]


async def test_a_proxy_that_denies_the_range_at_the_start_costs_no_history() -> None:
    before = source_of(Server(counting), points=60)
    await before.history(END)
    after = restored(before, source_of(Server(reply(404), counting), points=60))
    with pytest.raises(SourceError):
        await after.history(END + MINUTE)
    assert len(await after.history(END + MINUTE)) == 60
