# SPDX-License-Identifier: Apache-2.0
"""The commands of the README and the tutorial, run as written except for their ports."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import ROOT, blocks, commands, read
from tests.integration.conftest import PrometheusServer
from tests.process.running import ANY_PORT, ProcessInput, clean_environment, fetch
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.process, pytest.mark.slow]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "quickstart.md"
LISTENS = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--log-level": "info"}


def asked(page: Path) -> Iterator[str]:
    """The path and query of each URL that the page's curl asks of a Kedastral on this machine."""
    for words in commands(read(page)):
        for word in words[1:] if words[0] == "curl" else ():
            if word.startswith("localhost:8081"):
                url = urlsplit(f"http://{word}")
                yield f"{url.path}?{url.query}" if url.query else url.path


def flags_of(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def test_while_the_demo_runs_the_readmes_questions_are_answered() -> None:
    with ProcessInput("demo", {**LISTENS, "--duration": "30d"}) as demo:
        [port] = demo.ports("HTTP")
        paths = list(asked(README))
        assert len(paths) == 2
        for path in ["/", *paths]:
            assert wait_for(lambda path=path: fetch(port, path).status == 200, path)
        [explain] = [words for words in commands(read(README)) if words[1:2] == ["explain"]]
        shown = subprocess.run(
            [sys.executable, "-m", "kedastral", *explain[1:], "--url", f"http://127.0.0.1:{port}"],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert "KEDA is told" in shown.stdout


def test_the_tutorials_kedastral_forecasts_what_its_prometheus_scrapes(prometheus_server: PrometheusServer) -> None:
    assert any("scrape_configs" in block.text for block in blocks(read(TUTORIAL)))
    [run] = [words for words in commands(read(TUTORIAL)) if words[:2] == ["kedastral", "run"]]
    with ProcessInput("run", {**flags_of(run[2:]), **LISTENS, "--prom-url": prometheus_server.url}) as kedastral:
        [port] = kedastral.ports("HTTP")
        paths = list(asked(TUTORIAL))
        assert "/forecast/current?workload=web" in paths
        for path in paths:
            assert wait_for(lambda path=path: fetch(port, path).status == 200, shlex.quote(path))
        assert "kedastral_desired_replicas{" in fetch(port, "/metrics").body
