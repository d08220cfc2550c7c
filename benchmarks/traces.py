# SPDX-License-Identifier: Apache-2.0
"""Traces of load as files: ``NAME.csv.gz``, ``timestamp,value``, ISO 8601, an empty value is a gap."""

import csv
import gzip
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import numpy as np

from kedastral.core.series import Series, series_from_points

EVALUATED = 0.3
"""The share of a trace, at its end, that is evaluated."""
WORLD_CUP = "worldcup98"
WORLD_CUP_EVALUATED = 0.5
"""The matches begin in the middle of this one."""


class MissingTracesError(Exception):
    """There is no folder of traces, or nothing in it."""


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


def read_trace(file: Path) -> Trace:
    """The trace in ``file``, on the grid of its most frequent distance in time."""
    points = []
    with gzip.open(file, "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromisoformat(row["timestamp"]).astimezone(UTC).timestamp()
            points.append((at, float(row["value"]) if row["value"] else math.nan))
    times = np.array([at for at, _ in points])
    step = float(np.median(np.diff(times)))
    start, end = (datetime.fromtimestamp(at, UTC) for at in (times[0], times[-1]))
    load = series_from_points(points, start, end, step)
    name = file.name.removesuffix(".csv.gz")
    share = WORLD_CUP_EVALUATED if name.startswith(WORLD_CUP) else EVALUATED
    return Trace(name, load, len(load) - round(len(load) * share))
