# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor` asks a real Prometheus about queries, and a running Kedastral about a ScaledObject."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_commands import call
from tests.doctor.planted import SOUND
from tests.integration.conftest import PrometheusServer, free_port, require_program
from tests.integration.test_run_with_prometheus import FLAGS, newest
from tests.process.running import ProcessInput
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.process, pytest.mark.slow]

RATE = "rate(prometheus_http_requests_total{prometheus_replica=~'a.*'}[1m])"
QUERIES = {
    "sound": f"sum({RATE})",
    "misspelt": "sum(rate(prometheus_http_request_total[1m]))",
    "refused": "sum(rate(prometheus_http_requests_total[1m])",
    "counter": "sum(prometheus_http_requests_total)",
    "pair": "rate(prometheus_http_requests_total{handler='/metrics'}[1m])",
    "short": "sum(rate(prometheus_http_requests_total[1s]))",
    "recorded": "sum(web:rps)",
    "long": f"sum({RATE})",
}
EXPECTED = {
    "misspelt": {"no-series"},
    "refused": {"query-failed"},
    "counter": {"raw-counter"},
    "pair": {"doubled-series"},
    "short": {"short-range"},
    "recorded": {"slow-rule"},
    "long": {"short-history"},
}
PAIR = """
rule_files: [rules.yml]
"""
RULES = """
groups:
  - name: slow
    interval: 10s
    rules:
      - record: web:rps
        expr: sum(rate(prometheus_http_requests_total[1m]))
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes itself twice, as a pair of them would, and keeps two hours."""
    home = tmp_path / "prometheus"
    home.mkdir()
    (home / "rules.yml").write_text(RULES)
    port = free_port()
    replicas = "".join(
        f'\n      - targets: ["127.0.0.1:{port}"]\n        labels: {{prometheus_replica: {name}}}' for name in "ab"
    )
    more = f"\n  - job_name: pair\n    static_configs:{replicas}\n{PAIR}"
    keeps = "--storage.tsdb.retention.time=2h"
    server = PrometheusServer(require_program("prometheus"), home, port, keeps, more=more)
    server._port = port
    server.start()
    try:
        yield server
    finally:
        server.stop()


def policies(url: str) -> str:
    common = {"apiVersion": "kedastral.io/v1alpha1"}
    source = {**common, "kind": "DataSource", "metadata": {"name": "p"}, "spec": {"url": url}}
    documents: list[dict[str, Any]] = [source]
    for name, query in QUERIES.items():
        # far more than this test requests of Prometheus: its own requests are the load
        spec = {
            "query": query,
            "targetPerPod": 10_000,
            "step": "5s",
            "horizon": "10m",
            "model": "baseline",
            "window": "1m",
        }
        spec |= {"window": "14d"} if name == "long" else {}
        documents.append({**common, "kind": "ForecastPolicy", "metadata": {"name": name}, "spec": spec})
    return yaml.safe_dump_all(documents)


def diagnose(*words: str) -> tuple[int, dict[str, set[str]]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        outcome = call(monkeypatch, "doctor", *words, "--output", "json")
    found: dict[str, set[str]] = {}
    for one in json.loads(outcome.out)["findings"]:
        found.setdefault(one["object"]["name"], set()).add(one["rule"])
    # A range of one scrape holds two samples now and then, when a scrape is early: whether it gives a series is luck.
    found.get("short", set()).discard("no-series")
    return outcome.code, found


def test_each_bad_query_is_found_by_asking_prometheus(pair: PrometheusServer, tmp_path: Path) -> None:
    config = tmp_path / "policies.yaml"
    config.write_text(policies(pair.url))

    def found() -> bool:
        code, rules = diagnose("--config", str(config), "--check-queries")
        return code == 1 and rules == EXPECTED

    try:
        # each look asks eight queries, and the rule comes every ten seconds
        wait_for(found, "what is wrong with each query, and nothing else", 3 * PATIENCE)
    except AssertionError:
        assert diagnose("--config", str(config), "--check-queries") == (1, EXPECTED)
        raise


def test_a_running_kedastral_is_asked_and_its_address_is_tried(
    prometheus_server: PrometheusServer, tmp_path: Path
) -> None:
    with ProcessInput("run", {**FLAGS, "--max": "20", "--prom-url": prometheus_server.url}) as kedastral:
        grpc_port, http_port = kedastral.ports("gRPC", "HTTP")
        wait_for(lambda: newest(http_port), "a forecast")
        manifest = tmp_path / "web.yaml"
        asked = [str(manifest), "--url", f"http://127.0.0.1:{http_port}", "--check-addresses"]

        def write(port: int, name: str, more: str = "") -> None:
            address = SOUND.replace("kedastral.kedastral.svc.cluster.local:8080", f"127.0.0.1:{port}")
            bounds = address.replace("minReplicaCount: 2", "minReplicaCount: 4")
            manifest.write_text(bounds.replace("workload: web", f"workload: {name}{more}"))

        write(grpc_port, "prometheus")
        # a lead time of 10 s is shorter than the HPA's ramp; max 20 is not 50; on-stale is default-min
        # on a busy machine the forecast is stale now and then, and is said to be
        expected = (1, {"web": {"slow-ramp", "fallback-never-begins"}})
        wait_for(lambda: diagnose(*asked) == expected, "what is wrong with the ScaledObject, and nothing else")
        write(grpc_port, "promethius")
        assert "unknown-workload" in diagnose(*asked)[1]["web"]
        write(http_port, "prometheus")
        assert "scaler-unreachable" in diagnose(*asked)[1]["web"]
        write(grpc_port, "prometheus", '\n        enableTLS: "true"')
        assert "scaler-unreachable" in diagnose(*asked)[1]["web"]
