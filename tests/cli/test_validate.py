# SPDX-License-Identifier: Apache-2.0
"""`kedastral validate --config`: lists what the files hold, or every problem in them."""

import re
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import numpy as np
import pytest

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.workloads import data_sources
from tests.cli.test_commands import Outcome, call
from tests.settings.fleets import EXAMPLES, policy, source, write

LOGIN = "  auth: {username: joe, passwordEnv: PW}\n"


WEB = "workload shop/web: data source prom, model auto, target per pod 200, lead time 2m, replicas 2 to any"
API = "workload api: data source prom, model auto, target per pod 40, lead time 5m (not given), replicas 3 to 50"


def test_workloads_and_sources_are_listed_a_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        source("prom", LOGIN),
        policy("web", "shop", leadTime="2m", max="0"),
        policy("api", min="3", targetPerPod="40", mode="observe"),
    )
    for command in ("run", "forecaster"):
        outcome = call(monkeypatch, "validate", "--command", command, "--config", str(path), env={"PW": "hush"})
        assert (outcome.code, outcome.err) == (0, "")
        *lines, warning, last = outcome.out.splitlines()[-6:]
        words = [line.partition(" (from ") for line in lines[:3]]
        assert [before for before, _, _ in words] == [
            "data source prom: url http://prom:9090, login basic, requests at a time 8, a second 50",
            f"{WEB}, mode scale, on stale default-min",
            f"{API}, mode observe, on stale default-min",
        ]
        assert [origin for _, _, origin in words] == [f"{path}, document {number})" for number in (1, 2, 3)]
        assert lines[3] == "2 workloads, 1 data source."
        assert warning.startswith(f"warning: {path}, document 3 (line 22): spec.defaultMin is below spec.min (3)")
        assert last == "The settings are sound. Prometheus was not asked; --check-queries asks it."
        assert "hush" not in outcome.out


def test_a_terminal_shows_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    outcome = call(monkeypatch, "validate", "--config", str(write(tmp_path, source(), policy("web", "shop"))))
    assert outcome.code == 0
    assert "shop/web" in outcome.out
    assert "data source" in outcome.out


def test_a_narrow_terminal_shows_lines_that_break_no_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    path = str(write(tmp_path, source(), policy("web", "shop", leadTime="2m", max="0")))
    outcome = call(monkeypatch, "validate", "--config", path, env={"COLUMNS": "80"})
    assert f"{WEB}, mode scale, on stale default-min (from {path}, document 2)" in outcome.out.splitlines()


def test_all_problems_of_all_files_end_it_with_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy(min="x"), policy("y", leadTme="5m"))
    outcome = call(monkeypatch, "validate", "--config", str(path), "--log-level", "loud")
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.problems) == 3
    assert call(monkeypatch, "run", "--config", str(path)).code == 2


