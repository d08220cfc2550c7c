# SPDX-License-Identifier: Apache-2.0
"""Linux namespaces for the suite: its own network, its own /etc/hosts, and processes that end with it."""

import itertools
import os
import subprocess
from pathlib import Path

SPACES = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
HOSTS = Path("/etc/hosts")
OUTSIDE = "10.99.0.1"
"""A non-loopback address on the loopback device: Kubernetes refuses loopback addresses as endpoints."""


def command() -> list[str]:
    """The command that runs another in new namespaces; without root, a user namespace gives root rights."""
    return ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), *SPACES, "--"]


def find_refusal() -> str:
    """Why the namespaces cannot be made here, or nothing."""
    try:
        tried = subprocess.run(
            [*command(), "ip", "link", "set", "lo", "up"], check=False, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        return str(error)
    return tried.stderr.strip() if tried.returncode else ""


class Sandbox:
    """The network of the namespaces that this process runs in: names of Services are addresses of loopback."""

    def __init__(self, folder: Path) -> None:
        self._hosts = folder / "hosts"
        self._hosts.write_text("127.0.0.1 localhost\n")
        for words in (
            ["ip", "link", "set", "lo", "up"],
            ["ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo"],
            ["mount", "--bind", str(self._hosts), str(HOSTS)],
        ):
            subprocess.run(words, check=True)
        self._numbers = itertools.count(1)

    def publish(self, port: int, *services: str) -> tuple[str, int]:
        """Resolve the names of each ``service.namespace`` to the returned address, at which to listen."""
        number = next(self._numbers)
        address = f"127.1.{number // 256}.{number % 256}"
        names = " ".join(f"{service}.svc {service}.svc.cluster.local" for service in services)
        with self._hosts.open("a") as file:  # written in place: a mounted file cannot be replaced
            file.write(f"{address} {names}\n")
        return address, port
