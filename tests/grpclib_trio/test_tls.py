# SPDX-License-Identifier: Apache-2.0
"""TLS: who gets in, and what the log says about those who do not."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme
from grpclib.const import Status

from kedastral.grpclib_trio import Limits, Server

from ._proto import sample_pb2 as pb
from .conftest import StartServer
from .peers import Client, MemoryListener, Rig, SampleService

LOGGER = "kedastral.grpclib_trio"


@attrs.define
class Authority:
    """A certificate authority, and contexts that trust it."""

    ca: trustme.CA = attrs.field(factory=trustme.CA)

    def server(self, *, alpn: str | None = "h2", mutual: bool = False) -> ssl.SSLContext:
        """For the server ``test``."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert("test").configure_cert(context)
        if alpn:
            context.set_alpn_protocols([alpn])
        if mutual:
            self.ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, *, alpn: str | None = "h2", identity: str | None = None) -> ssl.SSLContext:
        """For a client that trusts the authority."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if alpn:
            context.set_alpn_protocols([alpn])
        if identity:
            self.ca.issue_cert(identity).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class TlsRig(Rig):
    """A server whose memory listener speaks TLS."""

    def secure(self, context: ssl.SSLContext) -> None:
        """Wrap what the listener accepts, as ``trio.SSLListener`` does."""
        plain = self.listener

        class Listener(MemoryListener):
            async def accept(self) -> trio.abc.Stream:
                return trio.SSLStream(await plain.accept(), context, server_side=True)

        self.listener = Listener()
        self.listener.connect = plain.connect  # type: ignore[method-assign]


StartTls = Callable[[ssl.SSLContext], Any]


@pytest.fixture
def start_tls(nursery: trio.Nursery) -> StartTls:
    async def start(context: ssl.SSLContext, service: Any = None) -> Rig:
        finished: list[Any] = []
        rig = TlsRig(server=Server([service or SampleService()], on_call=finished.append), finished=finished)
        rig.secure(context)
        await nursery.start(rig.run)
        return rig

    return start


def connect(rig: Rig, context: ssl.SSLContext) -> Client:
    return Client(trio.SSLStream(rig.listener.connect(), context, server_hostname="test"))


async def test_calls_work_over_tls(authority: Authority, start_tls: StartTls) -> None:
    rig = await start_tls(authority.server())
    client = connect(rig, authority.client())
    assert (await client.call()).status is Status.OK
    answer = await client.call(message=pb.Name(name="x", options={"repeat": "500000"}))
    assert len(answer.body) > 500_000


async def test_handlers_see_the_certificate_of_a_mutual_handshake(authority: Authority, start_tls: StartTls) -> None:
    seen: list[Any] = []

    async def look(stream: Any) -> None:
        seen.append(stream.peer.cert())
        await stream.recv_message()
        await stream.send_message(pb.State())

    rig = await start_tls(authority.server(mutual=True), SampleService(Ask=look))
    client = connect(rig, authority.client(identity="operator"))
    assert (await client.call("Ask")).status is Status.OK
    assert ("DNS", "operator") in seen[0]["subjectAltName"]


async def meet(rig: Rig, context: ssl.SSLContext) -> None:
    """Try to make a call that cannot work."""
    client = connect(rig, context)
    with pytest.raises((trio.BrokenResourceError, EOFError)):
        await client.call()
    await trio.aclose_forcefully(client.stream)
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("server", "client", "reason"),
    [
        ({"mutual": True}, {}, "the client gave no certificate, and one is required"),
        ({}, {"alpn": "http/1.1"}, "no agreement on the ALPN protocol h2"),
        ({}, {"alpn": None}, "no agreement on the ALPN protocol h2"),
        ({"alpn": None}, {}, "no agreement on the ALPN protocol h2"),
    ],
)
async def test_a_failed_handshake_is_one_clear_line(
    authority: Authority,
    start_tls: StartTls,
    caplog: pytest.LogCaptureFixture,
    server: dict[str, Any],
    client: dict[str, Any],
    reason: str,
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_tls(authority.server(**server))
    await meet(rig, authority.client(**client))
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("TLS handshake with unknown failed: ")
    assert reason in caplog.text
    assert caplog.records[0].exc_info is None
    if server != {"alpn": None}:
        assert (await connect(rig, authority.client(identity="x")).call()).status is Status.OK


async def test_a_client_that_does_not_trust_us_is_one_clear_line(
    authority: Authority, start_tls: StartTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_tls(authority.server())
    await meet(rig, Authority().client())
    assert len(caplog.records) == 1
    assert "the client hung up" in caplog.text


async def test_a_client_without_tls_is_one_clear_line(
    authority: Authority, start_tls: StartTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_tls(authority.server())
    client = rig.connect()
    await client.flush()
    while await client.stream.receive_some():
        pass
    assert len(caplog.records) == 1
    assert "TLS handshake with unknown failed: the client does not speak TLS" in caplog.text


async def test_a_client_that_hangs_up_is_one_clear_line(
    authority: Authority, start_tls: StartTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_tls(authority.server())
    await rig.listener.connect().aclose()
    await trio.testing.wait_all_tasks_blocked()
    [line] = caplog.messages
    assert line.startswith("TLS handshake with unknown failed: the client hung up")


async def test_a_handshake_that_takes_for_ever_is_given_up(
    authority: Authority, start_tls: StartTls, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await start_tls(authority.server())
    stream = rig.listener.connect()
    await stream.send_all(b"\x16\x03")
    assert await stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(5, abs=1.1)
    assert "not complete within 5 s" in caplog.text


async def test_draining_ends_tls_connections_as_well(
    authority: Authority, start_tls: StartTls, autojump_clock: object
) -> None:
    rig = await start_tls(authority.server())
    client = connect(rig, authority.client())
    stream_id = client.start("WatchState")
    await client.until(lambda: bool(client.answers[stream_id].body))
    rig.shutdown.set()
    assert (await client.finish(stream_id)).status is Status.OK
    await client.stream.aclose()
    await rig.stopped.wait()


async def test_a_plain_server_told_to_speak_tls_says_so(start_server: StartServer, authority: Authority) -> None:
    rig = await start_server(limits=Limits())
    with pytest.raises((trio.BrokenResourceError, EOFError)):
        await connect(rig, authority.client()).call()
    assert (await rig.connect().call()).status is Status.OK


async def test_a_client_learns_why_it_is_not_served(authority: Authority, start_tls: StartTls) -> None:
    rig = await start_tls(authority.server(mutual=True))
    client = connect(rig, authority.client())
    with pytest.raises((trio.BrokenResourceError, EOFError)):
        await client.call()
    with pytest.raises(trio.BrokenResourceError):
        await client.stream.receive_some()
