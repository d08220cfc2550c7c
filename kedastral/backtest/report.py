# SPDX-License-Identifier: Apache-2.0
"""Writes the report of a backtest: one HTML file that contains the numbers of its charts and the script to draw them.

Only the file's own scripts and styles apply: its Content-Security-Policy lists them by their hashes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kedastral import __version__
from kedastral.backtest import tables
from kedastral.backtest.charts import Chart, charts_of
from kedastral.backtest.results import BacktestResults
from kedastral.backtest.shortages import Shortage, show_load
from kedastral.backtest.verdict import Verdict
from kedastral.settings.types import write_duration

TEMPLATE = "report.html.j2"
PAGE = "kedastral.serving"
"""The package of the web page, whose style and chart library the report uses too."""


@attrs.define
class ChartList:
    """The charts of the whole report; the page refers to each by its number."""

    charts: list[Chart] = attrs.field(factory=list)

    def place(self, chart: Chart) -> int:
        """Add a chart and return its number."""
        self.charts.append(chart)
        return len(self.charts) - 1

    def write(self) -> Markup:
        """All charts as JSON, escaped so that it cannot end the script element around it."""
        document = [
            attrs.asdict(chart, filter=lambda _, value: value is not None and len(value) > 0) for chart in self.charts
        ]
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026"))  # noqa: S704 - escaped


def write_page(results: BacktestResults) -> str:
    """The whole page."""
    charts = ChartList()
    scripts = [_read(PAGE, "page/uPlot.iife.min.js"), _read("kedastral.backtest", "report.js")]
    styles = [
        _read(PAGE, "page/page.css"),
        _read(PAGE, "page/uPlot.min.css"),
        _read("kedastral.backtest", "report.css"),
    ]
    return (
        _make_environment()
        .get_template(TEMPLATE)
        .render(
            results=results,
            names=", ".join(workload.name for workload in results.workloads),
            several=len(results.workloads) > 1,
            workloads=[(one, charts_of(one.comparison, one.policies, one.accuracy)) for one in results.workloads],
            charts=charts,
            scripts=[Markup(text) for text in scripts],  # noqa: S704 - files of this package
            styles=[Markup(text) for text in styles],  # noqa: S704
            policy=_security_policy(scripts, styles),
            version=__version__,
        )
    )


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _security_policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """The policy: nothing is loaded, and only these scripts and styles apply."""
    sources: Mapping[str, Sequence[str]] = {"script-src": scripts, "style-src": styles}
    hashed = "; ".join(f"{name} {' '.join(map(_hash_of, texts))}" for name, texts in sources.items())
    return f"default-src 'none'; img-src data:; {hashed}; base-uri 'none'; form-action 'none'"


def _hash_of(text: str) -> str:
    """A source expression for one inline element, as in CSP level 3, section 2.3.1."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kedastral.backtest", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["text"] = tables
    environment.filters |= {
        "command": _write_command,
        "duration": write_duration,
        "load": show_load,
        "minute": _minute,
        "rows_of_all": tables.rows_of_all,
        "rows_of_each": tables.rows_of_each,
        "rows_of_one": tables.rows_of_one,
        "shortage_rows": _shortage_rows,
    }
    return environment


def _write_command(verdict: Verdict) -> str:
    """What to run, as a command or as YAML; capitals are placeholders for what a backtest does not know."""
    caution = [f"# {verdict.caution}"] if verdict.caution else []
    if verdict.spec:
        return "\n".join([*caution, "spec:", *(f"  {line}" for line in verdict.spec)])
    words = ("kedastral run", "--workload NAME", "--prom-url http://PROMETHEUS:9090", "--prom-query 'QUERY'")
    return "\n".join([*caution, " \\\n  ".join([*words, *verdict.flags])])


def _shortage_rows(worst: Sequence[Shortage]) -> list[tables.Row]:
    return [
        (
            _minute(one.timestamp),
            show_load(one.demand),
            f"{one.ready:g}",
            show_load(one.unserved),
            write_duration(one.lasted_seconds),
            one.reason,
        )
        for one in worst
    ]


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
