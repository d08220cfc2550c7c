# SPDX-License-Identifier: Apache-2.0
"""Whether the promised service level was reached, and whether enough was judged to tell."""

import math
from collections.abc import Sequence

import attrs

from kedastral.backtest.contest import Contest
from kedastral.config.units import write_duration

LEAST_BUDGET = 10.0
"""Minutes that a promise must allow in what is judged, for a verdict.

A count of n independent minutes has a standard error of sqrt(n) (Poisson): of 10 a third, and less says nothing of a
difference of a tenth. Minutes short come in clumps, so that this is the least.
"""
USUAL_LEVEL = 0.99
"""What is promised where a headroom plans: the default of --service-level."""


@attrs.frozen
class Promise:
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


def promise_of(contest: Contest) -> Promise | None:
    """What came of the level that Kedastral is steered to on one workload; None where a headroom plans."""
    level = contest.arena.rules.service_level
    if level is None:
        return None
    return Promise(level, judged_minutes([contest]), contest.entry("kedastral").shown.violation_minutes)


def judged_minutes(contests: Sequence[Contest]) -> float:
    """The minutes that count, of all workloads together."""
    return sum(len(judged) * judged.step / 60 for judged in (contest.arena.trial.judged for contest in contests))


def explain_too_little(contests: Sequence[Contest]) -> str:
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
