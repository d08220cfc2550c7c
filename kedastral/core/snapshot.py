# SPDX-License-Identifier: Apache-2.0
"""`Snapshot`: a forecast with its plan, and everything that is needed to serve it."""

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from kedastral.core.capacity import MAX_REPLICAS
from kedastral.core.forecast import Forecast
from kedastral.core.outliers import Outliers
from kedastral.core.planning.service_level import ServiceLevelReport
from kedastral.core.planning.status import OK, ForecastStatus
from kedastral.core.series import COMPLETE, DataQuality, Ints, Observation, frozen_ints, require_positive, same_array


class Mode(StrEnum):
    """Whether KEDA is told the plan, or the plan is only made, measured and shown."""

    SCALE = "scale"
    OBSERVE = "observe"


@attrs.frozen
class Snapshot:
    """What the forecaster publishes for one workload at one tick.

    ``replicas[i]`` must be Ready during the step of ``forecast.values[i]``; shape and alignment are the forecast's.
    ``lead_time`` is in seconds. ``observed`` is the newest measurement that the forecast is made from, ``floor`` the
    replicas that this load needs at once; None where the reactive floor is off. ``service_level`` says how the service
    level is met and carries the state to the next tick; None where the plan uses a fixed headroom. ``mode`` is that of
    the workload, so that a scaler in another process knows it. ``status`` says whether the plan follows the model.
    ``quality`` says how far the newest measurements can be trusted.
    ``outliers`` are the points of the history that were taken for faults of measuring; None where there were none.
    """

    workload: str
    metric: str
    forecast: Forecast
    replicas: Ints = attrs.field(converter=frozen_ints, eq=attrs.cmp_using(eq=same_array))
    lead_time: float = attrs.field(validator=require_positive)
    observed: Observation | None = None
    floor: int | None = None
    service_level: ServiceLevelReport | None = None
    mode: Mode = Mode.SCALE
    status: ForecastStatus = OK
    quality: DataQuality = COMPLETE
    outliers: Outliers | None = None

    def __attrs_post_init__(self) -> None:
        if len(self.replicas) != len(self.forecast.values):
            raise ValueError(f"{len(self.replicas)} replicas for {len(self.forecast.values)} values")
        if (self.replicas < 0).any():
            raise ValueError("replicas must be >= 0")
        if self.floor is not None and self.floor < 0:
            raise ValueError("the floor must be >= 0")
        if max(self.replicas.max(initial=0), self.floor or 0) > MAX_REPLICAS:
            raise ValueError(f"replicas and the floor must be <= {MAX_REPLICAS}")
        try:
            _ = self.ends_at + timedelta(seconds=self.lead_time)
        except OverflowError:
            raise ValueError("the horizon and the lead time must end before the year 10000") from None

    @property
    def made_at(self) -> datetime:
        """When the forecast was made: the start of its first step."""
        return self.forecast.made_at

    @property
    def ends_at(self) -> datetime:
        """The end of the last step; it is not part of the plan."""
        return self.made_at + timedelta(seconds=self.forecast.horizon)

    def age(self, now: datetime) -> float:
        """Seconds since it was made; 0 where it seems to come from the future because clocks differ."""
        return max(0.0, (now - self.made_at).total_seconds())
