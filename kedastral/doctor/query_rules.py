# SPDX-License-Identifier: Apache-2.0
"""Rules about a workload's query: its PromQL, Prometheus' answers, and what a running Kedastral says."""

import re
from collections.abc import Iterator

from kedastral.core.data_quality.settling import stale_age
from kedastral.core.promql_text import read_duration, without_strings
from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import Evidence, ObjectName, QueryAnswer, settings_of_queries
from kedastral.settings.effect import describe_lack
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.promql import MAX_NAME_SHOWN, find_raw_counter, remedy_for, warn_of_raw_counter
from kedastral.settings.types import write_duration

BOOK = RuleBook()
FEWEST_SCRAPES = 2
"""Samples that ``rate()`` needs in its range."""
SCRAPE_SLACK = 0.9
"""A scrape interval is measured from jittering samples: a range of this share of two intervals still holds two."""
LATE_STEPS = 2
"""Steps by which the newest sample may be late before it is reported."""
RETENTION_SLACK = 0.95
MIDDLE_URGENCY = 1
RATED = re.compile(
    r"""\b(rate|irate|increase)\s*\(\s*
    (?P<selector>[a-zA-Z_:][\w:]*(?:\s*\{(?:[^{}"'`]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)*\})?)
    \s*\[\s*(?P<range>[0-9a-z]+)\s*\]""",
    re.VERBOSE,
)
"""Matches a counter in ``rate()``, with its selector and its range."""
_RATE_OF_SUM = re.compile(r"\b(?:rate|irate|increase)\s*\(\s*(?:sum|max|avg|count)\b")
_ZERO_FOR_NOTHING = re.compile(r"\bor\s+(?:on\s*\(\s*\)\s*)?vector\s*\(\s*0+(?:\.0*)?\s*\)", re.IGNORECASE)
_GAUGE_FUNCTIONS = re.compile(r"\b(delta|idelta|deriv)\s*\(\s*[a-zA-Z_:][\w:]*_(?:total|count|sum|bucket)\b")


def _name(workload: WorkloadSettings) -> ObjectName:
    return ObjectName("workload", str(workload.workload), workload.namespace or "")


def _answers(evidence: Evidence) -> Iterator[tuple[WorkloadSettings, QueryAnswer]]:
    for workload in settings_of_queries(evidence):
        if workload.key in evidence.answers:
            yield workload, evidence.answers[workload.key]


# What the PromQL says.


@BOOK.rule(
    "raw-counter",
    Severity.ERROR,
    title="The query is a raw counter, which only ever rises.",
    why="The plan would grow until the counter resets. Recognised by the metric's name, and with --check-queries by "
    "its values.",
    remedy="take rate() of it, such as sum(rate(http_requests_total[1m]))",
)
def _raw_counter(evidence: Evidence) -> Iterator[Symptom]:
    for workload in settings_of_queries(evidence):
        answer = evidence.answers.get(workload.key)
        if answer is not None and answer.counter:
            yield Symptom(_name(workload), answer.counter.partition(":")[0])
        elif (answer is None or not answer.is_gauge) and (counter := find_raw_counter(workload.query)):
            words = f"the query takes the counter {counter} as it is"
            yield Symptom(_name(workload), words, remedy=remedy_for(counter))


@BOOK.rule(
    "rate-of-sum",
    Severity.ERROR,
    title="rate() of a sum: the restart of one pod is seen as a spike.",
    why="In a sum rate() takes one pod's restart for a restart of all, and counts all of it as new load.",
    remedy="take the sum of the rates: sum(rate(x[1m])) instead of rate(sum(x)[1m:])",
)
def _rate_of_sum(evidence: Evidence) -> Iterator[Symptom]:
    for workload in settings_of_queries(evidence):
        if _RATE_OF_SUM.search(without_strings(workload.query)):
            yield Symptom(_name(workload), "the query takes rate() of a sum")


@BOOK.rule(
    "counter-as-gauge",
    Severity.ERROR,
    title="delta(), idelta() or deriv() of a counter.",
    why="They are for gauges: the restart of a pod makes them negative, or makes them spike.",
    remedy="take rate() or increase()",
)
def _counter_as_gauge(evidence: Evidence) -> Iterator[Symptom]:
    for workload in settings_of_queries(evidence):
        found = _GAUGE_FUNCTIONS.search(without_strings(workload.query))
        if found is not None:
            yield Symptom(_name(workload), f"the query takes {found[1]}() of a counter")


