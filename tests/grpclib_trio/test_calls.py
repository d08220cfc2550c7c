# SPDX-License-Identifier: Apache-2.0
"""What a client gets back for a good or bad call, and what the embedding application learns about it."""

from __future__ import annotations

import base64
import logging
from typing import Any
from urllib.parse import unquote

import pytest
import trio
from google.protobuf.any_pb2 import Any as AnyMessage
from grpclib.const import Status
from grpclib.events import RecvRequest, listen
from grpclib.exceptions import GRPCError

from kedastral.grpclib_trio import FinishedCall, Limits, Server, current_call_id

from ._proto import sample_pb2 as pb
from .conftest import StartServer
from .peers import SERVICE, Rig, SampleService, frame_message


async def test_unary_call_is_answered(start_server: StartServer) -> None:
    rig = await start_server()
    answer = await rig.connect().call("Echo", pb.Name(name="web"))
    assert answer.headers == {":status": "200", "content-type": "application/grpc+proto"}
    assert [m.items[0].text for m in answer.read(pb.Items)] == ["web"]
    assert answer.trailers == {"grpc-status": "0"}


async def test_many_calls_share_a_connection(start_server: StartServer) -> None:
    client = (await start_server()).connect()
    ids = {client.start(message=pb.Name(name=f"n{i}")): f"n{i}" for i in range(300)}
    for stream_id, name in ids.items():
        answer = await client.finish(stream_id)
        assert answer.read(pb.Items)[0].items[0].text == name


async def test_streaming_call_sends_many_messages(start_server: StartServer) -> None:
    async def count(stream: Any) -> None:
        await stream.recv_message()
        for i in range(50):
            await stream.send_message(pb.State(result=bool(i % 2)))

    rig = await start_server(SampleService(WatchState=count))
    answer = await rig.connect().call("WatchState")
    assert [m.result for m in answer.read(pb.State)] == [bool(i % 2) for i in range(50)]
    assert answer.status is Status.OK


@pytest.mark.parametrize("path", ["/sample.Sample/Nope", "/nobody.Knows/It", "/", "/ä"])
async def test_unknown_method_is_unimplemented_and_has_a_content_type(start_server: StartServer, path: str) -> None:
    rig = await start_server()
    answer = await rig.connect().call(path)
    # grpc-go reports UNKNOWN for an answer without content-type, which KEDA then retries forever
    assert answer.headers[":status"] == "200"
    assert answer.headers["content-type"] == "application/grpc"
    assert answer.status is Status.UNIMPLEMENTED
    assert answer.trailers == {}
    await trio.testing.wait_all_tasks_blocked()
    assert [(f.method, f.known, f.status) for f in rig.finished] == [(path, False, Status.UNIMPLEMENTED)]


async def test_finished_calls_are_reported(start_server: StartServer, autojump_clock: object) -> None:
    async def be_slow(stream: Any) -> None:
        await trio.sleep(2.5)
        raise GRPCError(Status.NOT_FOUND, "no forecast")

    rig = await start_server(SampleService(Measure=be_slow))
    answer = await rig.connect().call("Measure")
    assert (answer.status, answer.message) == (Status.NOT_FOUND, "no forecast")
    expected = FinishedCall(
        method=SERVICE + "Measure",
        known=True,
        status=Status.NOT_FOUND,
        duration=2.5,
        peer="unknown",
        call_id="1-1",
    )
    await trio.testing.wait_all_tasks_blocked()
    assert rig.finished == [expected]


async def test_handlers_and_their_tasks_know_their_call_id(start_server: StartServer) -> None:
    seen: list[str | None] = []

    async def note() -> None:
        seen.append(current_call_id())

    async def handler(stream: Any) -> None:
        await stream.recv_message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
        await stream.send_message(pb.State())

    rig = await start_server(SampleService(Ask=handler))
    client = rig.connect()
    await client.call("Ask")
    await client.call("Ask")
    assert seen == ["1-1", "1-3"]
    assert current_call_id() is None


