# SPDX-License-Identifier: Apache-2.0
"""What every Trio server needs around its protocol: accepting connections, limiting their number, TLS handshakes.

The gRPC server and the HTTP server both use it. It knows neither of them, nor anything else of Kedastral.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

QUIET_PERIOD = 60.0
"""Seconds between two log lines about the same matter: opening a thousand connections must not fill the log."""

MAX_FAILURE_LINES = 20
"""The most lines that a `FailureLog` writes per quiet period: a port scan must not fill the log."""

ACCEPT_PAUSE = 0.1
"""Seconds until the next attempt if the system has no file descriptor or buffer left for a connection."""

# Errors of accept() that concern the system, not the listener. They pass once other connections close.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# A listener with connections in its backlog returns them at once. After this many seconds without one, it has none.
_BACKLOG_WAIT = 0.01

# Seconds for the whole backlog: clients that keep connecting must not prevent the server from stopping.
_BACKLOG_LIMIT = 0.5

# Seconds for the alert that tells a client why its handshake failed. A client that does not read sees the end anyway.
_ALERT_TIMEOUT = 1.0

StreamT = TypeVar("StreamT", bound=trio.abc.Stream)


class Peer:
    """The other end of a connection: its address, its certificate, and a name for the log.

    The address is read once: a socket loses it as soon as the other side hangs up. The methods are those of
    ``grpclib.server.Stream.peer``.
    """

    _name: str | None = None

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._tls = stream if isinstance(stream, trio.SSLStream) else None
        self._address = _read_address(stream.transport_stream if isinstance(stream, trio.SSLStream) else stream)
        self._cert: dict[str, Any] | None = None

    def addr(self) -> Any:
        """The remote address as the socket returns it, ``(host, port)`` first; None if there is no socket."""
        return self._address

    @property
    def host(self) -> str:
        """The remote address without its port; ``unknown`` if there is none."""
        match self._address:
            case (str(host), *_):
                return host
        return "unknown"

    def cert(self) -> dict[str, Any] | None:
        """The client's certificate as from ``ssl.SSLSocket.getpeercert``, decoded once; None without TLS."""
        if self._cert is None and self._tls is not None:
            self._cert = self._tls.getpeercert()
        return self._cert

    def __str__(self) -> str:
        """``host:port``, the path of a Unix socket, or ``unknown``."""
        if self._name is None:  # every call is reported with it
            self._name = _name_address(self._address)
        return self._name


def _read_address(stream: trio.abc.Stream) -> Any:
    if not isinstance(stream, trio.SocketStream):
        return None
    try:
        return stream.socket.getpeername()
    except OSError:  # the client has hung up since accept; reading will show it
        return None


def _name_address(address: Any) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case str(path) if path:
            return path
    return "unknown"


class Acceptor(Generic[StreamT]):
    """Passes every connection of ``listener`` to ``on_connection``, which must not block.

    If the system is out of file descriptors or memory, it logs one line, pauses, and tries again.
    """

    def __init__(
        self, listener: trio.abc.Listener[StreamT], on_connection: Callable[[StreamT], None], log: logging.Logger
    ) -> None:
        self._listener = listener
        self._on_connection = on_connection
        self._log = log
        self._until_stopped = trio.CancelScope()
        self._exhausted = False

    async def run(self) -> None:
        """Accept until :meth:`stop`, empty the backlog, close the listener and return.

        The kernel tells clients that they are connected before anyone accepts them. Those in the backlog when a
        listening socket closes get a reset instead of a response, so they are accepted first, for at most half a
        second. Cancelling closes the listener at once. Raises what ``accept`` raises, unless resources are short.
        """
        async with self._listener:
            with self._until_stopped:
                while True:
                    await self._accept_one()
            with trio.move_on_after(_BACKLOG_LIMIT):
                next_one = trio.CancelScope()
                while not next_one.cancelled_caught:
                    with trio.move_on_after(_BACKLOG_WAIT) as next_one:
                        await self._accept_one()

    def stop(self) -> None:
        """Let :meth:`run` finish."""
        self._until_stopped.cancel()

    async def _accept_one(self) -> None:
        try:
            stream = await self._listener.accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            if not self._exhausted:
                self._log.error("no connection can be accepted: %s", os.strerror(error.errno))
            self._exhausted = True
            await trio.sleep(ACCEPT_PAUSE)
        else:
            if self._exhausted:
                self._log.info("connections are accepted again")
            self._exhausted = False
            self._on_connection(stream)


def _do_nothing() -> None:
    pass


