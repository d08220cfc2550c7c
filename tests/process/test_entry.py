# SPDX-License-Identifier: Apache-2.0
"""Signals in the first second, while the program is still loading."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SIGNAL_WHILE_LOADING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
class Finder:
    def find_spec(name, path, target=None):
        if name == sys.argv[3]:
            os.kill(os.getpid(), int(sys.argv[2]))
sys.meta_path.insert(0, Finder)
from kedastral.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["kedastral.cli", "kedastral.cli.main", "trio", "numpy", "kedastral.compose"])
@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("run", signal.SIGTERM, 0),
        ("scaler", signal.SIGTERM, 0),
        ("run", signal.SIGINT, 130),
        ("backtest", signal.SIGTERM, 143),
        ("backtest", signal.SIGINT, 130),
    ],
)
def test_a_signal_while_the_program_loads_ends_it_at_once_and_silently(
    command: str, number: signal.Signals, code: int, module: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SIGNAL_WHILE_LOADING, command, str(int(number)), module],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", b"")


@pytest.mark.parametrize("module", ["kedastral.cli", "trio", "kedastral.compose"])
@pytest.mark.parametrize(
    ("command", "goes_on"), [("run", True), ("forecaster", True), ("scaler", True), ("demo", False)]
)
def test_a_hangup_while_the_program_loads_ends_no_service(command: str, goes_on: bool, module: str) -> None:
    number = str(int(signal.SIGHUP))
    words = [command, number, module, "--nope"]
    ended = subprocess.run(
        [sys.executable, "-c", SIGNAL_WHILE_LOADING, *words], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == (2 if goes_on else -signal.SIGHUP)
    assert (b"--nope is an unknown flag" in ended.stderr) is goes_on


def test_the_console_script_and_the_module_are_the_same_way_in() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"kedastral": "kedastral.__main__:main"}


FLAGS = ["--workload", "shop", "--prom-url", "http://prometheus:9090", "--prom-query", "up"]


@pytest.mark.parametrize(
    ("arguments", "redirection", "code"),
    [
        (["validate", *FLAGS], ">&-", 0),
        (["validate", *FLAGS], "2>/dev/full", 0),
        (["validate", *FLAGS], ">/dev/full", 1),
        (["--version"], ">/dev/full", 1),
        (["run"], "2>&-", 2),
        (["run"], "2>/dev/full", 2),
        (["run", "--nope"], "2>/dev/full", 2),
        (["--nope"], "2>/dev/full", 2),
        ([], "2>/dev/full", 2),
    ],
)
def test_the_exit_code_is_right_where_an_output_takes_nothing(
    arguments: list[str], redirection: str, code: int
) -> None:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "kedastral", *arguments]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == code
    assert b"Traceback" not in ended.stderr


def test_a_reader_that_has_gone_costs_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "kedastral", "validate", *FLAGS]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_the_tab_key_completes_commands_as_the_docs_say() -> None:
    asked = {"_KEDASTRAL_COMPLETE": "bash_complete", "COMP_WORDS": "kedastral val", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "kedastral"]
    ended = subprocess.run(command, env=os.environ | asked, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"plain,validate\n", b"")
