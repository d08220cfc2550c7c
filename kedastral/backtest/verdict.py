# SPDX-License-Identifier: Apache-2.0
"""What to do, in words and flags: better than a plain HPA, as good as it, or worse."""

import math
from collections.abc import Sequence
from enum import StrEnum

import attrs

from kedastral.backtest.comparison import REFERENCE, HpaComparison, PolicyComparison, PolicyResult, compare
from kedastral.settings.types import write_duration
from kedastral.simulation.curves import Figure, Point, curve_of

# --- Whether the promised service level was reached, and whether enough was judged to tell.

LEAST_BUDGET = 10.0
"""Minutes that a promise must allow in what is judged, for a verdict.

A count of n independent minutes has a standard error of sqrt(n) (Poisson): of 10 a third, and less says nothing of a
difference of a tenth. Minutes short come in clumps, so that this is the least.
"""
USUAL_LEVEL = 0.99
"""What is promised where a headroom plans: the default of --service-level."""


@attrs.frozen
class SloResult:
    """A service ``level`` 0..1 over ``judged`` minutes, of which ``short`` had too few pods."""

    level: float
    judged: float
    short: float

    @property
    def budget(self) -> float:
        """The minutes that may be short."""
        return (1 - self.level) * self.judged

    @property
    def is_kept(self) -> bool:
        """Whether no more were short than may be."""
        return self.short <= self.budget + 1e-9

    @property
    def reached(self) -> float:
        """The share of minutes with enough pods, 0..1."""
        return 1 - self.short / self.judged

    @property
    def words(self) -> str:
        """The promise and what came of it, as one line."""
        return (
            f"{self.level:g} promised, {show_percent(self.reached)} % reached: {self.short:,.0f} of {self.judged:,.0f} "
            f"minutes short, budget {show_minutes(self.budget)}"
        )


def slo_result_of(contest: PolicyComparison) -> SloResult | None:
    """What came of the level that Kedastral is steered to on one workload; None where a headroom plans."""
    level = contest.arena.rules.service_level
    if level is None:
        return None
    return SloResult(level, judged_minutes([contest]), contest.entry("kedastral").shown.violation_minutes)


def judged_minutes(contests: Sequence[PolicyComparison]) -> float:
    """The minutes that count, of all workloads together."""
    return sum(len(judged) * judged.step / 60 for judged in (contest.arena.trial.judged for contest in contests))


def explain_too_little(contests: Sequence[PolicyComparison]) -> str:
    """Why what was judged is too little for a verdict, with the remedy; nothing where it is enough."""
    level = contests[0].arena.rules.service_level or USUAL_LEVEL
    judged, wanted = judged_minutes(contests), LEAST_BUDGET / (1 - level)
    if judged >= wanted - 1e-6:
        return ""
    trial = contests[0].arena.trial
    share, warm_up = 1 - trial.begin / len(trial.demand), (trial.judged_from - trial.begin) * trial.demand.step
    days = math.ceil((math.ceil(wanted) * 60 / len(contests) + warm_up) / share / 86400)
    return (
        f"Too little was judged to tell: in {write_duration(judged * 60)} a promise of {level:g} allows "
        f"{show_minutes((1 - level) * judged)} minutes short, and for a verdict it must be {LEAST_BUDGET:g}, which "
        f"takes {write_duration(math.ceil(round(wanted, 6)) * 60)}: {days} days of history with this --evaluated and "
        "--warm-up. "
    )


def show_percent(share: float) -> str:
    """Two digits, rounded down: what is not all is not 100."""
    return f"{math.floor(round(share * 1e4, 6)) / 100:.6g}"


def show_minutes(minutes: float) -> str:
    """Whole minutes, and tenths below ten."""
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.1f}"


# --- What to run: the settings as flags, or as keys of a ForecastPolicy where the workload came from files.

SPARE = 1.25
"""--max above the most pods the replay ever had."""
CAUTION = "from the load's peak, not measured on your pods"
"""Of a target per pod that nobody gave."""

Setting = tuple[str, str, str]
"""A flag, the key of a ForecastPolicy's spec for the same, and its value."""


def settings_to_run(knob: float, contests: Sequence[PolicyComparison]) -> list[Setting]:
    """The settings of Kedastral at one setting of its knob; those of the pods for one workload only."""
    arena = contests[0].arena
    rules, name = arena.rules, contests[0].entry("kedastral").contestant.knob
    settings = [
        ("--model", "model", arena.model.name),
        (f"--{name.replace(' ', '-')}", {"service level": "serviceLevel"}.get(name, name), f"{knob:g}"),
        ("--lead-time", "leadTime", write_duration(rules.serving.lead_time)),
    ]
    if len(contests) > 1:  # pods differ from workload to workload
        return settings
    peak = float(contests[0].point_at(knob).supply.ordered.max())
    return [
        *settings,
        ("--min", "min", f"{rules.plan.bounds.min}"),
        ("--max", "max", f"{math.ceil(peak * SPARE)}"),
        ("--target-per-pod", "targetPerPod", f"{arena.trial.target_per_pod:.6g}"),
    ]


