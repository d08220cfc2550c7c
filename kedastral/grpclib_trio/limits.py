# SPDX-License-Identifier: Apache-2.0
"""What peers may demand of the server, every number with its unit and its reason, and the memory that they share."""

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
    """Limits of a server; the defaults suit a service inside a cluster with few, busy clients.

    Raises ``ValueError`` for a value that is not above zero, and if two limits contradict each other.
    """

    max_connections: int = _count(1_000)
    """Concurrent connections. A new one replaces the one that has been idle, without calls, for longest, of the host
    with the most connections; if all have calls, the new one is closed at once. A client library holds one or two, so
    1,000 is far more than needed and still below the usual limit of 1,024 file descriptors."""

    max_per_host: int = _count(100)
    """Concurrent connections from one address, with the same rule among them. This suffices for all clients on one
    machine, and for a few dozen behind one address, as with NAT and some meshes."""

    max_waiting: int = _count(256)
    """Concurrent connections with an incomplete TLS handshake or HTTP/2 preface; one more, and the oldest of them is
    dropped. Both take milliseconds, and file descriptors are left over: 1,000 such connections must lock nobody out."""

    max_streams: int = _count(10_000)
    """Concurrent calls on one connection (SETTINGS_MAX_CONCURRENT_STREAMS). Clients such as KEDA use one connection for
    everything, including two endless streams per watched object, and queue silently at the limit: the default leaves
    room for 4,000 objects and their other calls. An idle stream costs about 20 KiB."""

    memory_bytes: int = _count(256 * 2**20)
    """Memory that all connections together may hold: connections, calls, headers, and messages on their way in or out.
    Each has a fixed cost (`CONNECTION_BYTES`, `CALL_BYTES`); the default holds 20,000 calls. Once it is used up, new
    calls get REFUSED_STREAM, unless another host holds more: then that one loses its largest connection. See
    `MemoryBudget`."""

    max_message_bytes: int = _count(4 * 2**20)
    """Largest request message; the default of grpc-go and grpcio. Larger ones get RESOURCE_EXHAUSTED."""

    max_header_list_bytes: int = _count(16 * 2**10)
    """Request headers of one call, uncompressed as HTTP/2 counts them; twice the most that grpcio sends by default."""

    max_buffered_bytes: int = _count(16 * 2**20)
    """Request bytes one connection may keep in memory, over all its calls; room for four of the largest messages.
    The call that exceeds it gets RESOURCE_EXHAUSTED."""

    stream_window_bytes: int = _count(2**18)
    """Bytes a peer may send on one call before a handler reads (SETTINGS_INITIAL_WINDOW_SIZE). Small messages need
    much less; 256 KiB keep large ones flowing at 100 MB/s with 2.5 ms of latency."""

    connection_window_bytes: int = _count(2**22)
    """The same over all calls of a connection: 16 calls that nobody reads must not stop the others."""

    send_buffer_bytes: int = _count(2**18)
    """Unsent bytes of a connection at which its handlers pause in ``send_message``; twice a large socket buffer."""

    handshake_timeout: float = _seconds(5.0)
    """Seconds for the TLS handshake, and again for the HTTP/2 preface: enough for a slow link, too little to hoard
    connections."""

    request_timeout: float = _seconds(10.0)
    """Seconds after its headers within which a call's first message must be complete, once the handler waits for it;
    clients send both at once. Otherwise the call ends with DEADLINE_EXCEEDED."""

    write_timeout: float = _seconds(20.0)
    """Seconds within which a peer must read what was written to it; then the connection is dropped. It is as long as
    grpc clients' own keepalive timeout."""

    keepalive_time: float = _seconds(60.0)
    """Seconds of silence after which the peer is sent a PING: a machine that vanished holds its streams for no longer
    than this plus ``keepalive_timeout``."""

    keepalive_timeout: float = _seconds(20.0)
    """Seconds within which a peer must answer that PING, or send anything else; grpc's usual value."""

    abuse_window: float = _seconds(10.0)
    """Seconds over which the three limits below are counted."""

    max_resets: int = _count(1_000)
    """Streams reset (by the peer, or for its mistakes) per window, beyond one for every stream that was open at the
    same time: all deadlines may expire at once, but opening and resetting in a loop is an attack."""

    max_pings: int = _count(100)
    """PINGs per window without anything sent in between; grpc-go measures bandwidth with a PING after our data."""

    max_idle_frames: int = _count(1_000)
    """Frames per window that request nothing: window updates, GOAWAY, SETTINGS and their acknowledgements, PING,
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
"""The assumed memory of an open connection: 40 KiB measured, plus up to 32 KiB of an incomplete frame or headers."""

CALL_BYTES = 12 * 2**10
"""The assumed memory of an open call besides its headers and messages; 10 KiB measured, also for an idle one."""

HEADER_COPIES = 2
"""How many copies of an open call's headers are in memory: as received and as text."""


class _HostShare:
    def __init__(self) -> None:
        self.held = 0
        self.accounts: set[MemoryAccount] = set()


class MemoryBudget:
    """The memory that all connections of a server hold, at most ``limit`` bytes, shared fairly between their hosts.

    Once it is used up, a host that needs more gets it from the host that holds the most, if that holds more: its
    largest connection is evicted. So nobody can lock out others, and nobody who holds less than others loses anything.
    The last eighth is reserved for ``urgent`` requests: those that end by themselves, like unary calls.
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
        """Add ``account`` to its host. Returns the share of that host, which stays valid until :meth:`remove`."""
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
    """What one connection holds of a `MemoryBudget`; nothing once it is closed."""

    def __init__(self, budget: MemoryBudget, host: str, evict: Callable[[], None]) -> None:
        self.host = host
        self.held = 0
        self._budget = budget
        self._evict = evict
        self._open = True
        self._share: _HostShare | None = None  # looked up once, because every frame uses it

    def take(self, size: int, *, urgent: bool = False) -> bool:
        """Reserve ``size`` bytes; False, reserving nothing, if there is no room for them."""
        if not self._open or not self._budget.make_room(size, self, urgent=urgent):
            return False
        self._add(size)
        return True

    def charge(self, size: int) -> None:
        """Note ``size`` bytes that are already in memory. If they do not fit, this connection is evicted."""
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
