# SPDX-License-Identifier: Apache-2.0
"""`App`: the nursery in which all services of one process run, and how they drain; compose.py makes the parts."""

import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, Protocol

import attrs
import trio
from grpclib.reflection.service import ServerReflection
from quart_trio import QuartTrio

from kedastral.clock import WallClock
from kedastral.grpclib_trio import Health, Limits, Servable, Server
from kedastral.logs import GATHER_FOR, RepeatLimit, log_gathered
from kedastral.serving.http_server import HttpLimits, serve_http
from kedastral.serving.listening import (
    describe_listener,
    limit_of_memory,
    limit_of_open_files,
    share_of_memory,
    share_open_files,
)
from kedastral.serving.readiness import Readiness
from kedastral.serving.scaler import SERVICE, ExternalScaler
from kedastral.serving.snapshot_api import PROBES
from kedastral.trio_connections import QUIET_PERIOD

GRPC_GRACE = 5.0
"""Seconds for calls in flight to finish: KEDA's timeout is 3 s. The server needs up to 2 s more to close."""
MAX_STOP_SECONDS = 9.0
"""Seconds from the signal to the end, whatever hangs: less than the promised 10 s."""

MAX_REQUEST_BYTES = 2**16
"""The most bytes of a request: a ScaledObject's name and its trigger metadata, with a long query, are a few KiB."""

log = logging.getLogger("kedastral.app")


