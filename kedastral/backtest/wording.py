# SPDX-License-Identifier: Apache-2.0
"""Puts settings, figures and changes of service into words, the same in every sentence and table."""

import math
from collections.abc import Sequence

import attrs

from kedastral.backtest.comparison import FIXED, KEDASTRAL, LAST_WEEK, LEVEL_KNOB, ROUNDED, PolicyComparison, Rival
from kedastral.backtest.totals import JudgedPoints, totals_of
from kedastral.simulation.curves import Figure, Point


def name_knob(setting: float, *, steered: bool) -> str:
    """The kind of a setting of Kedastral: from 1 on it is a headroom instead of a service level."""
    return LEVEL_KNOB if steered and setting < 1 else "headroom"


def knob_names(*, is_level: bool) -> tuple[str, str]:
    """The flag of a setting of Kedastral, and its key in a ForecastPolicy's spec."""
    return ("--service-level", "serviceLevel") if is_level else ("--headroom", "headroom")


def name_max(comparison: PolicyComparison) -> str:
    """The maximum as a flag, or as its key in a ForecastPolicy's spec."""
    return "max" if comparison.scenario.in_files else "--max"


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


def explain_trigger(rival: Rival) -> str:
    """How to make the trigger of a setting; empty unless it is on last week's load."""
    if rival.policy != LAST_WEEK:
        return ""
    return (
        "The query of last week's load is max_over_time((QUERY)[30m:1m] offset 6d23h30m), and both triggers have a "
        f'threshold of {rival.point.knob * 100:g} % of what a pod sustains ("Last week\'s load" in docs/keda.md).'
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


def show_percent(share: float) -> str:
    """A share in percent with two decimals, rounded down, so that only a full share is 100."""
    return f"{math.floor(round(share * 1e4, 6)) / 100:.6g}"


def show_minutes(minutes: float) -> str:
    """Whole minutes; tenths below ten."""
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.1f}"


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[0].upper() + text[1:]


def join_words(words: Sequence[str]) -> str:
    """The words as a list in a sentence, as in ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1] if words else "")))


@attrs.frozen
class Quoted:
    """The figures of replayed settings in words; pod-hours and minutes are those of the table.

    Costs are relative to ``hpa``; ``steered`` says whether Kedastral follows a service level.
    """

    hpa: Point
    judged: Sequence[JudgedPoints]
    steered: bool

    def cost(self, point: Point, other: str = "") -> str:
        """The pod-hours relative to the HPA compared with."""
        return say_cost(point.cost / self.hpa.cost, other)

    def hours(self, policy: str, point: Point) -> str:
        """The pod-hours, summed over the workloads."""
        return f"{totals_of(self.judged, policy, point.knob).pod_hours:,.0f}"

    def minutes(self, policy: str, point: Point) -> str:
        """The minutes short, summed over the workloads."""
        return f"{totals_of(self.judged, policy, point.knob).minutes:,.0f}"

    def short(self, policy: str, point: Point) -> str:
        """The same with the noun."""
        minutes = self.minutes(policy, point)
        return "1 minute short" if minutes == "1" else f"{minutes} minutes short"

    def budget(self, level: float) -> str:
        """The error budget of a service level, summed over the workloads."""
        return show_minutes((1 - level) * sum(one.minutes for one in self.judged))

    def ours(self, point: Point) -> str:
        """A setting of Kedastral."""
        return f"{name_knob(point.knob, steered=self.steered)} {point.knob:g}"

    def name(self, setting: Rival) -> str:
        """A setting of any policy."""
        return f"Kedastral at {self.ours(setting.point)}" if setting.policy == KEDASTRAL else name_rival(setting)
