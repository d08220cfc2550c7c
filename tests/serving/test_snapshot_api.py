# SPDX-License-Identifier: Apache-2.0
"""The snapshot server's answers: forecasts, probes, metrics, and every error in one JSON shape."""

import json
import logging
import threading
from datetime import timedelta
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from prometheus_client import CollectorRegistry, generate_latest
from quart import typing as quart_typing
from quart_trio import QuartTrio
from trio.testing import MockClock

from kedastral.clock import WallClock
from kedastral.core.capacity import PlanPolicy
from kedastral.core.failures import Failure
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.serving import snapshot_api
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.snapshot_api import SnapshotView, create_app
from kedastral.serving.store import MemoryStore
from kedastral.workloads.tick import ForecastLoop, Workload
from tests.parts import START, StubForecaster, StubSource, make_history, make_snapshot, wall_clock

ROUTES = (
    "/forecast/current", "/explain", "/healthz", "/readyz", "/metrics", "/openapi.json",
    "/api/workloads", "/api/workloads/shop", "/", "/workloads/shop", "/assets/page.css",
)  # fmt: skip
STALE_AFTER = 120.0


@attrs.define
class Site:
    """The application and everything that it shows, controlled by the test."""

    clock: WallClock = attrs.field(factory=wall_clock)
    store: MemoryStore = attrs.field(factory=MemoryStore)
    readiness: Readiness = attrs.field(factory=lambda: Readiness.of({"http", "grpc"}))
    metrics: Metrics = attrs.field(factory=Metrics)
    serves_forecasts: bool = True
    app: QuartTrio = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        view = SnapshotView(self.store, lambda _: StalePolicy(STALE_AFTER), self.clock)
        self.metrics.show_snapshots(self.store, self.clock)
        self.app = create_app(view, self.readiness, self.metrics.registry, serves_forecasts=self.serves_forecasts)

    @property
    def client(self) -> quart_typing.TestClientProtocol:
        return self.app.test_client()


async def read_error(response: Any) -> str:
    """The message of an error; fails unless it has the common shape of errors."""
    assert response.content_type == "application/json"
    document = json.loads(await response.get_data(as_text=True))
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    assert document["error"]
    return str(document["error"])


