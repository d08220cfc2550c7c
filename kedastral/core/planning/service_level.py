# SPDX-License-Identifier: Apache-2.0
"""`plan_for_service_level`: one tick's plan from a forecast, its uncertainty and the service level.

The service level is the share of minutes with enough pods. Five things together reach it at low cost:

- The margin. The forecast is raised to a calibrated upper quantile of the largest load in the window that the plan must
  cover: the steps that the lead time overlaps and the prewarm steps (`kedastral.core.planning.uncertainty`).
- The safety factor. It multiplies that quantile, and follows feedback. For each minute that has ended, the pods that
  must have been Ready are worked out from the recommendations, without looking at the cluster. A minute short of pods
  raises the factor, any other lowers it a little, in the ratio at which the stated share of minutes has enough (Gibbs
  and Candes, "Adaptive Conformal Inference Under Distribution Shift", 2021, applied to a factor instead of a quantile).
- The peak hold: for how long the pods of a recent peak are kept. Load that is on or off for hours, with nothing to
  announce it, is not met by multiplying a forecast, since the load before a jump says nothing about its size; the
  recent peak does. Minutes short by more than the highest factor could have mended, where a longer hold would have
  helped, lengthen the hold; all others shorten it, in the ratio at which such minutes alone spend the whole budget.
  Wherever the factor suffices, or the load has no precedent, the hold is at its minimum and has no effect.
- Recurring peaks (`kedastral.core.planning.recurring_peaks`): bursts that come back, but not to the minute, are covered
  at their full size while that loses less than the forecast alone.
- The cap on load (`kedastral.core.planning.load_cap`): margin and factor together plan for no more than the largest
  load of the week, growth included, unless that cap has left minutes short of pods.

`kedastral.core.capacity` turns load into replicas and `kedastral.core.planning.stabilization` limits scale events. What
KEDA is told is read from the plan by `kedastral.core.serving` alone.
"""

import math
from datetime import datetime

import attrs
import numpy as np
from attrs.validators import ge, gt, le, lt, optional

from kedastral.core.capacity import (
    WHOLE_WITHIN,
    DeadBand,
    PlanPolicy,
    lead_steps_of,
    plan_around_rests,
    reactive_replicas,
    round_replicas,
)
from kedastral.core.forecast import Forecast
from kedastral.core.planning.facts import LoadFacts, read_facts
from kedastral.core.planning.load_cap import MAX_CAP_RELAXATION, cap_on_load, capped, next_relaxation
from kedastral.core.planning.recurring_peaks import RecurringPeaks, recurring_peaks
from kedastral.core.planning.stabilization import (
    PreviousPlan,
    Recommendation,
    UnstabilizedPlan,
    add_recommendations,
    dead_band_of,
    raise_plan,
    recommendation_of,
    stabilization_steps,
    stabilize,
)
from kedastral.core.planning.status import OK, STANDING_DOWN, ForecastStatus, span_of, too_little_history
from kedastral.core.planning.uncertainty import (
    MAX_LOG_RATIO,
    Calibration,
    UncertaintyState,
    add_forecast,
    judge_windows,
    upper_path,
)
from kedastral.core.series import EPOCH, Floats, Ints, Series, frozen_floats, frozen_ints, same_array

# The safety factor

FACTOR_RATE = 0.015
"""How far the logarithm of the safety factor moves for a minute short of pods, at a service level of 0.99. At others it
goes with the root of the budget: rarer violations count for more, though not in full proportion."""
LEARNING_RUN, MIN_RATE_SHARE = 150.0, 0.2
"""Seconds of a lead time, and a share of the first rate: see `rate_of`. A factor that moves less needs fewer pods for
the same minutes short. Twice the seconds do nearly as well; a smaller share would learn too late of another load."""
MIN_SAFETY_FACTOR, MAX_SAFETY_FACTOR = 0.7, 2.0
"""Below, the reactive floor alone decides. Above, more pods do not help: the lead time is wrong, or the load has jumps
that nothing announces."""
CAP_SHARE = 0.98
"""The share of `MAX_SAFETY_FACTOR` from which on the factor counts as capped: it falls a little between violations."""
INITIAL_SAFETY_FACTOR, INITIAL_STRICT_SAFETY_FACTOR, STRICT_SERVICE_LEVEL = 1.1, 1.2, 0.999
"""The first factor, and that of a service level of at least 0.999, where violations are too rare to wait for."""
MARGIN_EXPONENT = 2.0
"""From 0.999 on, this power of the factor multiplies the margin too: what is left to avoid then are jumps, and a factor
on a quiet load does little for them. At lower service levels it costs more than it brings."""
FLOOR_UTILISATION = 0.95
"""The load of a pod, as a share of its target, at which the reactive floor aims, before the factor: this halves the
unserved load for 2 % of cost."""

