# SPDX-License-Identifier: Apache-2.0
"""Proxies between programs: `Service`, whose pods come and go; `Disturbance`, on the way to Prometheus."""

import itertools
import json
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

PIECE = 65536


class Service:
    """Passes each new connection to the next of its pods, as a Service does; existing ones stay where they are."""

    def __init__(self, listen: tuple[str, int]) -> None:
        self._pods: list[tuple[str, int]] = []
        self._turn = itertools.count()
        self._listener = socket.create_server(listen)
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, *pods: tuple[str, int]) -> None:
        """From now on new connections go to ``pods``."""
        self._pods = list(pods)

    def close(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        pods = self._pods
        with client:
            try:
                pod = socket.create_connection(pods[next(self._turn) % len(pods)], timeout=5)
            except (OSError, ZeroDivisionError):
                return
            pod.settimeout(None)
            with pod, suppress(OSError):
                _couple(client, pod)


def _couple(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways until either side ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                piece = key.fileobj.recv(PIECE)
                if not piece:
                    return
                key.data.sendall(piece)


class Disturbance:
    """A proxy of a Prometheus that delays answers by ``delay`` seconds; ``partial`` ones have half the values."""

    def __init__(self, url: str) -> None:
        self.delay = 0.0
        self.partial = False
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body of the answer to GET ``path``."""
        time.sleep(self.delay)
        try:
            answer = self._client.get(path)
        except httpx.TransportError:
            return 502, b""
        if not self.partial or not answer.is_success:
            return answer.status_code, answer.content
        document = answer.json()
        document["isPartial"] = True
        for series in document["data"]["result"]:
            _halve(series)
        return answer.status_code, json.dumps(document).encode()


def _halve(series: dict[str, Any]) -> None:
    pairs: Sequence[list[Any]] = series["values"] if "values" in series else [series["value"]]
    for pair in pairs:
        pair[1] = str(float(pair[1]) / 2)


@contextmanager
def disturb(url: str) -> Iterator[tuple[Disturbance, str]]:
    """A `Disturbance` before the Prometheus at ``url``, and its own URL."""
    disturbance = Disturbance(url)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = disturbance.answer(self.path)
            with suppress(OSError):  # the client may be gone
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        host, port = server.server_address[:2]
        yield disturbance, f"http://{host!s}:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        disturbance.close()
