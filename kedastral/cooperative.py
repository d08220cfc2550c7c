# SPDX-License-Identifier: Apache-2.0
"""Reading a large configuration beside an event loop that answers KEDA: with rests, and without garbage collection."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import attrs
import trio

AT_ONCE, REST = 20, 0.001
"""Documents that are read before a rest, and its seconds."""

Rest = Callable[[], None]
"""Is called before each document."""


def no_rest() -> None:
    """For those whom nobody waits for."""


@attrs.define
class Rests:
    """Leaves the interpreter to the others for a moment, now and again."""

    _calls: int = attrs.field(default=0, init=False)

    def __call__(self) -> None:
        """Rest, if it is time to."""
        self._calls += 1
        if self._calls % AT_ONCE == 0:
            time.sleep(REST)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile, in any thread.

    So many new objects would set off one after the other, each over all that the process holds, and nobody else runs
    while it lasts: half a second for 5,000 workloads. What is read has no cycles, and goes without.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# --- A scrape may be written in a worker thread: whether it is, and how it reads there what belongs to Trio.

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
