# SPDX-License-Identifier: Apache-2.0
"""Replays Kedastral and the policies people use today on one workload, and compares each with a plain HPA.

Two policies at one setting each differ in both cost and service. So each policy is swept over its knob, which gives a
curve of service against cost, and the curves are compared at equal cost and at equal violation.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import attrs

from kedastral.backtest.workloads import Scenario
from kedastral.core.capacity import round_replicas
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.series import MINUTE
from kedastral.core.steps import WHOLE_WITHIN
from kedastral.settings.types import write_duration
from kedastral.simulation.curves import (
    Figure,
    Point,
    average_points,
    cost_ratio_at_figure,
    curve_of,
    geometric_mean,
    point_of,
    ratio_at_cost,
)
from kedastral.simulation.policies import (
    FarEndOnly,
    Fixed,
    Kedastral,
    LastWeek,
    Reactive,
    ServiceLevelPolicy,
)
from kedastral.simulation.replay import Outcome, replay, replay_oracle
from kedastral.simulation.trial import CombinedTriggers, Policy

KEDASTRAL, HPA = "kedastral", "hpa"
"""Names of policies. Every policy is compared with the plain HPA."""
HPA_UTILISATION = 0.8
"""The target of the plain HPA: the usual 80 %."""
HEADROOMS = (1.0, 1.05, 1.1, 1.2, 1.3, 1.45, 1.6, 1.8, 2.1)
STEERED_SETTINGS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0, 1.05, 1.1, 1.2, 1.35, 1.6)
"""The settings of a policy that can be steered. From 1 on they are headrooms instead of service levels: on smooth load
a plain HPA is so seldom short of pods that a service level to match it cannot be measured."""
UTILISATIONS = (0.05, 0.1, 0.2, 0.3, *(round(0.05 * i, 2) for i in range(8, 20)))
SHARES_OF_PEAK = tuple(round(0.1 * i, 1) for i in range(2, 16))
LEVEL_KNOB = "service level"
"""The knob of a policy that is steered, with the settings of `STEERED_SETTINGS`."""
LAST_WEEK, FIXED = "last-week", "fixed"
RIVALS = (HPA, LAST_WEEK, FIXED)
"""The alternatives to Kedastral, each at any setting of its knob."""
ROUNDED = 0.005
"""Ratios this close to 1 are shown as the same and count as equal."""


def goal_at(setting: float) -> ServiceLevelGoal:
    """The goal of a policy that can be steered at one of `STEERED_SETTINGS`."""
    return ServiceLevelGoal(setting) if setting < 1 else ServiceLevelGoal(headroom=setting)


@attrs.frozen
class SweptPolicy:
    """A policy and the ``settings`` of its knob to replay. ``shown`` is the setting in the tables.

    ``title`` is the displayed name. ``make`` builds the policy for a scenario and a setting. ``weight`` is the
    relative time that one replay takes.
    """

    name: str
    title: str
    knob: str
    shown: float
    knobs: tuple[float, ...]
    make: Callable[[Scenario, float], Policy] = attrs.field(repr=False)
    weight: float = 1.0

    @property
    def settings(self) -> tuple[float, ...]:
        """All settings to replay, ascending, including the one that is shown."""
        return tuple(sorted({*self.knobs, self.shown}))

    @property
    def label(self) -> str:
        """The policy and its setting, as the tables show them."""
        setting = {"utilisation": f" at {self.shown * 100:g} %", "share of the past peak": " at the past peak"}
        return self.title + setting.get(self.knob, f", {self.knob} {self.shown:g}")

    @property
    def short_label(self) -> str:
        """The label without a headroom or service level."""
        return self.label.partition(",")[0]

    def is_level(self, setting: float) -> bool:
        """Whether a setting is a service level instead of a headroom."""
        return self.knob == LEVEL_KNOB and setting < 1


@attrs.frozen
class ReplayedPolicy:
    """The replays of one policy: a point for each setting, and the whole outcome at the setting that is shown."""

    policy: SweptPolicy
    points: tuple[Point, ...]
    shown: Outcome = attrs.field(repr=False)

    @property
    def point(self) -> Point:
        """The point at the setting that is shown."""
        return _shown_point(self.policy, self.points)


@attrs.frozen
class PolicyComparison:
    """All policies replayed on one workload, and the oracle, whose cost is the unit of all others."""

    scenario: Scenario
    oracle: Outcome = attrs.field(repr=False)
    replayed: tuple[ReplayedPolicy, ...]

    def find(self, name: str) -> ReplayedPolicy:
        """The replays of one policy. Raises StopIteration if it was not replayed."""
        return next(one for one in self.replayed if one.policy.name == name)

    @property
    def kedastral(self) -> ReplayedPolicy:
        """The replays of Kedastral."""
        return self.find(KEDASTRAL)

    @property
    def minutes_not_judged(self) -> float:
        """The minutes of the judged part that gaps leave out of every figure."""
        return len(self.oracle.demand) * self.oracle.demand.step / MINUTE - self.oracle.counted_minutes

    @property
    def pods_needed(self) -> int:
        """The most pods that the load needs at a step that counts, whatever the maximum."""
        peak = float(self.oracle.demand.values[self.oracle.counted].max())
        return int(round_replicas(peak / self.oracle.target_per_pod))

    @property
    def minutes_above_max(self) -> float:
        """The minutes in which the load needs more pods than the maximum allows, so that every policy is short."""
        most = self.scenario.settings.cluster.bounds.max
        if not most:
            return 0.0
        loads = self.oracle.demand.values[self.oracle.counted]
        above = loads > most * self.oracle.target_per_pod * (1 + WHOLE_WITHIN)
        return int(above.sum()) * self.oracle.demand.step / MINUTE

    @property
    def left_out(self) -> str:
        """Why there is no trigger on last week's load; empty if there is one."""
        if any(one.policy.name == LAST_WEEK for one in self.replayed):
            return ""
        trial = self.scenario.trial
        span = write_duration(trial.judged_from * trial.demand.step) if trial.judged_from else "none"
        return f"it needs a week of history before the judged part; got {span}"

    def replay_kedastral(self, setting: float) -> Outcome:
        """The outcome of Kedastral at any setting of its knob, replayed again unless it is the one shown."""
        ours = self.kedastral
        if setting == ours.policy.shown:
            return ours.shown
        return _replay(ours.policy, self.scenario, setting)


