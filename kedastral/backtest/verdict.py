# SPDX-License-Identifier: Apache-2.0
"""Says what a comparison means: whether the service level was kept, what to run, and why pods were missing."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum

import attrs
import numpy as np

from kedastral.backtest.comparison import (
    FIXED,
    HPA,
    KEDASTRAL,
    LAST_WEEK,
    LEVEL_KNOB,
    RIVALS,
    HpaComparison,
    PolicyComparison,
    PolicyResult,
    cheapest_as_good,
    compare_with_hpa,
    forecast_after,
    lead_steps,
    serves_as,
)
from kedastral.backtest.workloads import Scenario
from kedastral.core.capacity import round_replicas
from kedastral.settings.types import write_duration
from kedastral.simulation.curves import Figure, Point, curve_of
from kedastral.simulation.replay import Outcome

MIN_BUDGET = 10.0
"""Minutes that the service level must allow to be short, over all that was judged, before there is a verdict.

A count of n independent minutes has a standard error of sqrt(n) (Poisson). For 10 minutes that is a third; with fewer,
a difference of a tenth means nothing. Short minutes come in clumps, so 10 is the least.
"""
DEFAULT_LEVEL = 0.99
"""The service level to assume where a headroom plans: the default of --service-level."""


@attrs.frozen
class SloResult:
    """The result of a service ``level`` 0..1: ``short`` of the ``judged`` minutes had too few pods.

    ``highest_kept`` is the highest of the levels that were replayed whose own budget was enough, None where none was.
    ``setup`` says with which steps and lead time.
    """

    level: float
    judged: float
    short: float
    highest_kept: float | None = None
    setup: str = ""

    @property
    def budget(self) -> float:
        """The minutes that may be short."""
        return (1 - self.level) * self.judged

    @property
    def is_kept(self) -> bool:
        """Whether the minutes short are within the budget."""
        return self.short <= self.budget + 1e-9

    @property
    def reached(self) -> float:
        """The share of minutes with enough pods, 0..1."""
        return 1 - self.short / self.judged

    @property
    def words(self) -> str:
        """The service level and its result, as one line."""
        return (
            f"service level {self.level:g}: {show_percent(self.reached)} % reached; {self.short:,.0f} of "
            f"{self.judged:,.0f} minutes short, budget {show_minutes(self.budget)}{self._instead}"
        )

    @property
    def _instead(self) -> str:
        """What can be promised where the level cannot; empty where it is kept, or nothing else was tried."""
        if self.is_kept or not self.setup:
            return ""
        if self.highest_kept is None:
            return f"; {self.setup} no level that was tried can be promised here"
        return f"; {self.setup} {self.level:g} cannot be promised here, {self.highest_kept:g} can"


def slo_result_of(comparison: PolicyComparison) -> SloResult | None:
    """The result of the service level on one workload; None where a headroom plans."""
    level = comparison.scenario.settings.service_level
    if level is None:
        return None
    ours, scenario = comparison.kedastral, comparison.scenario
    levels = [point for point in ours.points if point.knob < 1]
    kept = [point.knob for point in levels if point.violation <= 1 - point.knob + 1e-9]
    step, lead = scenario.trial.demand.step, scenario.settings.cluster.lead_time
    setup = f"with steps of {write_duration(step)} and a lead time of {write_duration(lead)}" if len(levels) > 1 else ""
    judged = judged_minutes([comparison])
    return SloResult(level, judged, ours.shown.violation_minutes, max(kept, default=None), setup)


def judged_minutes(comparisons: Sequence[PolicyComparison]) -> float:
    """The minutes that were judged, summed over the workloads."""
    parts = (comparison.scenario.trial.judged for comparison in comparisons)
    return sum(len(judged) * judged.step / 60 for judged in parts)


def explain_too_little(comparisons: Sequence[PolicyComparison]) -> str:
    """Why too little was judged for a verdict, and how much history is needed; empty where there is enough."""
    level = comparisons[0].scenario.settings.service_level or DEFAULT_LEVEL
    judged, needed = judged_minutes(comparisons), MIN_BUDGET / (1 - level)
    if judged >= needed - 1e-6:
        return ""
    trial = comparisons[0].scenario.trial
    share, warm_up = 1 - trial.begin / len(trial.demand), (trial.judged_from - trial.begin) * trial.demand.step
    days = math.ceil((math.ceil(needed) * 60 / len(comparisons) + warm_up) / share / 86400)
    return (
        f"Too little history was judged for a verdict: in {write_duration(judged * 60)} a service level of {level:g} "
        f"allows {show_minutes((1 - level) * judged)} minutes short. A verdict needs {MIN_BUDGET:g}, which takes "
        f"{write_duration(math.ceil(round(needed, 6)) * 60)}: {days} days of history with this --evaluated and "
        "--warm-up. "
    )


def show_percent(share: float) -> str:
    """A share as percent with two digits, rounded down, so that only all is 100."""
    return f"{math.floor(round(share * 1e4, 6)) / 100:.6g}"


def show_minutes(minutes: float) -> str:
    """Whole minutes, and tenths below ten."""
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.1f}"


CLEARLY = 0.9
"""At equal cost, a ratio of service below this is clearly better, and one above its inverse clearly worse."""
CHEAPER = 0.97
"""The same for cost at equal violation, where every percent is money."""
ROUNDED = 0.005
"""Ratios this close to 1 are shown as 1.00, and count as equal."""
USABLE = 0.05
"""The largest share of minutes short that anybody would run with."""
FAR_BETTER = 0.5
"""A simpler policy is worth a remark where it leaves at most this share of what Kedastral leaves at the same cost."""
SIMPLER = {
    HPA: "a plain HPA with another target",
    LAST_WEEK: "a trigger on last week's load beside the HPA",
    FIXED: "a fixed number of pods",
}


class Outlook(StrEnum):
    """How Kedastral compares with the plain HPA, and with what else could be had without it."""

    BETTER = "better"
    EVEN = "even"
    WORSE = "worse"
    TOO_LITTLE = "too-little"
    """Too little was judged to tell."""


@attrs.frozen
class Verdict:
    """The verdict in ``words``, and the ``advice`` on what to run.

    ``flags`` are the settings of the advice for `kedastral run`; ``spec`` are the same as lines of a ForecastPolicy's
    spec, where a ForecastPolicy was replayed. ``caution`` belongs beside them. ``remark`` names a simpler policy that
    serves far better for its cost, where there is one.
    """

    outlook: Outlook
    words: str
    advice: str
    flags: tuple[str, ...] = ()
    spec: tuple[str, ...] = ()
    caution: str = ""
    remark: str = ""


def judge(results: Sequence[PolicyResult], comparisons: Sequence[PolicyComparison]) -> Verdict:
    """The verdict on Kedastral over the workloads of ``comparisons``, from the ``results`` over them."""
    ours = next(result for result in results if result.policy.name == KEDASTRAL)
    usual = next(result for result in results if result.policy.name == HPA)
    hpa = choose_hpa(usual.points, usual.point)
    ratios = ours.against_hpa if hpa == usual.point else compare_with_hpa(ours.points, hpa)
    too_little = explain_too_little(comparisons)
    chosen, rival = advised_point(ours, hpa), find_rival(results, hpa)
    beside_hpa = Outlook.TOO_LITTLE if too_little else outlook_of(ratios)
    outlook = outlook_beside(beside_hpa, chosen, rival, hpa)
    settings, caution = settings_to_run(chosen.knob, comparisons), caution_on(comparisons)
    flags, spec = as_flags(settings), as_spec(settings) if comparisons[0].scenario.in_files else []
    line = f"{', '.join(spec)} in the spec of the ForecastPolicy" if spec else " ".join(flags)
    effect = f"{_effect(chosen, hpa)}{_misses(ours, chosen, hpa)}{f' {caution}.' if caution else ''}"
    beaten = outlook in (Outlook.EVEN, Outlook.WORSE) and rival is not None and rival.point.cost < hpa.cost
    return Verdict(
        outlook,
        too_little
        + _caveat(ours, usual.point, hpa)
        + _words(beside_hpa, ratios, hpa)
        + (_beside_rival(rival, chosen, hpa) if rival is not None and beaten else ""),
        f"{_advise(outlook, line, rival if beaten else None)} {effect}",
        tuple(flags),
        tuple(spec),
        caution,
        "" if too_little or beaten else _remark(results, ours, hpa),
    )


@attrs.frozen
class Rival:
    """The cheapest setting of a simpler policy that serves as well as the status quo; ``policy`` is its name."""

    policy: str
    point: Point
    is_flat: bool = False
    """Whether a fixed number of pods is as cheap as anything else: the load is flat."""


def find_rival(results: Sequence[PolicyResult], hpa: Point) -> Rival | None:
    """The cheapest of all settings of the rivals that serves as well as ``hpa``, the status quo."""
    found = {
        result.policy.name: point
        for result in results
        if result.policy.name in RIVALS and (point := cheapest_as_good(result.points, hpa)) is not None
    }
    if not found:
        return None
    name = min(found, key=lambda one: found[one].cost)
    fixed = found.get(FIXED)
    if fixed is not None and fixed.cost * CHEAPER <= found[name].cost:
        return Rival(FIXED, fixed, is_flat=True)
    return Rival(name, found[name])


def advised_point(ours: PolicyResult, hpa: Point) -> Point:
    """The cheapest setting that serves no worse than the status quo; without one the service level in force.

    That stays too where it serves as well at the same cost.
    """
    cheapest = cheapest_as_good(ours.points, hpa)
    if not _is_steered(ours):
        return choose_point(ours.points, hpa)
    if cheapest is None:
        return ours.point
    stays = serves_as(ours.point, hpa) and ours.point.cost <= cheapest.cost * (1 + ROUNDED)
    return ours.point if stays else cheapest


def outlook_beside(outlook: Outlook, chosen: Point, rival: Rival | None, hpa: Point) -> Outlook:
    """``outlook``, which is beside the plain HPA at its usual target, with the cheapest rival considered too."""
    if outlook in (Outlook.TOO_LITTLE, Outlook.WORSE) or rival is None or not serves_as(chosen, hpa):
        return outlook
    if rival.point.cost <= CHEAPER * chosen.cost:
        return Outlook.WORSE
    return Outlook.EVEN if rival.point.cost * CHEAPER < chosen.cost else outlook


def outlook_of(ratios: HpaComparison) -> Outlook:
    """Better or worse only where service at equal cost clearly is, or cost at equal violation with service agreeing."""
    services, cost = (ratios.unserved_at_equal_cost, ratios.violation_at_equal_cost), ratios.cost_at_equal_violation
    if max(services) <= CLEARLY or (cost <= CHEAPER and max(services) <= 1 + ROUNDED):
        return Outlook.BETTER
    if min(services) >= 1 / CLEARLY or (cost >= 1 / CHEAPER and min(services) >= 1 - ROUNDED):
        return Outlook.WORSE
    return Outlook.EVEN


def choose_hpa(points: Sequence[Point], usual: Point) -> Point:
    """The setting of the HPA to compare with: the ``usual`` one, or the highest utilisation that is usable.

    Where none is usable, the one with the fewest minutes short.
    """
    if usual.violation <= USABLE:
        return usual
    fit = [point for point in points if point.violation <= USABLE]
    return max(fit, key=lambda point: point.knob) if fit else min(points, key=lambda point: point.violation)


def choose_point(points: Sequence[Point], reference: Point) -> Point:
    """The cheapest point that serves at least as well as the reference; else the one with the fewest minutes short."""
    fewest = min(points, key=lambda point: (point.violation, point.unserved, point.cost))
    return cheapest_as_good(points, reference) or fewest


def _floored(point: Point, figure: Figure) -> float:
    return max(figure.of(point), figure.value)


def _is_steered(ours: PolicyResult) -> bool:
    """Whether Kedastral follows a service level."""
    return ours.policy.knob == LEVEL_KNOB


def _caveat(ours: PolicyResult, usual: Point, hpa: Point) -> str:
    """Comes first where the usual setting of the HPA is not usable on this load."""
    if usual.violation <= USABLE:
        return ""
    our_share = curve_of(ours.points, Figure.VIOLATION).figure_at(usual.cost)
    who = "it is not" if our_share <= USABLE else "neither it nor Kedastral at the same cost is"
    opening = f"{_name(usual)} is short of pods in {usual.violation:.1%} of the minutes: {who} usable at this target. "
    if hpa.violation > USABLE:
        opening += "No lower utilisation is usable either; check the target, the lead time and --max. "
    return opening


def _name(hpa: Point) -> str:
    return f"A plain HPA at {hpa.knob * 100:g} %"


def _words(outlook: Outlook, ratios: HpaComparison, hpa: Point) -> str:
    """Where both serve alike, the words are about the cost alone."""
    name = _name(hpa)
    services = (ratios.unserved_at_equal_cost, ratios.violation_at_equal_cost)
    opening = {
        Outlook.BETTER: f"At equal cost, Kedastral does better here than a{name[1:]}",
        Outlook.EVEN: f"At equal cost, a{name[1:]} does as well here as Kedastral",
        Outlook.WORSE: f"At equal cost, a{name[1:]} does better here than Kedastral",
        Outlook.TOO_LITTLE: f"In what was judged, compared with a{name[1:]}",
    }[outlook]
    if all(abs(ratio - 1) < ROUNDED for ratio in services):
        if outlook is Outlook.BETTER:
            opening = f"Kedastral serves as well here as a{name[1:]}, for fewer pod-hours"
        elif outlook is Outlook.WORSE:
            opening = f"{name} serves as well here as Kedastral, for fewer pod-hours"
    return f"{opening}: {_at_cost(ratios)}; {_at_violation(ratios)}."


def _at_cost(ratios: HpaComparison) -> str:
    if math.isinf(ratios.unserved_at_equal_cost):
        return "Kedastral cannot run with the HPA's pod-hours, because its cheapest setting costs more"
    return (
        f"with the HPA's pod-hours, Kedastral leaves {ratios.unserved_at_equal_cost:.2f} times as much load unserved "
        f"and is short of pods in {ratios.violation_at_equal_cost:.2f} times as many minutes"
    )


def _at_violation(ratios: HpaComparison) -> str:
    if math.isinf(ratios.cost_at_equal_violation):
        return "at no setting is it short of pods in as few minutes as the HPA"
    cost = f"{ratios.cost_at_equal_violation:.2f}"
    return f"to be short in no more minutes than the HPA, it needs {cost} times the pod-hours"


def _beside_rival(rival: Rival, chosen: Point, hpa: Point) -> str:
    """What the cheapest rival costs, beside Kedastral, to serve as well as the status quo."""
    flat = " The load is flat: you do not need Kedastral for it." if rival.is_flat else ""
    ours = "no setting of Kedastral does"
    if serves_as(chosen, hpa):
        ours = f"Kedastral does for {chosen.cost / hpa.cost:.2f}"
    return (
        f"{flat} {_name_of(rival)} serves as well as that HPA for {rival.point.cost / hpa.cost:.2f} times its "
        f"pod-hours; {ours}."
    )


def _name_of(rival: Rival) -> str:
    name = SIMPLER[rival.policy] if rival.policy != HPA else "a plain HPA"
    setting = f"{rival.point.knob * 100:g} %"
    if rival.policy == FIXED:
        setting = "the past peak" if rival.point.knob == 1 else f"{rival.point.knob:g} times the past peak"
    return f"{name[0].upper()}{name[1:]} at {setting}"


def _advise(outlook: Outlook, line: str, rival: Rival | None) -> str:
    if outlook is Outlook.BETTER:
        return f"Run Kedastral with {line}."
    if rival is not None:
        name = _name_of(rival)
        return f"Take {name[0].lower()}{name[1:]}; if you run Kedastral all the same, use {line}."
    stay = {
        Outlook.EVEN: "A change gains nothing",
        Outlook.WORSE: "Stay with the HPA",
        Outlook.TOO_LITTLE: "Judge more history before you decide",
    }[outlook]
    return f"{stay}; if you run Kedastral all the same, use {line}."


def _effect(chosen: Point, hpa: Point) -> str:
    return (
        f"On this history that costs {chosen.cost / hpa.cost:.2f} times the HPA's pod-hours, with "
        f"{chosen.violation:.2%} of the minutes short (HPA: {hpa.violation:.2%}) and {chosen.unserved:.3%} of "
        f"the load unserved (HPA: {hpa.unserved:.3%})."
    )


def _misses(ours: PolicyResult, chosen: Point, hpa: Point) -> str:
    """What the service level in force comes to, where it is not the one that is advised; empty under a headroom."""
    if not _is_steered(ours):
        return ""
    if not serves_as(chosen, hpa):
        return " No setting serves as well as that HPA."
    if chosen.knob == ours.point.knob:
        return ""
    served = f"{ours.point.violation:.2%} of the minutes short at {ours.point.cost / hpa.cost:.2f} times the pod-hours"
    steering = " That is a fixed headroom: steering is dearer here for as good a service." if chosen.knob >= 1 else ""
    return f"{steering} The service level in force, {ours.point.knob:g}, comes to {served}."


def _remark(results: Sequence[PolicyResult], ours: PolicyResult, hpa: Point) -> str:
    """The cheapest setting of a simpler policy that leaves half of what Kedastral leaves for the same pod-hours."""
    curves = {figure: curve_of(ours.points, figure) for figure in Figure}
    found = [
        (point, result.policy.name)
        for result in results
        if result.policy.name in SIMPLER
        for point in result.points
        if point.cost >= curves[Figure.VIOLATION].costs[0]
        and all(_floored(point, figure) <= FAR_BETTER * curves[figure].figure_at(point.cost) for figure in Figure)
    ]
    if not found:
        return ""
    point, name = min(found, key=lambda one: one[0].cost)
    return (
        f"Consider {SIMPLER[name]} too: at {point.cost / hpa.cost:.2f} times the pod-hours of the HPA at "
        f"{hpa.knob * 100:g} % it is short in {point.violation:.2%} of the minutes, and Kedastral in "
        f"{curves[Figure.VIOLATION].figure_at(point.cost):.2%}."
    )


SPARE = 1.25
"""The advised --max, as a multiple of the most pods the replay ever had."""

Setting = tuple[str, str, str]
"""A flag, the key of a ForecastPolicy's spec for the same, and its value."""


