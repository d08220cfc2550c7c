# SPDX-License-Identifier: Apache-2.0
"""gRPC over TLS and mutual TLS with an independent client on real sockets: who gets in, and the log line if not."""

import logging
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest
import trio
import trio.testing

from kedastral.grpclib_trio import Server
from kedastral.tls import LOOK_EVERY, RotatingContext, TlsFiles, make_server_context
from tests.certificates import EXPIRED, Authority
from tests.grpclib_trio._proto import sample_pb2 as pb
from tests.grpclib_trio.peers import SERVICE, SampleService

PATIENCE = 30.0
WEB = pb.Name(name="web")


@attrs.define
class Rig:
    """A server, and the CA of its certificate."""

    authority: Authority
    port: int
    shutdown: trio.Event = attrs.field(factory=trio.Event)
    stopped: trio.Event = attrs.field(factory=trio.Event)

    async def run(
        self, listener: trio.abc.Listener[Any], *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await Server([SampleService()]).serve([listener], shutdown=self.shutdown, grace=1.0, task_status=task_status)
        self.stopped.set()

    def channel(
        self,
        identity: TlsFiles | None = None,
        trusted: Authority | None = None,
        name: str = "shop",
        *,
        tls: bool = True,
    ) -> grpc.Channel:
        target = f"127.0.0.1:{self.port}"
        if not tls:
            return grpc.insecure_channel(target)
        read = [path.read_bytes() for path in (identity.key, identity.cert) if path] if identity else [None, None]
        credentials = grpc.ssl_channel_credentials((trusted or self.authority).file.read_bytes(), *read)
        return grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", name)])


OpenRig = Callable[..., Any]


@pytest.fixture
async def open_rig(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[OpenRig]:
    rigs: list[Rig] = []
    authority = Authority(tmp_path)

    async def start(*, mutual: bool = False, tls: bool = True, **pair: Any) -> Rig:
        files = authority.issue("shop", **pair)
        context = RotatingContext(
            "gRPC",
            attrs.evolve(files, ca=authority.file if mutual else None),
            partial(make_server_context, alpn=["h2"]),
        )
        [plain] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        rig = Rig(authority, plain.socket.getsockname()[1])
        rigs.append(rig)
        await nursery.start(rig.run, trio.SSLListener(plain, context) if tls else plain)
        return rig

    yield start
    for rig in rigs:
        rig.shutdown.set()
        with trio.fail_after(PATIENCE):
            await rig.stopped.wait()


def ask(channel: grpc.Channel) -> str:
    """The answer of the server, or why it cannot be reached."""
    call = channel.unary_unary(
        SERVICE + "Echo",
        request_serializer=pb.Name.SerializeToString,
        response_deserializer=pb.Items.FromString,
    )
    try:
        return str(call(WEB, timeout=PATIENCE).items[0].text)
    except grpc.RpcError as error:
        return str(error)


async def meet(channel: grpc.Channel) -> str:
    with channel:
        return await trio.to_thread.run_sync(ask, channel)


async def lines_of(caplog: pytest.LogCaptureFixture, number: int = 1) -> list[str]:
    with trio.fail_after(PATIENCE):
        while len(lines := warnings_in(caplog)) < number:  # noqa: ASYNC110 - a log has no event
            await trio.sleep(0.01)
    return lines


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_tls_is_spoken_with_grpcio(open_rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await open_rig()
    assert await meet(rig.channel()) == "web"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_mutual_tls_lets_in_who_has_a_certificate(open_rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await open_rig(mutual=True)
    assert await meet(rig.channel(rig.authority.issue("keda", to="keda"))) == "web"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_client_without_a_certificate_is_one_line(open_rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await open_rig(mutual=True)
    assert "StatusCode.UNAVAILABLE" in await meet(rig.channel())
    [line] = await lines_of(caplog)
    assert line.startswith("TLS handshake with 127.0.0.1:")
    assert line.endswith("failed: the client gave no certificate, and one is required")


async def test_an_expired_client_is_one_line(open_rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await open_rig(mutual=True)
    assert await meet(rig.channel(rig.authority.issue("keda", to="keda", not_after=EXPIRED))) != "web"
    [line] = await lines_of(caplog)
    assert line.endswith("failed: the client's certificate is refused: certificate has expired")


async def test_a_client_of_another_authority_is_one_line(
    open_rig: OpenRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await open_rig(mutual=True)
    stranger = Authority(tmp_path / "other").issue("keda")
    assert await meet(rig.channel(stranger)) != "web"
    [line] = await lines_of(caplog)
    assert "failed: the client's certificate is refused: " in line


async def test_a_client_that_does_not_trust_us_is_one_line(
    open_rig: OpenRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await open_rig()
    assert "CERTIFICATE_VERIFY_FAILED" in await meet(rig.channel(trusted=Authority(tmp_path / "other")))
    [line] = await lines_of(caplog)
    assert line.endswith("failed: the client hung up; it may not trust this server's certificate")


async def test_our_expired_certificate_is_one_line(open_rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await open_rig(not_after=EXPIRED)
    assert "CERTIFICATE_VERIFY_FAILED" in await meet(rig.channel())
    [line] = await lines_of(caplog)
    assert line.endswith("failed: the client hung up; it may not trust this server's certificate")


async def test_a_client_that_wants_another_name_is_told_by_itself(open_rig: OpenRig) -> None:
    rig = await open_rig()
    assert "Hostname Verification Check failed" in await meet(rig.channel(name="another"))
    assert await meet(rig.channel()) == "web"


async def test_a_client_in_plain_text_is_one_line(open_rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await open_rig()
    assert await meet(rig.channel(tls=False)) != "web"
    [line] = await lines_of(caplog)
    assert line.endswith("failed: the client does not speak TLS")


async def test_tls_to_a_plain_port_is_one_line(open_rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await open_rig(tls=False)
    assert "StatusCode.UNAVAILABLE" in await meet(rig.channel())
    [line] = await lines_of(caplog)
    assert line.endswith("failed: the client speaks TLS, but this port does not")
    assert await meet(rig.channel(tls=False)) == "web"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_probe_that_only_connects_is_no_line(
    open_rig: OpenRig, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await open_rig()
    for _ in range(5):
        stream = await trio.open_tcp_stream("127.0.0.1", rig.port)
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()
    assert await meet(rig.channel()) == "web"
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_a_renewed_certificate_is_taken_up_and_a_kept_connection_goes_on(
    open_rig: OpenRig, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 1.0
    rig = await open_rig()
    with rig.channel() as kept:
        assert await trio.to_thread.run_sync(ask, kept) == "web"
        rig.authority.issue("renewed")
        mock_clock.jump(LOOK_EVERY)
        assert await meet(rig.channel(name="renewed")) == "web"
        assert "Hostname Verification Check failed" in await meet(rig.channel())
        assert await trio.to_thread.run_sync(ask, kept) == "web"
