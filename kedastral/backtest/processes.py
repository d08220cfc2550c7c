# SPDX-License-Identifier: Apache-2.0
"""`compare_in_processes`: compares policies in several processes, with the same results as in one.

A model must make its forecasts in order. So the first replay of a workload makes them all and saves them to a file. The
other replays read that file and run in parallel, each process (`kedastral.backtest.worker`) with a part of them.
Cost: each process takes about 100 MB. The time is that of the first replay, plus that of all others divided by the
number of processes.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import trio

from kedastral.backtest.comparison import (
    PlannedComparison,
    PolicyComparison,
    ReplayedSetting,
    compare_policies,
    comparison_of,
)
from kedastral.errors import ConfigError
from kedastral.simulation.replay import Outcome

MOST_BY_DEFAULT = 8
"""Processes. More take memory and gain little: the first replay runs alone."""
WORTH_MORE, PART = 400_000.0, 100_000.0
"""Weights of replays times their steps: the least that is worth several processes, about 20 s of work, and the least
that is worth one, about 5 s. Starting a process takes nearly a second."""
START = "import sys; sys.path[:] = {path!r}; from kedastral.backtest import worker; worker.main(*sys.argv[1:])"
"""The program of a process. It imports what this process would, whatever lies in the current directory."""
REFUSED = 2
"""Exit code of a process that names what the user must change."""
DONE = b"done "
"""What begins a line that says how much has been done. A process may print other things: its environment may."""


class ReplayProcessError(Exception):
    """A process ended with a bug; the message contains its traceback."""


@attrs.frozen
class Replays:
    """Some replays of one comparison; ``numbers`` are their indices in `PlannedComparison.settings`.

    ``file`` holds the comparison, with its forecasts once the first replay has made them.
    """

    file: Path
    numbers: tuple[int, ...]

    @property
    def results(self) -> Path:
        """The file of their results."""
        return self.file.with_suffix(f".{self.numbers[0]}")

    @property
    def command(self) -> list[str]:
        """The command of the process that replays them."""
        program = START.format(path=sys.path)
        return [sys.executable, "-I", "-c", program, str(self.file), *map(str, self.numbers)]


@attrs.frozen
class HeldComparison:
    """What the processes of a comparison share: the model of ``planned`` holds all forecasts."""

    planned: PlannedComparison
    oracle: Outcome


def usable_cores() -> int:
    """The processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs(planned: Iterable[PlannedComparison]) -> int:
    """The default of --jobs: one process per core, `MOST_BY_DEFAULT` at most; one alone for a few seconds of work."""
    work = sum(each.weight * each.scenario.trial.replayed_steps for each in planned)
    return min(usable_cores(), MOST_BY_DEFAULT) if work >= WORTH_MORE else 1


def compare_in_processes(
    planned: Sequence[PlannedComparison], jobs: int, advance: Callable[[float], None] = lambda _: None
) -> list[PolicyComparison]:
    """Replay every policy on its workload, in up to ``jobs`` processes; if that is 1, in this process.

    ``advance`` gets the weight of what has been done; the sum is the weight of all. SIGTERM raises SystemExit. Raises
    ConfigError if a process was killed or cannot be started, or if there is no room for temporary files, and
    ReplayProcessError if a process ended with a bug.
    """
    if jobs == 1:
        return [compare_policies(each.scenario, each.policies, advance) for each in planned]
    try:
        with TemporaryDirectory(prefix="kedastral-backtest-") as folder:
            return trio.run(_compare_all, Path(folder), planned, jobs, advance)
    except BaseExceptionGroup as group:
        raise _reported_of(group) from None
    except OSError as error:
        raise ConfigError([_describe(error)]) from error


def _reported_of(group: BaseException) -> BaseException:
    """The error in ``group`` that is reported: the end that somebody asked for, else the first."""
    leaves = _leaves_of(group)
    error = next((each for each in leaves if not isinstance(each, Exception)), leaves[0])
    return ConfigError([_describe(error)]) if isinstance(error, OSError) else error


def _leaves_of(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in _leaves_of(each)]


def _describe(error: OSError) -> str:
    return f"--jobs must be smaller here, or 1, which needs no other process; got: {error.strerror or error}"


