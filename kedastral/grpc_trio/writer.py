# SPDX-License-Identifier: Apache-2.0
"""The one task of a connection that writes to its transport."""

from __future__ import annotations

import trio


class Writer:
    """Collects bytes from everybody and sends them from a single task.

    Nothing else may call ``send_all``: two callers would collide, and one that is cancelled in the middle leaves
    half a frame on the wire. ``high_water`` is in bytes, ``timeout`` in seconds per write.
    """

    def __init__(self, transport: trio.abc.SendStream, high_water: int, timeout: float) -> None:
        self._transport = transport
        self._high_water = high_water
        self._timeout = timeout
        self._waiting = bytearray()
        self._in_flight = 0
        self._filled = trio.Event()
        self._sent = trio.Event()

    @property
    def backlog(self) -> int:
        """Bytes that were handed in and have not left yet."""
        return len(self._waiting) + self._in_flight

    def push(self, data: bytes) -> None:
        """Queue ``data``; never blocks. Who produces a lot awaits :meth:`wait_room` first."""
        if data:
            self._waiting += data
            self._filled.set()

    async def wait_room(self, tolerance: int = 1) -> None:
        """Return once the backlog is at most ``tolerance`` times the high-water mark."""
        # a full checkpoint per frame would cost more than the frame: the task yields when the buffer is full
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._wait_below(tolerance * self._high_water)

    async def wait_flushed(self) -> None:
        """Return once everything that was pushed has been handed to the transport."""
        await self._wait_below(0)

    async def _wait_below(self, size: int) -> None:
        while self.backlog > size:
            await self._sent.wait()

    async def run(self) -> None:
        """Write until cancelled.

        Raises ``trio.TooSlowError`` if the peer stopped reading, and what ``send_all`` raises if it is gone.
        """
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            data, self._waiting = self._waiting, bytearray()
            self._in_flight = len(data)
            with trio.fail_after(self._timeout):
                await self._transport.send_all(data)
            self._in_flight = 0
            sent, self._sent = self._sent, trio.Event()
            sent.set()
