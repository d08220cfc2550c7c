# SPDX-License-Identifier: Apache-2.0
"""Puts a comparison into words: whether the service level was kept, how Kedastral compares, and what to run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import attrs

from kedastral.backtest.comparison import FIXED, HPA, KEDASTRAL, LAST_WEEK, LEVEL_KNOB, PolicyComparison, PolicyResult
from kedastral.backtest.decision import (
    FAR_BETTER,
    ROUNDED,
    SAME_COST,
    USABLE,
    Findings,
    Outlook,
    Rival,
    decide,
    floored,
)
from kedastral.settings.types import write_duration
from kedastral.simulation.curves import Figure, Point
from kedastral.simulation.policies import LastWeek
from kedastral.simulation.trial import Scaling

MIN_BUDGET = 10.0
"""The least error budget, in minutes over all that was judged, for a verdict.

A count of n independent minutes has a standard error of sqrt(n) (Poisson). For 10 minutes that is a third; with fewer,
a difference of a tenth means nothing. Short minutes cluster, so 10 is the minimum.
"""
USUAL = Scaling()
"""The default --evaluated and --warm-up."""
DEFAULT_LEVEL = 0.99
"""The service level to assume with a headroom: the default of --service-level."""
FAR_DEARER = 1.5
"""From this ratio of pod-hours on, a stricter service level needs a warning if it serves hardly better."""
HARDLY_FEWER = 0.9
"""Down to this ratio, minutes short are hardly fewer."""
MAX_NAMED = 10
"""The most workloads to name in a sentence."""


@attrs.frozen
class SloResult:
    """The result of a service ``level`` 0..1: ``short`` of the ``judged`` minutes had too few pods.

    ``points`` are the replays of Kedastral at every setting. ``setup`` names what limits the level, such as the step
    and lead time. ``in_files``: settings are named as in a ForecastPolicy, not as flags.
    """

    level: float
    judged: float
    short: float
    points: tuple[Point, ...] = ()
    setup: str = ""
    in_files: bool = False

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
    def highest_kept(self) -> float | None:
        """The highest replayed level that any replayed setting reaches, be it a stricter one; None if none does."""
        fewest = min((point.violation for point in self.points), default=math.inf)
        return max((point.knob for point in self._levels if fewest <= 1 - point.knob + 1e-9), default=None)

    @property
    def words(self) -> str:
        """The service level and its result, as one line."""
        result = (
            f"service level {self.level:g}: {show_percent(self.reached)} % reached; {self.short:,.0f} of "
            f"{self.judged:,.0f} minutes short, error budget {show_minutes(self.budget)}"
        )
        named = self._say_reached_by()
        further = (named,) if named else (self._say_impossible(), self._say_dearer(), self._say_same())
        return "; ".join(filter(None, (result, *further)))

    @property
    def _levels(self) -> list[Point]:
        return [point for point in self.points if point.knob < 1]

    @property
    def _in_force(self) -> Point | None:
        return next((point for point in self.points if point.knob == self.level), None)

    def _say_reached_by(self) -> str:
        """The setting that reaches a level that was missed: the cheapest service level, else the cheapest headroom."""
        found = [point for point in self.points if point.violation <= 1 - self.level + 1e-9]
        if self.is_kept or not found or self._in_force is None:
            return ""
        best = min(found, key=lambda point: (point.knob >= 1, point.cost))
        flag, key = knob_names(is_level=best.knob < 1)
        name = f"{key}: {best.knob:g}" if self.in_files else f"{flag} {best.knob:g}"
        missed = math.ceil(self.short - self.budget - 1e-6)
        return (
            f"{self.level:g} was missed by {missed:,} minute{'' if missed == 1 else 's'}; {name} would have reached it "
            f"({show_percent(1 - best.violation)} %), for {say_cost(best.cost / self._in_force.cost)}"
        )

    def _say_impossible(self) -> str:
        """What level can be met if this one cannot; empty if no other setting was tried."""
        if self.is_kept or len(self.points) < 2:
            return ""
        if self.highest_kept is None:
            return f"{self.setup} no level that was tried can be met here"
        return f"{self.setup} {self.level:g} cannot be met here, {self.highest_kept:g} can"

    def _say_dearer(self) -> str:
        """The next stricter level that takes far more pods for hardly better service; empty if none does."""
        ours = self._in_force
        if ours is None:
            return ""
        for point in sorted(self._levels, key=lambda point: point.knob):
            minutes, unserved = (
                floored(point, one) / floored(ours, one) for one in (Figure.VIOLATION, Figure.UNSERVED)
            )
            if point.knob <= ours.knob or point.cost < FAR_DEARER * ours.cost:
                continue
            if minutes >= HARDLY_FEWER and unserved > FAR_BETTER:
                fewer = "no" if minutes >= 1 else "hardly"
                less = f" and {show_percents(unserved)} % less unserved load" if unserved <= HARDLY_FEWER else ""
                ratio = say_cost(point.cost / ours.cost)
                return f"{point.knob:g} would take {ratio} for {fewer} fewer minutes short{less}"
        return ""

    def _say_same(self) -> str:
        """The levels that give the same result as the one that was kept; empty if there is no other."""
        ours = self._in_force
        if ours is None or not self.is_kept:
            return ""
        same = [point.knob for point in self._levels if attrs.evolve(point, knob=ours.knob) == ours]
        return f"levels from {min(same):g} to {max(same):g} give the same result here" if len(same) > 1 else ""


def slo_result_of(comparison: PolicyComparison) -> SloResult | None:
    """The result of the service level on one workload; None with a headroom."""
    level = comparison.scenario.settings.service_level
    if level is None:
        return None
    ours, scenario = comparison.kedastral, comparison.scenario
    step, lead = scenario.trial.demand.step, scenario.settings.cluster.lead_time
    setup = f"with steps of {write_duration(step)} and a lead time of {write_duration(lead)}"
    if is_max_too_low(comparison):
        setup = f"with {_name_max(comparison)} {scenario.settings.cluster.bounds.max}"
    judged = judged_minutes([comparison])
    return SloResult(level, judged, ours.shown.violation_minutes, ours.points, setup, scenario.in_files)


def judged_minutes(comparisons: Sequence[PolicyComparison]) -> float:
    """The judged minutes, summed over the workloads, without those that gaps leave out."""
    return sum(comparison.oracle.counted_minutes for comparison in comparisons)


def explain_too_little(comparisons: Sequence[PolicyComparison]) -> str:
    """Why too little was judged for a verdict, and how much history is needed; empty if there is enough."""
    level = comparisons[0].scenario.settings.service_level or DEFAULT_LEVEL
    judged, needed = judged_minutes(comparisons), MIN_BUDGET / (1 - level)
    if judged >= needed - 1e-6:
        return ""
    return (
        f"Too little history was judged for a verdict: in {write_duration(judged * 60)} a service level of {level:g} "
        f"allows {show_minutes((1 - level) * judged)} minutes short. A verdict needs "
        f"{_say_needed(level, comparisons)}. "
    )


def explain_provisional(advised: float, comparisons: Sequence[PolicyComparison]) -> str:
    """Why a verdict that ``advised`` this setting is provisional, and what would make it firm; empty if it is firm.

    It is provisional if a workload has less than a week of history before the judged part, since the model has then
    seen no whole week, or if the advised service level has too small an error budget to tell whether it is kept.
    """
    judged, is_level = judged_minutes(comparisons), _is_level(advised, comparisons)
    level = advised if is_level else comparisons[0].scenario.settings.service_level or DEFAULT_LEVEL
    budget, span = (1 - level) * judged, write_duration(judged * 60)
    if not all(comparison.scenario.has_week for comparison in comparisons):
        days = math.ceil((LastWeek.WEEK - USUAL.warm_up) / (1 - USUAL.evaluated) / 86400)
        return (
            f"Provisional: only {span} were judged, in which a service level of {level:g} allows "
            f"{show_minutes(budget)} minutes short, and the model had seen no whole week before. A firm verdict needs "
            f"a week of history before the judged part: {days} days in all with the default --evaluated and --warm-up."
        )
    if not is_level or budget >= MIN_BUDGET - 1e-6:
        return ""
    return (
        f"Provisional: only {span} were judged, in which the advised service level of {level:g} allows "
        f"{show_minutes(budget)} minutes short. To tell whether it is kept needs {_say_needed(level, comparisons)}."
    )


def _say_needed(level: float, comparisons: Sequence[PolicyComparison]) -> str:
    """The least error budget, and the history that has it at this service level."""
    trial, needed = comparisons[0].scenario.trial, MIN_BUDGET / (1 - level)
    share, warm_up = 1 - trial.begin / len(trial.demand), (trial.judged_from - trial.begin) * trial.demand.step
    days = math.ceil((math.ceil(needed) * 60 / len(comparisons) + warm_up) / share / 86400)
    return (
        f"{MIN_BUDGET:g}, which takes {write_duration(math.ceil(round(needed, 6)) * 60)}: {days} days of history with "
        "this --evaluated and --warm-up"
    )


def _is_level(knob: float, comparisons: Sequence[PolicyComparison]) -> bool:
    """Whether a setting of Kedastral is a service level instead of a headroom."""
    return comparisons[0].kedastral.policy.knob == LEVEL_KNOB and knob < 1


def show_percent(share: float) -> str:
    """A share in percent with two decimals, rounded down, so that only a full share is 100."""
    return f"{math.floor(round(share * 1e4, 6)) / 100:.6g}"


def show_minutes(minutes: float) -> str:
    """Whole minutes; tenths below ten."""
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.1f}"


class Role(StrEnum):
    """The role of a setting in the verdict."""

    COMPARED = "compared with"
    NEAR = "nearest in cost"
    ADVISED = "advised"
    BEST_WITHOUT = "best without Kedastral"
    LEVEL = "cheapest service level as good"
    LOOK = "worth a look"
    ONLY = "avoids shortages"


@attrs.frozen
class NamedSetting:
    """A replayed setting of a ``policy`` whose figures the verdict quotes: it has a row in the table."""

    policy: str
    setting: float
    role: Role


@attrs.frozen
class Totals:
    """The pod-hours and the minutes with too few pods of one setting, summed over the workloads."""

    pod_hours: float
    minutes: float


@attrs.frozen
class JudgedPoints:
    """The points of one workload by the name of the policy, the minutes judged, and the oracle's pod-hours."""

    minutes: float
    oracle_pod_hours: float
    points: Mapping[str, Sequence[Point]]


