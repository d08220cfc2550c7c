# SPDX-License-Identifier: Apache-2.0
"""What KEDA is told at a moment, read from the plan: the one place that knows lead time."""

import math
from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from kedastral.core.snapshot import Mode, Snapshot


class OnStale(StrEnum):
    """What to answer when the newest snapshot is missing or too old."""

    DEFAULT_MIN = "default-min"
    RIDE_FORECAST = "ride-forecast"
    ERROR = "error"


class Activity(StrEnum):
    """What a stream of external-push may say of a workload.

    Some versions of KEDA put a workload to sleep when a stream says false, so that is said of a plan only: ``assumed``
    is what IsActive answers under ``default-min``, ``held`` that it answers UNAVAILABLE; a stream says neither.
    """

    ACTIVE = "active"
    INACTIVE = "inactive"
    ASSUMED = "assumed"
    HELD = "held"


@attrs.frozen
class StalePolicy:
    """When a snapshot is stale (``stale_after``, seconds of age) and what is answered then.

    In ``mode`` observe the answer is 0 and inactive, stale or not, so that another trigger decides alone; None is the
    snapshot's own mode, for those who do not know the workload's settings.
    """

    stale_after: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    on_stale: OnStale = OnStale.DEFAULT_MIN
    default_min: int = attrs.field(default=2, validator=attrs.validators.ge(0))
    mode: Mode | None = None

    def is_stale(self, snapshot: Snapshot | None, now: datetime) -> bool:
        """Whether there is no snapshot, or only one made more than ``stale_after`` ago, or from now: a wrong clock."""
        return snapshot is None or abs((now - snapshot.made_at).total_seconds()) > self.stale_after


@attrs.frozen
class Decision:
    """The answer for one workload at one moment.

    ``replicas`` is None where no number may be given, so that KEDA holds what it has. ``reason`` says why it is stale.
    ``trusted`` is False where the number is not read from a plan (``default-min``): the workload is not active then.
    ``mode`` observe gives 0, whatever is planned.
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
        """The same, and whether it is a plan that says so."""
        if self.replicas is None:
            return Activity.HELD
        if not self.trusted:
            return Activity.ASSUMED
        return Activity.ACTIVE if self.is_active(activation) else Activity.INACTIVE


def replicas_at(snapshot: Snapshot, now: datetime) -> int:
    """The largest replicas over every step that ``[now, now + lead_time]`` touches, and not below the floor.

    Scales up a lead time early, and never down before the need has passed. Both ends of the window count; past the
    end of the plan its last element holds.
    """
    last = len(snapshot.replicas) - 1
    first_touched = min(max(_step_at(snapshot, now), 0), last)
    last_touched = min(max(_step_at(snapshot, now + timedelta(seconds=snapshot.lead_time)), 0), last)
    planned = int(snapshot.replicas[first_touched : last_touched + 1].max())
    return max(planned, snapshot.floor or 0)


def told_until(snapshot: Snapshot, now: datetime) -> int:
    """What was read of ``snapshot`` last before ``now``, stale or not, while its plan covered the lead time."""
    covered = snapshot.ends_at - timedelta(seconds=snapshot.lead_time)
    return replicas_at(snapshot, max(min(now, covered) - timedelta(microseconds=1), snapshot.made_at))


def wanted_for(snapshot: Snapshot | None, now: datetime) -> int | None:
    """What ``snapshot``'s plan wants Ready at ``now`` itself; None where it has none or ``now`` lies outside it."""
    if snapshot is None or not snapshot.made_at <= now < snapshot.ends_at:
        return None
    return int(snapshot.replicas[min(_step_at(snapshot, now), len(snapshot.replicas) - 1)])


def decide(snapshot: Snapshot | None, now: datetime, policy: StalePolicy) -> Decision:
    """What to tell KEDA at ``now``, by the newest snapshot there is and the policy for when it is stale.

    What is only observed, by the policy or by the snapshot of a forecaster elsewhere, is 0 and inactive: never an
    error, which would keep the object's other triggers from scaling down.
    """
    mode = policy.mode or (Mode.SCALE if snapshot is None else snapshot.mode)
    if mode is Mode.OBSERVE:
        stale = policy.is_stale(snapshot, now)
        return Decision(0, stale=stale, reason=_staleness(snapshot, now) if stale else "", mode=Mode.OBSERVE)
    if snapshot is not None and not policy.is_stale(snapshot, now):
        return Decision(replicas_at(snapshot, now), stale=False)
    if policy.on_stale is OnStale.DEFAULT_MIN:
        return Decision(policy.default_min, stale=True, trusted=False, reason=_staleness(snapshot, now))
    if policy.on_stale is OnStale.RIDE_FORECAST and snapshot is not None and _covers_lead(snapshot, now):
        return Decision(replicas_at(snapshot, now), stale=True, reason=_staleness(snapshot, now))
    return Decision(None, stale=True, reason=_staleness(snapshot, now))


def seconds_unchanged(snapshot: Snapshot | None, now: datetime, policy: StalePolicy) -> float:
    """Seconds after ``now`` for which `decide` answers the same, unless another snapshot comes; may be infinite.

    The answer changes where the plan's next step begins or comes within the lead time, and where the snapshot becomes
    stale, or ceases to be from the future or to cover the lead time.
    """
    if snapshot is None:
        return math.inf
    age, step, lead = (now - snapshot.made_at).total_seconds(), snapshot.forecast.step, snapshot.lead_time
    next_steps = (math.floor(age / step) + 1) * step, (math.floor((age + lead) / step) + 1) * step - lead
    covered = (snapshot.ends_at - snapshot.made_at).total_seconds() - lead
    if age == policy.stale_after:
        return 0.0  # at its very end it is not stale yet
    changes = (*next_steps, 0.0, covered, policy.stale_after, -policy.stale_after)
    return min((change - age for change in changes if change > age), default=math.inf)


def _covers_lead(snapshot: Snapshot, now: datetime) -> bool:
    return snapshot.made_at <= now and now + timedelta(seconds=snapshot.lead_time) < snapshot.ends_at


def _step_at(snapshot: Snapshot, moment: datetime) -> int:
    """The index of the step that holds ``moment``: below 0 before the plan, beyond its length after it."""
    return (moment - snapshot.made_at) // timedelta(seconds=snapshot.forecast.step)


def _staleness(snapshot: Snapshot | None, now: datetime) -> str:
    if snapshot is None:
        return "no forecast yet"
    ahead = (snapshot.made_at - now).total_seconds()
    if ahead > 0:
        return f"the newest forecast is from {ahead:.0f} s in the future: a clock was set back, or clocks differ"
    return f"the newest forecast is {snapshot.age(now):.0f} s old"
