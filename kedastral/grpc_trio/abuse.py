# SPDX-License-Identifier: Apache-2.0
"""Counts the cheap things a peer can ask for without end, and says when it is enough."""

from __future__ import annotations

from collections.abc import Callable

import trio

from kedastral.grpc_trio.limits import Limits


class AbuseError(Exception):
    """The peer did something more often than any honest client; its connection has to end."""


class AbuseMeter:
    """What one connection's peer did in the current window of ``limits.abuse_window`` seconds.

    Windows follow each other without overlap: at worst a peer gets twice the limit around a border, for which
    the meter needs a few integers instead of a history that an attacker could grow. ``count_open`` tells how many
    streams are open now.
    """

    def __init__(self, limits: Limits, count_open: Callable[[], int]) -> None:
        self._limits = limits
        self._count_open = count_open
        self._frames_sent = 0
        self._most_open = 0
        self._begin_window()

    def count_opening(self) -> None:
        """Note that a stream was opened: everything that is open together may later be reset together."""
        self._roll()
        self._most_open = max(self._most_open, self._count_open())

    def count_reset(self) -> None:
        """Note a stream that ended by RST_STREAM, or was refused."""
        self._roll()
        self._resets += 1
        if self._resets > self._limits.max_resets + self._most_open:
            raise AbuseError(f"{self._resets} streams reset within {self._limits.abuse_window:g} s")

    def count_ping(self, frames_sent: int) -> None:
        """Note a PING; ``frames_sent`` is the number of HEADERS and DATA frames ever sent to the peer."""
        self._roll()
        if frames_sent != self._frames_sent:
            self._frames_sent, self._pings = frames_sent, 0
        self._pings += 1
        if self._pings > self._limits.max_pings:
            raise AbuseError(f"{self._pings} PINGs in a row within {self._limits.abuse_window:g} s")

    def count_idle_frame(self) -> None:
        """Note a frame that costs work and carries nothing."""
        self._roll()
        self._idle_frames += 1
        if self._idle_frames > self._limits.max_idle_frames:
            raise AbuseError(f"{self._idle_frames} empty frames within {self._limits.abuse_window:g} s")

    def _roll(self) -> None:
        if trio.current_time() - self._since >= self._limits.abuse_window:
            self._begin_window()

    def _begin_window(self) -> None:
        self._since = trio.current_time()
        self._most_open = self._count_open()
        self._resets = self._pings = self._idle_frames = 0