# The budget and the history

BUDGET_DAYS = 28
"""The budget is reported over the last four weeks: whole weeks, and enough of them for 0.999 to have a meaning."""
DAY_MINUTES = 1440.0
RECOMMENDATION_MEMORY = 900.0
"""Seconds for which recommendations are kept beyond the lead time, so that late measurements can still be judged."""
MIN_HISTORY = 2 * 3600.0
"""Seconds of history from which on a plan follows the model. With less, a model forecasts hardly better than the last
value, and there is not enough to tell whether it loses."""

# The peak hold

MIN_PEAK_HOLD, MAX_PEAK_HOLD = 300.0, 86400.0
"""Bounds of the hold in seconds. The minimum is not used: plans go down no sooner than that anyway
(`kedastral.core.planning.stabilization`). The maximum is a day, since load that is on at some hours and off at others
mostly returns once a day."""
PEAK_HOLD_GROWTH = 10.0
"""One jump, short of pods for a lead time, makes the hold this many times as long, so that two jumps take it from
minutes to hours: at 0.995 a day has a budget of seven minutes, hardly enough for more. 10 to 60 work alike; 2 reacts
too late."""


@attrs.frozen
class SteeringSettings:
    """The service level to reach, and what decides whether a minute had enough pods.

    ``service_level`` is the share of minutes with enough pods; times in seconds. A recommendation older than
    ``stale_after`` was not served. ``observing`` is set where nothing acts on the recommendations.
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
        """Whether the service level can be judged over weeks only: 0.999 allows ten minutes in a week."""
        return self.service_level >= STRICT_SERVICE_LEVEL - WHOLE_WITHIN

    @property
    def rate(self) -> float:
        """How far the logarithm of the safety factor moves at first for one minute short of pods: see `rate_of`."""
        return FACTOR_RATE * math.sqrt(0.01 / self.budget)


@attrs.frozen
class ServiceLevelSettings:
    """How a forecast with uncertainty becomes replicas.

    ``headroom`` fixes the factor on the upper quantile; with None the safety factor follows the service level.
    ``reactive_headroom`` is that of the floor under a fixed headroom; None turns the floor off in either case. With
    less than ``min_history`` seconds of history the plan follows the last value. ``interval`` is the time between two
    ticks in seconds, None for a step.
    """

    steering: SteeringSettings
    headroom: float | None = None
    reactive_headroom: float | None = 1.1
    min_history: float = MIN_HISTORY
    interval: float | None = None

    @property
    def policy(self) -> PlanPolicy:
        """How load becomes replicas; the policy's own headroom is not used."""
        return self.steering.policy

    def margin_factor(self, factor: float) -> float:
        """What multiplies the margin when ``factor`` multiplies the quantile: see `MARGIN_EXPONENT`."""
        strict = self.headroom is None and self.steering.is_strict
        return float(max(factor, 1.0) ** MARGIN_EXPONENT) if strict else 1.0

    def lead_steps(self, step: float) -> int:
        """The steps that ``[now, now + lead_time]`` overlaps: what `kedastral.core.serving.replicas_at` reads."""
        return lead_steps_of(self.steering.lead_time, step)

    def window(self, step: float) -> int:
        """The steps whose largest load a plan made now must cover."""
        return self.lead_steps(step) + self.policy.prewarm_steps


@attrs.frozen
class DaySpent:
    """``minutes`` judged in one day (counted from the epoch), of them ``short`` without enough pods."""

    day: int
    minutes: float
    short: float


