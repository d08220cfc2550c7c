# SPDX-License-Identifier: Apache-2.0
"""Training outside the tick: the forecast is the last value until a job is done, and jobs wait for each other."""

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
from kedastral.core.forecast_status import OK, ForecastStatus, StatusCode
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.series import Series
from kedastral.errors import ModelError, NotFittedError
from kedastral.models.auto import AutoModel
from kedastral.workloads.training import Train, TrainedForecaster, TrainingQueue
from tests.parts import START, make_history

HISTORY = make_history(*range(100, 150))
LEARNING = ForecastStatus(StatusCode.LEARNING, "learning from 50 min of history")


@attrs.define
class StubModel:
    """Forecasts 7 once trained; its jobs last until ``may_end`` is set, and end as ``ending`` says."""

    may_end: threading.Event = attrs.field(factory=threading.Event)
    ending: Callable[[], UncertaintyState] = UncertaintyState
    name: str = "model"
    jobs: int = 0
    fitted: bool = False

    def train(self, _history: Series, _made_at: datetime, _steps: int) -> UncertaintyState:
        self.jobs += 1
        assert self.may_end.wait(10)
        outcome = self.ending()
        self.fitted = True
        return outcome

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        if not self.fitted:
            raise NotFittedError("not yet", reason="learning")
        return Forecast(made_at, history.step, [7.0] * steps)


@asynccontextmanager
async def running(queue: TrainingQueue) -> AsyncIterator[TrainingQueue]:
    async with trio.open_nursery() as nursery:
        await nursery.start(queue.run)
        yield queue
        nursery.cancel_scope.cancel()


def trained(model: StubModel, queue: TrainingQueue) -> TrainedForecaster:
    return TrainedForecaster(model, model.train, queue)


async def ask(forecaster: TrainedForecaster) -> Forecast:
    return await forecaster.forecast(HISTORY, START, 3)


async def ask_until_trained(forecaster: TrainedForecaster) -> Forecast:
    with trio.fail_after(10):
        while not (made := await ask(forecaster)).status.is_ok:  # noqa: ASYNC110
            await trio.sleep(0.001)  # as the ticks of a workload come
    return made


async def test_until_a_job_is_over_the_last_value_stands_in_and_then_the_model_forecasts() -> None:
    model, busy = StubModel(), StubModel()
    async with running(TrainingQueue()) as queue:
        await ask_briefly(trained(busy, queue))  # so that nobody waits for the model
        forecaster = trained(model, queue)

        made = await ask(forecaster)
        assert (made.values.tolist(), made.status) == ([149.0] * 3, LEARNING)
        assert (await ask(forecaster)).status == LEARNING
        assert forecaster.uncertainty() is None

        busy.may_end.set()
        model.may_end.set()
        made = await ask_until_trained(forecaster)
        assert (made.values.tolist(), made.status) == ([7.0] * 3, OK)
        assert forecaster.uncertainty() == UncertaintyState()
        assert model.jobs == 1


async def ask_briefly(forecaster: TrainedForecaster) -> None:
    """Let a job start, without waiting for its result."""
    with trio.move_on_after(0):
        await ask(forecaster)


async def test_whoever_learns_alone_has_the_forecast_at_once() -> None:
    model = StubModel()
    model.may_end.set()
    async with running(TrainingQueue()) as queue:
        assert (await ask(trained(model, queue))).status == OK


async def test_jobs_wait_for_a_slot_in_their_order() -> None:
    first, second = StubModel(), StubModel()
    async with running(TrainingQueue(trio.CapacityLimiter(1))) as queue:
        forecasters = [trained(first, queue), trained(second, queue)]
        await ask_briefly(forecasters[0])
        assert not queue.is_idle
        await ask(forecasters[1])
        await trio.testing.wait_all_tasks_blocked()
        assert second.jobs == 0
        second.may_end.set()
        first.may_end.set()
        for forecaster in forecasters:
            await ask_until_trained(forecaster)
        assert (first.jobs, second.jobs) == (1, 1)
        assert queue.is_idle


async def test_a_job_that_fails_is_a_model_error_once_and_is_tried_again() -> None:
    def fail() -> UncertaintyState:
        raise ZeroDivisionError("in the job")

    model = StubModel(ending=fail)
    model.may_end.set()
    async with running(TrainingQueue()) as queue:
        forecaster = trained(model, queue)
        with pytest.raises(ModelError, match="learning raised ZeroDivisionError: in the job") as caught:
            await ask(forecaster)
        assert caught.value.reason == "exception"
        model.ending = UncertaintyState
        assert (await ask(forecaster)).status == OK
        assert model.jobs == 2


async def test_auto_learns_here_and_forecasts_as_it_would_by_itself() -> None:
    model = AutoModel()

    def learn(history: Series, made_at: datetime, steps: int) -> UncertaintyState:
        model.learn(history, made_at, steps)
        return UncertaintyState()

    async with running(TrainingQueue()) as queue:
        forecaster = TrainedForecaster(InProcessForecaster(InferenceOnly(model), trio.CapacityLimiter(1)), learn, queue)
        assert await ask_until_trained(forecaster) == AutoModel().forecast(HISTORY, START, 3)


