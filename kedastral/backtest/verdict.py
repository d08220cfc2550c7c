# SPDX-License-Identifier: Apache-2.0
"""Puts a comparison into words: how Kedastral compares, and what to run."""

import math
from collections.abc import Iterator, Sequence
from enum import StrEnum

import attrs

from kedastral.backtest.comparison import (
    HPA,
    KEDASTRAL,
    LAST_WEEK,
    LEVEL_KNOB,
    ROUNDED,
    PolicyComparison,
    PolicyResult,
    Rival,
)
from kedastral.backtest.decision import SAME_COST, USABLE, ComparedSettings, Outlook, decide
from kedastral.backtest.keeping import Keeping
from kedastral.backtest.preconditions import (
    explain_max_too_low,
    explain_provisional,
    explain_too_little,
    is_max_too_low,
)
from kedastral.backtest.shortages import describe_left
from kedastral.backtest.to_run import as_flags, as_spec, caution_on, explain_higher_max, settings_to_run
from kedastral.backtest.totals import JudgedPoints, judged_minutes, judged_points, summed_points
from kedastral.backtest.wording import (
    Quoted,
    capital,
    change_of,
    explain_trigger,
    join_words,
    name_hpa,
    name_rival,
    say_cost,
    say_service,
    show_percents,
    show_unserved,
)
from kedastral.simulation.curves import Figure, Point


