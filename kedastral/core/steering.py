# SPDX-License-Identifier: Apache-2.0
"""Steering to a service level: one factor on the upper quantile, moved by whether there were enough pods.

For each minute that has ended, the pods that must have been Ready are worked out in hindsight from what was
recommended: no look at the cluster is needed. A minute short of pods raises the factor h, any other lowers it a
little, in the ratio at which the stated share of minutes has enough (Gibbs and Candes, "Adaptive Conformal Inference
Under Distribution Shift", 2021, applied to a factor instead of a quantile).
"""

import math
from datetime import datetime

import attrs
from attrs.validators import ge, gt, le, lt, optional

from kedastral.core.capacity import WHOLE_WITHIN, PlanPolicy
from kedastral.core.holding import LONGEST_HOLD, SHORTEST_HOLD, held_load, next_hold
from kedastral.core.series import EPOCH, Series

RATE = 0.015
"""How far log h moves for a minute short of pods at a service level of 0.99; for others it goes with the root of the
budget, so that rarer news counts for more, though not in full proportion."""
LOWEST, HIGHEST = 0.7, 2.0
"""The bounds of h. Below, the reactive floor alone decides; above, pods no longer help: the lead time is wrong, or the
load has jumps that nothing announces."""
AT_CAP = 0.98
"""Of `HIGHEST`, where h counts as at its cap: between two violations it comes down by that little."""
FIRST, FIRST_STRICT, STRICT = 1.1, 1.2, 0.999
"""Where h begins, and where it begins from a service level of 0.999 on, which sees a violation too rarely to wait."""
BUDGET_DAYS = 28
"""The budget is told over the last four weeks: whole weeks, and enough of them for 0.999 to have a meaning."""
DAY_MINUTES = 1440.0
KEPT_BEYOND_LEAD = 900.0
"""Seconds for which recommendations are kept beyond the lead time: measurements that come late can be judged."""


@attrs.frozen
class SteeringSettings:
    """What is promised, and what decides whether a minute had enough pods.

    ``service_level`` is the share of minutes with enough pods; times in seconds. A recommendation older than
    ``stale_after`` is not what was served. ``observing`` is set where nothing acts on what is recommended.
    """

    policy: PlanPolicy
    service_level: float = attrs.field(default=0.99, validator=[gt(0), lt(1)])
    lead_time: float = attrs.field(default=300.0, validator=gt(0))
    stale_after: float = attrs.field(default=120.0, validator=gt(0))
    observing: bool = False

    @property
    def budget(self) -> float:
        """The share of minutes that may be short of pods."""
        return 1 - self.service_level

    @property
    def is_strict(self) -> bool:
        """Whether the service level is a promise over weeks only: at 0.999, ten minutes in a week."""
        return self.service_level >= STRICT - WHOLE_WITHIN

    @property
    def rate(self) -> float:
        """How far log h moves for one minute short of pods."""
        return RATE * math.sqrt(0.01 / self.budget)


@attrs.frozen
class Recommended:
    """``replicas`` were recommended at ``at`` (epoch seconds); the fewest, where several answers fell into one step."""

    at: float
    replicas: int


@attrs.frozen
class DaySpent:
    """``minutes`` judged in one day (counted from the epoch), of them ``short`` without enough pods."""

    day: int
    minutes: float
    short: float


@attrs.frozen
class Account:
    """Pod-minutes: ``needed`` for the load, of them ``unserved``; ``spare`` were there for nothing."""

    needed: float = 0.0
    unserved: float = 0.0
    spare: float = 0.0

    def add(self, outcome: "Judged", target_per_pod: float) -> "Account":
        """With one step more."""
        pods = outcome.load / target_per_pod
        return Account(
            self.needed + pods * outcome.minutes,
            self.unserved + max(pods - outcome.ready, 0.0) * outcome.minutes,
            self.spare + max(outcome.ready - pods, 0.0) * outcome.minutes,
        )


@attrs.frozen
class SteeringState:
    """All that is remembered from tick to tick; part of the snapshot, so that it survives a restart.

    ``h`` multiplies the upper quantile; None until the first tick. ``hold`` is that of `kedastral.core.holding`, in
    seconds. ``judged_until`` is the date of the newest value judged, in epoch seconds.
    """

    h: float | None = attrs.field(default=None, validator=optional([ge(LOWEST), le(HIGHEST)]))
    hold: float = attrs.field(default=SHORTEST_HOLD, validator=[ge(SHORTEST_HOLD), le(LONGEST_HOLD)], kw_only=True)
    judged_until: float | None = None
    recommended: tuple[Recommended, ...] = ()
    spent: tuple[DaySpent, ...] = ()
    account: Account = attrs.field(factory=Account)

    @property
    def at_cap(self) -> bool:
        """Whether h is as high as it goes: the service level will be missed, and more pods are not the answer."""
        return self.h is not None and self.h >= AT_CAP * HIGHEST

    @property
    def minutes(self) -> float:
        """The minutes judged over the last `BUDGET_DAYS` days."""
        return sum(day.minutes for day in self.spent)

    @property
    def minutes_short(self) -> float:
        """Of `minutes`, those without enough pods."""
        return sum(day.short for day in self.spent)

    def budget_spent(self, settings: SteeringSettings) -> float:
        """The share of the budget of the minutes judged that is spent: 1 is all of it, 2 is twice what was promised.

        The budget is a day's at least: of the first minutes a single short one would be a hundred times their own.
        """
        return self.minutes_short / (max(self.minutes, DAY_MINUTES) * settings.budget)


