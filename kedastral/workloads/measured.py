# SPDX-License-Identifier: Apache-2.0
"""The ports, timed and traced, so that the tick need not know about metrics."""

from datetime import datetime

import attrs

from kedastral.core.forecast import Forecast
from kedastral.core.ports import Forecaster, MetricSource
from kedastral.core.series import Series
from kedastral.serving.metrics import Metrics, observe_seconds
from kedastral.tracing import NO_TRACING, Tracing


@attrs.define
class MeasuredSource:
    """A metric source whose reads are timed, including failed ones; it knows whether one is in progress."""

    source: MetricSource
    metrics: Metrics
    tracing: Tracing = NO_TRACING
    is_reading: bool = attrs.field(default=False, init=False)

    @property
    def name(self) -> str:
        """The source's own name."""
        return self.source.name

    async def history(self, now: datetime) -> Series:
        """See `MetricSource.history`."""
        self.is_reading = True
        try:
            span = self.tracing.span("query", {"kedastral.source": self.name})
            with span, observe_seconds(self.metrics.collect_seconds.labels(self.name).observe):
                return await self.source.history(now)
        finally:
            self.is_reading = False


@attrs.frozen
class MeasuredForecaster:
    """A forecaster whose forecasts are timed, including failed ones."""

    forecaster: Forecaster
    metrics: Metrics
    tracing: Tracing = NO_TRACING

    @property
    def name(self) -> str:
        """The forecaster's own name."""
        return self.forecaster.name

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `Forecaster.forecast`."""
        span = self.tracing.span("forecast", {"kedastral.model": self.name})
        with span, observe_seconds(self.metrics.predict_seconds.labels(self.name).observe):
            return await self.forecaster.forecast(history, made_at, steps)