def judged_points(comparison: PolicyComparison) -> JudgedPoints:
    """The replays of a comparison, as numbers only."""
    points = {one.policy.name: one.points for one in comparison.replayed}
    return JudgedPoints(judged_minutes([comparison]), comparison.oracle.pod_hours, points)


def totals_of(judged: Sequence[JudgedPoints], policy: str, setting: float) -> Totals:
    """The totals of one setting. Raises StopIteration if it was not replayed."""
    hours = minutes = 0.0
    for one in judged:
        point = next(point for point in one.points[policy] if point.knob == setting)
        hours += point.cost * one.oracle_pod_hours
        minutes += point.violation * one.minutes
    return Totals(hours, minutes)


@attrs.frozen
class Verdict:
    """The verdict in ``words``, and the ``advice`` on what to run.

    ``flags`` are the advised settings for `kedastral run`; ``spec`` has the same as lines of a ForecastPolicy's spec,
    if one was replayed. ``caution`` must be shown with them. ``provisional`` says why the outlook is not firm, empty if
    it is; it also opens the words. ``remark`` names a simpler policy that serves far better for its cost, if there is
    one. ``named`` are the settings with figures in any of these, the reference first.
    """

    outlook: Outlook
    words: str
    advice: str
    flags: tuple[str, ...] = ()
    spec: tuple[str, ...] = ()
    caution: str = ""
    remark: str = ""
    provisional: str = ""
    named: tuple[NamedSetting, ...] = ()


