# SPDX-License-Identifier: Apache-2.0
"""Data sources and workloads as `validate` lists them: tables in a wide terminal, else a line each."""

from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kedastral.models import MODELS
from kedastral.settings.declarations import (
    DEFAULT_HEADROOM,
    DataSourceSettings,
    FleetSettings,
    ForecastSettings,
    WorkloadSettings,
)
from kedastral.settings.resolve import show
from kedastral.settings.schema import Setting
from kedastral.settings.types import write_duration, write_value

SOURCE_COLUMNS = ("data source", "url", "login", "requests at a time", "a second", "from")
WORKLOAD_COLUMNS = (
    "workload",
    "data source",
    "model",
    "target per pod",
    "lead time",
    "replicas",
    "mode",
    "on stale",
    "from",
)

LEAST_WIDTH = 110
"""Of a terminal that is shown tables; in a narrower one they would break words, and lines are easier to read."""


def print_fleet(console: Console, fleet: FleetSettings) -> None:
    """All of it; no secret and no query, which may be long."""
    sources = [_source_cells(source) for source in fleet.sources.values()]
    workloads = [_workload_cells(workload) for workload in fleet.workloads.values()]
    for columns, rows in ((SOURCE_COLUMNS, sources), (WORKLOAD_COLUMNS, workloads)):
        if not console.is_terminal or console.width < LEAST_WIDTH:
            _print_lines(columns, rows)
        elif rows:
            _print_table(console, columns, rows)
    click.echo(f"{_count(len(workloads), 'workload')}, {_count(len(sources), 'data source')}.")


def one_line(text: str) -> str:
    """``text`` without what would leave its line or move the cursor."""
    return "".join(c if c.isprintable() else " " for c in text)


def _source_cells(source: DataSourceSettings) -> tuple[str, ...]:
    login = source.login
    kind = "basic" if login.username else "token" if login.token or login.token_file else "none"
    return (
        source.name, source.url, kind, str(source.max_concurrent), write_value(source.max_per_second), source.origin,
    )  # fmt: skip


def _workload_cells(workload: WorkloadSettings) -> tuple[str, ...]:
    plan = workload.plan
    bounds = f"{plan.min_replicas} to {plan.max_replicas or 'any'}"
    return (
        workload.key, workload.data_source, str(workload.forecast.model),
        write_value(plan.target_per_pod) + _remark(workload, "target_per_pod"),
        write_duration(workload.serving.lead_time) + _remark(workload, "lead_time"),
        bounds, str(workload.serving.mode), str(workload.stale.on_stale), workload.origin,
    )  # fmt: skip


def _remark(workload: WorkloadSettings, name: str) -> str:
    """Said of the two that differ from workload to workload: what nobody gave is a guess."""
    return " (not given)" if name in workload.by_default else ""


def _print_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for first, *middle, origin in rows:
        words = ", ".join(f"{column} {cell}" for column, cell in zip(columns[1:-1], middle, strict=True))
        click.echo(one_line(f"{columns[0]} {first}: {words} (from {origin})"))


def _print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(table)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# --- What `validate` shows of a setting that nobody gave and whose default follows from others.


def show_in_effect(setting: Setting, settings: Any, value: Any) -> str:
    """The value of ``setting`` in ``settings``, a settings class; where it is none, what holds instead."""
    forecast: ForecastSettings | None = getattr(settings, "forecast", None)
    if value is None and forecast is not None and setting.name == "headroom":
        return show_headroom(str(forecast.model), value)
    if value is None and forecast is not None and setting.name == "window":
        return f"{write_duration(forecast.history_window)} (what {forecast.model} wants)"
    return show(setting, value)


def show_headroom(model: str, headroom: float | None) -> str:
    """The headroom that a model's forecasts are planned with."""
    if headroom is not None:
        return write_value(headroom)
    steered = model in MODELS and MODELS[model].plans_by_service_level
    return "none (steered to the service level)" if steered else write_value(DEFAULT_HEADROOM)
