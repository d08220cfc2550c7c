# SPDX-License-Identifier: Apache-2.0
"""The demo's comparison adds up, and the whole demo runs and ends as a user would see it."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import trio

from kedastral.adapters.synthetic import SyntheticLoad, SyntheticSource
from kedastral.demo import BEGIN, SYNC_PERIOD, Demo, DemoComparison, open_demo
from kedastral.models import MODELS
from kedastral.settings.commands import DemoSettings
from kedastral.settings.load import load

pytestmark = pytest.mark.slow

ANY_PORT = {"--http-listen": "127.0.0.1:0", "--grpc-listen": "127.0.0.1:0"}
COMMAND = [sys.executable, "-m", "kedastral", "demo", "--http-listen=127.0.0.1:0", "--grpc-listen=127.0.0.1:0"]


def begin(**flags: str) -> DemoComparison:
    given = {"--" + name.replace("_", "-"): value for name, value in flags.items()}
    settings = load(DemoSettings, given, {}).settings
    return DemoComparison.begin(SyntheticLoad(peak=1500.0, noise=0.0), settings)


def test_what_is_not_served_is_demand_above_the_ready_pods() -> None:
    comparison = begin()
    ready = comparison.predictive.pods.ordered
    comparison.target_per_pod = comparison.load.at(comparison.moment) / (ready + 2)  # two pods too few
    comparison.advance(ready)
    assert comparison.predictive.missing == pytest.approx(2 * comparison.target_per_pod, rel=1e-6)
    assert comparison.predictive.missed == pytest.approx(comparison.predictive.missing * SYNC_PERIOD)
    assert comparison.predictive.short_seconds == SYNC_PERIOD


def test_pods_asked_for_are_ready_only_after_their_start() -> None:
    comparison = begin(lead_time="5m")
    ready = comparison.predictive.pods.ordered
    comparison.advance(ready + 3)
    served = []
    while comparison.at <= 300:
        comparison.advance(ready + 3)
        served.append((comparison.at - SYNC_PERIOD, comparison.predictive.ready))
    assert [count for at, count in served if at < 240] == [ready] * 15
    assert all(count == ready + 3 for at, count in served if at >= 240)


def test_an_error_instead_of_an_answer_holds_the_replicas() -> None:
    comparison = begin()
    ordered = comparison.predictive.pods.ordered
    comparison.advance(None)
    assert comparison.predictive.pods.ordered == ordered
    assert comparison.predictive.asked is None


async def test_the_demo_asks_the_scaler_that_also_answers_keda() -> None:
    settings = load(DemoSettings, ANY_PORT, {}).settings
    async with open_demo(settings) as demo:
        assert isinstance(demo, Demo)
        assert demo.app.grpc is not None
        assert demo.scaler is demo.app.grpc.service.scaler
        assert demo.replicas_for_keda() == settings.stale.default_min  # no forecast yet
        assert demo.clock.now() == BEGIN  # time stands still until there is one
        async with trio.open_nursery() as nursery:
            for service in demo.app.background:
                await nursery.start(service)
            await demo.wait_for_forecast()
            assert demo.forecast_at_lead() is not None
            assert demo.replicas_for_keda() == demo.scaler.decide("demo-shop").replicas
            nursery.cancel_scope.cancel()


async def test_the_forecast_rises_before_the_load_does_within_the_demos_first_minute() -> None:
    settings = load(DemoSettings, {}, {}).settings
    demand = SyntheticLoad(peak=15 * settings.plan.target_per_pod)
    before = BEGIN + timedelta(minutes=30)  # 15 minutes before the campaign
    assert (before - BEGIN).total_seconds() / settings.pace.speed < 60
    source = SyntheticSource(demand, settings.forecast.history_window, settings.forecast.step)
    history = await source.history(before)
    values = MODELS[str(settings.forecast.model)].make().forecast(history, before, settings.forecast.steps).values
    assert history.newest is not None
    assert demand.at(before) < 1.2 * history.values[-30:].mean()  # it is still calm
    assert values[27:].mean() > 1.6 * history.newest.value


@pytest.mark.process
def test_a_short_demo_prints_lines_and_a_verdict_where_there_is_no_terminal() -> None:
    done = subprocess.run(
        [*COMMAND, "--duration=2h", "--speed=1800"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("Mon ")]
    assert len([line for line in lines if "  load " in line]) == 4  # one every half hour of demo time
    shown = re.search(r"ready (\d+) min short so far  reactive .* ready (\d+) min short so far$", lines[-1])
    assert shown is not None
    assert int(shown[1]) == 0 < int(shown[2])
    [event] = [line for line in lines if "  load " not in line]
    assert "begins: the daily campaign" in event
    assert "load not served so far" in done.stdout
    assert done.stderr == ""


@pytest.mark.process
def test_ctrl_c_in_a_terminal_ends_the_demo_cleanly_with_the_verdict() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40"}
    process = subprocess.Popen(COMMAND, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    try:
        seen = _read_until(ours, b"replicas asked for")
        process.send_signal(signal.SIGINT)
        seen += _read_until(ours, b"hours of the demo's time")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        _, complaints = process.communicate()
        os.close(ours)
    assert seen.startswith(b"kedastral demo: loading")  # at once, before anything heavy is imported
    assert (
        seen.index(b"The page: http://localhost:")
        < seen.index(b"learning from the history")
        < seen.index(b"pods Ready")
    )
    assert complaints == b""


def _read_until(terminal: int, words: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 60
    while words not in seen and time.monotonic() < deadline:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # the program has closed its side
            break
    assert words in seen, seen[-2000:]
    return seen
