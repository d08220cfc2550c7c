# SPDX-License-Identifier: Apache-2.0
"""What `validate` prints: the given settings with their origin, data sources, workloads and warnings."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import httpx
import numpy as np
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kedastral.adapters.http import shown_url
from kedastral.adapters.prometheus.range_queries import PrometheusHistory, RangeQuery
from kedastral.clock import SystemClock
from kedastral.core.data_quality.raw_counter import falls_often, find_counter
from kedastral.core.data_quality.settling import MAX_SETTLING, stale_age
from kedastral.core.planning.status import format_span
from kedastral.core.series import Series
from kedastral.errors import SourceError
from kedastral.proxies import read_proxies
from kedastral.settings.declarations import HTTP_MODEL
from kedastral.settings.effect import describe_lack, show_in_effect
from kedastral.settings.fleet import DataSourceSettings, FleetSettings, WorkloadSettings
from kedastral.settings.load import Loaded
from kedastral.settings.promql import describe_raw_counter, find_raw_counter
from kedastral.settings.rules import find_destinations
from kedastral.settings.schema import settings_of
from kedastral.settings.types import write_duration, write_value
from kedastral.text import one_line
from kedastral.workloads.runner import DataSourceConnection, DataSources

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


CHECKED = 6 * 3600.0
"""Seconds of history to request: enough to recognise a counter, and to span a quiet time."""


def check_all_queries(fleet: FleetSettings) -> bool:
    """Run each workload's query once, and print a line about each. Returns whether all of them return a load."""
    return trio.run(_ask_all, fleet)


async def _ask_all(fleet: FleetSettings) -> bool:
    sources, now, sound = DataSources(), SystemClock().now(), True
    sources.replace(fleet.sources)
    try:
        for workload in fleet.workloads.values():
            connection = sources.use(workload.data_source)
            is_load, words = await _ask(workload, connection, now)
            click.echo(f"query of {one_line(workload.key)}: {one_line(words, None)}")
            sound = sound and is_load
    finally:
        await sources.close()
    return sound


async def _ask(workload: WorkloadSettings, connection: DataSourceConnection, now: datetime) -> tuple[bool, str]:
    """Whether the workload's query returns a load, and what to say about it."""
    step = workload.forecast.step
    query = RangeQuery(workload.query, max(CHECKED, step), step, step)
    history = PrometheusHistory(connection.client, query, limits=connection.limits, timeout=connection.settings.timeout)
    try:
        series = await history.read(now)
    except SourceError as error:
        return False, f"error: {error}"
    counter = find_counter(series)
    if counter is not None:
        return False, f"error: {counter.words}"
    name = find_raw_counter(workload.query)
    # too little history, or a counter that rests, shows nothing in its values
    if name is not None and not falls_often(series):
        return False, f"error: the query {describe_raw_counter(name)}"
    return _judge_age(workload, series, now)


def _judge_age(workload: WorkloadSettings, series: Series, now: datetime) -> tuple[bool, str]:
    """Whether the newest value is new enough to forecast from, and the range of all values."""
    newest, step = series.newest, workload.forecast.step
    if newest is None:
        return False, "error: there is no value"
    age, fresh = (now - newest.at).total_seconds(), stale_age(workload.stale.stale_after, step)
    if age > fresh + MAX_SETTLING:  # `run` learns how late values come, up to that
        words = f"the newest value, {newest.value:,.6g}, is {format_span(age)} old ({newest.at:%Y-%m-%dT%H:%M:%SZ})"
        return False, f"error: {words}, older than --stale-after and a step ({write_duration(fresh)})"
    known = series.values[np.isfinite(series.values)]
    when = "now" if age <= fresh else f"{format_span(age)} ago"
    asked = write_duration(len(series.values) * step)
    words = f"ok, {newest.value:,.6g} {when}, {known.min():,.6g} to {known.max():,.6g} in {asked}"
    lack = describe_lack(float(known.max()), workload.plan)
    return True, f"{words}; warning: {lack}" if lack else words


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
