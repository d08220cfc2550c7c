# SPDX-License-Identifier: Apache-2.0
"""Times and numbers as programs write them into tables; a whole column is read by one rule; pure.

A column is read as a whole because a single cell is ambiguous: ``03/02/2026`` is in March or in February, ``1,234`` is
over a thousand or just over one, and ``12`` next to ``1.2 K`` has no unit.
"""

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import attrs

from kedastral.adapters.exports.problems import FileProblems, quoted
from kedastral.core.series import EPOCH, epoch_seconds

GAPS = frozenset(
    {"", "-", "nan", "null", "none", "nil", "na", "n/a", "#n/a", "undefined", "inf", "+inf", "-inf", "infinity"}
)
"""What programs write for a missing value, in lower case. Infinite values are gaps, as in answers of Prometheus."""
LAST_YEAR = 2100
_LAST_SECOND = datetime(LAST_YEAR, 1, 1, tzinfo=UTC).timestamp()

_PLAIN = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
_EPOCH_UNITS = ((1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6), (math.inf, 1e-9))
"""Upper limits of epoch times, each with its unit in seconds. 1e11 is the year 5138 in seconds, or 1973 in ms."""

_UTC_WORDS = re.compile(r"\s*(?:UTC|GMT|Z)$")
_SPACED_OFFSET = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)")
_DATE = re.compile(
    r"(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})(?:,?\s+|T)(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,6})\d*)?)?\s*([APap]\.?[Mm]\.?)?"
)

_NUMBER = re.compile(
    r"([+-]?[0-9.,][0-9.,'’ \u00a0\u2009\u202f]*?(?:[eE][+-]?[0-9]+)?)\s*([^\W\d_]|[%/$€£°])?([^0-9;|]*)"
)
_GROUPS = re.compile(r"['’\s]")

_SCALES = {
    "k": 1e3, "K": 1e3, "M": 1e6, "Mil": 1e6, "Mio": 1e6, "G": 1e9, "B": 1e9, "Bil": 1e9, "T": 1e12, "Tri": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "m": 1e-3, "µ": 1e-6, "u": 1e-6, "n": 1e-9,
}  # fmt: skip
"""Prefixes of units, as Grafana writes them."""
_CERTAIN = frozenset({"k", "K", "M", "Mil", "Mio", "G", "Bil", "Tri", "Ki", "Mi", "Gi", "Ti"})
"""Prefixes that are a scale even if no other value of the column shows it: ``m`` may be minutes, ``B`` bytes."""


def is_gap(text: str) -> bool:
    """Whether a cell holds no value."""
    return text.lower() in GAPS


def is_number(text: str) -> bool:
    """Whether a cell holds a number, with or without a unit."""
    return _split_number(text) is not None


def is_time(text: str) -> bool:
    """Whether a cell holds a date with a time of day; numbers do not count, though they may be times."""
    return not _PLAIN.fullmatch(text) and _read_moment(text) is not None


def is_epoch(text: str) -> bool:
    """Whether a cell may hold an epoch time, in seconds or a smaller unit."""
    return _PLAIN.fullmatch(text) is not None


# Times.


@attrs.frozen
class _Ambiguous:
    """A date whose first two numbers may be day and month, or month and day."""

    numbers: tuple[int, int, int]
    clock: tuple[int, int, int, int]

    def read(self, *, day_first: bool) -> datetime:
        """The moment in one order. Raises ValueError if there is no such date."""
        first, second, year = self.numbers
        month, day = (second, first) if day_first else (first, second)
        return datetime(year, month, day, *self.clock)  # noqa: DTZ001 - its zone is that of the whole column


@attrs.frozen
class TimesRead:
    """Seconds since 1970 for each cell, NaN if it is not a time; ``naive`` if some had no zone."""

    seconds: list[float]
    naive: bool


def read_times(texts: Sequence[str], lines: Sequence[int], zone: ZoneInfo, problems: FileProblems) -> TimesRead:
    """The times of a column; those without a zone are in ``zone``. Invalid times are added to ``problems``."""
    if 2 * sum(map(is_epoch, texts)) > len(texts):
        return TimesRead(_read_epochs(texts, lines, problems), naive=False)
    moments = [_read_moment(text) for text in texts]
    order = _day_first(moments, texts, lines, problems)
    found: list[datetime | None] = []
    for text, line, moment in zip(texts, lines, moments, strict=True):
        try:
            known = moment.read(day_first=order) if isinstance(moment, _Ambiguous) else moment
        except ValueError:
            known = None
        if known is None or not EPOCH.year <= known.year < LAST_YEAR:
            problems.add(line, _MUST_BE_TIME, quoted(text))
            known = None
        found.append(known)
    naive = any(moment is not None and moment.tzinfo is None for moment in found)
    return TimesRead(_seconds_of(found, zone), naive)


_MUST_BE_TIME = (
    f"a time must be ISO 8601, a date with a time of day, or seconds or milliseconds since 1970, between 1970 and "
    f"{LAST_YEAR}"
)


