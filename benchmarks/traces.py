# SPDX-License-Identifier: Apache-2.0
"""Load traces as files: ``NAME.csv.gz``, ``timestamp,value``, read like `kedastral backtest --csv` does."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from kedastral.adapters.csv import read_csv_history
from kedastral.core.series import Series
from kedastral.errors import ConfigError

EVALUATED = 0.3
"""The share of a trace, at its end, that is evaluated."""
WORLD_CUP = "worldcup98"
WORLD_CUP_EVALUATED = 0.5
"""In this trace the matches begin in the middle."""


class TracesError(Exception):
    """The traces cannot be used; the message has a line for each."""


class MissingTracesError(TracesError):
    """There is no folder of traces, or it is empty."""


class UnreadableTracesError(TracesError):
    """Some of them cannot be read."""


@attrs.frozen
class Trace:
    """One trace; the part before ``begin`` is history, the part after it is evaluated."""

    name: str
    load: Series
    begin: int


def find_traces(folder: Path | None) -> Sequence[Path]:
    """The files of all traces in ``folder``, by name; raises MissingTracesError if there are none."""
    if folder is None:
        raise MissingTracesError("no traces: give their folder by --traces or KEDASTRAL_TRACES")
    files = sorted(folder.glob("*.csv.gz"))
    if not files:
        raise MissingTracesError(f"no traces: {folder} holds no NAME.csv.gz")
    return files


def require_readable(files: Sequence[Path], step: float = 0.0) -> None:
    """Check before minutes of computing, not after: raises UnreadableTracesError, with a line for each bad trace."""
    problems: list[str] = []
    for file in files:
        try:
            read_trace(file, step)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise UnreadableTracesError("\n".join(problems))


def read_trace(file: Path, step: float = 0.0) -> Trace:
    """The trace in ``file``, on the grid of its most common time step. Raises ConfigError with one line.

    A trace finer than ``step`` (seconds) is `averaged` to it.
    """
    load = read_csv_history(file)
    if load.step < step:
        load = averaged(load, step)
    return split_trace(file.name.removesuffix(".csv.gz"), load)


def split_trace(name: str, load: Series) -> Trace:
    """``load`` with its last part to evaluate."""
    share = WORLD_CUP_EVALUATED if name.startswith(WORLD_CUP) else EVALUATED
    return Trace(name, load, len(load) - round(len(load) * share))


def history_of(trace: Trace) -> Trace:
    """The history before the evaluated part, as a trace of its own: its last part is evaluated in turn."""
    earlier = Series(trace.load.start, trace.load.step, trace.load.values[: trace.begin])
    return split_trace(f"{trace.name}-history", earlier)


def averaged(load: Series, step: float) -> Series:
    """``load`` averaged to ``step`` seconds, which must be a multiple of its own step; a gap if all values are gaps.

    Raises UnreadableTracesError if it is not a multiple.
    """
    group = round(step / load.step)
    if group * load.step != step:
        raise UnreadableTracesError(f"{step:g} s is no multiple of a step of {load.step:g} s")
    rows = load.values[: len(load) // group * group].reshape(-1, group)
    known = np.isfinite(rows)
    counts = known.sum(axis=1)
    means = np.where(counts > 0, np.where(known, rows, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)
    return Series(load.start, step, means)


def source_of(trace: str) -> str:
    """The source of a trace: its name up to the first underscore, ``crane`` for ``crane_05``."""
    return trace.split("_", maxsplit=1)[0]
