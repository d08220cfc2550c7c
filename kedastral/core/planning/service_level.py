# SPDX-License-Identifier: Apache-2.0
"""The hold: how long the pods of a load that has gone are kept, where no factor on a forecast would have been enough.

Load that is on or off for hours, with nothing to announce it, is not met by multiplying a forecast: the load before a
jump says nothing of its size. The largest load of late does. For how long it does is steered as h is (see
`kedastral.core.planning.service_level`): minutes short by more than h could have mended, and a longer hold could,
lengthen the hold;
all others shorten it, in the ratio at which such minutes alone spend the whole budget. It is at its shortest, and
without any effect, wherever h is enough, or where what comes has not been seen before.
"""

import math
from datetime import datetime

import attrs
import numpy as np
from attrs.validators import ge, gt, le, lt, optional

from kedastral.core.capacity import (
    WHOLE_WITHIN,
    PlanPolicy,
    drop_idle_need,
    is_idle,
    lead_steps_of,
    load_for_floor,
    plan_replicas,
    reactive_replicas,
)
from kedastral.core.forecast import Forecast
from kedastral.core.planning.stabilization import (
    PreviousPlan,
    Recommendation,
    UnstabilizedPlan,
    hold,
    keep_wanted,
    stabilize,
    steps_held,
    wanted_of,
)
from kedastral.core.planning.status import OK, STANDS_DOWN, ForecastStatus, span_of, too_little
from kedastral.core.planning.uncertainty import (
    MOST_SURPRISE,
    Calibration,
    UncertaintyState,
    expect,
    observe,
    offset_of,
    upper_path,
)
from kedastral.core.series import EPOCH, Floats, Ints, Series, frozen_floats, frozen_ints, same_array

MIN_PEAK_HOLD, MAX_PEAK_HOLD = 300.0, 86400.0
"""The bounds of the hold, in seconds. At the shortest it is not used: less has to be wanted for as long anyway before
it is served. A day at most: what is on at some hours and off at others is so once a day."""
LENGTHENS = 10.0
"""One jump, short of pods for a lead time, makes the hold this many times as long, so that two reach from minutes to
hours: at 0.995 a day has a budget of seven minutes, hardly more. 10 to 60 do alike; twice as long comes too late."""


def next_peak_hold(hold: float, minutes: float, budget: float, lead_time: float, *, returned: bool) -> float:
    """``hold`` after ``minutes`` that were, or were not, short of pods that a longer hold would have kept.

    ``budget`` is the share of minutes that may be short. Once a jump is paid for, its lengthening is gone.
    """
    jump = max(lead_time / 60, 1.0)
    change = math.log(LENGTHENS) * minutes / jump * (returned - budget)
    return min(max(hold * math.exp(change), MIN_PEAK_HOLD), MAX_PEAK_HOLD)


def peak_load(history: Series, hold: float) -> float:
    """The largest load of the last ``hold`` seconds, in units of load; 0 where nothing is held.

    It has to have lasted for two values: one alone may be a mistake of the measurement, and would be held for hours.
    """
    if hold <= MIN_PEAK_HOLD:
        return 0.0
    recent = history.values[-math.floor(hold / history.step + 1e-9) - 1 :]
    lasting = np.minimum(recent[1:], recent[:-1])
    return float(np.nanmax(lasting, initial=0.0)) if np.isfinite(lasting).any() else 0.0