def test_a_folder_is_given_by_the_variable_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("example-datasource.yaml", "example-forecastpolicy.yaml"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    outcome = call(monkeypatch, "validate", env={"KEDASTRAL_CONFIG": str(tmp_path), "WORKLOAD": ""})
    assert outcome.code == 0
    assert f"--config = {tmp_path} (from KEDASTRAL_CONFIG)" in outcome.out
    assert "1 workload, 1 data source." in outcome.out


def test_commands_without_a_fleet_know_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(write(tmp_path, source(), policy()))
    outcome = call(monkeypatch, "validate", "--command", "scaler", "--forecaster-url", "http://f", "--config", path)
    assert outcome.problems == ["--config is an unknown flag; it belongs to run, forecaster, doctor and backtest"]


def answer_by_query(request: httpx.Request) -> httpx.Response:
    """A load, a raw counter, a query that does not parse, and one without a result. Samples are 30 s apart."""
    if not request.url.path.endswith("query_range"):
        return answer_about_metric(request)
    given = parse_qs(request.content.decode() or request.url.query.decode())
    asked = {name: values[0] for name, values in given.items()}
    if "rate" not in asked["query"] and "deriv" not in asked["query"] and "(" in asked["query"]:
        refusal = {"status": "error", "errorType": "bad_data", "error": "unclosed left parenthesis"}
        return httpx.Response(400, json=refusal)
    times = np.arange(float(asked["start"]), float(asked["end"]) + 1, float(asked["step"]))
    values = 1000 + 60 * np.arange(len(times)) if asked["query"] == "requests_total" else 100 + 5 * np.sin(times)
    if asked["query"] == "http_requests_total":
        values = np.full(len(times), 1000.0)
    if asked["query"].startswith("ended"):
        lasts = times < times[-1] - float(asked["query"].split("_")[1])
        times, values = times[lasts], values[lasts]
    points = [[at, str(value)] for at, value in zip(times.tolist(), values.tolist(), strict=True)]
    result = [] if asked["query"] == "absent" else [{"metric": {}, "values": points}]
    return httpx.Response(200, json={"status": "success", "data": {"resultType": "matrix", "result": result}})


def answer_about_metric(request: httpx.Request) -> httpx.Response:
    """Samples of each metric are 30 s apart. 100 changes in an hour are 40 falls of ``in_progress``, else none."""
    if not request.url.path.endswith("query"):
        return httpx.Response(404)
    text = (request.content.decode() or request.url.query.decode()).replace("%28", "(").replace("%29", ")")
    falls = 40.0 if "in_progress" in text else 0.0
    value = falls if "resets(" in text else 100.0 if "changes(" in text else 5.0 if "time()" in text else 30.0
    result = [{"metric": {}, "value": [0, str(value)]}]
    return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": result}})


def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *policies: str) -> Outcome:
    transport = httpx.MockTransport(answer_by_query)
    monkeypatch.setattr(data_sources, "open_prometheus_client", partial(open_prometheus_client, transport=transport))
    return call(monkeypatch, "validate", "--check-queries", "--config", str(write(tmp_path, source(), *policies)))


def test_each_query_is_asked_once_and_what_is_no_load_ends_it_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcome = check(
        monkeypatch, tmp_path, policy("good", query="rate(x[1m])"), policy("raw", query="requests_total"),
        policy("typo", query="'sum('"), policy("none", query="absent"),
    )  # fmt: skip
    said = dict(line.removeprefix("query of ").split(": ", 1) for line in outcome.out.splitlines()[-4:])
    assert said["good"].startswith("ok, ")
    assert said["raw"].startswith("error: the values only ever rise, from 1,000 to ")
    assert "take rate() of it" in said["raw"]
    assert "unclosed left parenthesis" in said["typo"]
    assert said["none"].startswith("error: ")
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.out.splitlines()[-5] == "The settings are sound. Asking the queries:"


def test_a_load_that_needs_more_than_max_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The load is 95 to 105."""
    outcome = check(
        monkeypatch, tmp_path, policy("low", query="rate(x[2m])", targetPerPod="15", max="6"),
        policy("enough", query="rate(x[2m])", targetPerPod="15", max="7"),
        policy("any", query="rate(x[2m])", targetPerPod="15", max="0"),
    )  # fmt: skip
    low, enough, unlimited = outcome.out.splitlines()[-3:]
    assert re.search(
        r"^query of low: ok, .* in 6h; .* a pod; warning: 10[45][.\d]* needs 7 replicas at 15 a pod, and max is 6$",
        low,
    )
    assert "warning" not in enough + unlimited
    assert outcome.code == 0


def test_the_load_is_told_in_replicas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The load is 95 to 105: 19 to 21 times 5, 24 to 27 times 4."""
    outcome = check(monkeypatch, tmp_path, policy("five", targetPerPod="5"), policy("four", targetPerPod="4"))
    said = dict(line.removeprefix("query of ").split(": ", 1) for line in outcome.out.splitlines()[-2:])
    for name, words in (
        ("five", r"(20|21) now, 20 to 21, at 5 a pod"),
        ("four", r".* now, 24 to 27, at 4 a pod"),
    ):
        assert re.fullmatch(r"ok, [\d.]+ now, 95[\d.]* to 10[45][\d.]* in 6h; in replicas " + words, said[name]), said[
            name
        ]


