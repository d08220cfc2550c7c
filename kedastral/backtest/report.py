# SPDX-License-Identifier: Apache-2.0
"""Writes the report of a backtest: one HTML page from report.html.j2, with its plots inside. Needs matplotlib."""

import base64
from collections.abc import Sequence
from datetime import datetime

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

from kedastral import __version__
from kedastral.backtest import tables
from kedastral.backtest.plots import Plot, plot_accuracy, plot_curves, plot_load, plot_replicas
from kedastral.backtest.results import BacktestResults, WorkloadResults
from kedastral.backtest.verdict import Shortage, Verdict, show_load
from kedastral.settings.types import write_duration

TEMPLATE = "report.html.j2"


@attrs.frozen
class WorkloadPlots:
    """The plots of one workload."""

    load: Plot
    replicas: Plot
    curves: Plot
    accuracy: Plot


def write_page(results: BacktestResults) -> str:
    """The whole page."""
    return (
        _make_environment()
        .get_template(TEMPLATE)
        .render(
            results=results,
            names=", ".join(workload.name for workload in results.workloads),
            several=len(results.workloads) > 1,
            workloads=[(workload, _draw_plots(workload)) for workload in results.workloads],
            version=__version__,
        )
    )


def _draw_plots(workload: WorkloadResults) -> WorkloadPlots:
    comparison = workload.comparison
    return WorkloadPlots(
        plot_load(comparison),
        plot_replicas(comparison),
        plot_curves(workload.policies),
        plot_accuracy(workload.accuracy),
    )


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
        "data_uri": _data_uri,
        "duration": write_duration,
        "load": show_load,
        "minute": _minute,
        "rows_of_each": tables.rows_of_each,
        "policy_rows": tables.policy_rows,
        "rows_of_one": tables.rows_of_one,
        "shortage_rows": _shortage_rows,
    }
    return environment


def _write_command(verdict: Verdict) -> str:
    """What to run, as a command or as YAML, with placeholders in capitals for what a backtest does not know."""
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


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
