# SPDX-License-Identifier: Apache-2.0
"""Hostile and broken clients: each costs its own connection or call, never the server.

Floods run on ``mock_clock``, on which no time passes: however slow the machine, they fall into one window.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest
import trio
import trio.testing
from grpclib.const import Status
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from kedastral.grpclib_trio import Limits

from ._proto import sample_pb2 as pb
from .conftest import StartServer
from .peers import Client, Rig, SampleService, frame_message, never_begin, never_end

ENHANCE_YOUR_CALM = 11
REFUSED_STREAM = 7
CANCEL = 8


async def send_raw(client: Client, *frames: Frame | bytes) -> None:
    """Send frames, bypassing the client's h2."""
    await client.flush()
    with contextlib.suppress(trio.BrokenResourceError):  # cut off already
        await client.stream.send_all(b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames))


async def assert_cut_off(client: Client, code: int | None = None) -> None:
    """Check that the connection ends, with a GOAWAY of that code."""
    await client.until_closed()
    if code is not None:
        assert [int(g.error_code) for g in client.goaways] == [code]


async def assert_alive(rig: Rig) -> None:
    """Check that other clients are served as before."""
    assert (await rig.connect().call()).status is Status.OK


async def read_what_there_is(client: Client) -> bytes:
    """What the server has sent so far, bypassing the client's h2."""
    received = bytearray()

    async def read() -> None:
        while data := await client.stream.receive_some(2**16):
            received.extend(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return bytes(received)


def header_block(client: Client, *extra: tuple[str, str]) -> bytes:
    """A complete request's header block, compressed in the client's context."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/sample.Sample/WatchState"),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        *extra,
    ]
    return bytes(client.h2.encoder.encode(fields))


# -- rapid reset


async def reset_in_a_loop(client: Client, count: int) -> None:
    frames: list[Frame] = []
    for i in range(count):
        stream_id = 2 * i + 1
        frames.append(HeadersFrame(stream_id, header_block(client), flags=["END_HEADERS"]))
        frames.append(RstStreamFrame(stream_id, error_code=CANCEL))
    await send_raw(client, *frames)


async def test_rapid_resets_are_cut_off(
    start_server: StartServer, mock_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await start_server()
    client = rig.connect()
    await reset_in_a_loop(client, 20_000)
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    assert "is disconnected: 1002 streams reset within 10 s" in caplog.text
    assert len(rig.finished) < 2_000
    await assert_alive(rig)


async def test_all_deadlines_expiring_at_once_are_legal(start_server: StartServer, autojump_clock: object) -> None:
    rig = await start_server(limits=Limits(max_resets=10))
    client = rig.connect()
    for _ in range(3):
        ids = [client.start("WatchState") for _ in range(500)]
        await client.until(lambda ids=ids: all(client.answers[i].body for i in ids))  # type: ignore[misc]
        await trio.sleep(11)  # what was opened before the window counts in it
        for i in ids:
            client.h2.reset_stream(i, error_code=CANCEL)
        await client.flush()
        await trio.sleep(11)
    assert (await client.call()).status is Status.OK
    assert len(rig.finished) == 1_501


async def test_resets_provoked_by_mistakes_count_as_well(start_server: StartServer, mock_clock: object) -> None:
    rig = await start_server(limits=Limits(max_resets=10))
    client = rig.connect()
    for _ in range(50):
        # a window pushed over its maximum makes the server reset the stream
        await send_raw(client, WindowUpdateFrame(client.open("WatchState"), window_increment=2**31 - 1))
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await assert_alive(rig)


async def test_one_stream_too_many_is_refused_and_the_others_go_on(start_server: StartServer) -> None:
    rig = await start_server(limits=Limits(max_streams=5))
    client = rig.connect()
    ids = [client.start("WatchState") for _ in range(5)]
    await client.until(lambda: all(client.answers[i].body for i in ids))
    await send_raw(client, HeadersFrame(11, header_block(client), flags=["END_HEADERS"]))
    client.h2.get_next_available_stream_id = lambda: 13  # type: ignore[method-assign]
    await trio.testing.wait_all_tasks_blocked()
    data = await client.stream.receive_some()
    assert data == RstStreamFrame(11, error_code=REFUSED_STREAM).serialize()
    client.h2.reset_stream(ids[0], error_code=CANCEL)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (await client.call()).status is Status.OK
    assert [client.answers[i].ended for i in ids[1:]] == [False] * 4


async def test_data_of_refused_streams_does_not_use_up_the_window(start_server: StartServer) -> None:
    rig = await start_server(limits=Limits(max_streams=1, connection_window_bytes=65_536))
    client = rig.connect()
    stream_id = client.start("WatchState")
    await client.until(lambda: bool(client.answers[stream_id].body))
    for i in range(3, 43, 2):
        await send_raw(client, HeadersFrame(i, header_block(client), flags=["END_HEADERS"]), DataFrame(i, bytes(2**14)))
        await trio.testing.wait_all_tasks_blocked()
    client.h2.reset_stream(stream_id, error_code=CANCEL)
    client.h2.get_next_available_stream_id = lambda: 43  # type: ignore[method-assign]
    assert (await client.call()).status is Status.OK


async def test_opening_streams_over_the_limit_for_ever_is_cut_off(
    start_server: StartServer, mock_clock: object
) -> None:
    rig = await start_server(limits=Limits(max_streams=5, max_resets=50))
    client = rig.connect()
    client.open()
    frames = [HeadersFrame(i, header_block(client), flags=["END_HEADERS"]) for i in range(3, 1001, 2)]
    await send_raw(client, *frames)
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await trio.testing.wait_all_tasks_blocked()
    assert len(rig.finished) == 5


async def test_thousands_of_streams_fit_on_one_connection(start_server: StartServer) -> None:
    rig = await start_server()
    client = rig.connect()
    ids = [client.start("WatchState") for _ in range(1_500)]
    await client.until(lambda: all(client.answers[i].body for i in ids))
    assert client.h2.remote_settings.max_concurrent_streams == 10_000
    assert (await client.call()).status is Status.OK


async def test_finished_streams_are_forgotten(start_server: StartServer) -> None:
    connections: list[Any] = []

    async def look(stream: Any) -> None:
        connections.append(stream._stream._http2)
        await stream.recv_message()
        await stream.send_message(pb.State())

    client = (await start_server(SampleService(Ask=look))).connect()
    for _ in range(500):
        await client.call("Ask")
    assert len(connections[0]._h2.streams) < 200


# -- floods


async def test_a_ping_flood_is_cut_off(start_server: StartServer, mock_clock: object) -> None:
    rig = await start_server()
    client = rig.connect()
    await send_raw(client, *[PingFrame(0, opaque_data=b"12345678")] * 500)
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await assert_alive(rig)


async def test_pings_after_data_are_bandwidth_probes(start_server: StartServer, mock_clock: object) -> None:
    client = (await start_server(limits=Limits(max_pings=3))).connect()
    for _ in range(50):  # as grpc-go does
        await client.call()
        client.h2.ping(b"\2\4\x10\x10\x09\x0e\7\7")
    assert (await client.call()).status is Status.OK
    await client.until(lambda: client.pongs == 50)
    assert client.goaways == []


async def test_keepalive_pings_of_a_quiet_client_are_fine(start_server: StartServer, autojump_clock: object) -> None:
    client = (await start_server(limits=Limits(max_pings=3))).connect()
    await client.call()
    for i in range(1, 100):
        await trio.sleep(10)
        client.h2.ping(b"keepaliv")
        await client.until(lambda i=i: client.pongs == i)  # type: ignore[misc]
    assert client.goaways == []


@pytest.mark.parametrize(
    "frame",
    [
        SettingsFrame(0, settings={4: 65_535}),
        PriorityFrame(1, depends_on=3, stream_weight=1),
        ExtensionFrame(type=0xBE, stream_id=0, body=b""),
    ],
    ids=["settings", "priority", "unknown"],
)
async def test_floods_of_frames_that_carry_nothing_are_cut_off(
    start_server: StartServer, mock_clock: object, frame: Frame
) -> None:
    rig = await start_server()
    client = rig.connect()
    await send_raw(client, *[frame] * 5_000)
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await assert_alive(rig)


@pytest.mark.parametrize("data", [b"", b"x"])
async def test_a_flood_of_tiny_data_is_cut_off(start_server: StartServer, mock_clock: object, data: bytes) -> None:
    rig = await start_server()
    client = rig.connect()
    stream_id = client.open()
    await send_raw(client, *[DataFrame(stream_id, data)] * 5_000)
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await assert_alive(rig)


@pytest.mark.parametrize(
    "frame",
    [
        WindowUpdateFrame(0, window_increment=1),
        WindowUpdateFrame(1, window_increment=1),
        SettingsFrame(0, flags=["ACK"]),
        GoAwayFrame(0),
        RstStreamFrame(1, error_code=CANCEL),
        DataFrame(1, bytes(300)),
        PingFrame(0, opaque_data=b"12345678", flags=["ACK"]),
    ],
    ids=lambda frame: type(frame).__name__ + ("" if "ACK" not in frame.flags else "-ack"),
)
async def test_frames_that_ask_for_nothing_are_counted(
    start_server: StartServer, mock_clock: object, frame: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await start_server(SampleService(WatchState=never_begin), limits=Limits(max_pings=10**9, max_resets=10**9))
    client = rig.connect()
    assert (await client.call()).status is Status.OK  # stream 1, closed from now on
    client.start("WatchState")
    await send_raw(client, *[frame] * 5_000)
    await trio.testing.wait_all_tasks_blocked()
    await read_what_there_is(client)
    assert "frames that ask for nothing within 10 s" in caplog.text
    await assert_alive(rig)


async def test_window_updates_and_pings_that_answer_data_are_no_flood(
    start_server: StartServer, mock_clock: object
) -> None:
    client = (await start_server(limits=Limits(max_idle_frames=10, max_pings=5))).connect()
    for _ in range(100):
        await client.call()
        for _ in range(4):
            client.h2.increment_flow_control_window(100)
            client.h2.ping(b"12345678")
    assert (await client.call()).status is Status.OK


async def test_window_updates_of_calls_that_wait_for_their_answer_are_no_flood(
    start_server: StartServer, mock_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames as grpcio sends them: an honest client with a thousand calls at once used to be cut off."""
    rig = await start_server(SampleService(WatchState=never_begin), limits=Limits(max_idle_frames=10))
    client = rig.connect()
    for _ in range(100):
        client.h2.increment_flow_control_window(100, client.start("WatchState"))
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (await client.call()).status is Status.OK
    await send_raw(client, *[WindowUpdateFrame(1, window_increment=1)] * 200)
    await trio.testing.wait_all_tasks_blocked()
    await read_what_there_is(client)
    assert "frames that ask for nothing within 10 s" in caplog.text


async def test_headers_that_are_never_complete_are_not_collected(start_server: StartServer) -> None:
    rig = await start_server()
    client = rig.connect()
    frames: list[Frame] = [HeadersFrame(1, header_block(client))]
    frames += [ContinuationFrame(1, bytes(2**13)) for _ in range(3)]
    await send_raw(client, *frames)
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await assert_alive(rig)


# -- turns


class Turns(trio.abc.Instrument):
    """How many handlers have run in each round of the event loop."""

    def __init__(self) -> None:
        self.rounds: list[int] = [0]

    def before_io_wait(self, timeout: float) -> None:
        self.rounds.append(0)


@pytest.mark.parametrize("connections", [1, 20])
async def test_the_calls_of_one_host_are_begun_a_few_at_a_time(
    start_server: StartServer, mock_clock: object, connections: int
) -> None:
    turns = Turns()

    async def count(stream: Any) -> None:
        turns.rounds[-1] += 1
        await stream.recv_message()
        await stream.send_message(pb.State())

    rig = await start_server(SampleService(Ask=count))
    clients = [rig.connect() for _ in range(connections)]
    for client in clients:
        await client.call()
        for _ in range(50):
            client.start("Ask")
    trio.lowlevel.add_instrument(turns)
    for client in clients:
        await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(turns)
    assert sum(turns.rounds) == 50 * connections
    # two calls for each connection that has just read, and two for all that go on
    assert max(turns.rounds) <= 2 * connections + 2
    assert sum(1 for number in turns.rounds if number > 2) <= 3 * connections


async def test_endless_continuations_are_cut_off(start_server: StartServer) -> None:
    rig = await start_server()
    client = rig.connect()
    frames: list[Frame] = [HeadersFrame(1, header_block(client))]
    frames += [ContinuationFrame(1, b"") for _ in range(1000)]
    await send_raw(client, *frames)
    await assert_cut_off(client, 1)
    await assert_alive(rig)


async def test_replies_that_nobody_reads_do_not_pile_up(start_server: StartServer, autojump_clock: object) -> None:
    limits = Limits(max_pings=10**9, send_buffer_bytes=1000)
    rig = await start_server(limits=limits)
    client = rig.connect(trio.testing.lockstep_stream_pair)
    sent = 0
    with trio.move_on_after(30):
        await client.flush()
        while True:
            try:
                await client.stream.send_all(PingFrame(0, opaque_data=b"12345678").serialize() * 100)
            except trio.BrokenResourceError:
                break
            sent += 1700
    # it stopped reading after a few buffers, and 20 s later it gave up
    assert sent < 20_000
    await client.stream.aclose()
    await assert_alive(rig)


# -- hostile headers


@pytest.mark.parametrize(
    "block",
    [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f",  # an index beyond every table
        b"\x40\x7f\xff\xff\xff\xff\x0f",  # a name of gigabytes
        b"\x3f\xff\xff\xff\xff\x0f",  # a table size beyond the agreement
        b"\x00\x85\xff\xff\xff\xff\xff\x00",  # a Huffman code that does not exist
        b"\x80",  # index zero
        b"",
    ],
)
async def test_hostile_header_compression_costs_the_connection(start_server: StartServer, block: bytes) -> None:
    rig = await start_server()
    client = rig.connect()
    await send_raw(client, HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))
    await assert_cut_off(client)
    assert len(client.goaways) == 1
    assert rig.finished == []
    await assert_alive(rig)


