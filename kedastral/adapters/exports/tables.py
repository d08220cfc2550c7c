# SPDX-License-Identifier: Apache-2.0
"""Finds times and loads in a delimited text: the delimiter, label lines, the header, and the right columns; pure.

Columns are found by their cells, and by their names if several would fit. A file may have a column for each series, or
rows of series, time and value.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from zoneinfo import ZoneInfo

import attrs

from kedastral.adapters.exports.answers import show_names
from kedastral.adapters.exports.cells import is_epoch, is_gap, is_number, is_time, read_times, read_values
from kedastral.adapters.exports.grid import Row
from kedastral.adapters.exports.problems import FileProblems, quoted

DELIMITERS = (",", ";", "\t", "|")
SAMPLE = 200
"""How many lines are used to find the delimiter and the columns."""
TIME_NAMES = frozenset({"time", "timestamp", "date", "datetime", "date time", "ts", "_time", "@timestamp", "epoch"})
VALUE_NAMES = frozenset({"value", "_value", "load"})
SERIES_LABELS = ("label", "full label", "metric name", "metricname", "metric", "id")
"""CloudWatch's names for the lines above its table that name a series, the best first."""
STATISTIC_LABELS, PERIOD_LABELS, UNIT_LABELS = ("statistic", "stat"), ("period",), ("unit",)
OTHER_LABELS = ("namespace", "region", "account", "account id", "accountid", "dimensions", "expression")
LABELS = frozenset({*SERIES_LABELS, *STATISTIC_LABELS, *PERIOD_LABELS, *UNIT_LABELS, *OTHER_LABELS})
_SEPARATOR_LINE = re.compile(r"sep=(.)")


@attrs.frozen
class Line:
    """The cells of one line, and its number."""

    number: int
    cells: list[str]


@attrs.frozen
class CellTable:
    """Lines of data below their ``names``, all of one width; ``above`` is how many label lines were skipped.

    ``labels`` are those of CloudWatch: the cells of a line by its first cell, in lower case.
    """

    delimiter: str
    names: tuple[str, ...]
    lines: list[Line]
    above: int
    labels: Mapping[str, Sequence[str]] = attrs.field(factory=dict)

    def find_label(self, names: Sequence[str], column: int) -> str:
        """What the first of these labels says about a column; empty if none does."""
        return _find_label(self.labels, names, column)


@attrs.frozen
class TableRows:
    """What was found in a table; ``choice`` says whether there were other columns or series to choose from.

    ``statistic`` and ``period`` are what labels above the table say about each value; empty if there are none.
    """

    rows: list[Row]
    column: str
    unit: str
    naive: bool
    above: int
    choice: bool
    statistic: str = ""
    period: str = ""


def read_table(
    text: str, zone: ZoneInfo, column: str | None, time_column: str | None, problems: FileProblems
) -> TableRows:
    """The rows of one load. Raises ConfigError if it is unclear which; errors in cells are added to ``problems``.

    ``column`` and ``time_column`` are names, or numbers starting at 1; ``column`` may also be the name of a series.
    """
    table = _find_table(text, problems)
    time_at = _find_time_column(table, time_column, problems)
    numeric = [i for i in range(len(table.names)) if i != time_at and _is_numeric(table, i)]
    labels = _find_labels(table, time_at, numeric)
    value_at, series = _find_value_column(table, numeric, labels, (time_at, column), problems)
    if series is not None:
        lines = [line for line, label in zip(table.lines, labels, strict=True) if series in (label, *line.cells)]
        table = attrs.evolve(table, lines=lines)
    numbers = [line.number for line in table.lines]
    times = read_times([line.cells[time_at] for line in table.lines], numbers, zone, problems)
    values = read_values([line.cells[value_at] for line in table.lines], numbers, table.delimiter, problems)
    rows = [Row(*row) for row in zip(numbers, times.seconds, values.values, strict=True)]
    return TableRows(
        rows,
        series or table.names[value_at],
        values.unit or table.find_label(UNIT_LABELS, value_at),
        times.naive,
        table.above,
        choice=len(numeric) > 1 or series is not None,
        statistic=table.find_label(STATISTIC_LABELS, value_at),
        period=table.find_label(PERIOD_LABELS, value_at),
    )


# Lines and columns.


