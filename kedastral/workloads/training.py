# SPDX-License-Identifier: Apache-2.0
"""Learning off the tick: a queue that works in threads, and a forecaster whose model learns there first."""

import logging
import math
from collections.abc import Callable
from datetime import datetime
from functools import partial

import attrs
import trio

from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.planning.status import learning_from
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Forecaster
from kedastral.core.series import Series
from kedastral.errors import ModelError, NotFittedError

PATIENCE = 1.0
"""Seconds that a tick waits for its own learning where no other waits in the queue: a lone workload's first forecast
then comes with its first tick."""

log = logging.getLogger("kedastral.forecaster")

Learn = Callable[[Series, datetime, int], UncertaintyState]
"""Teaches a model the history up to a moment, to forecast that many steps, and says how far off it would have been; it
is slow, and run in a thread."""


@attrs.define(eq=False)
class TrainingJob:
    """One piece of learning: its ``outcome`` or its ``failure`` once it is ``done``; neither where it was dropped."""

    learn: Callable[[], UncertaintyState]
    done: trio.Event = attrs.field(factory=trio.Event)
    wanted: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    outcome: UncertaintyState | None = None
    failure: ModelError | None = None


@attrs.define(eq=False)
class TrainingQueue:
    """Lessons wait here for one of ``slots``, first come first served: a thousand workloads do not learn at once.

    Nothing is learnt while `run` is not running.
    """

    slots: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))
    _waiting: int = attrs.field(default=0, init=False)
    _lessons: tuple[trio.MemorySendChannel[TrainingJob], trio.MemoryReceiveChannel[TrainingJob]] = attrs.field(
        factory=lambda: trio.open_memory_channel[TrainingJob](math.inf), init=False
    )

    @property
    def is_idle(self) -> bool:
        """Whether a lesson put now would begin at once."""
        return max(self._waiting, self.slots.borrowed_tokens) < self.slots.total_tokens  # a dropped one may go on

    def put(self, lesson: TrainingJob) -> None:
        """Have ``lesson`` learnt in its turn."""
        self._waiting += 1
        self._lessons[0].send_nowait(lesson)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Learn until cancelled; a lesson that fails says so, and nothing leaves here."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for lesson in self._lessons[1].clone():
                nursery.start_soon(self._learn, lesson)

    async def _learn(self, lesson: TrainingJob) -> None:
        try:
            with lesson.wanted:
                # abandoned when dropped, or when the process stops: it may then be in the middle of its work
                lesson.outcome = await trio.to_thread.run_sync(lesson.learn, limiter=self.slots, abandon_on_cancel=True)
        except ModelError as error:
            lesson.failure = error
        except Exception as error:  # noqa: BLE001 - whatever a model raises is an error of that model
            lesson.failure = ModelError(f"learning raised {type(error).__name__}: {error}", reason="exception")
            lesson.failure.__cause__ = error
        finally:
            self._waiting -= 1
            lesson.done.set()


@attrs.define(eq=False)
class TrainedForecaster:
    """Learns in ``queue`` where ``forecaster`` says that it must; until then the last value stands in.

    While a lesson is under way the model is not asked, since it is being changed.
    """

    forecaster: Forecaster
    learn: Learn
    queue: TrainingQueue
    _lesson: TrainingJob | None = attrs.field(default=None, init=False)
    _learnt: UncertaintyState | None = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """The forecaster's own name."""
        return self.forecaster.name

    def learnt(self) -> UncertaintyState | None:
        """What the newest lesson told of the model's uncertainty; None before the first."""
        return self._learnt

    def drop_lesson(self) -> None:
        """Have nothing learnt any more: nobody will ask for a forecast. What has begun ends by itself, for nothing."""
        if self._lesson is not None:
            self._lesson.wanted.cancel()

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Forecaster.forecast`; raises the ModelError of a lesson that failed, once."""
        if self._lesson is None:
            try:
                return await self.forecaster.forecast(history, made_at, steps)
            except NotFittedError:
                await self._begin_lesson(history, made_at, steps)
        if self._ended_lesson():
            try:
                return await self.forecaster.forecast(history, made_at, steps)
            except NotFittedError:
                log.debug("what was learnt does not suit the history any more, and is learnt anew")
        return fallback_forecast(history, made_at, steps, learning_from(history))

    async def _begin_lesson(self, history: Series, made_at: datetime, steps: int) -> None:
        self._lesson = TrainingJob(partial(self.learn, history, made_at, steps))
        alone = self.queue.is_idle
        self.queue.put(self._lesson)
        if alone:
            with trio.move_on_after(PATIENCE):
                await self._lesson.done.wait()

    def _ended_lesson(self) -> bool:
        """Whether the lesson under way has ended; raises what it failed with."""
        lesson = self._lesson
        if lesson is None or not lesson.done.is_set():
            return False
        self._lesson = None
        if lesson.failure is not None:
            raise lesson.failure
        self._learnt = lesson.outcome
        return True
