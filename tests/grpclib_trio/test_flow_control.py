# SPDX-License-Identifier: Apache-2.0
"""Large messages, small windows, and peers of different speed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from grpclib.const import Status
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes

from kedastral.grpclib_trio import Limits

from ._proto import sample_pb2 as pb
from .conftest import StartServer
from .peers import Client, SampleService, frame_message


def ask_for(size: int) -> pb.Name:
    """A small request with a response of ``size`` bytes and a few."""
    return pb.Name(name="x", options={"repeat": str(size)})


async def send_patiently(client: Client, stream_id: int, data: bytes) -> None:
    """Send a request as fast as the server's windows allow, and end it."""
    while data:
        room = min(client.h2.local_flow_control_window(stream_id), client.h2.max_outbound_frame_size)
        if room <= 0:
            await client.flush()
            await client.read()
            continue
        client.h2.send_data(stream_id, data[:room], end_stream=len(data) <= room)
        data = data[room:]


async def test_a_request_larger_than_all_windows_arrives(start_server: StartServer) -> None:
    limits = Limits(stream_window_bytes=1_000, connection_window_bytes=65_536)
    client = (await start_server(limits=limits)).connect()
    await client.call()
    for size in (999, 1_000, 1_001, 300_000):
        stream_id = client.open()
        await send_patiently(client, stream_id, frame_message(pb.Name(name="x" * size)))
        answer = await client.finish(stream_id)
        assert answer.read(pb.Items)[0].items[0].text == "x" * size


async def test_a_response_waits_for_the_clients_window(start_server: StartServer) -> None:
    rig = await start_server()
    client = rig.connect()
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    answer = await client.call(message=ask_for(200_000))
    assert answer.read(pb.Items)[0].items[0].text == "x" * 200_000


async def test_a_window_that_becomes_negative_and_opens_again(start_server: StartServer) -> None:
    rig = await start_server()
    client = rig.connect(acknowledges=False)
    await client.call()
    stream_id = client.start(message=ask_for(60_000))
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 50_000})
    answer = client.answers[stream_id]
    await client.until(lambda: len(answer.body) == 50_000)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10_000})
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 70_000})
    assert (await client.finish(stream_id)).status is Status.OK


async def test_a_call_without_window_does_not_hold_up_others(start_server: StartServer) -> None:
    client = (await start_server()).connect(acknowledges=False)
    client.h2.increment_flow_control_window(10_000_000)
    stuck = client.start(message=ask_for(100_000))
    await client.until(lambda: len(client.answers[stuck].body) == 65_535)
    assert (await client.call()).status is Status.OK
    client.h2.increment_flow_control_window(100_000, stuck)
    assert (await client.finish(stuck)).status is Status.OK


async def test_a_deadline_ends_a_call_that_waits_for_the_window(
    start_server: StartServer, autojump_clock: object
) -> None:
    client = (await start_server()).connect(acknowledges=False)
    answer = await client.call(message=ask_for(200_000), grpc_timeout="5S")
    assert len(answer.body) == 65_535
    assert answer.status is Status.DEADLINE_EXCEEDED


async def test_handlers_pause_when_the_client_reads_slowly(start_server: StartServer) -> None:
    sent = 0

    async def pour(stream: Any) -> None:
        nonlocal sent
        await stream.recv_message()
        while True:
            await stream.send_message(pb.State(result=True))
            sent += 1

    rig = await start_server(SampleService(WatchState=pour), limits=Limits(send_buffer_bytes=10_000))
    client = rig.connect(trio.testing.lockstep_stream_pair)
    client.h2.increment_flow_control_window(2**30)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    client.start("WatchState")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert 100 < sent < 1_500  # 16 bytes each on the wire, one buffer on its way and one being filled
    before = sent
    while sent == before:
        await client.read()
    await client.stream.aclose()


async def test_unread_requests_stop_at_the_window(start_server: StartServer) -> None:
    async def ignore(stream: Any) -> None:
        await trio.sleep_forever()

    rig = await start_server(SampleService(Ask=ignore), limits=Limits(stream_window_bytes=1_000))
    client = rig.connect()
    await client.call()
    stream_id = client.open("Ask")
    client.send(stream_id, b"\0" * 1_000)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert client.h2.local_flow_control_window(stream_id) == 0
    assert (await client.call()).status is Status.OK


async def test_requests_that_nobody_read_give_their_window_back(start_server: StartServer) -> None:
    async def ignore(stream: Any) -> None:
        await stream.send_message(pb.State())

    client = (await start_server(SampleService(Ask=ignore), limits=Limits(connection_window_bytes=65_536))).connect()
    await client.call()
    for _ in range(20):
        stream_id = client.open("Ask")
        with suppress(StreamClosedError):  # the answer may come before all is sent
            await send_patiently(client, stream_id, frame_message(b"x" * 60_000))
        assert (await client.finish(stream_id)).status is Status.OK


async def test_data_for_calls_that_are_over_does_not_use_up_the_window(start_server: StartServer) -> None:
    client = (await start_server(limits=Limits(connection_window_bytes=65_536))).connect()
    await client.call()
    for _ in range(20):
        stream_id = client.open("/no/such")
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()  # it is answered and reset, but the client has not read that
        await send_patiently(client, stream_id, b"x" * 30_000)
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        await client.read()
    assert (await client.call()).status is Status.OK


async def test_two_tasks_cannot_garble_a_message(start_server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(stream: Any) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(stream.send_message, pb.Items(items=[big]))

    big = pb.Item(text="x" * 200_000)
    client = (await start_server(SampleService(WatchItems=handler))).connect(acknowledges=False)
    answer = await client.call("WatchItems")
    assert answer.status is Status.INTERNAL
    assert "another message is being sent" in caplog.text


async def test_a_message_that_was_cut_short_is_not_continued(
    start_server: StartServer, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: Any) -> None:
        with trio.move_on_after(1):
            await stream.send_message(pb.Items(items=[pb.Item(text="x" * 200_000)]))
        await stream.send_message(pb.Items())

    client = (await start_server(SampleService(WatchItems=handler))).connect(acknowledges=False)
    answer = await client.call("WatchItems")
    assert answer.status is Status.INTERNAL
    assert "was cut short" in caplog.text


async def test_a_send_that_was_cancelled_before_its_first_byte_can_be_repeated(
    start_server: StartServer, autojump_clock: object
) -> None:
    async def handler(stream: Any) -> None:
        await stream.recv_message()
        await stream.send_initial_metadata()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.send_message(pb.State())
        await stream.send_message(pb.State(result=True))

    answer = await (await start_server(SampleService(WatchState=handler))).connect().call("WatchState")
    assert [m.result for m in answer.read(pb.State)] == [True]
