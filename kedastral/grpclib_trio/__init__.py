# SPDX-License-Identifier: Apache-2.0
"""A gRPC server on Trio: HTTP/2 by h2, the service layer by grpclib, nothing of asyncio at run time.

The layers, each of which knows those below it::

    server        Server: accepts (accept, tls), hands out connections, drains
    connection    one client: its frames, its calls, its keepalive, its misdeeds (abuse)
    calls         one call: headers (requests) -> grpclib.server.Stream -> handler -> trailers
    stream        the transport below grpclib.server.Stream; messages, codecs, peer
    http2         h2 joined to the writer; flow control
    writer        the only task of a connection that writes
    limits        how much of everything

    health        grpc.health.v1, a service like any other

Reflection is grpclib's own: ``Server(ServerReflection.extend(services))`` with
``grpclib.reflection.service.ServerReflection``. It is off unless asked for: it tells strangers what there is to call.
"""

from kedastral.grpclib_trio.calls import FinishedCall, current_call_id
from kedastral.grpclib_trio.health import Health
from kedastral.grpclib_trio.limits import Limits
from kedastral.grpclib_trio.server import Servable, Server

__all__ = ["FinishedCall", "Health", "Limits", "Servable", "Server", "current_call_id"]
