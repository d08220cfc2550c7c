# SPDX-License-Identifier: Apache-2.0
"""Every export format gives the same series as the plain file, and a message says how it was understood.

The formats are those that the programs document: Grafana's inspector
(https://grafana.com/docs/grafana/latest/panels-visualizations/panel-inspector/) with raw and formatted values, a column
for each series or rows of series, and "Download for Excel"; the console of CloudWatch; Prometheus' API
(https://prometheus.io/docs/prometheus/latest/querying/api/). `tests/integration/test_exports_of_prometheus.py` has the
answers of Prometheus and promtool themselves.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedastral.adapters.csv import Export, ExportReading, read_export
from kedastral.core.series import Series
from kedastral.errors import ConfigError

START = datetime(2026, 3, 2, tzinfo=UTC)
VALUES = [950.25, 1200.5, None, 1300.75, 1450.0, 999.5, 1001.25, 1020.0, 7.125, 1060.5, 0.0, 1100.25]
"""A dozen minutes, with a gap, thousands, and no load."""
EXPECTED = Series(START, 60.0, [np.nan if value is None else value for value in VALUES])
BERLIN = ExportReading(time_zone=ZoneInfo("Europe/Berlin"))
READ = ExportReading()


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def rows(show: Callable[[datetime, float | None], str], values: list[float | None] = VALUES) -> list[str]:
    return [show(at(minute), value) for minute, value in enumerate(values)]


def plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def lines(*parts: str | list[str]) -> bytes:
    return "\n".join(line for part in parts for line in ([part] if isinstance(part, str) else part)).encode()


def local(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"


def ms(moment: datetime) -> str:
    return str(round(moment.timestamp() * 1000))


def german(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def points(values: list[float | None] = VALUES) -> list[list[object]]:
    return [[at(i).timestamp(), repr(value)] for i, value in enumerate(values) if value is not None]


SUM = '"Time","sum(rate(http_requests_total{job=""web"", code=~""2..""}[1m]))"'
WEB, API = {"__name__": "rps", "pod": "web"}, {"__name__": "rps", "pod": "api"}
HALF = [None if value is None else value / 2 for value in VALUES]
QUARTER = [value / 4 if value is not None else None for value in VALUES]

FORMS: dict[str, tuple[bytes, ExportReading, str]] = {
    "the plain file": (
        lines("timestamp,value", rows(lambda t, v: f"{t.isoformat()},{plain(v)}")),
        READ,
        "12m in steps of 1m, column 'value'",
    ),
    "grafana, formatted: local times, units, quotes": (
        lines(SUM, rows(lambda t, v: f'"{local(t)}","{plain(v)} req/s"' if v is not None else f'"{local(t)}",""')),
        READ,
        """times taken as UTC, column 'sum(rate(http_requests_total{job="web", code=~"2.."}[1m]))' in req/s; --time-""",
    ),
    "grafana, formatted: times of the browser": (
        lines(SUM, rows(lambda t, v: f'"{t + timedelta(hours=1):%Y-%m-%d %H:%M:%S}","{plain(v)}"')),
        BERLIN,
        "times taken as Europe/Berlin",
    ),
    "grafana, formatted: scaled units": (
        lines(
            '"Time","web"',
            rows(lambda t, v: f'"{local(t)}","{f"{v / 1000!r}K req/s" if v and v > 1000 else f"{plain(v)} req/s"}"'),
        ).replace(b'" req/s"', b'"null"'),
        READ,
        "column 'web' in req/s",
    ),
    "grafana, the short unit": (
        lines("Time,web", rows(lambda t, v: f"{iso(t)},{'' if v is None else f'{v / 1000!r} K'}")),
        READ,
        "column 'web'",
    ),
    "grafana, raw: ISO times": (lines('"Time","web"', rows(lambda t, v: f"{iso(t)},{plain(v)}")), READ, "column 'web'"),
    "grafana, raw: milliseconds": (lines("Time,web", rows(lambda t, v: f"{ms(t)},{plain(v)}")), READ, "column 'web'"),
    "grafana, the locale of an American browser": (
        lines(
            "Time,web", rows(lambda t, v: f'"{t + timedelta(hours=23, minutes=55):%m/%d/%Y, %I:%M:%S %p}",{plain(v)}')
        ),
        READ,
        "times taken as UTC",
    ),
    "grafana, for excel": (
        "\r\n".join(["sep=;", "Time;web", *rows(lambda t, v: f"{local(t)};{plain(v)}"), ""]).encode("utf-16"),
        READ,
        "column 'web'",
    ),
    "grafana, a column for each series": (
        lines("Time,web,api", rows(lambda t, v: f"{iso(t)},{plain(v)},5")),
        ExportReading(column="web"),
        "column 'web'; --column, --time-column change it",
    ),
    "grafana, rows of series, with semicolons": (
        lines(
            "Series;Time;Value",
            rows(lambda t, v: f"web;{t.isoformat()};{'null' if v is None else repr(v)}"),
            rows(lambda t, _: f"api;{t.isoformat()};5"),
        ),
        ExportReading(column="web"),
        "column 'web'; --column, --time-column change it",
    ),
    "cloudwatch": (
        lines(
            '"Full label","app/web RequestCount"',
            '"Statistic","Sum"',
            '"Period","1 minute"',
            '"Time","app/web"',
            rows(lambda t, v: f'"{t:%Y/%m/%d %H:%M:%S}","{plain(v)}"')[::-1],
        ),
        READ,
        "12m in steps of 1m, newest first, times taken as UTC, 3 lines above the table left out, column 'app/web'",
    ),
    "seconds since 1970": (lines(rows(lambda t, v: f"{t.timestamp():.0f},{plain(v)}")), READ, "column '2'"),
    "UTC in words": (lines("time,load", rows(lambda t, v: f"{local(t)} UTC,{plain(v)}")), READ, "column 'load'"),
    "an offset in words": (lines("time,load", rows(lambda t, v: f"{local(t)} +0000 UTC,{plain(v)}")), READ, "column"),
    "newest first": (
        lines("timestamp,value", rows(lambda t, v: f"{iso(t)},{plain(v)}")[::-1]),
        READ,
        "12m in steps of 1m, newest first, column 'value'",
    ),
    "out of order, with equal duplicates": (
        lines(
            "time,load", rows(lambda t, v: f"{iso(t)},{plain(v)}")[6:], rows(lambda t, v: f"{iso(t)},{plain(v)}")[:8]
        ),
        READ,
        "12m in steps of 1m, 8 rows out of order, 2 duplicates dropped",
    ),
    "words for gaps": (
        lines("time,load,note", rows(lambda t, v: f"{iso(t)},{'NaN' if v is None else repr(v)},null")),
        READ,
        "column 'load'",
    ),
    "semicolons and decimal commas": (
        lines("Zeit;Last", rows(lambda t, v: f"{t:%d.%m.%Y %H:%M};{german(v)}")),
        READ,
        "times taken as UTC, column 'Last'",
    ),
    "tabs": (lines("time\tload", rows(lambda t, v: f"{iso(t)}\t{plain(v)}")), READ, "column 'load'"),
    "UTF-16 without a mark": (
        "\n".join(rows(lambda t, v: f"{iso(t)},{plain(v)}")).encode("utf-16-le"),
        READ,
        "column '2'",
    ),
    "thousands in quotes": (
        lines("time,load", rows(lambda t, v: f'{iso(t)},"{"" if v is None else f"{v:,.3f}"}"')),
        READ,
        "column 'load'",
    ),
    "thousands apart, as in French": (
        lines(
            "time;load",
            rows(
                lambda t, v: (
                    f"{iso(t)};{f'{v:,.3f}'.replace(',', chr(0x202F)).replace('.', ',') if v is not None else ''}"
                )
            ),
        ),
        READ,
        "column 'load'",
    ),
    "prometheus: query_range": (
        json.dumps(
            {
                "status": "success",
                "data": {"resultType": "matrix", "result": [{"metric": {}, "values": points()}]},
            }
        ).encode(),
        READ,
        "12m in steps of 1m",
    ),
    "prometheus: several series are summed": (
        json.dumps(
            {
                "status": "success",
                "data": {
                    "resultType": "matrix",
                    "result": [{"metric": one, "values": points(HALF)} for one in (WEB, API)],
                },
            }
        ).encode(),
        READ,
        "12m in steps of 1m, the sum of 2 series; --column changes it",
    ),
    "promtool, json": (
        json.dumps([{"metric": WEB, "values": points()}, {"metric": API, "values": points(QUARTER)}]).encode(),
        ExportReading(column='rps{pod="web"}'),
        "series 'rps{pod=\"web\"}'; --column changes it",
    ),
    "promtool, text": (
        lines("{} =>", [f"{value} @[{moment:.0f}]" for moment, value in points()]),
        READ,
        "12m in steps of 1m",
    ),
}


def read(folder: Path, content: bytes, reading: ExportReading = READ) -> Export:
    path = folder / "history.csv"
    path.write_bytes(content)
    return read_export(path, reading)


def refused(folder: Path, content: bytes, reading: ExportReading = READ) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, content, reading)
    return [problem.removeprefix(f"{folder / 'history.csv'}").removeprefix(": ") for problem in caught.value.problems]


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read_to_the_series_of_the_plain_file(tmp_path: Path, form: str) -> None:
    content, reading, words = FORMS[form]
    export = read(tmp_path, content, reading)
    expected = EXPECTED
    if "American" in form:  # the day changes within the file: 3/2/2026 is followed by 3/3/2026
        expected = Series(START + timedelta(hours=23, minutes=55), 60.0, EXPECTED.values)
    assert export.series == expected
    assert words in export.understood


# Labels of CloudWatch.

LABELLED = {
    "a label": ('"Full label","app/web RequestCount"', '"Label","RequestCount"'),
    "a full label": ('"Full label","RequestCount"',),
    "a metric": ('"Metric name","RequestCount"', '"LoadBalancer","app/web"'),
}
SUMS = rows(lambda t, v: f'"{t:%Y/%m/%d %H:%M:%S}","{plain(v)}"')


@pytest.mark.parametrize("period", ["60", "1 minute"])
@pytest.mark.parametrize("labels", LABELLED)
@pytest.mark.parametrize("header", [(), ('"Time","Sum"',)], ids=["no header", "a header with the statistic"])
def test_a_column_of_cloudwatch_is_called_by_its_label_and_a_sum_is_a_count(
    tmp_path: Path, labels: str, period: str, header: tuple[str, ...]
) -> None:
    above = (*LABELLED[labels], '"Statistic","Sum"', f'"Period","{period}"', *header)
    export = read(tmp_path, lines(*above, SUMS))
    assert export.series == EXPECTED
    assert "column 'RequestCount'" in export.understood
    per = "1m" if period == "60" else period
    assert export.warnings == (f"each value is a count per {per} (statistic Sum); so must be the target per pod",)


def test_the_labels_of_several_series_each_name_their_column(tmp_path: Path) -> None:
    above = ('"Label","web","api"', '"Statistic","Sum","Average"', '"Period","60","60"', '"Unit","Count","Percent"')
    table = rows(lambda t, v: f'"{t:%Y/%m/%d %H:%M:%S}","{plain(v)}","5"')
    web, api = (read(tmp_path, lines(*above, table), ExportReading(column=name)) for name in ("web", "api"))
    assert web.series == EXPECTED
    assert (web.unit, len(web.warnings)) == ("Count", 1)
    assert (api.unit, len(api.warnings)) == ("Percent", 1)
    assert "column 'api': this looks like a percentage" in api.warnings[0]


def test_a_duration_is_no_load(tmp_path: Path) -> None:
    content = lines("time,p99", [f"2026-03-02T00:{minute:02}:00Z,{20 + minute} ms" for minute in range(5)])
    (warning,) = read(tmp_path, content).warnings
    assert warning.startswith("column 'p99': this is a duration. Latency is not a load")


def test_a_header_that_is_called_as_a_label_stays_a_header(tmp_path: Path) -> None:
    content = lines("metric,time,value", rows(lambda t, v: f"web,{iso(t)},{plain(v)}"))
    assert "column 'value'" in read(tmp_path, content).understood
    content = lines("Period,Load", rows(lambda t, v: f"{iso(t)},{plain(v)}"))
    assert "column 'Load'" in read(tmp_path, content).understood


@pytest.mark.parametrize(
    ("name", "unit"), [("web", "%"), ("CPUUtilization", ""), ("CPU utilisation", ""), ("busy (%)", "")]
)
def test_a_percentage_is_warned_of_since_it_is_no_load(tmp_path: Path, name: str, unit: str) -> None:
    export = read(tmp_path, lines(f"time,{name}", rows(lambda t, v: f"{iso(t)},{(v or 1) / 20:g}{unit}")))
    [warning] = export.warnings
    assert "Utilisation is not a load: it falls when pods are added." in warning
    plainly = read(tmp_path, lines("time,web", rows(lambda t, v: f"{iso(t)},{(v or 1) / 20:g} req/s")))
    assert (plainly.unit, plainly.warnings) == ("req/s", ())


# Times.


def test_scrapes_that_jitter_and_drift_are_brought_to_the_grid(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    load = 100 + np.arange(2000.0)
    jitter = random.uniform(-2, 2, 2000)
    jitter[700] = 14.0  # a scrape that was delayed
    content = lines(rows(lambda t, v: f"{t.timestamp() + jitter[round((v or 0) - 100)]:.3f},{v}", load.tolist()))
    export = read(tmp_path, content)
    assert export.series == Series(START, 60.0, load)
    assert export.understood == "1d9h20m in steps of 1m, times up to 2.3 s off moved to the grid, column '2'"


def test_rows_that_drift_by_whole_steps_leave_gaps_and_keep_their_times(tmp_path: Path) -> None:
    jitter = np.random.default_rng(3).uniform(-1, 1, 3000)
    times = 1e9 + 60.05 * np.arange(3000.0) + jitter  # two and a half minutes later at the end
    series = read(tmp_path, lines([f"{at:.3f},{i}" for i, at in enumerate(times)])).series
    assert (series.step, np.isnan(series.values).sum()) == (60.0, 2)
    assert abs((series.time_at(len(series) - 1).timestamp()) - times[-1]) < 60


@given(st.floats(-29, 29), st.floats(59.95, 60.05), st.integers(0, 59))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
def test_no_place_is_far_from_its_row_however_rows_drift_and_shift(
    tmp_path: Path, shift: float, period: float, phase: int
) -> None:
    times = phase + period * np.arange(400.0)
    times[200:] += shift  # the target was started anew
    series = read(tmp_path, lines([f"{1e9 + at:.3f},{i}" for i, at in enumerate(times)])).series
    assert series.step == pytest.approx(60, abs=0.051)
    places = np.array([(1e9 + at - series.start.timestamp()) / series.step for at in times])
    for i, place in enumerate(places):
        near = series.values[max(0, int(place) - 1) : int(place) + 3]
        assert (np.abs(near - i) <= 0.5).any()  # its own value, or the mean of two


def test_the_hour_that_comes_twice_is_told_apart_by_the_order_of_rows(tmp_path: Path) -> None:
    begin = datetime(2026, 10, 24, 22, tzinfo=UTC)  # clocks in Berlin go back at 01:00 UTC
    moments = [begin + timedelta(minutes=10 * i) for i in range(60)]
    shown = [f"{moment.astimezone(BERLIN.time_zone):%Y-%m-%d %H:%M},{i}" for i, moment in enumerate(moments)]
    expected = Series(begin, 600.0, np.arange(60.0))
    assert read(tmp_path, lines("time,load", shown), BERLIN).series == expected
    assert read(tmp_path, lines("time,load", shown[::-1]), BERLIN).series == expected
    assert refused(tmp_path, lines("time,load", shown)) == [
        f", line 20: {ONE_VALUE}; got 12 and 18 for 2026-10-25 02:00:00 UTC (and 5 more)"
    ]


def test_days_and_months_are_told_apart_by_the_whole_column(tmp_path: Path) -> None:
    moments = [START + timedelta(hours=i) for i in range(40)]
    expected = Series(START, 3600.0, np.arange(40.0))
    for form in ("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%m/%d/%Y %I:%M %p"):
        content = lines("date,load", [f"{moment:{form}},{i}" for i, moment in enumerate(moments)])
        assert read(tmp_path, content).series == expected, form
    one_day = lines("date,load", [f"{moment:%d/%m/%Y %H:%M},{i}" for i, moment in enumerate(moments[:20])])
    (said,) = refused(tmp_path, one_day)
    assert said.startswith(", line 2: dates must show whether the day or the month comes first; export times in ISO")


# What is ambiguous, or no load.

A_TIME = (
    "a time must be ISO 8601, a date with a time of day, or seconds or milliseconds since 1970, between 1970 and 2100"
)
ONE_MEANING = (
    "it must be clear whether a comma stands before decimals or thousands; export values without thousands marks"
)
ONE_VALUE = (
    "one time must have one value; export one series, choose it with --column, or name the --time-zone if an hour "
    "comes twice as the clocks go back"
)
THOUSANDTHS = "times must be seconds or milliseconds since 1970; these look like seconds divided by 1,000"

REFUSED: dict[str, tuple[bytes, ExportReading, list[str]]] = {
    "several columns": (
        b"time,web,api\n0,1,2\n60,1,2\n",
        READ,
        ["it must be clear which column is the load; choose it with --column NAME; got the columns 'web', 'api'"],
    ),
    "seconds divided by a thousand": (
        b"time,web\n1792281,1\n1792281,2\n1792282,3\n",
        READ,
        [f", line 3: {THOUSANDTHS}; got 1 and 2 for 1970-01-21 17:51:21 UTC"],
    ),
    "several series": (
        b"series,time,value\nweb,0,1\napi,0,2\nweb,60,1\napi,60,2\n",
        READ,
        ["it must be clear which series is the load; choose it with --column NAME; got the series 'web', 'api'"],
    ),
    "another column": (
        b"time,web,api\n0,1,2\n60,1,2\n",
        ExportReading(column="wep"),
        ["--column must be one of its columns or series; got 'wep'; it has 'web', 'api'"],
    ),
    "another series": (
        json.dumps([{"metric": WEB, "values": points()}]).encode(),
        ExportReading(column="web"),
        ["--column must be one of its series; got 'web'; it has 'rps{pod=\"web\"}'"],
    ),
    "another time": (
        b"time,web\n0,1\n60,1\n",
        ExportReading(time_column="when"),
        ["--time-column must be one of its columns; got 'when'; it has 'time', 'web'"],
    ),
    "words only": (
        b"time,state\n2026-03-02T00:00:00Z,up\n2026-03-02T00:01:00Z,down\n",
        READ,
        ["it must hold a load; got the columns 'state'"],
    ),
    "units that do not fit": (
        b"time,web\n0,1 min\n60,3 s\n",
        READ,
        [", line 2: values must have one unit, or a known scale of it; export them without units; got 'min', 's'"],
    ),
    "a column of words": (
        b"time,web,name\n0,1,a\n60,2,b\n",
        ExportReading(column="name"),
        [", line 2: a value must be a finite number, or empty for a gap; got 'a' (and 1 more)"],
    ),
    "two decimal marks": (
        b'time,web\n0,"1,5"\n60,"1.5"\n',
        READ,
        ["one mark must stand before the decimals of all values; got '.' in line 3 and ',' in line 2"],
    ),
    "decimals or thousands": (
        b"time\tweb\n0\t1,234\n60\t1,500\n",
        READ,
        [f", line 2: {ONE_MEANING}; got '1,234'"],
    ),
    "everything at once": (
        lines(
            ["time,web", "2026-03-02T00:00:00Z,1", "now,1", "2026-03-02T00:02:00Z,-1", "2026-03-02T00:03:00Z,?"],
            ["2026-03-02T00:04:00Z,-2", "2026-03-02T00:05:00Z,1,2", "2026-03-02T00:00:00Z,7"],
        ),
        READ,
        [
            ", line 7: each row must have 2 columns; got 3",
            f", line 3: {A_TIME}; got 'now'",
            ", line 5: a value must be a finite number, or empty for a gap; got '?'",
            ", line 4: a load must not be negative; got '-1' (and 1 more)",
            f", line 8: {ONE_VALUE}; got 1 and 7 for 2026-03-02 00:00:00 UTC",
        ],
    ),
    "an instant query": (
        b'{"status":"success","data":{"resultType":"vector","result":[]}}',
        READ,
        ["JSON must be the answer of query_range, or of promtool query range -o json; got a vector, which has no past"],
    ),
    "an error of prometheus": (
        b'{"status":"error","errorType":"bad_data","error":"no sum"}',
        READ,
        ["JSON must be the answer of query_range, or of promtool query range -o json; got an error: bad_data: no sum"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_ambiguous_or_no_load_is_refused_with_line_and_remedy(tmp_path: Path, what: str) -> None:
    content, reading, problems = REFUSED[what]
    assert refused(tmp_path, content, reading) == problems


def test_a_column_is_found_by_its_name_in_any_case_or_by_its_number(tmp_path: Path) -> None:
    content = b"begin,Web,end,api\n2026-03-02T00:00:00Z,1,1772409660,5\n2026-03-02T00:01:00Z,2,1772409720,6\n"
    assert read(tmp_path, content, ExportReading(column="web")).series.values.tolist() == [1, 2]
    assert read(tmp_path, content, ExportReading(column="4")).series.values.tolist() == [5, 6]
    ends = read(tmp_path, content, ExportReading(column="4", time_column="end")).series
    assert ends == Series(START + timedelta(minutes=1), 60.0, [5.0, 6.0])


@given(st.text(alphabet='0123456789,;.\t\n -:"TZ[]{}=>@abeKNn\x00é', max_size=120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.csv"
    path.write_text(text)
    try:
        series = read_export(path, READ).series
    except ConfigError as error:
        problems = error.problems
    else:
        assert not (series.values < 0).any()
        return
    assert all(problem.startswith(str(path)) and "\n" not in problem for problem in problems)