def judge(results: Sequence[PolicyResult], comparisons: Sequence[PolicyComparison]) -> Verdict:
    """The verdict on Kedastral over the workloads of ``comparisons``, from their ``results``."""
    if any(map(is_max_too_low, comparisons)):
        return _ask_for_higher_max(results, comparisons)
    too_little = explain_too_little(comparisons)
    findings = decide(results, enough=not too_little, minutes=judged_minutes(comparisons))
    settings = settings_to_run(findings.advised.knob, comparisons)
    spec = as_spec(settings) if comparisons[0].scenario.in_files else []
    words = VerdictWords(findings, [judged_points(one) for one in comparisons], is_steered(results))
    provisional = "" if too_little else explain_provisional(findings.advised.knob, comparisons)
    return words.write(as_flags(settings), spec, caution_on(comparisons), too_little, provisional)


def is_max_too_low(comparison: PolicyComparison) -> bool:
    """Whether the maximum alone leaves every policy short for longer than the error budget allows.

    All policies are then alike where it matters, and to compare them says nothing.
    """
    level = comparison.scenario.settings.service_level or DEFAULT_LEVEL
    return comparison.minutes_above_max > (1 - level) * judged_minutes([comparison]) + 1e-9


def _ask_for_higher_max(results: Sequence[PolicyResult], comparisons: Sequence[PolicyComparison]) -> Verdict:
    """No verdict, since the maximum of a workload is too low, and the maximum to repeat the backtest with."""
    words, advice = _say_too_low(comparisons[0]) if len(comparisons) == 1 else _say_some_too_low(comparisons)
    words = f"{words} {explain_too_little(comparisons)}".strip()
    usual = next(result for result in results if result.policy.name == HPA)
    return Verdict(Outlook.MAX_TOO_LOW, words, advice, named=(NamedSetting(HPA, usual.point.knob, Role.COMPARED),))


