# SPDX-License-Identifier: Apache-2.0
"""Results as files: every figure as JSON, and what every policy did, step by step, as CSV."""

import csv
import io
import json
import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from kedastral.backtest.accuracy import Accuracy
from kedastral.backtest.comparison import Standing
from kedastral.backtest.contest import Contest
from kedastral.backtest.promise import Promise
from kedastral.backtest.results import Results, WorkloadResults
from kedastral.backtest.rows import short_name
from kedastral.backtest.verdict import Verdict
from kedastral.simulation.outcome import Outcome

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


def _trial(contest: Contest) -> dict[str, Any]:
    trial, rules = contest.arena.trial, contest.arena.rules
    return {
        "judgedFrom": _moment(trial.judged.start),
        "judgedUntil": _moment(trial.judged.time_at(len(trial.judged))),
        "stepSeconds": trial.demand.step,
        "targetPerPod": trial.target_per_pod,
        "leadTimeSeconds": rules.cluster.lead_time,
        "minReplicas": rules.plan.bounds.fewest,
        "maxReplicas": rules.plan.bounds.most,
        "oraclePodHours": contest.oracle.pod_hours,
    }


def _promise(promise: Promise) -> dict[str, Any]:
    return {
        "serviceLevel": promise.level,
        "reached": promise.reached,
        "kept": promise.is_kept,
        "minutesShort": promise.short,
        "minutesJudged": promise.judged,
        "budgetMinutes": promise.budget,
    }


def _standing(standing: Standing) -> dict[str, Any]:
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
