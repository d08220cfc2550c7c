# SPDX-License-Identifier: Apache-2.0
"""`Results`: all that came of a backtest, for the terminal, JSON and the report alike."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from kedastral.backtest.comparison import (
    Accuracy,
    Contestant,
    PolicyComparison,
    PolicyResult,
    measure_accuracy,
    overall,
    standings_of,
)
from kedastral.backtest.shortages import Shortage, find_worst
from kedastral.backtest.verdict import SloResult, Verdict, judge, show_minutes, show_percent, slo_result_of
from kedastral.backtest.workloads import Failed
from kedastral.errors import ConfigError
from kedastral.simulation.replay import Outcome


@attrs.frozen
class WorkloadResults:
    """One workload: who stands where, what to do, how good the forecasts were and what went worst.

    ``promise`` is what came of the service level; None where a headroom plans.
    """

    contest: PolicyComparison = attrs.field(repr=False)
    standings: tuple[PolicyResult, ...]
    verdict: Verdict
    accuracy: Accuracy
    worst: tuple[Shortage, ...]
    promise: SloResult | None = None

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.contest.arena.name

    @property
    def ours(self) -> PolicyResult:
        """Where Kedastral stands, at the settings given."""
        return next(standing for standing in self.standings if standing.contestant.name == "kedastral")


@attrs.frozen
class Results:
    """All workloads, and all of them together: no ``standings`` and no ``verdict`` where their settings differ.

    ``failed`` are those that could not be replayed.
    """

    workloads: tuple[WorkloadResults, ...]
    standings: tuple[PolicyResult, ...]
    verdict: Verdict | None
    failed: tuple[Failed, ...] = ()


def conclude(contests: Sequence[PolicyComparison], failed: Sequence[Failed] = ()) -> Results:
    """What the contests mean; ``failed`` are the workloads that had none."""
    return attrs.evolve(_conclude(contests), failed=tuple(failed))


def _conclude(contests: Sequence[PolicyComparison]) -> Results:
    workloads = tuple(_conclude_one(contest) for contest in contests)
    if len(workloads) == 1:
        return Results(workloads, workloads[0].standings, workloads[0].verdict)
    if not _are_alike(contests):
        return Results(workloads, (), None)
    together = overall([workload.standings for workload in workloads])
    return Results(workloads, tuple(together), judge(together, contests))


def _are_alike(contests: Sequence[PolicyComparison]) -> bool:
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


def _conclude_one(contest: PolicyComparison) -> WorkloadResults:
    standings = standings_of(contest)
    return WorkloadResults(
        contest,
        tuple(standings),
        judge(standings, [contest]),
        measure_accuracy(contest.arena),
        tuple(find_worst(contest.arena, contest.entry("kedastral").shown)),
        slo_result_of(contest),
    )


# --- The figures of a policy as the cells of a table, the same in the terminal and in the report.

FIGURES = (
    "cost / oracle",
    "unserved %",
    "minutes short",
    "pod-hours",
    "scale events",
    "unserved x",
    "minutes x",
    "cost x",
)
AS_SET = "Each policy as it is set; the verdict compares at the same cost"
"""What must be said beside every table: two rows differ in cost and in service at once."""
FOOT = (
    "unserved x, minutes x: at the pod-hours of the HPA at 80 %, as ratios to its own; cost x: the pod-hours it takes "
    "to be short in as few minutes. Below 1 is better; - means that no setting gets there."
)


OF_EACH = "Kedastral on each workload, at that one's own settings"
"""What the table is called that has a row for each workload."""
NOT_ALIKE = "The workloads differ in their settings: there is no verdict on all of them together, each has its own."


def policy_name(contestant: Contestant) -> str:
    """The policy and its setting, as people would say it."""
    shown = contestant.shown
    return {
        "kedastral": f"kedastral, {contestant.knob} {shown:g}",
        "hpa": f"HPA at {shown * 100:g} %",
        "far-end": f"far end only, headroom {shown:g}",
        "last-week": f"last week + HPA at {shown * 100:g} %",
        "fixed": "fixed at the past peak",
    }.get(contestant.name, f"{contestant.name} {shown:g}")


def short_name(contestant: Contestant) -> str:
    """The policy as the tables call it, without its headroom or service level."""
    return policy_name(contestant).partition(",")[0]


def workload_name(workload: WorkloadResults) -> str:
    """The workload, Kedastral's setting there, and what came of the promise if that is one."""
    ours, promise = workload.ours, workload.promise
    setting = f"{workload.name}, {ours.contestant.knob} {ours.contestant.shown:g}"
    if promise is None:
        return setting
    return f"{setting}: {show_percent(promise.reached)} % reached, budget {show_minutes(promise.budget)} min"


def failed_row(failed: Failed) -> tuple[str, ...]:
    """The row of a workload that was not replayed: the reason, and no figure."""
    return (f"{failed.name} was not replayed: {failed.reason}", *("-" for _ in FIGURES))


def standing_cells(standing: PolicyResult) -> tuple[str, ...]:
    """One cell for each of `FIGURES`."""
    point, comparison = standing.point, standing.comparison
    return (
        f"{point.cost:.3f}",
        f"{point.unserved * 100:.3f}",
        f"{standing.minutes:,.0f}",
        f"{standing.pod_hours:,.0f}",
        f"{point.scale_events:,}",
        *(show_ratio(ratio) for ratio in (comparison.unserved, comparison.violation, comparison.cost)),
    )


