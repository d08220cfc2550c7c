# SPDX-License-Identifier: Apache-2.0
"""Curves compared with the plain HPA: at its cost, and at its violation; for one workload and over several."""

import math
from collections.abc import Callable, Iterable, Sequence

import attrs
import numpy as np

from kedastral.core.capacity import PlanPolicy
from kedastral.core.forecast import Forecast
from kedastral.core.planning.service_level import ServiceLevelSettings, SteeringSettings
from kedastral.core.ports import Model
from kedastral.core.series import Floats, frozen_floats
from kedastral.errors import ModelError
from kedastral.simulation.curves import (
    Figure,
    Point,
    average_points,
    cost_ratio_at_figure,
    geometric_mean,
    point_of,
    ratio_at_cost,
)
from kedastral.simulation.policies import (
    FarEnd,
    Fixed,
    ForecastSchedule,
    Kedastral,
    LastWeek,
    Reactive,
    ServiceLevelPolicy,
    Serving,
)
from kedastral.simulation.replay import Cluster, Outcome, replay, replay_oracle
from kedastral.simulation.trial import Policy, Together, Trial, View

# --- Who is replayed, at which settings of its knob, and what comes of it on one workload.

REFERENCE_UTILISATION = 0.8
"""The plain HPA that everything is compared with: a target of 80 %, the usual setting."""
HEADROOMS = (1.0, 1.05, 1.1, 1.2, 1.3, 1.45, 1.6, 1.8, 2.1)
SERVICE_LEVELS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
UTILISATIONS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SHARES_OF_PEAK = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@attrs.frozen
class Rules:
    """What all workloads of a backtest share; ``plan`` is a template, its target is each workload's own.

    ``service_level`` is what the model is steered to; None where a headroom plans. A ``calibrated`` model's headroom
    multiplies the upper quantile, any other's the forecast.
    """

    plan: PlanPolicy
    calibrated: bool = False
    service_level: float | None = None
    reading: ForecastSchedule = attrs.field(factory=ForecastSchedule)
    serving: Serving = attrs.field(factory=Serving)
    cluster: Cluster = attrs.field(factory=Cluster)


@attrs.frozen
class Scenario:
    """One workload, ready to be replayed. ``model`` should remember its forecasts: every knob asks for the same.

    ``sized_by_peak`` where the target per pod was made from the load, ``in_files`` where a ForecastPolicy is replayed.
    """

    name: str
    trial: Trial
    model: Model
    rules: Rules
    sized_by_peak: bool = False
    in_files: bool = False

    def plan(self, headroom: float) -> PlanPolicy:
        """The plan for this workload's pods."""
        return attrs.evolve(self.rules.plan, target_per_pod=self.trial.target_per_pod, headroom=headroom)

    @property
    def past_peak(self) -> float:
        """The 99.9th percentile of what came before the replay; of its first step, where nothing did."""
        before = self.trial.demand.values[: max(1, self.trial.begin)]
        return float(np.percentile(before, 99.9))


@attrs.frozen
class Contestant:
    """A policy with a knob; ``shown`` is the setting that tables show, ``weight`` its share of the time."""

    name: str
    knob: str
    shown: float
    knobs: tuple[float, ...]
    make: Callable[[Scenario, float], Policy] = attrs.field(repr=False)
    weight: float = 1.0

    @property
    def settings(self) -> tuple[float, ...]:
        """All settings that are replayed, ascending, the one that is shown among them."""
        return tuple(sorted({*self.knobs, self.shown}))


@attrs.frozen
class Entry:
    """What came of one contestant: its sweep, and the whole outcome at the setting that is shown."""

    contestant: Contestant
    points: tuple[Point, ...]
    shown: Outcome = attrs.field(repr=False)

    @property
    def point(self) -> Point:
        """The point that is shown."""
        return next(point for point in self.points if point.knob == self.contestant.shown)


@attrs.frozen
class PolicyComparison:
    """All contestants on one workload, and the oracle that cost is told against."""

    arena: Scenario
    oracle: Outcome = attrs.field(repr=False)
    entries: tuple[Entry, ...]

    def entry(self, name: str) -> Entry:
        """The entry of a contestant; raises StopIteration where it did not take part."""
        return next(entry for entry in self.entries if entry.contestant.name == name)

    def point_at(self, knob: float, name: str = "kedastral") -> Outcome:
        """A contestant replayed once more, at any setting of its knob."""
        entry = self.entry(name)
        if knob == entry.contestant.shown:
            return entry.shown
        return replay(entry.contestant.make(self.arena, knob), self.arena.trial, self.arena.rules.cluster)


