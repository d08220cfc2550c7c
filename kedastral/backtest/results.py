# SPDX-License-Identifier: Apache-2.0
"""`Results`: all that came of a backtest, for the terminal, JSON and the report alike."""

from collections.abc import Sequence

import attrs

from kedastral.backtest.accuracy import Accuracy, measure_accuracy
from kedastral.backtest.comparison import Standing, overall, standings_of
from kedastral.backtest.contest import Contest
from kedastral.backtest.promise import Promise, promise_of
from kedastral.backtest.shortages import Shortage, find_worst
from kedastral.backtest.subjects import Failed
from kedastral.backtest.verdict import Verdict, judge


@attrs.frozen
class WorkloadResults:
    """One workload: who stands where, what to do, how good the forecasts were and what went worst.

    ``promise`` is what came of the service level; None where a headroom plans.
    """

    contest: Contest = attrs.field(repr=False)
    standings: tuple[Standing, ...]
    verdict: Verdict
    accuracy: Accuracy
    worst: tuple[Shortage, ...]
    promise: Promise | None = None

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.contest.arena.name

    @property
    def ours(self) -> Standing:
        """Where Kedastral stands, at the settings given."""
        return next(standing for standing in self.standings if standing.contestant.name == "kedastral")


@attrs.frozen
class Results:
    """All workloads, and all of them together: no ``standings`` and no ``verdict`` where their settings differ.

    ``failed`` are those that could not be replayed.
    """

    workloads: tuple[WorkloadResults, ...]
    standings: tuple[Standing, ...]
    verdict: Verdict | None
    failed: tuple[Failed, ...] = ()


def conclude(contests: Sequence[Contest], failed: Sequence[Failed] = ()) -> Results:
    """What the contests mean; ``failed`` are the workloads that had none."""
    return attrs.evolve(_conclude(contests), failed=tuple(failed))


def _conclude(contests: Sequence[Contest]) -> Results:
    workloads = tuple(_conclude_one(contest) for contest in contests)
    if len(workloads) == 1:
        return Results(workloads, workloads[0].standings, workloads[0].verdict)
    if not _are_alike(contests):
        return Results(workloads, (), None)
    together = overall([workload.standings for workload in workloads])
    return Results(workloads, tuple(together), judge(together, contests))


def _are_alike(contests: Sequence[Contest]) -> bool:
    """Whether one verdict can be about all: the same policies, swept alike, by one model and one lead time."""
    settings = {
        (
            tuple(entry.contestant for entry in contest.entries),
            contest.arena.model.name,
            contest.arena.rules.serving.lead_time,
        )
        for contest in contests
    }
    return len(settings) == 1


def _conclude_one(contest: Contest) -> WorkloadResults:
    standings = standings_of(contest)
    return WorkloadResults(
        contest,
        tuple(standings),
        judge(standings, [contest]),
        measure_accuracy(contest.arena),
        tuple(find_worst(contest.arena, contest.entry("kedastral").shown)),
        promise_of(contest),
    )
