# SPDX-License-Identifier: Apache-2.0
"""`kedastral backtest`: reads the history, replays everybody with a progress bar, prints tables and writes files."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kedastral.backtest.comparison import (
    Contestant,
    PolicyComparison,
    PolicyResult,
    Scenario,
    compare_policies,
    contestants,
    total_weight,
)
from kedastral.backtest.results import (
    AS_SET,
    FIGURES,
    FOOT,
    NOT_ALIKE,
    OF_EACH,
    Results,
    WorkloadResults,
    conclude,
    failed_row,
    oracle_cells,
    policy_name,
    standing_cells,
    workload_name,
    write_json,
    write_timeline,
    write_whole,
)
from kedastral.backtest.verdict import Verdict
from kedastral.backtest.workloads import prepare_arenas
from kedastral.errors import ConfigError
from kedastral.settings.declarations import BacktestOutput, BacktestSettings
from kedastral.settings.types import write_duration

# --- The tables of a backtest, and its verdict, as a terminal shows them.

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


def _title(contest: PolicyComparison) -> str:
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


def _rows_of(standings: Sequence[PolicyResult]) -> list[Row]:
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


PLAIN_WIDTH = 120
"""Of the tables where the output is no terminal."""

LEAST_WIDTH = 40
"""Of the tables in a terminal; one that is narrower wraps the lines itself, and still shows every figure."""


def run_backtest(settings: BacktestSettings) -> list[str]:
    """All of it; a line for each of several workloads that could not be replayed, while the others were.

    Raises ConfigError for what the user must change; files are written last, each whole or not.
    """
    _require_plots(settings.output)
    _require_separate_files(settings)
    arenas, failed = prepare_arenas(settings)
    lines = [f"{one.name}: {one.reason}" for one in failed]
    if not arenas:
        return lines
    results = conclude(_replay_all(arenas), failed)
    console = Console()
    print_results(Console(width=max(console.width, LEAST_WIDTH) if console.is_terminal else PLAIN_WIDTH), results)
    _write_files(settings.output, results)
    return lines


def _require_plots(output: BacktestOutput) -> None:
    """Said before minutes of computing, not after."""
    if output.report is not None and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(["--report needs matplotlib for its plots; install it with: pip install matplotlib"])


def _require_separate_files(settings: BacktestSettings) -> None:
    """No output may take the place of the history, nor of another output, under whatever name."""
    output = settings.output
    taken: dict[Path, str] = {path.resolve(): f"--csv {path}" for path in settings.history.csv}
    problems = []
    for flag, path in (("--json", output.json), ("--timeline", output.timeline), ("--report", output.report)):
        if path is None:
            continue
        if path.resolve() in taken:
            problems.append(f"{flag} must be a file of its own, got {str(path)!r}, which is {taken[path.resolve()]}")
        taken.setdefault(path.resolve(), f"{flag} {path}")
    if problems:
        raise ConfigError(problems)


def _replay_all(arenas: list[Scenario]) -> list[PolicyComparison]:
    entered = [(arena, contestants(arena.rules.plan.headroom, arena.rules.service_level)) for arena in arenas]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("replaying", total=sum(total_weight(everyone) for _, everyone in entered))
        return [_replay_one(arena, everyone, progress, task) for arena, everyone in entered]


def _replay_one(arena: Scenario, everyone: Sequence[Contestant], progress: Progress, task: TaskID) -> PolicyComparison:
    progress.update(task, description=f"replaying {escape(arena.name)}")
    return compare_policies(arena, everyone, lambda weight: progress.advance(task, weight))


def _write_files(output: BacktestOutput, results: Results) -> None:
    if output.json is not None:
        write_whole(output.json, write_json(results))
    if output.timeline is not None:
        write_whole(output.timeline, write_timeline(results))
    if output.report is not None:
        from kedastral.backtest.report import write_page  # noqa: PLC0415 - matplotlib is an extra

        write_whole(output.report, write_page(results))