def _find_table(text: str, problems: FileProblems) -> CellTable:
    lines = text.splitlines()
    declared = _SEPARATOR_LINE.fullmatch(lines[0].strip()) if lines else None
    skipped = 1 if declared else 0
    sample = lines[skipped : skipped + SAMPLE]
    delimiter = declared[1] if declared else max(DELIMITERS, key=lambda one: _count_data(sample, one))
    read = _split(lines[skipped:], delimiter, skipped, problems)
    first = next((i for i, line in enumerate(read) if _is_data(line.cells)), None)
    if first is None:
        first = min(1, len(read))
        if len(read) < 2:
            must = "it must hold at least two rows with a time and a value"
            raise problems.refuse(None, must, f"{len(read)} lines, and no such row")
    width = Counter(len(line.cells) for line in read[first : first + SAMPLE]).most_common(1)[0][0]
    above = [line.cells for line in read[:first]]
    labels = _find_labels_above(above)
    names, has_header = _name_columns(above, width, labels)
    data = []
    for line in read[first:]:
        if line.cells in above:
            continue  # concatenated exports repeat their header
        if len(line.cells) != width:
            must = f"each row must have {width} columns" if width > 1 else "it must have columns, a time and a value"
            problems.add(line.number, must, str(len(line.cells)))
            continue
        data.append(line)
    if width < 2:
        must = "it must have two columns at least, a time and a value, separated by commas, semicolons or tabs"
        raise problems.refuse(read[first].number, must, quoted(read[first].cells[0]))
    return CellTable(delimiter, names, data, len(above) - has_header, labels)


