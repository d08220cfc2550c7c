# SPDX-License-Identifier: Apache-2.0
"""Real Redis servers for tests: one, with a password, with TLS, with a replica and a Sentinel, and a cluster.

All listen on free ports of 127.0.0.1, keep their data in memory, and are stopped by the fixture that started them.
Starting blocks; from a test that runs Trio use a thread.
"""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest

from kedastral.adapters.redis import client, connection
from kedastral.adapters.redis.client import RedisLogin
from kedastral.adapters.redis.connection import RedisConnection
from kedastral.settings.commands import RunSettings
from kedastral.settings.load import load
from kedastral.tls import TlsFiles
from tests.certificates import Authority
from tests.integration.conftest import free_port, require_program
from tests.waiting import wait_for

NEEDED = {"WORKLOAD": "shop", "PROM_URL": "http://p:9090", "PROM_QUERY": "up"}
READY_WITHIN = 60.0
STOPPED_WITHIN = 10.0
PATIENCE = 60.0
BIND_ATTEMPTS = 10
SLOW = 0.2
"""Seconds by which `behind_a_slow_link` delays each direction."""
MAX_PORT = 55_535


def _free_redis_port() -> int:
    """A free port low enough for the port of a cluster's bus, which is 10,000 higher."""
    while (port := free_port()) > MAX_PORT:
        pass
    return port


def give_redis_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a connection long timeouts, for tests of what Redis answers and not of how soon."""
    monkeypatch.setattr(client, "ANSWER_WITHIN", PATIENCE)
    monkeypatch.setattr(connection, "ANSWER_WITHIN", PATIENCE)
    monkeypatch.setitem(client.POOL, "pool_timeout", PATIENCE)


@attrs.define
class RedisServer:
    """A ``redis-server`` with its own folder. ``flags`` are its options, ``ask`` those of redis-cli to reach it."""

    home: Path
    flags: Sequence[str] = ()
    ask: Sequence[str] = ()
    scheme: str = "redis"
    port: int = 0
    _running: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Its address; it stays the same over `stop` and `start`."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it empty, and return once it answers."""
        program = require_program("redis-server")
        self.home.mkdir(parents=True, exist_ok=True)
        for _ in range(BIND_ATTEMPTS):
            self.port = self.port or _free_redis_port()
            place = (
                ["--tls-port", str(self.port), "--port", "0"] if self.scheme == "rediss" else ["--port", str(self.port)]
            )
            flags = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.home), *place]
            with (self.home / "log").open("ab") as log:
                self._running = subprocess.Popen(
                    [program, *self._config(), *flags, *self.flags], stdout=log, stderr=log
                )
            try:
                wait_for(lambda: self._has_ended() or self.say("PING") == "PONG", "Redis answers", READY_WITHIN)
            except BaseException:
                self.stop()
                raise
            if not self._has_ended():
                return
            self._running = None
            if "Address already in use" not in (self.home / "log").read_text():
                raise AssertionError((self.home / "log").read_text())
            self.port = 0
        raise AssertionError(f"no free port in {BIND_ATTEMPTS} attempts")

    def _config(self) -> Sequence[str]:
        return ()

    def _has_ended(self) -> bool:
        return self._running is None or self._running.poll() is not None

    def stop(self) -> None:
        """End it at once; its data are lost. Stopping twice is fine."""
        if self._running is not None:
            self._running.send_signal(signal.SIGCONT)
            self._running.kill()
            self._running.wait(STOPPED_WITHIN)
            self._running = None

    def pause(self) -> None:
        """Stop it from answering; its connections stay open."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a `pause`."""
        assert self._running is not None
        self._running.send_signal(signal.SIGCONT)

    def say(self, *words: str) -> str:
        """The answer to a command; empty if there is none."""
        cli = shutil.which("redis-cli")
        assert cli is not None
        command = [cli, "-h", "127.0.0.1", "-p", str(self.port), *self.ask, *words]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=READY_WITHIN, check=False)
            return ended.stdout.strip()
        except subprocess.TimeoutExpired:
            return ""


@attrs.define
class SentinelServer(RedisServer):
    """A Sentinel; its configuration is a file, which it writes itself."""

    watched: int = 0
    down_after: int = 500
    """Milliseconds without an answer after which the primary counts as down."""

    def _config(self) -> Sequence[str]:
        path = self.home / "sentinel.conf"
        path.write_text(
            f"sentinel monitor fleet 127.0.0.1 {self.watched} 1\n"
            f"sentinel down-after-milliseconds fleet {self.down_after}\n"
            "sentinel failover-timeout fleet 2000\n"
        )
        return [str(path), "--sentinel"]


@attrs.define
class RedisPlace:
    """A way to run Redis: its address, its servers, and the environment variables with the login."""

    url: str
    servers: Sequence[RedisServer]
    login: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that a command needs to use it."""
        return {"STORAGE": "redis", "REDIS_URL": self.url, **self.login}

    def connect(self) -> RedisConnection:
        """A connection that `kedastral run` would make from those variables."""
        return RedisConnection(RedisLogin.of(load(RunSettings, {}, {**NEEDED, **self.env}).settings.storage.redis))


@contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    """Start servers, and stop them whatever happens."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        yield


@contextmanager
def plain(home: Path) -> Iterator[RedisPlace]:
    """One server."""
    server = RedisServer(home)
    with running(server):
        yield RedisPlace(f"{server.url}/1", [server])


