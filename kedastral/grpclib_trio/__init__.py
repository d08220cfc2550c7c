# SPDX-License-Identifier: Apache-2.0
"""A gRPC server on Trio: HTTP/2 by h2, services by grpclib, no asyncio at run time. See README.md in this folder.

Each module imports only from those below it::

    server        Server: accepts, serves and drains connections
    connection    one connection: its frames, its calls, its keepalive
    calls         one call: headers -> grpclib.server.Stream -> handler -> trailers
    transport     what grpclib.server.Stream needs below it
    messages      the messages of a request; codecs
    http2         h2, the task that writes, flow control, limits on abuse
    limits        every limit, with its reason

    health        grpc.health.v1, a service like any other
"""

from kedastral.grpclib_trio.calls import FinishedCall, current_call_id
from kedastral.grpclib_trio.health import Health
from kedastral.grpclib_trio.limits import Limits
from kedastral.grpclib_trio.server import Servable, Server

__all__ = ["FinishedCall", "Health", "Limits", "Servable", "Server", "current_call_id"]
