# SPDX-License-Identifier: Apache-2.0
"""An exception that leaves a service ends the process, with a log. It runs in this process to plant the bug."""

import io
import json
import sys
from contextlib import redirect_stderr
from typing import Any

import pytest
import trio

from kedastral import app
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.cli import main
from kedastral.grpclib_trio import Server
from kedastral.trio_connections import Acceptor
from kedastral.workloads.scaledobject_workloads import FleetResolver

from .running import ANY_PORT

ARGUMENTS = ["kedastral", "run", "--http-listen", ANY_PORT, "--grpc-listen", ANY_PORT, "--log-format", "json"]
SOURCE = ["--workload", "shop", "--prom-url", "http://127.0.0.1:9", "--prom-query", "up"]


async def fail(*_arguments: Any, **_more: Any) -> None:
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError("a bug")


async def fail_later(*_arguments: Any, task_status: Any, **_more: Any) -> None:
    task_status.started()
    await fail()


@pytest.mark.parametrize(
    ("holder", "name", "bug"),
    [
        (PrometheusSource, "history", fail),
        (FleetResolver, "run", fail_later),
        (Server, "serve", fail_later),
        (Server, "serve", fail),
        (app, "serve_http", fail_later),
        (Acceptor, "run", fail),
        (app, "stop_on_signal", fail_later),
    ],
    ids=["a tick", "the resolver", "gRPC", "gRPC's start", "HTTP", "accepting", "the signal task"],
)
def test_it_ends_the_process_with_its_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, bug: Any
) -> None:
    monkeypatch.setattr(holder, name, bug)
    monkeypatch.setattr(sys, "argv", ARGUMENTS + SOURCE)
    log = io.StringIO()
    with redirect_stderr(log), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    last = json.loads(log.getvalue().splitlines()[-1])
    assert last["level"] == "critical"
    assert "ZeroDivisionError: a bug" in last["err"]
    assert "in fail" in last["err"]