def _read_epochs(texts: Sequence[str], lines: Sequence[int], problems: FileProblems) -> list[float]:
    numbers = [float(text) if is_epoch(text) else math.nan for text in texts]
    middle = statistics.median(number for number in numbers if not math.isnan(number))
    unit = next(unit for limit, unit in _EPOCH_UNITS if middle < limit)
    seconds = []
    for text, line, number in zip(texts, lines, numbers, strict=True):
        at = number * unit
        if not 0 <= at < _LAST_SECOND:
            problems.add(line, _MUST_BE_TIME, quoted(text))
            at = math.nan
        seconds.append(at)
    return seconds


def _read_moment(text: str) -> datetime | _Ambiguous | None:
    """ISO 8601 and similar formats, or numbers in another order; None if it is not a time."""
    try:
        return datetime.fromisoformat(text)  # most files, and much faster
    except ValueError:
        pass
    stripped = _UTC_WORDS.sub("", text)
    in_utc = stripped != text
    try:
        moment = datetime.fromisoformat(_SPACED_OFFSET.sub("", stripped))
    except ValueError:
        other = _read_other_order(stripped)
        if in_utc and isinstance(other, datetime):
            return other.replace(tzinfo=UTC)
        return other
    return moment.replace(tzinfo=UTC) if in_utc and moment.tzinfo is None else moment


def _read_other_order(text: str) -> datetime | _Ambiguous | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    first, mark, second, third, hour, minute, second_of, fraction, half = match.groups()
    hours = int(hour) if half is None else int(hour) % 12 + (12 if half[0] in "pP" else 0)
    clock = (hours, int(minute), int(second_of or 0), int((fraction or "0").ljust(6, "0")))
    a, b, c = int(first), int(second), int(third)
    if len(first) == 4:
        ordered = _Ambiguous((c, b, a), clock)
    elif len(third) == 4:
        if mark != ".":
            return _Ambiguous((a, b, c), clock)
        ordered = _Ambiguous((a, b, c), clock)
    else:
        return None
    try:
        return ordered.read(day_first=True)
    except ValueError:
        return None


def _day_first(
    moments: Sequence[datetime | _Ambiguous | None],
    texts: Sequence[str],
    lines: Sequence[int],
    problems: FileProblems,
) -> bool:
    """Whether the day comes first in the ambiguous dates of a column."""
    open_ones = [(i, one) for i, one in enumerate(moments) if isinstance(one, _Ambiguous)]
    if not open_ones or any(one.numbers[0] > 12 for _, one in open_ones):
        return True
    if any(one.numbers[1] > 12 for _, one in open_ones):
        return False
    span, other = (_span(one.read(day_first=order) for _, one in open_ones) for order in (True, False))
    if span == other:
        i, _ = open_ones[0]
        must = "dates must show whether the day or the month comes first; export times in ISO 8601, or more than a day"
        problems.add(lines[i], must, quoted(texts[i]))
    return span < other  # in the wrong order, consecutive days are months apart


def _span(moments: Iterable[datetime]) -> timedelta:
    known = list(moments)
    return max(known) - min(known)


def _seconds_of(moments: Sequence[datetime | None], zone: ZoneInfo) -> list[float]:
    """Seconds since 1970. The row order resolves the hour that occurs twice when daylight saving time ends."""
    known = [moment for moment in moments if moment is not None]
    newest_first = len(known) > 1 and known[0].replace(tzinfo=None) > known[-1].replace(tzinfo=None)
    seconds, before = [], -math.inf
    for moment in reversed(moments) if newest_first else moments:
        at = math.nan if moment is None else _in_zone(moment, zone, before)
        seconds.append(at)
        before = before if math.isnan(at) else at
    return seconds[::-1] if newest_first else seconds


def _in_zone(moment: datetime, zone: ZoneInfo, before: float) -> float:
    if moment.tzinfo is not None:
        return epoch_seconds(moment)
    local = moment.replace(tzinfo=zone)
    at = epoch_seconds(local)
    return at if at >= before else epoch_seconds(local.replace(fold=1))


# Numbers.


@attrs.frozen
class ValuesRead:
    """The loads of a column, NaN for a gap; ``unit`` is the unit written with the numbers."""

    values: list[float]
    unit: str


def read_values(texts: Sequence[str], lines: Sequence[int], delimiter: str, problems: FileProblems) -> ValuesRead:
    """The loads of a column of a table with this ``delimiter``. Invalid loads are added to ``problems``."""
    plain = _read_plain(texts)
    if plain is not None:
        _require_loads(plain, texts, lines, problems)
        return ValuesRead(plain, "")
    parts = [None if is_gap(text) else _split_number(text) for text in texts]
    for text, line, part in zip(texts, lines, parts, strict=True):
        if part is None and not is_gap(text):
            problems.add(line, _MUST_BE_NUMBER, quoted(text))
    decimal = _decimal_mark([part[0] if part is not None else "" for part in parts], lines, delimiter, problems)
    scales, unit = _read_units([None if part is None else part[1] for part in parts], lines, problems)
    values = []
    for text, line, part in zip(texts, lines, parts, strict=True):
        number = math.nan if part is None else _to_float(part[0], decimal)
        if part is not None and not math.isfinite(number):
            problems.add(line, _MUST_BE_NUMBER, quoted(text))
        values.append(number * scales.get(part[1], 1.0) if part is not None else math.nan)
    _require_loads(values, texts, lines, problems)
    return ValuesRead(values, unit)


