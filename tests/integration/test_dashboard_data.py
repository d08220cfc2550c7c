# SPDX-License-Identifier: Apache-2.0
"""The dashboard and the alerts with a real Prometheus that scraped real processes: every expression gives data.

One process is the demo, which has all metrics of a steered workload. The other shares its work through Redis and has
its workloads in files; one of them fails.
"""

import http.server
import json
import re
import signal
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest

from docs import dashboard
from kedastral._proto import externalscaler_pb2 as pb
from tests.docs import product
from tests.integration.conftest import PrometheusServer, require_program
from tests.process.raw_grpc import SERVICE
from tests.process.running import ANY_PORT, ProcessInput, fetch
from tests.process.stand_in import open_stand_in
from tests.redis_servers import plain
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.process, pytest.mark.slow]

POLICY = """\
apiVersion: kedastral.io/v1alpha1
kind: ForecastPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  {{query: load, dataSource: {source}, targetPerPod: 100, horizon: 60s, step: 1s, interval: 1s, leadTime: 10s,
   window: 30s, model: baseline}}
"""
SOURCE = """\
apiVersion: kedastral.io/v1alpha1
kind: DataSource
metadata: {{name: {name}}}
spec: {{url: "{url}"}}
"""
# two names of https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/deployment-metrics.md
OF_KUBERNETES = b"""\
kube_deployment_spec_replicas{namespace="shop",deployment="web"} 7
kube_deployment_status_replicas_ready{namespace="shop",deployment="web"} 6
"""
LONG = 240.0
"""Seconds: the demo first learns two weeks of load, at the same time in every worker of pytest-xdist that runs it."""
WORKLOADS = ("demo-shop", "shop/broken", "shop/steady")


class _KubeStateMetrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(OF_KUBERNETES)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def open_kube_state_metrics() -> Iterator[int]:
    """The port of a server that has the two metrics of kube-state-metrics that the dashboard asks for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _KubeStateMetrics)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(port: int, workload: str) -> None:
    """What KEDA asks, once."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(
            f"{SERVICE}GetMetrics",
            request_serializer=pb.GetMetricsRequest.SerializeToString,
            response_deserializer=pb.GetMetricsResponse.FromString,
        )
        ref = pb.ScaledObjectRef(name="so", namespace="ns", scalerMetadata={"workload": workload})
        call(pb.GetMetricsRequest(scaledObjectRef=ref), timeout=PATIENCE)


def is_planned_by_its_model(port: int, workload: str) -> bool:
    """Whether the snapshot is there and its plan uses the model's forecast."""
    answer = fetch(port, f"/forecast/current?workload={workload}")
    return answer.status == 200 and answer.document.get("status", "ok") == "ok"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that scrapes both processes, once they have done everything."""
    home = tmp_path_factory.mktemp("dashboard")
    with ExitStack() as stack:
        load = stack.enter_context(open_stand_in())
        config = home / "config.yaml"
        policies = [POLICY.format(name=name, source=source) for name, source in (("steady", "good"), ("broken", "bad"))]
        sources = [SOURCE.format(name="good", url=load.url), SOURCE.format(name="bad", url="http://127.0.0.1:9")]
        config.write_text("---\n".join([*sources, *policies]))
        listens = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--log-level": "info"}
        demo = stack.enter_context(ProcessInput("demo", {**listens, "--duration": "30d"}))
        redis = stack.enter_context(plain(home / "redis"))
        shared = stack.enter_context(ProcessInput("run", {**listens, "--config": str(config)}, redis.env))
        (demo_grpc, demo_http), (shared_grpc, shared_http) = (one.ports("gRPC", "HTTP") for one in (demo, shared))
        kubernetes = stack.enter_context(open_kube_state_metrics())
        targets = json.dumps([f"127.0.0.1:{port}" for port in (shared_http, kubernetes)])
        more = f"  - job_name: others\n    static_configs:\n      - targets: {targets}\n"
        server = PrometheusServer(require_program("prometheus"), home, demo_http, more=more)
        stack.callback(server.stop)
        server.start()
        shared.wait_for_log("first forecast")
        shared.signal(signal.SIGHUP)
        # not by the log: a process whose model is ready at its first plan logs nothing about it
        wait_for(lambda: is_planned_by_its_model(demo_http, "demo-shop"), "a plan by the demo's model", LONG)
        ask(demo_grpc, "demo-shop")
        ask(shared_grpc, "shop/steady")
        yield server.url


def query(url: str, expr: str) -> list[dict[str, Any]]:
    """The series of an instant query; refused ones fail with Prometheus' words."""
    asked = urllib.parse.urlencode({"query": expr})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{url}/api/v1/query?{asked}", timeout=PATIENCE) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def fill(expr: str, workload: str) -> str:
    """``expr`` with the dashboard's variables."""
    values = {"namespace": ".*", "workload": workload, "deployment": "web", "lead": "1s", "stale": "120"}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


EXPRESSIONS = sorted({query.expr for row in dashboard.ROWS for panel in row.panels for query in panel.queries})


def test_every_expression_of_the_dashboard_gives_data(prometheus: str) -> None:
    for expr in EXPRESSIONS:

        def look(expr: str = expr) -> bool:
            found = [one for workload in WORKLOADS for one in query(prometheus, fill(expr, workload))]
            rare = expr.startswith("histogram_quantile")  # events before the first scrape do not count as an increase
            return any(one["value"][1] not in ("NaN", "+Inf", "-Inf") or rare for one in found)

        wait_for(look, expr, LONG)


def test_what_needs_attention_is_the_workload_that_fails_with_the_reason(prometheus: str) -> None:
    def look() -> set[tuple[str, str]]:
        found = query(prometheus, fill(dashboard.ATTENTION, ""))
        return {(one["metric"]["workload"], one["metric"]["why"]) for one in found}

    wait_for(lambda: ("shop/broken", "failing: no new forecast can be made") in look(), "the workload that fails", LONG)
    assert "shop/steady" not in {workload for workload, _ in look()}


def test_every_metric_of_the_alerts_was_scraped(prometheus: str) -> None:
    alerts = (dashboard.FILE.parents[1] / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
    for name in sorted(set(re.findall(r"kedastral_\w+", alerts))):
        wait_for(lambda name=name: query(prometheus, name), name)


def test_every_metric_that_is_documented_was_scraped(prometheus: str) -> None:
    for metric in product.metrics():
        name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
        wait_for(lambda name=name: query(prometheus, name), name)