@BOOK.rule(
    "gauge-as-counter",
    Severity.ERROR,
    title="rate(), irate() or increase() of a gauge.",
    why="They take each fall of the value for a restart from 0, so that the result is no load. Recognised by the "
    "values of the last hour; a warning if only the type that Prometheus knows says so. Checked with --check-queries.",
    remedy="take the gauge as it is, such as sum(requests_in_progress)",
)
def _gauge_as_counter(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        found = RATED.search(workload.query)
        if found is None or answer.rated_falls is False or not (answer.rated_falls or answer.rated_kind == "gauge"):
            continue
        name = found["selector"].partition("{")[0].strip()[:MAX_NAME_SHOWN]
        seen = "falls again and again" if answer.rated_falls else "is a gauge to Prometheus"
        words = f"the query takes {found[1]}() of {name}, which {seen}"
        yield Symptom(_name(workload), words, remedy=f"take it as it is: sum({name})", milder=not answer.rated_falls)


@BOOK.rule(
    "zero-for-nothing",
    Severity.WARNING,
    title="The query has or vector(0).",
    why="It makes a load of 0 of every gap: while the metric is away, as in an outage of its exporter, the plan goes "
    "down instead of on, and what has happened is learnt as a quiet time.",
    remedy="leave it out: Kedastral knows a gap from a load of 0",
)
def _zero_for_nothing(evidence: Evidence) -> Iterator[Symptom]:
    for workload in settings_of_queries(evidence):
        found = _ZERO_FOR_NOTHING.search(without_strings(workload.query))
        if found is not None:
            yield Symptom(_name(workload), "the query gives 0 where there is no value")


# What Prometheus answers.


@BOOK.rule(
    "query-failed",
    Severity.ERROR,
    title="Prometheus cannot be asked, or refuses the query.",
    why="There is no forecast without it. Checked with --check-queries.",
    remedy="correct the address, the login or the query, as the message says",
)
def _query_failed(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        if answer.failure and answer.reason not in ("empty", "no_load"):
            yield Symptom(_name(workload), answer.failure)


@BOOK.rule(
    "no-series",
    Severity.ERROR,
    title="The query matches nothing, or nothing that is a load.",
    why="To Prometheus a misspelt name or label is not an error. Checked with --check-queries.",
    remedy="try the query on Prometheus' own page; check the names of its labels",
)
def _no_series(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        if answer.reason in ("empty", "no_load"):
            yield Symptom(_name(workload), answer.failure)


@BOOK.rule(
    "doubled-series",
    Severity.ERROR,
    title="A series is counted twice, as with an HA pair of Prometheus.",
    why="The load counts twice, so twice as many pods are planned. Checked with --check-queries.",
    remedy="query the place where the pair is deduplicated (Thanos, Mimir), or take one: max without "
    "(prometheus_replica) (...)",
)
def _doubled(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        if answer.twins:
            yield Symptom(_name(workload), "one of the series that are summed is counted twice")


@BOOK.rule(
    "short-range",
    Severity.ERROR,
    title="The range of rate() holds fewer than two scrapes.",
    why="rate() needs two samples: with fewer it gives nothing, or only now and then. Checked with --check-queries.",
    remedy="use a range of four scrapes, so that one may be missed",
)
def _short_range(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        ranges = [read_duration(found["range"]) for found in RATED.finditer(workload.query)]
        if answer.scrape is not None and ranges and min(ranges) < FEWEST_SCRAPES * answer.scrape * SCRAPE_SLACK:
            yield Symptom(
                _name(workload),
                f"rate() looks at {min(ranges):g} s, and samples are {answer.scrape:.0f} s apart",
                remedy=f"use a range of {write_duration(4 * max(round(answer.scrape), 1))}, so that one may be missed",
            )


@BOOK.rule(
    "max-below-load",
    Severity.WARNING,
    title="The largest load of the last hours needs more replicas than max.",
    why="The plan ends at max, whatever the forecast says, and minutes are short of pods. Checked with "
    "--check-queries.",
    remedy="raise max, and maxReplicaCount with it, or correct the target per pod",
)
def _max_below_load(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        is_counter = answer.counter or (not answer.is_gauge and find_raw_counter(workload.query) is not None)
        if answer.largest is not None and not is_counter and (lack := describe_lack(answer.largest, workload.plan)):
            yield Symptom(_name(workload), f"a load of {lack}")


@BOOK.rule(
    "late-samples",
    Severity.WARNING,
    title="The newest sample is old.",
    why="The floor reacts that much later; beyond stale-after there is no forecast, which is an error. Checked with "
    "--check-queries.",
    remedy="find the cause of the delay: a scrape interval, a remote write, a recording rule, clocks that differ",
)
def _late(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        step = workload.forecast.step
        if answer.age is not None and answer.age > LATE_STEPS * step:
            words = f"the newest sample is {answer.age:.0f} s old"
            oldest = stale_age(workload.stale.stale_after, step)
            more = f", and after {oldest:.0f} s it is stale" if answer.age > oldest else ""
            yield Symptom(_name(workload), words + more)


@BOOK.rule(
    "short-history",
    Severity.WARNING,
    title="Prometheus keeps, or has, less history than the model's window.",
    why="auto learns days and weeks from two weeks of history. An info if Prometheus keeps enough but does not have it "
    "yet. Checked with --check-queries.",
    remedy="set --storage.tsdb.retention.time of Prometheus to the window or more, or a shorter window",
)
def _short_history(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        window = workload.forecast.history_window
        if answer.retention is not None and answer.retention < RETENTION_SLACK * window:
            keeps, wants = write_duration(answer.retention), write_duration(window)
            yield Symptom(_name(workload), f"Prometheus keeps {keeps}, and the model wants {wants}")
        elif answer.history is not None and answer.history < RETENTION_SLACK * window:
            has, wants = write_duration(round(answer.history / 60) * 60 or 60), write_duration(window)
            yield Symptom(
                _name(workload),
                f"there is {has} of history, and the model wants {wants}",
                remedy="nothing to do if the workload is that young; otherwise check how long Prometheus keeps its "
                "data",
                milder=True,
            )


@BOOK.rule(
    "slow-rule",
    Severity.WARNING,
    title="The query reads a recording rule that is evaluated less often than the step.",
    why="Between two evaluations every point is the same, so the load is seen that much later. Checked with "
    "--check-queries.",
    remedy="evaluate the rule's group at the step or more often, or set --step to its interval",
)
def _slow_rule(evidence: Evidence) -> Iterator[Symptom]:
    for workload, answer in _answers(evidence):
        step = workload.forecast.step
        if answer.rule is not None and answer.rule > step:
            words = f"its recording rule is evaluated every {write_duration(answer.rule)}, the step is "
            yield Symptom(_name(workload), words + write_duration(step))


# Everything else.


@BOOK.rule(
    "kedastral-reports",
    Severity.ERROR,
    title="A running Kedastral itself reports a problem with a workload.",
    why="Failing or stale is an error; standing down, holding back or a spent error budget is a warning. Checked with "
    "--url.",
    remedy="find the reason with kedastral explain, or on the page of the workload",
)
def _reported(evidence: Evidence) -> Iterator[Symptom]:
    for state in evidence.states:
        if state.urgency <= MIDDLE_URGENCY:
            namespace, _, name = state.workload.rpartition("/")
            words = f"{state.state}: {state.reason}" if state.reason else state.state
            yield Symptom(ObjectName("workload", name, namespace), words, milder=state.urgency == MIDDLE_URGENCY)


@BOOK.rule(
    "odd-setting",
    Severity.WARNING,
    title="A setting of Kedastral is odd; kedastral validate warns about it too.",
    why="It is allowed, but most likely not what was meant. docs/configuration.md gives the reasons.",
    remedy="change it as the message says",
)
def _odd_settings(evidence: Evidence) -> Iterator[Symptom]:
    reported = {
        found.line for one in settings_of_queries(evidence) for found in warn_of_raw_counter(one.key, one.query)
    }
    for warning in evidence.warnings:
        if warning not in reported:  # by a rule of its own
            yield Symptom(ObjectName("settings", "of Kedastral"), warning)


@BOOK.rule(
    "unreadable",
    Severity.ERROR,
    title="Something that should be checked cannot be read.",
    why="Its contents were not checked: a manifest that is not YAML, or a kind that the cluster does not let you list.",
    remedy="correct it; for a chart, give what helm template prints",
)
def _unreadable(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.unread:
        yield Symptom(ObjectName("input", one.place.file), one.reason, one.place, one.remedy)
