# SPDX-License-Identifier: Apache-2.0
"""How many connections there may be, and which goes where there is no room: the one that has been silent longest."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import trio

# Seconds between two lines on the same matter: whoever opens a thousand connections must not fill the log as well.
_QUIET = 60.0


class Guest:
    """One connection that is open; it waits for its client until it is told that the client has spoken."""

    def __init__(self, room: Room, drop: Callable[[], None]) -> None:
        self._room = room
        self.drop = drop

    def hear(self) -> None:
        """The client has said what it wants: the connection stays until :meth:`leave`."""
        self._room.waiting.pop(self, None)

    def wait(self) -> None:
        """The client has been answered and may say something else, as one of many that may."""
        if self in self._room.open:
            self._room.waiting[self] = None

    def leave(self) -> None:
        """The connection is closed."""
        self._room.open.discard(self)
        self._room.waiting.pop(self, None)


class Room:
    """Room for ``most`` connections, of which ``most_waiting`` may wait for their clients to speak.

    Who comes when it is full takes the place of the one that has waited longest, so that connections which say nothing,
    however many, keep nobody out. Only where all the others are busy the newcomer is turned away.
    """

    def __init__(self, log: logging.Logger, most: int, most_waiting: int) -> None:
        self.open: set[Guest] = set()
        self.waiting: dict[Guest, None] = {}
        self._most = most
        self._most_waiting = most_waiting
        self._dropped = _Tally(
            log, "connections that wait for their client to speak are dropped for new ones, oldest first"
        )
        self._refused = _Tally(log, "connections are turned away")

    def take(self, host: str, drop: Callable[[], None]) -> Guest | None:
        """A place for a connection from ``host``, None if there is none; ``drop`` is called to let it go at once."""
        if len(self.open) >= self._most or len(self.waiting) >= self._most_waiting:
            if not self.waiting:
                self._refused.note(f"{len(self.open)} are open", host)
                return None
            self._dropped.note(f"{len(self.waiting)} wait, {len(self.open)} are open", host)
            oldest = next(iter(self.waiting))
            oldest.leave()
            oldest.drop()
        guest = Guest(self, drop)
        self.open.add(guest)
        self.waiting[guest] = None
        return guest


class _Tally:
    """Tells of something at once, and then once a minute how often it was."""

    def __init__(self, log: logging.Logger, words: str) -> None:
        self._log = log
        self._words = words
        self._times = 0
        self._told_at = -math.inf

    def note(self, state: str, host: str) -> None:
        self._times += 1
        if trio.current_time() - self._told_at < _QUIET:
            return
        times = f", {self._times} since the last such line" if self._times > 1 else ""
        self._log.warning("%s: %s; the newest is from %s%s", self._words, state, host, times)
        self._times, self._told_at = 0, trio.current_time()