@attrs.frozen
class StepOutcome:
    """One step that has ended, begun at ``at`` (epoch seconds): its ``load``, and the pods ``ready`` for it.

    ``peak`` is the load for which the longest peak hold would have kept pods, ``uncapped`` the pods that would have
    been Ready without the cap on load. Both are 0 where the pods were enough.
    """

    at: float
    minutes: float
    load: float
    ready: int
    peak: float = 0.0
    uncapped: int = 0


@attrs.frozen
class Account:
    """Pod-minutes: ``needed`` for the load, of them ``unserved``; ``spare`` were Ready without load."""

    needed: float = 0.0
    unserved: float = 0.0
    spare: float = 0.0

    def add(self, outcome: StepOutcome, target_per_pod: float) -> "Account":
        """The account with one step more."""
        pods = outcome.load / target_per_pod
        return Account(
            self.needed + pods * outcome.minutes,
            self.unserved + max(pods - outcome.ready, 0.0) * outcome.minutes,
            self.spare + max(outcome.ready - pods, 0.0) * outcome.minutes,
        )


@attrs.frozen
class SteeringState:
    """The feedback, kept from tick to tick; part of the snapshot, so that it survives a restart.

    ``safety_factor`` multiplies the upper quantile; None until the first tick. ``peak_hold`` is in seconds.
    ``cap_relaxation`` multiplies the cap on load.
    ``judged_until`` is the time of the newest value judged, in epoch seconds. ``recommended`` are the recommendations
    as they were published.
    """

    safety_factor: float | None = attrs.field(
        default=None, validator=optional([ge(MIN_SAFETY_FACTOR), le(MAX_SAFETY_FACTOR)])
    )
    peak_hold: float = attrs.field(
        default=MIN_PEAK_HOLD, validator=[ge(MIN_PEAK_HOLD), le(MAX_PEAK_HOLD)], kw_only=True
    )
    cap_relaxation: float = attrs.field(default=1.0, validator=[ge(1), le(MAX_CAP_RELAXATION)], kw_only=True)
    judged_until: float | None = None
    recommended: tuple[Recommendation, ...] = ()
    spent: tuple[DaySpent, ...] = ()
    account: Account = attrs.field(factory=Account)

    @property
    def at_cap(self) -> bool:
        """Whether the factor is at its maximum: the service level will be missed, and more pods are not the answer."""
        return self.safety_factor is not None and self.safety_factor >= CAP_SHARE * MAX_SAFETY_FACTOR

    @property
    def minutes(self) -> float:
        """The minutes judged over the last `BUDGET_DAYS` days."""
        return sum(day.minutes for day in self.spent)

    @property
    def minutes_short(self) -> float:
        """Of `minutes`, those without enough pods."""
        return sum(day.short for day in self.spent)

    def budget_spent(self, settings: SteeringSettings) -> float:
        """The share of the budget that is spent: 1 is all of it, 2 is twice the minutes that may be short.

        The budget is at least that of a day. Otherwise one short minute after a start would exceed it a hundredfold.
        """
        return self.minutes_short / (max(self.minutes, DAY_MINUTES) * settings.budget)


@attrs.frozen
class ServiceLevelState:
    """All that one workload carries from tick to tick; plain numbers, so that it can be stored.

    ``last_recommendation`` is the newest one; ``recommendations`` are those of the last minutes before stabilization
    (`kedastral.core.planning.stabilization.add_recommendations`). ``unstabilized`` is the newest plan;
    ``last_model_plan`` the newest that followed a model's forecast, None once the model has stood down.
    """

    uncertainty: UncertaintyState = attrs.field(factory=UncertaintyState)
    steering: SteeringState = attrs.field(factory=SteeringState)
    last_recommendation: int | None = None
    recommendations: tuple[Recommendation, ...] = ()
    unstabilized: UnstabilizedPlan | None = None
    last_model_plan: UnstabilizedPlan | None = None


