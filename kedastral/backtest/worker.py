# SPDX-License-Identifier: Apache-2.0
"""A process of a backtest: replays a part of a comparison. Only `kedastral.backtest.processes` starts it.

It prints the weight of what it has done, line by line.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from kedastral.backtest.comparison import PlannedComparison, ReplayedSetting, oracle_of, replay_setting
from kedastral.backtest.processes import DONE, REFUSED, HeldComparison, Replays, read_own, write_own
from kedastral.errors import ConfigError


def main(path: str, *indices: str) -> None:
    """Replay these settings of the comparison in the file ``path``; write results beside it, and forecasts into it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _replay_part(Replays(Path(path), tuple(map(int, indices))))
    except ConfigError as error:
        os.write(sys.stderr.fileno(), "; ".join(error.problems).encode())
        os._exit(REFUSED)


def _replay_part(replays: Replays) -> None:
    read = read_own(replays.file)
    held = HeldComparison(read, oracle_of(read.scenario)) if isinstance(read, PlannedComparison) else read
    write_own(replays.results, [_replay(held, number) for number in replays.numbers])
    if held is not read:
        write_own(replays.file, held)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing comes but the end; a buffered read would hold a lock at the exit
    os._exit(1)


def _replay(held: HeldComparison, number: int) -> ReplayedSetting:
    planned = held.planned
    return replay_setting(planned.scenario, *planned.settings[number], held.oracle, _tell)


def _tell(weight: float) -> None:
    os.write(sys.stdout.fileno(), DONE + f"{weight!r}\n".encode())
