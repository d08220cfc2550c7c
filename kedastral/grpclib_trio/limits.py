# SPDX-License-Identifier: Apache-2.0
"""How much one peer may ask of the server, every number with its unit and its reason."""

from __future__ import annotations

from typing import Any

import attrs


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be greater than zero, not {value!r}")


def _count(default: int) -> Any:
    return attrs.field(default=default, validator=[attrs.validators.instance_of(int), _positive])


def _seconds(default: float) -> Any:
    return attrs.field(default=default, converter=float, validator=_positive)


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds of a server; the defaults suit a service inside a cluster with few, busy clients.

    Raises ``ValueError`` for a value that is not above zero, and where two limits contradict each other.
    """

    max_connections: int = _count(1_000)
    """Connections at the same time; later ones are closed at once, unless others still wait for their client. A client
    library holds one or two, so 1,000 is far above need and still below the usual limit of 1,024 file descriptors."""

    max_waiting: int = _count(256)
    """Connections whose TLS handshake or HTTP/2 preface is not complete, at the same time; one more, and the oldest of
    them is dropped. Both take milliseconds, and files are left for other things: 1,000 of them must lock nobody out."""

    max_streams: int = _count(10_000)
    """Calls at the same time on one connection (SETTINGS_MAX_CONCURRENT_STREAMS). Clients such as KEDA put everything
    on one connection, two endless streams per watched object among it, and queue silently at the limit: the default
    leaves room for 4,000 objects and the calls beside them. An idle stream costs about 20 KiB."""

    max_message_bytes: int = _count(4 * 2**20)
    """Largest request message; the default of grpc-go and grpcio. Larger ones get RESOURCE_EXHAUSTED."""

    max_header_list_bytes: int = _count(16 * 2**10)
    """Request headers of one call, uncompressed as HTTP/2 counts them; twice what grpcio sends at most by default."""

    max_buffered_bytes: int = _count(16 * 2**20)
    """Request bytes one connection may keep in memory, over all its calls; room for four of the largest messages.
    The call that goes past it gets RESOURCE_EXHAUSTED."""

    stream_window_bytes: int = _count(2**18)
    """Bytes a peer may send on one call before a handler reads (SETTINGS_INITIAL_WINDOW_SIZE). Small messages need
    nothing like it; 256 KiB keep large ones flowing at 100 MB/s over 2.5 ms."""

    connection_window_bytes: int = _count(2**22)
    """The same over all calls of a connection: 16 calls that nobody reads must not stop the others."""

    send_buffer_bytes: int = _count(2**18)
    """Unsent bytes of a connection at which its handlers pause in ``send_message``; twice a large socket buffer."""

    handshake_timeout: float = _seconds(5.0)
    """Seconds for the TLS handshake, and again for the HTTP/2 preface: enough for a slow link, too little to hoard
    connections."""

    write_timeout: float = _seconds(20.0)
    """Seconds in which a peer has to take what was written to it; then the connection is given up. It is the
    patience of grpc clients' own keepalive."""

    keepalive_time: float = _seconds(60.0)
    """Seconds of silence after which the peer is asked for a sign of life (PING): a machine that vanished holds its
    streams for no longer than this and ``keepalive_timeout``."""

    keepalive_timeout: float = _seconds(20.0)
    """Seconds a peer has to answer that PING, or to send anything else; grpc's usual value."""

    abuse_window: float = _seconds(10.0)
    """Seconds over which the three limits below count."""

    max_resets: int = _count(1_000)
    """Streams reset (by the peer, or for its mistakes) per window, beyond one for every stream that was open at the
    same time: all deadlines expiring at once are legal, opening and resetting in a loop is an attack."""

    max_pings: int = _count(100)
    """PINGs per window without anything sent in between; grpc-go measures bandwidth with a PING after our data."""

    max_idle_frames: int = _count(1_000)
    """Frames per window that carry nothing: SETTINGS, PRIORITY, empty DATA, unknown types."""

    def __attrs_post_init__(self) -> None:
        """Refuse limits that contradict each other."""
        if self.max_buffered_bytes < self.max_message_bytes:
            raise ValueError("max_buffered_bytes must have room for one message of max_message_bytes")
        if self.stream_window_bytes >= 2**31 or not 2**16 <= self.connection_window_bytes < 2**31:
            raise ValueError("HTTP/2 windows end at 2**31 - 1 bytes, and that of a connection begins at 65,536")
