# SPDX-License-Identifier: Apache-2.0
"""From settings to the parts of a workload's tick, and what survives a change of settings."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import httpx
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from kedastral.adapters.http_model import HttpForecaster
from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.core.planning.snapshot import replicas_at
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.series import Series
from kedastral.errors import ConfigError, SourceError
from kedastral.serving.metrics import Metrics
from kedastral.serving.shared_store import Terms
from kedastral.serving.store import MemoryStore
from kedastral.settings.declarations import (
    ForecastSettings,
    ModelName,
    PlanSettings,
    PrometheusLogin,
    ServiceLevel,
    ServingSettings,
    StaleSettings,
)
from kedastral.settings.fleet import DataSourceSettings, WorkloadSettings
from kedastral.settings.types import HttpUrl, Name
from kedastral.workloads.data_sources import DataSources
from kedastral.workloads.fleet import Fleet
from kedastral.workloads.runner import RunnerBuilder, WorkloadRunner
from kedastral.workloads.training import TrainedForecaster, TrainingJob
from tests.adapters.answers import matrix
from tests.parts import START, StubSource, make_history, wall_clock

MAIN = DataSourceSettings(name="main", url=HttpUrl("http://prometheus:9090"))
SPARE = DataSourceSettings(name="spare", url=HttpUrl("http://spare:9090"))


def shop(**changes: Any) -> WorkloadSettings:
    """The settings of a workload; ``changes`` are keyed by the field of their group."""
    forecast = {"model": ModelName("auto"), **{k: v for k, v in changes.items() if k in FORECAST}}
    return WorkloadSettings(
        workload=Name("shop"),
        namespace=Name("prod"),
        data_source=changes.get("data_source", "main"),
        query=changes.get("query", "up"),
        forecast=ForecastSettings(**forecast),
        plan=PlanSettings(target_per_pod=changes.get("target_per_pod", 200.0)),
        level=ServiceLevel(service_level=changes.get("service_level", 0.99)),
        serving=ServingSettings(),
        stale=StaleSettings(stale_after=changes.get("stale_after", 120.0)),
    )


FORECAST = {field.name for field in attrs.fields(ForecastSettings)}


@pytest.fixture
async def builder() -> AsyncIterator[RunnerBuilder]:
    sources = DataSources()
    sources.replace({"main": MAIN, "spare": SPARE})
    yield RunnerBuilder(MemoryStore(), wall_clock(), Metrics(), sources)
    await sources.close()


@pytest.mark.parametrize(
    ("changes", "keeps_history", "keeps_model"),
    [
        ({}, True, True),
        ({"target_per_pod": 50.0}, True, True),
        ({"service_level": 0.999}, True, True),
        ({"interval": 60.0}, True, True),
        ({"horizon": 3600.0}, True, True),
        ({"model": ModelName("baseline"), "window": 14 * 86400.0}, True, False),
        ({"timezone": ZoneInfo("Europe/Berlin")}, True, False),
        ({"query": "down"}, False, False),
        ({"window": 86400.0}, False, False),
        ({"step": 30.0}, False, False),
        ({"stale_after": 60.0}, False, False),
        ({"data_source": "spare"}, False, False),
    ],
)
async def test_what_a_change_leaves_as_it_was(
    builder: RunnerBuilder, changes: dict[str, Any], keeps_history: bool, keeps_model: bool
) -> None:
    before = builder.build(shop())
    after = builder.build(shop(**changes), before)
    assert (after.parts.source is before.parts.source) is keeps_history
    assert (after.parts.forecaster is before.parts.forecaster) is keeps_model
    assert after.key == "prod/shop"


async def test_a_data_source_configured_otherwise_is_read_anew_and_the_old_way_closed_after_its_last_user(
    builder: RunnerBuilder,
) -> None:
    first, second = builder.build(shop()), builder.build(shop(query="other"))
    old = first.parts.source_identity.connection
    assert old is not None
    builder.sources.replace({"main": attrs.evolve(MAIN, max_concurrent=1), "spare": SPARE})
    await builder.sources.close_unused()
    after = builder.build(shop(), first)
    assert after.parts.source_identity.connection is not old
    assert after.parts.source is not first.parts.source
    await first.close(after)
    assert not old.client.is_closed
    await second.close(None)
    assert old.client.is_closed
    now = after.parts.source_identity.connection
    assert now is not None
    assert not now.client.is_closed


@pytest.mark.parametrize(
    ("changes", "is_other"),
    [
        ({}, False),
        ({"interval": 60.0}, False),
        ({"horizon": 3600.0}, False),
        ({"stale_after": 60.0}, False),
        ({"window": 86400.0}, False),
        ({"target_per_pod": 50.0}, True),
        ({"service_level": 0.999}, True),
        ({"query": "down"}, True),
        ({"model": ModelName("baseline")}, True),
        ({"data_source": "spare"}, True),
    ],
)
async def test_its_fingerprint_differs_where_its_numbers_mean_something_else(
    builder: RunnerBuilder, changes: dict[str, Any], is_other: bool
) -> None:
    fingerprint = builder.build(shop(**changes)).workload.fingerprint
    assert (fingerprint != builder.build(shop()).workload.fingerprint) is is_other
    assert len(fingerprint) == 16


async def test_its_snapshots_have_its_fingerprint(autojump_clock: MockClock) -> None:
    source = StubSource([make_history(1.0)])
    builder = RunnerBuilder(MemoryStore(), wall_clock(), Metrics(), open_source=lambda _: source)
    runner = builder.build(shop(model=ModelName("baseline")))
    await runner.tick_once()
    snapshot = builder.store.get(runner.key)
    assert snapshot is not None
    assert snapshot.fingerprint == runner.workload.fingerprint
    fleet = Fleet(builder.store, builder.metrics)
    fleet.put(runner)
    assert fleet.terms(runner.key) == Terms(runner.workload.fingerprint, 120.0)
    assert fleet.terms("nobody") == Terms()


async def test_a_source_that_is_in_use_and_configured_stays_open(builder: RunnerBuilder) -> None:
    runner = builder.build(shop())
    await runner.close(None)
    connection = builder.sources.use("main")
    assert connection is runner.parts.source_identity.connection
    assert not connection.client.is_closed


async def test_a_replacement_can_be_undone(builder: RunnerBuilder) -> None:
    before = builder.sources.use("main")
    undo = builder.sources.replace({"main": attrs.evolve(MAIN, timeout=1.0)})
    undo()
    assert builder.sources.use("main") is before
    assert builder.sources.use("spare").settings == SPARE
    await builder.sources.close_unused()
    assert not before.client.is_closed


async def test_a_replacement_can_be_undone_though_a_user_of_what_it_replaced_is_gone_meanwhile(
    builder: RunnerBuilder,
) -> None:
    before = builder.sources.use("main")
    undo = builder.sources.replace({"main": attrs.evolve(MAIN, timeout=1.0)})
    replaced = builder.sources.find("main")
    await builder.sources.release(before)
    undo()
    await builder.sources.close_unused()
    assert builder.sources.find("main") is before
    assert [before.client.is_closed, replaced.client.is_closed] == [False, True]


async def test_a_source_that_cannot_be_used_replaces_nothing(builder: RunnerBuilder) -> None:
    before = builder.sources.use("main")
    broken = attrs.evolve(MAIN, url=HttpUrl("http://%zz"))
    with pytest.raises(ConfigError):
        builder.sources.replace({"main": broken})
    assert builder.sources.use("main") is before


async def test_a_runner_knows_whether_its_query_was_ever_answered(builder: RunnerBuilder) -> None:
    first = builder.build(shop())
    assert not first.failed.answered
    first.failed.note_success()
    assert builder.build(shop(target_per_pod=7.0), first).failed.answered
    assert not builder.build(shop(query="down"), first).failed.answered


async def test_a_runner_that_ticks_again_fails_no_more_though_the_clock_was_set_back(
    autojump_clock: MockClock, builder: RunnerBuilder
) -> None:
    def read(_: WorkloadSettings) -> StubSource:
        return StubSource([SourceError("away", reason="timeout"), make_history(*[7.0] * 30)])

    clock = wall_clock()
    runner = attrs.evolve(builder, open_source=read, clock=clock).build(light(1))
    await runner.tick()
    assert runner.failed.value is not None
    clock.start -= timedelta(hours=1)
    await runner.tick()
    assert builder.store.get(runner.key) is not None
    assert runner.failed.value is None


async def test_what_keda_was_told_before_the_start_is_kept_to(builder: RunnerBuilder) -> None:
    def read(_: WorkloadSettings) -> StubSource:
        return StubSource([make_history(*[7.0] * 30)])

    runner = attrs.evolve(builder, open_source=read, last_served={light(1).key: 30}.get).build(light(1))
    await runner.tick()
    snapshot = builder.store.get(runner.key)
    assert snapshot is not None
    assert replicas_at(snapshot, snapshot.made_at) == 30


@pytest.mark.parametrize(("query", "lines"), [("http_requests_total", 0), ("requests", 1)])
async def test_a_counter_that_its_name_gave_away_is_not_named_again_for_its_values(
    query: str, lines: int, builder: RunnerBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    def read(_: WorkloadSettings) -> StubSource:
        return StubSource([Series(START - timedelta(minutes=90), 60.0, 1000.0 + 60 * np.arange(90))])

    runner = attrs.evolve(builder, open_source=read).build(light(1, query=query))
    await runner.tick()
    assert len([line for line in caplog.messages if "raw counter" in line]) == lines
    published = builder.store.get(runner.key)
    assert published is not None
    assert published.findings.raw_counter


async def test_a_runner_that_cannot_be_made_uses_no_source(builder: RunnerBuilder) -> None:
    before = builder.sources.find("main")
    with pytest.raises(ConfigError):
        builder.build(shop(model=ModelName("http"), model_url=HttpUrl("http://%zz"), window=1800.0))
    builder.sources.replace({})
    await builder.sources.close_unused()
    assert before.client.is_closed


async def test_the_way_to_an_own_model_is_closed_with_its_last_runner(builder: RunnerBuilder) -> None:
    model = {"model": ModelName("http"), "model_url": HttpUrl("http://model:80"), "window": 1800.0}
    first = builder.build(shop(**model))
    client = first.parts.model_client
    assert client is not None
    assert isinstance(first.parts.forecaster, HttpForecaster)
    second = builder.build(shop(**model, target_per_pod=50.0), first)
    await first.close(second)
    assert not client.is_closed
    third = builder.build(shop(**{**model, "model_url": HttpUrl("http://other:80")}), second)
    await second.close(third)
    assert client.is_closed
    await third.close(None)


async def test_what_was_to_be_learnt_is_dropped_with_the_last_runner_that_would_use_it(builder: RunnerBuilder) -> None:
    first = builder.build(shop())
    forecaster = first.parts.forecaster
    assert isinstance(forecaster, TrainedForecaster)
    builder.training.put(TrainingJob(UncertaintyState))  # so that the forecaster does not wait for its own
    await forecaster.forecast(make_history(*range(100, 150)), START, 3)
    second = builder.build(shop(target_per_pod=50.0), first)
    await first.close(second)
    async with trio.open_nursery() as nursery:
        job = forecaster._job
        assert job is not None
        assert not job.scope.cancel_called
        await second.close(builder.build(shop(query="other"), second))
        await nursery.start(builder.training.run)
        with trio.fail_after(10):
            await job.done.wait()
        assert job.outcome is None
        nursery.cancel_scope.cancel()


async def test_a_runner_answers_by_its_own_stale_settings_and_ticks_by_its_own_interval(
    builder: RunnerBuilder,
) -> None:
    runner = builder.build(shop(stale_after=7.0, interval=11.0))
    assert runner.workload.stale.stale_after == 7.0
    assert runner.interval == 11.0


async def test_a_runner_fits_until_its_settings_or_its_data_source_change(builder: RunnerBuilder) -> None:
    runner = builder.build(shop())
    assert builder.is_current(runner, shop())
    assert not builder.is_current(runner, shop(target_per_pod=50.0))
    builder.sources.replace({"main": MAIN, "spare": attrs.evolve(SPARE, timeout=1.0)})
    assert builder.is_current(runner, shop())
    builder.sources.replace({"main": attrs.evolve(MAIN, url=HttpUrl("http://elsewhere:9090")), "spare": SPARE})
    assert not builder.is_current(runner, shop())


class Servers:
    """A Prometheus that hangs at ``prometheus``, and one that answers at ``spare``."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}
        self.clients: list[httpx.AsyncClient] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked[request.url.host] = self.asked.get(request.url.host, 0) + 1
        if request.url.host == "prometheus":
            await trio.sleep_forever()
        times = [float(request.url.params["end"]) - 60 * back for back in range(30)]
        return matrix([(at, "7") for at in times])(request)

    def open(self, url: str, login: PrometheusLogin) -> httpx.AsyncClient:
        client = open_prometheus_client(url, login, transport=httpx.MockTransport(self))
        self.clients.append(client)
        return client


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr("kedastral.workloads.data_sources.open_prometheus_client", servers.open)
    return servers