def contestants(headroom: float, service_level: float | None = None, *, swept: bool = True) -> tuple[Contestant, ...]:
    """All there are, at the ``headroom`` of the settings; with a ``service_level`` Kedastral is steered to that.

    Unswept, each is replayed at the setting shown only.
    """
    ours = Contestant("kedastral", "headroom", headroom, HEADROOMS, _make_kedastral, weight=8.0)
    if service_level is not None:
        ours = Contestant("kedastral", "service level", service_level, SERVICE_LEVELS, _make_steered, weight=20.0)
    everyone = (
        ours,
        Contestant("hpa", "utilisation", REFERENCE_UTILISATION, UTILISATIONS, _make_hpa),
        Contestant("far-end", "headroom", headroom, HEADROOMS, _make_far_end, weight=8.0),
        Contestant("last-week", "utilisation", REFERENCE_UTILISATION, UTILISATIONS, _make_last_week, weight=1.5),
        Contestant("fixed", "share of the past peak", 1.0, SHARES_OF_PEAK, _make_fixed),
    )
    return everyone if swept else tuple(attrs.evolve(one, knobs=()) for one in everyone)


def compare_policies(
    arena: Scenario, everyone: Sequence[Contestant], advance: Callable[[float], None] = lambda _: None
) -> PolicyComparison:
    """Replay everyone at every setting; ``advance`` hears the weight of each replay that is done."""
    oracle = replay_oracle(arena.trial, arena.rules.cluster)
    entries = tuple(_enter(arena, contestant, oracle, advance) for contestant in everyone)
    return PolicyComparison(arena, oracle, entries)


def total_weight(everyone: Iterable[Contestant]) -> float:
    """What `compare_policies` tells ``advance`` in all."""
    return sum(contestant.weight * len(contestant.settings) for contestant in everyone)


def _enter(arena: Scenario, contestant: Contestant, oracle: Outcome, advance: Callable[[float], None]) -> Entry:
    points: list[Point] = []
    shown = oracle
    for knob in contestant.settings:
        outcome = replay(contestant.make(arena, knob), arena.trial, arena.rules.cluster)
        points.append(point_of(knob, outcome, oracle))
        if knob == contestant.shown:
            shown = outcome
        advance(contestant.weight)
    return Entry(contestant, tuple(points), shown)


def _make_kedastral(arena: Scenario, headroom: float) -> Policy:
    if arena.rules.calibrated:
        return _make_calibrated(arena, SteeringSettings(arena.plan(1.0)), headroom)
    return Kedastral(arena.model, arena.plan(headroom), arena.rules.reading, arena.rules.serving)


def _make_steered(arena: Scenario, service_level: float) -> Policy:
    return _make_calibrated(arena, SteeringSettings(arena.plan(1.0), service_level), None)


def _make_calibrated(arena: Scenario, steering: SteeringSettings, headroom: float | None) -> Policy:
    """The policy of a model whose forecasts are planned by their uncertainty, as ``kedastral run`` does."""
    serving = arena.rules.serving
    timed = attrs.evolve(steering, lead_time=serving.lead_time, stale_after=serving.stale.stale_after)
    settings = ServiceLevelSettings(timed, headroom, serving.reactive_headroom)
    return ServiceLevelPolicy(arena.model, settings, arena.rules.reading, serving.stale)


def _make_far_end(arena: Scenario, headroom: float) -> Policy:
    return FarEnd(arena.model, arena.plan(headroom), arena.rules.reading, arena.rules.serving.lead_time)


def _make_hpa(arena: Scenario, utilisation: float) -> Policy:
    return Reactive(arena.trial.target_per_pod, utilisation)


def _make_last_week(arena: Scenario, utilisation: float) -> Policy:
    """As people deploy it: beside a plain trigger, which alone decides until there is a week of history."""
    triggers = (LastWeek(arena.trial.target_per_pod, utilisation), Reactive(arena.trial.target_per_pod, utilisation))
    return Together(f"last-week-{utilisation * 100:g}", triggers)


def _make_fixed(arena: Scenario, share: float) -> Policy:
    return Fixed(max(1, math.ceil(arena.past_peak / arena.trial.target_per_pod * share)))


# --- What the model said at a moment of the replay, asked again; a model that remembers answers at once.


def forecast_after(arena: Scenario, ended: int) -> Forecast | None:
    """The forecast made when ``ended`` steps had ended, from these alone; None where the model had none."""
    demand, reading = arena.trial.demand, arena.rules.reading
    view = View(demand.start, demand.step, ended * demand.step, demand.values[:ended], 0)
    try:
        return arena.model.forecast(view.history(reading.window), view.at, round(reading.horizon / demand.step))
    except ModelError:
        return None


def lead_steps(arena: Scenario) -> int:
    """Steps between the newest load that a forecast saw and the first step that pods ordered on it can serve."""
    return max(1, round(arena.rules.cluster.lead_time / arena.trial.demand.step))


def forecast_in_time(arena: Scenario) -> Floats:
    """For each judged step what the last forecast said from which pods could still be ordered for it; NaN for none."""
    trial, ahead = arena.trial, lead_steps(arena) - 1
    said = np.full(len(trial.judged), np.nan)
    for i in range(len(said)):
        forecast = forecast_after(arena, trial.judged_from + i - ahead) if trial.judged_from + i > ahead else None
        if forecast is not None:
            said[i] = forecast.values[min(ahead, len(forecast.values) - 1)]
    return said