# --- Steering to a service level: one factor on the upper quantile, moved by whether there were enough pods. For
# each minute that has ended, the pods that must have been Ready are worked out in hindsight from what was
# recommended: no look at the cluster is needed. A minute short of pods raises the factor h, any other lowers it a
# little, in the ratio at which the stated share of minutes has enough (Gibbs and Candes, "Adaptive Conformal
# Inference Under Distribution Shift", 2021, applied to a factor instead of a quantile).

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

    ``h`` multiplies the upper quantile; None until the first tick. ``hold`` is that of
    `kedastral.core.planning.service_level`, in
    seconds. ``judged_until`` is the date of the newest value judged, in epoch seconds.
    """

    safety_factor: float | None = attrs.field(default=None, validator=optional([ge(LOWEST), le(HIGHEST)]))
    peak_hold: float = attrs.field(
        default=MIN_PEAK_HOLD, validator=[ge(MIN_PEAK_HOLD), le(MAX_PEAK_HOLD)], kw_only=True
    )
    judged_until: float | None = None
    recommended: tuple[Recommendation, ...] = ()
    spent: tuple[DaySpent, ...] = ()
    account: Account = attrs.field(factory=Account)

    @property
    def at_cap(self) -> bool:
        """Whether h is as high as it goes: the service level will be missed, and more pods are not the answer."""
        return self.safety_factor is not None and self.safety_factor >= AT_CAP * HIGHEST

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


def safety_factor_of(state: SteeringState, settings: SteeringSettings) -> float:
    """The h to plan with."""
    if state.safety_factor is not None:
        return state.safety_factor
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
    without_effect = (outcome.ready <= bounds.min and not short) or (bounds.max and outcome.ready >= bounds.max)
    if settings.observing or without_effect:
        return state
    h, change = safety_factor_of(state, settings), settings.rate * outcome.minutes * (short - settings.budget)
    returned = is_return(outcome, h, settings.policy)
    hold = next_peak_hold(state.peak_hold, outcome.minutes, settings.budget, settings.lead_time, returned=returned)
    return attrs.evolve(state, safety_factor=min(max(h * math.exp(change), LOWEST), HIGHEST), peak_hold=hold)


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
    recommended: tuple[Recommendation, ...], at: float, step: float, settings: SteeringSettings
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
        kept.append(Recommendation(last.at, min(last.replicas, replicas)))
    else:
        kept.append(Recommendation(at, replicas))
    return attrs.evolve(state, recommended=tuple(kept))


def _known_before(history: Series, i: int, settings: SteeringSettings) -> float:
    """What the longest hold would have kept pods for in step ``i``, by what was known when they had to be ordered."""
    seen = max(i + 1 - max(math.ceil(settings.lead_time / history.step - WHOLE_WITHIN), 1), 0)
    return peak_load(attrs.evolve(history, values=history.values[:seen]), MAX_PEAK_HOLD)


def _spend(spent: tuple[DaySpent, ...], outcome: Judged, *, short: bool) -> tuple[DaySpent, ...]:
    day, minutes = int(outcome.at // 86400), outcome.minutes
    kept = tuple(entry for entry in spent if day - BUDGET_DAYS < entry.day)
    if kept and kept[-1].day >= day:
        last = kept[-1]
        return (*kept[:-1], DaySpent(last.day, last.minutes + minutes, last.short + minutes * short))
    return (*kept, DaySpent(day, minutes, minutes * short))


def _epoch(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()


# --- `plan_for_service_level`: one tick's plan from a point forecast, its uncertainty and the service level; pure.
# It ties # together `kedastral.core.planning.uncertainty` (how far the load may exceed the forecast),
# `kedastral.core.planning.service_level` (the
# factor that meets the service level) and `kedastral.core.capacity` (load to replicas, with its change limits and
# prewarm steps). What KEDA is told is still read from the plan by `kedastral.core.serving` alone: the steps that
# the lead time touches plus the prewarm steps are the window whose maximum is calibrated.

FLOOR_UTILISATION = 0.95
"""The reactive floor keeps pods at this share of their target, over h: it halves unserved load for 2 % of cost."""
WIDENS = 2.0
"""From 0.999 on h widens the margin too, by this power of it: what is left to avoid then are the jumps, and a factor on
a quiet load does little for them. At lower levels it costs more than it brings."""
LEAST_HISTORY = 2 * 3600.0
"""Seconds of history from which on the model leads. Before, it forecasts hardly better than the last value, and nobody
could tell yet whether it loses."""


NO_PREVIOUS_PLAN = PreviousPlan()


@attrs.frozen
class ServiceLevelSettings:
    """How a forecast with uncertainty becomes replicas.

    ``headroom`` fixes the factor on the upper quantile; None steers it to the service level. ``reactive_headroom`` is
    the floor's under a fixed headroom; None turns the floor off in either case. With less than ``least_history``
    seconds of history the last value is planned for. ``interval`` are the seconds between two ticks, None for a step.
    """

    steering: SteeringSettings
    headroom: float | None = None
    reactive_headroom: float | None = 1.1
    least_history: float = LEAST_HISTORY
    interval: float | None = None

    @property
    def policy(self) -> PlanPolicy:
        """The planner's settings; its own headroom is not read."""
        return self.steering.policy

    def widening(self, factor: float) -> float:
        """What a steered ``factor`` multiplies the margin by, besides multiplying the quantile: see `WIDENS`."""
        strict = self.headroom is None and self.steering.is_strict
        return float(max(factor, 1.0) ** WIDENS) if strict else 1.0

    def lead_steps(self, step: float) -> int:
        """The steps that ``[now, now + lead_time]`` touches: what `kedastral.core.serving.replicas_at` reads."""
        return lead_steps_of(self.steering.lead_time, step)

    def window(self, step: float) -> int:
        """The steps whose largest load a plan made now must do for."""
        return self.lead_steps(step) + self.policy.prewarm_steps


