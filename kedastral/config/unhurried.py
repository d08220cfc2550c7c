# SPDX-License-Identifier: Apache-2.0
"""Reading a large configuration beside an event loop that answers KEDA: with rests, and without garbage collection."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

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
