# SPDX-License-Identifier: Apache-2.0
"""Takes connections from a listener, and from its backlog when it is time to stop."""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Callable
from typing import Any

import trio

_log = logging.getLogger(__name__)

# What accept() says when the machine, not the listener, is at its end; it gets better when connections close.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_PAUSE = 0.1

# A listener with connections in its backlog gives them out at once; after this many seconds without, it has none.
_LAST_CALL = 0.01

# Seconds for emptying the backlog in all: clients that keep connecting must not keep the server from its end.
_LAST_CALLS = 0.5


class Acceptor:
    """Hands every connection of ``listener`` to ``take``, which must not block."""

    def __init__(self, listener: trio.abc.Listener[Any], take: Callable[[trio.abc.Stream], None]) -> None:
        self._listener = listener
        self._take = take
        self._until_stopped = trio.CancelScope()
        self._exhausted = False

    async def run(self) -> None:
        """Accept until :meth:`stop`, empty the backlog, close the listener and return.

        The kernel tells clients that they are connected before anybody accepts them. Those in the backlog when a
        listening socket closes get a reset instead of an answer, so they are taken first, for half a second at most.
        """
        async with self._listener:
            with self._until_stopped:
                while True:
                    await self._accept_one()
            with trio.move_on_after(_LAST_CALLS):
                last_call = trio.CancelScope()
                while not last_call.cancelled_caught:
                    with trio.move_on_after(_LAST_CALL) as last_call:
                        await self._accept_one()

    def stop(self) -> None:
        """Let :meth:`run` come to its end."""
        self._until_stopped.cancel()

    async def _accept_one(self) -> None:
        try:
            transport = await self._listener.accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            if not self._exhausted:
                _log.error("no connection can be accepted: %s", os.strerror(error.errno))
            self._exhausted = True
            await trio.sleep(_EXHAUSTED_PAUSE)
        else:
            if self._exhausted:
                _log.info("connections are accepted again")
            self._exhausted = False
            self._take(transport)


# --- How many connections there may be, and which goes where there is no room: the one that has been silent
# longest.

# Seconds between two lines on the same matter: whoever opens a thousand connections must not fill the log as well.
_QUIET = 60.0


class ConnectionSlot:
    """One connection that is open; it waits for its client until it is told that the client has spoken."""

    def __init__(self, room: ConnectionLimiter, drop: Callable[[], None]) -> None:
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


class ConnectionLimiter:
    """Room for ``most`` connections, of which ``most_waiting`` may wait for their clients to speak.

    Who comes when it is full takes the place of the one that has waited longest, so that connections which say nothing,
    however many, keep nobody out. Only where all the others are busy the newcomer is turned away.
    """

    def __init__(self, log: logging.Logger, most: int, most_waiting: int) -> None:
        self.open: set[ConnectionSlot] = set()
        self.waiting: dict[ConnectionSlot, None] = {}
        self._most = most
        self._most_waiting = most_waiting
        self._dropped = _Tally(
            log, "connections that wait for their client to speak are dropped for new ones, oldest first"
        )
        self._refused = _Tally(log, "connections are turned away")

    def take(self, host: str, drop: Callable[[], None]) -> ConnectionSlot | None:
        """A place for a connection from ``host``, None if there is none; ``drop`` is called to let it go at once."""
        if len(self.open) >= self._most or len(self.waiting) >= self._most_waiting:
            if not self.waiting:
                self._refused.note(f"{len(self.open)} are open", host)
                return None
            self._dropped.note(f"{len(self.waiting)} wait, {len(self.open)} are open", host)
            oldest = next(iter(self.waiting))
            oldest.leave()
            oldest.drop()
        guest = ConnectionSlot(self, drop)
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
