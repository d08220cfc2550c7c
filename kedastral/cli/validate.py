# SPDX-License-Identifier: Apache-2.0
"""What `validate` prints: the given settings with their origin, data sources, workloads and warnings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kedastral.adapters.http import shown_url
from kedastral.proxies import read_proxies
from kedastral.settings.declarations import HTTP_MODEL
from kedastral.settings.effect import show_in_effect
from kedastral.settings.fleet import DataSourceSettings, FleetSettings, WorkloadSettings
from kedastral.settings.load import Loaded
from kedastral.settings.rules import find_destinations
from kedastral.settings.schema import settings_of
from kedastral.settings.types import write_duration, write_value
from kedastral.text import one_line

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

MIN_WIDTH = 110
"""The least width of a terminal for tables of workloads; narrower ones would break words."""
ASKED = {"url": "Prometheus", "model_url": "The model", "forecaster_url": "The forecaster"}
"""The servers that a process queries, by the setting with their address."""


def print_settings(
    command: str, loaded: Loaded[Any], environ: Mapping[str, str], *, defaults: bool = False, asked: bool = False
) -> None:
    """Print everything that ``command`` was given, and the proxies from ``environ`` that its requests use.

    ``defaults`` adds the settings that were not given; ``asked`` says that Prometheus is queried next. Secrets are not
    shown, nor queries from files, which may be long.
    """
    console = Console()
    known = settings_of(type(loaded.settings))
    shown = [setting for setting in known if defaults or setting.name in loaded.given]
    rows = [
        (setting.shown, one_line(show_in_effect(setting, loaded.values), None), loaded.origin_of(setting.name))
        for setting in shown
    ]
    if not console.is_terminal:
        for name, value, origin in rows:
            click.echo(f"{name} = {value} (from {origin})" if origin != "default" else f"{name} = {value} (default)")
    elif rows:
        _print_table(console, ("setting", "value", "from"), rows, f"Settings of kedastral {command}")
    if len(shown) < len(known):
        click.echo(f"{len(known) - len(shown)} settings have their default; --defaults shows them.")
    if loaded.fleet is not None and loaded.fleet.path is not None:
        _print_fleet(console, loaded.fleet.settings)
    for warning in loaded.warnings:
        click.echo(f"warning: {one_line(warning, None)}")
    has_sources = loaded.fleet is not None and loaded.fleet.settings.sources
    for line in dict.fromkeys(_describe_proxies(loaded, environ)):
        click.echo(one_line(line, None))
    not_asked = [
        who
        for name, who in ASKED.items()
        if (loaded.values.get(name) or (name == "url" and has_sources)) and not (name == "url" and asked)
    ]
    hint = "; --check-queries asks it"
    words = (f"{who} was not asked{hint if who == ASKED['url'] else ''}." for who in not_asked)
    click.echo(" ".join(["The settings are sound.", *words, *(["Asking the queries:"] if asked else [])]))


def _describe_proxies(loaded: Loaded[Any], environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each address that is reached through a proxy; the same is logged at the start."""
    proxies = read_proxies(environ)
    addresses = [destination.url for destination in find_destinations(loaded.values)]
    if loaded.fleet is not None:
        addresses += [source.url for source in loaded.fleet.settings.sources.values()]
        forecasts = [workload.forecast for workload in loaded.fleet.settings.workloads.values()]
        addresses += [one.model_url for one in forecasts if one.model == HTTP_MODEL and one.model_url is not None]
    for address in map(httpx.URL, addresses):
        proxy = proxies.find(address)
        if proxy is not None:
            yield proxy.describe_for(shown_url(address))


def _print_fleet(console: Console, fleet: FleetSettings) -> None:
    sources = [_source_cells(source) for source in fleet.sources.values()]
    workloads = [_workload_cells(workload) for workload in fleet.workloads.values()]
    for columns, rows in ((SOURCE_COLUMNS, sources), (WORKLOAD_COLUMNS, workloads)):
        if not console.is_terminal or console.width < MIN_WIDTH:
            _print_lines(columns, rows)
        elif rows:
            _print_table(console, columns, rows)
    click.echo(f"{_count(len(workloads), 'workload')}, {_count(len(sources), 'data source')}.")


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
    """Marks a value that was not given, for the two settings that differ between workloads."""
    return " (not given)" if name in workload.by_default else ""


def _print_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for first, *middle, origin in rows:
        words = ", ".join(f"{column} {cell}" for column, cell in zip(columns[1:-1], middle, strict=True))
        click.echo(one_line(f"{columns[0]} {first}: {words} (from {origin})", None))


def _print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    table = Table(title=title or None)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell, None)) for cell in row))
    console.print(table)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