@contextmanager
def behind_a_slow_link(home: Path) -> Iterator[RedisPlace]:
    """One server; each request and each answer takes `SLOW` seconds longer."""
    with plain(home) as place, socket.create_server(("127.0.0.1", 0)) as listener:
        [server] = place.servers

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                upstream = socket.create_connection(("127.0.0.1", server.port))
                for source, target in ((client, upstream), (upstream, client)):
                    threading.Thread(target=_pass_slowly, args=(source, target), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield attrs.evolve(place, url=f"redis://127.0.0.1:{listener.getsockname()[1]}/1")
        listener.shutdown(socket.SHUT_RDWR)


def _pass_slowly(source: socket.socket, target: socket.socket) -> None:
    with source, target:
        try:
            while data := source.recv(2**16):
                time.sleep(SLOW)
                target.sendall(data)
        except OSError:
            pass


@contextmanager
def on_a_socket(home: Path) -> Iterator[RedisPlace]:
    """One server, asked through a Unix socket."""
    path = Path("/tmp") / f"kedastral-{time.monotonic_ns()}.sock"  # a socket's path has at most 107 characters
    server = RedisServer(home, ["--unixsocket", str(path)])
    try:
        with running(server):
            yield RedisPlace(f"unix://{path}?db=1", [server])
    finally:
        path.unlink(missing_ok=True)  # a server that is killed leaves it


@contextmanager
def with_a_user(home: Path) -> Iterator[RedisPlace]:
    """One server with a single ACL user, with the permissions that docs/operations.md lists."""
    rights = "~kedastral:* +eval +evalsha +hello +@hash +@sortedset +pexpire +time"
    flags = f"--user kedastral on >open-sesame {rights} --user default on >other ~* +@all".split()
    server = RedisServer(home, flags, ["--pass", "other", "--no-auth-warning"])
    with running(server):
        yield RedisPlace(server.url, [server], {"REDIS_USERNAME": "kedastral", "REDIS_PASSWORD": "open-sesame"})


@contextmanager
def with_tls(home: Path) -> Iterator[RedisPlace]:
    """One server that asks its clients for a certificate."""
    authority = Authority(home / "tls")
    files = authority.issue("127.0.0.1")
    flags = [
        "--tls-cert-file",
        str(files.cert),
        "--tls-key-file",
        str(files.key),
        "--tls-ca-cert-file",
        str(authority.file),
    ]
    ask = ["--tls", "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(authority.file)]
    server = RedisServer(home, flags, ask, "rediss")
    with running(server):
        yield RedisPlace(server.url, [server], _tls_environment(files, authority))


def _tls_environment(files: TlsFiles, authority: Authority) -> dict[str, str]:
    return {
        "REDIS_CA_FILE": str(authority.file),
        "REDIS_CERT_FILE": str(files.cert),
        "REDIS_KEY_FILE": str(files.key),
    }


@contextmanager
def with_a_sentinel(home: Path, **settings: int) -> Iterator[RedisPlace]:
    """A primary, its replica, and a Sentinel that can promote the replica; in this order.

    ``settings`` are those of the Sentinel.
    """
    primary = RedisServer(home / "primary")
    with running(primary):
        replica = RedisServer(home / "replica", ["--replicaof", "127.0.0.1", str(primary.port)])
        sentinel = SentinelServer(home / "sentinel", watched=primary.port, **settings)
        with running(replica, sentinel):
            wait_for(lambda: "master_link_status:up" in replica.say("INFO", "replication"), "a replica", READY_WITHIN)
            wait_for(lambda: "num-slaves" in sentinel.say("SENTINEL", "MASTERS") and _knows_replica(sentinel),
                     "the Sentinel knows the replica", READY_WITHIN)  # fmt: skip
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/fleet"
            yield RedisPlace(url, [primary, replica, sentinel])


def _knows_replica(sentinel: RedisServer) -> bool:
    return "name" in sentinel.say("SENTINEL", "REPLICAS", "fleet")


@contextmanager
def as_a_cluster(home: Path) -> Iterator[RedisPlace]:
    """Three primaries with a third of the keys each."""
    flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "30000"]  # none may fail on a busy machine
    servers = [RedisServer(home / str(number), flags) for number in range(3)]
    with running(*servers):
        nodes = [f"127.0.0.1:{server.port}" for server in servers]
        cli = require_program("redis-cli")
        subprocess.run(
            [cli, "--cluster", "create", *nodes, "--cluster-yes"], check=True, capture_output=True, timeout=60
        )
        wait_for(lambda: all("cluster_state:ok" in server.say("CLUSTER", "INFO") for server in servers),
                 "the cluster is formed", READY_WITHIN)  # fmt: skip
        yield RedisPlace(f"redis+cluster://{nodes[0]},{nodes[1]}", servers)


PLACES: dict[str, Callable[[Path], AbstractContextManager[RedisPlace]]] = {
    "plain": plain,
    "socket": on_a_socket,
    "user": with_a_user,
    "tls": with_tls,
    # no unwanted failover: on a busy machine a primary may be silent for half a second
    "sentinel": partial(with_a_sentinel, down_after=30_000),
    "cluster": as_a_cluster,
}
"""Every way to run Redis that the settings know."""
