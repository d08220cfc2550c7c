# SPDX-License-Identifier: Apache-2.0
"""Puts a comparison into words: how Kedastral compares, and what to run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import attrs

from kedastral.backtest.comparison import HPA, KEDASTRAL, LAST_WEEK, LEVEL_KNOB, PolicyComparison, PolicyResult
from kedastral.backtest.decision import SAME_COST, USABLE, Findings, Outlook, decide
from kedastral.backtest.error_budget import explain_provisional, explain_too_little, judged_minutes
from kedastral.backtest.max_too_low import explain_max_too_low, is_max_too_low, with_spare
from kedastral.backtest.wording import (
    change_of,
    knob_names,
    name_hpa,
    name_knob,
    name_rival,
    say_cost,
    say_service,
    show_unserved,
)
from kedastral.settings.types import write_duration
from kedastral.simulation.curves import Figure, Point


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


def _ask_for_higher_max(results: Sequence[PolicyResult], comparisons: Sequence[PolicyComparison]) -> Verdict:
    """No verdict, since the maximum of a workload is too low, and the maximum to repeat the backtest with."""
    words, advice = explain_max_too_low(comparisons)
    words = f"{words} {explain_too_little(comparisons)}".strip()
    usual = next(result for result in results if result.policy.name == HPA)
    return Verdict(Outlook.MAX_TOO_LOW, words, advice, named=(NamedSetting(HPA, usual.point.knob, Role.COMPARED),))


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


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


Setting = tuple[str, str, str]
"""A flag, the same setting's key in a ForecastPolicy's spec, and its value."""


def settings_to_run(knob: float, comparisons: Sequence[PolicyComparison]) -> list[Setting]:
    """The settings of Kedastral at one setting of its knob. With several workloads, those about pods are left out."""
    scenario = comparisons[0].scenario
    flag, key = knob_names(is_level=comparisons[0].kedastral.policy.is_level(knob))
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
