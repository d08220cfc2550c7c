# SPDX-License-Identifier: Apache-2.0
"""The way in: of the command ``kedastral`` and of ``python -m kedastral``. It imports nothing heavy before `main`."""

import gc
import os
import signal
import sys
from functools import partial

SERVICES = {"run", "forecaster", "scaler", "demo"}
"""The commands that SIGTERM ends with success."""
STAY = SERVICES - {"demo"}
"""The commands that SIGHUP has read their files again. The demo ends with its terminal, until it can say otherwise."""
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What numpy's linear algebra reads as it is loaded. A forecast's matrices are small: more threads than one make it
several times slower where the cores are busy, and take memory. What the environment says already wins."""
SWITCH_EVERY = 0.0005
"""Seconds for which a thread that computes keeps the interpreter when the event loop wants it, as each of KEDA's calls
does several times: with Python's 5 ms they would wait for several forecasts."""
FULL_COLLECTION_AFTER = 100
"""Collections of the middle generation before one of everything, which looks at every object of every workload while
all else waits: with a thousand of them every few seconds with Python's 10. Garbage nearly always dies young; what does
not, the remains of a connection above all, is some megabytes by then."""


def main() -> None:
    """The program, which a signal ends at once, and cleanly, from the first moment until the command has its own way.

    The first process of a container ignores every signal that it does not handle, and loading takes a second.
    """
    serves = sys.argv[1:2] and sys.argv[1] in SERVICES
    signal.signal(signal.SIGTERM, partial(_exit, 0 if serves else 128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, partial(_exit, 128 + signal.SIGINT))
    if sys.argv[1:2] and sys.argv[1] in STAY:
        signal.signal(signal.SIGHUP, _go_on)
    sys.setswitchinterval(SWITCH_EVERY)
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_AFTER)
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    from kedastral.cli import main as run_command  # noqa: PLC0415 - see above

    if not serves:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()


def _go_on(_number: int, _frame: object) -> None:
    """Files that change before the command listens for this are read once more when it does: there is nothing to do."""


def _exit(code: int, _number: int, _frame: object) -> None:
    os._exit(code)


if __name__ == "__main__":
    main()
