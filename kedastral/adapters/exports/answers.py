# SPDX-License-Identifier: Apache-2.0
"""Saved answers of Prometheus: the JSON of `query_range`, and what `promtool query range` prints.

Formats: https://prometheus.io/docs/prometheus/latest/querying/api/ and
https://prometheus.io/docs/prometheus/latest/command-line/promtool/; promtool's JSON is the ``result`` of the API's.
"""

import json
import math
import re
from collections.abc import Sequence

import attrs

from kedastral.adapters.exports.grid import Row
from kedastral.adapters.exports.problems import FileProblems, quoted
from kedastral.adapters.prometheus.answer import LabelledPoints, RefusedError, parse_answer

_SERIES = re.compile(r"(.*) =>")
_POINT = re.compile(r"(\S+) @\[([0-9.]+)\]")


@attrs.frozen
class SummedSeries:
    """The sum of some series of an answer, as rows, and the labels of all of them."""

    rows: list[Row]
    labels: tuple[str, ...]
    chosen: tuple[str, ...]


def is_json(text: str) -> bool:
    """Whether a file holds JSON and not a table."""
    return text.lstrip()[:1] in ("{", "[")


def is_promtool(text: str) -> bool:
    """Whether a file holds what promtool prints: the labels of a series, then its points."""
    return _SERIES.fullmatch(text.lstrip().partition("\n")[0].rstrip()) is not None


def read_json_answer(text: str, column: str | None, problems: FileProblems) -> SummedSeries:
    """The answer of `query_range`, or of promtool. Series are summed as `run` sums them. Raises ConfigError."""
    body = text.strip()
    if body.startswith("["):
        body = f'{{"status":"success","data":{{"resultType":"matrix","result":{body}}}}}'
    must = "JSON must be the answer of query_range, or of promtool query range -o json"
    try:
        answer = parse_answer(body.encode())
    except RefusedError as error:
        raise problems.refuse(None, must, f"an error: {error}") from error
    except (ValueError, RecursionError) as error:
        raise problems.refuse(None, must, quoted(str(error))) from error
    if answer.result_type != "matrix":
        raise problems.refuse(None, must, f"a {answer.result_type}, which has no past")
    series = [(_label_of(one), [(float(at), float(value)) for at, value in one.points]) for one in answer.series]
    return _sum(series, column, problems)


def read_promtool(text: str, column: str | None, problems: FileProblems) -> SummedSeries:
    """What promtool prints without ``-o json``. Raises ConfigError."""
    series: list[tuple[str, list[tuple[float, float]]]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if heading := _SERIES.fullmatch(line):
            series.append((heading[1].strip() or "{}", []))
        elif point := _POINT.fullmatch(line):
            series[-1][1].append((float(point[2]), _to_float(point[1])))
        elif line:
            problems.add(number, "it must be a point as promtool prints it, VALUE @[TIME]", quoted(line))
    problems.raise_any()
    return _sum(series, column, problems)


def _label_of(series: LabelledPoints) -> str:
    labels = json.loads(bytes(series.labels) or b"{}")
    name = labels.pop("__name__", "")
    pairs = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{pairs}}}" if pairs or not name else name


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _sum(
    series: Sequence[tuple[str, list[tuple[float, float]]]], column: str | None, problems: FileProblems
) -> SummedSeries:
    """One row for each time of any series; as in `run`, only finite, non-negative values count."""
    labels = tuple(label for label, _ in series)
    chosen = [one for one in series if column is None or one[0] == column]
    if column is not None and not chosen:
        raise problems.refuse(None, "--column must be one of its series", f"{column!r}; it has {show_names(labels)}")
    sums: dict[float, float] = {}
    for _, points in chosen:
        for at, value in points:
            usable = value if math.isfinite(value) and value >= 0 else math.nan
            before = sums.get(at, math.nan)
            sums[at] = usable if math.isnan(before) else before if math.isnan(usable) else before + usable
    rows = [Row(0, at, value) for at, value in sums.items()]
    return SummedSeries(rows, labels, tuple(label for label, _ in chosen))


def show_names(names: Sequence[str]) -> str:
    """Some of many names, for an error."""
    some = ", ".join(map(repr, names[:10]))
    return f"{some} and {len(names) - 10} more" if len(names) > 10 else some or "none"