async def test_a_header_list_over_the_limit_costs_the_connection(start_server: StartServer) -> None:
    rig = await start_server(limits=Limits(max_header_list_bytes=2_000))
    client = rig.connect()
    assert (await client.call(x_big="x" * 1_000)).status is Status.OK
    assert client.h2.remote_settings.max_header_list_size == 2_000
    client.start(x_big="x" * 3_000)
    await client.flush()
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await assert_alive(rig)


async def test_a_header_bomb_is_not_unpacked(start_server: StartServer) -> None:
    rig = await start_server()
    client = rig.connect()
    # one entry of 4,000 bytes, then two thousand references to it: 8 MB in 2 KB
    block = header_block(client, ("x-bomb", "b" * 4_000)) + b"\xbe" * 2_000
    await send_raw(client, HeadersFrame(1, block, flags=["END_HEADERS"]))
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    await assert_alive(rig)


async def test_a_huge_header_table_offered_by_the_client_is_not_filled(start_server: StartServer) -> None:
    seen: list[Any] = []

    async def look(stream: Any) -> None:
        seen.append(stream._stream._http2._h2.encoder.header_table_size)
        await stream.recv_message()
        await stream.send_message(pb.State())

    rig = await start_server(SampleService(Ask=look))
    client = rig.connect()
    client.h2.update_settings({1: 2**31 - 1})
    assert (await client.call("Ask")).status is Status.OK
    assert seen == [4096]


