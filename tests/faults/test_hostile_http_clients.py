# SPDX-License-Identifier: Apache-2.0
"""Clients that overload the HTTP server of a real process: probes and KEDA are still answered, in little memory."""

import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from tests.process.raw_grpc import SERVICE
from tests.process.running import ANY_PORT, QUICK, ProcessInput
from tests.process.stand_in import StandIn, open_stand_in
from tests.waiting import PATIENCE

pytestmark = pytest.mark.faults

KEDA_WAITS = 3.0
"""KEDA's timeout of a call in seconds."""
PROBE_WAITS = 5.0
"""Timeout of a probe in seconds: the kubelet allows one, but on a less busy machine."""
MOST_MEMORY = 200
"""MiB."""
PAUSE = 0.5
"""Seconds until rejected clients return: a crowd without a pause takes the whole core, whatever is answered."""
GOOD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def prometheus() -> Iterator[StandIn]:
    with open_stand_in() as server:
        yield server


def run(prometheus: StandIn) -> ProcessInput:
    source = {"--workload": "shop", "--prom-url": prometheus.url, "--prom-query": "up", "--target-per-pod": "100"}
    return ProcessInput("run", {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, **source, **QUICK})


@attrs.define
class Crowd:
    """``size`` connections to ``port`` that send ``words``, read nothing, and reconnect when they are closed."""

    port: int
    size: int
    words: bytes
    closed: int = 0
    is_there: threading.Event = attrs.field(factory=threading.Event)
    """Set once all of them have connected and half were rejected: the server is full."""
    _over: threading.Event = attrs.field(factory=threading.Event)

    def run(self) -> None:
        ends, clients = select.poll(), {}
        while not self._over.is_set():
            while len(clients) < self.size:
                client = socket.create_connection(("127.0.0.1", self.port))
                client.setblocking(False)
                with suppress(OSError):
                    client.send(self.words)
                ends.register(client, select.POLLRDHUP)
                clients[client.fileno()] = client
            time.sleep(PAUSE)
            for number, _ in ends.poll(50):
                ends.unregister(number)
                clients.pop(number).close()
                self.closed += 1
            if self.closed >= self.size // 2:
                self.is_there.set()
        for client in clients.values():
            client.close()

    def leave(self) -> None:
        self._over.set()


@contextmanager
def attacking(port: int, size: int, words: bytes) -> Iterator[Crowd]:
    crowd = Crowd(port, size, words)
    thread = threading.Thread(target=crowd.run)
    thread.start()
    try:
        assert crowd.is_there.wait(PATIENCE), "not all of them have come"
        yield crowd
    finally:
        crowd.leave()
        thread.join()


def probe(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PROBE_WAITS) as client:
        client.sendall(GOOD)
        answer = b""
        with suppress(ConnectionResetError):
            while chunk := client.recv(4096):
                answer += chunk
        return answer


@contextmanager
def keda(port: int) -> Iterator[Callable[[], int]]:
    """KEDA's call, on the one connection that it keeps."""
    ref = pb.ScaledObjectRef(name="web", namespace="prod")
    request = pb.GetMetricsRequest(scaledObjectRef=ref, metricName="desired_replicas")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"{SERVICE}GetMetrics",
            request_serializer=pb.GetMetricsRequest.SerializeToString,
            response_deserializer=pb.GetMetricsResponse.FromString,
        )
        yield lambda: call(request, timeout=KEDA_WAITS, wait_for_ready=True).metricValues[0].metricValue


def peak_memory(process: ProcessInput) -> int:
    """MiB."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.parametrize("words", [b"GET /metr", b""], ids=["half a request", "silent"])
def test_clients_that_ask_nothing_and_come_again_keep_neither_the_probes_nor_keda_out(
    prometheus: StandIn, words: bytes
) -> None:
    with run(prometheus) as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        process.wait_for_log("forecast")
        with attacking(http_port, 700, words) as crowd, keda(grpc_port) as ask:
            for _ in range(20):
                assert probe(http_port).startswith(b"HTTP/1.1 200 ")
                assert ask() > 0
        assert crowd.closed > 0
        assert peak_memory(process) < MOST_MEMORY


def test_with_few_files_silent_connections_to_one_port_leave_the_other_open(prometheus: StandIn) -> None:
    with run(prometheus) as process:
        resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (64, 64))  # it has hardly started to load
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        with attacking(http_port, 100, b""), keda(grpc_port) as ask:
            for _ in range(20):
                assert ask() > 0
                assert probe(http_port).startswith(b"HTTP/1.1 200 ")
        with attacking(grpc_port, 100, b""):
            for _ in range(20):
                assert probe(http_port).startswith(b"HTTP/1.1 200 ")
            with keda(grpc_port) as ask:
                assert ask() > 0
        assert "no connection can be accepted" not in "".join(process.lines)
