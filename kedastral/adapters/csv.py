# SPDX-License-Identifier: Apache-2.0
"""History from a CSV file of ``timestamp,value``, gzipped or not; an error names the file and the line."""

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import attrs
import numpy as np

from kedastral.core.series import EPOCH, Series
from kedastral.errors import ConfigError

MAX_BYTES = 512 * 1024 * 1024
"""Of unpacked text: fifteen years of minutes. A larger file is not the history of one workload."""
MAX_STEPS = 5_000_000
"""Of the series, gaps included: almost ten years of minutes."""
MAX_LINE = 1000
TOLERANCE = 0.001
"""Seconds by which the distance of two rows may differ from a whole number of steps."""
COLUMNS = ("timestamp", "value")
_LAST_SECOND = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


@attrs.frozen
class _Row:
    line: int
    at: float
    value: float


def read_csv_history(path: Path) -> Series:
    """The series of a file; its step is the most common distance of two rows. Empty values and missing rows are gaps.

    The first line may be the header ``timestamp,value``. A timestamp is ISO 8601, in UTC where it names no zone, or
    seconds since 1970; timestamps rise. Raises ConfigError: one line of text that names the file and the line in it.
    """
    try:
        with path.open("rb") as file:
            rows = list(_read_rows(path, _unpacked(file)))
    except (OSError, EOFError, zlib.error) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ConfigError([f"{path}: must be a file that can be read, plain or gzipped; got: {words}"]) from error
    if len(rows) < 2:
        raise ConfigError([f"{path}: must hold at least two rows timestamp,value; got {len(rows)}"])
    if not any(math.isfinite(row.value) for row in rows):
        raise ConfigError([f"{path}: must hold at least one value; got only gaps"])
    return _lay_on_grid(path, rows)


def _unpacked(file: BinaryIO) -> BinaryIO:
    """The text of the file; its first bytes tell whether it is gzipped, not its name."""
    magic = file.read(2)
    file.seek(0)
    return cast("BinaryIO", gzip.GzipFile(fileobj=file)) if magic == b"\x1f\x8b" else file


def _read_rows(path: Path, file: BinaryIO) -> Iterator[_Row]:
    total, before = 0, -math.inf
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        total += len(line)
        if total > MAX_BYTES:
            _refuse(path, number, f"the file must be at most {MAX_BYTES >> 20} MiB, unpacked", "more")
        text = _text_of(path, number, line)
        if not text or (number == 1 and _is_header(text)):
            continue
        row = _read_row(path, number, text)
        if row.at <= before:
            what = "given twice" if row.at == before else "before the one of the line above"
            _refuse(path, number, "timestamps must rise", f"{text.partition(',')[0]!r}, {what}")
        before = row.at
        yield row


def _text_of(path: Path, number: int, line: bytes) -> str:
    if len(line) > MAX_LINE:
        _refuse(path, number, f"a line must be at most {MAX_LINE} characters", "a longer one")
    if b"\0" in line:
        _refuse(path, number, "it must be text", "a NUL byte")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError:
        _refuse(path, number, "it must be text in UTF-8", repr(line[:40]))


def _is_header(text: str) -> bool:
    return tuple(cell.strip().strip('"').lower() for cell in text.split(",")) == COLUMNS


def _read_row(path: Path, number: int, text: str) -> _Row:
    cells = [cell.strip().strip('"') for cell in text.split(",")]
    if len(cells) != 2:
        _refuse(path, number, "it must have two columns, timestamp,value", repr(text[:60]))
    return _Row(number, _read_time(path, number, cells[0]), _read_value(path, number, cells[1]))


def _read_time(path: Path, number: int, text: str) -> float:
    try:
        at = float(text) if _is_plain_number(text) else _seconds_of(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        _refuse(path, number, "a timestamp must be ISO 8601 or seconds since 1970", repr(text[:40]))
    if not 0 <= at < _LAST_SECOND / 10:
        _refuse(path, number, "a timestamp must lie between 1970 and 2770, epoch times in seconds", repr(text[:40]))
    return at


def _seconds_of(moment: datetime) -> float:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH).total_seconds()


def _is_plain_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()


def _read_value(path: Path, number: int, text: str) -> float:
    """A load, NaN for a gap: an empty value, or the word NaN, which exports write for one."""
    if not text or text.lower() == "nan":
        return math.nan
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        _refuse(path, number, "a value must be a finite number, or empty for a gap", repr(text[:40]))
    if value < 0:
        _refuse(path, number, "a load must not be negative", repr(text[:40]))
    return value


def _lay_on_grid(path: Path, rows: list[_Row]) -> Series:
    times = np.array([row.at for row in rows])
    step = _common_distance(times)
    steps = np.rint(np.diff(times) / step)
    off = np.abs(np.diff(times) - steps * step) > TOLERANCE
    if off.any() or (steps < 1).any():
        i = int(np.argmax(off | (steps < 1)))
        apart = f"{times[i + 1] - times[i]:g} s after the line above"
        _refuse(path, rows[i + 1].line, f"rows must be whole multiples of the step ({step:g} s) apart", apart)
    places = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    if places[-1] >= MAX_STEPS:
        wrong = f"{places[-1] + 1} steps of {step:g} s"
        raise ConfigError([f"{path}: must span at most {MAX_STEPS} steps, gaps included; got {wrong}"])
    values = np.full(int(places[-1]) + 1, np.nan)
    values[places] = [row.value for row in rows]
    return Series(EPOCH + timedelta(seconds=float(times[0])), step, values)


def _common_distance(times: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> float:
    """The most common distance of two rows, to the millisecond; of several the shortest."""
    counted = Counter(np.maximum(1, np.rint(np.diff(times) / TOLERANCE)).astype(np.int64).tolist())
    most = max(counted.values())
    return float(min(distance for distance, times_seen in counted.items() if times_seen == most)) * TOLERANCE


def _refuse(path: Path, number: int, must: str, got: str) -> NoReturn:
    raise ConfigError([f"{path}, line {number}: {must}; got {got}"])