def _say_too_low(one: PolicyComparison) -> tuple[str, str]:
    most, needed, key = one.scenario.settings.cluster.bounds.max, one.pods_needed, _name_max(one)
    above, judged, higher = one.minutes_above_max, judged_minutes([one]), with_spare(needed)
    return (
        f"{key} {most} is too low: the peak needs {needed:,} pods. No verdict; repeat with {key} {higher}.",
        f"In {above:,.0f} of {judged:,.0f} minutes the load needs more than {most} pods, so every policy was short.",
    )


def _say_some_too_low(comparisons: Sequence[PolicyComparison]) -> tuple[str, str]:
    limited, key = [one for one in comparisons if is_max_too_low(one)], _name_max(comparisons[0])
    each = ", ".join(f"{with_spare(one.pods_needed)} for {one.scenario.name}" for one in limited[:MAX_NAMED])
    more = f" and a higher one for {len(limited) - MAX_NAMED} more" if len(limited) > MAX_NAMED else ""
    return (
        f"{key} is too low for {len(limited)} of {len(comparisons)} workloads. No joint verdict.",
        f"Repeat with {key} {each}{more}, a quarter above what each peak needs.",
    )


def _name_max(comparison: PolicyComparison) -> str:
    return "max" if comparison.scenario.in_files else "--max"


def is_steered(results: Sequence[PolicyResult]) -> bool:
    """Whether Kedastral follows a service level."""
    return next(result for result in results if result.policy.name == KEDASTRAL).policy.knob == LEVEL_KNOB


