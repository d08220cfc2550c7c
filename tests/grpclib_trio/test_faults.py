# SPDX-License-Identifier: Apache-2.0
"""A fault of the server itself costs one call."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from grpclib.const import Status

from kedastral.grpclib_trio.http2 import Http2

from .conftest import StartServer
from .peers import SampleService, never_end


async def test_a_fault_while_answering_costs_one_call(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await start_server(SampleService(WatchState=never_end))
    client = rig.connect()
    other = client.start("WatchState")
    await client.until(lambda: bool(client.answers[other].body))

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no headers today")

    with monkeypatch.context() as patch:
        patch.setattr(Http2, "send_headers", fail)
        answer = await client.call()
    assert answer.reset == 2  # INTERNAL_ERROR, as which grpc clients report it
    assert "no answer could be sent" in caplog.text
    await trio.testing.wait_all_tasks_blocked()
    assert [f.status for f in rig.finished] == [Status.INTERNAL]
    assert not client.answers[other].ended
    assert (await client.call()).status is Status.OK
