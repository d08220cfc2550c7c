# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus whose samples come late: points that are still rising do not count as load."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.errors import SourceError
from kedastral.settings.declarations import PrometheusLogin
from tests.integration.conftest import PrometheusServer, require_program

pytestmark = pytest.mark.integration

LAG = 4.0
RATE = 100.0
WITHIN = 60.0


class LateExporter(BaseHTTPRequestHandler):
    """A counter that grows by `RATE` a second, exposed with the time and the value of `LAG` seconds ago."""

    def do_GET(self) -> None:
        at = time.time() - LAG
        body = f"late_requests_total {at * RATE:.3f} {at * 1000:.0f}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""


@pytest.fixture
def late_prometheus(tmp_path: Path) -> Iterator[PrometheusServer]:
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), LateExporter)
    thread = threading.Thread(target=exporter.serve_forever, daemon=True)
    thread.start()
    server = PrometheusServer(require_program("prometheus"), tmp_path, exporter.server_address[1])
    try:
        server.start()
        yield server
    finally:
        server.stop()
        exporter.shutdown()
        exporter.server_close()
        thread.join()


async def test_the_lag_of_real_samples_is_learned_and_what_is_left_is_the_load(
    late_prometheus: PrometheusServer,
) -> None:
    query = RangeQuery("sum(rate(late_requests_total[8s]))", window=40.0, step=1.0, stale_after=10.0)
    deadline = time.monotonic() + WITHIN
    right = 0
    async with open_prometheus_client(late_prometheus.url, PrometheusLogin()) as client:
        source = PrometheusSource(client, query)
        while right < 10:
            assert time.monotonic() < deadline, "the lag was not learned in time"
            await trio.sleep(0.5)
            try:
                history = await source.history(datetime.now(UTC))
            except SourceError:
                continue  # nothing has been scraped yet
            newest = history.newest
            assert newest is not None
            # Prometheus extrapolates beyond the newest sample, so that points are right somewhat before its lag is over
            is_right = history.quality.settling >= LAG / 2 and newest.value == pytest.approx(RATE, rel=0.05)
            right = right + 1 if is_right else 0
    assert history.quality.settling <= 3 * LAG