def settings_to_run(knob: float, comparisons: Sequence[PolicyComparison]) -> list[Setting]:
    """The settings of Kedastral at one setting of its knob. Over several workloads, without those of the pods."""
    scenario = comparisons[0].scenario
    is_level = comparisons[0].kedastral.policy.knob == LEVEL_KNOB and knob < 1
    flag, key = ("--service-level", "serviceLevel") if is_level else ("--headroom", "headroom")
    settings = [
        ("--model", "model", scenario.model.name),
        (flag, key, f"{knob:g}"),
        ("--lead-time", "leadTime", write_duration(scenario.settings.serving.lead_time)),
    ]
    if len(comparisons) > 1:  # pods differ from workload to workload
        return settings
    peak = float(comparisons[0].replay_kedastral(knob).supply.ordered.max())
    return [
        *settings,
        ("--min", "min", f"{scenario.settings.plan.bounds.min}"),
        ("--max", "max", f"{math.ceil(peak * SPARE)}"),
        ("--target-per-pod", "targetPerPod", f"{scenario.trial.target_per_pod:.6g}"),
    ]


def as_flags(settings: Sequence[Setting]) -> list[str]:
    """The settings for `kedastral run` without files."""
    return [f"{flag} {value}" for flag, _, value in settings]


def as_spec(settings: Sequence[Setting]) -> list[str]:
    """The settings as lines for the ``spec`` of a ForecastPolicy."""
    return [f"{key}: {value}" for _, key, value in settings]


