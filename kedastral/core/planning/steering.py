# SPDX-License-Identifier: Apache-2.0
"""Steers a plan to its service level: judges each past minute and adjusts factor, hold and cap accordingly.

For each minute the pods that must have been Ready are derived from the recommendations, without looking at the cluster.
A minute short of pods raises whatever could have helped; any other minute lowers it a little, in the ratio at which the
stated share of minutes has enough (Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift", 2021):

- The steering factor (``h`` in docs/planner.md), which multiplies the upper quantile of the forecast.
- The peak hold: how long the pods of a recent peak are kept. Multiplying a forecast does not cover load that goes on
  and off for hours without warning: the load before a jump says nothing about its size, but the recent peak does. A
  minute lengthens the hold if it was short by more than the highest factor could have covered and a longer hold would
  have helped. All others shorten it, in the ratio at which such minutes alone spend the whole budget. If the factor
  suffices, or the load has no precedent, the hold is at its minimum and has no effect.
- The relaxation of the cap on load (`kedastral.core.planning.load_cap`).
- The seasonal quantile: how many of the last days' loads at this time of day get their pods ahead
  (`kedastral.core.planning.seasonal_peak`).

The error budget and the pod-minutes account use the same minutes.
"""

import math

import attrs
import numpy as np
from attrs.validators import ge, gt, le, lt, optional

from kedastral.core.capacity import MAX_REPLICAS, PlanPolicy
from kedastral.core.planning.load_cap import MAX_CAP_RELAXATION, next_relaxation, rate_for_a_jump, scale_within
from kedastral.core.planning.seasonal_peak import next_seasonal_quantile, seasonal_peak
from kedastral.core.planning.stabilization import STEP_TOLERANCE, Recommendation
from kedastral.core.series import DAY, MINUTE, Series, epoch_seconds
from kedastral.core.steps import WHOLE_WITHIN, steps_to_serve

# The steering factor

FACTOR_RATE = 0.015
"""How far the logarithm of the steering factor moves for a minute short of pods, at a service level of 0.99. It
is inversely proportional to the square root of the budget: rarer violations count for more, but not in proportion."""
LEARNING_RUN, MIN_RATE_SHARE = 300.0, 0.2
"""Seconds of lead time, and the least share of the initial rate: see `rate_of`. A factor that moves less needs fewer
pods for the same minutes short. Half the seconds save 1 % more pods, but miss the service level more often."""
MIN_FACTOR, MAX_FACTOR = 0.7, 2.0
"""Below the minimum, the reactive floor alone decides. Above the maximum, more pods do not help: the lead time is
wrong, or the load jumps without warning."""
NEAR_MAX_SHARE = 0.98
"""From this share of `MAX_FACTOR` on the factor counts as at it: it falls a little between violations."""
INITIAL_FACTOR, INITIAL_STRICT_FACTOR, STRICT_SERVICE_LEVEL = 1.1, 1.2, 0.999
"""The initial factor, and the one for a service level of at least 0.999, where violations are too rare to wait for."""

# The budget

BUDGET_DAYS = 28
"""The budget covers the last four weeks: whole weeks, and enough of them for 0.999 to be meaningful."""
DAY_MINUTES = DAY / MINUTE
MAX_ALLOWED = 0.1
"""The largest share of the minutes under load that may be short because the load is idle the rest of the time."""
RECOMMENDATION_MEMORY = 900.0
"""Seconds for which recommendations are kept beyond the lead time, so that late measurements can still be judged."""

# The peak hold

