# SPDX-License-Identifier: Apache-2.0
"""A reload is applied completely or not at all: workloads, data sources, and workloads from ScaledObjects."""

import io
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path

import attrs
import httpx
import pytest

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.clock import SystemClock
from kedastral.compose import Common, make_forecasting, show_workloads
from kedastral.core.series import Series
from kedastral.core.trigger import ObjectRef
from kedastral.errors import ConfigError
from kedastral.logs import SHOWN_ALONE, configure_logging, log_gathered
from kedastral.serving.scaler import Scaler
from kedastral.serving.view import SnapshotView
from kedastral.settings.declarations import PrometheusLogin, ScaledObjectSettings
from kedastral.settings.fleet import ConfiguredFleet, WorkloadSettings
from kedastral.workloads import data_sources, scaledobject_workloads
from kedastral.workloads.fleet import Changes
from kedastral.workloads.forecasting import Forecasting
from kedastral.workloads.runner import RunnerBuilder, WorkloadRunner
from kedastral.workloads.scaledobject_workloads import TriggerReader
from tests.settings.fleets import load_fleet, policy, source, write

LOW = {"min": "3", "defaultMin": "1"}
"""Settings that cause a warning."""


@attrs.frozen
class Nothing:
    """A source that is never read: the fleet of these tests does not run."""

    name = "nothing"

    async def history(self, now: datetime) -> Series:
        raise NotImplementedError


@attrs.frozen
class Rig:
    folder: Path
    forecasting: Forecasting

    def read(self, *documents: str) -> ConfiguredFleet:
        return load_fleet(write(self.folder, *documents))

    @property
    def settings(self) -> dict[str, WorkloadSettings]:
        """The settings of every workload, by key."""
        return {key: one.settings for key, one in self.forecasting.fleet.runners.items()}


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(scaledobject_workloads, "FIRST_WAIT", 0.0)  # nothing ticks: no first forecast will come
    async with AsyncExitStack() as stack:
        configured = load_fleet(write(tmp_path, source(), policy("a"), policy("b")))
        forecasting = make_forecasting(configured.settings, Common(SystemClock(), stack), lambda _: Nothing())
        forecasting.resolver.reader = TriggerReader(configured, ScaledObjectSettings())
        yield Rig(tmp_path, forecasting)


async def bring(rig: Rig, **metadata: str) -> str:
    return await rig.forecasting.resolver.find(ObjectRef("own", "shop", metadata))


async def test_the_fleet_becomes_what_was_read(rig: Rig) -> None:
    read = rig.read(source(), policy("a", min="5"), policy("c"))
    assert await rig.forecasting.apply(read) == Changes(added=("c",), changed=("a",), removed=("b",))
    assert rig.settings["a"].plan.min_replicas == 5
    assert not await rig.forecasting.apply(read)


async def test_what_scaled_objects_brought_follows_the_new_data_sources(rig: Rig) -> None:
    key = await bring(rig, query="up")
    assert rig.settings[key].data_source == "prom"
    await rig.forecasting.apply(rig.read(source("other"), policy("a")))
    assert rig.settings[key].data_source == "other"


async def test_one_that_files_describe_from_now_on_is_theirs(rig: Rig) -> None:
    key = await bring(rig, query="up")
    assert key not in rig.forecasting.resolver.configured
    await rig.forecasting.apply(rig.read(source(), policy("own", "shop", min="7")))
    assert rig.settings[key].plan.min_replicas == 7
    assert rig.forecasting.resolver.configured == {key}


def origins(rig: Rig, key: str) -> dict[str, str]:
    """Where each setting of a workload that somebody set was given, as the page shows it."""
    view = SnapshotView(rig.forecasting.fleet.store, rig.forecasting.resolver.policy_of, SystemClock())
    shown = show_workloads(view, rig.forecasting).settings_of(key)
    return {one.name: one.origin.rpartition("/")[2] for one in shown if one.origin != "default"}


async def test_where_a_setting_was_given_follows_each_reload_though_the_runner_stays(rig: Rig) -> None:
    """The policy moves to another file, and then makes a default explicit: nothing that is forecast changes."""
    await rig.forecasting.apply(rig.read(source(), policy("a", min="5")))
    runner = rig.forecasting.fleet.runners["a"]
    was = origins(rig, "a")
    assert "--min" in was
    (rig.folder / "config.yaml").unlink()
    for text, given in ((policy("a", min="5"), {"--min"}), (policy("a", min="5", max="50"), {"--min", "--max"})):
        write(rig.folder, source(), name="first.yaml")
        write(rig.folder, text, name="second.yaml")
        assert not await rig.forecasting.apply(load_fleet(rig.folder))
        shown = origins(rig, "a")
        assert shown.keys() - was.keys() == given - {"--min"}
        assert set(shown.values()) == {"second.yaml, document 1"}
    assert rig.forecasting.fleet.runners["a"] is runner
    await rig.forecasting.apply(rig.read(source(), policy("b")))
    assert origins(rig, "a") == {}