def caution_on(comparisons: Sequence[PolicyComparison]) -> str:
    """A warning where the target per pod among the settings was derived from the load; empty otherwise."""
    if len(comparisons) > 1 or not comparisons[0].scenario.sized_by_peak:
        return ""
    target = "targetPerPod" if comparisons[0].scenario.in_files else "--target-per-pod"
    return f"{target} comes from the load's peak, not from a measurement on your pods"


MAX_SHORTAGES = 10
LOOK_BACK = 900.0
"""Seconds before a shortage in which a rise is looked for."""
RISE = 1.15
"""The least ratio of two loads that counts as a rise."""


@attrs.frozen
class Shortage:
    """The worst step of one shortage. ``demand``, ``ready`` pods and ``unserved`` load are of that step alone."""

    timestamp: datetime
    lasted_seconds: float
    demand: float
    ready: float
    unserved: float
    reason: str


def find_worst(scenario: Scenario, outcome: Outcome, most: int = MAX_SHORTAGES) -> list[Shortage]:
    """The ``most`` worst shortages, by the load that their worst step left unserved, the worst first."""
    spans = sorted(_spans(outcome), key=lambda span: -outcome.supply.unserved[span[0] : span[1]].max())
    return [_describe(scenario, outcome, first, end) for first, end in spans[:most]]


