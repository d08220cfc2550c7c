# SPDX-License-Identifier: Apache-2.0
"""Says in words which policy keeps the service level in force for the fewest pod-hours, and what to do about it."""

from collections.abc import Iterator

import attrs

from kedastral.backtest.comparison import HPA, KEDASTRAL, ROUNDED, Rival
from kedastral.backtest.decision import ComparedSettings, Outlook
from kedastral.backtest.keeping import Keeping
from kedastral.backtest.quoted import Quoted
from kedastral.backtest.wording import capital, join_words, name_hpa, name_rival, say_cost, show_percents, show_unserved
from kedastral.simulation.curves import Point


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
        compared = join_words([self._beside(first.point, other) for other in others])
        return capital(f"{words}, {hours}{f': {compared}' if compared else ''}{self._lacking()}.")

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
