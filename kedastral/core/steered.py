# SPDX-License-Identifier: Apache-2.0
"""`plan_steered`: one tick's plan from a point forecast, its uncertainty and the service level; pure.

It ties together `kedastral.core.uncertainty` (how far the load may exceed the forecast), `kedastral.core.steering`
(the factor that meets the service level) and `kedastral.core.capacity` (load to replicas, with its change limits and
prewarm steps). What KEDA is told is still read from the plan by `kedastral.core.serving` alone: the steps that the
lead time touches plus the prewarm steps are the window whose maximum is calibrated.
"""

import math

import attrs
import numpy as np

from kedastral.core.calming import Before, calm, hold, keep_wanted, steps_held, wanted_of
from kedastral.core.capacity import PlanPolicy, plan_replicas, reactive_replicas
from kedastral.core.forecast import Forecast
from kedastral.core.holding import SHORTEST_HOLD, held_load
from kedastral.core.series import EPOCH, Floats, Ints, Series, frozen_floats, frozen_ints, same_array
from kedastral.core.standing import OK, STANDS_DOWN, Standing, span_of, too_little
from kedastral.core.steering import Recommended, SteeringSettings, SteeringState, factor_of, judge, remember
from kedastral.core.uncertainty import (
    MOST_SURPRISE,
    Calibration,
    UncertaintyState,
    expect,
    observe,
    offset_of,
    upper_path,
)
from kedastral.core.unheld import Unheld

FLOOR_UTILISATION = 0.95
"""The reactive floor keeps pods at this share of their target, over h: it halves unserved load for 2 % of cost."""
WIDENS = 2.0
"""From 0.999 on h widens the margin too, by this power of it: what is left to avoid then are the jumps, and a factor on
a quiet load does little for them. At lower levels it costs more than it brings."""
LEAST_HISTORY = 2 * 3600.0
"""Seconds of history from which on the model leads. Before, it forecasts hardly better than the last value, and nobody
could tell yet whether it loses."""


NOTHING_BEFORE = Before()


@attrs.frozen
class SteeredSettings:
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

    def touched(self, step: float) -> int:
        """The steps that ``[now, now + lead_time]`` touches: what `kedastral.core.serving.replicas_at` reads."""
        return math.floor(self.steering.lead_time / step + 1e-9) + 1

    def window(self, step: float) -> int:
        """The steps whose largest load a plan made now must do for."""
        return self.touched(step) + self.policy.prewarm_steps


@attrs.frozen
class SteeredState:
    """What one workload carries from tick to tick; all of it numbers, so that it can be stored.

    ``served`` is the newest recommendation; ``wanted`` what the plans of late came to, see
    `kedastral.core.calming.keep_wanted`; ``unheld`` is the newest plan, ``said`` the newest that a model's
    forecast led to, None once that was found to lose.
    """

    uncertainty: UncertaintyState = attrs.field(factory=UncertaintyState)
    steering: SteeringState = attrs.field(factory=SteeringState)
    served: int | None = None
    wanted: tuple[Recommended, ...] = ()
    unheld: Unheld | None = None
    said: Unheld | None = None


@attrs.frozen
class SteeredPlan:
    """One tick's plan: ``replicas`` and ``upper`` (load, before h) match the forecast's steps.

    Where ``standing`` is not ok, the last value was planned for.
    """

    replicas: Ints = attrs.field(converter=frozen_ints, eq=attrs.cmp_using(eq=same_array))
    upper: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    floor: int | None
    factor: float
    standing: Standing = OK

    def report(self, state: SteeredState, settings: "SteeredSettings") -> "SteeredReport":
        """What the snapshot shows of this plan, with the ``state`` that goes on from it."""
        steering = settings.steering
        level = steering.service_level if settings.headroom is None else None
        spent = state.steering.budget_spent(steering)
        return SteeredReport(self.upper, self.factor, level, spent, state)


@attrs.frozen
class SteeredReport:
    """How a plan came about, for those who read it, and ``state``, which the next tick goes on from.

    ``upper`` is the calibrated quantile of each step's load, before ``factor`` multiplies it. ``service_level`` is None
    under a fixed headroom. ``budget_spent`` is 1 where all the minutes that may be short of pods have been.
    """

    upper: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    factor: float
    service_level: float | None
    budget_spent: float
    state: SteeredState

    @property
    def hold(self) -> float | None:
        """The seconds for which the largest load of late keeps its pods; None where nothing is held."""
        hold = self.state.steering.hold
        return hold if self.service_level is not None and hold > SHORTEST_HOLD else None

    @property
    def at_cap(self) -> bool:
        """Whether the factor is as high as it goes."""
        return self.service_level is not None and self.state.steering.at_cap


