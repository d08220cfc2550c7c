# SPDX-License-Identifier: Apache-2.0
"""Programs of the loop: started with a log each, stopped, killed, frozen, restarted, and never left running."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests import waiting

Found = TypeVar("Found")
STOPPED_WITHIN = 15.0
TAIL = 2000
"""How many characters of a log an error shows."""


def wait_for(look: Callable[[], Found | None], what: str, within: float = waiting.PATIENCE) -> Found:
    """`waiting.wait_for` with long pauses: all cases use the same cluster on the same machine."""
    return waiting.wait_for(look, what, within, pause=0.2)


class Program:
    """One program with its log in ``folder``; ``start`` may follow ``stop`` and ``kill``."""

    def __init__(self, name: str, words: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.log.write_bytes(b"")  # not that of an earlier run
        self._words = list(words)
        self._env = {**os.environ, **(env or {})}
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it must not be running."""
        assert not self.runs, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,  # we pass on Ctrl-C
            )

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._running is not None and self._running.poll() is None

    def require_running(self) -> None:
        """Fail with the end of its log if it has ended."""
        assert self.runs, f"{self.name} has ended:\n{self.log.read_text()[-TAIL:]}"

    def stop(self) -> None:
        """End it as Kubernetes does: SIGTERM, and SIGKILL after a while. Stopping what does not run is fine."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend it: its connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it after `freeze`."""
        self._signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._running is None:
            return
        if self.runs:
            self._signal(number)
            self._signal(signal.SIGCONT)
        try:
            self._running.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.send_signal(number)


class Programs:
    """Starts programs and ends them all as the ``with`` is left, the newest first; ``folder`` gets their logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._all: list[Program] = []

    def add(self, name: str, *words: str | Path, env: Mapping[str, str] | None = None) -> Program:
        """A program that is not started yet."""
        program = Program(name, [str(word) for word in words], self.folder, env)
        self._all.append(program)
        return program

    def start(self, name: str, *words: str | Path, env: Mapping[str, str] | None = None) -> Program:
        """A program that runs."""
        program = self.add(name, *words, env=env)
        program.start()
        return program

    def __enter__(self) -> "Programs":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for program in reversed(self._all):
            program.stop()