def _spans(outcome: Outcome) -> Iterator[tuple[int, int]]:
    """Each run of steps in violation: its first step and the one after its last."""
    short = np.concatenate([[False], outcome.supply.unserved > 0, [False]])
    edges = np.flatnonzero(short[1:] != short[:-1])
    return ((int(first), int(end)) for first, end in edges.reshape(-1, 2))


def _describe(scenario: Scenario, outcome: Outcome, first: int, end: int) -> Shortage:
    worst = first + int(np.argmax(outcome.supply.unserved[first:end]))
    return Shortage(
        timestamp=outcome.demand.time_at(worst),
        lasted_seconds=(end - first) * outcome.demand.step,
        demand=float(outcome.demand.values[worst]),
        ready=float(outcome.supply.ready[worst]),
        unserved=float(outcome.supply.unserved[worst]),
        reason=explain(scenario, outcome, worst),
    )


def explain(scenario: Scenario, outcome: Outcome, worst: int) -> str:
    """Why step ``worst`` of the judged part was short of pods: how the load changed, and what had been forecast."""
    most = scenario.settings.plan.bounds.max
    if most and outcome.supply.ready[worst] >= most:
        return f"all {most} pods that --max allows were ready"
    parts = [_explain_load(scenario, outcome.demand.values[worst], worst), _explain_forecast(scenario, outcome, worst)]
    return "; ".join(part for part in parts if part)


