# SPDX-License-Identifier: Apache-2.0
"""`plan_for_service_level`: one tick's plan from a forecast, its uncertainty and the service level.

The service level is the share of minutes with enough pods. Three things together reach it at low cost:

- The margin. The forecast is raised to a calibrated upper quantile of the largest load in the window that the plan must
  cover: the steps that the lead time overlaps and the prewarm steps (`kedastral.core.planning.uncertainty`). A
  regression of that largest load on the load of earlier hours and days counts beside it, the more the better it is.
- The safety factor, which multiplies that quantile, and the peak hold, for how long the pods of a recent peak are kept.
  Both follow feedback from the minutes that have ended (`kedastral.core.planning.steering`).
- The cap on load (`kedastral.core.planning.load_cap`): margin and factor together plan for no more than the largest
  load of the week, growth included, unless that cap has left minutes short of pods.

`kedastral.core.capacity` turns load into replicas and `kedastral.core.planning.stabilization` limits scale events. What
KEDA is told is read from the plan by `kedastral.core.serving` alone.
"""

import attrs
import numpy as np

from kedastral.core.capacity import (
    DeadBand,
    PlanPolicy,
    lead_steps_of,
    plan_around_rests,
    reactive_replicas,
    round_replicas,
)
from kedastral.core.forecast import Forecast
from kedastral.core.planning.facts import LoadFacts, read_facts
from kedastral.core.planning.load_cap import cap_on_load, capped
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
from kedastral.core.planning.steering import (
    MIN_PEAK_HOLD,
    SteeringSettings,
    SteeringState,
    add_recommendation,
    judge_steps,
    keep_steering,
    peak_load,
    safety_factor_of,
)
from kedastral.core.planning.uncertainty import (
    MAX_LOG_RATIO,
    UncertaintyState,
    add_forecast,
    judge_windows,
    keep_regression,
    margin_of,
    predict_window,
    upper_path,
)
from kedastral.core.series import EPOCH, Floats, Ints, Series, frozen_floats, frozen_ints, same_array

MARGIN_EXPONENT = 2.0
"""From 0.999 on, this power of the factor multiplies the margin too: what is left to avoid then are jumps, and a factor
on a quiet load does little for them. At lower service levels it costs more than it brings."""
FLOOR_UTILISATION = 0.95
"""The load of a pod, as a share of its target, at which the reactive floor aims, before the factor: this halves the
unserved load for 2 % of cost."""
MIN_HISTORY = 2 * 3600.0
"""Seconds of history from which on a plan follows the model. With less, a model forecasts hardly better than the last
value, and there is not enough to tell whether it loses."""


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
    ``upper_by_forecast`` is the quantile as it would be without the regression, None where that has no part.
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
    upper_by_forecast: Floats | None = None

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
    state = _learn_from(state, history, settings, forecast.status)
    status = _status_of(state.uncertainty, history, forecast, settings.min_history)
    if status.replaces_model_plan and history.quality.at_least is None:
        previous = attrs.evolve(previous, model_plan=None)
    steering = state.steering
    cap = None if settings.headroom is not None else cap_on_load(history, steering.cap_relaxation)
    predicted = predict_window(state.uncertainty, history)
    facts = read_facts(history, settings.policy.bounds, peak_load(history, steering.peak_hold), cap, predicted)
    basis = SteeredBasis(facts, settings, state, previous, status)
    state, stages = plan_from(basis, forecast)
    state = _remember_forecast(state, history, forecast, status, settings, predicted)
    load_cap = stages.cap if stages.uncapped is not None else None
    return state, ServiceLevelPlan(stages.replicas, stages.upper, stages.floor, stages.factor, status, basis, load_cap)


def plan_from(basis: SteeredBasis, forecast: Forecast) -> tuple[ServiceLevelState, PlanStages]:
    """The plan that ``basis`` and ``forecast`` give, stage by stage, and the state that remembers it."""
    facts, settings, state, previous = basis.facts, basis.settings, basis.state, basis.previous
    factor = safety_factor_of(state.steering, settings.steering) if settings.headroom is None else settings.headroom
    expected = forecast.values if basis.status.is_ok else np.full(len(forecast.values), facts.newest or 0.0)
    upper, by_forecast = _upper_of(basis, expected, factor), None
    if basis.status.is_ok and facts.predicted_peak is not None:
        without = attrs.evolve(basis, facts=attrs.evolve(facts, predicted_peak=None))
        by_forecast = _upper_of(without, expected, factor)
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
        expected,
        upper,
        factor,
        policy,
        dead_band,
        limited,
        floor,
        replicas,
        published_floor,
        cap,
        uncapped,
        by_forecast,
    )
    return state, stages


def _learn_from(
    state: ServiceLevelState, history: Series, settings: ServiceLevelSettings, status: ForecastStatus
) -> ServiceLevelState:
    """``state`` after judging earlier forecasts and plans by ``history``; a fixed headroom gets no feedback.

    ``status`` is that of the forecast. Beside none of a model, as while a thousand workloads wait to learn, the peak
    regression has no part, and is not fitted.
    """
    window = settings.window(history.step)
    judged = judge_windows(state.uncertainty, history, window)
    uncertainty = keep_regression(judged, history, window, may_fit=status.is_ok)
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


def _upper_of(basis: SteeredBasis, expected: Floats, factor: float) -> Floats:
    """The upper quantile of the load that is ``expected`` at each step."""
    facts, uncertainty = basis.facts, basis.state.uncertainty
    calibration = uncertainty.model if basis.status.is_ok else uncertainty.last
    by_forecast = margin = calibration.margins[0]
    if basis.status.is_ok:
        margin = margin_of(uncertainty.regressed, by_forecast, expected, facts.offset, facts.predicted_peak)
    # What the regression knows of a peak is no error of the forecast: only that is widened.
    margin += (basis.settings.margin_factor(factor) - 1) * by_forecast
    return upper_path(expected, min(margin, MAX_LOG_RATIO), facts.offset)


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
    predicted_peak: float | None,
) -> ServiceLevelState:
    """``state`` with the plan, if it follows the model, and the forecast, to be judged once its window has ended."""
    if status.replaces_model_plan:
        state = attrs.evolve(state, last_model_plan=state.unstabilized if status.is_ok else None)
    if not forecast.status.is_ok:  # a fallback is not the model's forecast
        return state
    window, lead_steps = settings.window(history.step), settings.lead_steps(history.step)
    uncertainty = add_forecast(state.uncertainty, history, forecast.values, window, lead_steps, predicted_peak)
    return attrs.evolve(state, uncertainty=uncertainty)