async def test_after_one_tick_the_forecast_and_its_plan_are_shown_in_full(autojump_clock: MockClock) -> None:
    site = Site()
    horizon, step = 1800, 60
    workload = Workload("shop", "http_rps", horizon // step, 300.0, PlanPolicy())
    source, forecaster = StubSource([make_history(300.0)]), StubForecaster(lambda steps: [900.0] * steps)
    await ForecastLoop(workload, source, forecaster, site.store, site.clock).tick()
    response = await site.client.get("/forecast/current?workload=shop")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert "X-Kedastral-Stale" not in response.headers
    document = json.loads(await response.get_data(as_text=True))
    assert len(document["values"]) == len(document["desiredReplicas"]) == horizon / step
    assert document == {
        "workload": "shop",
        "metric": "http_rps",
        "generatedAt": "2026-03-01T12:00:00Z",
        "stepSeconds": 60,
        "horizonSeconds": 1800,
        "values": [900] * 30,
        "desiredReplicas": [6] * 30,
        "leadTimeSeconds": 300,
        "observedAt": "2026-03-01T11:59:00Z",
        "observedValue": 300,
        "reactiveReplicas": 2,
        "mode": "scale",
        "minReplicas": 2,
        "resumedAt": "2026-03-01T12:00:00Z",
        "resumptionSeconds": 300,
    }


async def test_whoever_has_the_newest_snapshot_is_not_sent_it_again(autojump_clock: MockClock) -> None:
    site = Site()
    await site.store.put(make_snapshot())
    first = await site.client.get("/forecast/current?workload=shop")
    tag = first.headers["ETag"]
    for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await site.client.get("/forecast/current?workload=shop", headers={"If-None-Match": given})
        assert (again.status_code, await again.get_data(as_text=True)) == (304, "")
        assert again.headers["ETag"] == tag
    await site.store.put(make_snapshot([9], made_at=START + timedelta(seconds=30)))
    newer = await site.client.get("/forecast/current?workload=shop", headers={"If-None-Match": tag})
    assert newer.status_code == 200
    assert newer.headers["ETag"] != tag
    site.store.forget("shop")
    gone = await site.client.get("/forecast/current?workload=shop", headers={"If-None-Match": newer.headers["ETag"]})
    assert gone.status_code == 404


async def test_what_has_not_changed_may_be_stale_by_now(autojump_clock: MockClock) -> None:
    site = Site()
    await site.store.put(make_snapshot())
    tag = (await site.client.get("/forecast/current?workload=shop")).headers["ETag"]
    await trio.sleep(STALE_AFTER + 1)
    again = await site.client.get("/forecast/current?workload=shop", headers={"If-None-Match": tag})
    assert (again.status_code, again.headers["X-Kedastral-Stale"]) == (304, "true")


async def test_processes_that_have_the_same_snapshot_give_it_the_same_tag(autojump_clock: MockClock) -> None:
    tags = []
    for replicas in (1, 1, 2):
        site = Site()
        await site.store.put(make_snapshot([replicas]))
        tags.append((await site.client.get("/forecast/current?workload=shop")).headers["ETag"])
    assert tags[0] == tags[1] != tags[2]


@pytest.mark.parametrize("query", ["", "?", "?workload=", "?workload=%20", "?Workload=shop", "?other=shop"])
async def test_a_forecast_without_a_workload_is_a_bad_request(autojump_clock: MockClock, query: str) -> None:
    response = await Site().client.get("/forecast/current" + query)
    assert response.status_code == 400
    assert "workload" in await read_error(response)


@pytest.mark.parametrize("name", ["nobody", "shop%2F", "%E2%9C%93", "%00", "%FF", "shop" * 5000, "..%2f..", "'--"])
async def test_a_workload_without_a_snapshot_is_not_found(autojump_clock: MockClock, name: str) -> None:
    site = Site()
    await site.store.put(make_snapshot())
    response = await site.client.get(f"/forecast/current?workload={name}")
    assert response.status_code == 404
    assert await response.get_data(as_text=True) == '{"error":"snapshot not found"}\n'
    assert response.content_type == "application/json"


async def test_unknown_query_parameters_are_ignored(autojump_clock: MockClock) -> None:
    site = Site()
    await site.store.put(make_snapshot())
    for path in (
        "/forecast/current?verbose=1&workload=shop&x=%FF&&=",
        "/healthz?x",
        "/metrics?name[]=up",
        "/openapi.json?x",
        "/explain?workload=shop&x",
        "/api/workloads?state=stale",
        "/api/workloads/shop?x=1",
    ):
        assert (await site.client.get(path)).status_code == 200, path


async def test_a_workload_with_an_unusual_name_is_found(autojump_clock: MockClock) -> None:
    site = Site()
    await site.store.put(make_snapshot(workload="päy/ments & more"))
    response = await site.client.get("/forecast/current", query_string={"workload": "päy/ments & more"})
    assert (await response.get_json())["workload"] == "päy/ments & more"


async def test_staleness_is_said_by_both_endpoints_from_the_moment_it_begins(autojump_clock: MockClock) -> None:
    site = Site()
    await site.store.put(make_snapshot())

    async def said() -> list[str | None]:
        paths = ("/forecast/current?workload=shop", "/healthz")
        answers = [await site.client.get(path) for path in paths]
        assert [answer.status_code for answer in answers] == [200, 200]
        return [answer.headers.get("X-Kedastral-Stale") for answer in answers]

    assert await said() == [None, None]
    await trio.sleep(STALE_AFTER - 0.001)
    assert await said() == [None, None]
    await trio.sleep(0.002)
    assert await said() == ["true", "true"]


async def test_one_stale_workload_is_enough_for_the_health_header(autojump_clock: MockClock) -> None:
    site = Site()
    await site.store.put(make_snapshot(workload="old"))
    await trio.sleep(STALE_AFTER + 1)
    await site.store.put(make_snapshot(workload="new", made_at=site.clock.now()))
    assert (await site.client.get("/healthz")).headers["X-Kedastral-Stale"] == "true"
    assert "X-Kedastral-Stale" not in (await site.client.get("/forecast/current?workload=new")).headers


async def test_without_any_snapshot_health_is_good_and_not_stale(autojump_clock: MockClock) -> None:
    response = await Site().client.get("/healthz")
    assert response.status_code == 200
    assert "X-Kedastral-Stale" not in response.headers
    assert await response.get_json() == {"status": "ok"}


async def test_ready_once_all_services_are_up_until_draining_begins(autojump_clock: MockClock) -> None:
    site = Site()

    async def ask() -> tuple[int, str]:
        response = await site.client.get("/readyz")
        return response.status_code, await response.get_data(as_text=True)

    assert await ask() == (503, '{"error":"starting: waiting for grpc, http"}\n')
    site.readiness.mark_up("http")
    assert await ask() == (503, '{"error":"starting: waiting for grpc"}\n')
    site.readiness.mark_up("grpc")
    assert await ask() == (200, '{"status":"ready"}\n')
    site.readiness.begin_drain()
    assert await ask() == (503, '{"error":"shutting down"}\n')
    assert (await site.client.get("/healthz")).status_code == 200


async def test_the_metrics_page_computes_age_and_replicas_as_it_is_read(autojump_clock: MockClock) -> None:
    site = Site()
    await site.store.put(make_snapshot([3, 5, 8, 6, 9, 9], lead=180, floor=4))

    async def read() -> list[str]:
        page = await (await site.client.get("/metrics")).get_data(as_text=True)
        return [
            line for line in page.splitlines() if line.startswith(("kedastral_forecast_age_", "kedastral_desired_"))
        ]

    assert await read() == [
        'kedastral_forecast_age_seconds{workload="shop"} 0.0',
        'kedastral_desired_replicas{workload="shop"} 8.0',
    ]
    await trio.sleep(90)
    assert await read() == [
        'kedastral_forecast_age_seconds{workload="shop"} 90.0',
        'kedastral_desired_replicas{workload="shop"} 9.0',
    ]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=abc", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.x.y", ""),
        (";;,,=;q=x", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_the_metrics_page_is_in_the_format_asked_for_and_never_fails(
    autojump_clock: MockClock, accept: str, content_type: str
) -> None:
    response = await Site().client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.content_type is not None
    assert response.content_type.startswith(content_type)
    assert "kedastral_build_info" in await response.get_data(as_text=True)


@pytest.mark.parametrize("route", ROUTES)
async def test_head_answers_as_get(autojump_clock: MockClock, route: str) -> None:
    site = Site(readiness=Readiness.of(()))
    await site.store.put(make_snapshot())
    path = route if route.startswith("/api/") else route + "?workload=shop"
    head, get = await site.client.head(path), await site.client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content_type == get.content_type


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "QUERY"])
@pytest.mark.parametrize("route", ROUTES)
async def test_every_other_method_is_refused(autojump_clock: MockClock, route: str, method: str) -> None:
    response = await Site().client.open(route, method=method)
    assert response.status_code == 405
    assert await read_error(response) == "method not allowed"
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path",
    [
        "/assets/", "/assets/..%2fanswers.py", "/workloads", "/workloads/", "/api", "/api/workloads/",
        "/forecast", "/forecast/", "/forecast/current/", "/forecast//current",
        "/%66orecast/current/x", "/healthz/", "/HEALTHZ", "/metrics/x",
        "/static/x", "/../healthz", "/healthz%00", "/healthz\u2028", "/✓", "/%ff", "/%", "/" + "a" * 20_000,
        "/forecast/current;x=1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_unknown_paths_are_not_found(autojump_clock: MockClock, method: str, path: str) -> None:
    response = await Site().client.open(path, method=method)
    assert response.status_code == 404
    assert "Location" not in response.headers
    assert response.content_type == "application/json"
    if method != "HEAD":
        assert await read_error(response) == "not found"


@pytest.mark.parametrize("path", ["//forecast/current", "/forecast%2fcurrent", "/%66orecast/current"])
async def test_another_spelling_of_a_route_is_an_error_in_the_same_shape(autojump_clock: MockClock, path: str) -> None:
    response = await Site().client.get(path)
    assert response.status_code in (400, 404)
    await read_error(response)


async def test_the_split_scaler_shows_probes_and_metrics_alone(autojump_clock: MockClock) -> None:
    site = Site(serves_forecasts=False, readiness=Readiness.of(()))
    assert (await site.client.get("/forecast/current?workload=shop")).status_code == 404
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await site.client.get(path)).status_code == 200


