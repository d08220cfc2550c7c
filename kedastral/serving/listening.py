# SPDX-License-Identifier: Apache-2.0
"""Opens the sockets that servers listen on, before anything else starts: a port in use is one clear error line."""

import errno
import os
import socket

from kedastral.errors import BindError
from kedastral.settings.types import ListenAddress

BACKLOG = 1024


def open_listener(address: ListenAddress, setting: str) -> socket.socket:
    """Open a listening TCP socket. An empty host means all IPv4 and IPv6 addresses, on the same port even if it is 0.

    ``setting`` is how the user sets the address. Raises BindError.
    """
    try:
        if not address.host and socket.has_dualstack_ipv6():
            listener = _listen_on_everything(address.port)
        else:
            listener = _listen_on(address.host or "0.0.0.0", address.port)  # noqa: S104 - what an empty host asks for
    except (OSError, UnicodeError) as error:  # a host name that DNS could not hold is a UnicodeError
        words = _words_of(error).lower()
        raise BindError(f"cannot listen on {address}: {words}; set another address with {setting}") from error
    listener.setblocking(False)
    return listener


def _words_of(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "no host can have that name"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


def _listen_on_everything(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EADDRINUSE):
            raise
        return _listen_on("0.0.0.0", port)  # noqa: S104 - IPv6 is switched off on this machine


def _listen_on(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, at = found[0]
    return socket.create_server(at[:2], family=family, backlog=BACKLOG)


def describe_listener(listener: socket.socket) -> str:
    """Where a socket listens, as ``host:port``; an empty host is every address."""
    host, port = listener.getsockname()[:2]
    return str(ListenAddress("" if host in ("::", "0.0.0.0") else host, port))  # noqa: S104 - compared, not bound


def port_of(listener: socket.socket) -> int:
    """The port a socket listens on, also where any free one was asked for."""
    port: int = listener.getsockname()[1]
    return port