class ConnectionSlot:
    """The place of one open connection. It is idle at first, until :meth:`mark_busy`.

    A connection is idle while it waits for its client, either for a request or for the client to read a response. Serve
    the connection inside ``scope``: it is cancelled when the slot goes to a newer connection. ``on_dropped`` is called
    first, and may end what is shielded from cancellation. For ``is_reserved`` see `ConnectionLimiter`.
    """

    def __init__(self, limiter: ConnectionLimiter, host: str, *, is_reserved: bool = False) -> None:
        self.scope = trio.CancelScope()
        self.host = host
        self.is_reserved = is_reserved
        self.on_dropped: Callable[[], None] = _do_nothing
        self._limiter = limiter

    def mark_busy(self) -> None:
        """Note that the client has responded: the slot is safe until it is marked otherwise or released."""
        self._limiter.idle.pop(self, None)
        self._limiter.resting.pop(self, None)

    def mark_idle(self) -> None:
        """Note that the connection waits for the client. Does nothing if the slot is released."""
        if self in self._limiter.open:
            self._limiter.idle[self] = None

    def mark_resting(self) -> None:
        """Note that the client has no requests at the moment, and that nothing waits for it."""
        self.mark_busy()
        if self in self._limiter.open:
            self._limiter.resting[self] = None

    def release(self) -> None:
        """Note that the connection is closed."""
        if self in self._limiter.open:
            self._limiter.open.discard(self)
            self._limiter.hosts[self.host] -= 1
            if not self._limiter.hosts[self.host]:
                del self._limiter.hosts[self.host]
        self.mark_busy()

    def drop(self) -> None:
        """Release the slot and end its connection."""
        self.release()
        self.on_dropped()
        self.scope.cancel()


class ConnectionLimiter:
    """Slots for ``max_open`` connections, of which ``max_idle`` may wait for their clients.

    If all are taken, a new connection gets the slot of an idle one: of the host with the most connections, the one that
    has been idle longest. So connections that send nothing or read nothing, however many, lock nobody out. A host that
    has ``max_per_host`` replaces one of its own. All else being equal, resting connections give way last.

    If every other connection is busy, ``reserve`` more slots are given, marked ``is_reserved``: they are for short
    requests that must always be answered, and such a connection must be closed after one request. Beyond them, a new
    connection is refused.
    """

    def __init__(
        self,
        log: logging.Logger,
        max_open: int,
        max_idle: int,
        *,
        max_per_host: int | None = None,
        reserve: int = 0,
    ) -> None:
        self.open: set[ConnectionSlot] = set()
        self.idle: dict[ConnectionSlot, None] = {}  # the longest idle first
        self.resting: dict[ConnectionSlot, None] = {}  # likewise
        self.hosts: Counter[str] = Counter()  # the number of open connections by host
        self._max_open = max_open
        self._max_idle = max_idle
        self._max_per_host = max_open if max_per_host is None else max_per_host
        self._reserve = reserve
        self._dropped = _ThrottledWarning(log, "idle connections are dropped for new ones, the longest idle first")
        self._refused = _ThrottledWarning(log, "new connections are refused")

    def admit(self, host: str) -> ConnectionSlot | None:
        """A slot for a connection from ``host``; None if there is none."""
        if not self._has_room(host):
            idle_one = self._find_idle(host)
            if idle_one is not None:
                self._dropped.note(f"{len(self.idle) + len(self.resting)} are idle, {len(self.open)} are open", host)
                idle_one.drop()
            elif sum(slot.is_reserved for slot in self.open) >= self._reserve:
                self._refused.note(f"{len(self.open)} are open", host)
                return None
        is_full = len(self.open) >= self._max_open or self.hosts[host] >= self._max_per_host
        slot = ConnectionSlot(self, host, is_reserved=is_full)
        self.open.add(slot)
        self.idle[slot] = None
        self.hosts[host] += 1
        return slot

    def _has_room(self, host: str) -> bool:
        return (
            len(self.open) < self._max_open
            and len(self.idle) < self._max_idle
            and self.hosts[host] < self._max_per_host
        )

    def _find_idle(self, host: str) -> ConnectionSlot | None:
        """The slot that gives way to a connection from ``host``."""
        crowd = [*self.idle, *self.resting]
        if self.hosts[host] >= self._max_per_host:
            return next((slot for slot in crowd if slot.host == host), None)
        if len(self.idle) >= self._max_idle:
            crowd = [*self.idle]
        return max(crowd, key=lambda slot: self.hosts[slot.host], default=None)  # the first of equals