async def test_where_a_setting_was_given_follows_the_metadata_though_the_runner_stays(rig: Rig) -> None:
    key = await bring(rig, query="up")
    runner = rig.forecasting.fleet.runners[key]
    assert "--max" not in origins(rig, key)
    assert await bring(rig, query="up", max="50") == key
    assert rig.forecasting.fleet.runners[key] is runner
    assert "--max" in origins(rig, key)


async def test_what_cannot_be_put_into_effect_leaves_all_as_it_was(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    key, before = await bring(rig, query="up"), rig.settings
    build = RunnerBuilder.build

    def refuse(self: RunnerBuilder, settings: WorkloadSettings, member: WorkloadRunner | None = None) -> WorkloadRunner:
        if settings.workload == "c":
            raise ConfigError(["the certificate cannot be loaded"])
        return build(self, settings, member)

    monkeypatch.setattr(RunnerBuilder, "build", refuse)
    read = rig.read(source("other"), policy("a", min="5"), policy("c", **LOW))
    with pytest.raises(ConfigError, match="the certificate"):
        await rig.forecasting.apply(read)
    assert rig.settings == before
    assert rig.settings[key].data_source == "prom"
    assert rig.forecasting.resolver.reader is not None
    assert list(rig.forecasting.resolver.reader.configured.settings.sources) == ["prom"]
    assert rig.forecasting.warnings == ()


@pytest.mark.parametrize("works", [True, False], ids=["it works", "it is undone"])
async def test_a_data_source_that_nobody_uses_is_closed_once_it_is_configured_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    def open_one(url: str, login: PrometheusLogin) -> httpx.AsyncClient:
        clients.append(open_prometheus_client(url, login))
        return clients[-1]

    clients: list[httpx.AsyncClient] = []
    monkeypatch.setattr(data_sources, "open_prometheus_client", open_one)
    configured = load_fleet(write(tmp_path, source(), source("spare"), policy("a", dataSource="prom")))
    async with AsyncExitStack() as stack:
        forecasting = make_forecasting(configured.settings, Common(SystemClock(), stack))
        changed = [source(), source("spare", "  timeout: 7s\n"), policy("a", dataSource="prom")]
        if not works:
            changed.append(policy("b", dataSource="spare", model="http", modelUrl="'http://%zz'", window="2h"))
        read = load_fleet(write(tmp_path, *changed))
        with nullcontext() if works else pytest.raises(ConfigError):
            await forecasting.apply(read)
        assert [client.is_closed for client in clients] == [False, works, not works]


async def test_a_warning_is_told_once_for_as_long_as_it_holds(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    low, fine = rig.read(source(), policy("a", **LOW)), rig.read(source(), policy("a"))
    for read, told in ((low, 1), (low, 1), (fine, 1), (low, 2)):
        await rig.forecasting.apply(read)
        assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == told


@pytest.mark.usefixtures("restore_logging")
async def test_a_warning_of_each_of_many_workloads_is_told_in_few_lines(rig: Rig) -> None:
    stream, keys = io.StringIO(), [f"web-{number:02}" for number in range(2 * SHOWN_ALONE)]
    configure_logging("warn", "text", stream)
    await rig.forecasting.apply(rig.read(source(), *(policy(key, query="http_requests_total") for key in keys)))
    log_gathered()
    lines = stream.getvalue().splitlines()
    assert len(lines) == SHOWN_ALONE + 1
    assert f"the same for {SHOWN_ALONE} more workloads" in lines[-1]
    assert [key for key in keys if key not in stream.getvalue()] == []


async def test_a_refused_query_is_known_of_its_workload_to_the_metrics_and_to_keda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"status": "error", "errorType": "bad_data", "error": "parse error"})

    transport = httpx.MockTransport(refuse)
    monkeypatch.setattr(data_sources, "open_prometheus_client", partial(open_prometheus_client, transport=transport))
    configured = load_fleet(write(tmp_path, source(), policy("a", query="'bad('")))
    async with AsyncExitStack() as stack:
        common = Common(SystemClock(), stack)
        forecasting = make_forecasting(configured.settings, common)
        await forecasting.fleet.runners["a"].tick()
        labels = {"workload": "a", "component": "source", "reason": "refused"}
        assert common.metrics.registry.get_sample_value("kedastral_workload_failing", labels) == 1
        scaler = Scaler(forecasting.fleet.store, common.clock, forecasting.resolver)
        assert scaler.decide("a").reason == (
            "no forecast yet; Prometheus refuses the query: HTTP 400: bad_data: parse error"
        )


async def test_what_is_odd_in_metadata_is_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        await bring(rig, query="up", model="baseline", serviceLevel="0.9")
        await rig.forecasting.apply(rig.read(source(), policy("a")))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        (
            "ScaledObject shop/own: trigger metadata: serviceLevel is not used, since baseline plans by headroom; it "
            "steers auto; remove it, or change that"
        ),
        (
            "ScaledObject shop/own: targetPerPod is not given, so that 200 is assumed: the load of one pod decides "
            "almost everything; set it there"
        ),
    ]
