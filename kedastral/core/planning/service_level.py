# SPDX-License-Identifier: Apache-2.0
"""`plan_for_service_level`: one tick's plan from a forecast, its uncertainty and the service level.

The service level is the share of minutes with enough pods. Three things together reach it at low cost:

- The margin. The forecast is raised to a calibrated upper quantile of the largest load in the window that the plan must
  cover: the steps that the lead time overlaps and the prewarm steps (`kedastral.core.planning.uncertainty`). A
  regression of that largest load on the load of earlier hours and days is blended in; the better it is, the more it
  counts.
- The steering factor, which multiplies that quantile, and the peak hold: how long the pods of a recent peak are kept.
  Both follow feedback from past minutes (`kedastral.core.planning.steering`).
- The cap on load (`kedastral.core.planning.load_cap`): margin and factor together plan for no more than the largest
  load of the week, growth included, unless that cap has left minutes short of pods.

`kedastral.core.capacity` turns load into replicas and `kedastral.core.planning.stabilization` limits scale events. What
KEDA is told is read from the plan by `kedastral.core.planning.snapshot` alone.
"""

import attrs
import numpy as np

from kedastral.core.capacity import DeadBand, PlanPolicy, reactive_replicas, round_replicas
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import OK, STANDING_DOWN, ForecastStatus, span_of, too_little_history
from kedastral.core.planning.facts import LoadFacts, read_facts
from kedastral.core.planning.idleness import plan_with_idle_steps
from kedastral.core.planning.load_cap import cap_on_load, capped
from kedastral.core.planning.seasonal_peak import seasonal_peak
from kedastral.core.planning.stabilization import (
    PreviousPlan,
    Recommendation,
    UnstabilizedPlan,
    add_recommendations,
    dead_band_of,
    project_falls,
    raise_plan,
    recommendation_of,
    stabilize,
    steps_to_keep,
)
from kedastral.core.planning.steering import (
    MIN_PEAK_HOLD,
    SteeringSettings,
    SteeringState,
    add_recommendation,
    factor_of,
    judge_steps,
    keep_steering,
    peak_load,
)
from kedastral.core.planning.uncertainty import (
    MAX_LOG_RATIO,
    UncertaintyState,
    add_forecast,
    calibrate_last,
    judge_windows,
    keep_regression,
    margin_of,
    predict_window,
    upper_path,
)
from kedastral.core.series import HOUR, Floats, Ints, Series, epoch_seconds, frozen_floats, frozen_ints, same_array
from kedastral.core.steps import lead_steps_of

MARGIN_EXPONENT = 2.0
"""From a service level of 0.999 on, this power of the factor multiplies the margin too: only jumps are left to avoid
then, and a factor on a quiet load does little against them. At lower service levels it costs more than it gains."""
FLOOR_UTILISATION = 0.95
"""The load per pod, as a share of its target, that the reactive floor aims at before the factor: this halves the
unserved load for 2 % more cost."""
MIN_HISTORY = 2 * HOUR
"""Seconds of history needed before a plan follows the model. With less, a model hardly beats the last value, and there
is too little data to tell whether it does worse."""


@attrs.frozen
class ServiceLevelGoal:
    """What a plan by service level aims at: ``service_level``, the share of minutes with enough pods.

    ``headroom`` fixes the factor on the upper quantile; if None, the steering factor follows the service level. With
    less than ``min_history`` seconds of history the plan follows the last value.
    """

    service_level: float = 0.99
    headroom: float | None = None
    min_history: float = MIN_HISTORY