@attrs.frozen
class VerdictWords:
    """Puts ``findings`` into words: a pure function of the replayed points. For ``steered`` see `is_steered`."""

    findings: Findings
    judged: Sequence[JudgedPoints]
    steered: bool

    def write(
        self,
        flags: Sequence[str],
        spec: Sequence[str] = (),
        caution: str = "",
        too_little: str = "",
        provisional: str = "",
    ) -> Verdict:
        """The verdict. ``flags`` or ``spec`` are the advised settings; ``too_little`` says why there is no verdict, and
        ``provisional`` why it is not firm."""
        found = self.findings
        line = f"{', '.join(spec)} in the spec of the ForecastPolicy" if spec else " ".join(flags)
        sentences = (
            too_little.strip(),
            provisional,
            *self._opening(),
            self._same_cost(),
            self._as_good(),
            self._without(),
            self._only(),
        )
        advice = (self._what_to_do(line, provisional), self._effect(), self._why_headroom(), self._in_force())
        return Verdict(
            found.outlook,
            " ".join(filter(None, sentences)),
            " ".join(filter(None, (*advice, f"{caution}." if caution else ""))),
            tuple(flags),
            tuple(spec),
            caution,
            self._remark(),
            provisional,
            tuple(self._named()),
        )

    def _opening(self) -> Iterator[str]:
        """The first sentences: the load needs no autoscaler, or the usual HPA is unusable."""
        found = self.findings
        if found.is_flat:
            yield "The load is flat: you do not need Kedastral."
        if found.usual.violation <= USABLE:
            return
        short, judged = self._minutes(HPA, found.usual), sum(one.minutes for one in self.judged)
        name, instead = _capital(name_hpa(found.usual)), f"{name_hpa(found.hpa)}, the highest target that works"
        if found.hpa.violation > USABLE:
            instead = f"{name_hpa(found.hpa)}; none works, so check the target per pod, the lead time and --max"
        yield (
            f"{name} is short of pods in {short} of {judged:,.0f} minutes, which is too many: the comparison is with "
            f"{instead}."
        )

    def _same_cost(self) -> str:
        found = self.findings
        difference = found.near.cost / found.hpa.cost
        opening = f"At the same cost as {name_hpa(found.hpa)}"
        if abs(difference - 1) > SAME_COST:
            opening = f"With {say_cost(difference, name_hpa(found.hpa))}"
        return f"{opening}, Kedastral at {self._ours(found.near)} would have {self._service(found.near)}."

    def _service(self, point: Point) -> str:
        """The service of Kedastral; in absolute numbers if the status quo is hardly ever short."""
        hpa = self.findings.hpa
        if all(math.isfinite(change_of(point, hpa, figure)) for figure in Figure):
            return say_service(point, hpa)
        return (
            f"been short of pods in {self._minutes(KEDASTRAL, point)} minutes (HPA: {self._minutes(HPA, hpa)}), with "
            f"{show_unserved(point)} % of the load unserved (HPA: {show_unserved(hpa)} %)"
        )

    def _as_good(self) -> str:
        """The cost of service at least as good as the status quo."""
        found = self.findings
        if not found.serves_as_well:
            return "No setting of Kedastral serves as well as that HPA."
        if found.advised.knob == found.near.knob:
            return ""
        return f"For service no worse than that HPA's: {self._cost(found.advised)}, at {self._ours(found.advised)}."

    def _without(self) -> str:
        """The cheapest alternative to Kedastral."""
        found = self.findings
        if not found.has_cheaper_rival:
            has_last_week = all(LAST_WEEK in one.points for one in self.judged)
            trigger = "no trigger on last week's load, " if has_last_week else ""
            return (
                f"Nothing simpler serves as well for less: no HPA at another target, {trigger}no fixed number of pods."
            )
        return f"Without Kedastral, {name_rival(found.rival)} serves as well for {self._cost(found.rival.point)}."

    def _only(self) -> str:
        """The only policy that avoids most of the shortages that the others leave."""
        only, take = self.findings.only, self.findings.take
        if only is None:
            return ""
        most = "the" if only.point.violation <= Figure.VIOLATION.value else "most"
        return (
            f"Only {name_rival(only)} avoids {most} shortages: {self._short(only.policy, only.point)} instead of "
            f"{self._minutes(take.policy, take.point)}, for {self._cost(only.point)}."
        )

    def _what_to_do(self, line: str, provisional: str) -> str:
        found = self.findings
        if found.outlook is Outlook.BETTER and provisional:
            return f"Try Kedastral with {line}, and judge more history before you rely on it."
        if found.outlook is Outlook.BETTER:
            return f"Run Kedastral with {line}."
        stay = {
            Outlook.EVEN: "A change gains little",
            Outlook.WORSE: "Stay with the HPA",
            Outlook.TOO_LITTLE: "Judge more history before you decide",
        }[found.outlook]
        if found.has_cheaper_rival and found.outlook is not Outlook.TOO_LITTLE:
            stay = f"Take {name_rival(found.rival)}, which needs no forecast"
        return f"{stay}; if you run Kedastral all the same, use {line}."

    def _effect(self) -> str:
        """The figures of the advised setting."""
        advised, hpa = self.findings.advised, self.findings.hpa
        return (
            f"On this history that takes {self._cost(advised, name_hpa(hpa))}, with "
            f"{self._short(KEDASTRAL, advised)} (HPA: {self._minutes(HPA, hpa)}) and "
            f"{show_unserved(advised)} % of the load unserved (HPA: {show_unserved(hpa)} %)."
        )

    def _why_headroom(self) -> str:
        """Why a headroom is advised although a service level was asked for."""
        found = self.findings
        if not self.steered or found.advised.knob < 1:
            return ""
        if found.level is None:
            return "A fixed headroom beats steering here: no service level serves as well."
        return (
            "A fixed headroom beats steering here: the cheapest service level that serves as well, "
            f"{found.level.knob:g}, takes {self._cost(found.level, 'the HPA')}."
        )

    def _in_force(self) -> str:
        """The figures of the setting in force, if another is advised."""
        ours = self.findings.in_force
        if ours.knob == self.findings.advised.knob:
            return ""
        return f"The {self._ours(ours)} in force takes {self._cost(ours)}, with {self._short(KEDASTRAL, ours)}."

    def _remark(self) -> str:
        found = self.findings.remarkable
        if found is None:
            return ""
        return (
            f"Worth a look: {name_rival(found)} leaves at most half of what Kedastral leaves for as many pod-hours, "
            f"with {self._short(found.policy, found.point)} for "
            f"{self._cost(found.point, name_hpa(self.findings.hpa))}."
        )

    def _named(self) -> Iterator[NamedSetting]:
        found = self.findings
        yield NamedSetting(HPA, found.hpa.knob, Role.COMPARED)
        yield NamedSetting(KEDASTRAL, found.advised.knob, Role.ADVISED)
        yield NamedSetting(KEDASTRAL, found.near.knob, Role.NEAR)
        if found.level is not None:
            yield NamedSetting(KEDASTRAL, found.level.knob, Role.LEVEL)
        if found.has_cheaper_rival:
            yield NamedSetting(found.rival.policy, found.rival.point.knob, Role.BEST_WITHOUT)
        if found.remarkable is not None:
            yield NamedSetting(found.remarkable.policy, found.remarkable.point.knob, Role.LOOK)
        if found.only is not None:
            yield NamedSetting(found.only.policy, found.only.point.knob, Role.ONLY)

    def _cost(self, point: Point, other: str = "") -> str:
        return say_cost(point.cost / self.findings.hpa.cost, other)

    def _minutes(self, policy: str, point: Point) -> str:
        return f"{totals_of(self.judged, policy, point.knob).minutes:,.0f}"

    def _short(self, policy: str, point: Point) -> str:
        minutes = self._minutes(policy, point)
        return "1 minute short" if minutes == "1" else f"{minutes} minutes short"

    def _ours(self, point: Point) -> str:
        return f"{name_knob(point.knob, steered=self.steered)} {point.knob:g}"


