# SPDX-License-Identifier: Apache-2.0
"""``python -m kedastral.backtest FILE NUMBER...``: a process of a backtest that replays a part of a comparison.

Only `kedastral.backtest.processes` starts it. It prints the weight of what it has done, line by line.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from kedastral.backtest.comparison import PlannedComparison, ReplayedSetting, oracle_of, replay_setting
from kedastral.backtest.processes import HeldComparison, Replays, read_own, write_own


def main(file: Path, numbers: tuple[int, ...]) -> None:
    """Replay these settings of the comparison in ``file``; write the results beside it, and the forecasts into it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    read = read_own(file)
    held = HeldComparison(read, oracle_of(read.scenario)) if isinstance(read, PlannedComparison) else read
    write_own(Replays(file, numbers).results, [_replay(held, number) for number in numbers])
    if held is not read:
        write_own(file, held)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing comes but the end; a buffered read would hold a lock at the exit
    os._exit(1)


def _replay(held: HeldComparison, number: int) -> ReplayedSetting:
    planned = held.planned
    return replay_setting(planned.scenario, *planned.settings[number], held.oracle, _tell)


def _tell(weight: float) -> None:
    sys.stdout.write(f"{weight!r}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(map(int, sys.argv[2:])))