@attrs.frozen
class ServiceLevelSettings:
    """How a forecast with uncertainty becomes replicas; a workload makes them of its own settings.

    ``headroom`` and ``min_history`` as in `ServiceLevelGoal`. ``reactive_headroom`` is the floor's headroom under a
    fixed headroom; None turns the floor off in either case. ``interval`` is the time between two ticks in seconds; None
    means one step.
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

    @property
    def level(self) -> float | None:
        """The service level that the steering factor follows; None under a fixed headroom."""
        return self.steering.service_level if self.headroom is None else None

    def margin_factor(self, factor: float) -> float:
        """What multiplies the margin when ``factor`` multiplies the quantile: see `MARGIN_EXPONENT`."""
        strict = self.headroom is None and self.steering.is_strict
        return float(max(factor, 1.0) ** MARGIN_EXPONENT) if strict else 1.0

    def lead_steps(self, step: float) -> int:
        """The steps that ``[now, now + lead_time]`` overlaps: those that an answer to KEDA is read from."""
        return lead_steps_of(self.steering.lead_time, step)

    def interval_for(self, step: float) -> float:
        """Seconds between two ticks, for a forecast with steps of ``step`` seconds."""
        return self.interval or step

    def window(self, step: float) -> int:
        """The steps whose largest load a plan made now must cover."""
        return self.lead_steps(step) + self.policy.prewarm_steps


@attrs.frozen
class ServiceLevelState:
    """All that one workload carries from tick to tick; plain numbers, so that it can be stored.

    ``last_recommendation`` is the newest one, as published; ``before_stabilization`` are those of the last hour before
    they were stabilized (`kedastral.core.planning.stabilization.add_recommendations`). ``unstabilized`` is the newest
    plan; ``last_model_plan`` the newest that followed a model's forecast, None once the model has stood down.
    """

    uncertainty: UncertaintyState = attrs.field(factory=UncertaintyState)
    steering: SteeringState = attrs.field(factory=SteeringState)
    last_recommendation: int | None = None
    before_stabilization: tuple[Recommendation, ...] = ()
    unstabilized: UnstabilizedPlan | None = None
    last_model_plan: UnstabilizedPlan | None = None


@attrs.frozen
class ServiceLevelReport:
    """How a plan came about, for its readers, and the ``state`` that the next tick continues from.

    ``upper`` is the calibrated quantile of each step's load, before ``factor`` multiplies it. ``level`` is the service
    level, None under a fixed headroom. ``budget_spent`` as in `SteeringState.budget_spent`. ``load_cap`` is the load
    that the plan was capped at, None if the cap changed nothing.
    """

    upper: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    factor: float
    level: float | None
    budget_spent: float
    state: ServiceLevelState
    load_cap: float | None = None

    @property
    def peak_hold(self) -> float | None:
        """The seconds for which the pods of a recent peak are kept; None if none are."""
        peak_hold = self.state.steering.peak_hold
        return peak_hold if self.level is not None and peak_hold > MIN_PEAK_HOLD else None

    @property
    def seasonal_quantile(self) -> float | None:
        """The share of the last days whose load at this time of day gets its pods ahead; None if there is none."""
        return self.state.steering.seasonal_quantile or None if self.level is not None else None

    @property
    def is_factor_at_max(self) -> bool:
        """Whether the steering factor is at its maximum."""
        return self.level is not None and self.state.steering.is_factor_at_max


@attrs.frozen
class SteeredBasis:
    """The inputs, besides the forecast, of a plan by service level: enough to recompute it, also under other settings.

    ``state`` is the one after judging and before planning; ``status`` says whether the plan follows the forecast.
    """

    facts: LoadFacts
    settings: ServiceLevelSettings
    state: ServiceLevelState
    previous: PreviousPlan
    status: ForecastStatus = OK

    @property
    def last_recommendation(self) -> int | None:
        """What KEDA was last told or, if that is unknown, the newest recommendation."""
        last = self.previous.last_recommendation
        return self.state.last_recommendation if last is None else last


@attrs.frozen
class PlanStages:
    """The stages of a plan from load to replicas; each array matches the forecast's steps.

    ``expected`` is the load planned for, ``upper`` its upper quantile (the same under a fixed headroom); ``factor``
    multiplies ``upper``, up to the load ``cap``, None if uncapped. ``limited`` and ``needed_floor`` are the replicas
    before stabilization, ``replicas`` and ``floor`` the published ones. ``policy`` has the bounds and the limits; its
    headroom is not in ``factor``. ``uncapped`` is the number of replicas that the plan would have without the cap.
    ``upper_by_forecast`` is the quantile without the regression, None if the regression is not used.
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
        """The load that each step needs pods for."""
        return capped(self.upper * self.factor, self.cap)


@attrs.frozen
class ServiceLevelPlan:
    """One tick's plan: ``replicas`` and ``upper`` (load, before ``factor``) match the forecast's steps.

    If ``status`` is not ok, the plan follows the last value. ``basis`` holds its inputs. ``load_cap`` as in
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
        """What the snapshot shows of this plan, with the ``state`` that follows it."""
        spent = state.steering.budget_spent(settings.steering)
        return ServiceLevelReport(self.upper, self.factor, settings.level, spent, state, self.load_cap)


NO_PREVIOUS_PLAN = PreviousPlan()


def plan_for_service_level(
    state: ServiceLevelState,
    history: Series,
    forecast: Forecast,
    settings: ServiceLevelSettings,
    previous: PreviousPlan = NO_PREVIOUS_PLAN,
) -> tuple[ServiceLevelState, ServiceLevelPlan]:
    """The plan of this tick, and the state for the next.

    ``forecast`` was made from ``history``; its first value follows the history's last. Raises ValueError if the history
    holds no value.
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
    seasonal = seasonal_peak(history, len(history), settings.window(history.step), steering.seasonal_quantile)
    facts = read_facts(
        history, settings.policy.bounds, peak_load(history, steering.peak_hold), cap, predicted, seasonal
    )
    basis = SteeredBasis(facts, settings, state, previous, status)
    state, stages = plan_from(basis, forecast)
    state = _remember_forecast(state, history, forecast, status, settings, predicted)
    load_cap = stages.cap if stages.uncapped is not None else None
    return state, ServiceLevelPlan(stages.replicas, stages.upper, stages.floor, stages.factor, status, basis, load_cap)