def name_knob(setting: float, *, steered: bool) -> str:
    """The kind of a setting of Kedastral: from 1 on it is a headroom instead of a service level."""
    return LEVEL_KNOB if steered and setting < 1 else "headroom"


def knob_names(*, is_level: bool) -> tuple[str, str]:
    """The flag of a setting of Kedastral, and its key in a ForecastPolicy's spec."""
    return ("--service-level", "serviceLevel") if is_level else ("--headroom", "headroom")


def name_hpa(point: Point) -> str:
    """The HPA at one target, as in ``an HPA at 80 %``."""
    return f"an HPA at {point.knob * 100:g} %"


def name_rival(rival: Rival) -> str:
    """A setting without Kedastral, in words."""
    if rival.policy == FIXED:
        return f"a fixed number of pods ({name_share(rival.point.knob)})"
    return (
        f"a trigger on last week's load beside {name_hpa(rival.point)}"
        if rival.policy == LAST_WEEK
        else name_hpa(rival.point)
    )


def name_share(share: float) -> str:
    """A fixed number of pods, relative to the load before the replay."""
    return "the past peak" if share == 1 else f"{share:g} times the past peak"


def say_cost(ratio: float, other: str = "") -> str:
    """A ratio of pod-hours, as in ``10 % fewer pod-hours``, with the ``other`` that it is relative to, if given."""
    if abs(ratio - 1) < ROUNDED:
        words, link = "the same pod-hours", "as"
    elif ratio >= 2:
        words, link = f"{ratio:.1f} times the pod-hours", "of"
    else:
        words, link = f"{show_percents(ratio)} % {'fewer' if ratio < 1 else 'more'} pod-hours", "than"
    return f"{words} {link} {other}" if other else words


NOUNS = {Figure.VIOLATION: "the minutes short of pods", Figure.UNSERVED: "the unserved load"}


def say_service(point: Point, other: Point) -> str:
    """What a policy would have done to both figures of service, as in ``cut A by 92 % and B by more than 99 %``."""
    said = [_say_change(change_of(point, other, figure), noun) for figure, noun in NOUNS.items()]
    (verb, minutes), (second, load) = said
    if verb == second == "left":
        return "served as well"
    if verb == second:
        return f"{verb} {minutes} and {load}"
    opposed = len({verb, second} & {"cut", "avoided"}) == len({verb, second} & {"raised", "multiplied"}) == 1
    return f"{verb} {minutes} {'but' if opposed else 'and'} {second} {load}"


