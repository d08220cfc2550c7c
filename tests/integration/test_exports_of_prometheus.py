# SPDX-License-Identifier: Apache-2.0
"""`backtest --csv` reads the output of Prometheus and promtool like the plain file."""

import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from kedastral.adapters.csv import ExportReading, read_export
from kedastral.core.series import Series
from tests.backtest.loads import wave
from tests.integration.conftest import PrometheusServer, prometheus_holding, require_program

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STEP = 60
LOADS = [round(value, 3) for value in wave(180, STEP)]


@pytest.fixture
def start() -> datetime:
    """The oldest sample: some hours ago, so that blocks are all there is."""
    return datetime.fromtimestamp((int(datetime.now(UTC).timestamp()) - 10 * 3600) // STEP * STEP, UTC)


@pytest.fixture
def server(tmp_path: Path, start: datetime) -> Iterator[PrometheusServer]:
    """A Prometheus that holds three hours of two pods."""
    samples = {
        f'load{{pod="{pod}"}}': [(start.timestamp() + i * STEP, value * share) for i, value in enumerate(LOADS)]
        for pod, share in (("a", 1.0), ("b", 0.5))
    }
    with prometheus_holding(tmp_path / "prometheus", samples) as server:
        yield server


def test_each_answer_is_read_as_the_plain_file(server: PrometheusServer, start: datetime, tmp_path: Path) -> None:
    end = start.timestamp() + (len(LOADS) - 1) * STEP
    asked = {"query": "load", "start": start.timestamp(), "end": end, "step": STEP}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{server.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}", timeout=60) as got:
        exports = {"api": got.read()}
    words = [f"--start={start.timestamp():.0f}", f"--end={end:.0f}", f"--step={STEP}s", server.url, "load"]
    for name, form in (("json", ["-o", "json"]), ("text", [])):
        command = [require_program("promtool"), "query", *form, "range", *words]
        exports[name] = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    rows = [f"{start.timestamp() + i * STEP:.0f},{value!r}" for i, value in enumerate(LOADS)]
    exports["plain"] = "\n".join(["timestamp,value", *rows]).encode()
    for name, content in exports.items():
        path = tmp_path / name
        path.write_bytes(content)
        one = None if name == "plain" else 'load{pod="a"}'
        assert read_export(path, ExportReading(column=one)).series == Series(start, STEP, LOADS), name
        if one is not None:
            both = read_export(path, ExportReading())
            assert np.allclose(both.series.values, 1.5 * np.array(LOADS)), name
            assert both.understood == "3h in steps of 1m, the sum of 2 series; --column changes it"
