# SPDX-License-Identifier: Apache-2.0
"""What to do, in words and flags: better than a plain HPA, as good as it, or worse."""

import math
from collections.abc import Sequence
from enum import StrEnum

import attrs

from kedastral.backtest.comparison import REFERENCE, Comparison, Standing, compare
from kedastral.backtest.contest import Contest
from kedastral.config.units import write_duration
from kedastral.simulation.curves import Figure, Point, curve_of

CLEARLY = 0.9
"""At equal cost, a ratio of service below this is clearly better, and above its inverse clearly worse."""
CHEAPER = 0.97
"""The same of cost at equal violation, where every percent is money."""
ROUNDED = 1e-6
"""What interpolation may add to a ratio of 1: as good is not worse."""
SPARE = 1.25
"""--max above the most pods the replay ever had."""


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


@attrs.frozen
class Verdict:
    """``words`` is the honest sentence, ``advice`` says what to run, ``flags`` with which flags.

    ``remark`` names something simpler that serves far better for its price, where there is any.
    """

    outlook: Outlook
    words: str
    advice: str
    flags: tuple[str, ...] = ()
    remark: str = ""


def judge(standings: Sequence[Standing], contests: Sequence[Contest]) -> Verdict:
    """The verdict on Kedastral over the workloads of ``contests``."""
    ours = next(standing for standing in standings if standing.contestant.name == "kedastral")
    reference = next(standing for standing in standings if standing.contestant.name == REFERENCE)
    hpa = choose_hpa(reference.points, reference.point)
    comparison = ours.comparison if hpa == reference.point else compare(ours.points, hpa)
    outlook = outlook_of(comparison)
    chosen = choose_point(ours.points, hpa)
    flags = tuple(_flags(chosen.knob, contests))
    words = _caveat(ours, reference.point, hpa) + _words(outlook, comparison, hpa)
    return Verdict(outlook, words, _advise(outlook, chosen, hpa, flags), flags, _remark(standings, ours, hpa))


def outlook_of(comparison: Comparison) -> Outlook:
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


def _caveat(ours: Standing, usual: Point, hpa: Point) -> str:
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
    fit = [point for point in points if all(_floored(point, f) <= _floored(reference, f) for f in Figure)]
    if fit:
        return min(fit, key=lambda point: point.cost)
    return min(points, key=lambda point: (point.violation, point.unserved, point.cost))


def _floored(point: Point, figure: Figure) -> float:
    return max(figure.of(point), figure.value)


def _words(outlook: Outlook, comparison: Comparison, hpa: Point) -> str:
    opening = {
        Outlook.BETTER: f"Kedastral does better here than a{_name(hpa)[1:]}",
        Outlook.EVEN: f"{_name(hpa)} does as well here",
        Outlook.WORSE: f"{_name(hpa)} does better here",
    }[outlook]
    return f"{opening}: {_at_cost(comparison)}; {_at_violation(comparison)}."


def _at_cost(comparison: Comparison) -> str:
    if math.isinf(comparison.unserved):
        return "Kedastral cannot be had for the HPA's pod-hours, its cheapest setting costs more"
    return (
        f"for the HPA's pod-hours Kedastral leaves {comparison.unserved:.2f} times the load unserved, "
        f"and falls short in {comparison.violation:.2f} times the minutes"
    )


def _at_violation(comparison: Comparison) -> str:
    if math.isinf(comparison.cost):
        return "at no setting tried does it fall short in as few minutes as the HPA"
    return f"to fall short in no more minutes than the HPA it takes {comparison.cost:.2f} times the pod-hours"


def _advise(outlook: Outlook, chosen: Point, reference: Point, flags: Sequence[str]) -> str:
    paid = f"{chosen.cost / reference.cost:.2f} times the HPA's pod-hours"
    seen = f"On this history that takes {paid}, with {chosen.violation:.2%} of the minutes short (HPA: "
    seen += f"{reference.violation:.2%}) and {chosen.unserved:.3%} of the load unserved ({reference.unserved:.3%})."
    line = " ".join(flags)
    if outlook is Outlook.BETTER:
        return f"Run Kedastral with {line}. {seen}"
    stay = "Nothing is gained by a change" if outlook is Outlook.EVEN else "Stay with the HPA"
    return f"{stay}; should you run Kedastral all the same, take {line}. {seen}"


def _remark(standings: Sequence[Standing], ours: Standing, reference: Point) -> str:
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


def _flags(setting: float, contests: Sequence[Contest]) -> list[str]:
    rules = contests[0].arena.rules
    flags = [
        f"--model {contests[0].arena.model.name}",
        f"--{contests[0].entry('kedastral').contestant.knob.replace(' ', '-')} {setting:g}",
        f"--lead-time {write_duration(rules.serving.lead_time)}",
    ]
    if len(contests) > 1:  # pods differ from workload to workload
        return flags
    peak = float(contests[0].point_at(setting).supply.ordered.max())
    flags += [f"--min {rules.plan.bounds.fewest}", f"--max {math.ceil(peak * SPARE)}"]
    return [*flags, f"--target-per-pod {contests[0].arena.trial.target_per_pod:.6g}"]
