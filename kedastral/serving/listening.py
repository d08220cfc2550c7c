# SPDX-License-Identifier: Apache-2.0
"""Opens the sockets that servers listen on, before anything else starts: a port in use is one clear error line.

And it says how many connections each server may have, so that they share the limit of open files.
"""

import errno
import os
import resource
import socket
import sys
from contextlib import suppress

import attrs

from kedastral.errors import BindError
from kedastral.settings.types import ListenAddress

BACKLOG = 1024
KEPT_FILES = (32, 256)
"""The fewest and the most open files that are kept for all but the servers: the own, data sources, configuration."""


@attrs.frozen
class ConnectionShares:
    """Connections that each server may have at once."""

    grpc: int
    http: int


def share_open_files(limit: int) -> ConnectionShares:
    """Share a ``limit`` of open files: a quarter is kept, within `KEPT_FILES`, and gRPC has two thirds of the rest."""
    least, most = KEPT_FILES
    left = limit - min(max(limit // 4, least), most)
    http = max(left // 3, 1)
    return ConnectionShares(max(left - http, 1), http)


def limit_of_open_files() -> int:
    """The process's limit of open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def raise_limit_of_open_files() -> None:
    """Raise the process's limit of open files as far as it may.

    Linux starts processes with 1,024 for the sake of select(), which nothing here uses.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems refuse; then the limit in force is what there is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
