# SPDX-License-Identifier: Apache-2.0
"""Starts a server on memory streams for a test, and stops it afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from kedastral.grpclib_trio import FinishedCall, Limits, Server

from .peers import Rig, SampleService

StartServer = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def start_server(nursery: trio.Nursery) -> StartServer:
    """``await start_server(service, ..., limits=..., grace=...)``; the default service is ``SampleService()``."""

    async def start(*services: Any, limits: Limits | None = None, grace: float = 8.0) -> Rig:
        finished: list[FinishedCall] = []
        server = Server(services or (SampleService(),), limits=limits, on_call=finished.append)
        rig = Rig(server=server, finished=finished, grace=grace)
        await nursery.start(rig.run)
        return rig

    return start
