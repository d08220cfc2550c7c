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
from kedastral.backtest.rows import (
    AS_SET,
    FIGURES,
    FOOT,
    NOT_ALIKE,
    OF_EACH,
    failed_row,
    oracle_cells,
    policy_name,
    standing_cells,
    workload_name,
)
from kedastral.backtest.verdict import Verdict
from kedastral.config.units import write_duration

Row = tuple[str, ...]
"""A policy's name and one cell for each of `FIGURES`."""
NARROWEST_NAME = 12
BETWEEN = 3
"""Characters between two columns."""
BLOCKS = (
    (range(8),),
    (range(5), range(5, 8)),
    (range(3), range(3, 5), range(5, 8)),
    tuple(range(i, i + 1) for i in range(8)),
)
"""How the columns of `FIGURES` may be split into tables below each other, the widest first: no figure is ever cut."""


def print_results(console: Console, results: Results) -> None:
    """A table a workload, one of all together, and the verdict."""
    several = len(results.workloads) > 1
    for workload in results.workloads:
        _print_workload(console, workload)
        console.print(Text(_forecast_words(workload), style="dim"))
        if several:
            console.print(Text(workload.verdict.words))
    if several or results.failed:
        rows = [*(_row_of(workload) for workload in results.workloads), *(failed_row(one) for one in results.failed)]
        print_tables(console, OF_EACH, rows, "workload")
    if several and results.standings:
        which = f"the {len(results.workloads)} that were replayed" if results.failed else None
        print_tables(console, which or f"all {len(results.workloads)} workloads", _rows_of(results.standings))
    console.print(Text(FOOT, style="dim"))
    _print_verdict(console, results.verdict)


def _print_verdict(console: Console, verdict: Verdict | None) -> None:
    if verdict is None:
        console.print(Text(NOT_ALIKE, style="bold"))
        return
    console.print(Text(verdict.words, style="bold"))
    console.print(Text(verdict.advice))
    if verdict.remark:
        console.print(Text(verdict.remark))


def _print_workload(console: Console, workload: WorkloadResults) -> None:
    contest = workload.contest
    oracle = ("oracle (sees the future)", *oracle_cells(contest.oracle))
    print_tables(console, _title(contest), [*_rows_of(workload.standings), oracle])
    console.print(Text(f"{AS_SET}.", style="dim"))
    if workload.promise is not None:
        console.print(Text(f"kedastral: {workload.promise.words}"))


def _title(contest: Contest) -> str:
    trial, rules = contest.arena.trial, contest.arena.rules
    judged = trial.judged
    gaps = f", {trial.gaps} of {len(judged)} steps were gaps" if trial.gaps else ""
    return (
        f"{contest.arena.name}: {write_duration(len(judged) * judged.step)} from {judged.start:%Y-%m-%d %H:%M} UTC, "
        f"{trial.target_per_pod:.4g} a pod, lead {write_duration(rules.cluster.lead_time)}{gaps}"
    )


def _row_of(workload: WorkloadResults) -> Row:
    """One workload among several: what Kedastral would have done."""
    return (workload_name(workload), *standing_cells(workload.ours))


def _rows_of(standings: Sequence[Standing]) -> list[Row]:
    return [(policy_name(standing.contestant), *standing_cells(standing)) for standing in standings]


def print_tables(console: Console, title: str, rows: Sequence[Row], whose: str = "policy") -> None:
    """One table where the console is wide enough for every figure, else several below each other."""
    console.print(Text(title, style="bold"))
    blocks = next(
        (blocks for blocks in BLOCKS if all(_width(rows, one) <= console.width for one in blocks)), BLOCKS[-1]
    )
    for columns in blocks:
        console.print(_table(rows, columns, whose))


def _width(rows: Sequence[Row], columns: Sequence[int]) -> int:
    """The characters that a table with a wrapped name needs; rich would rather cut than say so."""
    return NARROWEST_NAME + 2 + sum(_widest(rows, column) + BETWEEN for column in columns)


def _widest(rows: Sequence[Row], column: int) -> int:
    return max(len(line) for line in (*_heading(column).split("\n"), *(row[column + 1] for row in rows)))


def _heading(column: int) -> str:
    return FIGURES[column].replace(" ", "\n", 1)


def _table(rows: Sequence[Row], columns: Sequence[int], whose: str) -> Table:
    """Some figures of every row. Where the console is narrow, the name of the row is wrapped, and no figure."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(whose, overflow="fold", min_width=NARROWEST_NAME)
    for column in columns:
        table.add_column(_heading(column), justify="right", no_wrap=True, min_width=_widest(rows, column))
    for row in rows:
        table.add_row(Text(row[0]), *(row[column + 1] for column in columns))
    return table


def _forecast_words(workload: WorkloadResults) -> str:
    ratio = workload.accuracy.ratio
    if not math.isfinite(ratio):
        return "forecasts: too little load to say how good they were"
    model = workload.contest.arena.model.name
    return f"forecasts of {model}, 5 to 15 minutes ahead: {ratio:.2f} times the error of repeating the last value"
