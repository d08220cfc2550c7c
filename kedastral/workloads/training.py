# SPDX-License-Identifier: Apache-2.0
"""Models are trained off the tick: `TrainingQueue` runs the jobs in threads, `TrainedForecaster` waits for its own.

Until its model is trained, a `TrainedForecaster` forecasts the last value.
"""

import logging
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

import attrs
import trio

from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.forecast_status import learning_from
from kedastral.core.model import RestorableModel, TrainableModel
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Forecaster
from kedastral.core.series import Floats, Series
from kedastral.errors import ModelError, NotFittedError

MAX_WAIT = 1.0
"""Seconds that a tick waits for its own job if the queue is idle: a single workload then has its first forecast at its
first tick."""

log = logging.getLogger("kedastral.forecaster")

Train = Callable[[Series, datetime, int], UncertaintyState]
"""Trains a model on the history up to a moment, to forecast the given number of steps, and returns the uncertainty of
its forecasts. It is slow, so it runs in a thread."""


@attrs.define(eq=False)
class TrainingJob:
    """A model to be trained: its ``outcome`` or its ``failure`` once it is ``done``; neither if it was cancelled.

    ``outdated`` says that its outcome is not wanted any more.
    """

    train: Callable[[], UncertaintyState]
    done: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    outcome: UncertaintyState | None = None
    failure: ModelError | None = None
    outdated: bool = False


@attrs.define(eq=False)
class TrainingQueue:
    """Jobs wait here for one of ``slots``, first come, first served, so that a thousand models are not trained at once.

    Jobs begin only while `run` is running.
    """

    slots: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))
    _waiting: int = attrs.field(default=0, init=False)
    _jobs: tuple[trio.MemorySendChannel[TrainingJob], trio.MemoryReceiveChannel[TrainingJob]] = attrs.field(
        factory=lambda: trio.open_memory_channel[TrainingJob](math.inf), init=False
    )

    @property
    def is_idle(self) -> bool:
        """Whether a job added now would begin at once."""
        return max(self._waiting, self.slots.borrowed_tokens) < self.slots.total_tokens  # a cancelled job may still run

    def put(self, job: TrainingJob) -> None:
        """Run ``job`` in its turn."""
        self._waiting += 1
        self._jobs[0].send_nowait(job)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until cancelled; what a job raises is kept as its failure and never leaves here."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for job in self._jobs[1].clone():
                nursery.start_soon(self._run_job, job)

    async def _run_job(self, job: TrainingJob) -> None:
        try:
            with job.scope:
                # abandoned if cancelled or if the process stops, maybe in the middle of its work
                job.outcome = await trio.to_thread.run_sync(job.train, limiter=self.slots, abandon_on_cancel=True)
        except ModelError as error:
            job.failure = error
        except Exception as error:  # noqa: BLE001 - whatever a model raises is an error of that model
            job.failure = ModelError(f"learning raised {type(error).__name__}: {error}", reason="exception")
            job.failure.__cause__ = error
        finally:
            self._waiting -= 1
            job.done.set()


@attrs.define(eq=False)
class TrainedForecaster:
    """Trains in ``queue`` if ``forecaster`` raises NotFittedError; until then it forecasts the last value.

    ``model`` is the one that ``forecaster`` uses and ``train`` trains. While a job is running the model is not used,
    since it is being changed. ``calibrate`` finds the uncertainty with a model of its own, so that this one goes on.
    """

    forecaster: Forecaster
    train: Train
    queue: TrainingQueue
    model: TrainableModel | None = None
    calibrate: Train | None = None
    _job: TrainingJob | None = attrs.field(default=None, init=False)
    _calibration: TrainingJob | None = attrs.field(default=None, init=False)
    _calibration_due: bool = attrs.field(default=False, init=False)
    _uncertainty: UncertaintyState | None = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """The forecaster's own name."""
        return self.forecaster.name

    def uncertainty(self) -> UncertaintyState | None:
        """The model's uncertainty from the newest job; None before the first."""
        return self._uncertainty

    def memory(self) -> Mapping[str, Floats] | None:
        """What the model has learnt, to be kept; None while it is being trained, or if it cannot be kept."""
        idle = self._job is None and isinstance(self.model, RestorableModel)
        return self.model.memory() if idle and isinstance(self.model, RestorableModel) else None

    @property
    def is_restorable(self) -> bool:
        """Whether what the model has learnt can be kept."""
        return isinstance(self.model, RestorableModel)

    def restore(self, memory: Mapping[str, Floats]) -> None:
        """Continue from `memory`. Raises ValueError if it is from another model."""
        if isinstance(self.model, RestorableModel):
            self.model.restore(memory)

    def replace_training(self, train: Train, calibrate: Train) -> None:
        """Use these from now on: the uncertainty found so far is of other windows, also that of a job under way. The
        model stays as it is."""
        self.train, self.calibrate, self._uncertainty = train, calibrate, None
        if self._job is not None:
            self._job.outdated = True
        self._drop_calibration()
        self.request_calibration()

    def request_calibration(self) -> None:
        """Find the uncertainty at the next forecast, since none goes with the model."""
        self._calibration_due = True

    def cancel_training(self) -> None:
        """Stop training, since nobody will ask for a forecast. A running job ends by itself, unused."""
        if self._job is not None:
            self._job.scope.cancel()
        self._drop_calibration()

    def _drop_calibration(self) -> None:
        if self._calibration is not None:
            self._calibration.scope.cancel()
            self._calibration = None

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Forecaster.forecast`; raises the ModelError of a failed job, once."""
        if self._job is None:
            try:
                forecast = await self.forecaster.forecast(history, made_at, steps)
            except NotFittedError:
                self._calibration_due = False  # training finds the uncertainty too
                self._drop_calibration()
                self._job = job = TrainingJob(partial(self.train, history, made_at, steps))
                await self._begin(job)
            else:
                await self._advance_calibration(history, made_at, steps)
                return forecast
        if self._has_trained():
            try:
                return await self.forecaster.forecast(history, made_at, steps)
            except NotFittedError:
                log.debug("the model no longer fits the history and is trained again")
        return fallback_forecast(history, made_at, steps, learning_from(history))

    async def _begin(self, job: TrainingJob) -> None:
        idle = self.queue.is_idle
        self.queue.put(job)
        if idle:
            with trio.move_on_after(MAX_WAIT):
                await job.done.wait()

    async def _advance_calibration(self, history: Series, made_at: datetime, steps: int) -> None:
        """Begin a calibration that is due, and take the outcome of one that has ended."""
        if self._calibration is None and self._calibration_due and self.calibrate is not None:
            self._calibration_due = False
            self._calibration = TrainingJob(partial(self.calibrate, history, made_at, steps))
            await self._begin(self._calibration)
        job = self._calibration
        if job is None or not job.done.is_set():
            return
        self._calibration = None
        if job.failure is not None:  # the errors of the forecasts to come calibrate it
            log.debug("no uncertainty is found from the history", exc_info=job.failure)
        elif job.outcome is not None:
            self._uncertainty = job.outcome

    def _has_trained(self) -> bool:
        """Whether the current job has ended; raises its failure."""
        job = self._job
        if job is None or not job.done.is_set():
            return False
        self._job = None
        if job.failure is not None:
            raise job.failure
        if not job.outdated:
            self._uncertainty = job.outcome
        return True