def policies_to_compare(
    headroom: float, service_level: float | None = None, *, swept: bool = True
) -> tuple[SweptPolicy, ...]:
    """All policies, at the ``headroom`` of the settings. Kedastral is steered to the ``service_level`` if there is one.

    With ``swept`` false, each policy is replayed only at the setting that is shown. See `policies_for`.
    """
    ours = SweptPolicy(KEDASTRAL, "kedastral", "headroom", headroom, HEADROOMS, _make_kedastral, weight=8.0)
    if service_level is not None:
        ours = SweptPolicy(
            KEDASTRAL, "kedastral", LEVEL_KNOB, service_level, STEERED_SETTINGS, _make_steered, weight=20.0
        )
    policies = (
        ours,
        SweptPolicy(HPA, "HPA", "utilisation", HPA_UTILISATION, UTILISATIONS, _make_hpa),
        SweptPolicy("far-end", "far end only", "headroom", headroom, HEADROOMS, _make_far_end, weight=8.0),
        SweptPolicy(
            LAST_WEEK, "last week + HPA", "utilisation", HPA_UTILISATION, UTILISATIONS, _make_last_week, weight=1.5
        ),
        SweptPolicy(FIXED, "fixed", "share of the past peak", 1.0, SHARES_OF_PEAK, _make_fixed),
    )
    return policies if swept else tuple(attrs.evolve(one, knobs=()) for one in policies)


def policies_for(scenario: Scenario) -> tuple[SweptPolicy, ...]:
    """All policies that can be compared on this workload, at its settings.

    There is no trigger on last week's load unless a week lies before the judged part. Without a value it would hold
    every pod that was ever ordered, which is no policy that anyone would run.
    """
    policies = policies_to_compare(scenario.settings.plan.headroom, scenario.settings.service_level)
    return tuple(one for one in policies if one.name != LAST_WEEK or scenario.has_week)