def as_flags(settings: Sequence[Setting]) -> list[str]:
    """For `kedastral run` without files."""
    return [f"{flag} {value}" for flag, _, value in settings]


def as_spec(settings: Sequence[Setting]) -> list[str]:
    """For the ``spec`` of a ForecastPolicy, a line each."""
    return [f"{key}: {value}" for _, key, value in settings]


def caution_on(contests: Sequence[PolicyComparison]) -> str:
    """What is to be said of the target per pod among the settings, if anything."""
    if len(contests) > 1 or not contests[0].arena.sized_by_peak:
        return ""
    target = "targetPerPod" if contests[0].arena.in_files else "--target-per-pod"
    return f"{target} is {CAUTION}"


CLEARLY = 0.9
"""At equal cost, a ratio of service below this is clearly better, and above its inverse clearly worse."""
CHEAPER = 0.97
"""The same of cost at equal violation, where every percent is money."""
ROUNDED = 0.005
"""What is shown as a ratio of 1.00: as good is neither better nor worse."""

USABLE = 0.05
"""The most minutes short, as a share, that anybody would run with."""
FAR_BETTER = 0.5
"""What something simple must leave, of what Kedastral leaves at the same cost, to be worth a remark."""
SIMPLE = {
    "hpa": "a plain HPA with another target",
    "last-week": "a trigger on last week's load beside the HPA",
    "fixed": "a fixed number of pods",
}


class Outlook(StrEnum):
    """How Kedastral stands to the HPA at 80 %."""

    BETTER = "better"
    EVEN = "even"
    WORSE = "worse"
    TOO_LITTLE = "too-little"
    """What was judged is not enough to tell."""


@attrs.frozen
class Verdict:
    """``words`` is the honest sentence, ``advice`` says what to run, ``flags`` with which flags.

    ``remark`` names something simpler that serves far better for its price, where there is any. ``spec`` are the same
    settings as lines of a ForecastPolicy's spec, where that is what was replayed; ``caution`` is to stand beside them.
    """

    outlook: Outlook
    words: str
    advice: str
    flags: tuple[str, ...] = ()
    remark: str = ""
    spec: tuple[str, ...] = ()
    caution: str = ""


def judge(standings: Sequence[PolicyResult], contests: Sequence[PolicyComparison]) -> Verdict:
    """The verdict on Kedastral over the workloads of ``contests``."""
    ours = next(standing for standing in standings if standing.contestant.name == "kedastral")
    reference = next(standing for standing in standings if standing.contestant.name == REFERENCE)
    hpa = choose_hpa(reference.points, reference.point)
    comparison = ours.comparison if hpa == reference.point else compare(ours.points, hpa)
    too_little = explain_too_little(contests)
    outlook = Outlook.TOO_LITTLE if too_little else outlook_of(comparison)
    chosen = ours.point if _is_promise(ours) else choose_point(ours.points, hpa)
    settings, caution = settings_to_run(chosen.knob, contests), caution_on(contests)
    flags, spec = as_flags(settings), as_spec(settings) if contests[0].arena.in_files else []
    line = f"{', '.join(spec)} in the spec of the ForecastPolicy" if spec else " ".join(flags)
    seen = f"{_seen(chosen, hpa)}{_level_like(ours, hpa)}{f' {caution}.' if caution else ''}"
    return Verdict(
        outlook,
        too_little + _caveat(ours, reference.point, hpa) + _words(outlook, comparison, hpa),
        f"{_advise(outlook, line)} {seen}",
        tuple(flags),
        "" if too_little else _remark(standings, ours, hpa),
        tuple(spec),
        caution,
    )


def outlook_of(comparison: HpaComparison) -> Outlook:
    """Better or worse only where service at equal cost clearly is, or cost at equal violation with service agreeing."""
    services = (comparison.unserved, comparison.violation)
    if max(services) <= CLEARLY or (comparison.cost <= CHEAPER and max(services) <= 1 + ROUNDED):
        return Outlook.BETTER
    if min(services) >= 1 / CLEARLY or (comparison.cost >= 1 / CHEAPER and min(services) >= 1 - ROUNDED):
        return Outlook.WORSE
    return Outlook.EVEN


def choose_hpa(points: Sequence[Point], usual: Point) -> Point:
    """What to compare with: the ``usual`` setting; where nobody could run that, the highest utilisation one could.

    Where there is none, the setting with the fewest minutes short.
    """
    if usual.violation <= USABLE:
        return usual
    fit = [point for point in points if point.violation <= USABLE]
    return max(fit, key=lambda point: point.knob) if fit else min(points, key=lambda point: point.violation)


def _caveat(ours: PolicyResult, usual: Point, hpa: Point) -> str:
    """What must be said first where the usual setting of the HPA is of no use here."""
    if usual.violation <= USABLE:
        return ""
    our_share = curve_of(ours.points, Figure.VIOLATION).figure_at(usual.cost)
    who = "it is not" if our_share <= USABLE else "neither it nor Kedastral at its pod-hours is"
    opening = f"{_name(usual)} is short in {usual.violation:.1%} of the minutes here: {who} usable at this target. "
    if hpa.violation > USABLE:
        opening += "No lower utilisation is either; look at the target, the lead time and --max. "
    return opening


