# SPDX-License-Identifier: Apache-2.0
"""`Outage`: why a workload has no new forecast, since when, how long the old plan lasts and what happens then; pure."""

from datetime import datetime, timedelta

import attrs

from kedastral.core.failures import Failure
from kedastral.core.forecast_status import format_span
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import decide


@attrs.frozen
class Outage:
    """Why there is no newer forecast than that of ``since``; ``sentence`` says so, and what KEDA is told meanwhile.

    ``brief`` says the same without the cause. ``follows_plan`` is whether KEDA is told the old plan now, and ``until``
    how long it is. None if KEDA is told something else, or in mode observe.
    """

    sentence: str
    brief: str
    since: datetime
    follows_plan: bool
    until: datetime | None = None


@attrs.frozen
class _Fate:
    """What KEDA is told until there is a new forecast, as a sentence and in few words."""

    sentence: str
    brief: str
    follows_plan: bool = False
    until: datetime | None = None


def find_outage(snapshot: Snapshot, now: datetime, policy: StalePolicy, failure: Failure | None) -> Outage | None:
    """The outage at ``now``; None if the newest attempt gave ``snapshot``, and it is not stale.

    ``failure`` is why the newest attempt failed, as far as this process knows.
    """
    if failure is None and not policy.is_stale(snapshot, now):
        return None
    cause, fate = "" if failure is None else f": {failure.words}", _find_fate(snapshot, now, policy)
    since = _show_moment(snapshot.made_at, now, "%H:%M:%S")
    if snapshot.made_at > now:
        ahead = format_span((snapshot.made_at - now).total_seconds())
        start = f"The newest forecast is from {ahead} in the future: a clock was set back, or clocks differ{cause}"
        brief = f"the newest forecast is from {ahead} in the future"
    else:
        start = f"No new forecast since {since} UTC, for {format_span(snapshot.age(now))}{cause}"
        brief = f"since {_show_moment(snapshot.made_at, now, '%H:%M')} UTC"
    return Outage(
        sentence=f"{start}. {fate.sentence}",
        brief=f"{brief}; {fate.brief}",
        since=snapshot.made_at,
        follows_plan=fate.follows_plan,
        until=fate.until,
    )


def _find_fate(snapshot: Snapshot, now: datetime, policy: StalePolicy) -> _Fate:
    decision = decide(snapshot, now, policy)
    if decision.mode is Mode.OBSERVE:
        return _Fate(
            "In mode observe KEDA is told 0, with a forecast or without.", "KEDA is told 0, as in mode observe"
        )
    if not decision.trusted:
        words = f"KEDA is told the default minimum, {policy.default_min}"
        return _Fate(f"{words}, until there is one; the plan says {replicas_at(snapshot, now)}.", words)
    used_up = plan_ends(snapshot)
    if decision.replicas is None:
        if policy.on_stale is OnStale.RIDE_FORECAST and not snapshot.withheld and snapshot.made_at <= now:
            since = f"{_show_moment(used_up, now, '%H:%M:%S')} UTC"
            words = f"Since {since} the old plan no longer covers the lead time: KEDA {_HOLDS} until there is one."
            return _Fate(words, f"the plan lasted until {_show_moment(used_up, now, '%H:%M')}, and KEDA holds")
        return _Fate(f"KEDA {_HOLDS} until there is one.", "KEDA holds")
    until = snapshot.made_at + timedelta(seconds=policy.stale_after)
    rides = policy.on_stale is OnStale.RIDE_FORECAST
    until = max(until, used_up) if rides else until
    told = f"is told the default minimum, {policy.default_min}"
    after = told if policy.on_stale is OnStale.DEFAULT_MIN else _HOLDS
    lasts = f"KEDA is told the old plan until {_show_moment(until, now, '%H:%M:%S')} UTC; then it {after}."
    brief = f"the plan lasts until {_show_moment(until, now, '%H:%M')}"
    return _Fate(lasts, brief, follows_plan=True, until=until)


_HOLDS = "gets an error and holds its replicas"


def plan_ends(snapshot: Snapshot) -> datetime:
    """From when on the plan no longer covers the lead time, so that ``ride-forecast`` gives no number."""
    return snapshot.ends_at - timedelta(seconds=snapshot.lead_time)


def _show_moment(moment: datetime, now: datetime, clock: str) -> str:
    """The time of ``moment``, with its day unless that is today's."""
    return moment.strftime(clock if moment.date() == now.date() else f"%m-%d {clock}")