@attrs.frozen
class ServiceLevelReport:
    """How a plan came about, for its readers, and the ``state`` from which the next tick goes on.

    ``upper`` is the calibrated quantile of each step's load, before ``factor`` multiplies it. ``level`` is the service
    level, None under a fixed headroom. ``budget_spent`` as in `SteeringState.budget_spent`. ``load_cap`` is the load
    that the plan was held to, None where that changed nothing.
    """

    upper: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    factor: float
    level: float | None
    budget_spent: float
    state: ServiceLevelState
    load_cap: float | None = None

    @property
    def peak_hold(self) -> float | None:
        """The seconds for which the pods of a recent peak are kept; None where none are."""
        peak_hold = self.state.steering.peak_hold
        return peak_hold if self.level is not None and peak_hold > MIN_PEAK_HOLD else None

    @property
    def at_cap(self) -> bool:
        """Whether the safety factor is at its maximum."""
        return self.level is not None and self.state.steering.at_cap


@attrs.frozen
class SteeredBasis:
    """What a plan by service level is made from beside its forecast: enough to make it again, as other settings would.

    ``state`` is that after judging, before the plan; ``status`` says whether the plan follows the forecast.
    """

    facts: LoadFacts
    settings: ServiceLevelSettings
    state: ServiceLevelState
    previous: PreviousPlan
    status: ForecastStatus = OK


@attrs.frozen
class PlanStages:
    """A plan on its way from load to replicas; each array matches the forecast's steps.

    ``expected`` is the load that is planned for, ``upper`` its upper quantile (under a fixed headroom the same),
    ``factor`` multiplies that, up to the load ``cap``, None without one. ``limited`` and ``needed_floor`` are the
    replicas before stabilization, ``replicas`` and ``floor`` those that are published. ``policy`` has the bounds and
    the limits; its headroom is not in ``factor``. ``uncapped`` are the replicas that the cap kept from being planned.
    """

    expected: Floats
    upper: Floats
    factor: float
    policy: PlanPolicy
    dead_band: DeadBand | None
    limited: Ints
    needed_floor: int | None
    replicas: Ints
    floor: int | None
    cap: float | None = None
    uncapped: int | None = None

    @property
    def needed(self) -> Floats:
        """The load that each step is to have pods for."""
        return capped(self.upper * self.factor, self.cap)


@attrs.frozen
class ServiceLevelPlan:
    """One tick's plan: ``replicas`` and ``upper`` (load, before ``factor``) match the forecast's steps.

    Where ``status`` is not ok, the plan follows the last value. ``basis`` is what it was made from. ``load_cap`` as in
    `ServiceLevelReport`.
    """

    replicas: Ints = attrs.field(converter=frozen_ints, eq=attrs.cmp_using(eq=same_array))
    upper: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    floor: int | None
    factor: float
    status: ForecastStatus
    basis: SteeredBasis
    load_cap: float | None = None

    def report(self, state: ServiceLevelState, settings: ServiceLevelSettings) -> ServiceLevelReport:
        """What the snapshot shows of this plan, with the ``state`` that goes on from it."""
        steering = settings.steering
        level = steering.service_level if settings.headroom is None else None
        spent = state.steering.budget_spent(steering)
        return ServiceLevelReport(self.upper, self.factor, level, spent, state, self.load_cap)


NO_PREVIOUS_PLAN = PreviousPlan()


def plan_for_service_level(
    state: ServiceLevelState,
    history: Series,
    forecast: Forecast,
    settings: ServiceLevelSettings,
    previous: PreviousPlan = NO_PREVIOUS_PLAN,
) -> tuple[ServiceLevelState, ServiceLevelPlan]:
    """The plan of this tick, and the state for the next.

    ``forecast`` was made from ``history``; its first value follows the history's last. Raises ValueError where the
    history holds no value.
    """
    if history.newest is None:
        raise ValueError("there is no history to plan from")
    state = _learn_from(state, history, settings)
    status = _status_of(state.uncertainty, history, forecast, settings.min_history)
    if status.replaces_model_plan and history.quality.at_least is None:
        previous = attrs.evolve(previous, model_plan=None)
    steering = state.steering
    cap = None if settings.headroom is not None else cap_on_load(history, steering.cap_relaxation)
    peaks = recurring_peaks(history, len(forecast.values))
    covered = peaks.loads if state.uncertainty.peaks.covered and status.is_ok else None
    facts = read_facts(history, settings.policy.bounds, peak_load(history, steering.peak_hold), cap, covered)
    basis = SteeredBasis(facts, settings, state, previous, status)
    state, stages = plan_from(basis, forecast)
    state = _remember_forecast(state, history, forecast, status, settings, peaks)
    load_cap = stages.cap if stages.uncapped is not None else None
    return state, ServiceLevelPlan(stages.replicas, stages.upper, stages.floor, stages.factor, status, basis, load_cap)


