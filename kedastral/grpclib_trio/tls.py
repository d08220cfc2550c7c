# SPDX-License-Identifier: Apache-2.0
"""Agrees with a client on TLS and HTTP/2 before anything else is said, and says so once where that fails."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any

import trio

from kedastral.grpclib_trio.limits import Limits
from kedastral.grpclib_trio.transport import Peer

_log = logging.getLogger(__name__)

# Seconds in which the same failure of the same host is one line, and the most lines in that time: a client that
# tries again and again, or somebody who scans ports, must not fill the log.
_QUIET = 60.0
_MOST_LINES = 20

# Seconds for telling a client why it is not served; who does not listen finds out by the end of the connection.
_ALERT = 1.0

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client gave no certificate, and one is required",
    "HTTP_REQUEST": "the client speaks HTTP without TLS",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the client offers no version of TLS that is served",
}


def speaks_tls(data: bytes | bytearray) -> bool:
    """Whether the first bytes of a client begin a TLS handshake."""
    return data[:2] == b"\x16\x03"


class HandshakeError(Exception):
    """A client will not be served, its words say why; ``silent`` where it hung up before it had said anything."""

    def __init__(self, words: str, *, silent: bool = False) -> None:
        super().__init__(words)
        self.silent = silent


class FailureLog:
    """Tells of clients that cannot be talked to: once a minute for each host and reason, and of no more than 20."""

    line = "TLS handshake with %s failed: %s"
    more = "TLS handshakes failed %d times more in the same minute"
    level = logging.WARNING

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: set[tuple[object, str]] = set()
        self._untold = 0
        self._began = trio.current_time()

    def tell(self, peer: Peer, words: str) -> None:
        """One line with ``words``, unless it would be one too many."""
        if trio.current_time() - self._began >= _QUIET:
            self._begin_anew()
        what = (peer.host, words)
        if what in self._told or len(self._told) >= _MOST_LINES:
            self._untold += 1
            return
        self._told.add(what)
        self._log.log(self.level, self.line, peer, words)

    def _begin_anew(self) -> None:
        if self._untold:
            self._log.log(self.level, self.more, self._untold)
        self._told.clear()
        self._untold = 0
        self._began = trio.current_time()


class SilenceLog(FailureLog):
    """The same of clients that connect and do not speak HTTP/2."""

    line = "%s %s"
    more = "%d connections more in the same minute did not speak HTTP/2"
    level = logging.INFO


async def agree_on_http2(transport: trio.abc.Stream, peer: Peer, limits: Limits, failures: FailureLog) -> bool:
    """Do the TLS handshake if there is one to do; False, with one line in the log, if the client will not be served.

    Without TLS the client must know beforehand that HTTP/2 is spoken here, as gRPC clients do.
    """
    if not isinstance(transport, trio.SSLStream):
        return True
    try:
        await shake_hands(transport, limits.handshake_timeout)
        if transport.selected_alpn_protocol() != "h2":
            raise HandshakeError("no agreement on HTTP/2 (ALPN protocol h2)")
    except HandshakeError as error:
        tell_failure(error, peer, failures)
        return False
    return True


def tell_failure(error: HandshakeError, peer: Peer, failures: FailureLog) -> None:
    """One line; but a probe that only looks whether the port is open is no failure."""
    if error.silent:
        _log.debug("%s connected, said nothing and hung up", peer)
    else:
        failures.tell(peer, str(error))


async def shake_hands(transport: trio.SSLStream[Any], within: float) -> None:
    """Do the server's side of the handshake in ``within`` seconds; raises HandshakeError."""
    try:
        with trio.fail_after(within):
            if not await peek(transport.transport_stream, 1):
                raise HandshakeError("the client hung up", silent=True)
            await transport.do_handshake()
    except trio.TooSlowError:
        raise HandshakeError(f"not done within {within:g} s") from None
    except trio.BrokenResourceError as error:
        words = _words_of(error.__cause__)
        await _say_why(transport)
        raise HandshakeError(words) from error


async def peek(stream: trio.abc.Stream, size: int) -> bytes:
    """Wait for the client's first bytes, and leave them where they are; nothing where there will be none.

    Only sockets can do that; of other streams it says that something might come.
    """
    if not isinstance(stream, trio.SocketStream):
        return b"?"
    try:
        return await stream.socket.recv(size, socket.MSG_PEEK)
    except (OSError, trio.ClosedResourceError):
        return b""


def _words_of(reason: BaseException | None) -> str:
    match reason:
        case None | ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "the client hung up, as one does that does not trust our certificate"
        case ssl.SSLCertVerificationError():
            return f"the client's certificate is refused: {reason.verify_message}"
        case ssl.SSLError(reason=str(name)) if "_ALERT_" in name:  # such as TLSV1_ALERT_UNKNOWN_CA
            return f"the client refuses: {name.partition('_ALERT_')[2].replace('_', ' ').lower()}"
        case ssl.SSLError(reason=str(name)):
            return _REASONS.get(name, name.replace("_", " ").lower())
    return str(reason)


async def _say_why(transport: trio.SSLStream[Any]) -> None:
    """Send the alert that OpenSSL has written: Trio leaves it behind, and the client would see a broken connection."""
    alert = transport._outgoing.read()  # noqa: SLF001 - there is no other way to it
    with trio.move_on_after(_ALERT):
        try:
            await transport.transport_stream.send_all(alert)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