async def test_an_exception_of_on_call_is_logged_and_harms_nothing(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(finished: FinishedCall) -> None:
        raise LookupError(f"no counter for {finished.status.name}")

    rig = Rig(server=Server([SampleService()], on_call=fail), finished=[])
    await nursery.start(rig.run)
    client = rig.connect()
    assert (await client.call()).status is Status.OK
    assert (await client.call()).status is Status.OK
    await trio.testing.wait_all_tasks_blocked()
    assert caplog.text.count("LookupError: no counter for OK") == 2


async def test_a_handlers_bug_is_internal_with_its_traceback_in_the_log_only(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(stream: Any) -> None:
        raise ZeroDivisionError("secret")

    rig = await start_server(SampleService(Measure=fail))
    client = rig.connect()
    answer = await client.call("Measure")
    assert (answer.status, answer.message) == (Status.INTERNAL, "internal error")
    assert "ZeroDivisionError: secret" in caplog.text
    assert "in fail" in caplog.text
    assert (await client.call()).status is Status.OK
    assert rig.finished[0].status is Status.INTERNAL


async def test_an_error_with_message_and_details_reaches_the_client(start_server: StartServer) -> None:
    async def refuse(stream: Any) -> None:
        await stream.recv_message()
        raise GRPCError(Status.FAILED_PRECONDITION, "zu früh\n", [pb.State(result=True)] * 2)

    answer = await (await start_server(SampleService(Measure=refuse))).connect().call("Measure")
    assert answer.status is Status.FAILED_PRECONDITION
    assert answer.message == "zu fr%C3%BCh%0A"
    encoded = answer.headers["grpc-status-details-bin"]
    details = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    packed = AnyMessage()
    packed.Pack(pb.State(result=True))
    one = packed.SerializeToString()
    text = "zu früh\n".encode()
    assert details == b"\x08\x09\x12" + bytes([len(text)]) + text + (b"\x1a" + bytes([len(one)]) + one) * 2


@pytest.mark.parametrize("character", ["x", "%", "\n", "漢", "😀"])
async def test_a_long_message_is_cut_to_what_a_client_accepts(start_server: StartServer, character: str) -> None:
    async def refuse(stream: Any) -> None:
        await stream.recv_message()
        raise GRPCError(Status.ABORTED, "begun: " + character * 10_000)

    answer = await (await start_server(SampleService(Measure=refuse))).connect().call("Measure")
    assert answer.status is Status.ABORTED
    assert len(answer.message) <= 6100
    message = unquote(answer.message)
    assert message.startswith(f"begun: {character * 400}")
    assert message.endswith(character + "…")
    assert len(message) <= 1500


async def test_long_error_details_are_encoded(start_server: StartServer) -> None:
    async def refuse(stream: Any) -> None:
        raise GRPCError(Status.ABORTED, "x" * 1000, [])

    answer = await (await start_server(SampleService(Measure=refuse))).connect().call("Measure")
    details = base64.b64decode(answer.headers["grpc-status-details-bin"] + "==")
    assert details == b"\x08\x0a\x12\xe8\x07" + b"x" * 1000


async def test_details_that_do_not_encode_are_the_handlers_bug(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(stream: Any) -> None:
        raise GRPCError(Status.ABORTED, "no", ["not a message"])

    answer = await (await start_server(SampleService(Measure=refuse))).connect().call("Measure")
    assert answer.status is Status.INTERNAL
    assert "ended without a valid answer" in caplog.text


async def test_an_error_raised_in_a_handlers_nursery_is_the_calls_error(start_server: StartServer) -> None:
    async def fail() -> None:
        raise GRPCError(Status.ABORTED, "from a child")

    async def handler(stream: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    answer = await (await start_server(SampleService(Measure=handler))).connect().call("Measure")
    assert (answer.status, answer.message) == (Status.ABORTED, "from a child")


async def test_a_unary_handler_that_sends_nothing_is_an_error(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def forget(stream: Any) -> None:
        await stream.recv_message()

    answer = await (await start_server(SampleService(Measure=forget))).connect().call("Measure")
    assert (answer.status, answer.message) == (Status.INTERNAL, "internal error")
    assert "requires a single message" in caplog.text


async def test_a_response_of_the_wrong_type_is_an_error(start_server: StartServer) -> None:
    async def confuse(stream: Any) -> None:
        await stream.send_message(pb.Name())

    answer = await (await start_server(SampleService(Measure=confuse))).connect().call("Measure")
    assert answer.status is Status.INTERNAL


async def test_a_handler_may_send_trailers_itself(start_server: StartServer) -> None:
    async def handler(stream: Any) -> None:
        await stream.recv_message()
        await stream.send_trailing_metadata(status=Status.OUT_OF_RANGE, metadata={"x-hint": "later"})

    rig = await start_server(SampleService(Measure=handler))
    answer = await rig.connect().call("Measure")
    assert answer.status is Status.OUT_OF_RANGE
    assert answer.headers["x-hint"] == "later"
    await trio.testing.wait_all_tasks_blocked()
    assert rig.finished[0].status is Status.OUT_OF_RANGE


async def test_a_handler_may_cancel_its_call(start_server: StartServer) -> None:
    async def handler(stream: Any) -> None:
        await stream.cancel()

    rig = await start_server(SampleService(Measure=handler))
    answer = await rig.connect().call("Measure")
    assert answer.reset == 8
    await trio.testing.wait_all_tasks_blocked()
    assert rig.finished[0].status is Status.CANCELLED


async def test_metadata_deadline_and_peer_reach_the_handler(start_server: StartServer) -> None:
    seen: dict[str, Any] = {}

    async def handler(stream: Any) -> None:
        seen.update(stream.metadata, agent=stream.user_agent, peer=stream.peer.addr(), cert=stream.peer.cert())
        seen["left"] = stream.deadline.time_remaining()
        await stream.send_message(pb.Items())

    rig = await start_server(SampleService(Measure=handler))
    headers = {"x_one": "1", "blob_bin": "AAEC", "grpc_timeout": "30S", "user_agent": "test/1"}
    await rig.connect().call("Measure", **headers)
    assert 20 < seen.pop("left") <= 30
    assert seen == {"x-one": "1", "blob-bin": b"\0\1\2", "agent": "test/1", "peer": None, "cert": None}


async def test_interceptors_of_grpclib_work(start_server: StartServer) -> None:
    async def refuse(event: RecvRequest) -> None:
        raise GRPCError(Status.UNAUTHENTICATED, event.method_name)

    rig = await start_server()
    listen(rig.server, RecvRequest, refuse)  # type: ignore[arg-type]
    answer = await rig.connect().call()
    assert (answer.status, answer.message) == (Status.UNAUTHENTICATED, SERVICE + "Echo")


async def test_two_services_with_the_same_method_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one service has /sample"):
        Server([SampleService(), SampleService()])


# -- requests that cannot be answered


async def test_a_request_that_does_not_parse_is_internal(start_server: StartServer) -> None:
    rig = await start_server()
    answer = await rig.connect().call(message=b"\xff\xff\xff")
    assert answer.status is Status.INTERNAL
    assert "Name" in answer.message


async def test_a_compressed_request_is_unimplemented_and_told_what_is_accepted(start_server: StartServer) -> None:
    rig = await start_server()
    answer = await rig.connect().call(grpc_encoding="gzip")
    assert answer.status is Status.UNIMPLEMENTED
    assert answer.headers["grpc-accept-encoding"] == "identity"
    assert (await rig.connect().call(grpc_encoding="identity")).status is Status.OK


async def test_a_message_marked_as_compressed_without_encoding_is_internal(start_server: StartServer) -> None:
    client = (await start_server()).connect()
    stream_id = client.open()
    client.send(stream_id, frame_message(pb.Name(), flag=1), end=True)
    assert (await client.finish(stream_id)).status is Status.INTERNAL


async def test_a_message_over_the_limit_is_refused_before_it_arrives(start_server: StartServer) -> None:
    client = (await start_server(limits=Limits(max_message_bytes=1000))).connect()
    stream_id = client.open()
    client.send(stream_id, b"\0" + (1001).to_bytes(4, "big"))
    answer = await client.finish(stream_id)
    assert answer.status is Status.RESOURCE_EXHAUSTED
    assert answer.message == "message of 1001 bytes is larger than the limit of 1000"
    message = pb.Name(name="x" * 997)
    assert message.ByteSize() == 1000
    assert (await client.call(message=message)).status is Status.OK


@pytest.mark.parametrize("sent", [b"\0", b"\0\0\0\0", b"\0\0\0\0\x09abc"])
async def test_a_request_that_ends_in_the_middle_of_a_message_is_internal(
    start_server: StartServer, sent: bytes
) -> None:
    client = (await start_server()).connect()
    stream_id = client.open()
    client.send(stream_id, sent, end=True)
    assert (await client.finish(stream_id)).status is Status.INTERNAL


async def test_a_unary_call_without_a_message_is_unimplemented(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = (await start_server()).connect()
    answer = await client.finish(client.open(end=True))
    assert answer.status is Status.UNIMPLEMENTED
    assert caplog.records == []


@pytest.mark.parametrize(
    ("content_type", "served"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc; charset=utf-8", True),
        ("application/grpc+json", False),
        ("application/json", False),
        ("application/grpc-web", False),
        (None, False),
    ],
)
async def test_content_type_must_be_grpc_with_protobuf(
    start_server: StartServer, content_type: Any, served: bool
) -> None:
    rig = await start_server()
    answer = await rig.connect().call(content_type=content_type)
    assert answer.headers[":status"] == ("200" if served else "415")
    assert answer.status is (Status.OK if served else Status.UNKNOWN)


async def test_anything_but_post_is_not_allowed(start_server: StartServer) -> None:
    client = (await start_server()).connect()
    answer = await client.finish(client.open(http_method="GET", end=True))
    assert answer.headers[":status"] == "405"
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "headers",
    [
        {"grpc_timeout": "soon"},
        {"grpc_timeout": ""},
        {"grpc_timeout": "-1S"},
        {"grpc_timeout": "9" * 400 + "H"},
        {"grpc_timeout": "9" * 5000 + "n"},
        {"x_bin": "a"},
        {"x_bin": b"\xff\xfe"},
    ],
)
async def test_malformed_headers_cost_one_call(
    start_server: StartServer, headers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = (await start_server()).connect()
    assert (await client.call(**headers)).status is Status.INVALID_ARGUMENT
    assert (await client.call()).status is Status.OK
    assert caplog.records == []


@pytest.mark.parametrize("value", [b"\xff\xfe\xfd", b"\xc3\x28", "ü".encode(), b"\x80"])
async def test_hostile_header_values_cost_nothing(start_server: StartServer, value: bytes) -> None:
    client = (await start_server()).connect()
    assert (await client.call(x_note=value, user_agent=value)).status is Status.OK


# -- deadlines and cancellation


async def wait_for_ever(stream: Any) -> None:
    await stream.recv_message()
    await trio.sleep_forever()


@pytest.mark.parametrize(("header", "seconds"), [("3S", 3.0), ("250m", 0.25), ("0n", 0.0), ("1H", 3600.0)])
async def test_an_expired_deadline_ends_the_handler(
    start_server: StartServer, autojump_clock: object, header: str, seconds: float
) -> None:
    rig = await start_server(SampleService(Measure=wait_for_ever))
    client = rig.connect()
    answer = await client.call("Measure", grpc_timeout=header)
    assert (answer.status, answer.message) == (Status.DEADLINE_EXCEEDED, "the deadline expired")
    assert rig.finished[0].duration == pytest.approx(seconds, abs=0.1)


async def test_a_deadline_years_away_is_none(start_server: StartServer, autojump_clock: object) -> None:
    async def check(stream: Any) -> None:
        assert stream.deadline is None
        await stream.send_message(pb.Items())

    rig = await start_server(SampleService(Measure=check))
    assert (await rig.connect().call("Measure", grpc_timeout="99999999H")).status is Status.OK


async def test_a_deadline_during_the_upload_ends_the_call(start_server: StartServer, autojump_clock: object) -> None:
    client = (await start_server()).connect()
    stream_id = client.open(grpc_timeout="1S")
    client.send(stream_id, b"\0\0\0\0\x09ab")
    answer = await client.finish(stream_id)
    assert answer.status is Status.DEADLINE_EXCEEDED
    assert answer.reset == 0  # NO_ERROR: no need to send the rest


async def test_a_cancelled_call_cancels_its_handler_and_is_reported(start_server: StartServer) -> None:
    cleaned_up = trio.Event()

    async def handler(stream: Any) -> None:
        await stream.recv_message()
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.set()

    rig = await start_server(SampleService(WatchState=handler))
    client = rig.connect()
    stream_id = client.start("WatchState")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    client.h2.reset_stream(stream_id, error_code=8)
    await client.flush()
    await cleaned_up.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert [(f.status, f.known) for f in rig.finished] == [(Status.CANCELLED, True)]
    assert (await client.call()).status is Status.OK


async def test_a_handler_that_fails_while_it_is_cancelled_is_logged(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: Any) -> None:
        try:
            await wait_for_ever(stream)
        finally:
            raise KeyError("cleanup")

    rig = await start_server(SampleService(WatchState=handler))
    client = rig.connect()
    stream_id = client.start("WatchState")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    client.h2.reset_stream(stream_id, error_code=8)
    assert (await client.call()).status is Status.OK
    assert "KeyError: 'cleanup'" in caplog.text


async def test_a_shielded_handler_that_outlives_its_client_fails_quietly(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = trio.Event()

    async def handler(stream: Any) -> None:
        with trio.CancelScope(shield=True):
            await stream.recv_message()
            await go_on.wait()
            await stream.send_message(pb.State())

    caplog.set_level(logging.INFO)
    rig = await start_server(SampleService(Ask=handler))
    client = rig.connect()
    stream_id = client.start("Ask")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    client.h2.reset_stream(stream_id, error_code=8)
    await client.call()
    go_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [f.status for f in rig.finished] == [Status.OK, Status.CANCELLED]
    assert caplog.records == []


async def test_a_read_that_was_cancelled_can_be_repeated(start_server: StartServer, autojump_clock: object) -> None:
    async def handler(stream: Any) -> None:
        with trio.move_on_after(1):
            await stream.recv_message()
        request = await stream.recv_message()
        await stream.send_message(pb.State(result=request.name == "web"))

    client = (await start_server(SampleService(Ask=handler))).connect()
    stream_id = client.open("Ask")
    message = frame_message(pb.Name(name="web"))
    client.send(stream_id, message[:7])
    await client.flush()
    await trio.sleep(2)
    client.send(stream_id, message[7:], end=True)
    answer = await client.finish(stream_id)
    assert answer.read(pb.State)[0].result


async def test_idle_streams_are_never_woken(start_server: StartServer) -> None:
    class Wakeups(trio.abc.Instrument):
        def __init__(self) -> None:
            self.tasks: set[trio.lowlevel.Task] = set()

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.tasks.add(task)

    rig = await start_server()
    client = rig.connect()
    ids = [client.start("WatchState") for _ in range(100)]
    await client.until(lambda: all(client.answers[i].body for i in ids))
    wakeups = Wakeups()
    trio.lowlevel.add_instrument(wakeups)
    for _ in range(20):
        await client.call()
    trio.lowlevel.remove_instrument(wakeups)
    # this test, the reader, the writer, and one task per call
    assert len(wakeups.tasks) <= 3 + 20
