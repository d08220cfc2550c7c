# SPDX-License-Identifier: Apache-2.0
"""One process, many workloads: files edited while KEDA asks, SIGHUP, and workloads that ScaledObjects describe."""

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from kedastral.logs import SHOWN_ALONE
from tests.waiting import PATIENCE, wait_for

from .raw_grpc import SERVICE
from .running import ANY_PORT, QUICK, ProcessInput, fetch
from .stand_in import StandIn, open_stand_in

pytestmark = pytest.mark.process

LISTEN = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT}
SPEC = "horizon: 60s, step: 1s, interval: 1s, leadTime: 10s, window: 30s, model: baseline, headroom: 1"
RATE = 100
"""Calls a second."""


@pytest.fixture
def prometheus() -> Iterator[StandIn]:
    with open_stand_in() as server:
        yield server


def write_source(prometheus: StandIn) -> str:
    return (
        "apiVersion: kedastral.io/v1alpha1\nkind: DataSource\n"
        f"metadata: {{name: main}}\nspec: {{url: '{prometheus.url}'}}\n"
    )


def write_policy(name: str, target: float, namespace: str = "prod") -> str:
    return (
        "---\napiVersion: kedastral.io/v1alpha1\nkind: ForecastPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{query: up, targetPerPod: {target:g}, reactiveFloor: false, {SPEC}}}\n"
    )


@attrs.define
class Keda:
    """Calls over one connection; `keep_asking` makes them in a thread and records failures."""

    port: int
    channel: Any = attrs.field(init=False)
    failures: list[str] = attrs.field(factory=list)
    answers: dict[str, list[int]] = attrs.field(factory=dict)
    done: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def ask(self, method: str, kind: Any, **metadata: str) -> Any:
        ref = pb.ScaledObjectRef(name="web", namespace="prod", scalerMetadata=metadata)
        request = pb.GetMetricsRequest(scaledObjectRef=ref) if method == "GetMetrics" else ref
        serialize = type(request).SerializeToString
        call = self.channel.unary_unary(
            SERVICE + method, request_serializer=serialize, response_deserializer=kind.FromString
        )
        return call(request, timeout=PATIENCE, wait_for_ready=True)

    def replicas(self, **metadata: str) -> int:
        [value] = self.ask("GetMetrics", pb.GetMetricsResponse, **metadata).metricValues
        return int(value.metricValue)

    def keep_asking(self, *workloads: str) -> None:
        began = time.monotonic()
        for count, workload in enumerate(itertools.cycle(workloads)):
            if self.done.wait(max(0.0, began + count / RATE - time.monotonic())):
                return
            try:
                self.answers.setdefault(workload, []).append(self.replicas(workload=workload))
            except grpc.RpcError as error:
                self.failures.append(f"{workload}: {error}")


def swap(folder: Path, version: str, *documents: str) -> None:
    """Change files as the kubelet changes a ConfigMap: a new folder, and a link renamed over the old one."""
    new = folder / f"..{version}"
    new.mkdir()
    (new / "fleet.yaml").write_text("".join(documents))
    (folder / "..next").symlink_to(new.name)
    (folder / "..next").rename(folder / "..data")
    if not (folder / "fleet.yaml").is_symlink():
        (folder / "fleet.yaml").symlink_to("..data/fleet.yaml")


def test_files_are_edited_under_a_hundred_calls_a_second_and_no_call_fails(prometheus: StandIn, tmp_path: Path) -> None:
    source = write_source(prometheus)  # a load of 700
    swap(tmp_path, "1", source, write_policy("shop", 100), write_policy("pay", 350))
    with ProcessInput("run", {**LISTEN, "--config": str(tmp_path)}) as process:
        http, port = process.ports("HTTP", "gRPC")
        keda = Keda(port)
        for workload in ("shop", "pay"):
            wait_for(
                lambda workload=workload: fetch(http, f"/forecast/current?workload=prod/{workload}").status == 200,
                workload,
            )
        asking = threading.Thread(target=keda.keep_asking, args=("shop", "pay"))
        asking.start()
        try:
            swap(tmp_path, "2", source, write_policy("shop", 100), write_policy("pay", 70), write_policy("cart", 50))
            wait_for(lambda: fetch(http, "/forecast/current?workload=prod/cart").status == 200, "a new workload")
            wait_for(lambda: keda.answers.get("pay", [0])[-1] == 10, "the changed target")
            swap(tmp_path, "3", source, write_policy("shop", 100), "---\nkind: Nonsense\n")
            process.wait_for_log("the previous one stays in force")
            ready = fetch(http, "/readyz")
            assert ready.status == 200
            assert "Nonsense" in ready.document["warnings"][0]
            assert fetch(http, "/forecast/current?workload=prod/cart").status == 200
            swap(tmp_path, "4", source, write_policy("shop", 100), write_policy("pay", 70))
            wait_for(lambda: fetch(http, "/forecast/current?workload=prod/cart").status == 404, "a workload gone")
            wait_for(lambda: "warnings" not in fetch(http, "/readyz").document, "the end of the warning")
        finally:
            keda.done.set()
            asking.join()
        assert keda.failures == []
        assert set(keda.answers["shop"]) == {7}
        assert set(keda.answers["pay"]) == {2, 10}
        assert (
            sum(
                event["msg"].startswith("first forecast")
                for event in process.log
                if event.get("workload") == "prod/shop"
            )
            == 1
        )
        told = [event["msg"] for event in process.log if "the previous one stays in force" in event["msg"]]
        assert len(told) == len(set(told))
        metrics = fetch(http, "/metrics").body
        assert 'kedastral_config_reloads_total{result="success"} 2.0' in metrics
        assert "cart" not in metrics
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_what_all_workloads_have_to_say_at_the_start_is_told_in_few_lines_by_the_end(
    prometheus: StandIn, tmp_path: Path
) -> None:
    names, file = [f"web-{number:02}" for number in range(3 * SHOWN_ALONE)], tmp_path / "fleet.yaml"
    policies = (write_policy(name, 100).replace("query: up", "query: http_requests_total") for name in names)
    file.write_text(write_source(prometheus) + "".join(policies))
    with ProcessInput("run", {**LISTEN, "--config": str(file)}) as process:
        [http, _] = process.ports("HTTP", "gRPC")
        for name in names:
            wait_for(lambda name=name: fetch(http, f"/forecast/current?workload=prod/{name}").status == 200, name)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    for words in ("first forecast: load", "on-stale is default-min", "takes the counter http_requests_total as it is"):
        lines = [event for event in process.log if words in event["msg"]]
        assert len(lines) == SHOWN_ALONE + 1, words
        assert f"the same for {2 * SHOWN_ALONE} more workloads" in lines[-1]["msg"]
        assert [name for name in names if name not in str(lines)] == []
    assert process.log[-1]["msg"] == "stopped"


