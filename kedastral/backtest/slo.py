# SPDX-License-Identifier: Apache-2.0
"""Says whether a workload kept its service level, and which level or setting would be better."""

import math

import attrs

from kedastral.backtest.comparison import PolicyComparison
from kedastral.backtest.decision import FAR_BETTER, floored
from kedastral.backtest.keeping import cheapest_that_keeps
from kedastral.backtest.preconditions import is_max_too_low
from kedastral.backtest.totals import judged_minutes
from kedastral.backtest.wording import knob_names, name_max, say_cost, show_minutes, show_percent, show_percents
from kedastral.settings.types import write_duration
from kedastral.simulation.curves import Figure, Point

FAR_DEARER = 1.5
"""From this ratio of pod-hours on, a stricter service level needs a warning if it serves hardly better."""
HARDLY_FEWER = 0.9
"""Down to this ratio, minutes short are hardly fewer."""


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
        """The cheapest setting that reaches a level that was missed."""
        best = cheapest_that_keeps(self.points, self.level)
        if self.is_kept or best is None or self._in_force is None:
            return ""
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
            return f"{self.setup} Kedastral can keep no level that was tried"
        return f"{self.setup} Kedastral cannot keep {self.level:g} here, only {self.highest_kept:g}"

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
        setup = f"with {name_max(comparison)} {scenario.settings.cluster.bounds.max}"
    judged = judged_minutes([comparison])
    return SloResult(level, judged, ours.shown.violation_minutes, ours.points, setup, scenario.in_files)
