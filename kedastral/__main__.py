# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``kedastral`` and ``python -m kedastral``; it imports nothing heavy before `main`."""

import os
import signal
import sys
from functools import partial

SERVICES = {"run", "forecaster", "scaler", "demo"}
"""Commands that SIGTERM ends with success."""
RELOADING = SERVICES - {"demo"}
"""Commands that reread their files on SIGHUP; the demo ends with its terminal, as commands do by default."""


def main() -> None:
    """Run the command line. Until the command takes over, a signal ends the program at once, with the right code.

    The first process of a container ignores every signal without a handler, and loading takes a second.
    """
    serves = sys.argv[1:2] and sys.argv[1] in SERVICES
    signal.signal(signal.SIGTERM, partial(_exit, 0 if serves else 128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, partial(_exit, 128 + signal.SIGINT))
    if sys.argv[1:] and sys.argv[1] == "demo" and sys.stdout.isatty():
        sys.stdout.write("kedastral demo: loading …\r")  # the first output replaces this
        sys.stdout.flush()
    if sys.argv[1:2] and sys.argv[1] in RELOADING:
        signal.signal(signal.SIGHUP, _ignore)
    from kedastral.cooperative import prepare_interpreter  # noqa: PLC0415 - imported once signals are handled

    prepare_interpreter()
    from kedastral.cli import main as run_command  # noqa: PLC0415 - the same, and it loads numpy

    if not serves:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the command rereads its files anyway when it starts to listen for SIGHUP."""


def _exit(code: int, _number: int, _frame: object) -> None:
    os._exit(code)


if __name__ == "__main__":
    main()
