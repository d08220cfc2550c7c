# SPDX-License-Identifier: Apache-2.0
"""A query that names a raw counter is warned of before Prometheus is asked, and only if that is sure."""

import time
from pathlib import Path

import pytest

from kedastral.settings.commands import RunSettings
from kedastral.settings.load import load
from kedastral.settings.promql import find_raw_counter, warn_of_raw_counter

from .fleets import load_fleet, policy, source, write

GIVEN = {"WORKLOAD": "web", "PROM_URL": "http://prometheus:9090"}
WORDS = "takes the counter http_requests_total as it is; take rate() of it, such as sum(rate(http_requests_total[1m]))"


@pytest.mark.parametrize(
    "query",
    [
        "http_requests_total",
        'sum(http_requests_total{app="web"})',
        "sum by (pod) (http_requests_total)",
        "sum(http_requests_total) without (pod)",
        "max_over_time(http_requests_total[5m])",
        "sum(http_requests_total) / 60",
        "2 * http_requests_total > 1e3",
        "sum(http_requests_total) or vector(0)",
        "SUM(http_requests_total) or on() vector(0)",
        "http_requests_total offset 5m",
        "sum(http_requests_total) + sum(pings_total)",
        "sum(http_requests_total) # of all pods: not rate()",
        'sum(http_requests_total{handler!="/rate(x)"})',
        "# don't\nsum(http_requests_total) # it's the load",
        'sum({"http_requests_total", app="web"})',
        'sum({app="web", `http_requests_total`})',
        '{__name__="http_requests_total"}',
    ],
)
def test_a_counter_without_rate_is_found(query: str) -> None:
    assert find_raw_counter(query) == "http_requests_total"


@pytest.mark.parametrize(
    "query",
    [
        "sum(rate(http_requests_total[1m]))",
        "sum(increase(http_requests_total[1m])) / 60",
        "rollup_rate(http_requests_total[1m])",
        "increase_pure(http_requests_total[1m])",
        "xrate(http_requests_total[1m])",
        "job:http_requests_total:rate5m",
        "sum(job:http_requests_total)",
        "sum(queue_length) by (requests_total)",
        'queue_length{requests_total="5"}',
        'queue_length{app="http_requests_total"}',
        "queue_length # rate of http_requests_total",
        "# don't forget the workers\nsum(rate(\n  # that's all\n  http_requests_total[1m]))",
        'queue_length{__name__=~"http_requests_total"}',
        'sum by ("http_requests_total", job) (queue_length)',
        'sum(rate({"http_requests_total"}[1m]))',
        '{"job:http_requests_total", app="web"}',
        "http_requests_total - http_requests_total offset 1m",
        "a_total / b_total",
        "count(http_requests_total)",
        "queue_length unless http_requests_total",
        "queue_length and http_requests_total > 0",
        "http_requests_total > bool 5",
        "queue_length > http_requests_total",
        "sum(memory_total_bytes)",
        "up",
    ],
)
def test_what_may_be_no_counter_is_not_called_one(query: str) -> None:
    assert find_raw_counter(query) is None


@pytest.mark.parametrize(
    "piece", ["a", "a_total", "{", "(", "by (", "'", "a ", "or ", "/ 1", "#", "a(", ":a", "[", " ", '\\"', "\\'", "`'"]
)
def test_a_hostile_query_is_judged_at_once(piece: str) -> None:
    began = time.perf_counter()
    for quote in ("", '"', "'"):
        find_raw_counter(quote + piece * (64_000 // len(piece)))
    assert time.perf_counter() - began < 1


def test_a_counter_whose_name_needs_quotes_keeps_them_in_the_remedy() -> None:
    [found] = warn_of_raw_counter("web", 'sum({"http.requests_total"})')
    assert found.line.endswith(
        "takes the counter http.requests_total as it is; take rate() of it, such as "
        'sum(rate({"http.requests_total"}[1m]))'
    )
    assert warn_of_raw_counter("web", '{"two\nlines_total"}') == ()


def test_the_warning_names_the_workload_the_counter_and_what_to_write() -> None:
    loaded = load(RunSettings, {}, {**GIVEN, "PROM_QUERY": "sum(http_requests_total)"})
    assert f"the query of workload web {WORDS}" in loaded.warnings
    sound = load(RunSettings, {}, {**GIVEN, "PROM_QUERY": "sum(rate(http_requests_total[1m]))"})
    assert not [line for line in sound.warnings if "counter" in line]


def test_each_workload_of_a_file_has_its_warning(tmp_path: Path) -> None:
    raw = {"query": "http_requests_total"}
    path = write(tmp_path, source(), policy("a", "shop", **raw), policy("good"), policy("b", **raw))
    fleet = load_fleet(path)
    assert fleet.warnings == (f"the query of workload shop/a {WORDS}", f"the query of workload b {WORDS}")
    write(tmp_path, source(), policy("new", **raw), policy("a", "shop", **raw))
    told = {*fleet.read_again().warnings} - {*fleet.warnings}
    assert told == {f"the query of workload new {WORDS}"}, "a reload tells only what is new"


def test_the_counter_of_a_scaled_object_is_warned_of_unless_a_variable_hides_it() -> None:
    fleet = load(RunSettings, {}, {**GIVEN, "PROM_QUERY": "up"}).settings.fleet
    described = {"query": "http_requests_total", "targetPerPod": "5", "workload": "cart"}
    shown = fleet.workload_from_metadata("shop", "web", described)
    assert [one.line for one in shown.warnings] == [f"the query of workload shop/cart {WORDS}"]
    hidden = fleet.workload_from_metadata("shop", "web", {"queryFromEnv": "hush_total\n", "targetPerPod": "5"})
    [found] = hidden.warnings
    assert found.line.startswith("the query of workload shop/web takes a counter as it is; take rate() of it")
    assert "hush" not in found.line
