# SPDX-License-Identifier: Apache-2.0
"""A closed connection leaves nothing behind that would have to wait for a full garbage collection."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from grpclib.events import _DispatchServerEvents

from kedastral.grpclib_trio import Limits
from kedastral.grpclib_trio.calls import Services
from kedastral.grpclib_trio.connection import Connection, Shared

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("said", [b"", PREFACE, b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_connection_that_is_over_refers_to_itself_no_more(said: bytes) -> None:
    server, client = trio.testing.memory_stream_pair()
    connection = Connection(server, Services({}, _DispatchServerEvents(), None), Limits(), Shared(Limits()), 1)
    remains = [weakref.ref(connection), weakref.ref(connection._http2._h2)]  # what takes the memory
    await client.send_all(said)
    await client.aclose()
    with trio.fail_after(5):
        try:
            await connection.serve()
        except* trio.BrokenResourceError:
            pass
    del connection
    await trio.testing.wait_all_tasks_blocked()
    assert [ref() for ref in remains] == [None, None]
