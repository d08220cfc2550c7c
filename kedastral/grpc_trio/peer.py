# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a connection, in the shape that grpclib shows to handlers."""

from __future__ import annotations

from typing import Any

import trio


class Peer:
    """What ``grpclib.server.Stream.peer`` offers, and a name for the log.

    The address is read once: a socket forgets it as soon as the other side hangs up.
    """

    def __init__(self, transport: trio.abc.Stream) -> None:
        self._tls = transport if isinstance(transport, trio.SSLStream) else None
        inner = transport.transport_stream if isinstance(transport, trio.SSLStream) else transport
        self._address = _read_address(inner)

    def addr(self) -> Any:
        """The remote address as the socket gives it, ``(host, port)`` first; None where there is no socket."""
        return self._address

    @property
    def host(self) -> str:
        """The remote address without its port; ``unknown`` where there is none."""
        match self._address:
            case (str(host), *_):
                return host
        return "unknown"

    def cert(self) -> dict[str, Any] | None:
        """The client's certificate as ``ssl.SSLSocket.getpeercert`` gives it; None without TLS."""
        return None if self._tls is None else self._tls.getpeercert()

    def __str__(self) -> str:
        """``host:port``, or ``unknown``."""
        match self._address:
            case (str(host), int(port), *_):
                return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            case str(path) if path:
                return path
        return "unknown"


def _read_address(transport: trio.abc.Stream) -> Any:
    if not isinstance(transport, trio.SocketStream):
        return None
    try:
        return transport.socket.getpeername()
    except OSError:  # hung up between accept and now; reading will say so
        return None


class ConnectionRecord:
    """The part of a connection that ``grpclib.server.Stream`` reads and counts in."""

    messages_sent = 0
    messages_received = 0
    last_message_sent: float | None = None
    last_message_received: float | None = None

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def get_peer(self) -> Peer:
        """The peer, for handlers and interceptors."""
        return self._peer
