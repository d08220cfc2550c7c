# SPDX-License-Identifier: Apache-2.0
"""The commands of the runbooks, run as written except for ports: an operator copies them at night."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from tests.docs.pages import ROOT, commands, read
from tests.waiting import PATIENCE, wait_for

from .running import ANY_PORT, ProcessInput, clean_environment, fetch
from .stand_in import StandIn, open_stand_in

pytestmark = pytest.mark.process

DEPLOYED = """\
apiVersion: kedastral.io/v1alpha1
kind: DataSource
metadata: {name: prometheus}
spec: {url: "http://prometheus.monitoring.svc:9090"}
---
apiVersion: kedastral.io/v1alpha1
kind: ForecastPolicy
metadata: {namespace: shop, name: web}
spec: {query: 'sum(rate(http_requests_total{app="web"}[1m]))', targetPerPod: 60, onStale: ride-forecast}
"""
SHOWN = {
    " ".join(words): words
    for page in sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    for words in commands(read(page))
    if words[0] in ("kedastral", "curl")
}
NOWHERE = "http://127.0.0.1:9"
ENDS_WITH = {"--cluster": "the kubeconfig cannot be used", "backtest": "connection refused"}
"""How a command ends that needs a cluster, or that takes minutes and so gets no Prometheus: its arguments suffice."""


@attrs.frozen
class Site:
    """A running Kedastral, its Prometheus, and the folder with the reader's files."""

    port: int
    prometheus: StandIn
    folder: Path

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A command of kedastral, with the ports of this site."""
        prometheus = NOWHERE if "backtest" in words else self.prometheus.url
        kedastral = f"http://127.0.0.1:{self.port}"
        addresses = {"http://localhost:8081": kedastral, "http://localhost:9090": prometheus}
        return subprocess.run(
            [sys.executable, "-m", "kedastral", *(addresses.get(word, word) for word in words[1:])],
            cwd=self.folder,
            env={**clean_environment(), "HOME": str(self.folder), "FORECASTER_URL": kedastral},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("runbooks")
    (folder / "deployed.yaml").write_text(DEPLOYED, encoding="utf-8")
    with open_stand_in() as prometheus:
        flags = {"--config": str(folder / "deployed.yaml"), "--prom-url": prometheus.url}
        listen = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT}
        with ProcessInput("run", {**flags, **listen}) as process:
            [port] = process.ports("HTTP")
            wait_for(lambda: fetch(port, "/forecast/current?workload=shop/web").status == 200, "a forecast")
            yield Site(port, prometheus, folder)


@pytest.mark.parametrize("words", SHOWN.values(), ids=SHOWN)
def test_every_command_of_a_runbook_does_what_it_is_for(site: Site, words: list[str]) -> None:
    if words[0] == "curl":
        [url] = [word for word in words if word.startswith("localhost:8081")]
        assert fetch(site.port, url.removeprefix("localhost:8081")).status == 200
        return
    done = site.run(words)
    said = done.stdout + done.stderr
    reason = next((reason for word, reason in ENDS_WITH.items() if word in words), None)
    if reason is None:
        assert done.returncode == 0, said
        assert done.stdout.strip()
    else:
        assert done.returncode > 0
        assert reason in " ".join(said.split())


def test_the_budget_that_a_runbook_reads_is_within_the_lines_that_it_shows(site: Site) -> None:
    lines = json.dumps(fetch(site.port, "/api/workloads/shop/web").document, indent=4).splitlines()
    [begin] = [at for at, line in enumerate(lines) if '"budget"' in line]
    page = read(ROOT / "docs" / "runbooks" / "KedastralBudgetSpent.md")
    [shown] = [int(words[2]) for words in commands(page) if words[:2] == ["grep", "-A"]]
    names = ("minutesJudged", "minutesShort", "minutesAtMax", "minutesAllowed")
    assert all(any(name in line for line in lines[begin : begin + shown + 1]) for name in names)
