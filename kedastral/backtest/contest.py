# SPDX-License-Identifier: Apache-2.0
"""Who is replayed, at which settings of its knob, and what comes of it on one workload."""

import math
from collections.abc import Callable, Iterable, Sequence

import attrs
import numpy as np

from kedastral.core.capacity import PlanPolicy
from kedastral.core.ports import Model
from kedastral.core.steered import SteeredSettings
from kedastral.core.steering import SteeringSettings
from kedastral.simulation.curves import Point, point_of
from kedastral.simulation.outcome import Outcome
from kedastral.simulation.policies.far_end import FarEnd
from kedastral.simulation.policies.fixed import Fixed
from kedastral.simulation.policies.last_week import LastWeek
from kedastral.simulation.policies.predictive import Kedastral
from kedastral.simulation.policies.reactive import Reactive
from kedastral.simulation.policies.steered import Steered
from kedastral.simulation.policies.ticks import Reading, Serving
from kedastral.simulation.policy import Policy, Together
from kedastral.simulation.replay import Cluster, replay, replay_oracle
from kedastral.simulation.trial import Trial

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
    reading: Reading = attrs.field(factory=Reading)
    serving: Serving = attrs.field(factory=Serving)
    cluster: Cluster = attrs.field(factory=Cluster)


@attrs.frozen
class Arena:
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
    make: Callable[[Arena, float], Policy] = attrs.field(repr=False)
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
class Contest:
    """All contestants on one workload, and the oracle that cost is told against."""

    arena: Arena
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


def hold_contest(
    arena: Arena, everyone: Sequence[Contestant], advance: Callable[[float], None] = lambda _: None
) -> Contest:
    """Replay everyone at every setting; ``advance`` hears the weight of each replay that is done."""
    oracle = replay_oracle(arena.trial, arena.rules.cluster)
    entries = tuple(_enter(arena, contestant, oracle, advance) for contestant in everyone)
    return Contest(arena, oracle, entries)


def total_weight(everyone: Iterable[Contestant]) -> float:
    """What `hold_contest` tells ``advance`` in all."""
    return sum(contestant.weight * len(contestant.settings) for contestant in everyone)


def _enter(arena: Arena, contestant: Contestant, oracle: Outcome, advance: Callable[[float], None]) -> Entry:
    points: list[Point] = []
    shown = oracle
    for knob in contestant.settings:
        outcome = replay(contestant.make(arena, knob), arena.trial, arena.rules.cluster)
        points.append(point_of(knob, outcome, oracle))
        if knob == contestant.shown:
            shown = outcome
        advance(contestant.weight)
    return Entry(contestant, tuple(points), shown)


def _make_kedastral(arena: Arena, headroom: float) -> Policy:
    if arena.rules.calibrated:
        return _make_calibrated(arena, SteeringSettings(arena.plan(1.0)), headroom)
    return Kedastral(arena.model, arena.plan(headroom), arena.rules.reading, arena.rules.serving)


def _make_steered(arena: Arena, service_level: float) -> Policy:
    return _make_calibrated(arena, SteeringSettings(arena.plan(1.0), service_level), None)


def _make_calibrated(arena: Arena, steering: SteeringSettings, headroom: float | None) -> Policy:
    """The policy of a model whose forecasts are planned by their uncertainty, as ``kedastral run`` does."""
    serving = arena.rules.serving
    timed = attrs.evolve(steering, lead_time=serving.lead_time, stale_after=serving.stale.stale_after)
    settings = SteeredSettings(timed, headroom, serving.reactive_headroom)
    return Steered(arena.model, settings, arena.rules.reading, serving.stale)


def _make_far_end(arena: Arena, headroom: float) -> Policy:
    return FarEnd(arena.model, arena.plan(headroom), arena.rules.reading, arena.rules.serving.lead_time)


def _make_hpa(arena: Arena, utilisation: float) -> Policy:
    return Reactive(arena.trial.target_per_pod, utilisation)


def _make_last_week(arena: Arena, utilisation: float) -> Policy:
    """As people deploy it: beside a plain trigger, which alone decides until there is a week of history."""
    triggers = (LastWeek(arena.trial.target_per_pod, utilisation), Reactive(arena.trial.target_per_pod, utilisation))
    return Together(f"last-week-{utilisation * 100:g}", triggers)


def _make_fixed(arena: Arena, share: float) -> Policy:
    return Fixed(max(1, math.ceil(arena.past_peak / arena.trial.target_per_pod * share)))