def plan_from(basis: SteeredBasis, forecast: Forecast) -> tuple[ServiceLevelState, PlanStages]:
    """The plan that ``basis`` and ``forecast`` give, stage by stage, and the state that remembers it."""
    facts, settings, state, previous = basis.facts, basis.settings, basis.state, basis.previous
    factor = safety_factor_of(state.steering, settings.steering) if settings.headroom is None else settings.headroom
    calibration, expected = state.uncertainty.model, forecast.values
    if not basis.status.is_ok:
        calibration, expected = state.uncertainty.last, np.full(len(expected), facts.newest or 0.0)
    elif facts.recurring_peaks is not None:
        calibration = state.uncertainty.peaks.calibration
        expected = np.maximum(expected, facts.recurring_peaks)
    upper = _upper_of(calibration, facts.offset, expected, settings.margin_factor(factor))
    last = _last_recommendation(state, previous)
    dead_band = dead_band_of(last, settings.policy, factor / FLOOR_UTILISATION, noise=facts.noise, recent=facts.recent)
    cap = _cap_of(facts, settings)
    floor = _floor_of(facts, factor, cap, settings, dead_band)
    policy = attrs.evolve(settings.policy, headroom=1.0)
    needed = capped(upper * factor, cap)
    limited = plan_around_rests(
        needed, expected, facts.idleness, policy, previous=previous.desired, dead_band=dead_band
    )
    ahead = (upper * factor)[: settings.window(forecast.step)]
    uncapped = _uncapped_of(max(float(ahead.max()), facts.for_floor * factor / FLOOR_UTILISATION), cap, policy)
    state, replicas, published_floor = _stabilize(state, forecast, limited, floor, settings, previous, uncapped)
    stages = PlanStages(
        expected, upper, factor, policy, dead_band, limited, floor, replicas, published_floor, cap, uncapped
    )
    return state, stages


def _learn_from(state: ServiceLevelState, history: Series, settings: ServiceLevelSettings) -> ServiceLevelState:
    """``state`` after judging earlier forecasts and plans by ``history``; a fixed headroom gets no feedback."""
    uncertainty = judge_windows(state.uncertainty, history, settings.window(history.step))
    steering = judge_steps(state.steering, history, settings.steering)
    if settings.headroom is not None:
        steering = keep_steering(steering, state.steering)
    return attrs.evolve(state, uncertainty=uncertainty, steering=steering)


def _status_of(
    uncertainty: UncertaintyState, history: Series, forecast: Forecast, min_history: float
) -> ForecastStatus:
    """Whether the plan follows ``forecast``: the model gave it, there is enough history, and it does not lose."""
    if not forecast.status.is_ok:
        return forecast.status
    if span_of(history) < min_history:
        return too_little_history(history, min_history)
    return STANDING_DOWN if uncertainty.standing_down else OK


def _upper_of(calibration: Calibration, offset: float, values: Floats, margin_factor: float) -> Floats:
    return upper_path(values, min(calibration.margins[0] * margin_factor, MAX_LOG_RATIO), offset)


def keep_steering(state: SteeringState, answers: SteeringState) -> SteeringState:
    """``state`` with the answers to feedback of another: the safety factor, the peak hold and the cap's relaxation."""
    return attrs.evolve(
        state,
        safety_factor=answers.safety_factor,
        peak_hold=answers.peak_hold,
        cap_relaxation=answers.cap_relaxation,
    )


def _cap_of(facts: LoadFacts, settings: ServiceLevelSettings) -> float | None:
    """The load above which nothing is planned; None without a cap, as under a fixed headroom: that gets no feedback."""
    if settings.headroom is not None or facts.cap is None:
        return None
    return max(facts.cap, facts.for_floor / FLOOR_UTILISATION)


