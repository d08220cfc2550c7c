# SPDX-License-Identifier: Apache-2.0
"""`validate --check-queries`: what Prometheus answers to each query, in replicas too, and what the doctor finds."""

from collections.abc import Collection, Sequence
from datetime import datetime

import click
import numpy as np
import trio

from kedastral.adapters.prometheus.range_queries import PrometheusHistory, RangeQuery
from kedastral.clock import SystemClock
from kedastral.core.data_quality.raw_counter import falls_often, find_counter
from kedastral.core.data_quality.settling import MAX_SETTLING, stale_age
from kedastral.core.forecast_status import format_span
from kedastral.core.series import Series
from kedastral.doctor import query_rules
from kedastral.doctor.diagnosis import Diagnosis, Severity, examine, worst
from kedastral.doctor.evidence import Evidence, QueryAnswer
from kedastral.doctor.live import LOOKED_BACK, ask_query
from kedastral.errors import SourceError
from kedastral.settings.effect import describe_lack, describe_need
from kedastral.settings.fleet import FleetSettings, WorkloadSettings
from kedastral.settings.promql import describe_raw_counter, find_raw_counter
from kedastral.settings.types import write_duration
from kedastral.text import one_line
from kedastral.workloads.data_sources import DataSourceConnection, DataSources

OK = "ok, "
IN_ITS_LINE = frozenset({"raw-counter", "max-below-load"})
"""Rules of the doctor whose findings stand in the line about the query itself."""
IN_ITS_LINE_WITHOUT_LOAD = IN_ITS_LINE | {"query-failed", "no-series", "late-samples"}


def check_all_queries(fleet: FleetSettings) -> bool:
    """Run each workload's query, and print a line about each, with what the doctor's rules find.

    Returns whether all of them return a load, and no rule finds an error.
    """
    return trio.run(_ask_all, fleet)


async def _ask_all(fleet: FleetSettings) -> bool:
    sources, now, sound = DataSources(), SystemClock().now(), True
    sources.replace(fleet.sources)
    try:
        for workload in fleet.workloads.values():
            connection = sources.use(workload.data_source)
            answers = True
            try:
                is_load, words = await _ask(workload, connection, now)
            except SourceError as error:
                is_load, words, answers = False, f"error: {error}", error.reason in ("empty", "no_load")
            answer = await ask_query(workload, connection, now) if answers else None
            found = _examine(workload, answer, IN_ITS_LINE if is_load else IN_ITS_LINE_WITHOUT_LOAD)
            is_sound = worst(found) is not Severity.ERROR
            said = [words if is_sound else words.removeprefix(OK)]
            said += [f"{one.severity}: {one.sentence}; {one.remedy} ({one.rule.link})" for one in found]
            for line in said:
                click.echo(f"query of {one_line(workload.key)}: {one_line(line, None)}")
            sound = sound and is_load and is_sound
    finally:
        await sources.close()
    return sound


async def _ask(workload: WorkloadSettings, connection: DataSourceConnection, now: datetime) -> tuple[bool, str]:
    """Whether the workload's query returns a load, and what to say about it. Raises SourceError."""
    step = workload.forecast.step
    query = RangeQuery(workload.query, max(LOOKED_BACK, step), step, step)
    history = PrometheusHistory(connection.client, query, limits=connection.limits, timeout=connection.settings.timeout)
    series = await history.read(now)
    counter = find_counter(series)
    if counter is not None:
        return False, f"error: {counter.words}"
    name = find_raw_counter(workload.query)
    # too little history, or a counter that rests, shows nothing in its values
    if name is not None and not falls_often(series):
        return False, f"error: the query {describe_raw_counter(name)}"
    return _judge_age(workload, series, now)


def _examine(workload: WorkloadSettings, answer: QueryAnswer | None, known: Collection[str]) -> Sequence[Diagnosis]:
    """What the doctor's rules about queries find, but for infos and what is ``known`` already."""
    answers = {} if answer is None else {workload.key: answer}
    found = examine(Evidence(workloads={workload.key: workload}, answers=answers), query_rules.BOOK.rules)
    return [one for one in found if one.severity is not Severity.INFO and one.rule.name not in known]


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
    words = f"{OK}{newest.value:,.6g} {when}, {known.min():,.6g} to {known.max():,.6g} in {asked}"
    at_hand, least, most = (
        describe_need(float(load), workload.plan) for load in (newest.value, known.min(), known.max())
    )
    words += f"; in replicas {at_hand} {when}, {least} to {most}, at {workload.plan.target_per_pod:,.6g} a pod"
    lack = describe_lack(float(known.max()), workload.plan)
    return True, f"{words}; warning: {lack}" if lack else words