@attrs.frozen
class PlannedComparison:
    """A workload and the policies to replay on it. The first policy makes the forecasts that the others use."""

    scenario: Scenario
    policies: tuple[SweptPolicy, ...]

    @property
    def settings(self) -> list[tuple[SweptPolicy, float]]:
        """Each policy with each of its settings."""
        return [(policy, setting) for policy in self.policies for setting in policy.settings]

    @property
    def weight(self) -> float:
        """The sum of the weights of all replays."""
        return sum(policy.weight for policy, _ in self.settings)


@attrs.frozen
class ReplayedSetting:
    """The replay of one policy at one setting; the ``outcome`` is kept only for the setting that is shown."""

    point: Point
    outcome: Outcome | None = attrs.field(repr=False)


def compare_policies(
    scenario: Scenario, policies: Sequence[SweptPolicy], advance: Callable[[float], None] = lambda _: None
) -> PolicyComparison:
    """Replay every policy at every setting. ``advance`` gets the weight of what has been done."""
    planned, oracle = PlannedComparison(scenario, tuple(policies)), oracle_of(scenario)
    replays = [replay_setting(scenario, *each, oracle, advance) for each in planned.settings]
    return comparison_of(planned, oracle, replays)


def oracle_of(scenario: Scenario) -> Outcome:
    """The outcome of the oracle, whose cost is the unit of all others."""
    return replay_oracle(scenario.trial, scenario.settings.cluster)


def replay_setting(
    scenario: Scenario,
    policy: SweptPolicy,
    setting: float,
    oracle: Outcome,
    advance: Callable[[float], None] = lambda _: None,
) -> ReplayedSetting:
    """Replay a policy at one setting. ``advance`` gets the weight of what has been done, in sum the policy's."""
    outcome = _replay(policy, scenario, setting, lambda share: advance(policy.weight * share))
    return ReplayedSetting(point_of(setting, outcome, oracle), outcome if setting == policy.shown else None)


def comparison_of(planned: PlannedComparison, oracle: Outcome, replays: Iterable[ReplayedSetting]) -> PolicyComparison:
    """The comparison of these ``replays``, which are in the order of `PlannedComparison.settings`."""
    left = iter(replays)
    replayed = []
    for policy in planned.policies:
        settings = [next(left) for _ in policy.settings]
        shown = next(one.outcome for one in settings if one.outcome is not None)
        replayed.append(ReplayedPolicy(policy, tuple(one.point for one in settings), shown))
    return PolicyComparison(planned.scenario, oracle, tuple(replayed))


def _replay(
    policy: SweptPolicy, scenario: Scenario, setting: float, advance: Callable[[float], None] = lambda _: None
) -> Outcome:
    return replay(policy.make(scenario, setting), scenario.trial, scenario.settings.cluster, advance)


def _shown_point(policy: SweptPolicy, points: Sequence[Point]) -> Point:
    return next(point for point in points if point.knob == policy.shown)


def _make_kedastral(scenario: Scenario, headroom: float) -> Policy:
    settings = scenario.settings
    if settings.calibrated:
        return _make_steered(scenario, headroom)
    return Kedastral(scenario.model, scenario.plan(headroom), settings.schedule, settings.serving)


def _make_steered(scenario: Scenario, setting: float) -> Policy:
    """The policy of a model whose plan follows the uncertainty of its forecasts, as in ``kedastral run``."""
    settings = scenario.settings
    plan, goal = scenario.plan(1.0), goal_at(setting)
    return ServiceLevelPolicy(scenario.model, plan, goal, settings.schedule, settings.serving)


def _make_far_end(scenario: Scenario, headroom: float) -> Policy:
    settings = scenario.settings
    return FarEndOnly(scenario.model, scenario.plan(headroom), settings.schedule, settings.serving)


def _make_hpa(scenario: Scenario, utilisation: float) -> Policy:
    return Reactive(scenario.trial.target_per_pod, utilisation)


def _make_last_week(scenario: Scenario, utilisation: float) -> Policy:
    """A trigger on last week's load and a plain one, which decides alone until there is a week of history."""
    target = scenario.trial.target_per_pod
    triggers = (LastWeek(target, utilisation), Reactive(target, utilisation))
    return CombinedTriggers(f"last-week-{utilisation * 100:g}", triggers)


