# SPDX-License-Identifier: Apache-2.0
"""`kedastral backtest`: replays the history with a progress bar, prints tables and the verdict, writes files."""

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import attrs
import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kedastral.backtest.comparison import PlannedComparison, PolicyComparison, policies_for
from kedastral.backtest.processes import compare_in_processes, default_jobs
from kedastral.backtest.report import write_page
from kedastral.backtest.results import BacktestResults, WorkloadResults, evaluate, write_json, write_timeline
from kedastral.backtest.tables import (
    AS_SET,
    FIGURES,
    FOOT,
    NOT_ALIKE,
    OF_EACH,
    Row,
    describe_gaps,
    describe_left_out,
    describe_pipeline,
    describe_stale,
    rows_of_all,
    rows_of_each,
    rows_of_one,
)
from kedastral.backtest.workloads import Scenario, prepare_scenarios
from kedastral.errors import ConfigError
from kedastral.settings.commands import BacktestSettings
from kedastral.settings.declarations import BacktestOutput
from kedastral.settings.types import write_duration
from kedastral.text import one_line

PLAIN_WIDTH = 120
"""The width of the tables if the output is not a terminal."""
MIN_WIDTH = 40
"""The minimum width of the tables in a terminal. A narrower one wraps the lines but still shows every figure."""
MIN_NAME_WIDTH = 12
SECONDS_BETWEEN_LINES = 60.0
"""How often a line says how far the replay is if stderr is not a terminal."""
COLUMN_GAP = 3
"""Characters between two columns."""
BLOCKS = (
    (range(8),),
    (range(4), range(4, 8)),
    tuple(range(i, i + 2) for i in range(0, 8, 2)),
    tuple(range(i, i + 1) for i in range(8)),
)
"""Ways to split the columns of `FIGURES` into stacked tables so that no figure is cut, the widest first."""


def run_backtest(settings: BacktestSettings) -> list[str]:
    """Run the whole backtest. Returns a line for each workload that could not be replayed while others were.

    Raises ConfigError for what the user must change. Files are written last, each completely or not at all.
    """
    _require_separate_files(settings)
    with _waiting("reading the history …"):
        scenarios, failed = prepare_scenarios(settings)
    lines = [f"{one.workload}: {one.reason}" for one in failed]
    if not scenarios:
        return lines
    for scenario in scenarios:
        for remark in scenario.remarks:
            click.echo(f"kedastral: {one_line(f'{scenario.name}: {remark}', None)}", err=True)
    comparisons = _replay_all(scenarios, settings.processes.jobs)
    with _waiting("measuring the forecasts …"):
        results = evaluate(comparisons, failed)
    console = Console()
    try:
        print_results(Console(width=max(console.width, MIN_WIDTH) if console.is_terminal else PLAIN_WIDTH), results)
    except SystemExit:  # the reader of the output is gone; write the files anyway
        _write_files(settings.output, results)
        raise
    _write_files(settings.output, results)
    return lines


def _require_separate_files(settings: BacktestSettings) -> None:
    """No output may overwrite the history or another output, under any name."""
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


def _waiting(words: str) -> AbstractContextManager[object]:
    """Shows ``words`` as a status while the block runs, on a terminal only."""
    console = Console(stderr=True)
    return console.status(words) if console.is_terminal else nullcontext()


def _replay_all(scenarios: Sequence[Scenario], jobs: int | None) -> list[PolicyComparison]:
    planned = [PlannedComparison(one, policies_for(one)) for one in scenarios]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    name = scenarios[0].name if len(scenarios) == 1 else f"{len(scenarios)} workloads"
    total, count = sum(one.weight for one in planned), jobs or default_jobs(planned)
    if not console.is_terminal:
        return compare_in_processes(planned, count, ProgressLines(name, total).advance)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"replaying {escape(name)}", total=total)
        return compare_in_processes(planned, count, lambda weight: progress.advance(task, weight))


@attrs.define
class ProgressLines:
    """Says on stderr, a line a minute, how much of ``total`` has been replayed; ``now`` is a clock in seconds."""

    name: str
    total: float
    now: Callable[[], float] = time.monotonic
    _done: float = attrs.field(default=0.0, init=False)
    _said_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._said_at = self.now()

    def advance(self, weight: float) -> None:
        """Add what has been done, and say so if a minute has passed since the last line."""
        self._done += weight
        moment = self.now()
        if moment - self._said_at < SECONDS_BETWEEN_LINES:
            return
        self._said_at = moment
        share = min(99, math.floor(self._done / self.total * 100))
        click.echo(one_line(f"kedastral: replaying {self.name}: {share} %", None), err=True)


