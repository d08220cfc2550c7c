# SPDX-License-Identifier: Apache-2.0
"""Small histories for the tests, and calls of the program with them."""

import io
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from kedastral.cli import main

START = datetime(2026, 3, 2, tzinfo=UTC)
STEP = 600.0
"""Ten minutes, so that two days have few steps."""
SHORT = (
    "--step",
    "10m",
    "--lead-time",
    "20m",
    "--horizon",
    "1h",
    "--window",
    "2h",
    "--warm-up",
    "2h",
    "--sync-period",
    "10m",
)
"""Flags that fit such a history."""


@attrs.frozen
class Ended:
    """What the program did."""

    code: int
    out: str
    err: str


def wave(steps: int, step: float = STEP) -> list[float]:
    """A daily wave with one burst a day."""
    day = 86400 / step
    return [
        100 + 60 * math.sin(2 * math.pi * i / day) + (150 if 0.6 < (i / day) % 1 < 0.63 else 0) for i in range(steps)
    ]


def write_csv(path: Path, values: Iterable[float | None], step: float = STEP) -> Path:
    """A history as the command reads it; None is a gap."""
    rows = [
        f"{(START + timedelta(seconds=i * step)).isoformat()},{'' if value is None else repr(value)}"
        for i, value in enumerate(values)
    ]
    path.write_text("timestamp,value\n" + "\n".join(rows) + "\n")
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Ended:
    """`kedastral backtest` in this process."""
    return _call(monkeypatch, main, ["kedastral", "backtest", *map(str, arguments)])


def _call(monkeypatch: pytest.MonkeyPatch, program: Callable[[], None], words: Sequence[str]) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as world, redirect_stdout(out), redirect_stderr(err):
        world.setattr(sys, "argv", list(words))
        world.setenv("COLUMNS", "160")
        try:
            program()
            code: object = 0
        except SystemExit as end:
            code = end.code
    assert "Traceback" not in err.getvalue()
    return Ended(int(str(code or 0)), out.getvalue(), err.getvalue())
