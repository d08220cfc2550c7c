# SPDX-License-Identifier: Apache-2.0
"""`compare_in_processes`: several comparisons of policies in several processes; the results are those of one.

A model makes its forecasts one after the other, so the first replay of a workload makes them, and leaves them in a
file. Its other replays read them there, and run side by side: each process (``python -m kedastral.backtest``) has a
part of them. What it costs: each process takes about 100 MB; the time is that of the first replay and, divided by the
processes, of all others.
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
"""Processes; more of them take memory, and gain little beside the first replay."""
WORTH_MORE = 100_000.0
"""Weights of replays times their steps, about ten seconds, from which on more processes than one are worth a start."""
PART = 20.0
"""The weight of the replays that are one process's part, that of a steered one: starting a process takes a second."""


class ReplayProcessError(Exception):
    """A process ended by a bug; the message has its traceback."""


@attrs.frozen
class Replays:
    """Some replays of one comparison, by their ``numbers`` in `PlannedComparison.settings`.

    ``file`` has the comparison and gets the results; only the first replay, alone, finds no forecasts there.
    """

    file: Path
    numbers: tuple[int, ...]

    @property
    def results(self) -> Path:
        """The file for what they find."""
        return self.file.with_suffix(f".{self.numbers[0]}")

    @property
    def command(self) -> list[str]:
        """The process that replays them."""
        return [sys.executable, "-m", "kedastral.backtest", str(self.file), *map(str, self.numbers)]


@attrs.frozen
class HeldComparison:
    """What the processes share of a comparison; the model of ``planned`` has its forecasts once one was replayed."""

    planned: PlannedComparison
    oracle: Outcome


def usable_cores() -> int:
    """The processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs(planned: Iterable[PlannedComparison]) -> int:
    """How many processes replay unless somebody says otherwise: one for each core, `MOST_BY_DEFAULT` at most.

    A few seconds' work is done in this one.
    """
    work = sum(each.weight * each.scenario.trial.replayed_steps for each in planned)
    return min(usable_cores(), MOST_BY_DEFAULT) if work >= WORTH_MORE else 1


def compare_in_processes(
    planned: Sequence[PlannedComparison], jobs: int, advance: Callable[[float], None] = lambda _: None
) -> list[PolicyComparison]:
    """Replay every policy on its workload, in ``jobs`` processes at a time; in this one where that is 1.

    ``advance`` is called as it goes on, altogether with the weight of all. SIGTERM raises SystemExit. Raises
    ConfigError where a process was killed, ReplayProcessError where it ended by a bug.
    """
    if jobs == 1:
        return [compare_policies(each.scenario, each.policies, advance) for each in planned]
    with TemporaryDirectory(prefix="kedastral-backtest-") as folder:
        try:
            return trio.run(_compare_all, Path(folder), planned, jobs, advance)
        except BaseExceptionGroup as group:
            raise _first_of(group) from None


def _first_of(error: BaseException) -> BaseException:
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _compare_all(
    folder: Path, planned: Sequence[PlannedComparison], jobs: int, advance: Callable[[float], None]
) -> list[PolicyComparison]:
    files = [folder / f"{place}.comparison" for place in range(len(planned))]
    limiter = trio.CapacityLimiter(jobs)
    async with trio.open_nursery() as ending:
        ending.start_soon(_end_on_sigterm)
        async with trio.open_nursery() as nursery:
            for file, each in zip(files, planned, strict=True):
                nursery.start_soon(_compare, file, each, limiter, advance)
        ending.cancel_scope.cancel()
    return [_gather(file) for file in files]


async def _end_on_sigterm() -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for number in signals:
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
    """The numbers of all replays but the first, in parts of about the weight `PART`."""
    parts: list[tuple[int, ...]] = []
    part: list[int] = []
    weights = [policy.weight for policy, _ in planned.settings]
    for number in range(1, len(weights)):
        part.append(number)
        if sum(weights[each] for each in part) >= PART or number + 1 == len(weights):
            parts.append(tuple(part))
            part = []
    return parts


async def _replay(replays: Replays, limiter: trio.CapacityLimiter, advance: Callable[[float], None]) -> None:
    """Run the process that replays ``replays``. It is killed where this is cancelled, and ends if this process does."""
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
    if process.returncode == -signal.SIGKILL:
        raise ConfigError(["--jobs must be smaller: a process was killed, as where memory runs out"])
    if process.returncode:
        raise ReplayProcessError(f"exit code {process.returncode}: {errors.decode(errors='replace')}")


async def _pass_on(progress: trio.abc.ReceiveStream, advance: Callable[[float], None]) -> None:
    """Call ``advance`` with each line, a weight that was done."""
    line = b""
    async for some in progress:
        *whole, line = (line + some).split(b"\n")
        advance(sum(map(float, whole)))


def _gather(file: Path) -> PolicyComparison:
    held: HeldComparison = read_own(file)
    parts = [(0,), *parts_of(held.planned)]
    found: list[ReplayedSetting] = [one for part in parts for one in read_own(Replays(file, part).results)]
    return comparison_of(held.planned, held.oracle, found)


def read_own(file: Path) -> Any:
    """What a process of this backtest wrote to ``file``."""
    return pickle.loads(file.read_bytes())  # noqa: S301 - the folder is ours alone


def write_own(file: Path, whatever: object) -> None:
    """Write ``whatever`` to ``file`` for another process of this backtest."""
    file.write_bytes(pickle.dumps(whatever))