class BuggyStore(MemoryStore):
    """A store in which every read hits a bug."""

    def get(self, workload: str) -> Any:
        raise ZeroDivisionError(f"a bug for {workload}")

    def newest(self) -> Any:
        raise ZeroDivisionError("a bug for all")


@pytest.mark.parametrize("path", ["/forecast/current?workload=shop", "/healthz", "/metrics"])
async def test_a_bug_fails_its_request_and_leaves_its_traceback(
    autojump_clock: MockClock, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(readiness=Readiness.of(()))
    view = SnapshotView(BuggyStore(), lambda _: StalePolicy(STALE_AFTER), site.clock)
    metrics = Metrics()
    metrics.show_snapshots(view.reader, site.clock)
    client = create_app(view, site.readiness, metrics.registry).test_client()
    response = await client.get(path, headers={"X-Request-Id": "seen-by-a-user"})
    assert response.status_code == 500
    assert await read_error(response) == "internal error"
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert vars(record)["request_id"] == response.headers["X-Request-Id"] == "seen-by-a-user"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    assert (await client.get("/readyz")).status_code == 200


async def test_a_given_request_id_is_returned_and_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "kedastral.http")
    response = await Site().client.get("/healthz", headers={"X-Request-Id": "abc-123"})
    assert response.headers["X-Request-Id"] == "abc-123"
    [record] = [vars(record) for record in caplog.records if record.name == "kedastral.http"]
    assert {key: record[key] for key in ("method", "path", "status", "request_id")} == {
        "method": "GET",
        "path": "/healthz",
        "status": 200,
        "request_id": "abc-123",
    }
    assert 0 <= record["duration"] < 60


