# SPDX-License-Identifier: Apache-2.0
"""Learning off the tick: the last value stands in until a lesson is over, and lessons wait for each other."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import attrs
import pytest
import trio
import trio.testing

from kedastral.adapters.in_process import InferenceOnly, InProcessForecaster
from kedastral.core.forecast import Forecast
from kedastral.core.planning.status import OK, ForecastStatus, StatusCode
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.series import Series
from kedastral.errors import ModelError, NotFittedError
from kedastral.models.auto import AutoModel
from kedastral.workloads.training import TrainedForecaster, TrainingQueue
from tests.parts import START, make_history

HISTORY = make_history(*range(100, 150))
LEARNING = ForecastStatus(StatusCode.LEARNING, "learning from 50 min of history")


@attrs.define
class Pupil:
    """Forecasts 7 once it has learnt; its lessons last until ``may_end`` is set, and end as ``ending`` says."""

    may_end: threading.Event = attrs.field(factory=threading.Event)
    ending: Callable[[], UncertaintyState] = UncertaintyState
    name: str = "pupil"
    lessons: int = 0
    knows: bool = False

    def learn(self, _history: Series, _made_at: datetime, _steps: int) -> UncertaintyState:
        self.lessons += 1
        assert self.may_end.wait(10)
        outcome = self.ending()
        self.knows = True
        return outcome

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        if not self.knows:
            raise NotFittedError("not yet", reason="learning")
        return Forecast(made_at, history.step, [7.0] * steps)


@asynccontextmanager
async def running(queue: TrainingQueue) -> AsyncIterator[TrainingQueue]:
    async with trio.open_nursery() as nursery:
        await nursery.start(queue.run)
        yield queue
        nursery.cancel_scope.cancel()


def taught(pupil: Pupil, queue: TrainingQueue) -> TrainedForecaster:
    return TrainedForecaster(pupil, pupil.learn, queue)


async def ask(forecaster: TrainedForecaster) -> Forecast:
    return await forecaster.forecast(HISTORY, START, 3)


async def ask_until_learnt(forecaster: TrainedForecaster) -> Forecast:
    with trio.fail_after(10):
        while not (made := await ask(forecaster)).status.is_ok:  # noqa: ASYNC110
            await trio.sleep(0.001)  # as the ticks of a workload come
    return made


async def test_until_a_lesson_is_over_the_last_value_stands_in_and_then_the_model_forecasts() -> None:
    pupil, busy = Pupil(), Pupil()
    async with running(TrainingQueue()) as queue:
        await ask_briefly(taught(busy, queue))  # so that nobody waits for the pupil
        forecaster = taught(pupil, queue)

        made = await ask(forecaster)
        assert (made.values.tolist(), made.status) == ([149.0] * 3, LEARNING)
        assert (await ask(forecaster)).status == LEARNING
        assert forecaster.learnt() is None

        busy.may_end.set()
        pupil.may_end.set()
        made = await ask_until_learnt(forecaster)
        assert (made.values.tolist(), made.status) == ([7.0] * 3, OK)
        assert forecaster.learnt() == UncertaintyState()
        assert pupil.lessons == 1


async def ask_briefly(forecaster: TrainedForecaster) -> None:
    """Have a lesson begin, without the patience of one who is alone."""
    with trio.move_on_after(0):
        await ask(forecaster)


async def test_whoever_learns_alone_has_the_forecast_at_once() -> None:
    pupil = Pupil()
    pupil.may_end.set()
    async with running(TrainingQueue()) as queue:
        assert (await ask(taught(pupil, queue))).status == OK


async def test_lessons_wait_for_a_slot_in_their_order() -> None:
    first, second = Pupil(), Pupil()
    async with running(TrainingQueue(trio.CapacityLimiter(1))) as queue:
        forecasters = [taught(first, queue), taught(second, queue)]
        await ask_briefly(forecasters[0])
        assert not queue.is_idle
        await ask(forecasters[1])
        await trio.testing.wait_all_tasks_blocked()
        assert second.lessons == 0
        second.may_end.set()
        first.may_end.set()
        for forecaster in forecasters:
            await ask_until_learnt(forecaster)
        assert (first.lessons, second.lessons) == (1, 1)
        assert queue.is_idle


async def test_a_lesson_that_fails_is_a_model_error_once_and_is_tried_again() -> None:
    def fail() -> UncertaintyState:
        raise ZeroDivisionError("in the lesson")

    pupil = Pupil(ending=fail)
    pupil.may_end.set()
    async with running(TrainingQueue()) as queue:
        forecaster = taught(pupil, queue)
        with pytest.raises(ModelError, match="learning raised ZeroDivisionError: in the lesson") as caught:
            await ask(forecaster)
        assert caught.value.reason == "exception"
        pupil.ending = UncertaintyState
        assert (await ask(forecaster)).status == OK
        assert pupil.lessons == 2


async def test_auto_learns_here_and_forecasts_as_it_would_by_itself() -> None:
    model = AutoModel()

    def learn(history: Series, made_at: datetime, steps: int) -> UncertaintyState:
        model.learn(history, made_at, steps)
        return UncertaintyState()

    async with running(TrainingQueue()) as queue:
        forecaster = TrainedForecaster(InProcessForecaster(InferenceOnly(model), trio.CapacityLimiter(1)), learn, queue)
        assert await ask_until_learnt(forecaster) == AutoModel().forecast(HISTORY, START, 3)


async def test_the_lessons_of_workloads_that_are_gone_are_not_learnt() -> None:
    first, gone, last = Pupil(), Pupil(), Pupil()
    async with running(TrainingQueue(trio.CapacityLimiter(1))) as queue:
        forecasters = [taught(pupil, queue) for pupil in (first, gone, last)]
        for forecaster in forecasters:
            await ask_briefly(forecaster)
        await trio.testing.wait_all_tasks_blocked()
        forecasters[1].drop_lesson()
        await trio.testing.wait_all_tasks_blocked()
        assert queue.slots.statistics().tasks_waiting == 1, "nothing of it is kept"
        first.may_end.set()
        last.may_end.set()
        await ask_until_learnt(forecasters[2])
        assert [pupil.lessons for pupil in (first, gone, last)] == [1, 0, 1]
        assert queue.is_idle
        assert (await ask(forecasters[1])).status == LEARNING, "whoever asks all the same learns anew"


async def test_a_lesson_that_is_dropped_half_way_keeps_its_slot_until_it_has_ended() -> None:
    gone, after = Pupil(), Pupil()
    after.may_end.set()
    async with running(TrainingQueue(trio.CapacityLimiter(1))) as queue:
        forecasters = [taught(gone, queue), taught(after, queue)]
        await ask_briefly(forecasters[0])
        with trio.fail_after(10):
            while not gone.lessons:  # noqa: ASYNC110
                await trio.sleep(0.001)  # until the thread has begun
        forecasters[0].drop_lesson()
        await trio.testing.wait_all_tasks_blocked()
        assert not queue.is_idle
        await ask_briefly(forecasters[1])
        await trio.testing.wait_all_tasks_blocked()
        assert after.lessons == 0
        gone.may_end.set()
        await ask_until_learnt(forecasters[1])
        assert forecasters[0].learnt() is None


async def test_nothing_under_way_is_nothing_to_drop() -> None:
    pupil = Pupil(knows=True)
    forecaster = taught(pupil, TrainingQueue())
    forecaster.drop_lesson()
    assert (await ask(forecaster)).status == OK