def _make_fixed(scenario: Scenario, share: float) -> Policy:
    return Fixed(max(1, math.ceil(scenario.past_peak / scenario.trial.target_per_pod * share)))


@attrs.frozen
class HpaComparison:
    """A policy's curve compared with the plain HPA, as ratios. Below 1 is better; infinite is out of reach.

    The first two compare the figures at the HPA's cost, the last the cost at the HPA's share of minutes short.
    """

    unserved_at_equal_cost: float
    violation_at_equal_cost: float
    cost_at_equal_violation: float


@attrs.frozen
class PolicyResult:
    """The result of one policy on one workload or on all: its point in the tables, its sweep, and the comparison.

    ``pod_hours`` and ``minutes`` (with too few pods) are sums over the workloads.
    """

    policy: SweptPolicy
    point: Point
    points: tuple[Point, ...]
    pod_hours: float
    minutes: float
    against_hpa: HpaComparison


@attrs.frozen
class Rival:
    """One setting of a policy, usually one without Kedastral; ``policy`` is its name."""

    policy: str
    point: Point


def serves_as(point: Point, reference: Point) -> bool:
    """Whether a point is as good as the reference in both figures of service, both floored."""
    return all(max(figure.of(point), figure.value) <= max(figure.of(reference), figure.value) for figure in Figure)


def cheapest_as_good(points: Iterable[Point], reference: Point) -> Point | None:
    """The cheapest point that serves as well as the reference; None if none does."""
    return min((point for point in points if serves_as(point, reference)), key=lambda point: point.cost, default=None)


def cost_as_good(points: Sequence[Point], reference: Point) -> float:
    """The interpolated cost at which a sweep serves as well as the reference in both figures; may be infinite.

    It is a ratio to the oracle's cost, like that of the points.
    """
    return max(curve_of(points, figure).cost_at(max(figure.of(reference), figure.value)) for figure in Figure)


def compare_with_hpa(points: Sequence[Point], hpa: Point) -> HpaComparison:
    """Compare one sweep with one point of the HPA."""
    return HpaComparison(
        ratio_at_cost(points, hpa, Figure.UNSERVED),
        ratio_at_cost(points, hpa, Figure.VIOLATION),
        cost_ratio_at_figure(points, hpa, Figure.VIOLATION),
    )


def results_of(comparison: PolicyComparison) -> list[PolicyResult]:
    """The result of every policy on one workload."""
    hpa = comparison.find(HPA).point
    return [
        PolicyResult(
            one.policy,
            one.point,
            one.points,
            one.shown.pod_hours,
            one.shown.violation_minutes,
            compare_with_hpa(one.points, hpa),
        )
        for one in comparison.replayed
    ]


def average_results(workloads: Sequence[Sequence[PolicyResult]]) -> list[PolicyResult]:
    """The result of every policy over several workloads, each with the same policies in the same order.

    Ratios at equal cost are geometric means of the workloads' ratios; the ratio at equal violation is that of the
    averaged curves. Pod-hours and minutes are sums.
    """
    by_policy = list(zip(*workloads, strict=True))
    averaged = [average_points([result.points for result in results]) for results in by_policy]
    place = next(i for i, results in enumerate(by_policy) if results[0].policy.name == HPA)
    hpa = _shown_point(by_policy[place][0].policy, averaged[place])
    return [_average(results, tuple(points), hpa) for results, points in zip(by_policy, averaged, strict=True)]


def _average(results: Sequence[PolicyResult], points: tuple[Point, ...], hpa: Point) -> PolicyResult:
    policy = results[0].policy
    return PolicyResult(
        policy,
        _shown_point(policy, points),
        points,
        sum(result.pod_hours for result in results),
        sum(result.minutes for result in results),
        HpaComparison(
            geometric_mean(result.against_hpa.unserved_at_equal_cost for result in results),
            geometric_mean(result.against_hpa.violation_at_equal_cost for result in results),
            cost_ratio_at_figure(points, hpa, Figure.VIOLATION),
        ),
    )