def light(number: int, **changes: Any) -> WorkloadSettings:
    made = shop(model=ModelName("baseline"), window=1800.0, **changes)
    return attrs.evolve(made, workload=Name(f"shop-{number}"))


async def test_forty_workloads_moved_off_a_prometheus_that_hangs_tick_at_the_new_one_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery, servers: Servers
) -> None:
    clock = wall_clock()
    store, sources = MemoryStore(), DataSources()
    sources.replace({"main": MAIN, "spare": SPARE})
    builder = RunnerBuilder(store, clock, Metrics(), sources)
    fleet = Fleet(store, builder.metrics)
    await nursery.start(fleet.run)
    for number in range(40):
        fleet.put(builder.build(light(number)))
    await trio.sleep(5)
    assert not store.newest()
    for target in (100.0, 50.0):  # changed a second time before the first change was seen
        for number in range(40):
            key = light(number).key
            fleet.put(builder.build(light(number, data_source="spare", target_per_pod=target), fleet.runners[key]))
    await trio.sleep(1)
    assert len(store.newest()) == 40
    sources.replace({"spare": SPARE})
    await sources.close_unused()
    assert [client.is_closed for client in servers.clients] == [True, False]
    asked = servers.asked["prometheus"]
    await trio.sleep(60)
    assert servers.asked["prometheus"] == asked