def print_results(console: Console, results: BacktestResults) -> None:
    """A table for each workload, one for all together, and the verdict."""
    several = len(results.workloads) > 1
    for workload in results.workloads:
        _print_workload(console, workload)
        if several:
            console.print(Text(workload.verdict.words))
    if several or results.failed:
        print_tables(console, OF_EACH, rows_of_each(results), "workload")
    if several and results.policies:
        which = f"the {len(results.workloads)} that were replayed" if results.failed else None
        print_tables(console, which or f"all {len(results.workloads)} workloads", rows_of_all(results))
    console.print(Text(FOOT, style="dim"))
    if results.verdict is None:
        console.print(Text(NOT_ALIKE, style="bold"))
        return
    console.print(Text(results.verdict.words, style="bold"))
    console.print(Text(results.verdict.advice))
    if results.verdict.remark:
        console.print(Text(results.verdict.remark))


def _print_workload(console: Console, workload: WorkloadResults) -> None:
    print_tables(console, _title(workload.comparison.scenario), rows_of_one(workload))
    console.print(Text(f"{AS_SET}.", style="dim"))
    comparison = workload.comparison
    for line in (
        describe_left_out(comparison),
        describe_gaps(comparison),
        describe_stale(comparison),
        describe_pipeline(comparison.scenario.trial),
    ):
        if line:
            console.print(Text(line))
    if workload.slo is not None:
        console.print(Text(f"kedastral: {workload.slo.words}"))
    console.print(Text(_describe_accuracy(workload), style="dim"))


def _title(scenario: Scenario) -> str:
    trial, judged = scenario.trial, scenario.trial.judged
    return (
        f"{scenario.name}: {write_duration(len(judged) * judged.step)} from {judged.start:%Y-%m-%d %H:%M} UTC, "
        f"{trial.target_per_pod:.4g} a pod, lead {write_duration(scenario.settings.cluster.lead_time)}"
    )


def _describe_accuracy(workload: WorkloadResults) -> str:
    ratio = workload.accuracy.ratio
    if not math.isfinite(ratio):
        return "forecasts: too little load to measure their accuracy"
    model = workload.comparison.scenario.model.name
    return f"forecasts of {model}, 5 to 15 minutes ahead: {ratio:.2f} times the error of a naive forecast"


def print_tables(console: Console, title: str, rows: Sequence[Row], heading: str = "policy") -> None:
    """One table if the console is wide enough for every figure, else several, stacked.

    ``heading`` is the title of the column with the names of the rows.
    """
    console.print(Text(title, style="bold"))
    blocks = next(
        (blocks for blocks in BLOCKS if all(_table_width(rows, one) <= console.width for one in blocks)), BLOCKS[-1]
    )
    for columns in blocks:
        console.print(_make_table(rows, columns, heading))


def _table_width(rows: Sequence[Row], columns: Sequence[int]) -> int:
    """The characters that a table with wrapped names needs, computed here because rich truncates figures silently."""
    return MIN_NAME_WIDTH + 2 + sum(_column_width(rows, column) + COLUMN_GAP for column in columns)


def _column_width(rows: Sequence[Row], column: int) -> int:
    return max(len(line) for line in (*_column_title(column).split("\n"), *(row[column + 1] for row in rows)))


def _column_title(column: int) -> str:
    return FIGURES[column].replace(" ", "\n", 1)


def _make_table(rows: Sequence[Row], columns: Sequence[int], heading: str) -> Table:
    """A table of some figures of every row. On a narrow console names are wrapped, figures never are."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(heading, overflow="fold", min_width=MIN_NAME_WIDTH)
    for column in columns:
        width = _column_width(rows, column)
        table.add_column(_column_title(column), justify="right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(Text(row[0]), *(row[column + 1] for column in columns))
    return table


def _write_files(output: BacktestOutput, results: BacktestResults) -> None:
    if output.json is not None:
        write_whole(output.json, write_json(results))
    if output.timeline is not None:
        write_whole(output.timeline, write_timeline(results))
    if output.report is not None:
        write_whole(output.report, write_page(results))


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to a temporary file beside ``path`` and rename it, so that an interruption leaves no partial file.

    A path that is not a regular file, such as a pipe, is written to directly. Raises ConfigError if writing fails.
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
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