@attrs.frozen
class Judged:
    """One step that has ended, begun ``at``: its ``load``, and the pods ``ready`` for it, of what was recommended.

    ``known`` is the load for which the longest hold would have kept pods.
    """

    at: float
    minutes: float
    load: float
    ready: int
    known: float = 0.0


def factor_of(state: SteeringState, settings: SteeringSettings) -> float:
    """The h to plan with."""
    if state.h is not None:
        return state.h
    return FIRST_STRICT if settings.is_strict else FIRST


def is_short(outcome: Judged, policy: PlanPolicy) -> bool:
    """Whether the load exceeded what the pods sustain."""
    return outcome.load > outcome.ready * policy.target_per_pod * (1 + WHOLE_WITHIN)


def is_return(outcome: Judged, h: float, policy: PlanPolicy) -> bool:
    """Whether it was short by more than raising ``h`` to its cap would add, where a longer hold would add more."""
    at_most = min(outcome.load, outcome.known) * h / HIGHEST
    return is_short(attrs.evolve(outcome, load=at_most), policy)


def steer(state: SteeringState, outcome: Judged, settings: SteeringSettings) -> SteeringState:
    """``state`` after one step whose outcome is known: the budget, and h and the hold unless a guard keeps them.

    They stay where they could not have mattered: at the fewest replicas with enough pods (a quiet week would wind them
    down, and the return pay for it), at the most replicas, and where nothing acts on what is recommended: what that
    would have come to is measured all the same.
    """
    short = is_short(outcome, settings.policy)
    account = state.account.add(outcome, settings.policy.target_per_pod)
    state = attrs.evolve(state, spent=_spend(state.spent, outcome, short=short), account=account)
    bounds = settings.policy.bounds
    without_effect = (outcome.ready <= bounds.fewest and not short) or (bounds.most and outcome.ready >= bounds.most)
    if settings.observing or without_effect:
        return state
    h, change = factor_of(state, settings), settings.rate * outcome.minutes * (short - settings.budget)
    returned = is_return(outcome, h, settings.policy)
    hold = next_hold(state.hold, outcome.minutes, settings.budget, settings.lead_time, returned=returned)
    return attrs.evolve(state, h=min(max(h * math.exp(change), LOWEST), HIGHEST), hold=hold)


def judge(state: SteeringState, history: Series, settings: SteeringSettings) -> SteeringState:
    """``state`` steered by every value of ``history`` that was not judged before, oldest first.

    A gap is not judged, unless it is at the end and may still be filled, nor a step for which it is not known what was
    served.
    """
    newest = history.newest
    if newest is None:
        return state
    start, end, until = _epoch(history.start), _epoch(newest.at), state.judged_until
    first = len(history) if until is None else max(round((until - start) / history.step) + 1, 0)
    for i in range(first, len(history)):
        at, load = start + (i - 1) * history.step, float(history.values[i])  # a value is dated by the end of its step
        ready = ready_during(state.recommended, at, history.step, settings)
        if ready is not None and math.isfinite(load):
            known = _known_before(history, i, settings) if load > ready * settings.policy.target_per_pod else 0.0
            state = steer(state, Judged(at, history.step / 60, load, ready, known), settings)
    return attrs.evolve(state, judged_until=end if until is None else max(end, until))


def ready_during(
    recommended: tuple[Recommended, ...], at: float, step: float, settings: SteeringSettings
) -> int | None:
    """The pods Ready in the step that begins ``at``: the fewest recommended since a pod would have had to be ordered.

    None where that is not known: before the first recommendation, or where they came further apart than
    ``stale_after``, so that something else was served in between.
    """
    ordered_by = at - max(settings.lead_time - step, 0.0)
    fewest, before = None, at
    for entry in reversed(recommended):
        if entry.at > at + WHOLE_WITHIN:
            continue
        if before - entry.at > max(settings.stale_after, 1.5 * step):
            return None
        fewest = entry.replicas if fewest is None else min(fewest, entry.replicas)
        if entry.at <= ordered_by + WHOLE_WITHIN:
            return fewest
        before = entry.at
    return None


def remember(state: SteeringState, at: float, replicas: int, step: float, settings: SteeringSettings) -> SteeringState:
    """``state`` with ``replicas`` recommended at ``at``; answers of one step are kept as one, the fewest."""
    oldest = at - settings.lead_time - KEPT_BEYOND_LEAD
    kept = [entry for entry in state.recommended if oldest <= entry.at < at]
    if kept and kept[-1].at // step == at // step:
        last = kept.pop()
        kept.append(Recommended(last.at, min(last.replicas, replicas)))
    else:
        kept.append(Recommended(at, replicas))
    return attrs.evolve(state, recommended=tuple(kept))


def _known_before(history: Series, i: int, settings: SteeringSettings) -> float:
    """What the longest hold would have kept pods for in step ``i``, by what was known when they had to be ordered."""
    seen = max(i + 1 - max(math.ceil(settings.lead_time / history.step - WHOLE_WITHIN), 1), 0)
    return held_load(attrs.evolve(history, values=history.values[:seen]), LONGEST_HOLD)


def _spend(spent: tuple[DaySpent, ...], outcome: Judged, *, short: bool) -> tuple[DaySpent, ...]:
    day, minutes = int(outcome.at // 86400), outcome.minutes
    kept = tuple(entry for entry in spent if day - BUDGET_DAYS < entry.day)
    if kept and kept[-1].day >= day:
        last = kept[-1]
        return (*kept[:-1], DaySpent(last.day, last.minutes + minutes, last.short + minutes * short))
    return (*kept, DaySpent(day, minutes, minutes * short))


def _epoch(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()