def _say_change(ratio: float, noun: str) -> tuple[str, str]:
    """The verb, and the rest of the phrase."""
    if abs(ratio - 1) < ROUNDED:
        return "left", f"{noun} as they are" if noun.endswith("pods") else f"{noun} as it is"
    if ratio >= 2:
        return "multiplied", f"{noun} by {ratio:.1f}"
    if ratio == 0:
        return "avoided", noun.replace("the ", "all ", 1)
    if ratio < 0.01:
        return "cut", f"{noun} by more than 99 %"
    return ("cut" if ratio < 1 else "raised"), f"{noun} by {show_percents(ratio)} %"


def change_of(point: Point, other: Point, figure: Figure) -> float:
    """A figure of service as a ratio to the other's: 1 if neither exceeds its floor, infinite if only ours does."""
    if figure.of(other) > figure.value:
        return figure.of(point) / figure.of(other)
    return 1.0 if figure.of(point) <= figure.value else math.inf


def show_percents(ratio: float) -> str:
    """The distance of a ratio from 1 in whole percents, without a sign; 99 at most below 1."""
    percents = abs(ratio - 1) * 100
    return f"{min(percents, 99) if ratio < 1 else percents:.0f}"


def show_change(ratio: float) -> str:
    """A ratio as the tables show it: ``-92 %``, ``+3 %``, ``same``, ``5.3 times``; ``more`` if infinite."""
    if abs(ratio - 1) < ROUNDED:
        return "same"
    if ratio >= 2:
        return f"{ratio:.1f} times" if math.isfinite(ratio) else "more"
    if ratio < 0.01:
        return "over -99 %" if ratio else "-100 %"
    return f"{'-' if ratio < 1 else '+'}{show_percents(ratio)} %"


def show_unserved(point: Point) -> str:
    """The share of unserved load, in percent with three decimals."""
    return f"{point.unserved * 100:.3f}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


SPARE = 1.25
"""The advised --max, as a multiple of the most pods ordered at a step that counts."""


def with_spare(pods: float) -> int:
    """The maximum to set where ``pods`` were needed."""
    return math.ceil(pods * SPARE)


Setting = tuple[str, str, str]
"""A flag, the same setting's key in a ForecastPolicy's spec, and its value."""


def settings_to_run(knob: float, comparisons: Sequence[PolicyComparison]) -> list[Setting]:
    """The settings of Kedastral at one setting of its knob. With several workloads, those about pods are left out."""
    scenario = comparisons[0].scenario
    flag, key = knob_names(is_level=_is_level(knob, comparisons))
    settings = [
        ("--model", "model", scenario.model.name),
        (flag, key, f"{knob:g}"),
        ("--lead-time", "leadTime", write_duration(scenario.settings.serving.lead_time)),
    ]
    if len(comparisons) > 1:  # pods differ from workload to workload
        return settings
    outcome = comparisons[0].replay_kedastral(knob)
    peak = float(outcome.supply.ordered[outcome.counted].max())
    if comparisons[0].minutes_above_max:  # no more than the maximum could be ordered
        peak = max(peak, comparisons[0].pods_needed)
    return [
        *settings,
        ("--min", "min", f"{scenario.settings.plan.bounds.min}"),
        ("--max", "max", f"{with_spare(peak)}"),
        ("--target-per-pod", "targetPerPod", f"{scenario.trial.target_per_pod:.6g}"),
    ]


def as_flags(settings: Sequence[Setting]) -> list[str]:
    """The settings as flags for `kedastral run` without files."""
    return [f"{flag} {value}" for flag, _, value in settings]


def as_spec(settings: Sequence[Setting]) -> list[str]:
    """The settings as lines for the ``spec`` of a ForecastPolicy."""
    return [f"{key}: {value}" for _, key, value in settings]


def caution_on(comparisons: Sequence[PolicyComparison]) -> str:
    """A warning if the target per pod was derived from the load; empty otherwise."""
    if len(comparisons) > 1 or not comparisons[0].scenario.sized_by_peak:
        return ""
    target = "targetPerPod" if comparisons[0].scenario.in_files else "--target-per-pod"
    return f"{target} comes from the load's peak, not from a measurement on your pods"
