# SPDX-License-Identifier: Apache-2.0
"""Times GetMetrics over one connection: ``python -m benchmarks.grpc_client closed|paced PORT CALLERS|RATE CALLS``.

It is a separate process, so that it does not share the GIL with what it measures. ``closed``: CALLERS callers, each of
which calls again once it has its answer. ``paced``: RATE calls per second, whether answers come or not, like KEDA's
polls. Standard input may name the workloads to ask for in turn. Prints JSON: the seconds of every call, and in total.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any

import grpc

from kedastral._proto.externalscaler_pb2 import GetMetricsRequest, GetMetricsResponse, ScaledObjectRef

METHOD = "/externalscaler.ExternalScaler/GetMetrics"
WARM_UP = 200


Ask = Callable[[], Coroutine[Any, Any, None]]


async def measure(
    way: str, port: int, amount: int, calls: int, workloads: Sequence[str] = ("bench",)
) -> tuple[list[float], float]:
    """Seconds of each of about ``calls`` calls, and from start to end; ``workloads`` take turns."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=GetMetricsRequest.SerializeToString,
            response_deserializer=GetMetricsResponse.FromString,
        )
        requests = itertools.cycle([make_request(workload) for workload in workloads])
        seconds: list[float] = []

        async def ask() -> None:
            began = perf_counter()
            await call(next(requests), timeout=30)
            seconds.append(perf_counter() - began)

        send = {"closed": send_closed, "paced": send_paced}[way]
        await send(ask, amount, WARM_UP)
        seconds.clear()
        began = perf_counter()
        await send(ask, amount, calls)
        return seconds, perf_counter() - began


def make_request(workload: str) -> GetMetricsRequest:
    """KEDA's request for ``workload``."""
    ref = ScaledObjectRef(name="bench", namespace="default", scalerMetadata={"workload": workload})
    return GetMetricsRequest(scaledObjectRef=ref, metricName="desired_replicas")


async def send_closed(ask: Ask, callers: int, calls: int) -> None:
    """``callers`` at once, each calling again after its answer."""

    async def ask_again() -> None:
        for _ in range(max(1, calls // callers)):
            await ask()

    await asyncio.gather(*(ask_again() for _ in range(callers)))


async def send_paced(ask: Ask, rate: int, calls: int) -> None:
    """``rate`` calls per second, evenly spaced."""
    origin = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for i in range(calls):
            await asyncio.sleep(max(0.0, origin + i / rate - perf_counter()))
            tasks.create_task(ask())


if __name__ == "__main__":
    given = [] if sys.stdin.isatty() else sys.stdin.read().split()
    each, total = asyncio.run(measure(sys.argv[1], *map(int, sys.argv[2:5]), given or ["bench"]))
    json.dump({"seconds": each, "elapsed": total}, sys.stdout)
