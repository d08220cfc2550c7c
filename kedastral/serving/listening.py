# SPDX-License-Identifier: Apache-2.0
"""Opens the sockets that servers listen on, before anything else starts: a port in use is one clear error line.

It also says how many connections each server may have, so that they share the limit of open files, and how much memory
gRPC clients may take.
"""

import errno
import os
import resource
import socket
import sys
from contextlib import suppress
from pathlib import Path

import attrs

from kedastral.errors import BindError
from kedastral.settings.types import ListenAddress

BACKLOG = 1024
KEPT_FILES = (32, 256)
"""The fewest and most open files reserved for everything but the servers: own files, data sources, configuration."""

CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Where a container finds its memory limit, in cgroups v2 and v1."""
NO_LIMIT = 2**60
"""A limit of this many bytes or more means none: cgroups v1 write it as almost 2**63."""
GRPC_PART_OF_MEMORY = 4
"""gRPC clients may take one part in this many of the limit: Python, libraries, models and histories need the rest."""
GRPC_MEMORY = (16 * 2**20, 256 * 2**20)
"""The fewest and most bytes for that: 1,300 and 20,000 open calls."""
GRPC_MEMORY_WITHOUT_LIMIT = 128 * 2**20


@attrs.frozen
class ConnectionShares:
    """How many connections each server may have at once."""

    grpc: int
    http: int


def share_open_files(limit: int) -> ConnectionShares:
    """Share a ``limit`` of open files: a quarter is reserved, within `KEPT_FILES`; gRPC gets two thirds of the rest."""
    least, most = KEPT_FILES
    left = limit - min(max(limit // 4, least), most)
    http = max(left // 3, 1)
    return ConnectionShares(max(left - http, 1), http)


def limit_of_open_files() -> int:
    """The process's limit of open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def raise_limit_of_open_files() -> None:
    """Raise the process's limit of open files as far as allowed.

    Linux starts processes with 1,024 because of select(), which nothing here uses.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems refuse; then the current limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def share_of_memory(limit: int | None) -> int:
    """The bytes that all gRPC clients may hold together if the process has ``limit`` bytes, or no limit."""
    share = GRPC_MEMORY_WITHOUT_LIMIT if limit is None else limit // GRPC_PART_OF_MEMORY
    least, most = GRPC_MEMORY
    return min(max(share, least), most)


def limit_of_memory(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The process's memory limit in bytes: the container's by cgroups, v2 or v1, or RLIMIT_AS; None without any."""
    limits = [_read_limit(root / name) for name in CGROUP_LIMITS]
    of_addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits.append(None if of_addresses == resource.RLIM_INFINITY else of_addresses)
    return min((limit for limit in limits if limit is not None and 0 < limit < NO_LIMIT), default=None)


def _read_limit(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # another version of cgroups, or "max"
        return None


def open_listener(address: ListenAddress, setting: str) -> socket.socket:
    """Open a listening TCP socket. An empty host means all IPv4 and IPv6 addresses, on the same port even if it is 0.

    ``setting`` is what the user calls the address. Raises BindError.
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
    """The port that a socket listens on, also if any free one was requested."""
    port: int = listener.getsockname()[1]
    return port
