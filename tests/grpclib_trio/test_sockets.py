# SPDX-License-Identifier: Apache-2.0
"""An independent client, grpcio, on real sockets; it blocks, so it runs in threads."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import grpc
import pytest
import trio
import trustme
from google.protobuf.message import Message
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from kedastral.grpclib_trio import FinishedCall, Health, Limits, Server

from ._proto import sample_pb2 as pb
from .peers import SERVICE, Client, SampleService


class Running:
    """A server on 127.0.0.1."""

    def __init__(self, port: int, shutdown: trio.Event, finished: list[FinishedCall]) -> None:
        self.port = port
        self.shutdown = shutdown
        self.finished = finished


@asynccontextmanager
async def run_server(
    *services: Any, tls: ssl.SSLContext | None = None, limits: Limits | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Running]:
    finished: list[FinishedCall] = []
    server = Server(services or [SampleService()], on_call=finished.append, limits=limits)
    plain = await trio.open_tcp_listeners(0, host=host)
    listeners: Any = [trio.SSLListener(each, tls) for each in plain] if tls else plain
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, listeners, shutdown=shutdown, grace=5))
        yield Running(plain[0].socket.getsockname()[1], shutdown, finished)
        shutdown.set()


@contextmanager
def connect(port: int, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Callable[..., Any]]:
    """A function ``call(path, request, response_type, **options)`` on one channel."""
    target, options = f"127.0.0.1:{port}", [("grpc.ssl_target_name_override", "test")]
    channel = grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target)

    def call(path: str, request: Message, kind: Any, *, stream: bool = False, **options: Any) -> Any:
        make = channel.unary_stream if stream else channel.unary_unary
        codec = {"request_serializer": lambda m: m.SerializeToString(), "response_deserializer": kind.FromString}
        return make(path if path.startswith("/") else SERVICE + path, **codec)(request, **options)  # type: ignore[arg-type]

    with channel:
        yield call


async def test_grpcio_gets_answers() -> None:
    def ask(port: int) -> None:
        with connect(port) as call:
            request = pb.Question(text="m")
            reply = call("Measure", request, pb.Items)
            assert reply.items[0].text == "m"
            big = pb.Name(name="x" * 3_000_000)
            reply = call("Echo", big, pb.Items)
            assert len(reply.items[0].text) == 3_000_000

    async with run_server() as server:
        await trio.to_thread.run_sync(ask, server.port)
    assert [f.status for f in server.finished] == [Status.OK] * 2
    assert server.finished[0].peer.startswith("127.0.0.1:")


async def test_grpcio_may_repeat_a_call_that_was_cut_with_its_connection() -> None:
    def ask(port: int) -> grpc.StatusCode:
        with connect(port) as call:
            watch = call("WatchState", pb.Name(), pb.State, stream=True, timeout=10)
            next(watch)
            with pytest.raises(grpc.RpcError):  # noqa: PT012  # which of the calls notices first is open
                for _ in range(10):  # cancelled calls are resets, here more than a client may have
                    other = call("WatchState", pb.Name(), pb.State, stream=True, timeout=10)
                    next(other)
                    other.cancel()
                next(watch)
            code: grpc.StatusCode = watch.code()
            return code

    async with run_server(limits=Limits(max_resets=1)) as server:
        assert await trio.to_thread.run_sync(ask, server.port) is grpc.StatusCode.UNAVAILABLE


async def refuse(stream: Any) -> None:
    await stream.recv_message()
    raise GRPCError(Status.FAILED_PRECONDITION, "zu früh", [pb.State(result=True)])


async def hang(stream: Any) -> None:
    await stream.recv_message()
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("method", "request_", "code", "details"),
    [
        ("Nope", pb.Name(), grpc.StatusCode.UNIMPLEMENTED, "there is no method"),
        ("Ask", pb.Name(), grpc.StatusCode.FAILED_PRECONDITION, "zu früh"),
        ("Measure", pb.Name(name="\x7f"), grpc.StatusCode.INTERNAL, "Question"),
        ("Echo", pb.Name(name="x" * 5_000_000), grpc.StatusCode.RESOURCE_EXHAUSTED, "5000"),
    ],
)
async def test_grpcio_reads_our_errors(method: str, request_: Message, code: grpc.StatusCode, details: str) -> None:
    def ask(port: int) -> None:
        with connect(port) as call, pytest.raises(grpc.RpcError) as caught:
            call(method, request_, pb.Items)
        assert caught.value.code() is code
        assert details in caught.value.details()

    async with run_server(SampleService(Ask=refuse)) as server:
        await trio.to_thread.run_sync(ask, server.port)


async def test_grpcio_deadlines_and_compression() -> None:
    def ask(port: int) -> None:
        with connect(port) as call:
            with pytest.raises(grpc.RpcError) as caught:
                call("Ask", pb.Name(), pb.State, timeout=0.2)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            request, gzip = pb.Name(name="x" * 1000), grpc.Compression.Gzip
            with pytest.raises(grpc.RpcError) as caught:
                call("Echo", request, pb.Items, compression=gzip)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async with run_server(SampleService(Ask=hang)) as server:
        await trio.to_thread.run_sync(ask, server.port)


async def test_grpcio_sees_a_graceful_end() -> None:
    def ask(port: int, shut_down: Callable[[], None]) -> None:
        with connect(port) as call:
            responses = call("WatchState", pb.Name(), pb.State, stream=True)
            assert next(responses).result
            shut_down()
            assert list(responses) == []
            assert responses.code() is grpc.StatusCode.OK
            with pytest.raises(grpc.RpcError) as caught:
                call("Ask", pb.Name(), pb.State)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    async with run_server() as server:
        await trio.to_thread.run_sync(ask, server.port, partial(trio.from_thread.run_sync, server.shutdown.set))


async def test_grpcio_cancels() -> None:
    def ask(port: int) -> None:
        with connect(port) as call:
            responses = call("WatchState", pb.Name(), pb.State, stream=True)
            next(responses)
            responses.cancel()
            call("Ask", pb.Name(), pb.State)

    async with run_server() as server:
        await trio.to_thread.run_sync(ask, server.port)
    assert sorted(f.status.name for f in server.finished) == ["CANCELLED", "OK"]


async def test_grpcio_asks_for_health() -> None:
    def ask(port: int) -> None:
        with connect(port) as call:
            reply = call("/grpc.health.v1.Health/Check", HealthCheckRequest(), HealthCheckResponse)
            assert reply.status == HealthCheckResponse.SERVING

    async with run_server(Health()) as server:
        await trio.to_thread.run_sync(ask, server.port)


async def test_grpcio_speaks_mutual_tls() -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    ca.issue_cert("test").configure_cert(context)
    identity = ca.issue_cert("client")
    key, chain = identity.private_key_pem.bytes(), identity.cert_chain_pems[0].bytes()
    credentials = grpc.ssl_channel_credentials(ca.cert_pem.bytes(), key, chain)

    def ask(port: int) -> None:
        with connect(port, credentials) as call:
            assert call("Ask", pb.Name(), pb.State).result

    async with run_server(tls=context) as server:
        await trio.to_thread.run_sync(ask, server.port)


async def test_connections_that_the_kernel_took_before_the_shutdown_are_answered() -> None:
    shutdown = trio.Event()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=100)
    port = listeners[0].socket.getsockname()[1]
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    shutdown.set()
    clients = [Client(trio.SocketStream(trio.socket.from_stdlib_socket(each))) for each in sockets]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(Server([SampleService()]).serve, listeners, shutdown=shutdown))
        for client in clients:
            await client.until(lambda client=client: bool(client.goaways))  # type: ignore[misc]
            assert client.goaways[0].last_stream_id == 0
            await client.stream.aclose()
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_reset_connection_harms_nobody() -> None:
    async with run_server() as server:
        for _ in range(5):
            raw = socket.create_connection(("127.0.0.1", server.port))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.close()
        client = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
        assert (await client.call()).status is Status.OK
        await client.stream.aclose()


async def test_peers_have_names(tmp_path: Any) -> None:
    async with run_server(host="::1") as server:
        client = Client(await trio.open_tcp_stream("::1", server.port))
        await client.call()
        await client.stream.aclose()
    assert server.finished[0].peer.startswith("[::1]:")


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_thousand_connections_that_say_nothing_lock_nobody_out(secure: bool) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("test").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes()) if secure else None

    def ask(port: int) -> None:
        with connect(port, credentials) as call:
            call("Measure", pb.Question(), pb.Items, timeout=20)

    async with run_server(tls=context if secure else None) as server:
        crowd = [await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(1000)]
        await trio.to_thread.run_sync(ask, server.port)
        for stream in crowd:
            stream.socket.close()