def oracle_cells(oracle: Outcome) -> tuple[str, ...]:
    """The same for the oracle, which is compared with nobody."""
    unserved, minutes = oracle.unserved_share * 100, oracle.violation_minutes
    return (
        "1.000",
        f"{unserved:.3f}",
        f"{minutes:,.0f}",
        f"{oracle.pod_hours:,.0f}",
        f"{oracle.scale_events:,}",
        "",
        "",
        "",
    )


def show_ratio(ratio: float) -> str:
    """Two digits; a dash for what is out of reach."""
    return f"{ratio:.2f}" if math.isfinite(ratio) else "-"


# --- `write_whole`: a file that is complete, or as it was before.


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to a neighbour of ``path``, then rename; what is no regular file, as a pipe, is written to.

    Whatever interrupts it, no half of a file is left. Raises ConfigError where it cannot be written.
    """
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")
            return
        _write_and_rename(target, text)
    except OSError as error:
        raise ConfigError([f"{path}: must be a file that can be written; got: {error.strerror or error}"]) from error


def _write_and_rename(target: Path, text: str) -> None:
    neighbour = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with neighbour.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(target)
    finally:
        neighbour.unlink(missing_ok=True)


# --- Results as files: every figure as JSON, and what every policy did, step by step, as CSV.

TIMELINE = ("timestamp", "policy", "demand", "recommended", "ordered", "ready", "unserved", "workload")


def write_json(results: Results) -> str:
    """Every figure; null where there is none: a ratio out of reach, a verdict over workloads that are set apart."""
    document = {
        "verdict": None if results.verdict is None else _verdict(results.verdict),
        "policies": [_standing(standing) for standing in results.standings],
        "workloads": [_workload(workload) for workload in results.workloads],
        "failed": [{"workload": one.name, "reason": one.reason} for one in results.failed],
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_timeline(results: Results) -> str:
    """One row for each judged step, policy and workload, at the setting the tables show, the oracle included."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TIMELINE)
    for workload in results.workloads:
        contest = workload.contest
        for entry in contest.entries:
            writer.writerows(_rows(entry.shown, short_name(entry.contestant), workload.name))
        writer.writerows(_rows(contest.oracle, "oracle", workload.name))
    return text.getvalue()


def _rows(outcome: Outcome, policy: str, name: str) -> Iterator[list[object]]:
    supply = outcome.supply
    arrays = (outcome.demand.values, supply.recommended, supply.ordered, supply.ready, supply.unserved)
    for i, values in enumerate(zip(*(array.tolist() for array in arrays), strict=True)):
        yield [_moment(outcome.demand.time_at(i)), policy, *map(_cell, values), name]


def _cell(value: float) -> str:
    """The shortest text that is read as the same number; empty where there is none."""
    return "" if math.isnan(value) else repr(value).removesuffix(".0")


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _workload(workload: WorkloadResults) -> dict[str, Any]:
    contest = workload.contest
    return {
        "workload": workload.name,
        **_trial(contest),
        "verdict": _verdict(workload.verdict),
        "promise": None if workload.promise is None else _promise(workload.promise),
        "policies": [_standing(standing) for standing in workload.standings],
        "accuracy": _accuracy(workload.accuracy),
        "worst": [
            {
                "timestamp": _moment(one.at),
                "lastedSeconds": one.lasted,
                "demand": one.load,
                "ready": one.ready,
                "unserved": one.unserved,
                "reason": one.reason,
            }
            for one in workload.worst
        ],
    }


def _trial(contest: PolicyComparison) -> dict[str, Any]:
    trial, rules = contest.arena.trial, contest.arena.rules
    return {
        "judgedFrom": _moment(trial.judged.start),
        "judgedUntil": _moment(trial.judged.time_at(len(trial.judged))),
        "stepSeconds": trial.demand.step,
        "targetPerPod": trial.target_per_pod,
        "leadTimeSeconds": rules.cluster.lead_time,
        "minReplicas": rules.plan.bounds.min,
        "maxReplicas": rules.plan.bounds.max,
        "oraclePodHours": contest.oracle.pod_hours,
    }


def _promise(promise: SloResult) -> dict[str, Any]:
    return {
        "serviceLevel": promise.level,
        "reached": promise.reached,
        "kept": promise.is_kept,
        "minutesShort": promise.short,
        "minutesJudged": promise.judged,
        "budgetMinutes": promise.budget,
    }


def _standing(standing: PolicyResult) -> dict[str, Any]:
    comparison = standing.comparison
    return {
        "policy": standing.contestant.name,
        "knob": standing.contestant.knob,
        "setting": standing.contestant.shown,
        "costAgainstOracle": standing.point.cost,
        "unserved": standing.point.unserved,
        "violation": standing.point.violation,
        "violationMinutes": standing.minutes,
        "podHours": standing.pod_hours,
        "scaleEvents": standing.point.scale_events,
        "againstHpa80": {
            "unservedAtEqualCost": _finite(comparison.unserved),
            "violationAtEqualCost": _finite(comparison.violation),
            "costAtEqualViolation": _finite(comparison.cost),
        },
        "curve": [
            {"setting": p.knob, "costAgainstOracle": p.cost, "unserved": p.unserved, "violation": p.violation}
            for p in standing.points
        ],
    }


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "wapeAgainstLastValue": _finite(accuracy.ratio),
        "horizons": [
            {"aheadSeconds": ahead, "wape": _finite(ours), "wapeOfLastValue": _finite(naive)}
            for ahead, ours, naive in zip(
                accuracy.ahead.tolist(), accuracy.model.tolist(), accuracy.last_value.tolist(), strict=True
            )
        ],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "outlook": str(verdict.outlook),
        "words": verdict.words,
        "advice": verdict.advice,
        "flags": list(verdict.flags),
        "spec": list(verdict.spec),
        "caution": verdict.caution,
        "remark": verdict.remark,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