# --- How wrong the forecasts were, by how far they looked ahead, beside simply repeating the last value.

EVERY = 1800.0
"""Seconds between two origins."""
NEAR, FAR = 300.0, 900.0
"""The range, in seconds ahead, that one figure stands for."""


@attrs.frozen(eq=False)
class Accuracy:
    """WAPE, sum(|forecast - load|) / sum(load), of each step ahead, over origins every 30 minutes of the judged part.

    ``ahead`` in seconds to the end of the step; all of shape (steps,), NaN where there was no load to compare with.
    """

    ahead: Floats = attrs.field(converter=frozen_floats)
    model: Floats = attrs.field(converter=frozen_floats)
    last_value: Floats = attrs.field(converter=frozen_floats)

    @property
    def ratio(self) -> float:
        """The model's error 5 to 15 minutes ahead over that of the last value; NaN where nothing can be said."""
        near = (self.ahead >= NEAR) & (self.ahead <= FAR)
        ours, theirs = self.model[near], self.last_value[near]
        if not len(ours) or not np.isfinite(ours).all() or not theirs.sum() > 0:
            return float("nan")
        return float(ours.mean() / theirs.mean())


def measure_accuracy(arena: Scenario) -> Accuracy:
    """The model's errors on the judged part of one workload."""
    demand, steps = arena.trial.demand, round(arena.rules.reading.horizon / arena.trial.demand.step)
    stride = max(1, round(EVERY / demand.step))
    errors, naive, loads = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    for ended in range(max(1, arena.trial.judged_from), len(demand) - steps + 1, stride):
        forecast = forecast_after(arena, ended)
        if forecast is None:
            continue
        came = demand.values[ended : ended + steps]
        errors += np.abs(forecast.values - came)
        naive += np.abs(demand.values[ended - 1] - came)
        loads += came
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [np.where(loads > 0, wrong / loads, np.nan) for wrong in (errors, naive)]
    return Accuracy(np.arange(1, steps + 1) * demand.step, *shares)


REFERENCE = "hpa"


@attrs.frozen
class HpaComparison:
    """A policy's curve against the HPA at 80 %, as ratios; below 1 is better, infinite where the curve does not reach.

    ``unserved`` and ``violation`` at the HPA's cost; ``cost`` at its minutes in violation.
    """

    unserved: float
    violation: float
    cost: float


@attrs.frozen
class PolicyResult:
    """One contestant over one workload or all: the point shown, its sweep and how it compares.

    ``pod_hours`` and ``minutes`` (in violation) are sums over the workloads.
    """

    contestant: Contestant
    point: Point
    points: tuple[Point, ...]
    pod_hours: float
    minutes: float
    comparison: HpaComparison


def compare(points: Sequence[Point], reference: Point) -> HpaComparison:
    """One sweep against one point."""
    return HpaComparison(
        ratio_at_cost(points, reference, Figure.UNSERVED),
        ratio_at_cost(points, reference, Figure.VIOLATION),
        cost_ratio_at_figure(points, reference, Figure.VIOLATION),
    )


def standings_of(contest: PolicyComparison) -> list[PolicyResult]:
    """Everybody's standing on one workload."""
    reference = contest.entry(REFERENCE).point
    return [
        PolicyResult(
            entry.contestant,
            entry.point,
            entry.points,
            entry.shown.pod_hours,
            entry.shown.violation_minutes,
            compare(entry.points, reference),
        )
        for entry in contest.entries
    ]


def overall(several: Sequence[Sequence[PolicyResult]]) -> list[PolicyResult]:
    """Over workloads: geometric means, at equal cost of each workload's ratio, at equal violation of the mean curves.

    Hours and minutes are summed.
    """
    swept = [average_points([standing.points for standing in of_one]) for of_one in zip(*several, strict=True)]
    everyone = [standing.contestant for standing in several[0]]
    place = next(i for i, contestant in enumerate(everyone) if contestant.name == REFERENCE)
    reference = _shown(everyone[place], swept[place])
    return [
        _merge(of_one, tuple(points), reference)
        for of_one, points in zip(zip(*several, strict=True), swept, strict=True)
    ]


def _merge(of_one: Sequence[PolicyResult], points: tuple[Point, ...], reference: Point) -> PolicyResult:
    contestant = of_one[0].contestant
    comparison = HpaComparison(
        _mean_ratio(standing.comparison.unserved for standing in of_one),
        _mean_ratio(standing.comparison.violation for standing in of_one),
        cost_ratio_at_figure(points, reference, Figure.VIOLATION),
    )
    return PolicyResult(
        contestant,
        _shown(contestant, points),
        points,
        sum(standing.pod_hours for standing in of_one),
        sum(standing.minutes for standing in of_one),
        comparison,
    )


def _shown(contestant: Contestant, points: Sequence[Point]) -> Point:
    return next(point for point in points if point.knob == contestant.shown)


def _mean_ratio(ratios: Iterable[float]) -> float:
    return geometric_mean(ratios)