class Service(Protocol):
    """Runs until cancelled, in its own task; calls ``task_status.started()`` once it is ready."""

    async def __call__(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run; an exception ends the process."""
        ...


@attrs.frozen
class GrpcPart:
    """KEDA's scaler and its listening socket; plain text without ``tls``."""

    service: ExternalScaler
    listener: socket.socket
    reflection: bool = False
    tls: ssl.SSLContext | None = None


@attrs.frozen
class HttpPart:
    """The snapshot server, or only the probes, and its listening socket; plain text without ``tls``."""

    app: QuartTrio
    listener: socket.socket
    tls: ssl.SSLContext | None = None


@attrs.frozen(kw_only=True)
class App:
    """All the parts of one process; `run` opens the nursery.

    ``background`` are the services besides HTTP and gRPC, mainly the fleet's tickers. ``connections`` are services that
    those use until they have ended. ``request_reload`` makes the process reread its configuration; None without files.
    """

    clock: WallClock
    readiness: Readiness
    http: HttpPart
    grpc: GrpcPart | None = None
    background: Sequence[Service] = ()
    connections: Sequence[Service] = ()
    request_reload: Callable[[], None] | None = None
    stopping: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve and tick until ``stopping`` is set, then drain and return, within `MAX_STOP_SECONDS` seconds.

        It starts from the outside in: HTTP, gRPC (bound before the first forecast), then the background services. It
        drains from the inside out: unfinished ticks are abandoned, gRPC finishes its calls, and HTTP answers until then
        and closes last. An exception of a service propagates, and cancelling ends everything at once.
        """
        http_may_close = trio.Event()
        shares = share_open_files(limit_of_open_files())
        with trio.CancelScope() as limit:
            async with trio.open_nursery() as http:
                part = self.http
                log.info("HTTP listens on %s%s", describe_listener(part.listener), " with TLS" if part.tls else "")
                limits = HttpLimits(max_connections=min(HttpLimits().max_connections, shares.http))
                serve = partial(serve_http, limits=limits, probes=PROBES, tls=part.tls)
                await http.start(serve, part.app, part.listener, http_may_close)
                self.readiness.mark_up("http")
                async with trio.open_nursery() as grpc:
                    if self.grpc is not None:
                        await grpc.start(serve_grpc, self.grpc, self.stopping, shares.grpc)
                        self.readiness.mark_up("grpc")
                    async with trio.open_nursery() as connections:
                        async with trio.open_nursery() as work:
                            work.start_soon(self._start_background, connections, work, task_status)
                            await self.stopping.wait()  # it may be set while a service still reads its files
                            limit.deadline = trio.current_time() + MAX_STOP_SECONDS
                            self.readiness.begin_drain()
                            work.cancel_scope.cancel()
                        connections.cancel_scope.cancel()
                http_may_close.set()
        if limit.cancelled_caught:
            log.error("not everything stopped within %g s", MAX_STOP_SECONDS)

    async def _start_background(
        self, connections: trio.Nursery, work: trio.Nursery, task_status: trio.TaskStatus[None]
    ) -> None:
        """Start the connections, then the services in ``work``, one after the other."""
        for connection in self.connections:
            await connections.start(connection)
        for service in self.background:
            await work.start(service)
        task_status.started()


async def run_until_signal(app: App, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Run ``app`` until SIGTERM or SIGINT has stopped it cleanly; a second signal exits at once.

    It counts as started once it listens for signals.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, app.stopping)
        await nursery.start(reload_on_hangup, app.request_reload)
        nursery.start_soon(keep_telling_gathered)
        task_status.started()
        await app.run()
        nursery.cancel_scope.cancel()


async def keep_telling_gathered() -> NoReturn:
    """Every minute, log what many workloads had to say at the same time; see `kedastral.logs.Gatherer`."""
    while True:
        await trio.sleep(GATHER_FOR)
        log_gathered()


async def stop_on_signal(
    stopping: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set ``stopping`` at the first SIGTERM or SIGINT; at the second end the process with 128 + its number."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stopping.is_set():
                os._exit(128 + number)
            log.info("stopping: got %s", signal.Signals(number).name)
            stopping.set()


async def reload_on_hangup(
    request_reload: Callable[[], None] | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Request a reload at each SIGHUP; without files, log a warning, at most one a minute."""
    limit = RepeatLimit(QUIET_PERIOD)
    with trio.open_signal_receiver(signal.SIGHUP) as hangups:
        task_status.started()
        async for _ in hangups:
            if request_reload is not None:
                request_reload()
            elif limit.is_due():
                log.warning("got SIGHUP, but there is no configuration file to reload")


def grpc_limits(max_connections: int, memory: int | None) -> Limits:
    """The limits of KEDA's server in a process with ``memory`` bytes, or no limit; logs how much clients get."""
    share = share_of_memory(memory)
    of = "the process itself has no limit" if memory is None else f"the limit is {memory / 2**20:.0f} MiB"
    log.info("gRPC clients may hold %.0f MiB of memory together: %s", share / 2**20, of)
    return Limits(
        max_connections=min(Limits().max_connections, max_connections),
        memory_bytes=share,
        max_message_bytes=MAX_REQUEST_BYTES,
        max_buffered_bytes=16 * MAX_REQUEST_BYTES,
        stream_window_bytes=2 * MAX_REQUEST_BYTES,
        connection_window_bytes=16 * MAX_REQUEST_BYTES,
        send_buffer_bytes=MAX_REQUEST_BYTES,
    )


async def serve_grpc(
    part: GrpcPart,
    stopping: trio.Event,
    max_connections: int,
    *,
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve KEDA's scaler and grpc.health.v1 until ``stopping`` is set; returns when all calls have ended.

    ``max_connections`` is how many the open files allow; the server's own limit applies as well.
    """
    health = Health({"": True, SERVICE: True})
    services: Sequence[Servable] = [part.service, health]
    if part.reflection:
        services = ServerReflection.extend(services)
    limits = grpc_limits(max_connections, limit_of_memory())
    server = Server(services, limits=limits, on_call=part.service.count_call)
    log.info("gRPC listens on %s%s", describe_listener(part.listener), " with TLS" if part.tls else "")
    plain = trio.SocketListener(trio.socket.from_stdlib_socket(part.listener))
    listener = plain if part.tls is None else trio.SSLListener(plain, part.tls)
    await server.serve([listener], shutdown=stopping, grace=GRPC_GRACE, task_status=task_status)