def plan_from(basis: SteeredBasis, forecast: Forecast) -> tuple[ServiceLevelState, PlanStages]:
    """The plan computed from ``basis`` and ``forecast``, stage by stage, and the state that remembers it."""
    return _stabilize(basis, forecast, _stages_before_stabilization(basis, forecast))


def _learn_from(
    state: ServiceLevelState, history: Series, settings: ServiceLevelSettings, status: ForecastStatus
) -> ServiceLevelState:
    """``state`` after judging earlier forecasts and plans against ``history``; a fixed headroom gets no feedback.

    ``status`` is that of the forecast. Without a model's forecast, as while a thousand workloads wait to be fitted, the
    peak regression is not used, so it is not fitted either.
    """
    window, uncertainty = settings.window(history.step), state.uncertainty
    if not uncertainty.last.windows and not uncertainty.pending:  # a first plan, and no model has learnt from it yet
        last = calibrate_last(history, window, settings.lead_steps(history.step))
        uncertainty = attrs.evolve(uncertainty, last=last if last.windows else uncertainty.last)
    judged = judge_windows(uncertainty, history, window)
    uncertainty = keep_regression(judged, history, window, may_fit=status.is_ok)
    steering = judge_steps(state.steering, history, settings.steering)
    if settings.headroom is not None:
        steering = keep_steering(steering, state.steering)
    return attrs.evolve(state, uncertainty=uncertainty, steering=steering)


def _status_of(
    uncertainty: UncertaintyState, history: Series, forecast: Forecast, min_history: float
) -> ForecastStatus:
    """Whether the plan follows ``forecast``: the model made it, has enough history, and has not stood down."""
    if not forecast.status.is_ok:
        return forecast.status
    if span_of(history) < min_history:
        return too_little_history(history, min_history)
    return STANDING_DOWN if uncertainty.standing_down else OK


def _stages_before_stabilization(basis: SteeredBasis, forecast: Forecast) -> PlanStages:
    """The stages up to the replicas that the load needs; ``replicas`` and ``floor`` are not stabilized yet."""
    facts, settings, state, last = basis.facts, basis.settings, basis.state, basis.last_recommendation
    factor = factor_of(state.steering, settings.steering) if settings.headroom is None else settings.headroom
    expected = forecast.values if basis.status.is_ok else np.full(len(forecast.values), facts.newest or 0.0)
    upper = _upper_of(basis, expected, factor)
    dead_band = dead_band_of(last, settings.policy, factor / FLOOR_UTILISATION, noise=facts.noise, recent=facts.recent)
    cap = _cap_of(facts, settings)
    floor = _floor_of(facts, factor, cap, settings, dead_band)
    policy = attrs.evolve(settings.policy, headroom=1.0)
    needed, desired = capped(upper * factor, cap), basis.previous.desired
    limited = plan_with_idle_steps(needed, expected, facts.idleness, policy, previous=desired, dead_band=dead_band)
    ahead = (upper * factor)[: settings.window(forecast.step)]
    return PlanStages(
        expected=expected,
        upper=upper,
        factor=factor,
        policy=policy,
        dead_band=dead_band,
        limited=limited,
        needed_floor=floor,
        replicas=limited,
        floor=floor,
        cap=cap,
        uncapped=_uncapped_of(max(float(ahead.max()), facts.for_floor * factor / FLOOR_UTILISATION), cap, policy),
        upper_by_forecast=_upper_by_forecast(basis, expected, factor),
    )


def _upper_of(basis: SteeredBasis, expected: Floats, factor: float) -> Floats:
    """The upper quantile of the ``expected`` load at each step."""
    facts, uncertainty = basis.facts, basis.state.uncertainty
    calibration = uncertainty.model if basis.status.is_ok else uncertainty.last
    by_forecast = margin = calibration.margins[0]
    if basis.status.is_ok:
        margin = margin_of(uncertainty.regressed, by_forecast, expected, facts.offset, facts.predicted_peak)
    # Only the forecast's own margin is widened: a peak that the regression foresees is not a forecast error.
    margin += (basis.settings.margin_factor(factor) - 1) * by_forecast
    return upper_path(expected, min(margin, MAX_LOG_RATIO), facts.offset)


