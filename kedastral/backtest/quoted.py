# SPDX-License-Identifier: Apache-2.0
"""Quotes the figures of replayed settings in a verdict's sentences. Hours and minutes are those of the table."""

from collections.abc import Sequence

import attrs

from kedastral.backtest.comparison import KEDASTRAL, Rival
from kedastral.backtest.totals import JudgedPoints, totals_of
from kedastral.backtest.wording import name_knob, name_rival, say_cost, show_minutes
from kedastral.simulation.curves import Point


@attrs.frozen
class Quoted:
    """Figures in words. Costs are relative to ``hpa``; ``steered`` says whether Kedastral follows a service level."""

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
