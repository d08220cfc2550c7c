# SPDX-License-Identifier: Apache-2.0
"""The ports with a stopwatch around them, so that the tick itself need not know metrics."""

from datetime import datetime

import attrs

from kedastral.core.forecast import Forecast
from kedastral.core.ports import Forecaster, MetricSource
from kedastral.core.series import Series
from kedastral.core.snapshot import Snapshot
from kedastral.errors import ModelError
from kedastral.metrics import Metrics, observe_seconds
from kedastral.services.forecaster import Planner


@attrs.define
class MeasuredSource:
    """A metric source whose readings are timed, the failed ones too; it knows whether one is under way."""

    source: MetricSource
    metrics: Metrics
    is_reading: bool = attrs.field(default=False, init=False)

    @property
    def name(self) -> str:
        """The source's own name."""
        return self.source.name

    async def history(self, now: datetime) -> Series:
        """See `MetricSource.history`."""
        self.is_reading = True
        try:
            with observe_seconds(self.metrics.collect_seconds.labels(self.name).observe):
                return await self.source.history(now)
        finally:
            self.is_reading = False


@attrs.frozen
class MeasuredForecaster:
    """A forecaster whose forecasts are timed, the failed ones too."""

    forecaster: Forecaster
    metrics: Metrics

    @property
    def name(self) -> str:
        """The forecaster's own name."""
        return self.forecaster.name

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `Forecaster.forecast`."""
        with observe_seconds(self.metrics.predict_seconds.labels(self.name).observe):
            return await self.forecaster.forecast(history, made_at, steps)


@attrs.frozen
class MeasuredPlanner:
    """A planner whose plans are timed."""

    planner: Planner
    metrics: Metrics

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """See `Planner.plan`."""
        with observe_seconds(self.metrics.plan_seconds.observe):
            return await self.planner.plan(history, forecast, previous)

    async def plan_without_model(
        self, history: Series, made_at: datetime, failure: ModelError, previous: Snapshot | None
    ) -> Snapshot | None:
        """See `Planner.plan_without_model`."""
        return await self.planner.plan_without_model(history, made_at, failure, previous)
