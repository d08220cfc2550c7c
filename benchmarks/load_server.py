# SPDX-License-Identifier: Apache-2.0
"""Stands in for Prometheus' HTTP API: ``python -m benchmarks.load_server PORT``; any query has a load, at any time.

It is a separate process. ``/api/v1/query_range`` answers with a daily shape, shifted differently for each query, one
point per step, and refuses more than 11,000; ``/stats`` returns its request counts as JSON. It answers in about the
time that Prometheus takes for one series.
"""

import asyncio
import json
import math
import sys
import time
import zlib
from urllib.parse import parse_qs, urlsplit

import attrs

MOST_POINTS = 11_000
DAY = 1440
"""Minutes after which the shape repeats."""
SHAPE = [
    f"{500 + 300 * math.sin(2 * math.pi * i / DAY) + 40 * math.sin(i * 1.7) + 15 * math.sin(i * 0.31):.3f}"
    for i in range(DAY)
]


@attrs.define
class Stats:
    """Counts of the requests so far."""

    requests: int = 0
    points: int = 0
    refused: int = 0
    at_once: int = 0
    most_at_once: int = 0
    most_in_a_second: int = 0
    _second: int = 0
    _in_second: int = 0

    def note_begin(self) -> None:
        self.requests += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        second = int(time.monotonic())
        self._in_second = self._in_second + 1 if second == self._second else 1
        self._second = second
        self.most_in_a_second = max(self.most_in_a_second, self._in_second)


@attrs.frozen
class LoadServer:
    """Serves until cancelled."""

    stats: Stats = attrs.field(factory=Stats)

    async def serve(self, port: int) -> None:
        """Listen on ``port`` of 127.0.0.1."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", port, backlog=1000)
        async with server:
            await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                target = request.split(b" ", 2)[1].decode()
                status, body = await self._answer(target)
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, target: str) -> tuple[int, bytes]:
        url = urlsplit(target)
        if url.path == "/stats":
            return 200, json.dumps(attrs.asdict(self.stats)).encode()
        if url.path != "/api/v1/query_range":
            return 404, b"{}"
        self.stats.note_begin()
        try:
            await asyncio.sleep(0)
            return self._answer_range({name: values[0] for name, values in parse_qs(url.query).items()})
        finally:
            self.stats.at_once -= 1

    def _answer_range(self, asked: dict[str, str]) -> tuple[int, bytes]:
        start, end, step = (round(float(asked[name])) for name in ("start", "end", "step"))
        points = (end - start) // step + 1
        if points > MOST_POINTS:
            self.stats.refused += 1
            return 400, b'{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution"}'
        self.stats.points += points
        shift = zlib.crc32(asked["query"].encode()) % DAY
        values = ",".join([f'[{at},"{SHAPE[(at // 60 + shift) % DAY]}"]' for at in range(start, end + 1, step)])
        body = (
            f'{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{values}]}}]}}}}'
        )
        return 200, body.encode()


if __name__ == "__main__":
    asyncio.run(LoadServer().serve(int(sys.argv[1])))