def _upper_by_forecast(basis: SteeredBasis, expected: Floats, factor: float) -> Floats | None:
    """The upper quantile without the regression; None if the regression is not used."""
    if not basis.status.is_ok or basis.facts.predicted_peak is None:
        return None
    return _upper_of(attrs.evolve(basis, facts=attrs.evolve(basis.facts, predicted_peak=None)), expected, factor)


def _cap_of(facts: LoadFacts, settings: ServiceLevelSettings) -> float | None:
    """The largest load to plan for; None if uncapped, as under a fixed headroom, which gets no feedback."""
    if settings.headroom is not None or facts.cap is None:
        return None
    return max(facts.cap, facts.for_floor / FLOOR_UTILISATION)


def _uncapped_of(load: float, cap: float | None, policy: PlanPolicy) -> int | None:
    """The replicas that ``load`` would get without the cap, None if the cap changes nothing."""
    if cap is None or load <= cap:
        return None
    return policy.bounds.clamp(round_replicas(load / policy.target_per_pod))


def _floor_of(
    facts: LoadFacts, factor: float, cap: float | None, settings: ServiceLevelSettings, dead_band: DeadBand | None
) -> int | None:
    """The replicas that the load needs at once or, without a fixed headroom, that a past peak keeps."""
    if settings.reactive_headroom is None or facts.newest is None:
        return None
    if settings.headroom is not None:
        return reactive_replicas(facts.for_floor, settings.reactive_headroom, settings.policy, dead_band)
    load, headroom = facts.for_floor, factor / FLOOR_UTILISATION
    if cap is not None and load > 0:
        headroom = min(headroom, cap / load)
    needed = reactive_replicas(load, headroom, settings.policy, dead_band)
    kept = max(facts.peak, facts.seasonal)
    return max(needed, reactive_replicas(kept, 1 / FLOOR_UTILISATION, settings.policy))


def floor_for(load: float, report: ServiceLevelReport, settings: ServiceLevelSettings) -> int:
    """The replicas that ``load``, measured since the plan of ``report`` was made, needs at once."""
    if settings.headroom is not None:
        return reactive_replicas(load, settings.reactive_headroom or 1.0, settings.policy)
    headroom = report.factor / FLOOR_UTILISATION
    if report.load_cap is not None and load > 0:
        headroom = min(headroom, max(report.load_cap / load, 1 / FLOOR_UTILISATION))
    return reactive_replicas(load, headroom, settings.policy)


def _stabilize(basis: SteeredBasis, forecast: Forecast, stages: PlanStages) -> tuple[ServiceLevelState, PlanStages]:
    """``stages`` with the published plan and its floor, and the state that remembers the recommendation."""
    settings, state, previous = basis.settings, basis.state, basis.previous
    step, at = forecast.step, epoch_seconds(forecast.made_at)
    lead_steps, interval = settings.lead_steps(step), settings.interval_for(step)
    replicas, floor = stages.limited, stages.needed_floor
    recommendations = _recommendations_with(basis, forecast, recommendation_of(replicas, floor, lead_steps))
    bounds = settings.policy.bounds
    stabilized = stabilize(replicas, floor, basis.last_recommendation, recommendations, bounds, interval)
    plan = stabilized.replicas if previous.model_plan is None else np.maximum(stabilized.replicas, previous.model_plan)
    recommendation = max(recommendation_of(plan, stabilized.floor, lead_steps), stabilized.minimum)
    published = plan
    if recommendation > (stabilized.floor or 0):
        published = raise_plan(plan, recommendation, lead_steps, steps_to_keep(step, interval))
        published = project_falls(plan, published, recommendation, recommendations, lead_steps, step, interval)
    recommendation = max(recommendation, previous.served)
    state = attrs.evolve(
        state,
        steering=add_recommendation(state.steering, at, recommendation, step, settings.steering, stages.uncapped),
        last_recommendation=recommendation,
        before_stabilization=recommendations,
        unstabilized=UnstabilizedPlan.of(forecast.made_at, step, plan),
    )
    return state, attrs.evolve(stages, replicas=published, floor=stabilized.floor)


def _recommendations_with(basis: SteeredBasis, forecast: Forecast, recommended: int) -> tuple[Recommendation, ...]:
    """The recommendations of the last hour, before stabilization, with ``recommended``, that of this plan."""
    state, last, new = basis.state, basis.last_recommendation, [recommended]
    if last is not None and (state.last_recommendation is None or last > state.last_recommendation):
        new.insert(0, last)  # the previous plan now reads higher than when it was made, which counts as well
    interval = basis.settings.interval_for(forecast.step)
    return add_recommendations(state.before_stabilization, epoch_seconds(forecast.made_at), interval, *new)


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
