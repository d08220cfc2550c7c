# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Prometheus' API, in a thread of the test: a constant load, or no answer."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class StandIn(ThreadingHTTPServer):
    """Answers range queries with ``load`` at every step; while ``silent`` is set it accepts requests without answering.

    From its start the load grows by ``growth`` a second.

    ``ranges`` are the first and the last point of each answer.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # with the default of five, one of many simultaneous clients waits for a second

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.load = 700.0
        self.growth = 0.0
        self.began = time.time()
        self.ranges: list[tuple[float, float]] = []
        self.silent = threading.Event()
        self.asked = threading.Event()
        self.ended = threading.Event()
        self.readings: list[tuple[float, str, str]] = []
        """The monotonic time, the query and the header Authorization of each request."""

    def load_at(self, moment: float) -> float:
        """The load at ``moment``, seconds since 1970."""
        return self.load + self.growth * max(moment - self.began, 0.0)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self.server.asked.set()
        if self.server.silent.is_set():
            self.server.ended.wait()
            return
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.ranges.append((float(asked["start"]), float(asked["end"])))
        self.server.readings.append((time.monotonic(), asked["query"], self.headers.get("Authorization", "")))
        body = json.dumps(answer_range(asked, self.server.load_at)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def answer_range(asked: dict[str, str], load_at: Callable[[float], float]) -> dict[str, object]:
    """The answer of Prometheus to ``asked``, for the load ``load_at`` each moment."""
    start, end, step = float(asked["start"]), float(asked["end"]), float(asked["step"])
    moments = [start + n * step for n in range(round((end - start) / step) + 1)]
    points = [[moment, str(load_at(moment))] for moment in moments]
    return {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": points}]}}


@contextmanager
def open_stand_in() -> Iterator[StandIn]:
    """A stand-in that serves while the block runs."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