async def test_the_jobs_of_workloads_that_are_gone_do_not_run() -> None:
    first, gone, last = StubModel(), StubModel(), StubModel()
    async with running(TrainingQueue(trio.CapacityLimiter(1))) as queue:
        forecasters = [trained(model, queue) for model in (first, gone, last)]
        for forecaster in forecasters:
            await ask_briefly(forecaster)
        await trio.testing.wait_all_tasks_blocked()
        forecasters[1].cancel_training()
        await trio.testing.wait_all_tasks_blocked()
        assert queue.slots.statistics().tasks_waiting == 1, "nothing of it is kept"
        first.may_end.set()
        last.may_end.set()
        await ask_until_trained(forecasters[2])
        assert [model.jobs for model in (first, gone, last)] == [1, 0, 1]
        assert queue.is_idle
        assert (await ask(forecasters[1])).status == LEARNING, "whoever asks all the same learns anew"


async def test_a_job_that_is_cancelled_half_way_keeps_its_slot_until_it_has_ended() -> None:
    gone, after = StubModel(), StubModel()
    after.may_end.set()
    async with running(TrainingQueue(trio.CapacityLimiter(1))) as queue:
        forecasters = [trained(gone, queue), trained(after, queue)]
        await ask_briefly(forecasters[0])
        with trio.fail_after(10):
            while not gone.jobs:  # noqa: ASYNC110
                await trio.sleep(0.001)  # until the thread has begun
        forecasters[0].cancel_training()
        await trio.testing.wait_all_tasks_blocked()
        assert not queue.is_idle
        await ask_briefly(forecasters[1])
        await trio.testing.wait_all_tasks_blocked()
        assert after.jobs == 0
        gone.may_end.set()
        await ask_until_trained(forecasters[1])
        assert forecasters[0].uncertainty() is None


def uncertainty_of(windows: int) -> UncertaintyState:
    return UncertaintyState(model=Calibration(windows=windows))


async def test_other_windows_are_calibrated_anew_while_the_model_goes_on_forecasting() -> None:
    model, wide, narrow = StubModel(ending=lambda: uncertainty_of(100)), uncertainty_of(400), uncertainty_of(200)
    may_end = threading.Event()

    def calibrate(_history: Series, _made_at: datetime, _steps: int) -> UncertaintyState:
        assert may_end.wait(10)
        return wide

    async with running(TrainingQueue()) as queue:
        forecaster = trained(model, queue)
        model.may_end.set()
        await ask_until_trained(forecaster)
        assert forecaster.uncertainty() == uncertainty_of(100)
        forecaster.replace_training(model.train, calibrate)
        assert forecaster.uncertainty() is None
        assert (await ask(forecaster)).values.tolist() == [7.0] * 3
        may_end.set()
        with trio.fail_after(10):
            while forecaster.uncertainty() is None:
                assert (await ask(forecaster)).status.is_ok
                await trio.sleep(0.001)
        assert forecaster.uncertainty() == wide
        forecaster.replace_training(model.train, lambda *_: narrow)
        await ask(forecaster)
        assert forecaster.uncertainty() == narrow, "nothing else is under way: the first forecast waits for it"
        assert model.jobs == 1, "the model was not trained again"


async def test_what_a_job_finds_for_windows_of_before_is_not_used() -> None:
    model = StubModel(ending=lambda: uncertainty_of(100))
    async with running(TrainingQueue()) as queue:
        forecaster = trained(model, queue)
        assert not (await ask(forecaster)).status.is_ok
        forecaster.replace_training(model.train, lambda *_: uncertainty_of(400))
        model.may_end.set()
        await ask_until_trained(forecaster)
        assert forecaster.uncertainty() != uncertainty_of(100)
        await ask(forecaster)
        assert forecaster.uncertainty() == uncertainty_of(400)


async def test_a_calibration_that_is_out_of_date_gives_way_to_its_successor_and_to_a_training() -> None:
    model, may_end, begun = StubModel(ending=lambda: uncertainty_of(360)), threading.Event(), list[str]()

    def calibrating(name: str, windows: int) -> Train:
        def calibrate(_history: Series, _made_at: datetime, _steps: int) -> UncertaintyState:
            begun.append(name)
            assert may_end.wait(10)
            return uncertainty_of(windows)

        return calibrate

    async with running(TrainingQueue()) as queue:
        busy, forecaster = trained(StubModel(), queue), trained(model, queue)
        model.may_end.set()
        await ask_until_trained(forecaster)
        await ask(busy)  # holds the only slot
        for name in ("first", "second"):
            forecaster.replace_training(model.train, calibrating(name, 100))
            await ask(forecaster)
        model.fitted = False  # its history no longer fits
        await ask(forecaster)
        may_end.set()
        busy.forecaster.may_end.set()  # type: ignore[attr-defined]
        await ask_until_trained(forecaster)
        assert model.jobs == 2
        assert forecaster.uncertainty() == uncertainty_of(360)
        assert begun == [], "neither was needed any more"


async def test_a_calibration_that_fails_costs_no_forecast() -> None:
    model = StubModel()

    def fail(_history: Series, _made_at: datetime, _steps: int) -> UncertaintyState:
        raise ModelError("no history", reason="no_history")

    async with running(TrainingQueue()) as queue:
        forecaster = trained(model, queue)
        model.may_end.set()
        await ask_until_trained(forecaster)
        forecaster.replace_training(model.train, fail)
        assert (await ask(forecaster)).status.is_ok
        assert (await ask(forecaster)).status.is_ok
        assert forecaster.uncertainty() is None


async def test_nothing_under_way_is_nothing_to_cancel() -> None:
    model = StubModel(fitted=True)
    forecaster = trained(model, TrainingQueue())
    forecaster.cancel_training()
    assert (await ask(forecaster)).status == OK
