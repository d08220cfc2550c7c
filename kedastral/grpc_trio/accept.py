# SPDX-License-Identifier: Apache-2.0
"""Takes connections from a listener, and from its backlog when it is time to stop."""

from __future__ import annotations

import errno
import logging
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