# -- nonsense, silence, and death


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "unknown is disconnected: "),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS ClientHello
            "TLS handshake with unknown failed: the client speaks TLS, but this port does not",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,  # a frame of 16 MiB is not waited for
            "unknown is disconnected: ",
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + DataFrame(1, b"x").serialize(), "unknown is disconnected: "),
    ],
)
async def test_another_protocol_costs_one_line_in_the_log(
    start_server: StartServer, sent: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.grpclib_trio")
    rig = await start_server()
    stream = rig.listener.connect()
    await stream.send_all(sent)
    while await stream.receive_some():
        pass
    [line] = caplog.messages
    assert line.startswith(words)
    await assert_alive(rig)


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_a_preface_that_does_not_come_ends_the_connection(
    start_server: StartServer, autojump_clock: object, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.grpclib_trio")
    rig = await start_server()
    stream = rig.listener.connect()
    for i in range(len(sent)):  # dripping does not help
        await stream.send_all(sent[i : i + 1])
        await trio.sleep(0.1)
    while await stream.receive_some():
        pass
    assert trio.current_time() == pytest.approx(5, abs=0.1)
    assert "unknown did not speak HTTP/2 within 5 s" in caplog.text
    await assert_alive(rig)


async def test_a_client_may_be_quiet_for_hours(start_server: StartServer, autojump_clock: object) -> None:
    client = (await start_server()).connect()
    await client.call()
    with trio.move_on_after(3 * 3600):
        await client.until_closed()  # answers PINGs meanwhile
    assert not client.closed
    assert (await client.call()).status is Status.OK


async def test_a_client_that_vanished_is_given_up(
    start_server: StartServer, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.grpclib_trio")
    rig = await start_server()
    client = rig.connect()
    stream_id = client.start("WatchState")
    await client.until(lambda: bool(client.answers[stream_id].body))
    await trio.sleep(79)
    assert rig.finished == []
    await trio.sleep(2)
    assert [f.status for f in rig.finished] == [Status.CANCELLED]
    assert "unknown did not answer a PING within 20 s" in caplog.text


@pytest.mark.parametrize("stop_after", [0, 10, 30, 60, 100, 140])
async def test_a_connection_that_dies_in_the_middle_cancels_its_calls(
    start_server: StartServer, stop_after: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kedastral.grpclib_trio")
    rig = await start_server()
    client = rig.connect()
    client.start("WatchState")
    await client.stream.send_all(client.h2.data_to_send()[:stop_after])
    await trio.testing.wait_all_tasks_blocked()
    await client.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert all(f.status is Status.CANCELLED for f in rig.finished)
    assert caplog.records == []
    await assert_alive(rig)


async def test_calls_of_a_cut_off_client_are_cancelled_before_its_goodbye_is_written(
    start_server: StartServer, mock_clock: object
) -> None:
    rig = await start_server()
    client = rig.connect(trio.testing.lockstep_stream_pair)
    client.start("WatchState")
    await send_raw(client, b"\xff" * 9)
    await trio.testing.wait_all_tasks_blocked()
    assert [f.status for f in rig.finished] == [Status.CANCELLED]  # although nobody has read the GOAWAY
    await client.stream.aclose()


@pytest.mark.parametrize("method", ["WatchState", "WatchItems"], ids=["answered", "not answered"])
async def test_calls_of_a_cut_off_client_end_with_the_connection_and_not_with_an_error_of_their_own(
    start_server: StartServer, mock_clock: object, method: str
) -> None:
    rig = await start_server()
    client = rig.connect()
    stream_id = client.start(method)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    await send_raw(client, *[PingFrame(0, opaque_data=b"12345678")] * 500)
    await assert_cut_off(client, ENHANCE_YOUR_CALM)
    assert client.answers[stream_id].reset is None
    assert not client.answers[stream_id].ended


async def test_connections_over_the_limit_are_turned_away(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await start_server(limits=Limits(max_connections=2))
    first, second = rig.connect(), rig.connect()
    for busy in (first, second):
        stream_id = busy.start("WatchState")
        await busy.until(lambda busy=busy, i=stream_id: bool(busy.answers[i].body))  # type: ignore[misc]
    for _ in range(3):
        await rig.connect().until_closed()
    assert caplog.messages == ["new connections are refused: 2 are open; the newest is from unknown"]
    await first.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    await assert_alive(rig)


async def test_a_fault_in_h2_costs_one_connection(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await start_server()
    client = rig.connect()
    await client.call()
    with monkeypatch.context() as patch:
        patch.setattr("kedastral.grpclib_trio.http2._ServerH2.receive_data", None)
        client.h2.ping(b"12345678")
        await client.flush()
        await assert_cut_off(client)
    assert "the connection of unknown failed" in caplog.text
    assert "TypeError" in caplog.text
    await assert_alive(rig)


async def test_slow_readers_are_cut_off(
    start_server: StartServer, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.grpclib_trio")
    rig = await start_server(SampleService(WatchState=never_end))
    client = rig.connect(trio.testing.lockstep_stream_pair)
    client.start("WatchState")
    await client.flush()
    await client.stream.receive_some(1)
    await trio.sleep(19)
    assert rig.finished == []
    await trio.sleep(2)
    assert [f.status for f in rig.finished] == [Status.CANCELLED]
    assert "unknown stopped reading and is disconnected" in caplog.text
    await assert_alive(rig)


async def test_a_request_for_which_there_is_no_room_fails_alone(
    start_server: StartServer, autojump_clock: object
) -> None:
    rig = await start_server(limits=Limits(max_message_bytes=100_000, max_buffered_bytes=100_000))
    client = rig.connect()
    await client.call()
    half = frame_message(pb.Name(name="x" * 60_000))
    ids = [client.open(), client.open()]
    for i in ids:
        client.send(i, half[:58_000])
        await client.flush()
        await trio.sleep(1)
        await client.until(lambda: True)
    answer = await client.finish(ids[1])
    assert answer.status is Status.RESOURCE_EXHAUSTED
    client.send(ids[0], half[58_000:], end=True)
    assert (await client.finish(ids[0])).status is Status.OK
    # the slots of both are free again
    assert (await client.call(message=pb.Name(name="y" * 60_000))).status is Status.OK