def plan_steered(
    state: SteeredState, history: Series, forecast: Forecast, settings: SteeredSettings, before: Before = NOTHING_BEFORE
) -> tuple[SteeredState, SteeredPlan]:
    """The plan of this tick, and the state for the next.

    ``forecast`` was made from ``history``, its first value following the history's last. ``before.wanted`` is the
    ``previous`` of `kedastral.core.capacity.plan_replicas`. Raises ValueError where the history holds no value.
    """
    newest = history.newest
    if newest is None:
        raise ValueError("there is no history to plan from")
    state = learn(state, history, settings)
    standing = standing_of(state.uncertainty, history, forecast, settings.least_history)
    factor = factor_of(state.steering, settings.steering) if settings.headroom is None else settings.headroom
    calibration, values = state.uncertainty.model, forecast.values
    if not standing.is_ok:
        calibration, values = state.uncertainty.last, np.full(len(forecast.values), newest.value)
    upper = _upper_of(calibration, history, values, settings.widening(factor))
    floor = _floor_of(history, factor, state.steering.hold, settings)
    policy = attrs.evolve(settings.policy, headroom=1.0)
    replicas = plan_replicas(upper * factor, policy, previous=before.wanted)
    rest = None if standing.may_take_back else before.rest
    state, replicas, floor = _serve(state, forecast, replicas, floor, settings, attrs.evolve(before, rest=rest))
    if standing.may_take_back:
        state = attrs.evolve(state, said=state.unheld if standing.is_ok else None)
    if forecast.standing.is_ok:  # what stands in is no forecast of the model's
        window, touched = settings.window(history.step), settings.touched(history.step)
        state = attrs.evolve(state, uncertainty=expect(state.uncertainty, history, forecast.values, window, touched))
    return state, SteeredPlan(replicas, upper, floor, factor, standing)


def _serve(
    state: SteeredState,
    forecast: Forecast,
    replicas: Ints,
    floor: int | None,
    settings: SteeredSettings,
    before: Before,
) -> tuple[SteeredState, Ints, int | None]:
    """The plan as it is published, its floor, and the state that remembers what is served of it."""
    step, at = forecast.step, (forecast.made_at - EPOCH).total_seconds()
    touched, interval = settings.touched(step), settings.interval or step
    told = state.served if before.told is None else before.told
    news = [wanted_of(replicas, floor, touched)]
    if told is not None and (state.served is None or told > state.served):
        news.insert(0, told)  # the plan before has come to more since it was made, and wants it as much as this one
    wanted = keep_wanted(state.wanted, at, interval, *news)
    calmed = calm(replicas, floor, told, wanted, settings.policy.bounds)
    plan = calmed.replicas if before.rest is None else np.maximum(calmed.replicas, before.rest)
    served = max(wanted_of(plan, calmed.floor, touched), calmed.held)
    published = hold(plan, served, touched, steps_held(step, interval)) if served > (calmed.floor or 0) else plan
    steering = remember(state.steering, at, served, step, settings.steering)
    unheld = Unheld.of(forecast.made_at, step, plan)
    state = attrs.evolve(state, steering=steering, served=served, wanted=wanted, unheld=unheld)
    return state, published, calmed.floor


def standing_of(uncertainty: UncertaintyState, history: Series, forecast: Forecast, least: float) -> Standing:
    """Whether ``forecast`` may be planned for: it is one, there is enough history, and the model is not losing."""
    if not forecast.standing.is_ok:
        return forecast.standing
    if span_of(history) < least:
        return too_little(history, least)
    return STANDS_DOWN if uncertainty.standing_down else OK


def learn(state: SteeredState, history: Series, settings: SteeredSettings) -> SteeredState:
    """``state`` after what ``history`` shows of forecasts and plans made before; a fixed headroom is not steered."""
    uncertainty = observe(state.uncertainty, history, settings.window(history.step))
    steering = judge(state.steering, history, settings.steering)
    if settings.headroom is not None:
        steering = attrs.evolve(steering, h=state.steering.h, hold=state.steering.hold)
    return attrs.evolve(state, uncertainty=uncertainty, steering=steering)


def _upper_of(calibration: Calibration, history: Series, values: Floats, widened: float) -> Floats:
    return upper_path(values, min(calibration.margins[0] * widened, MOST_SURPRISE), offset_of(history))


def _floor_of(history: Series, factor: float, hold: float, settings: SteeredSettings) -> int | None:
    """What the newest load needs at once, and, where the service level is steered, what the hold keeps."""
    if settings.reactive_headroom is None or history.newest is None:
        return None
    if settings.headroom is not None:
        return reactive_replicas(history.newest.value, settings.reactive_headroom, settings.policy)
    needed = reactive_replicas(history.newest.value, factor / FLOOR_UTILISATION, settings.policy)
    return max(needed, reactive_replicas(held_load(history, hold), 1 / FLOOR_UTILISATION, settings.policy))
