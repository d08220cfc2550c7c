# SPDX-License-Identifier: Apache-2.0
"""How much peers may ask of the server, every number with its unit and its reason, and the memory that they share."""

from __future__ import annotations

from collections.abc import Callable
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
    """Connections at the same time. For a later one the longest idle without calls gives way, of the host with most
    connections; where all have calls, it is closed at once. A client library holds one or two, so 1,000 is far above
    need and still below the usual limit of 1,024 file descriptors."""

    max_per_host: int = _count(100)
    """Connections from one address at the same time; the same holds among them. It is room for all that one machine
    runs, and for a few dozen clients behind one address, as NAT and some meshes have it."""

    max_waiting: int = _count(256)
    """Connections whose TLS handshake or HTTP/2 preface is not complete, at the same time; one more, and the oldest of
    them is dropped. Both take milliseconds, and files are left for other things: 1,000 of them must lock nobody out."""

    max_streams: int = _count(10_000)
    """Calls at the same time on one connection (SETTINGS_MAX_CONCURRENT_STREAMS). Clients such as KEDA put everything
    on one connection, two endless streams per watched object among it, and queue silently at the limit: the default
    leaves room for 4,000 objects and the calls beside them. An idle stream costs about 20 KiB."""

    memory_bytes: int = _count(256 * 2**20)
    """Memory that all connections together may hold: connections, calls, headers, and messages on their way in or out.
    Each has its price (`CONNECTION_BYTES`, `CALL_BYTES`); the default holds 20,000 calls. Where it is spent, new calls
    get REFUSED_STREAM, unless another host holds more: then that one loses its largest connection. See
    `MemoryBudget`."""

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

    request_timeout: float = _seconds(10.0)
    """Seconds after its headers in which a call's first message has to be complete, once the handler waits for it;
    clients send both at once. Later the call ends with DEADLINE_EXCEEDED."""

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
    """Frames per window that ask for nothing: window updates, GOAWAY, SETTINGS and their acknowledgements, PING,
    PRIORITY, unknown types, frames of closed streams, and DATA of less than 256 bytes that does not end a request.
    Each HEADERS or DATA frame sent to the client allows eight more, and each call that it opens two."""

    def __attrs_post_init__(self) -> None:
        """Refuse limits that contradict each other."""
        if self.max_buffered_bytes < self.max_message_bytes:
            raise ValueError("max_buffered_bytes must have room for one message of max_message_bytes")
        if self.memory_bytes < 2**20:
            raise ValueError("memory_bytes must have room for a few calls: at least 1 MiB")
        if self.stream_window_bytes >= 2**31 or not 2**16 <= self.connection_window_bytes < 2**31:
            raise ValueError("HTTP/2 windows end at 2**31 - 1 bytes, and that of a connection begins at 65,536")


CONNECTION_BYTES = 64 * 2**10
"""What an open connection is taken to hold: measured 40 KiB, and up to 32 KiB of a frame or headers not complete."""

CALL_BYTES = 12 * 2**10
"""What an open call is taken to hold beside its headers and messages; measured 10 KiB, an idle one included."""

HEADER_COPIES = 2
"""How often the headers of an open call are in memory: as received and as text."""


class _HostShare:
    def __init__(self) -> None:
        self.held = 0
        self.accounts: set[MemoryAccount] = set()


class MemoryBudget:
    """The memory that all connections of a server hold, at most ``limit`` bytes, shared fairly between their hosts.

    Where all is spent, a host that wants more gets it from the host that holds most, if that holds more: the largest
    connection there is evicted. So nobody can lock out others, and nobody who holds less than others loses anything.
    The last eighth is kept for what is ``urgent``: what ends by itself, as unary calls do.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.hosts: dict[str, _HostShare] = {}

    def open_account(self, host: str, evict: Callable[[], None]) -> MemoryAccount:
        """The account of a new connection from ``host``; ``evict`` ends it, and must not block."""
        return MemoryAccount(self, host, evict)

    def make_room(self, size: int, account: MemoryAccount, *, urgent: bool) -> bool:
        """Whether ``size`` bytes fit, once connections of hosts that hold more than its own are evicted."""
        limit = self.limit if urgent else self.limit - self.limit // 8
        while self.held + size > limit:
            largest = max(self.hosts.values(), key=lambda host: host.held, default=None)
            own = self.hosts.get(account.host)
            if largest is None or largest is own or largest.held <= (own.held if own else 0) + size:
                return False
            max(largest.accounts, key=lambda each: each.held).evict()
        return True

    def join(self, account: MemoryAccount) -> _HostShare:
        """Count ``account`` to its host. Returns the share of that host, which it keeps until :meth:`remove`."""
        share = self.hosts.setdefault(account.host, _HostShare())
        share.accounts.add(account)
        return share

    def remove(self, account: MemoryAccount) -> None:
        """Forget ``account`` and all that it holds."""
        share = self.hosts.get(account.host)
        if share is None or account not in share.accounts:
            return
        share.held -= account.held
        self.held -= account.held
        share.accounts.discard(account)
        if not share.accounts:
            del self.hosts[account.host]


def _do_nothing() -> None:
    pass


class MemoryAccount:
    """What one connection holds of a `MemoryBudget`: nothing any more once it is closed."""

    def __init__(self, budget: MemoryBudget, host: str, evict: Callable[[], None]) -> None:
        self.host = host
        self.held = 0
        self._budget = budget
        self._evict = evict
        self._open = True
        self._share: _HostShare | None = None  # looked up once: every frame is accounted for

    def take(self, size: int, *, urgent: bool = False) -> bool:
        """Reserve ``size`` bytes; False, reserving nothing, if there is no room for them."""
        if not self._open or not self._budget.make_room(size, self, urgent=urgent):
            return False
        self._add(size)
        return True

    def charge(self, size: int) -> None:
        """Note ``size`` bytes that are in memory already. Where they do not fit, this connection is evicted."""
        if not self.take(size, urgent=True):
            self.evict()

    def give_back(self, size: int) -> None:
        """Free ``size`` bytes that were taken."""
        if self._open:
            self._add(-size)

    def evict(self) -> None:
        """Close it, and end its connection."""
        if self._open:
            evict = self._evict
            self.close()
            evict()

    def close(self) -> None:
        """Free all that it holds."""
        self._budget.remove(self)
        self._open = False
        self._evict = _do_nothing  # it refers to the connection, which refers to this account

    def _add(self, size: int) -> None:
        share = self._share
        if share is None:
            share = self._share = self._budget.join(self)
        self.held += size
        share.held += size
        self._budget.held += size
