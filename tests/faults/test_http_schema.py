# SPDX-License-Identifier: Apache-2.0
"""schemathesis sends a real process all that its OpenAPI document allows, and much that it does not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.running import ANY_PORT, QUICK, ProcessInput, fetch
from tests.process.stand_in import open_stand_in
from tests.waiting import wait_for

pytestmark = pytest.mark.faults

EXAMPLES = 50
"""Requests for each operation, in each phase of schemathesis."""
MAX_SECONDS = 5
"""Timeout of one answer in seconds, for a busy machine."""
TRIED = """
[[operations]]
include-path = "/explain"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "404", "5xx"]
"""
"""Which settings can be tried depends on the plan, and on each other: a schema cannot say that."""
TOKEN = "the-token-of-this-test"
OPTIONS = (
    "--phases examples,coverage,fuzzing --checks all --workers 1 --no-color --warnings off --generation-deterministic "
    f"--max-examples {EXAMPLES} --max-response-time {MAX_SECONDS} --continue-on-failure"
).split()


@pytest.fixture(params=["open", "with a token"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    env = {"HTTP_TOKEN": TOKEN} if request.param == "with a token" else {}
    with open_stand_in() as prometheus:
        flags = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--workload": "shop", **QUICK}
        flags |= {"--prom-url": prometheus.url, "--prom-query": "up", "--target-per-pod": "100"}
        with ProcessInput("run", flags, env) as process:
            [port] = process.ports("HTTP")
            process.wait_for_log("first forecast")
            yield port
            assert process.popen.poll() is None
            assert not [line for line in process.lines if "Traceback" in line or " failed" in line]


def ask_everything(port: int, folder: Path, config: str, *options: str) -> None:
    """Run schemathesis; fails with its report if an answer does not match the document."""
    file = folder / "schemathesis.toml"
    file.write_text(config + TRIED)
    url = f"http://127.0.0.1:{port}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(file), "run", url, *OPTIONS, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "config", ["", '[parameters]\n"query.workload" = "shop"\n'], ids=["any workload", "one there is"]
)
def test_every_answer_is_as_the_document_says(port: int, tmp_path: Path, config: str) -> None:
    ask_everything(port, tmp_path, config, "--header", f"Authorization: Bearer {TOKEN}")
    assert fetch(port, "/healthz").status == 200
    wait_for(lambda: fetch(port, "/readyz").status == 200, "ready")
