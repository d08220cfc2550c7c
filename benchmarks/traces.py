# SPDX-License-Identifier: Apache-2.0
"""Traces of load as files: ``NAME.csv.gz``, ``timestamp,value``, read as `kedastral backtest --csv` reads them."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from kedastral.adapters.csv import read_csv_history
from kedastral.core.series import Series
from kedastral.errors import ConfigError

EVALUATED = 0.3
"""The share of a trace, at its end, that is evaluated."""
WORLD_CUP = "worldcup98"
WORLD_CUP_EVALUATED = 0.5
"""The matches begin in the middle of this one."""


class TracesError(Exception):
    """The traces cannot be used; the words are a line for each."""


class MissingTracesError(TracesError):
    """There is no folder of traces, or nothing in it."""


class UnreadableTracesError(TracesError):
    """Some of them cannot be read."""


@attrs.frozen
class Trace:
    """One trace; what lies before ``begin`` is history, what lies after it is evaluated."""

    name: str
    load: Series
    begin: int


def find_traces(folder: Path | None) -> Sequence[Path]:
    """The files of all traces in ``folder``, by name; raises MissingTracesError where there are none."""
    if folder is None:
        raise MissingTracesError("no traces: give their folder by --traces or KEDASTRAL_TRACES")
    files = sorted(folder.glob("*.csv.gz"))
    if not files:
        raise MissingTracesError(f"no traces: {folder} holds no NAME.csv.gz")
    return files


def require_readable(files: Sequence[Path]) -> None:
    """Said before minutes of computing, not after: raises UnreadableTracesError, a line for each that is wrong."""
    problems: list[str] = []
    for file in files:
        try:
            read_trace(file)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise UnreadableTracesError("\n".join(problems))


def read_trace(file: Path) -> Trace:
    """The trace in ``file``, on the grid of its most frequent distance in time. Raises ConfigError, one line."""
    load = read_csv_history(file)
    name = file.name.removesuffix(".csv.gz")
    share = WORLD_CUP_EVALUATED if name.startswith(WORLD_CUP) else EVALUATED
    return Trace(name, load, len(load) - round(len(load) * share))
