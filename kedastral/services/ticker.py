# SPDX-License-Identifier: Apache-2.0
"""The ticker: beats on Trio's clock that never drift, never overlap, and are skipped when missed."""

import math
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio


def _ignore(_missed: int) -> None:
    pass


async def run_ticker(
    tick: Callable[[], Awaitable[object]], interval: float, on_missed: Callable[[int], None] = _ignore
) -> NoReturn:
    """Await ``tick()`` at once and then at every whole multiple of ``interval`` seconds, until cancelled.

    Beats lie on a fixed grid from the start: a tick that takes long does not move those after it. While one runs none
    begins; the beats it covers are skipped, and ``on_missed`` is told how many. Whatever ``tick`` raises leaves here.
    """
    origin = trio.current_time()
    beat = 0
    while True:
        await trio.sleep_until(origin + beat * interval)
        await tick()
        due = math.floor((trio.current_time() - origin) / interval) + 1
        if due > beat + 1:
            on_missed(due - beat - 1)
        beat = max(due, beat + 1)
