# SPDX-License-Identifier: Apache-2.0
"""What KEDA is told at a moment: `Snapshot`, a forecast with its plan, and `decide`, which reads it.

Only this module applies the lead time to an answer. A snapshot carries all that serving needs, so that a scaler in
another process makes the same decision.
"""

import math
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


class OnStale(StrEnum):
    """What to answer when the newest snapshot is missing or too old."""

    DEFAULT_MIN = "default-min"
    RIDE_FORECAST = "ride-forecast"
    ERROR = "error"


class Activity(StrEnum):
    """Whether a workload is active, and whether a plan says so; for the streams of the external-push scaler.

    Some versions of KEDA scale a workload to zero as soon as a stream sends false, so a stream only sends what a plan
    says. ``assumed``: there is no fresh plan, and IsActive answers false under ``default-min``. ``held``: IsActive
    answers UNAVAILABLE, and KEDA holds its replicas. For both, a stream sends nothing.
    """

    ACTIVE = "active"
    INACTIVE = "inactive"
    ASSUMED = "assumed"
    HELD = "held"


@attrs.frozen
class StalePolicy:
    """When a snapshot is stale (``stale_after``, seconds of age) and what is answered then.

    In ``mode`` observe the answer is 0 and inactive, stale or not, so that other triggers decide alone. None means the
    snapshot's own mode, for a process that does not know the workload's settings.
    """

    stale_after: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    on_stale: OnStale = OnStale.DEFAULT_MIN
    default_min: int = attrs.field(default=2, validator=attrs.validators.ge(0))
    mode: Mode | None = None

    def is_stale(self, snapshot: Snapshot | None, now: datetime) -> bool:
        """Whether there is no snapshot, or it is dated more than ``stale_after`` ago or, by a wrong clock, ahead."""
        return snapshot is None or abs((now - snapshot.made_at).total_seconds()) > self.stale_after

    def is_ahead(self, snapshot: Snapshot, now: datetime) -> bool:
        """Whether it is stale because it comes from the future: correct clocks never differ by that much."""
        return (snapshot.made_at - now).total_seconds() > self.stale_after


@attrs.frozen
class Decision:
    """The answer for one workload at one moment.

    ``replicas`` is None if no number may be given, so that KEDA holds its replicas. ``reason`` says why the snapshot is
    stale. ``trusted`` is False if the number does not come from a plan (``default-min``): then the workload is not
    active. In ``mode`` observe the number is 0, whatever the plan says.
    """

    replicas: int | None
    stale: bool
    trusted: bool = True
    reason: str = ""
    mode: Mode = Mode.SCALE

    def is_active(self, activation: float) -> bool:
        """Whether KEDA should run the workload at all."""
        return self.trusted and self.replicas is not None and self.replicas > activation

    def activity(self, activation: float) -> Activity:
        """`is_active`, and whether a plan says so."""
        if self.replicas is None:
            return Activity.HELD
        if not self.trusted:
            return Activity.ASSUMED
        return Activity.ACTIVE if self.is_active(activation) else Activity.INACTIVE


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


def last_served(snapshot: Snapshot, now: datetime, policy: StalePolicy) -> int | None:
    """What `decide` last read from the plan of ``snapshot`` before ``now``; None if it read nothing.

    Under ``ride-forecast`` a plan is read while it covers the lead time, otherwise until it is stale. Also None if KEDA
    has been told ``default-min`` since.
    """
    replaced = policy.on_stale is OnStale.DEFAULT_MIN and policy.is_stale(snapshot, now)
    if replaced or snapshot.withheld or snapshot.mode is Mode.OBSERVE:
        return None
    if policy.on_stale is OnStale.RIDE_FORECAST:
        return last_recommendation(snapshot, now)
    return last_recommendation(snapshot, min(now, snapshot.made_at + timedelta(seconds=policy.stale_after)))


def keep_served(snapshot: Snapshot, before: Snapshot | None, now: datetime, policy: StalePolicy) -> Snapshot:
    """``snapshot``, which follows ``before``, with what a scaler told KEDA from ``before``.

    A forecaster that has restarted may not know this.
    """
    resumption = snapshot.resumption
    if resumption is None or before is None:
        return snapshot
    same = before.resumption is not None and before.resumption.since == resumption.since
    served = before.resumption.served if before.resumption and same else last_served(before, now, policy)
    if served is None or (resumption.served is not None and resumption.served >= served):
        return snapshot
    return attrs.evolve(snapshot, resumption=attrs.evolve(resumption, served=served), withheld=False)