class _ThrottledWarning:
    """Warns about an event at once, then once per quiet period with the number of events."""

    def __init__(self, log: logging.Logger, event: str) -> None:
        self._log = log
        self._event = event
        self._times = 0
        self._logged_at = -math.inf

    def note(self, state: str, host: str) -> None:
        self._times += 1
        if trio.current_time() - self._logged_at < QUIET_PERIOD:
            return
        times = f", {self._times} since the last such line" if self._times > 1 else ""
        self._log.warning("%s: %s; the newest is from %s%s", self._event, state, host, times)
        self._times, self._logged_at = 0, trio.current_time()


class FailureLog:
    """Logs clients that cannot be served: one line per minute for each host and reason, at most 20 lines per minute.

    ``line`` takes the peer and the reason, ``more`` the number of failures that were not logged.
    """

    def __init__(
        self,
        log: logging.Logger,
        level: int = logging.WARNING,
        line: str = "TLS handshake with %s failed: %s",
        more: str = "%d more TLS handshakes failed in the same minute",
    ) -> None:
        self.log = log
        self._level = level
        self._line = line
        self._more = more
        self._logged: set[tuple[str, str]] = set()
        self._omitted = 0
        self._began = trio.current_time()

    def report(self, peer: Peer, reason: str) -> None:
        """Log one line, unless it would be one too many."""
        if trio.current_time() - self._began >= QUIET_PERIOD:
            self._begin_anew()
        failure = (peer.host, reason)
        if failure in self._logged or len(self._logged) >= MAX_FAILURE_LINES:
            self._omitted += 1
            return
        self._logged.add(failure)
        self.log.log(self._level, self._line, peer, reason)

    def _begin_anew(self) -> None:
        if self._omitted:
            self.log.log(self._level, self._more, self._omitted)
        self._logged.clear()
        self._omitted = 0
        self._began = trio.current_time()


async def complete_handshake(
    stream: trio.SSLStream[Any], peer: Peer, within: float, failures: FailureLog, *, alpn: str | None = None
) -> bool:
    """Do the server's side of a TLS handshake ``within`` seconds. False, and a line in ``failures``, if it fails.

    With ``alpn`` it also fails if the two sides did not agree on that application protocol. A client that connects and
    hangs up without sending a byte is not a failure: it is a probe that checks whether the port is open.
    """
    try:
        with trio.fail_after(within):
            if not await peek(stream.transport_stream, 1):
                failures.log.debug("%s connected, sent nothing and hung up", peer)
                return False
            await stream.do_handshake()
    except trio.TooSlowError:
        failures.report(peer, f"not complete within {within:g} s")
        return False
    except trio.BrokenResourceError as error:
        reason = _explain(error.__cause__)
        await _send_alert(stream)
        failures.report(peer, reason)
        return False
    if alpn is not None and stream.selected_alpn_protocol() != alpn:
        failures.report(peer, f"no agreement on the ALPN protocol {alpn}")
        return False
    return True


def starts_tls(data: bytes | bytearray) -> bool:
    """Whether the first bytes from a client begin a TLS handshake."""
    return data[:2] == b"\x16\x03"


async def peek(stream: trio.abc.Stream, size: int) -> bytes:
    """Wait for the client's first bytes and leave them unread. Empty if none will come.

    Only sockets can do this. For other streams it reports that something may come.
    """
    if not isinstance(stream, trio.SocketStream):
        return b"?"
    try:
        return await stream.socket.recv(size, socket.MSG_PEEK)
    except (OSError, trio.ClosedResourceError):
        return b""


_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client gave no certificate, and one is required",
    "HTTP_REQUEST": "the client speaks HTTP without TLS",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the client offers no version of TLS that is served",
}


def _explain(cause: BaseException | None) -> str:
    match cause:
        case None | ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "the client hung up; it may not trust this server's certificate"
        case ssl.SSLCertVerificationError():
            return f"the client's certificate is refused: {cause.verify_message}"
        case ssl.SSLError(reason=str(name)) if "_ALERT_" in name:  # such as TLSV1_ALERT_UNKNOWN_CA
            return f"the client refuses: {name.partition('_ALERT_')[2].replace('_', ' ').lower()}"
        case ssl.SSLError(reason=str(name)):
            return _REASONS.get(name, name.replace("_", " ").lower())
    return str(cause)


async def _send_alert(stream: trio.SSLStream[Any]) -> None:
    """Send the alert that OpenSSL has written. Trio leaves it unsent, and the client would see a broken connection."""
    alert = stream._outgoing.read()  # noqa: SLF001  # Trio offers no other way; docs/upstream.md
    with trio.move_on_after(_ALERT_TIMEOUT):
        try:
            await stream.transport_stream.send_all(alert)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