MIN_PEAK_HOLD, MAX_PEAK_HOLD = 300.0, DAY
"""Bounds of the hold in seconds. The minimum has no effect: plans go down no sooner than that anyway
(`kedastral.core.planning.stabilization`). The maximum is a day, since load that goes on and off mostly returns once a
day."""
PEAK_HOLD_GROWTH = 10.0
"""A jump that is short of pods for one lead time makes the hold this many times longer, so that two jumps take it from
minutes to hours: at 0.995 a day's budget is seven minutes, hardly enough for more jumps. 10 to 60 work equally well; 2
reacts too late."""
SUSTAINED_PEAK_HOLD, SUSTAINED_FOR = 2700.0, 3 * DAY
"""A hold of at least the first number of seconds counts as sustained for the second number of seconds after a jump
within `longest_gap`: then any jump of the last day lengthens it. The first is a little less than what one jump makes of
the minimum."""


@attrs.frozen
class SteeringSettings:
    """The service level to reach, and what decides whether a minute had enough pods.

    ``service_level`` is the share of minutes with enough pods; times are in seconds. A recommendation older than
    ``stale_after`` was not served. ``observing`` is set if nothing acts on the recommendations.
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
        """Whether the service level can only be judged over weeks: 0.999 allows ten minutes a week."""
        return self.service_level >= STRICT_SERVICE_LEVEL - WHOLE_WITHIN

    @property
    def rate(self) -> float:
        """How far the logarithm of the steering factor initially moves for one minute short of pods: see `rate_of`."""
        return FACTOR_RATE * math.sqrt(0.01 / self.budget)


@attrs.frozen
class DaySpent:
    """The ``minutes`` judged in one day (counted from the epoch), ``short`` of them without enough pods.

    ``resting`` of them had enough pods at the replica minimum: nothing is learnt from these. In ``idle`` ones the load
    needed no more than that minimum, however many pods there were. ``at_max`` of the short ones had as many pods as the
    replica maximum allowed: only a higher maximum would have helped.
    """

    day: int
    minutes: float
    short: float
    resting: float = 0.0
    at_max: float = 0.0
    idle: float = 0.0


@attrs.frozen
class StepOutcome:
    """A past step that began at ``at`` (epoch seconds): its ``load``, and the pods ``ready`` for it.

    ``peak`` is the largest load for which a peak hold could have kept pods (within `longest_gap`), ``older_peak`` that
    of the whole day before, ``uncapped`` the pods that would have been Ready without the cap on load. ``seasonal`` is
    the largest load of the last days at this time of day. All are 0 if the pods were enough.
    """

    at: float
    minutes: float
    load: float
    ready: int
    peak: float = 0.0
    older_peak: float = 0.0
    uncapped: int = 0
    seasonal: float = 0.0


@attrs.frozen
class Account:
    """Pod-minutes: ``needed`` for the load, ``unserved`` of them missing; ``spare`` were Ready without load.

    ``short`` are minutes without enough pods. Unlike `SteeringState.minutes_short` they never fall, so that the rate at
    which the error budget is spent can be measured.
    """

    needed: float = 0.0
    unserved: float = 0.0
    spare: float = 0.0
    short: float = 0.0

    def add(self, outcome: StepOutcome, target_per_pod: float, *, short: bool = False) -> "Account":
        """The account after one more step, which was ``short`` of pods or not."""
        pods = min(outcome.load / target_per_pod, float(MAX_REPLICAS))  # sums of more would end as infinite
        return Account(
            self.needed + pods * outcome.minutes,
            self.unserved + max(pods - outcome.ready, 0.0) * outcome.minutes,
            self.spare + max(outcome.ready - pods, 0.0) * outcome.minutes,
            self.short + outcome.minutes * short,
        )


@attrs.frozen
class SteeringState:
    """The feedback, kept from tick to tick; part of the snapshot, so that it survives a restart.

    ``factor`` multiplies the upper quantile; None until the first tick. ``peak_hold`` is in seconds.
    ``bridged_at`` is when pods were last short that a longer hold would have kept within `longest_gap`, in epoch
    seconds. ``cap_relaxation`` multiplies the cap on load. ``seasonal_quantile`` is 0..1.
    ``judged_until`` is the time of the newest value judged, in epoch seconds. ``published`` are the recommendations
    as they were published.
    """

    factor: float | None = attrs.field(default=None, validator=optional([ge(MIN_FACTOR), le(MAX_FACTOR)]))
    peak_hold: float = attrs.field(
        default=MIN_PEAK_HOLD, validator=[ge(MIN_PEAK_HOLD), le(MAX_PEAK_HOLD)], kw_only=True
    )
    bridged_at: float | None = attrs.field(default=None, kw_only=True)
    cap_relaxation: float = attrs.field(default=1.0, validator=[ge(1), le(MAX_CAP_RELAXATION)], kw_only=True)
    seasonal_quantile: float = attrs.field(default=0.0, validator=[ge(0), le(1)], kw_only=True)
    judged_until: float | None = None
    published: tuple[Recommendation, ...] = ()
    spent: tuple[DaySpent, ...] = ()
    account: Account = attrs.field(factory=Account)

    @property
    def is_factor_at_max(self) -> bool:
        """Whether the factor is at its maximum: the service level will be missed, and more pods are not the answer."""
        return self.factor is not None and self.factor >= NEAR_MAX_SHARE * MAX_FACTOR

    @property
    def minutes(self) -> float:
        """The minutes judged over the last `BUDGET_DAYS` days."""
        return sum(day.minutes for day in self.spent)

    @property
    def minutes_short(self) -> float:
        """How many of `minutes` lacked pods."""
        return sum(day.short for day in self.spent)

    @property
    def minutes_at_max(self) -> float:
        """How many of `minutes_short` had as many pods as the replica maximum allowed."""
        return sum(day.at_max for day in self.spent)

    @property
    def is_mostly_at_max(self) -> bool:
        """Whether most of `minutes_short` had as many pods as the replica maximum allowed."""
        return 2 * self.minutes_at_max > self.minutes_short

    @property
    def minutes_at_minimum(self) -> float:
        """How many of `minutes` had enough pods at the replica minimum."""
        return sum(day.resting for day in self.spent)

    @property
    def minutes_idle(self) -> float:
        """How many of `minutes` had load that the replica minimum sustains."""
        return sum(day.idle for day in self.spent)

    def budget_spent(self, settings: SteeringSettings) -> float:
        """The share of the budget that is spent: 1 is all of it, 2 is twice the minutes that may be short.

        The budget is at least that of a day. Otherwise one short minute after a start would overspend it a hundredfold.
        """
        return self.minutes_short / (max(self.minutes, DAY_MINUTES) * settings.budget)


def keep_steering(state: SteeringState, answers: SteeringState) -> SteeringState:
    """``state`` with the feedback values of ``answers``: factor, hold, cap and seasonal quantile."""
    return attrs.evolve(
        state,
        factor=answers.factor,
        peak_hold=answers.peak_hold,
        bridged_at=answers.bridged_at,
        cap_relaxation=answers.cap_relaxation,
        seasonal_quantile=answers.seasonal_quantile,
    )


def judge_steps(state: SteeringState, history: Series, settings: SteeringSettings) -> SteeringState:
    """``state`` after every value of ``history`` that was not judged before, oldest first.

    Gaps are skipped, except at the end, where they may still be filled. Steps for which it is unknown what was served
    are skipped too. Once the clock has been set back, judging begins anew, as at a start.
    """
    newest = history.newest
    if newest is None:
        return state
    start, end, until = epoch_seconds(history.start), epoch_seconds(newest.at), state.judged_until
    now = start + len(history) * history.step  # or up to one step later
    if until is not None and until > now + RECOMMENDATION_MEMORY:
        until = None  # otherwise nothing would be judged until the clock is as far again
    first = len(history) if until is None else max(round((until - start) / history.step) + 1, 0)
    for i in range(first, len(history)):
        at, load = start + (i - 1) * history.step, float(history.values[i])  # a value is dated by the end of its step
        serving = recommended_for(state.published, at, history.step, settings)
        if serving and math.isfinite(load):
            outcome = StepOutcome(at, history.step / MINUTE, load, min(entry.replicas for entry in serving))
            if load > outcome.ready * settings.policy.target_per_pod:
                uncapped = min(max(entry.replicas, entry.uncapped or 0) for entry in serving)
                seen = max(i + 1 - steps_to_serve(settings.lead_time, history.step), 0)
                before = attrs.evolve(history, values=history.values[:seen])
                outcome = attrs.evolve(
                    outcome,
                    peak=peak_load(before, longest_gap(state, settings)),
                    older_peak=peak_load(before, MAX_PEAK_HOLD),
                    uncapped=uncapped,
                    seasonal=seasonal_peak(before, seen, i + 1 - seen, 1.0),
                )
            state = apply_outcome(state, outcome, settings)
    return attrs.evolve(state, judged_until=end if until is None else max(end, until))


def apply_outcome(state: SteeringState, outcome: StepOutcome, settings: SteeringSettings) -> SteeringState:
    """``state`` after one step: the budget, the account and, if they mattered, the values that feedback steers.

    These do not change when they could not have mattered: at the replica minimum with enough pods (a quiet week
    would wear them down, and the returning load would suffer), at the replica maximum, and if nothing acts on the
    recommendations. The minutes are counted all the same, and those at rest change what `allowed_share` is.
    """
    short, bounds = is_short(outcome, settings.policy), settings.policy.bounds
    idle = not is_short(attrs.evolve(outcome, ready=bounds.min), settings.policy)
    resting = outcome.ready <= bounds.min and not short
    at_max = 0 < bounds.max <= outcome.ready
    account = state.account.add(outcome, settings.policy.target_per_pod, short=short)
    day = DaySpent(
        int(outcome.at // DAY),
        outcome.minutes,
        short=outcome.minutes * short,
        resting=outcome.minutes * resting,
        at_max=outcome.minutes * (short and at_max),
        idle=outcome.minutes * (idle and not short),
    )
    spent = _spend(state.spent, day)
    state = attrs.evolve(state, spent=spent, account=account)
    if settings.observing or resting or at_max:
        return state
    factor, allowed = factor_of(state, settings), allowed_share(state, settings, state.minutes_at_minimum)
    rate = rate_of(state, settings) * outcome.minutes
    change = rate * (short - settings.budget)
    if factor > 1:  # rests lower a raised factor, but never make load short that the bare quantile would cover
        change = max(rate * (short - allowed), min(change, -math.log(factor)))
    bridged = would_longer_hold_help(outcome, outcome.peak, factor, settings.policy)
    if bridged:
        state = attrs.evolve(state, bridged_at=outcome.at)
    hold_helps = bridged or (
        is_hold_sustained(state, outcome.at)
        and would_longer_hold_help(outcome, outcome.older_peak, factor, settings.policy)
    )
    cap_hurt = short and not is_short(attrs.evolve(outcome, ready=outcome.uncapped), settings.policy)
    return attrs.evolve(
        state,
        factor=scale_within(factor, change, MIN_FACTOR, MAX_FACTOR),
        peak_hold=next_peak_hold(
            state.peak_hold,
            outcome.minutes,
            allowed_for_hold(state, settings),
            settings.lead_time,
            longer_helps=hold_helps,
        ),
        cap_relaxation=next_relaxation(
            state.cap_relaxation, outcome.minutes, allowed, settings.lead_time, higher_helps=cap_hurt
        ),
        seasonal_quantile=next_seasonal_quantile(
            state.seasonal_quantile,
            outcome.minutes,
            allowed,
            higher_helps=would_other_days_help(outcome, factor, settings),
        ),
    )


def allowed_share(state: SteeringState, settings: SteeringSettings, resting: float) -> float:
    """The share of the other minutes that may be short: the budget, and more if the load rests for ``resting`` minutes.

    The budget is a share of all minutes. A batch that runs for two hours a day may be short for a larger share of
    these, and steering it to the bare budget would keep pods all day for its first minutes. What is spent already is
    not allowed again: a load that misses its service level is steered to the bare budget.
    """
    per_minute = resting / max(state.minutes - resting, 1.0)
    unspent = max(1 - state.budget_spent(settings), 0.0)
    return min(settings.budget * (1 + unspent * per_minute), max(settings.budget, MAX_ALLOWED))


def allowed_for_hold(state: SteeringState, settings: SteeringSettings) -> float:
    """`allowed_share` for the hold: an idle load rests, even while the hold keeps its pods.

    Otherwise a hold that keeps pods would itself leave less rest, and so less that may be short, and keep them longer.
    """
    return allowed_share(state, settings, state.minutes_idle)


def rate_of(state: SteeringState, settings: SteeringSettings) -> float:
    """How far the logarithm of the steering factor moves for one minute short of pods, given what it has learnt so far.

    It falls with the square root of the minutes short (in daily budgets) times the lead time, since such minutes come
    in runs of that length. This is a decaying step size (Angelopoulos, Barber and Bates, "Online conformal prediction
    with decaying step sizes", 2024) by the sum of squared gradients, as in AdaGrad (Duchi, Hazan and Singer, 2011). At
    most one daily budget per day counts, so that a missed service level is learnt from as fast as one that is met.
    """
    budgets = min(state.minutes_short / settings.budget, state.minutes) / DAY_MINUTES
    learnt = max(budgets * settings.lead_time / LEARNING_RUN, 1.0)
    return settings.rate * max(1 / math.sqrt(learnt), MIN_RATE_SHARE)


def factor_of(state: SteeringState, settings: SteeringSettings) -> float:
    """The steering factor to plan with."""
    if state.factor is not None:
        return state.factor
    return INITIAL_STRICT_FACTOR if settings.is_strict else INITIAL_FACTOR


def is_short(outcome: StepOutcome, policy: PlanPolicy) -> bool:
    """Whether the load exceeded what the pods sustain."""
    return outcome.load > outcome.ready * policy.target_per_pod * (1 + WHOLE_WITHIN)


def would_longer_hold_help(outcome: StepOutcome, peak: float, factor: float, policy: PlanPolicy) -> bool:
    """Whether the step was short by more than the highest factor would have added, but not with pods for ``peak``."""
    beyond_factor = min(outcome.load, peak) * factor / MAX_FACTOR
    return is_short(attrs.evolve(outcome, load=beyond_factor), policy)


def would_other_days_help(outcome: StepOutcome, factor: float, settings: SteeringSettings) -> bool:
    """Whether the step was short, but not with the pods that the last days needed at this time of day.

    Below `STRICT_SERVICE_LEVEL`, it must be short by more than the highest factor would have added: the factor is the
    cheaper one. At a strict level it is not, since there it is raised by rare events, and then multiplies every minute.
    """
    factor = MAX_FACTOR if settings.is_strict else factor
    return outcome.seasonal >= outcome.load and would_longer_hold_help(
        outcome, outcome.seasonal, factor, settings.policy
    )


def recommended_for(
    published: tuple[Recommendation, ...], at: float, step: float, settings: SteeringSettings
) -> list[Recommendation]:
    """The recommendations for the step that begins at ``at``, since its pods had to be ordered; newest first.

    Empty if unknown: before the first recommendation, or if recommendations are further apart than ``stale_after``, so
    that something else was served in between.
    """
    exact = STEP_TOLERANCE * step
    ordered_by = at - max(settings.lead_time - step, 0.0)
    serving: list[Recommendation] = []
    later = at
    for entry in reversed(published):
        if entry.at > at + exact:
            continue
        if later - entry.at > max(settings.stale_after, 1.5 * step) + exact:
            break
        serving.append(entry)
        if entry.at <= ordered_by + exact:
            return serving
        later = entry.at
    return []


def add_recommendation(
    state: SteeringState,
    at: float,
    replicas: int,
    step: float,
    settings: SteeringSettings,
    uncapped: int | None = None,
) -> SteeringState:
    """``state`` with ``replicas`` recommended at ``at``; the minimum of the recommendations of one step is kept.

    ``uncapped`` as in `Recommendation`.
    """
    oldest = at - settings.lead_time - RECOMMENDATION_MEMORY
    kept = [entry for entry in state.published if oldest <= entry.at < at]
    new = Recommendation(at, replicas, uncapped)
    if kept and kept[-1].at // step == at // step:
        last = kept.pop()
        new = attrs.evolve(new if replicas < last.replicas else last, at=last.at)
    return attrs.evolve(state, published=(*kept, new))


def next_peak_hold(peak_hold: float, minutes: float, budget: float, lead_time: float, *, longer_helps: bool) -> float:
    """``peak_hold`` after ``minutes``.

    ``longer_helps`` is set if those minutes were short of pods that a longer hold would have kept. ``budget`` is the
    share of minutes that may be short. By the time the budget has recovered from a jump, so has the hold.
    """
    change = rate_for_a_jump(PEAK_HOLD_GROWTH, lead_time) * minutes * (longer_helps - budget)
    return scale_within(peak_hold, change, MIN_PEAK_HOLD, MAX_PEAK_HOLD)


def longest_gap(state: SteeringState, settings: SteeringSettings) -> float:
    """The longest time in seconds between two peaks that may lengthen the hold, to within a minute.

    The hold falls while it waits. If the load returns after even the longest hold has fallen to less than the wait,
    once a night for example, a longer hold would keep pods for hours and give up too early.
    """
    gaps = np.arange(0.0, MAX_PEAK_HOLD, MINUTE)
    fall = rate_for_a_jump(PEAK_HOLD_GROWTH, settings.lead_time) * allowed_for_hold(state, settings)
    return float(gaps[np.exp(-fall * gaps / MINUTE) * MAX_PEAK_HOLD >= gaps][-1])


def is_hold_sustained(state: SteeringState, at: float) -> bool:
    """Whether jumps within `longest_gap` keep the hold up at ``at`` (epoch seconds), so that others lengthen it, too.

    Load that goes on and off at random waits longer now and then. A hold that only longer gaps keep up would never
    fall: it does not while the load is idle.
    """
    lasts = state.bridged_at is not None and at - state.bridged_at <= SUSTAINED_FOR
    return lasts and state.peak_hold >= SUSTAINED_PEAK_HOLD


def peak_load(history: Series, peak_hold: float) -> float:
    """The largest load of the last ``peak_hold`` seconds, in units of load; 0 at the minimum of the hold.

    It must have lasted for two values: a single one may be a measurement error, and would be held for hours.
    """
    if peak_hold <= MIN_PEAK_HOLD:
        return 0.0
    recent = history.values[-math.floor(peak_hold / history.step + 1e-9) - 1 :]
    lasting = np.minimum(recent[1:], recent[:-1])
    return float(np.nanmax(lasting, initial=0.0)) if np.isfinite(lasting).any() else 0.0


def _spend(spent: tuple[DaySpent, ...], more: DaySpent) -> tuple[DaySpent, ...]:
    """``spent`` with the minutes of ``more`` added to its day, or to the newest one if the clock was set back."""
    kept = [entry for entry in spent if more.day - BUDGET_DAYS < entry.day]
    last = kept.pop() if kept and kept[-1].day >= more.day else DaySpent(more.day, 0.0, 0.0)
    new = DaySpent(
        last.day,
        last.minutes + more.minutes,
        last.short + more.short,
        last.resting + more.resting,
        last.at_max + more.at_max,
        last.idle + more.idle,
    )
    return (*kept, new)
