# SPDX-License-Identifier: Apache-2.0
"""Kedastral in its own process: started on free ports, observed by its log, and always ended."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from email.message import Message
from typing import Any

import attrs

from tests.waiting import PATIENCE, wait_for

ANY_PORT = "127.0.0.1:0"
LISTENS = re.compile(r"(gRPC|HTTP) listens on 127\.0\.0\.1:(\d+)")
QUICK = {"--horizon": "6m", "--step": "1s", "--interval": "1s", "--lead-time": "10s"}
QUICK |= {"--model": "baseline", "--window": "30s"}


@attrs.define
class HttpAnswer:
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    body: str
    headers: Mapping[str, str]

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class ProcessInput:
    """``kedastral COMMAND`` with flags, logging JSON; use it in a ``with``, which kills it at the end.

    Its log is read unless ``stderr`` says where it goes.
    """

    def __init__(
        self,
        command: str,
        flags: Mapping[str, str],
        env: Mapping[str, str] | None = None,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
    ) -> None:
        arguments = [part for pair in flags.items() for part in pair]
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "kedastral", command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env={**clean_environment(), "LOG_FORMAT": "json", **(env or {})},
        )
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self) -> "ProcessInput":
        return self

    def __exit__(self, *_error: object) -> None:
        self.popen.kill()
        self.popen.wait()
        self._reading.join()
        if self.popen.stderr is not None:
            self.popen.stderr.close()

    def _read(self) -> None:
        for line in self.popen.stderr or ():
            self.lines.append(line)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log so far; fails on a line that is not JSON."""
        return [json.loads(line) for line in list(self.lines)]

    def ports(self, *servers: str) -> Sequence[int]:
        """The ports of ``gRPC`` and ``HTTP``, as soon as the log names them."""

        def look() -> Sequence[int] | None:
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}:\n" + "".join(self.lines)
            found = {name: int(port) for line in list(self.lines) for name, port in LISTENS.findall(line)}
            return [found[server] for server in servers] if all(server in found for server in servers) else None

        ports: Sequence[int] = wait_for(look, f"{servers} listening")
        return ports

    def wait_for_log(self, words: str, within: float = PATIENCE) -> dict[str, Any]:
        """The first event whose message holds ``words``."""
        found: dict[str, Any] = wait_for(
            lambda: next((event for event in self.log if words in event["msg"]), None), f"{words!r} in the log", within
        )
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended and all its log is read."""
        code = self.popen.wait(PATIENCE)
        self._reading.join(PATIENCE)
        return code


def clean_environment() -> dict[str, str]:
    """The environment without variables that configure Kedastral or an HTTP proxy."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
    coverage = [name for name in os.environ if name.startswith(("COV_", "COVERAGE_"))]
    return {name: os.environ[name] for name in (*kept, *coverage) if name in os.environ}


def fetch(port: int, path: str) -> HttpAnswer:
    """GET over HTTP; error statuses are answers too."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return HttpAnswer(answer.status, answer.read().decode(), _lowered(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return HttpAnswer(error.code, error.read().decode(), _lowered(error.headers))


def _lowered(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