def desired_at(snapshot: Snapshot | None, now: datetime) -> int | None:
    """The replicas that ``snapshot``'s plan needs Ready at ``now`` itself; None outside the plan."""
    if snapshot is None or not snapshot.made_at <= now < snapshot.ends_at:
        return None
    return int(snapshot.replicas[min(_step_at(snapshot, now), len(snapshot.replicas) - 1)])


def decide(snapshot: Snapshot | None, now: datetime, policy: StalePolicy) -> Decision:
    """What to tell KEDA at ``now``, from the newest snapshot and the policy for when it is stale.

    In mode observe, set by the policy or the snapshot, the answer is 0 and inactive. It is never an error, which would
    keep the ScaledObject's other triggers from scaling down.
    """
    mode = policy.mode or (Mode.SCALE if snapshot is None else snapshot.mode)
    if mode is Mode.OBSERVE:
        stale = policy.is_stale(snapshot, now)
        return Decision(0, stale=stale, reason=_staleness(snapshot, now) if stale else "", mode=Mode.OBSERVE)
    stale = policy.is_stale(snapshot, now)
    if snapshot is not None and snapshot.withheld and policy.on_stale is not OnStale.DEFAULT_MIN:
        return Decision(None, stale=stale, reason=_staleness(snapshot, now) if stale else _unknown_before(snapshot))
    if snapshot is not None and not stale:
        return Decision(replicas_at(snapshot, now), stale=False)
    if policy.on_stale is OnStale.DEFAULT_MIN:
        return Decision(policy.default_min, stale=True, trusted=False, reason=_staleness(snapshot, now))
    if policy.on_stale is OnStale.RIDE_FORECAST and snapshot is not None and _covers_lead(snapshot, now):
        return Decision(replicas_at(snapshot, now), stale=True, reason=_staleness(snapshot, now))
    return Decision(None, stale=True, reason=_staleness(snapshot, now))


def told_by_plan(snapshot: Snapshot | None, now: datetime, policy: StalePolicy) -> int | None:
    """What `decide` reads from a plan at ``now``; None if KEDA is told nothing, or what no plan says."""
    decision = decide(snapshot, now, policy)
    return decision.replicas if decision.trusted and decision.mode is Mode.SCALE else None


def seconds_unchanged(snapshot: Snapshot | None, now: datetime, policy: StalePolicy) -> float:
    """Seconds after ``now`` for which `decide` gives the same answer, unless a new snapshot comes; may be infinite.

    The answer may change when the plan's next step begins or comes within the lead time, and when the snapshot becomes
    stale, is no longer in the future, or no longer covers the lead time.
    """
    if snapshot is None:
        return math.inf
    age, step, lead = (now - snapshot.made_at).total_seconds(), snapshot.forecast.step, snapshot.lead_time
    next_steps = (math.floor(age / step) + 1) * step, (math.floor((age + lead) / step) + 1) * step - lead
    covered = (snapshot.ends_at - snapshot.made_at).total_seconds() - lead
    if age == policy.stale_after:
        return 0.0  # at exactly this age it is not stale yet
    changes = (*next_steps, 0.0, covered, policy.stale_after, -policy.stale_after)
    return min((change - age for change in changes if change > age), default=math.inf)


def _covers_lead(snapshot: Snapshot, now: datetime) -> bool:
    return snapshot.made_at <= now and now + timedelta(seconds=snapshot.lead_time) < snapshot.ends_at


def _step_at(snapshot: Snapshot, moment: datetime) -> int:
    """The index of the step that contains ``moment``: below 0 before the plan, beyond its length after it."""
    return (moment - snapshot.made_at) // timedelta(seconds=snapshot.forecast.step)


def _unknown_before(snapshot: Snapshot) -> str:
    return (
        f"no model's forecast yet ({snapshot.status.reason}), and it is not known what KEDA was told before the start"
    )


def _staleness(snapshot: Snapshot | None, now: datetime) -> str:
    if snapshot is None:
        return "no forecast yet"
    ahead = (snapshot.made_at - now).total_seconds()
    if ahead > 0:
        return f"the newest forecast is from {ahead:.0f} s in the future: a clock was set back, or clocks differ"
    return f"the newest forecast is {snapshot.age(now):.0f} s old"
