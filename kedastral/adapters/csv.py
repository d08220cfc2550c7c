# SPDX-License-Identifier: Apache-2.0
"""History from an exported file: CSV of many kinds, or an answer of Prometheus; gzipped or not.

`read_export` says in words what it understood. It refuses ambiguous cells and invalid loads, all problems at once.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast
from zoneinfo import ZoneInfo

import attrs

from kedastral.adapters.exports.answers import SummedSeries, is_json, is_promtool, read_json_answer, read_promtool
from kedastral.adapters.exports.grid import Laid, lay_on_grid
from kedastral.adapters.exports.problems import FileProblems
from kedastral.adapters.exports.tables import TableRows, read_table
from kedastral.core.series import Series
from kedastral.errors import ConfigError
from kedastral.settings.types import write_duration

MAX_BYTES = 256 * 1024 * 1024
"""The most bytes of unpacked text: more than fifteen years of minutes. A larger file is not one workload's history."""
_UTC = ZoneInfo("UTC")
_MARKS = (("utf-8-sig", b"\xef\xbb\xbf"), ("utf-16", b"\xff\xfe"), ("utf-16", b"\xfe\xff"))
"""Byte order marks, with the encodings that read them."""
_IN_PERCENT = re.compile(r"%|\bpercent|utili[sz]ation", re.IGNORECASE)
"""Matches a name or unit that means a share of something."""
UTILISATION = (
    "this looks like a percentage. Utilisation is not a load: it falls when pods are added. Export what comes in, such "
    "as requests per second"
)

_DURATIONS = frozenset({"ns", "µs", "us", "ms", "s", "min"})
LATENCY = (
    "this is a duration. Latency is not a load: it does not grow in proportion to the pods that are needed. Export "
    "what comes in, such as requests per second"
)


@attrs.frozen
class ExportReading:
    """How to read what a file leaves open: the zone of times without one, and which columns to use."""

    time_zone: ZoneInfo = _UTC
    column: str | None = None
    time_column: str | None = None


@attrs.frozen
class Export:
    """The load of a file, its unit if the file has one, what was understood, in words, and warnings."""

    series: Series
    understood: str
    unit: str = ""
    warnings: tuple[str, ...] = ()


def read_csv_history(path: Path) -> Series:
    """The series of a file, read with the defaults. Raises ConfigError like `read_export`."""
    return read_export(path, ExportReading()).series


def read_export(path: Path, reading: ExportReading) -> Export:
    """The load of a file; its step is the most common distance between rows. Empty values and missing rows are gaps.

    Raises ConfigError with a line for each kind of mistake, which names the file, the first occurrence and the remedy.
    """
    problems = FileProblems(path)
    text = _decode(_read_bytes(path, problems), problems)
    if is_json(text) or is_promtool(text):
        read = read_promtool if is_promtool(text) else read_json_answer
        answer = read(text, reading.column, problems)
        laid = lay_on_grid(answer.rows, problems)
        return Export(laid.series, _join(_describe(laid), _describe_answer(answer)))
    table = read_table(text, reading.time_zone, reading.column, reading.time_column, problems)
    laid = lay_on_grid([row for row in table.rows if math.isfinite(row.at)], problems)
    words = _join(_describe(laid), _describe_table(table, reading))
    return Export(laid.series, words, table.unit, tuple(_warnings(table)))


def _read_bytes(path: Path, problems: FileProblems) -> bytes:
    """The unpacked bytes; its first bytes tell whether a file is gzipped, not its name."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            source = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if packed else file
            found = source.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ConfigError([f"{path}: must be a file that can be read, plain or gzipped; got: {words}"]) from error
    if len(found) > MAX_BYTES:
        raise problems.refuse(None, f"the file must be at most {MAX_BYTES >> 20} MiB, unpacked", "more")
    return found


def _decode(found: bytes, problems: FileProblems) -> str:
    """Text in UTF-8, or in UTF-16 as spreadsheets write it, with or without a byte order mark."""
    encoding = next((name for name, mark in _MARKS if found.startswith(mark)), None)
    if encoding is None and found[1:40:2].strip(b"\0") == b"" and len(found) > 3:
        encoding = "utf-16-le"
    try:
        text = found.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        raise problems.refuse(line, "it must be text in UTF-8 or UTF-16", repr(found[error.start :][:20])) from error
    if "\0" in text:
        raise problems.refuse(text[: text.index("\0")].count("\n") + 1, "it must be text", "a NUL byte")
    return text


# What was understood, in words.


def _describe(laid: Laid) -> list[str]:
    series = laid.series
    words = [f"{write_duration(len(series) * series.step)} in steps of {write_duration(series.step)}"]
    if laid.newest_first:
        words.append("newest first")
    if laid.unordered:
        words.append(f"{_count(laid.unordered, 'row')} out of order")
    if laid.duplicates:
        words.append(f"{_count(laid.duplicates, 'duplicate')} dropped")
    if laid.jitter:
        words.append(f"times up to {laid.jitter:.2g} s off moved to the grid")
    if laid.shared:
        words.append(f"{_count(laid.shared, 'row')} averaged with the previous one")
    return words


def _describe_answer(answer: SummedSeries) -> list[str]:
    if len(answer.chosen) > 1:
        return [f"the sum of {len(answer.chosen)} series; --column changes it"]
    only = [f"series {one!r}" for one in answer.chosen if one != "{}"]
    return [f"{only[0]}; --column changes it"] if only and len(answer.labels) > 1 else only


def _describe_table(table: TableRows, reading: ExportReading) -> list[str]:
    words, options = [], []
    if table.naive:
        words.append(f"times taken as {reading.time_zone.key}")
        options.append("--time-zone")
    if table.above:
        words.append(f"{_count(table.above, 'line')} above the table left out")
    words.append(f"column {table.column!r}")
    if table.unit:
        words[-1] += f" in {table.unit}"
    if table.choice:
        options += ["--column", "--time-column"]
    if options:
        words[-1] += f"; {', '.join(options)} change{'' if len(options) > 1 else 's'} it"
    return words


def _warnings(table: TableRows) -> Iterator[str]:
    if table.statistic.lower() == "sum":
        period = _describe_period(table.period)
        yield f"each value is a count per {period} (statistic Sum); so must be the target per pod"
    if _IN_PERCENT.search(f"{table.unit} {table.column}"):
        yield f"column {table.column!r}: {UTILISATION}"
    elif table.unit in _DURATIONS:
        yield f"column {table.column!r}: {LATENCY}"


def _describe_period(text: str) -> str:
    """``60`` and ``1 minute`` are what CloudWatch writes."""
    if not text:
        return "period"
    return write_duration(float(text)) if text.isascii() and text.isdigit() and int(text) else text


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _join(*parts: list[str]) -> str:
    return ", ".join(word for part in parts for word in part)
