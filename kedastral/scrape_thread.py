# SPDX-License-Identifier: Apache-2.0
"""A scrape may be written in a worker thread: whether it is, and how it reads there what belongs to Trio."""

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


def in_worker_thread() -> bool:
    """Whether this is a thread that Trio waits for."""
    if trio.lowlevel.in_trio_run():
        return False
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    return True


def look_from_here(look: Callable[[], T]) -> T:
    """What ``look`` gives, called where Trio's clock and the store may be read."""
    return trio.from_thread.run_sync(look) if in_worker_thread() else look()