class Role(StrEnum):
    """The role of a setting in the verdict."""

    COMPARED = "compared with"
    NEAR = "beside the HPA"
    ADVISED = "advised"
    """What the advice names first, with Kedastral or without."""
    IF_KEDASTRAL = "if Kedastral"
    """The advised setting of Kedastral where something else is advised first."""
    BEST_WITHOUT = "best without Kedastral"
    HPA_KEEPS = "cheapest HPA that keeps the level"
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
class Verdict:
    """The verdict in ``words``, and the ``advice`` on what to run.

    ``flags`` are the settings for `kedastral run`, even if the advice is not to run it; ``spec`` has the same as lines
    of a ForecastPolicy's spec, if one was replayed. ``caution`` must be shown with them. ``provisional`` says why the
    outlook is not firm, empty if it is; it also opens the words. ``remark`` names a simpler policy that serves far
    better for its cost, if there is one. ``named`` are the settings with figures in any of these, the reference first.
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
    judged = [judged_points(one) for one in comparisons]
    sums = summed_points(results, judged)
    compared = decide(results, sums, enough=not too_little, minutes=judged_minutes(comparisons))
    outcome = comparisons[0].replay_kedastral(compared.advised.knob) if len(comparisons) == 1 else None
    settings = settings_to_run(compared.advised.knob, comparisons, outcome)
    spec = as_spec(settings) if comparisons[0].scenario.in_files else []
    words = VerdictWords(compared, judged, is_steered(results))
    provisional = "" if too_little else explain_provisional(compared.advised.knob, comparisons)
    left = "" if outcome is None else describe_left(comparisons[0].scenario, outcome)
    remarks = (left, explain_higher_max(comparisons))
    return words.write(as_flags(settings), spec, caution_on(comparisons), too_little, provisional, remarks)


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
class LevelWords:
    """The sentences about the service level of ``keeping``, by which settings are ``compared`` if anything keeps it."""

    compared: ComparedSettings
    keeping: Keeping
    quoted: Quoted

    def answer(self) -> str:
        """The first sentence: what keeps the level for the fewest pod-hours, and what the others take."""
        keeping = self.keeping
        count = len(self.quoted.judged)
        kept = f"{keeping.level * 100:g} % of the minutes{f' of {count} workloads' if count > 1 else ''}"
        if not keeping.is_kept:
            return f"No setting of any policy keeps {kept}."
        first, *others = self._contenders()
        hours = self.quoted.hours(first.policy, first.point)
        if keeping.rival is None:
            return f"Only Kedastral keeps {kept}: at {self.quoted.ours(first.point)}, for {hours} pod-hours."
        flat = "the load is flat: " if self.compared.is_flat and first.policy != KEDASTRAL else ""
        words = f"{flat}{self.quoted.name(first)} keeps {kept} for the fewest pod-hours"
        beside = join_words([self._beside(first.point, other) for other in others])
        return capital(f"{words}, {hours}{f': {beside}' if beside else ''}{self._lacking()}.")

    def _contenders(self) -> list[Rival]:
        """What keeps the level, the cheapest first; of two as cheap the one without Kedastral."""
        keeping = self.keeping
        found = [] if keeping.rival is None else [keeping.rival]
        if keeping.ours is not None:
            ours = Rival(KEDASTRAL, keeping.ours)
            is_first = keeping.rival is None or ours.point.cost < keeping.rival.point.cost * (1 - ROUNDED)
            found.insert(0 if is_first else 1, ours)
        if keeping.hpa is not None and keeping.rival is not None and keeping.rival.policy != HPA:
            found.append(Rival(HPA, keeping.hpa))
        return found

    def _beside(self, least: Point, other: Rival) -> str:
        ratio = least.cost / other.point.cost
        link = "about as many as" if ratio > 1 - ROUNDED else f"{show_percents(ratio)} % fewer than"
        return f"{link} {self.quoted.name(other)} ({self.quoted.hours(other.policy, other.point)})"

    def _lacking(self) -> str:
        """Who cannot keep the level."""
        tried = (("no setting of Kedastral", self.keeping.ours), ("no HPA target", self.keeping.hpa))
        lacking = [name for name, found in tried if found is None]
        return f"; {join_words(lacking)} keeps it" if lacking else ""

    def what_to_do(self, line: str) -> str:
        """What to take if it is not Kedastral, and the ``line`` with the settings of Kedastral."""
        compared, level = self.compared, self.keeping.level
        if compared.is_too_dear:
            cost = self.quoted.cost(compared.rival.point, name_hpa(compared.hpa))
            take = f"Take {name_rival(compared.rival)} only if {level:g} is worth {cost}"
        elif compared.rival == Rival(HPA, compared.usual):
            take = f"Stay with the HPA{', since a change gains little' if compared.outlook is Outlook.EVEN else ''}"
        else:
            take = f"Take {name_rival(compared.rival)}, which needs no forecast{self._dearer()}"
        theirs = self.quoted.short(compared.rival.policy, compared.rival.point)
        ours = self.quoted.short(KEDASTRAL, compared.advised)
        missed = f", which misses {level:g}" if self.keeping.ours is None else ""
        return (
            f"{take}: {theirs}, with an error budget of {self.quoted.budget(level)}. "
            f"If you run Kedastral all the same, use {line}: {ours}{missed}."
        )

    def _dearer(self) -> str:
        """How much more the rival takes than Kedastral, if it does."""
        ours, rival = self.keeping.ours, self.keeping.rival
        if ours is None or rival is None or rival.point.cost < ours.cost * (1 + ROUNDED):
            return ""
        return f" and takes only {say_cost(rival.point.cost / ours.cost)}"

    def effect(self) -> str:
        """The figures of Kedastral at the advised setting, where nothing else was advised."""
        compared, advised = self.compared, self.compared.advised
        if compared.outlook not in (Outlook.BETTER, Outlook.TOO_LITTLE):
            return ""
        minutes = self.quoted.minutes(KEDASTRAL, advised)
        return (
            f"On this history that is short of pods in {minutes} minute{'' if minutes == '1' else 's'}, with an error "
            f"budget of {self.quoted.budget(self.keeping.level)}, and leaves {show_unserved(advised)} % of the load "
            "unserved."
        )

    def settings(self) -> Iterator[str]:
        """Why a headroom is advised although a service level is in force, and the figures of that level."""
        compared = self.compared
        advised, level, given = compared.advised, compared.level, compared.in_force
        figures = f"takes {self.quoted.hours(KEDASTRAL, given)} pod-hours, with {self.quoted.short(KEDASTRAL, given)}"
        in_force = f"service level {given.knob:g} in force {figures}"
        if advised.knob >= 1 and level is None:
            yield "A fixed headroom is advised, as no service level keeps it."
        elif level is not None and level.knob == given.knob:
            yield f"A fixed headroom is cheaper than steering here: the {in_force}."
            return
        elif level is not None:
            hours = self.quoted.hours(KEDASTRAL, level)
            yield (
                "A fixed headroom is cheaper than steering here: the cheapest service level that keeps it, "
                f"{level.knob:g}, takes {hours} pod-hours."
            )
        if advised.knob != given.knob:
            yield f"The {in_force}."


@attrs.frozen
class VerdictWords:
    """Puts the settings ``compared`` into words: a pure function of the replayed points.

    For ``steered`` see `is_steered`.
    """

    compared: ComparedSettings
    judged: Sequence[JudgedPoints]
    steered: bool

    @property
    def quoted(self) -> Quoted:
        """The figures in words."""
        return Quoted(self.compared.hpa, self.judged, self.steered)

    @property
    def level(self) -> LevelWords | None:
        """The sentences about the service level in force; None with a headroom."""
        keeping = self.compared.keeping
        return None if keeping is None else LevelWords(self.compared, keeping, self.quoted)

    def write(
        self,
        flags: Sequence[str],
        spec: Sequence[str] = (),
        caution: str = "",
        too_little: str = "",
        provisional: str = "",
        remarks: Sequence[str] = (),
    ) -> Verdict:
        """The verdict. ``flags`` or ``spec`` are the advised settings; ``too_little`` says why there is no verdict,
        ``provisional`` why it is not firm, and ``remarks`` follow the advice."""
        compared = self.compared
        line = f"{', '.join(spec)} in the spec of the ForecastPolicy" if spec else " ".join(flags)
        sentences = (
            too_little.strip(),
            provisional,
            "" if self.level is None else self.level.answer(),
            "The load is flat: you do not need Kedastral." if compared.is_flat and not compared.is_by_level else "",
            self._same_cost(),
            *(() if compared.is_by_level else self._beside_hpa()),
            self._only(),
        )
        advice = (self._what_to_do(line, provisional), *self._figures(), self._trigger(), *remarks)
        return Verdict(
            compared.outlook,
            " ".join(filter(None, sentences)),
            " ".join(filter(None, (*advice, f"{caution}." if caution else ""))),
            tuple(flags),
            tuple(spec),
            caution,
            self._remark(),
            provisional,
            tuple(self._named()),
        )

    def _same_cost(self) -> str:
        """Kedastral beside the HPA of today at the same cost, and why that HPA is not the usual one."""
        compared = self.compared
        difference = compared.near.cost / compared.hpa.cost
        opening = f"At the same cost as {name_hpa(compared.hpa)}"
        if abs(difference - 1) > SAME_COST:
            opening = f"With {say_cost(difference, name_hpa(compared.hpa))}"
        if compared.usual.violation > USABLE:
            short, judged = self.quoted.minutes(HPA, compared.usual), sum(one.minutes for one in self.judged)
            opening += f" (at {compared.usual.knob * 100:g} % it is short of pods in {short} of {judged:,.0f} minutes)"
        if compared.hpa.violation > USABLE:
            opening += ", where no target works: check the target per pod, the lead time and --max"
        return f"{opening}, Kedastral at {self.quoted.ours(compared.near)} would have {self._service(compared.near)}."

    def _beside_hpa(self) -> Iterator[str]:
        """What serves as well as the HPA of today."""
        yield self._as_good()
        yield self._without()

    def _service(self, point: Point) -> str:
        """The service of Kedastral; in absolute numbers if the status quo is hardly ever short."""
        hpa = self.compared.hpa
        if all(math.isfinite(change_of(point, hpa, figure)) for figure in Figure):
            return say_service(point, hpa)
        ours, theirs = self.quoted.minutes(KEDASTRAL, point), self.quoted.minutes(HPA, hpa)
        return (
            f"been short of pods in {ours} minutes (HPA: {theirs}), with "
            f"{show_unserved(point)} % of the load unserved (HPA: {show_unserved(hpa)} %)"
        )

    def _as_good(self) -> str:
        """The cost of service at least as good as the status quo."""
        compared = self.compared
        if not compared.serves_as_well:
            return "No setting of Kedastral serves as well as that HPA."
        if compared.advised.knob == compared.near.knob:
            return ""
        cost, setting = self.quoted.cost(compared.advised), self.quoted.ours(compared.advised)
        return f"For service no worse than that HPA's: {cost}, at {setting}."

    def _without(self) -> str:
        """The cheapest alternative to Kedastral."""
        compared = self.compared
        if not compared.has_cheaper_rival:
            has_last_week = all(LAST_WEEK in one.points for one in self.judged)
            trigger = "no trigger on last week's load, " if has_last_week else ""
            return (
                f"Nothing simpler serves as well for less: no HPA at another target, {trigger}no fixed number of pods."
            )
        cost = self.quoted.cost(compared.rival.point)
        return f"Without Kedastral, {name_rival(compared.rival)} serves as well for {cost}."

    def _only(self) -> str:
        """The only policy that avoids most of the shortages that the others leave."""
        only, take = self.compared.only, self.compared.take
        if only is None:
            return ""
        most = "the" if only.point.violation <= Figure.VIOLATION.value else "most"
        return (
            f"Only {name_rival(only)} avoids {most} shortages: {self.quoted.short(only.policy, only.point)} instead of "
            f"{self.quoted.minutes(take.policy, take.point)}, for {self.quoted.cost(only.point)}."
        )

    def _what_to_do(self, line: str, provisional: str) -> str:
        compared = self.compared
        if compared.outlook is Outlook.BETTER and provisional:
            return f"Try Kedastral with {line}, and judge more history before you rely on it."
        if compared.outlook is Outlook.BETTER:
            return f"Run Kedastral with {line}."
        use = f"if you run Kedastral all the same, use {line}"
        if compared.outlook is Outlook.TOO_LITTLE:
            return f"Judge more history before you decide; {use}."
        if compared.is_by_level and self.level is not None:
            return self.level.what_to_do(line)
        if compared.has_cheaper_rival:
            return f"Take {name_rival(compared.rival)}, which needs no forecast; {use}."
        return f"Stay with the HPA{': a change gains little' if compared.outlook is Outlook.EVEN else ''}; {use}."

    def _figures(self) -> Iterator[str]:
        """The figures of what is advised, and of the setting in force if that is another."""
        if self.compared.is_by_level and self.level is not None:
            yield self.level.effect()
            yield from self.level.settings()
            return
        yield self._effect()
        yield self._why_headroom()
        yield self._in_force()

    def _trigger(self) -> str:
        """How to make the trigger that is advised, if it is one on last week's load."""
        is_decided = self.compared.outlook is not Outlook.TOO_LITTLE
        return explain_trigger(self.compared.take) if is_decided else ""

    def _effect(self) -> str:
        """The figures of the advised setting."""
        compared, advised, hpa = self.compared, self.compared.advised, self.compared.hpa
        budget, missed = "", ""
        if compared.keeping is not None:
            budget = f"; error budget: {self.quoted.budget(compared.keeping.level)}"
            aimed = compared.keeping.level
            missed = (
                f" It aims at less than the {aimed:g} in force, which nothing keeps." if advised.knob < aimed else ""
            )
        return (
            f"On this history that takes {self.quoted.cost(advised, name_hpa(hpa))}, with "
            f"{self.quoted.short(KEDASTRAL, advised)} (HPA: {self.quoted.minutes(HPA, hpa)}{budget}) and "
            f"{show_unserved(advised)} % of the load unserved (HPA: {show_unserved(hpa)} %).{missed}"
        )

    def _why_headroom(self) -> str:
        """Why a headroom is advised although a service level was asked for."""
        compared = self.compared
        if not self.steered or compared.advised.knob < 1:
            return ""
        if compared.level is None:
            return "A fixed headroom beats steering here: no service level serves as well."
        return (
            "A fixed headroom beats steering here: the cheapest service level that serves as well, "
            f"{compared.level.knob:g}, takes {self.quoted.cost(compared.level, 'the HPA')}."
        )

    def _in_force(self) -> str:
        """The figures of the setting in force, if another is advised."""
        ours = self.compared.in_force
        if ours.knob == self.compared.advised.knob:
            return ""
        cost, short = self.quoted.cost(ours), self.quoted.short(KEDASTRAL, ours)
        return f"The {self.quoted.ours(ours)} in force takes {cost}, with {short}."

    def _remark(self) -> str:
        remarkable = self.compared.remarkable
        if remarkable is None:
            return ""
        return (
            f"Worth a look: {name_rival(remarkable)} leaves at most half of what Kedastral leaves for as many "
            f"pod-hours, with {self.quoted.short(remarkable.policy, remarkable.point)} for "
            f"{self.quoted.cost(remarkable.point, name_hpa(self.compared.hpa))}."
        )

    def _named(self) -> Iterator[NamedSetting]:
        compared, take = self.compared, self.compared.take
        is_decided = compared.outlook is not Outlook.TOO_LITTLE
        yield NamedSetting(HPA, compared.hpa.knob, Role.COMPARED)
        if is_decided:
            yield NamedSetting(take.policy, take.point.knob, Role.ADVISED)
        if not is_decided or take.policy != KEDASTRAL:
            yield NamedSetting(KEDASTRAL, compared.advised.knob, Role.IF_KEDASTRAL)
        yield NamedSetting(KEDASTRAL, compared.near.knob, Role.NEAR)
        if compared.level is not None:
            yield NamedSetting(KEDASTRAL, compared.level.knob, Role.LEVEL)
        if compared.keeping is not None and compared.keeping.hpa is not None:
            yield NamedSetting(HPA, compared.keeping.hpa.knob, Role.HPA_KEEPS)
        if (compared.is_by_level or compared.has_cheaper_rival) and not (is_decided and take == compared.rival):
            yield NamedSetting(compared.rival.policy, compared.rival.point.knob, Role.BEST_WITHOUT)
        if compared.remarkable is not None:
            yield NamedSetting(compared.remarkable.policy, compared.remarkable.point.knob, Role.LOOK)
        if compared.only is not None:
            yield NamedSetting(compared.only.policy, compared.only.point.knob, Role.ONLY)
