# SPDX-License-Identifier: Apache-2.0
"""`kedastral backtest`: reads the history, replays everybody with a progress bar, prints tables and writes files."""

import importlib.util
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from kedastral.backtest.contest import Arena, Contest, Contestant, contestants, hold_contest, total_weight
from kedastral.backtest.document import write_json, write_timeline
from kedastral.backtest.history import prepare_arenas
from kedastral.backtest.outputs import write_whole
from kedastral.backtest.results import Results, conclude
from kedastral.cli.backtest_tables import print_results
from kedastral.config.backtest_settings import BacktestOutput
from kedastral.config.settings import BacktestSettings
from kedastral.errors import ConfigError

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
    taken = {path.resolve(): f"--csv {path}" for path in settings.history.csv}
    problems = []
    for flag, path in (("--json", output.json), ("--timeline", output.timeline), ("--report", output.report)):
        if path is None:
            continue
        if path.resolve() in taken:
            problems.append(f"{flag} must be a file of its own, got {str(path)!r}, which is {taken[path.resolve()]}")
        taken.setdefault(path.resolve(), f"{flag} {path}")
    if problems:
        raise ConfigError(problems)


def _replay_all(arenas: list[Arena]) -> list[Contest]:
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


def _replay_one(arena: Arena, everyone: Sequence[Contestant], progress: Progress, task: TaskID) -> Contest:
    progress.update(task, description=f"replaying {escape(arena.name)}")
    return hold_contest(arena, everyone, lambda weight: progress.advance(task, weight))


def _write_files(output: BacktestOutput, results: Results) -> None:
    if output.json is not None:
        write_whole(output.json, write_json(results))
    if output.timeline is not None:
        write_whole(output.timeline, write_timeline(results))
    if output.report is not None:
        from kedastral.backtest.page import write_page  # noqa: PLC0415 - matplotlib is an extra

        write_whole(output.report, write_page(results))