async def _compare_all(
    folder: Path, planned: Sequence[PlannedComparison], jobs: int, advance: Callable[[float], None]
) -> list[PolicyComparison]:
    files = [folder / f"{place}.comparison" for place in range(len(planned))]
    limiter = trio.CapacityLimiter(jobs)
    async with trio.open_nursery() as ending:
        ending.start_soon(_end_on_signals)
        async with trio.open_nursery() as nursery:
            for file, each in zip(files, planned, strict=True):
                nursery.start_soon(_compare, file, each, limiter, advance)
        compared = [_gather(file) for file in files]
        ending.cancel_scope.cancel()
    return compared


async def _end_on_signals() -> None:
    """Exit on SIGTERM, and when the terminal is closed, but not on a signal that is ignored, as under nohup."""
    ending = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    if not ending:
        return
    with trio.open_signal_receiver(*ending) as got:
        async for number in got:
            raise SystemExit(128 + number)


async def _compare(
    file: Path, planned: PlannedComparison, limiter: trio.CapacityLimiter, advance: Callable[[float], None]
) -> None:
    write_own(file, planned)
    await _replay(Replays(file, (0,)), limiter, advance)
    async with trio.open_nursery() as nursery:
        for numbers in parts_of(planned):
            nursery.start_soon(_replay, Replays(file, numbers), limiter, advance)


def parts_of(planned: PlannedComparison) -> list[tuple[int, ...]]:
    """The indices of all replays but the first, in parts of at least the work `PART`, the last one excepted."""
    parts: list[tuple[int, ...]] = []
    part: list[int] = []
    work = 0.0
    for number, (policy, _) in enumerate(planned.settings[1:], 1):
        part.append(number)
        work += policy.weight * planned.scenario.trial.replayed_steps
        if work >= PART:
            parts.append(tuple(part))
            part, work = [], 0.0
    return [*parts, tuple(part)] if part else parts


async def _replay(replays: Replays, limiter: trio.CapacityLimiter, advance: Callable[[float], None]) -> None:
    """Run the process for ``replays``. Cancelling this kills it; it also ends if this process dies."""
    errors = bytearray()
    async with limiter, trio.open_nursery() as nursery:
        run = partial(
            trio.run_process, replays.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None  # noqa: S101 - both are pipes
        assert process.stderr is not None  # noqa: S101
        nursery.start_soon(_pass_on, process.stdout, advance)
        async for some in process.stderr:
            errors += some
    if process.returncode == REFUSED:
        raise ConfigError([errors.decode(errors="replace").strip()])
    if process.returncode == -signal.SIGKILL:
        raise ConfigError(["--jobs must be smaller: a process was killed, as where memory runs out"])
    if process.returncode:
        raise ReplayProcessError(f"exit code {process.returncode}: {errors.decode(errors='replace')}")


async def _pass_on(progress: trio.abc.ReceiveStream, advance: Callable[[float], None]) -> None:
    """Call ``advance`` with the weight of what has been done, as the process prints it line by line."""
    line = b""
    async for some in progress:
        *whole, line = (line + some).split(b"\n")
        advance(sum(float(each.removeprefix(DONE)) for each in whole if each.startswith(DONE)))


def _gather(file: Path) -> PolicyComparison:
    held: HeldComparison = read_own(file)
    parts = [(0,), *parts_of(held.planned)]
    found: list[ReplayedSetting] = [one for part in parts for one in read_own(Replays(file, part).results)]
    return comparison_of(held.planned, held.oracle, found)


def read_own(file: Path) -> Any:
    """What another process of this backtest wrote to ``file``."""
    return pickle.loads(file.read_bytes())  # noqa: S301 - the folder is ours alone


def write_own(file: Path, whatever: object) -> None:
    """Write ``whatever`` to ``file`` for another process of this backtest. Raises ConfigError if there is no room."""
    try:
        file.write_bytes(pickle.dumps(whatever))
    except OSError as error:
        words = f"the temporary folder {file.parents[1]} must take the forecasts; got: {error.strerror or error}"
        raise ConfigError([f"{words}. TMPDIR names another, and --jobs 1 needs none"]) from error
