# SPDX-License-Identifier: Apache-2.0
"""Private names of grpclib and h2 that we use: one test each, so that an upgrade shows what broke."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import grpc
import grpclib.protocol
import grpclib.server
import grpclib.stream
import h2.connection
import h2.frame_buffer
import pytest
import trio
from grpclib.const import Cardinality, Handler, Status
from grpclib.events import RecvRequest, _DispatchServerEvents, listen
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine

import kedastral.grpclib_trio
from kedastral.grpclib_trio import Server
from kedastral.grpclib_trio.transport import ConnectionRecord, TransportStream

from .peers import SampleService

PACKAGE = Path(kedastral.grpclib_trio.__file__).parent


async def test_dispatch_server_events_lets_interceptors_change_the_request() -> None:
    server = Server([SampleService()])
    assert isinstance(server.__dispatch__, _DispatchServerEvents)

    async def change(event: RecvRequest) -> None:
        event.metadata = {"changed": event.method_name}

    listen(server, RecvRequest, change)  # type: ignore[arg-type]
    result = await server.__dispatch__.recv_request(
        {}, None, method_name="/x", deadline=None, content_type="", user_agent=None, peer=None
    )
    assert result == ({"changed": "/x"}, None)


def test_server_stream_takes_these_arguments() -> None:
    parameters = inspect.signature(grpclib.server.Stream).parameters
    assert list(parameters) == [
        "stream",
        "method_name",
        "cardinality",
        "recv_type",
        "send_type",
        "codec",
        "status_details_codec",
        "dispatch",
        "deadline",
        "user_agent",
    ]


def test_server_stream_needs_nothing_of_its_transport_that_ours_lacks() -> None:
    source = inspect.getsource(grpclib.server.Stream)
    source = source.replace(inspect.getsource(grpclib.server.Stream.__aexit__), "")  # not used here
    used = set(re.findall(r"\bself\._stream\.(\w+)", source))
    for function in (grpclib.stream.recv_message, grpclib.stream.send_message):
        used |= set(re.findall(r"\bstream\.(\w+)\(", inspect.getsource(function)))
    assert used == {"connection", "send_headers", "send_data", "recv_data", "reset", "reset_nowait", "closable"}
    assert used - {"connection"} <= set(dir(TransportStream))
    counted = set(re.findall(r"\bself\._stream\.connection\.(\w+)", source))
    assert counted <= set(dir(ConnectionRecord))


def test_transport_stream_has_the_signatures_of_grpclibs() -> None:
    for name in ("send_headers", "send_data", "recv_data", "reset", "reset_nowait"):
        theirs = list(inspect.signature(getattr(grpclib.protocol.Stream, name)).parameters)
        assert list(inspect.signature(getattr(TransportStream, name)).parameters) == theirs


async def test_recv_message_reads_a_prefix_and_then_what_it_announced() -> None:
    sizes: list[int] = []

    class Stream:
        async def recv_data(self, size: int) -> bytes:
            sizes.append(size)
            return b"\0\0\0\0\7" if size == 5 else bytes(size)

    class Codec:
        def decode(self, data: bytes, message_type: Any) -> bytes:
            return data

    assert await grpclib.stream.recv_message(Stream(), Codec(), bytes) == bytes(7)  # type: ignore[arg-type]
    assert sizes == [5, 7]


def test_generated_services_map_paths_to_handlers() -> None:
    handler = SampleService().__mapping__()["/sample.Sample/WatchState"]
    assert Handler._fields == ("func", "cardinality", "request_type", "reply_type")
    assert handler.cardinality is Cardinality.UNARY_STREAM
    assert handler.cardinality.server_streaming
    assert not handler.cardinality.client_streaming


def test_h2_asks_its_state_machine_about_goaway_and_nothing_else() -> None:
    assert set(H2ConnectionStateMachine._transitions.values()) >= {(None, h2.connection.ConnectionState.CLOSED)}
    source = inspect.getsource(H2Connection)
    for name in ("SEND_GOAWAY", "RECV_GOAWAY"):
        assert source.count(f"self.state_machine.process_input(ConnectionInputs.{name})") + source.count(
            f"self.state_machine.process_input(\n            ConnectionInputs.{name}"
        ) == (2 if name == "SEND_GOAWAY" else 1)
    assert {ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY} <= set(ConnectionInputs)


def test_h2_counts_streams_through_open_inbound_streams() -> None:
    assert "self.open_inbound_streams" in inspect.getsource(H2Connection._receive_headers_frame)
    assert "self.streams.pop" in inspect.getsource(H2Connection._open_streams)


def test_h2_drops_output_on_goaway_through_clear_outbound_data_buffer() -> None:
    assert "self.clear_outbound_data_buffer()" in inspect.getsource(H2Connection._receive_goaway_frame)


def test_the_package_leans_on_no_other_private_name() -> None:
    allowed = {"_DispatchServerEvents"}
    found = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("kedastral"):
                found |= {a.name for a in node.names if a.name.startswith("_") and a.name != "annotations"}
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                inner = node.value
                own = isinstance(inner, ast.Name) and inner.id in {"self", "cls"}
                found |= set() if own else {node.attr}
    assert found == allowed


def test_the_package_needs_neither_asyncio_nor_the_rest_of_the_product() -> None:
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in {"asyncio", "anyio"}
                assert not name.startswith("kedastral") or name.startswith(
                    ("kedastral.grpclib_trio", "kedastral.trio_connections")
                )


@pytest.mark.parametrize("status", list(Status))
def test_statuses_have_the_numbers_of_the_wire(status: Status) -> None:
    assert grpc.StatusCode[status.name].value[0] == status.value


def test_grpclib_offers_no_event_loop_to_our_streams() -> None:
    assert trio.lowlevel.in_trio_run() is False
    assert "loop" not in inspect.getsource(grpclib.server.Stream)


def test_the_tests_of_the_package_need_nothing_else_of_the_product_either() -> None:
    for path in Path(__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                assert not name.startswith("tests.") or name.startswith("tests.grpclib_trio"), path
                assert not name.startswith("kedastral") or name.startswith("kedastral.grpclib_trio"), path
