# SPDX-License-Identifier: Apache-2.0
"""Keeps the event loop responsive: one core serves a thousand workloads and still answers KEDA in milliseconds.

KEDA's timeout for a call is 3 s, and our budget is 20 ms. Everything that answers it runs on Trio's event loop, in one
thread, while other work of the process competes for the same interpreter. Four things can block it, each with a remedy:

- *Long work on the event loop* (a reload builds thousands of workloads) keeps every call waiting. It uses a
  `TimeSlice` to let others run after each millisecond.
- *Long work in a worker thread* (a forecast, a scrape, reading YAML) keeps the interpreter for Python's switch
  interval, 5 ms, each time the event loop wants it back, which happens several times per call. `prepare_interpreter`
  lowers that to 0.5 ms, and work that nobody waits for sleeps briefly now and then (`Pauses`, `with_pauses`).
- *Garbage collection* stops all threads, and a full collection visits every object of every workload.
  `prepare_interpreter` makes these rarer, and `without_garbage_collection` prevents them while a large configuration or
  answer is read.
- *Numpy's own threads* compete for the core with the thread that called them, and gain nothing on small matrices:
  `prepare_interpreter` turns them off.

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
"""Seconds that a computing thread keeps the interpreter when the event loop wants it; Python's default is 5 ms."""
FULL_COLLECTION_AFTER = 1000
"""Collections of the middle generation before a full one. Python's default is 10, which with a thousand workloads means
one every few seconds. A full one visits a quarter of a million objects and blocks all answers for a quarter of a
second. At 100 there was one a minute, which alone set the p99 of GetMetrics. Most garbage dies young; the rest, mainly
from closed connections, is a few megabytes by the next full one."""
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that numpy's linear algebra reads when it is loaded. Values already in the environment win."""
MAX_SLICE = 0.001
"""Seconds of work on the event loop before other tasks get a turn."""
STEPS_BEFORE_PAUSE, PAUSE = 20, 0.001
"""Steps of work in a worker thread (a document, a workload, a sample) before a pause, and its length in seconds."""


def prepare_interpreter() -> None:
    """Set up the interpreter for an event loop beside computing threads. Call it before numpy is loaded."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_AFTER)
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


@attrs.define
class TimeSlice:
    """Long work on the event loop, in slices of `MAX_SLICE`; call `pause` between its steps."""

    _began: float = attrs.field(factory=time.perf_counter, init=False)

    async def pause(self) -> None:
        """Let other tasks run if the slice is used up."""
        if time.perf_counter() - self._began >= MAX_SLICE:
            await trio.lowlevel.checkpoint()
            self._began = time.perf_counter()


Pause = Callable[[], None]
"""Called before each step of work in a thread."""


def no_pause() -> None:
    """The `Pause` of work without an event loop: commands that only read and print."""


@attrs.define
class Pauses:
    """The `Pause` of work beside an event loop: sleeps `PAUSE` seconds every `STEPS_BEFORE_PAUSE` calls."""

    _calls: int = attrs.field(default=0, init=False)

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % STEPS_BEFORE_PAUSE == 0:
            time.sleep(PAUSE)


def with_pauses(steps: Iterable[T]) -> Iterator[T]:
    """``steps``, with a pause before every `STEPS_BEFORE_PAUSE` of them. For worker threads."""
    for number, step in enumerate(steps):
        if number % STEPS_BEFORE_PAUSE == 0:
            time.sleep(PAUSE)
        yield step


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect no garbage in the block, in any thread.

    Many new objects would trigger one collection after another: half a second for 5,000 workloads. Use it to read data,
    which has no cycles and is freed without collection.
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
    """What ``read`` returns; it is called on the event loop, even from a worker thread."""
    return trio.from_thread.run_sync(read) if in_worker_thread() else read()
