# SPDX-License-Identifier: Apache-2.0
"""How the server drains: no call that can still be answered is lost."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from grpclib.const import Status
from h2.events import ConnectionTerminated, RemoteSettingsChanged

from kedastral.grpclib_trio import Health, Limits, Server

from ._proto import sample_pb2 as pb
from .conftest import StartServer
from .peers import Client, MemoryListener, SampleService, frame_message

REFUSED_STREAM = 7


async def answer_after_two_seconds(stream: Any) -> None:
    await stream.recv_message()
    await trio.sleep(2)
    await stream.send_message(pb.State(result=True))


async def test_an_idle_client_gets_goaway_and_the_server_returns(
    start_server: StartServer, autojump_clock: object
) -> None:
    rig = await start_server()
    client = rig.connect()
    await client.call()
    rig.shutdown.set()
    await client.until_closed()
    await rig.stopped.wait()
    assert [(int(g.error_code), g.last_stream_id) for g in client.goaways] == [(0, 1)]
    assert rig.listener.closed
    assert trio.current_time() < 2


async def test_the_server_waits_for_a_client_to_hang_up_no_longer_than_a_moment(
    start_server: StartServer, autojump_clock: object
) -> None:
    rig = await start_server()
    client = rig.connect()
    await client.call()
    began = trio.current_time()
    rig.shutdown.set()
    await client.until(lambda: bool(client.goaways))
    await client.stream.aclose()  # as grpc-go does when it has no streams
    await rig.stopped.wait()
    assert trio.current_time() - began < 0.1


async def test_a_unary_call_in_flight_is_answered(start_server: StartServer, autojump_clock: object) -> None:
    rig = await start_server(SampleService(Ask=answer_after_two_seconds))
    client = rig.connect()
    stream_id = client.start("Ask")
    await client.flush()
    await trio.sleep(0.5)
    rig.shutdown.set()
    answer = await client.finish(stream_id)
    assert client.goaways
    assert answer.status is Status.OK
    assert answer.read(pb.State)[0].result
    await client.until_closed()
    await rig.stopped.wait()
    assert trio.current_time() < 4


async def test_a_request_that_was_begun_before_the_shutdown_may_be_finished_after_it(
    start_server: StartServer, autojump_clock: object
) -> None:
    rig = await start_server()
    client = rig.connect()
    stream_id = client.open()
    await client.flush()
    await trio.sleep(0.1)
    rig.shutdown.set()
    await client.until(lambda: bool(client.goaways))
    message = frame_message(pb.Name(name="late"))
    client.send(stream_id, message[:3])
    await client.flush()
    await trio.sleep(3)
    client.send(stream_id, message[3:], end=True)
    answer = await client.finish(stream_id)
    assert answer.read(pb.Items)[0].items[0].text == "late"
    assert answer.status is Status.OK


async def test_streaming_calls_end_with_ok(start_server: StartServer, autojump_clock: object) -> None:
    rig = await start_server(SampleService(), Health())
    client = rig.connect()
    ids = [client.start("WatchState"), client.start("WatchItems"), client.open("WatchState")]
    ids.append(client.start("/grpc.health.v1.Health/Watch", b""))
    await client.flush()
    await trio.sleep(1)
    rig.shutdown.set()
    # KEDA reopens a stream that ended with OK soon and silently, and backs off after anything else
    assert [(await client.finish(i)).status for i in ids] == [Status.OK] * 4
    await client.until_closed()
    await rig.stopped.wait()
    assert [f.status for f in rig.finished] == [Status.OK] * 4
    assert trio.current_time() < 3


async def test_new_calls_are_refused_so_that_clients_repeat_them_elsewhere(
    start_server: StartServer, autojump_clock: object
) -> None:
    rig = await start_server(SampleService(Ask=answer_after_two_seconds))
    client = rig.connect()
    stream_id = client.start("Ask")
    await client.flush()
    await trio.sleep(0.5)
    rig.shutdown.set()
    await client.until(lambda: bool(client.goaways))
    late = await client.finish(client.start("Echo"))
    assert late.reset == REFUSED_STREAM
    assert late.headers == {}
    assert (await client.finish(stream_id)).status is Status.OK
    assert len(rig.finished) == 1


async def test_at_the_grace_limit_what_is_left_is_unavailable(
    start_server: StartServer, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(stream: Any) -> None:
        await trio.sleep_forever()

    rig = await start_server(SampleService(Ask=hang), grace=5)
    client = rig.connect()
    stream_id = client.start("Ask")
    await client.flush()
    await trio.sleep(1)
    rig.shutdown.set()
    answer = await client.finish(stream_id)
    assert trio.current_time() == pytest.approx(6, abs=0.1)
    assert (answer.status, answer.message) == (Status.UNAVAILABLE, "the server is shutting down")
    await client.until_closed()
    await rig.stopped.wait()
    assert trio.current_time() < 8
    assert "1 connections are still busy after 5 s of grace" in caplog.text


async def test_a_client_that_reads_nothing_cannot_hold_the_server_up(
    start_server: StartServer, autojump_clock: object
) -> None:
    async def flood(stream: Any) -> None:
        while True:
            await stream.send_message(pb.State(result=True))

    rig = await start_server(SampleService(WatchState=flood), grace=3, limits=Limits(send_buffer_bytes=1_000))
    client = rig.connect(trio.testing.lockstep_stream_pair)
    client.start("WatchState")
    with trio.move_on_after(1):
        await client.flush()
        await client.read()
        await trio.sleep_forever()
    rig.shutdown.set()
    await rig.stopped.wait()
    assert trio.current_time() == pytest.approx(1 + 3 + 2, abs=0.1)


async def test_connections_in_the_backlog_are_told_to_go_elsewhere(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    listener, shutdown, done = MemoryListener(), trio.Event(), trio.Event()
    clients = [Client(listener.connect()) for _ in range(20)]
    shutdown.set()

    async def serve() -> None:
        await Server([SampleService()]).serve([listener], shutdown=shutdown)
        done.set()

    nursery.start_soon(serve)
    for client in clients:
        stream_id = client.start()
        await client.until(lambda client=client: bool(client.goaways))  # type: ignore[misc]
        assert (await client.finish(stream_id)).reset == REFUSED_STREAM
        await client.stream.aclose()
    await done.wait()


async def test_a_client_is_told_to_go_once_it_has_taken_in_the_settings(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    # grpcio loops on a connection that begins with GOAWAY, and takes 200 MB a second until it is closed
    listener, shutdown, done = MemoryListener(), trio.Event(), trio.Event()
    client = Client(listener.connect())
    stream_id = client.start()
    shutdown.set()

    async def serve() -> None:
        await Server([SampleService()]).serve([listener], shutdown=shutdown)
        done.set()

    nursery.start_soon(serve)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    events = client.h2.receive_data(bytes(await client.stream.receive_some()))
    assert any(isinstance(event, RemoteSettingsChanged) for event in events)
    assert not any(isinstance(event, ConnectionTerminated) for event in events)
    await client.until(lambda: bool(client.goaways))
    assert client.answers[stream_id].reset in (None, REFUSED_STREAM)
    await client.until_closed()
    await done.wait()


async def test_a_client_that_connects_and_says_nothing_does_not_delay_the_end(
    start_server: StartServer, autojump_clock: object
) -> None:
    rig = await start_server()
    silent = rig.listener.connect()
    await trio.sleep(1)
    rig.shutdown.set()
    await rig.stopped.wait()
    assert trio.current_time() < 3
    await silent.aclose()


async def test_cancelling_from_outside_ends_everything_at_once(
    start_server: StartServer, autojump_clock: object
) -> None:
    rig = await start_server()
    client = rig.connect()
    stream_id = client.start("WatchState")
    await client.until(lambda: bool(client.answers[stream_id].body))
    began = trio.current_time()
    rig.scope.cancel()
    await client.until_closed()
    await rig.stopped.wait()
    assert trio.current_time() == began
    assert rig.listener.closed
    assert [f.status for f in rig.finished] == [Status.CANCELLED]


async def test_what_was_asked_before_a_goodbye_is_answered(start_server: StartServer, autojump_clock: object) -> None:
    client = (await start_server()).connect()
    await client.call()
    client.h2.ping(b"one more")
    client.h2.close_connection()
    await client.until(lambda: client.pongs == 1)


async def test_both_sides_may_say_goodbye_at_once(start_server: StartServer, autojump_clock: object) -> None:
    rig = await start_server(SampleService(Ask=answer_after_two_seconds))
    client = rig.connect()
    stream_id = client.start("Ask")
    client.h2.close_connection()
    rig.shutdown.set()
    assert (await client.finish(stream_id)).reset == REFUSED_STREAM
    await rig.stopped.wait()


async def test_a_server_can_serve_again(start_server: StartServer, autojump_clock: object) -> None:
    server = Server([SampleService()])
    for _ in range(2):
        listener, shutdown = MemoryListener(), trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(server.serve, [listener], shutdown=shutdown))
            client = Client(listener.connect())
            assert (await client.call()).status is Status.OK
            await client.stream.aclose()
            shutdown.set()


async def test_a_client_may_say_goodbye_first(start_server: StartServer, autojump_clock: object) -> None:
    rig = await start_server(SampleService(Ask=answer_after_two_seconds))
    client = rig.connect()
    stream_id = client.start("Ask")
    client.h2.close_connection()
    answer = await client.finish(stream_id)
    assert answer.status is Status.OK
    began = trio.current_time()
    await client.until_closed()
    assert trio.current_time() - began < 2


async def test_clients_that_keep_connecting_do_not_delay_the_end(autojump_clock: object) -> None:
    class Storm(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            await trio.sleep(0.005)
            client, ours = trio.testing.memory_stream_pair()
            await client.aclose()
            return ours

    listener, shutdown = Storm(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = 30
        nursery.start_soon(partial(Server([SampleService()]).serve, [listener], shutdown=shutdown))
        await trio.sleep(1)
        shutdown.set()
    assert listener.closed
    assert trio.current_time() < 1 + 0.6


async def test_the_grace_begins_with_the_shutdown_also_while_the_backlog_is_emptied(autojump_clock: object) -> None:
    class Late(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            await trio.sleep(0.005)
            return await super().accept() if trio.current_time() < 1 else trio.testing.memory_stream_pair()[1]

    async def hang(stream: Any) -> None:
        await stream.recv_message()
        await trio.sleep_forever()

    listener, shutdown = Late(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = 30
        serve = Server([SampleService(Ask=hang)], limits=Limits(max_connections=2)).serve
        nursery.start_soon(partial(serve, [listener], shutdown=shutdown, grace=1))
        client = Client(listener.connect())
        client.start("Ask", pb.Name())
        nursery.start_soon(client.until_closed)
        await trio.sleep(1)
        shutdown.set()
    assert trio.current_time() < 1 + 1 + 2 + 0.1


async def test_accept_errors_of_an_exhausted_system_are_logged_once_and_survived(
    nursery: trio.Nursery, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    class Exhausted(MemoryListener):
        failures = 3

        async def accept(self) -> trio.abc.Stream:
            if self.failures:
                self.failures -= 1
                raise OSError(24, "Too many open files")
            return await super().accept()

    listener = Exhausted()
    await nursery.start(partial(Server([SampleService()]).serve, [listener], shutdown=trio.Event()))
    assert (await Client(listener.connect()).call()).status is Status.OK
    assert [r.getMessage() for r in caplog.records] == [
        "no connection can be accepted: Too many open files",
        "connections are accepted again",
    ]
    assert caplog.records[0].levelno == logging.ERROR


async def test_other_accept_errors_are_raised() -> None:
    class Broken(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            raise OSError(22, "Invalid argument")

    listener = Broken()
    with pytest.raises(ExceptionGroup) as caught:
        await Server([SampleService()]).serve([listener], shutdown=trio.Event())
    assert caught.group_contains(OSError, match="Invalid argument")
    assert listener.closed