@attrs.frozen
class ServiceLevelState:
    """What one workload carries from tick to tick; all of it numbers, so that it can be stored.

    ``served`` is the newest recommendation; ``wanted`` what the plans of late came to, see
    `kedastral.core.planning.stabilization.keep_wanted`; ``unstabilized`` is the newest plan, ``said`` the newest
    that a model's forecast led to, None once that was found to lose.
    """

    uncertainty: UncertaintyState = attrs.field(factory=UncertaintyState)
    steering: SteeringState = attrs.field(factory=SteeringState)
    served: int | None = None
    wanted: tuple[Recommendation, ...] = ()
    unstabilized: UnstabilizedPlan | None = None
    last_model_plan: UnstabilizedPlan | None = None


@attrs.frozen
class ServiceLevelPlan:
    """One tick's plan: ``replicas`` and ``upper`` (load, before h) match the forecast's steps.

    Where ``status`` is not ok, the last value was planned for.
    """

    replicas: Ints = attrs.field(converter=frozen_ints, eq=attrs.cmp_using(eq=same_array))
    upper: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    floor: int | None
    factor: float
    status: ForecastStatus = OK

    def report(self, state: ServiceLevelState, settings: "ServiceLevelSettings") -> "ServiceLevelReport":
        """What the snapshot shows of this plan, with the ``state`` that goes on from it."""
        steering = settings.steering
        level = steering.service_level if settings.headroom is None else None
        spent = state.steering.budget_spent(steering)
        return ServiceLevelReport(self.upper, self.factor, level, spent, state)


@attrs.frozen
class ServiceLevelReport:
    """How a plan came about, for those who read it, and ``state``, which the next tick goes on from.

    ``upper`` is the calibrated quantile of each step's load, before ``factor`` multiplies it. ``service_level`` is None
    under a fixed headroom. ``budget_spent`` is 1 where all the minutes that may be short of pods have been.
    """

    upper: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    factor: float
    level: float | None
    budget_spent: float
    state: ServiceLevelState

    @property
    def hold(self) -> float | None:
        """The seconds for which the largest load of late keeps its pods; None where nothing is held."""
        hold = self.state.steering.peak_hold
        return hold if self.level is not None and hold > MIN_PEAK_HOLD else None

    @property
    def at_cap(self) -> bool:
        """Whether the factor is as high as it goes."""
        return self.level is not None and self.state.steering.at_cap


def plan_for_service_level(
    state: ServiceLevelState,
    history: Series,
    forecast: Forecast,
    settings: ServiceLevelSettings,
    before: PreviousPlan = NO_PREVIOUS_PLAN,
) -> tuple[ServiceLevelState, ServiceLevelPlan]:
    """The plan of this tick, and the state for the next.

    ``forecast`` was made from ``history``, its first value following the history's last. ``before.wanted`` is the
    ``previous`` of `kedastral.core.capacity.plan_replicas`. Raises ValueError where the history holds no value.
    """
    newest = history.newest
    if newest is None:
        raise ValueError("there is no history to plan from")
    state = learn(state, history, settings)
    status = status_of(state.uncertainty, history, forecast, settings.least_history)
    factor = safety_factor_of(state.steering, settings.steering) if settings.headroom is None else settings.headroom
    calibration, values = state.uncertainty.model, forecast.values
    if not status.is_ok:
        calibration, values = state.uncertainty.last, np.full(len(forecast.values), newest.value)
    upper = _upper_of(calibration, history, values, settings.widening(factor))
    floor = _floor_of(history, factor, state.steering.peak_hold, settings)
    policy = attrs.evolve(settings.policy, headroom=1.0)
    needed = upper * factor
    if is_idle(history):
        needed = drop_idle_need(needed, values, policy, settings.window(history.step))
    replicas = plan_replicas(needed, policy, previous=before.wanted)
    is_partial = history.quality.at_least is not None
    rest = None if status.may_take_back and not is_partial else before.rest
    state, replicas, floor = _serve(state, forecast, replicas, floor, settings, attrs.evolve(before, rest=rest))
    if status.may_take_back:
        state = attrs.evolve(state, last_model_plan=state.unstabilized if status.is_ok else None)
    if forecast.status.is_ok:  # what stands in is no forecast of the model's
        window, lead_steps = settings.window(history.step), settings.lead_steps(history.step)
        state = attrs.evolve(state, uncertainty=expect(state.uncertainty, history, forecast.values, window, lead_steps))
    return state, ServiceLevelPlan(replicas, upper, floor, factor, status)