def _name(hpa: Point) -> str:
    return f"A plain HPA at {hpa.knob * 100:g} %"


def choose_point(points: Sequence[Point], reference: Point) -> Point:
    """The cheapest point that serves at least as well as the reference; else the one with the fewest violations."""
    fit = [point for point in points if _serves_as(point, reference)]
    if fit:
        return min(fit, key=lambda point: point.cost)
    return min(points, key=lambda point: (point.violation, point.unserved, point.cost))


def _serves_as(point: Point, reference: Point) -> bool:
    return all(_floored(point, figure) <= _floored(reference, figure) for figure in Figure)


def _floored(point: Point, figure: Figure) -> float:
    return max(figure.of(point), figure.value)


def _words(outlook: Outlook, comparison: HpaComparison, hpa: Point) -> str:
    """Where both serve alike, the words are about the cost alone."""
    name, alike = _name(hpa), all(abs(s - 1) < ROUNDED for s in (comparison.unserved, comparison.violation))
    opening = {
        Outlook.BETTER: f"Kedastral does better here than a{name[1:]}, compared at the same cost",
        Outlook.EVEN: f"{name} does as well here, compared at the same cost",
        Outlook.WORSE: f"{name} does better here, compared at the same cost",
        Outlook.TOO_LITTLE: f"As far as it goes, beside a{name[1:]} and compared at the same cost",
    }[outlook]
    if alike and outlook is Outlook.BETTER:
        opening = f"Kedastral serves as well here as a{name[1:]}, for fewer pod-hours"
    if alike and outlook is Outlook.WORSE:
        opening = f"{name} serves as well here as Kedastral, for fewer pod-hours"
    return f"{opening}: {_at_cost(comparison)}; {_at_violation(comparison)}."


def _at_cost(comparison: HpaComparison) -> str:
    if math.isinf(comparison.unserved):
        return "Kedastral cannot be had for the HPA's pod-hours, its cheapest setting costs more"
    return (
        f"for the HPA's pod-hours Kedastral leaves {comparison.unserved:.2f} times the load unserved, "
        f"and falls short in {comparison.violation:.2f} times the minutes"
    )


def _at_violation(comparison: HpaComparison) -> str:
    if math.isinf(comparison.cost):
        return "at no setting tried does it fall short in as few minutes as the HPA"
    return f"to fall short in no more minutes than the HPA it takes {comparison.cost:.2f} times the pod-hours"


def _is_promise(ours: PolicyResult) -> bool:
    """A service level is what the user promised, and no knob for us to turn."""
    return ours.contestant.knob == "service level"


def _seen(chosen: Point, reference: Point) -> str:
    return (
        f"On this history that takes {chosen.cost / reference.cost:.2f} times the HPA's pod-hours, with "
        f"{chosen.violation:.2%} of the minutes short (HPA: {reference.violation:.2%}) and {chosen.unserved:.3%} of "
        f"the load unserved ({reference.unserved:.3%})."
    )


def _level_like(ours: PolicyResult, reference: Point) -> str:
    """The level that serves as the HPA does as it is set, where the one that was asked for serves less."""
    if not _is_promise(ours) or _serves_as(ours.point, reference):
        return ""
    like = choose_point(ours.points, reference)
    if not _serves_as(like, reference):
        return ""
    paid = f"{like.cost / reference.cost:.2f} times its pod-hours"
    return f" To serve as that HPA does as it is set would take a service level of {like.knob:g}, at {paid}."


def _advise(outlook: Outlook, line: str) -> str:
    if outlook is Outlook.BETTER:
        return f"Run Kedastral with {line}."
    stay = {
        Outlook.EVEN: "Nothing is gained by a change",
        Outlook.WORSE: "Stay with the HPA",
        Outlook.TOO_LITTLE: "Judge more of it before you decide",
    }[outlook]
    return f"{stay}; should you run Kedastral all the same, take {line}."


def _remark(standings: Sequence[PolicyResult], ours: PolicyResult, reference: Point) -> str:
    """The cheapest setting of something simpler that leaves half of what Kedastral leaves for the same pod-hours."""
    curves = {figure: curve_of(ours.points, figure) for figure in Figure}
    found = [
        (point, standing.contestant.name)
        for standing in standings
        if standing.contestant.name in SIMPLE
        for point in standing.points
        if point.cost >= curves[Figure.VIOLATION].costs[0]
        and all(_floored(point, figure) <= FAR_BETTER * curves[figure].figure_at(point.cost) for figure in Figure)
    ]
    if not found:
        return ""
    point, name = min(found, key=lambda one: one[0].cost)
    return (
        f"Look at {SIMPLE[name]} too: at {point.cost / reference.cost:.2f} times the pod-hours of the HPA at "
        f"{reference.knob * 100:g} % it falls short in {point.violation:.2%} of the minutes, where Kedastral would in "
        f"{curves[Figure.VIOLATION].figure_at(point.cost):.2%}."
    )
