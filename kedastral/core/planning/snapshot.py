# SPDX-License-Identifier: Apache-2.0
"""`Snapshot`: a forecast with its plan, as published, and what the plan says at a moment (`replicas_at`).

Only this module applies the lead time to a plan. A snapshot carries all that serving needs, so that a scaler in another
process makes the same decision.
"""

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from kedastral.core.capacity import MAX_REPLICAS
from kedastral.core.data_quality.findings import NOTHING_ODD, Findings
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import OK, ForecastStatus
from kedastral.core.planning.basis import PlanBasis
from kedastral.core.planning.service_level import ServiceLevelReport
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.series import COMPLETE, DataQuality, Ints, Observation, frozen_ints, require_positive, same_array


class Mode(StrEnum):
    """Whether KEDA is told the plan, or it is only made, measured and shown."""

    SCALE = "scale"
    OBSERVE = "observe"


@attrs.frozen
class Snapshot:
    """What the forecaster publishes for one workload at one tick."""

    workload: str
    """Its key: ``namespace/name``, or a name alone."""
    metric: str
    """The name of the metric that is forecast."""
    forecast: Forecast
    """The load that is expected."""
    replicas: Ints = attrs.field(converter=frozen_ints, eq=attrs.cmp_using(eq=same_array))
    """``replicas[i]`` must be Ready during the step of ``forecast.values[i]``; shape and alignment are its."""
    lead_time: float = attrs.field(validator=require_positive)
    """In seconds."""
    observed: Observation | None = None
    """The newest measurement that the forecast is made from."""
    floor: int | None = None
    """The replicas that ``observed`` needs at once; None if the reactive floor is off."""
    service_level: ServiceLevelReport | None = None
    """How the service level is met, and the state for the next tick; None if the plan uses a fixed headroom."""
    mode: Mode = Mode.SCALE
    """That of the workload, so that a scaler in another process knows it."""
    status: ForecastStatus = OK
    """Whether the plan follows the model."""
    quality: DataQuality = COMPLETE
    """How far the newest measurements can be trusted."""
    findings: Findings = NOTHING_ODD
    """What is odd about the history."""
    replicas_without_max: int | None = None
    """What the plan would ask for when it was made if there were no maximum; None if the maximum does not limit it."""
    resumption: Resumption | None = None
    """Set after a start, an outage or a change of settings: KEDA is told no less than was served before."""
    withheld: bool = False
    """Set if that is unknown and no model's forecast exists yet: KEDA is told nothing that could cost it pods."""
    min_replicas: int | None = None
    """The least that any plan of the workload wants; None if unknown."""
    fingerprint: str = ""
    """Identifies the settings that the numbers depend on; empty if unknown."""
    basis: PlanBasis | None = attrs.field(default=None, eq=False, repr=False)
    """The inputs of the plan, so that it can be explained; None if another process made it."""

    def __attrs_post_init__(self) -> None:
        if len(self.replicas) != len(self.forecast.values):
            raise ValueError(f"{len(self.replicas)} replicas for {len(self.forecast.values)} values")
        if (self.replicas < 0).any():
            raise ValueError("replicas must be >= 0")
        if self.floor is not None and self.floor < 0:
            raise ValueError("the floor must be >= 0")
        if self.served_before < 0:
            raise ValueError("what was served before must be >= 0")
        if self.min_replicas is not None and self.min_replicas < 0:
            raise ValueError("the least replicas of any plan must be >= 0")
        if self.replicas_without_max is not None and self.replicas_without_max < 0:
            raise ValueError("the replicas without a maximum must be >= 0")
        if max(self.replicas.max(initial=0), self.floor or 0, self.served_before) > MAX_REPLICAS:
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
        """The end of the last step, which is no longer part of the plan."""
        return self.made_at + timedelta(seconds=self.forecast.horizon)

    @property
    def served_before(self) -> int:
        """What was served before the start, outage or change that the plan resumes from; 0 if none, or unknown."""
        return 0 if self.resumption is None else self.resumption.served or 0

    def age(self, now: datetime) -> float:
        """Seconds since it was made; 0 if it seems to come from the future because clocks differ."""
        return max(0.0, (now - self.made_at).total_seconds())


def replicas_at(snapshot: Snapshot, now: datetime) -> int:
    """The maximum of the plan over every step that ``[now, now + lead_time]`` overlaps, and at least the floor.

    After a start, an outage or a change of settings it is also at least what was served before. So it scales up one
    lead time early, and never down before the need has passed. Both ends of the window count. Past its end, the plan's
    last element counts.
    """
    first, last = lead_window(snapshot, now)
    planned = int(snapshot.replicas[first : last + 1].max())
    return max(planned, snapshot.floor or 0, snapshot.served_before)


def lead_window(snapshot: Snapshot, now: datetime) -> tuple[int, int]:
    """The first and last step of the plan for ``[now, now + lead_time]``; past its end, the last step stands in."""
    end = len(snapshot.replicas) - 1
    first = min(max(_step_at(snapshot, now), 0), end)
    last = min(max(_step_at(snapshot, now + timedelta(seconds=snapshot.lead_time)), 0), end)
    return first, last


def last_recommendation(snapshot: Snapshot, now: datetime) -> int:
    """What ``snapshot``, stale or not, last recommended before ``now`` while its plan covered the lead time."""
    covered = snapshot.ends_at - timedelta(seconds=snapshot.lead_time)
    return replicas_at(snapshot, max(min(now, covered) - timedelta(microseconds=1), snapshot.made_at))


def desired_at(snapshot: Snapshot | None, now: datetime) -> int | None:
    """The replicas that ``snapshot``'s plan needs Ready at ``now`` itself; None outside the plan."""
    if snapshot is None or not snapshot.made_at <= now < snapshot.ends_at:
        return None
    return int(snapshot.replicas[min(_step_at(snapshot, now), len(snapshot.replicas) - 1)])


def _step_at(snapshot: Snapshot, moment: datetime) -> int:
    """The index of the step that contains ``moment``: below 0 before the plan, beyond its length after it."""
    return (moment - snapshot.made_at) // timedelta(seconds=snapshot.forecast.step)
