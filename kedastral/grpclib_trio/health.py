# SPDX-License-Identifier: Apache-2.0
"""The service grpc.health.v1.Health, which load balancers and ``grpc_health_probe`` call."""

from __future__ import annotations

from collections.abc import Mapping

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthBase
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.server import Stream

_Stream = Stream[HealthCheckRequest, HealthCheckResponse]


class Health(HealthBase):
    """Says which services are ready for calls; ``""`` stands for the server as a whole.

    ``serving`` has the initial statuses by full service name. Names not in it are unknown until they are set.
    Watchers receive changes at once; when the server drains, their streams end with OK.
    """

    def __init__(self, serving: Mapping[str, bool] | None = None) -> None:
        self._serving = {"": True} if serving is None else dict(serving)
        self._changed = trio.Event()

    def set_serving(self, serving: bool, service: str = "") -> None:
        """Set whether ``service`` is ready, by default the server as a whole."""
        if self._serving.get(service) is serving:
            return
        self._serving[service] = serving
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def Check(self, stream: _Stream) -> None:  # noqa: N802  # named by the protocol
        """Answer the status of one service; NOT_FOUND if it was never set."""
        request = await stream.recv_message()
        assert request is not None  # noqa: S101  # the transport ensures that unary calls have a message
        status = self._look_up(request.service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise GRPCError(Status.NOT_FOUND, "unknown service")
        await stream.send_message(HealthCheckResponse(status=status))

    async def Watch(self, stream: _Stream) -> None:  # noqa: N802  # named by the protocol
        """Send the status now and whenever it changes, including SERVICE_UNKNOWN, as the protocol requires."""
        request = await stream.recv_message()
        assert request is not None  # noqa: S101  # as above
        last = None
        while True:
            changed, status = self._changed, self._look_up(request.service)
            if status != last:
                last = status
                await stream.send_message(HealthCheckResponse(status=status))
            await changed.wait()

    def _look_up(self, service: str) -> HealthCheckResponse.ServingStatus.ValueType:
        match self._serving.get(service):
            case None:
                return HealthCheckResponse.SERVICE_UNKNOWN
            case serving:
                return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