def test_the_rules_of_the_doctor_speak_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = check(
        monkeypatch, tmp_path, policy("gauge", query="sum(rate(in_progress[5m]))"),
        policy("slope", query="deriv(requests_total[5m])"), policy("short", query="sum(rate(x[30s]))"),
        policy("none", query="absent"), policy("low", query="rate(x[2m])", targetPerPod="15", max="6"),
    )  # fmt: skip
    said = [line.removeprefix("query of ") for line in outcome.out.splitlines()]
    errors = [line for line in said if line.partition(": ")[2].startswith("error: ")]
    assert errors.pop().startswith("none: error: the query matched nothing"), "once"
    assert [line.partition(";")[0] for line in errors] == [
        "gauge: error: the query takes rate() of in_progress, which falls again and again",
        "slope: error: the query takes deriv() of a counter",
        "short: error: rate() looks at 30 s, and samples are 30 s apart",
    ]
    assert errors[2].endswith("; use a range of 2m, so that one may be missed (docs/doctor.md#short-range)")
    assert not [line for line in said if re.match("(gauge|slope|short): ok", line)]
    assert len([line for line in said if line.startswith("low: ")]) == 1, "what max lacks is told once"
    assert outcome.code == 1
    assert check(monkeypatch, tmp_path, policy("gauge", query="sum(rate(in_progress[5m]))")).code == 1
    warned = check(monkeypatch, tmp_path, policy("zero", query="sum(rate(x[2m])) or vector(0)"))
    assert (warned.code, "query of zero: warning: the query gives 0 where" in warned.out) == (0, True)


def test_a_load_that_has_ended_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = check(monkeypatch, tmp_path, policy("late", query="ended_600"), policy("gone", query="ended_18000"))
    late, more, last = (line.removeprefix("query of ") for line in outcome.out.splitlines()[-3:])
    said = dict(line.split(": ", 1) for line in (late, last))
    assert re.fullmatch(
        r"ok, [\d.]+ 1[12] min ago, 9[\d.]+ to 10[\d.]+ in 6h; in replicas \d+ 1[12] min ago, .*", said["late"]
    )
    assert re.match(r"late: warning: the newest sample is \d+ s old, and after 180 s it is stale; ", more)
    gone = r"error: the newest value, [\d.]+, is 5 h old \(.*Z\), older than --stale-after and a step \(3m\)"
    assert re.fullmatch(gone, said["gone"])
    assert outcome.code == 1


def test_a_counter_that_rests_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = check(monkeypatch, tmp_path, policy("raw", query="http_requests_total"))
    words = "error: the query takes the counter http_requests_total as it is; take rate() of it, such as sum(rate("
    assert f"query of raw: {words}" in outcome.out
    assert outcome.code == 1


def test_what_rises_and_falls_is_no_counter_whatever_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = check(monkeypatch, tmp_path, policy("gauge", query="jobs_waiting_total"))
    assert "query of gauge: ok, " in outcome.out
    assert outcome.code == 0


def test_a_counter_is_known_by_its_name_without_asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("raw", query="http_requests_total"), policy("good", query="rate(x[1m])"))
    outcome = call(monkeypatch, "validate", "--config", str(path))
    warnings = [line for line in outcome.out.splitlines() if line.startswith("warning: the query")]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: the query of workload raw takes the counter http_requests_total as it is; ")
    assert outcome.code == 0


def test_queries_that_all_give_a_load_end_it_with_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check(monkeypatch, tmp_path, policy("good", query="rate(x[1m])")).code == 0


def test_without_workloads_there_is_no_query_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--command", "scaler", "--forecaster-url", "http://f", "--check-queries")
    outcome = call(monkeypatch, "validate", *arguments)
    assert outcome.code == 2
    assert outcome.problems == ["--check-queries needs workloads with queries; scaler was given none"]