def _uncapped_of(load: float, cap: float | None, policy: PlanPolicy) -> int | None:
    """The replicas for ``load`` that the cap kept from being planned, None where it kept none."""
    if cap is None or load <= cap:
        return None
    return policy.bounds.clamp(round_replicas(load / policy.target_per_pod))


def _floor_of(
    facts: LoadFacts, factor: float, cap: float | None, settings: ServiceLevelSettings, dead_band: DeadBand | None
) -> int | None:
    """The replicas that the load needs at once and, without a fixed headroom, those that the peak hold keeps."""
    if settings.reactive_headroom is None or facts.newest is None:
        return None
    if settings.headroom is not None:
        return reactive_replicas(facts.for_floor, settings.reactive_headroom, settings.policy, dead_band)
    load, headroom = facts.for_floor, factor / FLOOR_UTILISATION
    if cap is not None and load > 0:
        headroom = min(headroom, cap / load)
    needed = reactive_replicas(load, headroom, settings.policy, dead_band)
    return max(needed, reactive_replicas(facts.peak, 1 / FLOOR_UTILISATION, settings.policy))


def _last_recommendation(state: ServiceLevelState, previous: PreviousPlan) -> int | None:
    return state.last_recommendation if previous.last_recommendation is None else previous.last_recommendation


def _stabilize(
    state: ServiceLevelState,
    forecast: Forecast,
    replicas: Ints,
    floor: int | None,
    settings: ServiceLevelSettings,
    previous: PreviousPlan,
    uncapped: int | None = None,
) -> tuple[ServiceLevelState, Ints, int | None]:
    """The plan as it is published, its floor, and the state that remembers the recommendation.

    ``uncapped`` are the replicas that the cap on load kept from being planned, None where it kept none.
    """
    step, at = forecast.step, (forecast.made_at - EPOCH).total_seconds()
    lead_steps, interval = settings.lead_steps(step), settings.interval or step
    last = _last_recommendation(state, previous)
    new = [recommendation_of(replicas, floor, lead_steps)]
    if last is not None and (state.last_recommendation is None or last > state.last_recommendation):
        new.insert(0, last)  # the previous plan has risen since it was made: that counts as much as this plan
    recommendations = add_recommendations(state.recommendations, at, interval, *new)
    stabilized = stabilize(replicas, floor, last, recommendations, settings.policy.bounds)
    plan = stabilized.replicas if previous.model_plan is None else np.maximum(stabilized.replicas, previous.model_plan)
    recommendation = max(recommendation_of(plan, stabilized.floor, lead_steps), stabilized.minimum)
    published = plan
    if recommendation > (stabilized.floor or 0):
        published = raise_plan(plan, recommendation, lead_steps, stabilization_steps(step, interval))
    recommendation = max(recommendation, previous.served)
    state = attrs.evolve(
        state,
        steering=add_recommendation(state.steering, at, recommendation, step, settings.steering, uncapped),
        last_recommendation=recommendation,
        recommendations=recommendations,
        unstabilized=UnstabilizedPlan.of(forecast.made_at, step, plan),
    )
    return state, published, stabilized.floor


def _remember_forecast(
    state: ServiceLevelState,
    history: Series,
    forecast: Forecast,
    status: ForecastStatus,
    settings: ServiceLevelSettings,
    peaks: RecurringPeaks,
) -> ServiceLevelState:
    """``state`` with the plan, if it follows the model, and the forecast, to be judged once its window has ended."""
    if status.replaces_model_plan:
        state = attrs.evolve(state, last_model_plan=state.unstabilized if status.is_ok else None)
    if not forecast.status.is_ok:  # a fallback is not the model's forecast
        return state
    window, lead_steps = settings.window(history.step), settings.lead_steps(history.step)
    uncertainty = add_forecast(state.uncertainty, history, forecast.values, window, lead_steps, peaks)
    return attrs.evolve(state, uncertainty=uncertainty)


