# SPDX-License-Identifier: Apache-2.0
"""How one core serves a thousand workloads and still answers KEDA in milliseconds: all of the event loop's fairness.

KEDA gives a call 3 s, and the budget of one is 20 ms. Everything that answers it runs on Trio's event loop, in one
thread, while other work of the same process wants the same interpreter. There are four ways to be unfair, and one
answer to each:

- *Long work on the event loop* (a reload builds thousands of workloads) keeps every call waiting. It takes a
  `TimeSlice` and lets others run after each millisecond.
- *Long work in a worker thread* (a forecast, a scrape, reading YAML) keeps the interpreter for Python's switch
  interval, 5 ms, each time the event loop wants it back, which one call does several times. `prepare_interpreter`
  makes that 0.5 ms; and work of which nobody waits for the result sleeps a moment now and again (`Rests`,
  `with_rests`).
- *Garbage collection* stops all threads, and a full one looks at every object of every workload. There are fewer full
  ones (`prepare_interpreter`), and none while a large configuration or answer is read (`without_garbage_collection`).
- *Numpy's own threads* compete for the core with the thread that called them, and gain nothing on small matrices:
  `prepare_interpreter` switches them off.

A scrape in a worker thread needs the store and Trio's clock, which belong to the event loop: `call_in_trio` reads them
there.
"""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import attrs
import trio

T = TypeVar("T")

SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread that computes keeps the interpreter when the event loop wants it; Python's own is 5 ms."""
FULL_COLLECTION_AFTER = 1000
"""Collections of the middle generation before a full one; Python's own is 10, which with a thousand workloads is one
every few seconds. A full one looks at a quarter of a million objects, and nobody is answered for a quarter of a second
meanwhile. At 100 there was one a minute, and that alone was the p99 of GetMetrics. Garbage nearly always dies young;
what does not, the remains of a connection above all, is some megabytes by then."""
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that numpy's linear algebra reads as it is loaded. What the environment already says wins."""
MAX_SLICE = 0.001
"""Seconds of work on the event loop before everybody else has a turn."""
STEPS_BEFORE_REST, REST = 20, 0.001
"""Steps of work in a worker thread (a document, a workload, a sample) before a rest, and the rest's seconds."""


def prepare_interpreter() -> None:
    """Set up the interpreter for an event loop beside computing threads; before numpy is loaded."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_AFTER)
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


@attrs.define
class TimeSlice:
    """Long work on the event loop, in slices of `MAX_SLICE`; call `rest` between any two of its steps."""

    _began: float = attrs.field(factory=time.perf_counter, init=False)

    async def rest(self) -> None:
        """Let the others run if the slice is used up."""
        if time.perf_counter() - self._began >= MAX_SLICE:
            await trio.lowlevel.checkpoint()
            self._began = time.perf_counter()


Rest = Callable[[], None]
"""Called before each step of work in a thread."""


def no_rest() -> None:
    """The `Rest` of work beside which there is no event loop: commands that only read and print."""


@attrs.define
class Rests:
    """The `Rest` of work beside an event loop: sleeps `REST` seconds every `STEPS_BEFORE_REST` calls."""

    _calls: int = attrs.field(default=0, init=False)

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % STEPS_BEFORE_REST == 0:
            time.sleep(REST)


def with_rests(steps: Iterable[T]) -> Iterator[T]:
    """``steps``, with a rest before every `STEPS_BEFORE_REST` of them; in a worker thread."""
    for number, step in enumerate(steps):
        if number % STEPS_BEFORE_REST == 0:
            time.sleep(REST)
        yield step


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect no garbage in the block, in any thread.

    Many new objects would set off one collection after the other: half a second for 5,000 workloads. For reading data,
    which has no cycles and is freed without.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def in_worker_thread() -> bool:
    """Whether this is a thread that Trio started and waits for."""
    if trio.lowlevel.in_trio_run():
        return False
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    return True


def call_in_trio(read: Callable[[], T]) -> T:
    """What ``read`` returns, called on the event loop also where this is a worker thread."""
    return trio.from_thread.run_sync(read) if in_worker_thread() else read()
