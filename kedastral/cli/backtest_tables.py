# SPDX-License-Identifier: Apache-2.0
"""The tables of a backtest, and its verdict, as a terminal shows them."""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kedastral.backtest.comparison import Standing
from kedastral.backtest.contest import Contest
from kedastral.backtest.results import Results, WorkloadResults
from kedastral.backtest.rows import FIGURES, FOOT, oracle_cells, policy_name, standing_cells
from kedastral.config.units import write_duration


def print_results(console: Console, results: Results) -> None:
    """A table a workload, one of all together, and the verdict."""
    several = len(results.workloads) > 1
    for workload in results.workloads:
        console.print(_table_of(workload))
        console.print(Text(_forecast_words(workload), style="dim"))
        if several:
            console.print(Text(workload.verdict.words))
    if several:
        console.print(_table(f"all {len(results.workloads)} workloads", results.standings))
    console.print(Text(FOOT, style="dim"))
    console.print(Text(results.verdict.words, style="bold"))
    console.print(Text(results.verdict.advice))
    if results.verdict.remark:
        console.print(Text(results.verdict.remark))


def _table_of(workload: WorkloadResults) -> Table:
    contest = workload.contest
    table = _table(_title(contest), workload.standings)
    table.add_row("oracle (sees the future)", *oracle_cells(contest.oracle))
    return table


def _title(contest: Contest) -> str:
    trial, rules = contest.arena.trial, contest.arena.rules
    judged = trial.judged
    gaps = f", {trial.gaps} of {len(judged)} steps were gaps" if trial.gaps else ""
    return (
        f"{contest.arena.name}: {write_duration(len(judged) * judged.step)} from {judged.start:%Y-%m-%d %H:%M} UTC, "
        f"{trial.target_per_pod:.4g} a pod, lead {write_duration(rules.cluster.lead_time)}{gaps}"
    )


def _table(title: str, standings: Sequence[Standing]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("policy", no_wrap=True)
    for column in FIGURES:
        table.add_column(column, justify="right")
    for standing in standings:
        table.add_row(policy_name(standing.contestant), *standing_cells(standing))
    return table


def _forecast_words(workload: WorkloadResults) -> str:
    ratio = workload.accuracy.ratio
    if not math.isfinite(ratio):
        return "forecasts: too little load to say how good they were"
    model = workload.contest.arena.model.name
    return f"forecasts of {model}, 5 to 15 minutes ahead: {ratio:.2f} times the error of repeating the last value"