def judge_steps(state: SteeringState, history: Series, settings: SteeringSettings) -> SteeringState:
    """``state`` after every value of ``history`` that was not judged before, oldest first.

    Not judged are gaps, unless at the end, where they may still be filled, and steps for which it is not known what
    was served.
    """
    newest = history.newest
    if newest is None:
        return state
    start, end, until = _epoch(history.start), _epoch(newest.at), state.judged_until
    first = len(history) if until is None else max(round((until - start) / history.step) + 1, 0)
    for i in range(first, len(history)):
        at, load = start + (i - 1) * history.step, float(history.values[i])  # a value is dated by the end of its step
        serving = recommended_for(state.recommended, at, history.step, settings)
        if serving and math.isfinite(load):
            outcome = StepOutcome(at, history.step / 60, load, min(entry.replicas for entry in serving))
            if load > outcome.ready * settings.policy.target_per_pod:
                uncapped = min(max(entry.replicas, entry.uncapped or 0) for entry in serving)
                outcome = attrs.evolve(outcome, peak=_peak_before(history, i, settings), uncapped=uncapped)
            state = apply_outcome(state, outcome, settings)
    return attrs.evolve(state, judged_until=end if until is None else max(end, until))


def apply_outcome(state: SteeringState, outcome: StepOutcome, settings: SteeringSettings) -> SteeringState:
    """``state`` after one step: the budget and the account, and where they count the factor, the hold and the cap.

    They stay where they could not have mattered: at the minimum of replicas with enough pods (a quiet week would wear
    them down, and the return of the load would suffer), at the maximum of replicas, and where nothing acts on the
    recommendations. The minutes are counted all the same.
    """
    short = is_short(outcome, settings.policy)
    account = state.account.add(outcome, settings.policy.target_per_pod)
    state = attrs.evolve(state, spent=_spend(state.spent, outcome, short=short), account=account)
    bounds = settings.policy.bounds
    without_effect = (outcome.ready <= bounds.min and not short) or (bounds.max and outcome.ready >= bounds.max)
    if settings.observing or without_effect:
        return state
    factor = safety_factor_of(state, settings)
    change = rate_of(state, settings) * outcome.minutes * (short - settings.budget)
    hold_helps = would_longer_hold_help(outcome, factor, settings.policy)
    cap_hurt = short and not is_short(attrs.evolve(outcome, ready=outcome.uncapped), settings.policy)
    return attrs.evolve(
        state,
        safety_factor=min(max(factor * math.exp(change), MIN_SAFETY_FACTOR), MAX_SAFETY_FACTOR),
        peak_hold=next_peak_hold(
            state.peak_hold, outcome.minutes, settings.budget, settings.lead_time, longer_helps=hold_helps
        ),
        cap_relaxation=next_relaxation(
            state.cap_relaxation, outcome.minutes, settings.budget, settings.lead_time, higher_helps=cap_hurt
        ),
    )


def rate_of(state: SteeringState, settings: SteeringSettings) -> float:
    """How far the logarithm of the safety factor moves for one minute short of pods, after all that it has learnt from.

    It falls with the root of the minutes short, in budgets of a day, times the lead time, since they come in runs of
    that length: a decaying step size (Angelopoulos, Barber and Bates, "Online conformal prediction with decaying step
    sizes", 2024) by the sum of squared gradients, as AdaGrad (Duchi, Hazan and Singer, 2011). More budgets than days
    count no more: a service level that is missed is to be learnt from as fast as one that is kept.
    """
    budgets = min(state.minutes_short / settings.budget, state.minutes) / DAY_MINUTES
    learnt = max(budgets * settings.lead_time / LEARNING_RUN, 1.0)
    return settings.rate * max(1 / math.sqrt(learnt), MIN_RATE_SHARE)


def safety_factor_of(state: SteeringState, settings: SteeringSettings) -> float:
    """The safety factor to plan with."""
    if state.safety_factor is not None:
        return state.safety_factor
    return INITIAL_STRICT_SAFETY_FACTOR if settings.is_strict else INITIAL_SAFETY_FACTOR


def is_short(outcome: StepOutcome, policy: PlanPolicy) -> bool:
    """Whether the load exceeded what the pods sustain."""
    return outcome.load > outcome.ready * policy.target_per_pod * (1 + WHOLE_WITHIN)