def _explain_load(scenario: Scenario, load: float, worst: int) -> str:
    demand, place = scenario.trial.demand, scenario.trial.judged_from + worst
    back = min(place, round(LOOK_BACK / demand.step))
    before = demand.values[place - back : place]
    if not len(before) or load <= 0:
        return ""
    for steps in range(1, back + 1):  # the shortest time in which it rose most of the way
        if load >= RISE * before[-steps] and before[-steps] <= 1.1 * before.min():
            return f"{_growth(before[-steps], load)} within {show_span(steps * demand.step)}"
    if load >= RISE * before.mean():
        return f"a peak of {show_load(load)} over a mean of {show_load(before.mean())}"
    return ""


def _growth(before: float, load: float) -> str:
    if before <= 0:
        return f"the load rose from nothing to {show_load(load)}"
    ratio = load / before
    if 1.9 <= ratio < 2.2:
        return "the load doubled"
    if ratio >= 2.2:
        return f"the load grew {ratio:.1f} times"
    return f"the load rose by {ratio - 1:.0%}"


def _explain_forecast(scenario: Scenario, outcome: Outcome, worst: int) -> str:
    ahead, place = lead_steps(scenario) - 1, scenario.trial.judged_from + worst
    forecast = forecast_after(scenario, place - ahead) if place > ahead else None
    if forecast is None:
        return "there was no forecast in time"
    expected = float(forecast.values[min(ahead, len(forecast.values) - 1)])
    actual = float(outcome.demand.values[worst])
    earlier = show_span((ahead + 1) * outcome.demand.step)
    words = f"the forecast {earlier} earlier was {show_load(expected)}, the load was {show_load(actual)}"
    if scenario.settings.calibrated or expected * scenario.settings.plan.headroom < actual:
        return words  # the factor on a calibrated forecast changes from minute to minute
    needed = round_replicas(actual / outcome.target_per_pod)
    ready = outcome.supply.ready[worst]
    return f"{words}, which the headroom covers, but only {ready:.0f} of {needed:.0f} pods were ready"


def show_span(seconds: float) -> str:
    """A duration in words where it is a few whole minutes, as in ``5 minutes``."""
    minutes = round(seconds / 60)
    if seconds != minutes * 60 or minutes > 90:
        return write_duration(seconds)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def show_load(load: float) -> str:
    """A load with at least three digits, and a comma between thousands."""
    if load >= 100:
        return f"{load:,.0f}"
    return f"{load:.3g}"
