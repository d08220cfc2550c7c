# SPDX-License-Identifier: Apache-2.0
"""grpc.health.v1 as load balancers and probes use it."""

from __future__ import annotations

import trio
import trio.testing
from grpclib.const import Status
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from kedastral.grpclib_trio import Health

from .conftest import StartServer
from .peers import Client

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


async def check(client: Client, service: str = "") -> int:
    answer = await client.call(CHECK, HealthCheckRequest(service=service))
    assert answer.status is Status.OK
    return int(answer.read(HealthCheckResponse)[0].status)


async def test_the_server_as_a_whole_serves_by_default(start_server: StartServer) -> None:
    client = (await start_server(Health())).connect()
    assert await check(client) == HealthCheckResponse.SERVING


async def test_check_answers_what_was_set(start_server: StartServer) -> None:
    health = Health({"": False, "sample.Sample": True})
    client = (await start_server(health)).connect()
    assert await check(client) == HealthCheckResponse.NOT_SERVING
    assert await check(client, "sample.Sample") == HealthCheckResponse.SERVING
    health.set_serving(True)
    health.set_serving(False, "sample.Sample")
    assert await check(client) == HealthCheckResponse.SERVING
    assert await check(client, "sample.Sample") == HealthCheckResponse.NOT_SERVING


async def test_checking_an_unknown_service_is_not_found(start_server: StartServer) -> None:
    client = (await start_server(Health())).connect()
    answer = await client.call(CHECK, HealthCheckRequest(service="other"))
    assert answer.status is Status.NOT_FOUND


async def test_a_watcher_hears_of_every_change_and_of_nothing_else(start_server: StartServer) -> None:
    health = Health()
    client = (await start_server(health)).connect()
    stream_id = client.start(WATCH, HealthCheckRequest(service="a"))
    answer = client.answers[stream_id]

    async def heard(count: int) -> list[int]:
        await client.until(lambda: len(answer.read(HealthCheckResponse)) == count)
        return [m.status for m in answer.read(HealthCheckResponse)]

    unknown, serving = HealthCheckResponse.SERVICE_UNKNOWN, HealthCheckResponse.SERVING
    assert await heard(1) == [unknown]
    health.set_serving(True, "a")
    assert await heard(2) == [unknown, serving]
    health.set_serving(True, "a")
    health.set_serving(False, "b")
    await trio.testing.wait_all_tasks_blocked()
    health.set_serving(False, "a")
    assert await heard(3) == [unknown, serving, HealthCheckResponse.NOT_SERVING]
    assert not answer.ended