@pytest.mark.parametrize("given", ["", "x" * 129, "naïve", "a\tb"])
async def test_an_unusable_request_id_is_replaced(autojump_clock: MockClock, given: str) -> None:
    client = Site().client
    made = [(await client.get("/nowhere", headers={"X-Request-Id": given})).headers["X-Request-Id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(one) == 32 and one.isalnum() for one in made)


@pytest.mark.parametrize("host", ["a..b", "..", "x" * 300, "a b", "", "xn--\xc3", "a:99999999"])
async def test_every_host_is_served(autojump_clock: MockClock, host: str) -> None:
    site = Site()
    response = await site.client.get("/healthz", headers={"Host": host})
    assert response.status_code == 200
    response = await site.client.get("/nope", headers={"Host": host})
    assert response.status_code == 404
    assert await read_error(response) == "not found"
    response = await site.client.post("/metrics", headers={"Host": host})
    assert response.status_code == 405


async def test_the_metrics_of_many_workloads_are_written_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    site, writers = Site(), []

    def write(registry: CollectorRegistry) -> bytes:
        writers.append(threading.current_thread())
        return generate_latest(registry)

    def find_failing() -> dict[str, Failure]:
        assert site.store.get("shop-0") is not None, "the store goes by Trio's clock"
        return {"shop-0": Failure(site.clock.now(), "source", "refused")}

    site.metrics.show_failures(find_failing)
    monkeypatch.setattr(snapshot_api, "_choose_encoder", lambda _accept: (write, "text/plain"))
    for number in range(snapshot_api.MAX_WRITTEN_AT_ONCE + 1):
        await site.store.put(make_snapshot(workload=f"shop-{number}"))
        response = await site.client.get("/metrics")
        page = await response.get_data(as_text=True)
        assert f'kedastral_desired_replicas{{workload="shop-{number}"}}' in page
        assert 'kedastral_workload_failing{component="source",reason="refused",workload="shop-0"} 1' in page
    assert set(writers[:-1]) == {threading.main_thread()}
    assert writers[-1] is not threading.main_thread()


async def test_who_waits_for_the_metrics_while_they_are_written_gets_a_newer_page_in_common(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site, pages, may_go_on = Site(), [], threading.Event()

    def write(_: CollectorRegistry) -> bytes:
        pages.append(b"page %d\n" % len(pages))
        may_go_on.wait(30)
        return pages[-1]

    monkeypatch.setattr(snapshot_api, "_choose_encoder", lambda _accept: (write, "text/plain"))
    for number in range(snapshot_api.MAX_WRITTEN_AT_ONCE + 1):
        await site.store.put(make_snapshot(workload=f"shop-{number}"))
    answers = []

    async def scrape() -> None:
        answers.append(await (await site.client.get("/metrics")).get_data(as_text=False))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(scrape)
            await trio.testing.wait_all_tasks_blocked()
        may_go_on.set()
    await scrape()
    assert sorted(answers) == [b"page 0\n", *[b"page 1\n"] * 4, b"page 2\n"]


async def test_too_many_who_wait_for_the_metrics_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    site, may_go_on = Site(), threading.Event()

    def write(_: CollectorRegistry) -> bytes:
        may_go_on.wait(30)
        return b"page"

    monkeypatch.setattr(snapshot_api, "_choose_encoder", lambda _accept: (write, "text/plain"))
    monkeypatch.setattr(snapshot_api, "MAX_WAITING_SCRAPES", 1)
    for number in range(snapshot_api.MAX_WRITTEN_AT_ONCE + 1):
        await site.store.put(make_snapshot(workload=f"shop-{number}"))
    answers = []

    async def scrape() -> None:
        answers.append(await site.client.get("/metrics"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(scrape)
            await trio.testing.wait_all_tasks_blocked()
        may_go_on.set()
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert answers[0].headers["Connection"] == "close"
    assert await read_error(answers[0]) == "too many requests for the metrics at once"
