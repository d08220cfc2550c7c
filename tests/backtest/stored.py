# SPDX-License-Identifier: Apache-2.0
"""Results of a backtest as numbers, without the load: they are enough for the verdict and the table."""

import json
from pathlib import Path
from typing import Any

import attrs

from kedastral.backtest.comparison import PolicyResult, compare_with_hpa, policies_to_compare
from kedastral.backtest.decision import decide
from kedastral.backtest.tables import Row, policy_rows
from kedastral.backtest.totals import JudgedPoints
from kedastral.backtest.verdict import Verdict, VerdictWords, is_steered
from kedastral.simulation.curves import Point

FIGURES = ("setting", "costAgainstOracle", "unserved", "violation")


@attrs.frozen
class StoredResults:
    """One workload: the minutes judged, the oracle's pod-hours, and the points of every policy by its name."""

    minutes: float
    oracle_pod_hours: float
    points: dict[str, tuple[Point, ...]]
    service_level: float | None = 0.99

    @property
    def policies(self) -> list[PolicyResult]:
        """The results of every policy, at the settings that the tables show."""
        hpa = next(point for point in self.points["hpa"] if point.knob == 0.8)
        return [
            PolicyResult(
                policy,
                next(point for point in self.points[policy.name] if point.knob == policy.shown),
                self.points[policy.name],
                0.0,
                0.0,
                compare_with_hpa(self.points[policy.name], hpa),
            )
            for policy in policies_to_compare(1.2, self.service_level)
            if policy.name in self.points
        ]

    @property
    def judged(self) -> list[JudgedPoints]:
        """The same for the verdict."""
        return [JudgedPoints(self.minutes, self.oracle_pod_hours, self.points)]

    def write_verdict(self, *flags: str) -> Verdict:
        """The verdict, with ``flags`` as the settings to run."""
        policies = self.policies
        return VerdictWords(decide(policies, minutes=self.minutes), self.judged, is_steered(policies)).write(
            flags or ("FLAGS",)
        )

    def write_rows(self) -> list[Row]:
        """The table, without the oracle."""
        return policy_rows(self.policies, self.write_verdict().named, self.judged)


def read_results(document: dict[str, Any]) -> StoredResults:
    """The results of the first workload in the output of ``--json``."""
    one = document["workloads"][0]
    points = {
        policy["policy"]: tuple(Point(*(point[name] for name in FIGURES)) for point in policy["curve"])
        for policy in one["policies"]
    }
    return StoredResults(one["slo"]["minutesJudged"], one["oraclePodHours"], points, one["slo"]["serviceLevel"])


def compact(results: StoredResults) -> str:
    """The results as a small JSON document; `read_compact` reads it."""
    points = {
        name: [[float(f"{value:.7g}") for value in (one.knob, one.cost, one.unserved, one.violation)] for one in of_one]
        for name, of_one in results.points.items()
    }
    head = {
        "minutes": results.minutes,
        "oraclePodHours": round(results.oracle_pod_hours, 3),
        "level": results.service_level,
    }
    lines = ",\n".join(f'  "{name}": {json.dumps(of_one)}' for name, of_one in points.items())
    return json.dumps(head)[:-1] + f', "points": {{\n{lines}\n}}}}\n'


def read_compact(path: Path) -> StoredResults:
    """What `compact` wrote."""
    document = json.loads(path.read_text())
    points = {name: tuple(Point(*point) for point in of_one) for name, of_one in document["points"].items()}
    return StoredResults(document["minutes"], document["oraclePodHours"], points, document["level"])
