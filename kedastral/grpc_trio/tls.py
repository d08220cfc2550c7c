# SPDX-License-Identifier: Apache-2.0
"""Agrees with a client on TLS and HTTP/2 before anything else is said."""

from __future__ import annotations

import logging
import ssl

import trio

from kedastral.grpc_trio.limits import Limits
from kedastral.grpc_trio.peer import Peer

_log = logging.getLogger(__name__)


async def agree_on_http2(transport: trio.abc.Stream, peer: Peer, limits: Limits) -> bool:
    """Do the TLS handshake if there is one to do; False, with one line in the log, if the client will not be served.

    Without TLS the client must know beforehand that HTTP/2 is spoken here, as gRPC clients do.
    """
    if not isinstance(transport, trio.SSLStream):
        return True
    try:
        with trio.fail_after(limits.handshake_timeout):
            await transport.do_handshake()
    except trio.TooSlowError:
        _log.warning("TLS handshake with %s failed: not done within %g s", peer, limits.handshake_timeout)
        return False
    except trio.BrokenResourceError as error:
        reason = error.__cause__  # OpenSSL's own words, such as "no shared cipher" or "unknown ca"
        hung_up = reason is None or isinstance(reason, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        _log.warning("TLS handshake with %s failed: %s", peer, "the client hung up" if hung_up else reason)
        return False
    if transport.selected_alpn_protocol() != "h2":
        _log.warning("TLS handshake with %s failed: no agreement on HTTP/2 (ALPN protocol h2)", peer)
        return False
    return True