def _serve(
    state: ServiceLevelState,
    forecast: Forecast,
    replicas: Ints,
    floor: int | None,
    settings: ServiceLevelSettings,
    before: PreviousPlan,
) -> tuple[ServiceLevelState, Ints, int | None]:
    """The plan as it is published, its floor, and the state that remembers what is served of it."""
    step, at = forecast.step, (forecast.made_at - EPOCH).total_seconds()
    lead_steps, interval = settings.lead_steps(step), settings.interval or step
    told = state.served if before.last_recommendation is None else before.last_recommendation
    news = [wanted_of(replicas, floor, lead_steps)]
    if told is not None and (state.served is None or told > state.served):
        news.insert(0, told)  # the plan before has come to more since it was made, and wants it as much as this one
    wanted = keep_wanted(state.wanted, at, interval, *news)
    calmed = stabilize(replicas, floor, told, wanted, settings.policy.bounds)
    plan = calmed.replicas if before.rest is None else np.maximum(calmed.replicas, before.rest)
    served = max(wanted_of(plan, calmed.floor, lead_steps), calmed.held)
    published = hold(plan, served, lead_steps, steps_held(step, interval)) if served > (calmed.floor or 0) else plan
    steering = remember(state.steering, at, served, step, settings.steering)
    unstabilized = UnstabilizedPlan.of(forecast.made_at, step, plan)
    state = attrs.evolve(state, steering=steering, served=served, wanted=wanted, unstabilized=unstabilized)
    return state, published, calmed.floor


def status_of(uncertainty: UncertaintyState, history: Series, forecast: Forecast, least: float) -> ForecastStatus:
    """Whether ``forecast`` may be planned for: it is one, there is enough history, and the model is not losing."""
    if not forecast.status.is_ok:
        return forecast.status
    if span_of(history) < least:
        return too_little(history, least)
    return STANDS_DOWN if uncertainty.standing_down else OK


def learn(state: ServiceLevelState, history: Series, settings: ServiceLevelSettings) -> ServiceLevelState:
    """``state`` after what ``history`` shows of forecasts and plans made before; a fixed headroom is not steered."""
    uncertainty = observe(state.uncertainty, history, settings.window(history.step))
    steering = judge(state.steering, history, settings.steering)
    if settings.headroom is not None:
        steering = attrs.evolve(
            steering, safety_factor=state.steering.safety_factor, peak_hold=state.steering.peak_hold
        )
    return attrs.evolve(state, uncertainty=uncertainty, steering=steering)


def _upper_of(calibration: Calibration, history: Series, values: Floats, widened: float) -> Floats:
    return upper_path(values, min(calibration.margins[0] * widened, MOST_SURPRISE), offset_of(history))


def _floor_of(history: Series, factor: float, hold: float, settings: ServiceLevelSettings) -> int | None:
    """What the newest load needs at once, and, where the service level is steered, what the hold keeps."""
    if settings.reactive_headroom is None or history.newest is None:
        return None
    if settings.headroom is not None:
        return reactive_replicas(load_for_floor(history), settings.reactive_headroom, settings.policy)
    needed = reactive_replicas(load_for_floor(history), factor / FLOOR_UTILISATION, settings.policy)
    return max(needed, reactive_replicas(peak_load(history, hold), 1 / FLOOR_UTILISATION, settings.policy))