def would_longer_hold_help(outcome: StepOutcome, factor: float, policy: PlanPolicy) -> bool:
    """Whether the step was short by more than the highest factor would have added, where a longer hold adds more."""
    beyond_factor = min(outcome.load, outcome.peak) * factor / MAX_SAFETY_FACTOR
    return is_short(attrs.evolve(outcome, load=beyond_factor), policy)


def ready_during(
    recommended: tuple[Recommendation, ...], at: float, step: float, settings: SteeringSettings
) -> int | None:
    """The pods Ready in the step that begins at ``at``: the fewest of `recommended_for`, None where that is empty."""
    return min((entry.replicas for entry in recommended_for(recommended, at, step, settings)), default=None)


def recommended_for(
    recommended: tuple[Recommendation, ...], at: float, step: float, settings: SteeringSettings
) -> list[Recommendation]:
    """What was recommended for the step that begins at ``at``, since a pod had to be ordered for it; the newest first.

    Nothing where that is not known: before the first recommendation, or where recommendations are further apart than
    ``stale_after``, so that something else was served in between.
    """
    ordered_by = at - max(settings.lead_time - step, 0.0)
    serving: list[Recommendation] = []
    later = at
    for entry in reversed(recommended):
        if entry.at > at + WHOLE_WITHIN:
            continue
        if later - entry.at > max(settings.stale_after, 1.5 * step):
            break
        serving.append(entry)
        if entry.at <= ordered_by + WHOLE_WITHIN:
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
    """``state`` with ``replicas`` recommended at ``at``; of the recommendations of one step the minimum is kept.

    ``uncapped`` as in `Recommendation`.
    """
    oldest = at - settings.lead_time - RECOMMENDATION_MEMORY
    kept = [entry for entry in state.recommended if oldest <= entry.at < at]
    new = Recommendation(at, replicas, uncapped)
    if kept and kept[-1].at // step == at // step:
        last = kept.pop()
        new = attrs.evolve(new if replicas < last.replicas else last, at=last.at)
    return attrs.evolve(state, recommended=(*kept, new))


def next_peak_hold(peak_hold: float, minutes: float, budget: float, lead_time: float, *, longer_helps: bool) -> float:
    """``peak_hold`` after ``minutes``.

    ``longer_helps`` is set where they were short of pods that a longer hold would have kept. ``budget`` is the share of
    minutes that may be short. By the time a jump is paid for, its lengthening is gone.
    """
    jump = max(lead_time / 60, 1.0)
    change = math.log(PEAK_HOLD_GROWTH) * minutes / jump * (longer_helps - budget)
    return min(max(peak_hold * math.exp(change), MIN_PEAK_HOLD), MAX_PEAK_HOLD)


def peak_load(history: Series, peak_hold: float) -> float:
    """The largest load of the last ``peak_hold`` seconds, in units of load; 0 at the minimum of the hold.

    It must have lasted for two values: a single one may be an error of measurement, and would be held for hours.
    """
    if peak_hold <= MIN_PEAK_HOLD:
        return 0.0
    recent = history.values[-math.floor(peak_hold / history.step + 1e-9) - 1 :]
    lasting = np.minimum(recent[1:], recent[:-1])
    return float(np.nanmax(lasting, initial=0.0)) if np.isfinite(lasting).any() else 0.0


def _peak_before(history: Series, i: int, settings: SteeringSettings) -> float:
    """The load for which the longest hold would have kept pods in step ``i``, as known when they had to be ordered."""
    seen = max(i + 1 - max(math.ceil(settings.lead_time / history.step - WHOLE_WITHIN), 1), 0)
    return peak_load(attrs.evolve(history, values=history.values[:seen]), MAX_PEAK_HOLD)


def _spend(spent: tuple[DaySpent, ...], outcome: StepOutcome, *, short: bool) -> tuple[DaySpent, ...]:
    day, minutes = int(outcome.at // 86400), outcome.minutes
    kept = tuple(entry for entry in spent if day - BUDGET_DAYS < entry.day)
    if kept and kept[-1].day >= day:
        last = kept[-1]
        return (*kept[:-1], DaySpent(last.day, last.minutes + minutes, last.short + minutes * short))
    return (*kept, DaySpent(day, minutes, minutes * short))


def _epoch(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()
