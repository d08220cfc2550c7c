# SPDX-License-Identifier: Apache-2.0
"""A backtest that is ended early also ends its processes and removes their files."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from tests.waiting import wait_for

pytestmark = pytest.mark.process

START = datetime(2026, 3, 2, tzinfo=UTC)
PROGRAM = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
from kedastral.__main__ import main
main()
"""


@attrs.frozen
class Backtest:
    """A running backtest with several processes, which keep their files in ``folder``."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    def replaying(self) -> list[int]:
        """The processes that replay."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        children = [int(pid) for file in tasks.glob("*/children") for pid in file.read_text().split()]
        return [pid for pid in children if b"kedastral.backtest" in _command_of(pid)]

    def wait_until_forecasts_are_shared(self) -> list[int]:
        """The processes, once the first has made all forecasts and each has a part of the rest."""
        wait_for(lambda: list(self.folder.rglob("*.0")), "the first replay")
        return wait_for(lambda: self.replaying() if len(self.replaying()) > 1 else None, "processes")


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def backtest(tmp_path: Path) -> Iterator[Backtest]:
    """Twelve days in steps of a minute, which take minutes to replay."""
    rows = (f"{START + timedelta(minutes=i):%Y-%m-%dT%H:%M:%SZ},{500 + i % 1440 // 10 + i % 7}" for i in range(17280))
    history, folder = tmp_path / "shop.csv", tmp_path / "temporary"
    history.write_text("timestamp,value\n" + "\n".join(rows), encoding="utf-8")
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM, "backtest", "--csv", str(history), "--jobs", "2"]
    # its own process group, as in a terminal
    with subprocess.Popen(
        [*command, "--lead-time", "5m", "--evaluated", "0.1", "--warm-up", "0s"],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield Backtest(process, folder)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_all_processes_and_leaves_no_file(backtest: Backtest, number: signal.Signals, code: int) -> None:
    replaying = backtest.wait_until_forecasts_are_shared()
    if number is signal.SIGINT:
        os.killpg(backtest.process.pid, number)  # Ctrl-C reaches all of them
    else:
        backtest.process.send_signal(number)
    out, err = backtest.process.communicate(timeout=60)
    assert (backtest.process.returncode, out) == (code, b"")
    assert b"Traceback" not in err
    wait_for(lambda: not any(_command_of(pid) for pid in replaying), "the end of all processes")
    assert not list(backtest.folder.iterdir())


def test_processes_do_not_outlive_the_one_that_began_them(backtest: Backtest) -> None:
    replaying = backtest.wait_until_forecasts_are_shared()
    backtest.process.kill()
    wait_for(lambda: not any(_command_of(pid) for pid in replaying), "the end of all processes")


def test_no_room_for_temporary_files_is_one_line(tmp_path: Path) -> None:
    rows = (f"{START + timedelta(minutes=i):%Y-%m-%dT%H:%M:%SZ},{500 + i % 60}" for i in range(1500))
    (tmp_path / "shop.csv").write_text("timestamp,value\n" + "\n".join(rows), encoding="utf-8")
    command = f'ulimit -f 100; exec "{sys.executable}" -m kedastral backtest --csv shop.csv --lead-time 5m --jobs 2'
    ended = subprocess.run(
        ["sh", "-c", f"{command} --model baseline"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        timeout=120,
        check=False,
    )
    [*_, line] = ended.stderr.decode().splitlines()
    assert ended.returncode == 2
    assert line.startswith(f"kedastral: the temporary folder {tmp_path} must take the forecasts; got: File too large.")
    assert b"Traceback" not in ended.stderr