_MUST_BE_NUMBER = "a value must be a finite number, or empty for a gap"


def _read_plain(texts: Sequence[str]) -> list[float] | None:
    """The numbers if all are written as Python writes them, as in most files, which is much faster; else None."""
    values = []
    for text in texts:
        if is_gap(text):
            values.append(math.nan)
            continue
        try:
            number = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            return None
        if not math.isfinite(number):
            return None
        values.append(number)
    return values


def _require_loads(values: list[float], texts: Sequence[str], lines: Sequence[int], problems: FileProblems) -> None:
    for value, text, line in zip(values, texts, lines, strict=True):
        if value < 0:
            problems.add(line, "a load must not be negative", quoted(text))


def _split_number(text: str) -> tuple[str, str] | None:
    """The digits with their marks, and the unit; None if it is not a number."""
    match = _NUMBER.fullmatch(text)
    if match is None or not any(map(str.isdigit, match[1])) or (match[3] and not match[2]):
        return None
    return match[1], ((match[2] or "") + match[3]).strip()


def _decimal_mark(digits: Sequence[str], lines: Sequence[int], delimiter: str, problems: FileProblems) -> str:
    """``.`` or ``,``, whichever fits all numbers of the column."""
    marks: dict[str, int] = {}
    commas: int | None = None
    for text, line in zip(digits, lines, strict=True):
        mark = _mark_of(text)
        if mark is None and text.count(",") == 1:
            commas = commas or line
        elif mark:
            marks.setdefault(mark, line)
    if len(marks) > 1:
        got = f"'.' in line {marks['.']} and ',' in line {marks[',']}"
        problems.add(None, "one mark must stand before the decimals of all values", got)
    if marks:
        return next(iter(marks))
    if commas is None or delimiter == ",":
        return "."
    if delimiter == ";":
        return ","  # semicolons separate columns if the comma is the decimal mark
    must = "it must be clear whether a comma stands before decimals or thousands; export values without thousands marks"
    problems.add(commas, must, quoted(digits[lines.index(commas)]))
    return "."


def _mark_of(text: str) -> str | None:
    """The decimal mark that a number shows: None if it may be either, empty if it has none."""
    commas, dots = text.count(","), text.count(".")
    if not commas and not dots:
        return ""
    if commas and dots:
        return max(",.", key=text.rfind)
    mark = "," if commas else "."
    if commas + dots > 1:
        return "." if commas else ","  # a mark that occurs twice separates thousands
    whole, _, rest = text.lstrip("+-").partition(mark)
    if len(rest) == 3 and rest.isdigit() and 0 < len(whole) <= 3 and whole != "0":
        return None
    return mark


def _to_float(text: str, decimal: str) -> float:
    other = "," if decimal == "." else "."
    try:
        return float(_GROUPS.sub("", text).replace(other, "").replace(decimal, "."))
    except ValueError:
        return math.nan


def _read_units(
    units: Sequence[str | None], lines: Sequence[int], problems: FileProblems
) -> tuple[dict[str, float], str]:
    """The factor of each unit of a column, and the base unit that remains."""
    found = {unit for unit in units if unit is not None}
    if not found:  # no value is a number, which the caller has noted
        return {}, ""
    bases = set.intersection(*({base for _, base in _splits_of(unit)} for unit in found))
    if len(found) == 1:
        (unit,) = found
        certain = [
            (prefix, base) for prefix, base in _splits_of(unit) if prefix in _CERTAIN and _stands_alone(unit, base)
        ]
        prefix, base = min(certain, default=("", unit), key=lambda split: len(split[1]))
        return {unit: _SCALES.get(prefix, 1.0)}, base
    if not bases:
        some = ", ".join(sorted(repr(unit) for unit in found)[:5])
        line = next(line for line, unit in zip(lines, units, strict=True) if unit)
        problems.add(line, "values must have one unit, or a known scale of it; export them without units", some)
        return {}, ""
    base = min(bases, key=len)
    scales = {unit: _SCALES.get(prefix, 1.0) for unit in found for prefix, left in _splits_of(unit) if left == base}
    return scales, base


def _splits_of(unit: str) -> list[tuple[str, str]]:
    """The ways to read a unit as a scale and a rest: ``K req/s`` is a thousand ``req/s``."""
    scaled = [(prefix, unit[len(prefix) :]) for prefix in _SCALES if unit.startswith(prefix)]
    return [("", unit), *((prefix, rest.strip()) for prefix, rest in scaled if not rest.startswith("i"))]


def _stands_alone(unit: str, base: str) -> bool:
    return not base or unit[-len(base) - 1].isspace()
