# SPDX-License-Identifier: Apache-2.0
"""`StalePolicy`: when a snapshot is stale, and what KEDA is told then; `last_served`: what a plan last told KEDA by it.

The planner needs both, because after an outage a plan resumes from what KEDA was told before.
"""

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from kedastral.core.planning.snapshot import Mode, Snapshot, last_recommendation


class OnStale(StrEnum):
    """What to answer when the newest snapshot is missing or too old."""

    DEFAULT_MIN = "default-min"
    RIDE_FORECAST = "ride-forecast"
    ERROR = "error"


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


def last_served(snapshot: Snapshot, now: datetime, policy: StalePolicy) -> int | None:
    """What KEDA was last told from the plan of ``snapshot`` before ``now``; None if it was told nothing from it.

    Under ``ride-forecast`` a plan is read while it covers the lead time, otherwise until it is stale. Also None if KEDA
    has been told ``default-min`` since.
    """
    replaced = policy.on_stale is OnStale.DEFAULT_MIN and policy.is_stale(snapshot, now)
    if replaced or snapshot.withheld or snapshot.mode is Mode.OBSERVE:
        return None
    if policy.on_stale is OnStale.RIDE_FORECAST:
        return last_recommendation(snapshot, now)
    return last_recommendation(snapshot, min(now, snapshot.made_at + timedelta(seconds=policy.stale_after)))
