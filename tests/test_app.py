# SPDX-License-Identifier: Apache-2.0
"""Stopping the process at any moment: it is not ready from then on, and ends in time, on the virtual clock."""

import io
import logging
import socket
import threading
from collections.abc import Callable
from typing import cast

import attrs
import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from kedastral.app import MAX_STOP_SECONDS, App, GrpcPart, HttpPart, Service, run_until_signal
from kedastral.clock import SystemClock
from kedastral.logs import GATHER_FOR, SHOWN_ALONE, configure_logging, of_many
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.workloads.fleet import Changes
from kedastral.workloads.reload import Reloader


def make_app(*background: Service) -> App:
    listener = socket.create_server(("127.0.0.1", 0))
    http = HttpPart(QuartTrio(__name__), listener)
    return App(clock=SystemClock(), readiness=Readiness.of({"http"}), http=http, background=background)


async def start_for_long(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await trio.sleep(1000 * MAX_STOP_SECONDS)
    task_status.started()


async def stop(app: App, nursery: trio.Nursery) -> None:
    """Stop ``app``, which runs in ``nursery``, and see it end."""
    app.stopping.set()
    with trio.fail_after(MAX_STOP_SECONDS):
        await wait_all_tasks_blocked()
        assert app.readiness.obstacle == "shutting down"
        while nursery.child_tasks:  # noqa: ASYNC110 - a nursery has no event
            await trio.sleep(MAX_STOP_SECONDS / 100)


async def run(app: App) -> None:
    """Run ``app`` without a task status, which is optional."""
    await app.run()


async def test_it_starts_with_all_its_services_and_stops(autojump_clock: MockClock) -> None:
    async def start_and_run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        started.append(len(started))
        task_status.started()
        await trio.sleep_forever()

    started: list[int] = []
    app = make_app(start_and_run, start_and_run)
    async with trio.open_nursery() as nursery:
        await nursery.start(app.run)
        assert started == [0, 1]
        assert app.readiness.obstacle is None
        await stop(app, nursery)


async def test_it_stops_while_a_service_still_starts(autojump_clock: MockClock) -> None:
    app = make_app(start_for_long)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, app)
        await wait_all_tasks_blocked()
        await stop(app, nursery)


@pytest.mark.parametrize("blocks", ["look", "load"])
async def test_it_stops_while_the_files_are_read_once_more(autojump_clock: MockClock, blocks: str) -> None:
    reading, may_end = trio.Event(), threading.Event()

    def block() -> None:
        trio.from_thread.run_sync(reading.set)
        may_end.wait()

    def pass_by() -> None:
        pass

    async def apply(_: object) -> Changes:
        await trio.lowlevel.checkpoint()
        return Changes()

    parts: dict[str, Callable[[], None]] = {"look": pass_by, "load": pass_by, blocks: block}
    reloader = Reloader(parts["look"], parts["load"], apply, Metrics(), Readiness.of(()))
    app = make_app(reloader.run)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, app)
            await reading.wait()
            await stop(app, nursery)
    finally:
        may_end.set()


async def test_it_ends_in_time_even_if_a_server_never_drains(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve_forever(*_: object, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    monkeypatch.setattr("kedastral.app.serve_grpc", serve_forever)
    app = attrs.evolve(make_app(), grpc=cast("GrpcPart", object()))
    async with trio.open_nursery() as nursery:
        await nursery.start(app.run)
        app.stopping.set()
        with trio.fail_after(MAX_STOP_SECONDS + 0.5):
            while nursery.child_tasks:  # noqa: ASYNC110 - a nursery has no event
                await trio.sleep(MAX_STOP_SECONDS / 100)
    assert "not everything stopped" in caplog.text


@pytest.mark.usefixtures("restore_logging")
async def test_what_many_workloads_say_at_the_same_time_is_told_after_a_minute(autojump_clock: MockClock) -> None:
    stream, app = io.StringIO(), make_app()
    configure_logging("warn", "text", stream)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_until_signal, app)
        for number in range(2 * SHOWN_ALONE):
            logging.getLogger("kedastral.forecaster").warning("no new forecast", extra=of_many(f"web-{number}"))
        assert len(stream.getvalue().splitlines()) == SHOWN_ALONE
        await trio.sleep(GATHER_FOR + 1)
        [*_, told] = stream.getvalue().splitlines()
        assert f"the same for {SHOWN_ALONE} more workloads" in told
        await stop(app, nursery)
