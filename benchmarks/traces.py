# SPDX-License-Identifier: Apache-2.0
"""Traces of load as files: ``NAME.csv.gz``, ``timestamp,value``, read as `kedastral backtest --csv` reads them."""

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


def require_readable(files: Sequence[Path], step: float = 0.0) -> None:
    """Said before minutes of computing, not after: raises UnreadableTracesError, a line for each that is wrong."""
    problems: list[str] = []
    for file in files:
        try:
            read_trace(file, step)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise UnreadableTracesError("\n".join(problems))


def read_trace(file: Path, step: float = 0.0) -> Trace:
    """The trace in ``file``, on the grid of its most frequent distance in time. Raises ConfigError, one line.

    A trace that is finer than ``step`` (seconds) is `averaged` to it.
    """
    load = read_csv_history(file)
    if load.step < step:
        load = averaged(load, step)
    name = file.name.removesuffix(".csv.gz")
    share = WORLD_CUP_EVALUATED if name.startswith(WORLD_CUP) else EVALUATED
    return Trace(name, load, len(load) - round(len(load) * share))


def averaged(load: Series, step: float) -> Series:
    """``load`` by the means of whole ``step`` seconds, which must be a multiple of its own; a gap where all is one.

    Raises UnreadableTracesError where it is no multiple.
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
    """Where a trace comes from: its name up to the first underscore, ``crane`` of ``crane_05``."""
    return trace.split("_", maxsplit=1)[0]