def test_a_hangup_has_the_files_read_at_once(prometheus: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(write_source(prometheus) + write_policy("shop", 100))
    with ProcessInput("forecaster", {"--listen": ANY_PORT, "--config": str(file)}) as process:
        process.ports("HTTP")
        process.wait_for_log("first forecast")
        process.signal(signal.SIGHUP)
        process.wait_for_log("the configuration was read again: no workload changed")


def is_caught(process: ProcessInput, number: signal.Signals) -> bool:
    """Whether ``process`` has a handler for the signal."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_hangup_in_the_first_moment_ends_no_process_and_loses_no_change(prometheus: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(write_source(prometheus) + write_policy("shop", 100))
    with ProcessInput("forecaster", {"--listen": ANY_PORT, "--config": str(file)}) as process:
        wait_for(lambda: is_caught(process, signal.SIGHUP), "the handler of SIGHUP")
        edited = tmp_path / "edited"
        edited.write_text(write_source(prometheus) + write_policy("pay", 100))
        edited.rename(file)  # in one step: the process may be about to read it
        process.signal(signal.SIGHUP)
        [http] = process.ports("HTTP")
        wait_for(lambda: fetch(http, "/forecast/current?workload=prod/pay").status == 200, "the changed file")
        assert fetch(http, "/forecast/current?workload=prod/shop").status == 404


def test_a_hangup_ends_no_process_that_has_no_files(prometheus: StandIn) -> None:
    source = {"--workload": "shop", "--prom-url": prometheus.url, "--prom-query": "up"}
    with ProcessInput("run", {**LISTEN, **source, **QUICK}) as process:
        process.ports("gRPC")
        process.signal(signal.SIGHUP)
        process.wait_for_log("there is no configuration file to reload")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_scaled_object_brings_its_workload(prometheus: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(write_source(prometheus))
    metadata = {
        "scalerAddress": "kedastral:8080",
        "query": "up",
        "dataSource": "main",
        "targetPerPod": "100",
        "headroom": "1",
        "reactiveFloor": "false",
        "model": "baseline",
        "horizon": "60s",
        "step": "1s",
        "interval": "5s",
        "leadTime": "10s",
        "window": "30s",
    }
    flags = {**LISTEN, "--config": str(file), "--allow-scaledobject-workloads": "true"}
    with ProcessInput("run", flags) as process:
        http, port = process.ports("HTTP", "gRPC")
        keda = Keda(port)
        # the first question waits a second for the first forecast, as tests/workloads/test_scaledobject_workloads.py
        # shows; a busy machine may take longer
        wait_for(lambda: keda.replicas(**metadata) == 7, "the first forecast")
        assert fetch(http, "/forecast/current?workload=prod/web").status == 200
        warning = process.wait_for_log("on-stale is default-min")
        assert (warning["workload"], warning["level"]) == ("prod/web", "warn")
        assert "is told 2 replicas, and the plan says 7 now" in warning["msg"]
        assert keda.replicas(**(metadata | {"targetPerPod": "70"})) == 7, (
            "an edit, as long as the former may come again"
        )
        for method, kind in (("GetMetrics", pb.GetMetricsResponse), ("IsActive", pb.IsActiveResponse)):
            with pytest.raises(grpc.RpcError) as caught:
                keda.ask(method, kind, **(metadata | {"targetPerPod": "many", "dataSource": "other"}))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "targetPerPod" in caught.value.details()
            assert "dataSource" in caught.value.details()
        [spec] = keda.ask(
            "GetMetricSpec", pb.GetMetricSpecResponse, **(metadata | {"targetPerPod": "many"})
        ).metricSpecs
        assert spec.metricName == "desired_replicas"