async def test_a_reading_goes_on_where_the_successor_reads_the_same(
    autojump_clock: MockClock, nursery: trio.Nursery, servers: Servers
) -> None:
    sources = DataSources()
    sources.replace({"main": MAIN, "spare": SPARE})
    builder = RunnerBuilder(MemoryStore(), wall_clock(), Metrics(), sources)
    before = builder.build(light(1))
    same, other = builder.build(light(1, target_per_pod=7.0), before), builder.build(light(1, query="other"), before)
    assert not before.reads_unused_history(None)
    nursery.start_soon(before.tick)
    await trio.sleep(1)
    assert not before.reads_unused_history(same)
    assert before.reads_unused_history(other)
    assert before.reads_unused_history(None)
    await trio.sleep(20)
    assert not before.reads_unused_history(None)


@attrs.define
class TwoDays:
    """A source of two days of minutes that wander."""

    name: str = "two-days"

    async def history(self, now: datetime) -> Series:
        """See `kedastral.core.ports.MetricSource.history`."""
        steps = np.random.default_rng(3).normal(0, 0.02, 2 * 1440)
        return Series(now - timedelta(minutes=len(steps) - 1), 60.0, 1000 * np.exp(np.cumsum(steps)))


async def margin_after(*lead_times: float) -> float:
    """The margin of the plan that is made once the workload has had each of ``lead_times``, a reload between them."""
    store, before = MemoryStore(), None
    builder = RunnerBuilder(store, wall_clock(), Metrics(), open_source=lambda _: TwoDays())
    async with trio.open_nursery() as nursery:
        await nursery.start(builder.training.run)
        for lead_time in lead_times:
            runner = builder.build(attrs.evolve(shop(), serving=ServingSettings(lead_time=lead_time)), before)
            if before is not None:
                runner.take_over(before)
            with trio.fail_after(30):
                while not (windows := await windows_after_tick(runner, store)):  # noqa: ASYNC110
                    await trio.sleep(0.01)  # it learns in a thread
            before = runner
        nursery.cancel_scope.cancel()
    assert windows > 100
    snapshot = store.get("prod/shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    return snapshot.service_level.state.uncertainty.model.margins[0]


async def windows_after_tick(runner: WorkloadRunner, store: MemoryStore) -> int:
    """How many forecasts the uncertainty of the newest plan was found from."""
    await runner.tick_once()
    snapshot = store.get(runner.key)
    return snapshot.service_level.state.uncertainty.model.windows if snapshot and snapshot.service_level else 0


async def test_after_a_reload_the_margin_is_that_of_the_new_lead_time() -> None:
    short, long, reloaded = await margin_after(300.0), await margin_after(1200.0), await margin_after(300.0, 1200.0)
    assert long > 1.2 * short
    assert reloaded == pytest.approx(long)


READ_AGAIN, STEERED = "afresh: history, model, late samples", "factor and hold, held plans"
ERRORS = "errors of the forecast"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_per_pod": 50.0}, "targetPerPod 200 -> 50; afresh: held plans"),
        (
            {"service_level": 0.995, "target_per_pod": 50.0, "stale_after": 60.0},
            f"targetPerPod 200 -> 50, serviceLevel 0.99 -> 0.995, staleAfter 2m -> 1m; {READ_AGAIN}, {STEERED}",
        ),
        ({"interval": 60.0}, "interval 30s -> 1m; nothing starts afresh"),
        ({"window": 3600.0}, f"window 14d (what auto wants) -> 1h; {READ_AGAIN}"),
        (
            {"query": "sum(up)\n by (pod)"},
            f"query up -> sum(up) by (pod); {READ_AGAIN}, {ERRORS}, factor and hold, error budget, held plans",
        ),
        ({}, None),
    ],
)
async def test_what_a_change_of_settings_changes_is_logged(
    builder: RunnerBuilder, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], said: str | None
) -> None:
    caplog.set_level("INFO", "kedastral.config")
    before = builder.build(shop())
    builder.build(shop(**changes), before).take_over(before)
    assert caplog.messages == ([] if said is None else [f"new settings: {said}"])
    assert {vars(record)["workload"] for record in caplog.records} == (set() if said is None else {"prod/shop"})
