# SPDX-License-Identifier: Apache-2.0
"""What KEDA is told at a moment: `decide`, from the newest snapshot and the policy for when it is stale."""

import math
from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stale_policy import OnStale, StalePolicy, last_served


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


def _unknown_before(snapshot: Snapshot) -> str:
    return (
        f"no model's forecast yet ({snapshot.status.reason}), and it is not known what KEDA was told before the start"
    )


def _staleness(snapshot: Snapshot | None, now: datetime) -> str:
    """Why there is no fresh forecast, in the same words at every call: Kubernetes counts equal events as one."""
    if snapshot is None:
        return "no forecast yet"
    made_at = f"{snapshot.made_at:%Y-%m-%dT%H:%M:%SZ}"
    if snapshot.made_at > now:
        return f"the newest forecast is of {made_at}, which is in the future: a clock was set back, or clocks differ"
    return f"the newest forecast is of {made_at}"