def _split(lines: Sequence[str], delimiter: str, skipped: int, problems: FileProblems) -> list[Line]:
    """The cells of each line that is not blank; trailing empty cells are dropped if every line has them."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    found = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                found.append(Line(reader.line_num + skipped, stripped))
    except csv.Error as error:
        raise problems.refuse(reader.line_num + skipped, "it must be a line of a table", str(error)) from error
    if found and all(not line.cells[-1] for line in found if _is_data(line.cells)) and len(found[-1].cells) > 2:
        return [Line(line.number, line.cells if line.cells[-1] else line.cells[:-1]) for line in found]
    return found


def _count_data(lines: Sequence[str], delimiter: str) -> int:
    """How many lines have a time and a value, if this is the delimiter."""
    try:
        return sum(_is_data([cell.strip() for cell in cells]) for cells in csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return 0


def _is_data(cells: Sequence[str]) -> bool:
    """Whether a line has a time and, besides it, a number or a gap; the periods of several series look the same."""
    if cells and cells[0].lower() in PERIOD_LABELS:
        return False
    numbers = sum(is_number(cell) or is_gap(cell) for cell in cells)
    return (numbers >= 1 and any(map(is_time, cells))) or (numbers >= 2 and any(map(is_epoch, cells)))


def _name_columns(
    above: Sequence[Sequence[str]], width: int, labels: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], bool]:
    """The names of the columns, and whether they come from a header; otherwise from ``labels``, or they are numbers.

    The header is the line above the data, or the one above it that names the time. If it repeats what a label says
    about a column, such as its statistic, the label of the series is the name.
    """
    headers = [cells for cells in above if len(cells) == width]
    named = [cells for cells in headers if any(cell.lower() in TIME_NAMES for cell in cells)]
    headers = named or ([] if labels else headers)
    header = (headers or [[""] * width])[-1]
    names = []
    for i, cell in enumerate(header):
        said = {_find_label(labels, names_of, i) for names_of in (STATISTIC_LABELS, PERIOD_LABELS, UNIT_LABELS)}
        label = _find_label(labels, SERIES_LABELS, i) if i and cell in {"", *said} else ""
        names.append(label or cell or str(i + 1))
    return tuple(names), bool(headers)


def _find_labels_above(above: Sequence[Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """The label lines by their names; a single one may be a header."""
    found = {cells[0].lower(): cells for cells in above if cells[0].lower() in LABELS}
    return found if len(found) > 1 else {}


def _find_label(labels: Mapping[str, Sequence[str]], names: Sequence[str], column: int) -> str:
    """What the first label with one of ``names`` says about a column, empty if none does: one cell may apply to all."""
    for name in names:
        cells = labels.get(name, ())
        said = cells[column] if column < len(cells) else cells[1] if len(cells) == 2 else ""
        if said and column:
            return said
    return ""


def _find_time_column(table: CellTable, asked: str | None, problems: FileProblems) -> int:
    if asked is not None:
        found = _find_name(table.names, asked)
        if found is None:
            raise problems.refuse(None, "--time-column must be one of its columns", _not_among(asked, table.names))
        return found
    columns = range(len(table.names))
    dates = [i for i in columns if _share(table, i, is_time) > 0.5]
    numbers = [i for i in columns if _share(table, i, is_epoch) > 0.5]
    named = [i for i in columns if table.names[i].lower() in TIME_NAMES]
    by_both = [i for i in named if i in dates] or [i for i in named if i in numbers]
    return (by_both or dates or named or numbers or [0])[0]


def _find_labels(table: CellTable, time_at: int, numeric: Sequence[int]) -> list[str]:
    """The series of each row if several have rows at the same times; otherwise none."""
    texts = [i for i in range(len(table.names)) if i != time_at and i not in numeric]
    times = [line.cells[time_at] for line in table.lines]
    if not texts or len(set(times)) == len(times):
        return [""] * len(times)
    return [" ".join(line.cells[i] for i in texts) for line in table.lines]


def _find_value_column(
    table: CellTable,
    numeric: Sequence[int],
    labels: Sequence[str],
    asked: tuple[int, str | None],
    problems: FileProblems,
) -> tuple[int, str | None]:
    """The column of the load, and its series if rows of several are mixed."""
    time_at, column = asked
    series = list(dict.fromkeys(labels))
    known = list(dict.fromkeys([*labels, *_cells_beside(table, time_at, numeric)])) if len(series) > 1 else []
    others = [i for i in range(len(table.names)) if i != time_at]
    chosen = _only_value(table, numeric) if column is None or column in known else _find_name(table.names, column)
    if column is not None and (chosen is None or chosen == time_at):
        there = [*(table.names[i] for i in others), *(series if len(series) > 1 else ())]
        raise problems.refuse(None, "--column must be one of its columns or series", _not_among(column, there))
    if chosen is None and not numeric:
        gaps = all(is_gap(line.cells[i]) for line in table.lines for i in others)
        got = "only gaps" if gaps else f"the columns {show_names([table.names[i] for i in others])}"
        raise problems.refuse(None, "it must hold at least one value" if gaps else "it must hold a load", got)
    if chosen is None:
        names = show_names([table.names[i] for i in numeric])
        must = "it must be clear which column is the load; choose it with --column NAME"
        raise problems.refuse(None, must, f"the columns {names}")
    if len(series) == 1:
        return chosen, None
    if column in known:
        return chosen, column
    must = "it must be clear which series is the load; choose it with --column NAME"
    raise problems.refuse(None, must, f"the series {show_names(series)}")


def _only_value(table: CellTable, numeric: Sequence[int]) -> int | None:
    """The only column with numbers, or the one of several that is called a value."""
    if len(numeric) == 1:
        return numeric[0]
    named = [i for i in numeric if table.names[i].lower() in VALUE_NAMES]
    return named[0] if len(named) == 1 else None


def _cells_beside(table: CellTable, time_at: int, numeric: Sequence[int]) -> list[str]:
    texts = [i for i in range(len(table.names)) if i != time_at and i not in numeric]
    return [line.cells[i] for line in table.lines for i in texts]


def _find_name(names: Sequence[str], asked: str) -> int | None:
    """A column by its name, case-insensitive if that is unambiguous, or by its number."""
    for wanted, known in ((asked, list(names)), (asked.lower(), [name.lower() for name in names])):
        if known.count(wanted) == 1:
            return known.index(wanted)
    return int(asked) - 1 if asked.isascii() and asked.isdigit() and 1 <= int(asked) <= len(names) else None


def _is_numeric(table: CellTable, column: int) -> bool:
    """Whether a column holds numbers, apart from gaps; one with only gaps may be the load if it is the only one."""
    cells = [line.cells[column] for line in islice(table.lines, SAMPLE)]
    values = [cell for cell in cells if not is_gap(cell)]
    if not values:
        values = [cell for line in table.lines if not is_gap(cell := line.cells[column])][:SAMPLE]
    return bool(values) and sum(map(is_number, values)) >= 0.5 * len(values)


def _share(table: CellTable, column: int, is_one: Callable[[str], bool]) -> float:
    cells = [line.cells[column] for line in islice(table.lines, SAMPLE)]
    return sum(map(is_one, cells)) / len(cells) if cells else 0.0


def _not_among(asked: str, names: Sequence[str]) -> str:
    return f"{asked!r}; it has {show_names(names)}"
