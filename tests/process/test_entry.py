# SPDX-License-Identifier: Apache-2.0
"""Signals in the first second, while the program still loads."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SIGNAL_WHILE_LOADING = """
import os, sys
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


def test_the_console_script_and_the_module_are_the_same_way_in() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"kedastral": "kedastral.__main__:main"}
