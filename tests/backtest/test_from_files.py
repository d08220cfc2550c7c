# SPDX-License-Identifier: Apache-2.0
"""`kedastral backtest --config`: workloads of files, with the settings and the data sources that `run` would use."""

import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import httpx
import pytest

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.settings.commands import BacktestSettings
from kedastral.settings.schema import settings_of
from kedastral.workloads import data_sources
from tests.backtest.loads import STEP, Ended, call, wave, write_csv
from tests.settings.fleets import policy, source, write

pytestmark = pytest.mark.slow

SHORT = {
    "step": "10m", "leadTime": "20m", "horizon": "1h", "window": "2h", "model": "baseline", "staleAfter": "10m",
}  # fmt: skip
"""A policy's settings that fit a history of few steps, and are computed quickly."""
RULES = ("--warm-up", "2h", "--sync-period", "10m", "--days", "3")
LOGIN = "  auth: {username: joe, passwordEnv: PW}\n  headers: [{name: X-Scope-OrgID, value: shop}]\n"


@attrs.frozen
class Prometheus:
    """Answers every range query with a wave; ``asked`` are the requests."""

    asked: list[httpx.Request] = attrs.field(factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        given = {name: values[0] for name, values in parse_qs(urlsplit(str(request.url)).query).items()}
        start, end = float(given["start"]), float(given["end"])
        load = wave(round((end - start) / STEP) + 1)
        points = [[start + n * STEP, repr(value)] for n, value in enumerate(load)]
        data = {"resultType": "matrix", "result": [{"metric": {}, "values": points}]}
        return httpx.Response(200, json={"status": "success", "data": data})


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in settings_of(BacktestSettings):
        monkeypatch.delenv(setting.env, raising=False)


@pytest.fixture
def prometheus(monkeypatch: pytest.MonkeyPatch) -> Prometheus:
    served = Prometheus()
    transport = httpx.MockTransport(served.answer)
    monkeypatch.setattr(data_sources, "open_prometheus_client", partial(open_prometheus_client, transport=transport))
    return served


Replay = Callable[..., Mapping[str, Any]]


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Replay:
    """Every figure, by the name of the workload."""

    def replayed(*arguments: object) -> Mapping[str, Any]:
        target = tmp_path / "figures.json"
        ended = call(monkeypatch, *arguments, *RULES, "--json", target)
        assert ended.code == 0, ended.err
        return {one["workload"]: one for one in json.loads(target.read_text())["workloads"]}

    return replayed


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[str]:
    ended: Ended = call(monkeypatch, *arguments, *RULES)
    assert (ended.code, ended.out) == (2, "")
    return [line.removeprefix("kedastral: ") for line in ended.err.splitlines()]


def test_a_policy_is_replayed_with_its_own_settings_query_and_data_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus, replay: Replay
) -> None:
    monkeypatch.setenv("PW", "hush")
    web = policy("web", "shop", **SHORT, query="'sum(web)'", targetPerPod="7.5", min="3", max="9", headroom="1.3")
    path = write(tmp_path, source("prom", LOGIN), web, policy("api", **SHORT))
    figures = replay("--config", path, "--workload", "shop/web")
    assert list(figures) == ["shop/web"]
    one = figures["shop/web"]
    assert (one["targetPerPod"], one["minReplicas"], one["maxReplicas"], one["leadTimeSeconds"]) == (7.5, 3, 9, 1200)
    ours = one["policies"][0]
    assert (ours["policy"], ours["knob"], ours["setting"]) == ("kedastral", "headroom", 1.3)
    (request,) = prometheus.asked
    assert (request.url.host, request.url.params["query"], request.url.params["step"]) == ("prom", "sum(web)", "600")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"joe:hush").decode()
    assert request.headers["X-Scope-OrgID"] == "shop"


def test_defaults_are_those_of_run(tmp_path: Path, prometheus: Prometheus, replay: Replay) -> None:
    path = write(tmp_path, source(), policy("web", **SHORT))
    one = replay("--config", path)["web"]
    assert (one["targetPerPod"], one["minReplicas"], one["maxReplicas"]) == (200, 2, 50)
    assert "max: 50" not in one["verdict"]["spec"]
    assert len(prometheus.asked) == 1


def test_a_flag_wins_over_the_file(tmp_path: Path, prometheus: Prometheus, replay: Replay) -> None:
    path = write(tmp_path, source(), policy("web", **SHORT, headroom="1.3", min="3", max="9"), policy("api", **SHORT))
    one = replay("--config", path, "--workload", "web", "--headroom", "1.5", "--prom-query", "other")["web"]
    assert (one["policies"][0]["setting"], one["minReplicas"]) == (1.5, 3)
    assert "max: 9" in one["verdict"]["spec"]
    assert prometheus.asked[0].url.params["query"] == "other"


def test_the_flags_that_win_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus) -> None:
    path = write(tmp_path, source(), policy("web", **SHORT, headroom="1.3"))
    ended = call(monkeypatch, "--config", path, *RULES, "--headroom", "1.5")
    told = f"kedastral: warning: --headroom wins over spec.headroom of web in {path}, document 2\n"
    assert (ended.code, ended.err) == (0, told)
    assert prometheus.asked


def test_a_pod_may_be_as_large_as_the_history_says(tmp_path: Path, prometheus: Prometheus, replay: Replay) -> None:
    path = write(tmp_path, source(), policy("web", **SHORT))
    one = replay("--config", path, "--target-per-pod", "auto")["web"]
    assert one["targetPerPod"] == pytest.approx(max(wave(432)) / 40, rel=0.05)
    assert prometheus.asked


def test_without_a_name_every_policy_has_a_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus
) -> None:
    path = write(
        tmp_path,
        source("east"),
        source("west"),
        policy("web", "shop", **SHORT, dataSource="east", headroom="1.3"),
        policy("api", **SHORT, dataSource="west"),
    )
    target, report = tmp_path / "figures.json", tmp_path / "report.html"
    ended = call(monkeypatch, "--config", path, *RULES, "--json", target, "--report", report)
    assert ended.code == 0
    assert sorted(request.url.host for request in prometheus.asked) == ["east", "west"]
    _, _, rows = ended.out.partition("Kedastral on each workload")
    assert rows.index("shop/web, headroom 1.3") < rows.index("api, headroom 1.2")
    assert "The workloads have different settings, so there is no joint verdict" in rows
    document = json.loads(target.read_text())
    assert (document["verdict"], document["policies"]) == (None, [])
    assert [one["workload"] for one in document["workloads"]] == ["shop/web", "api"]
    assert "The workloads have different settings" in report.read_text()


def test_policies_of_equal_settings_have_a_verdict_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus
) -> None:
    path = write(tmp_path, source(), policy("web", **SHORT), policy("api", **SHORT))
    ended = call(monkeypatch, "--config", path, *RULES)
    assert ended.code == 0
    assert "all 2 workloads" in ended.out
    assert len(prometheus.asked) == 2


def test_a_name_alone_is_enough_where_one_policy_has_it(tmp_path: Path, prometheus: Prometheus, replay: Replay) -> None:
    path = write(tmp_path, source(), policy("web", "shop", **SHORT), policy("api", **SHORT))
    assert list(replay("--config", path, "--workload", "web", "--headroom", "1.4")) == ["shop/web"]
    assert len(prometheus.asked) == 1


def test_an_unknown_name_is_told_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("web", "shop"), policy("api"))
    wrong = "--workload must name a ForecastPolicy of the files, got "
    assert refused(monkeypatch, "--config", path, "--workload", "checkout") == [
        wrong + "'checkout'; there are shop/web, api"
    ]
    assert refused(monkeypatch, "--config", path, "--workload", "shop/wep") == [
        wrong + "'shop/wep'; did you mean shop/web?"
    ]


def test_a_name_of_several_policies_must_be_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("web", "shop"), policy("web", "till"))
    problems = refused(monkeypatch, "--config", path, "--workload", "web")
    assert problems == ["--workload must say which 'web': shop/web, till/web"]


def test_what_is_wrong_with_the_files_is_told_as_run_tells_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("web", dataSource="prem"), policy("api", leadTme="5m"))
    problems = refused(monkeypatch, "--config", path, "--workload", "web")
    misspelt = "spec.dataSource must name a DataSource, got 'prem'; did you mean prom?"
    assert f"{path}, document 2 (line 14): {misspelt}" in problems
    assert f"{path}, document 3 (line 23): spec.leadTme is unknown; did you mean leadTime?" in problems


@pytest.mark.parametrize("variable", [False, True])
def test_the_flag_of_the_address_is_another_way_to_the_same_data_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus, variable: bool
) -> None:
    """The variable means the same as in `run`: a separate data source, called default."""
    monkeypatch.setenv("PW", "hush")
    path = write(tmp_path, source("prom", LOGIN), policy("web", **SHORT, dataSource="prom"))
    if variable:
        monkeypatch.setenv("PROM_URL", "http://localhost:9090")
    flags = () if variable else ("--prom-url", "http://localhost:9090")
    assert call(monkeypatch, "--config", path, *RULES, *flags).code == 0
    (request,) = prometheus.asked
    assert request.url.host == ("prom" if variable else "localhost")
    assert request.headers["Authorization"].startswith("Basic ")


def test_a_login_beside_the_address_takes_the_place_of_the_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus
) -> None:
    monkeypatch.setenv("PW", "hush")
    monkeypatch.setenv("PROM_TOKEN", "mine")
    path = write(tmp_path, source("prom", LOGIN), policy("web", **SHORT))
    assert call(monkeypatch, "--config", path, *RULES, "--prom-url", "http://localhost:9090").code == 0
    assert prometheus.asked[0].headers["Authorization"] == "Bearer mine"


def test_the_address_alone_is_a_data_source_where_the_files_have_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus
) -> None:
    path = write(tmp_path, policy("web", **SHORT))
    assert call(monkeypatch, "--config", path, *RULES, "--prom-url", "http://localhost:9090").code == 0
    assert prometheus.asked[0].url.host == "localhost"


def test_a_file_of_history_is_replayed_with_the_settings_of_a_policy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prometheus: Prometheus, replay: Replay
) -> None:
    history = write_csv(tmp_path / "load.csv", wave(432))
    path = write(tmp_path, source(), policy("web", **SHORT, targetPerPod="7.5"), policy("api", **SHORT))
    assert replay("--config", path, "--workload", "web", "--csv", history)["web"]["targetPerPod"] == 7.5
    assert prometheus.asked == []
    assert refused(monkeypatch, "--config", path, "--csv", history) == [
        "--csv is the load of one workload: name it with --workload; --config has web, api"
    ]


@pytest.fixture
def partly_refusing(monkeypatch: pytest.MonkeyPatch, prometheus: Prometheus) -> None:
    """Refuses the query ``bad(``, has only an hour of ``new``, and is unreachable at http://gone."""
    answer = prometheus.answer

    def refuse_some(request: httpx.Request) -> httpx.Response:
        if request.url.host == "gone":
            raise httpx.ConnectError("connection refused", request=request)
        if request.url.params["query"] == "bad(":
            return httpx.Response(400, json={"status": "error", "errorType": "bad_data", "error": "parse error"})
        served = answer(request)
        if request.url.params["query"] == "new":
            document = served.json()
            result = document["data"]["result"][0]
            result["values"] = result["values"][-6:]
            return httpx.Response(200, json=document)
        return served

    monkeypatch.setattr(
        data_sources,
        "open_prometheus_client",
        partial(open_prometheus_client, transport=httpx.MockTransport(refuse_some)),
    )


@pytest.mark.usefixtures("partly_refusing")
def test_whoever_cannot_be_replayed_is_told_beside_those_that_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(
        tmp_path,
        source(),
        source("gone"),
        policy("web", **SHORT, query="'bad('", dataSource="prom"),
        policy("api", **SHORT, dataSource="prom"),
        policy("till", **SHORT, dataSource="gone"),
        policy("cart", **SHORT, query="new", dataSource="prom"),
    )
    target, report = tmp_path / "figures.json", tmp_path / "report.html"
    ended = call(monkeypatch, "--config", path, *RULES, "--json", target, "--report", report)
    assert ended.code == 1
    lines = [line.removeprefix("kedastral: ") for line in ended.err.splitlines()]
    assert [line.partition(": ")[0] for line in lines] == ["web", "till", "cart"]
    assert "HTTP 400: bad_data: parse error" in lines[0]
    assert "http://gone:9090" in lines[1]
    assert "the history must be longer" in lines[2]
    _, _, table = ended.out.partition("Kedastral on each workload")
    places = [table.index(name) for name in ("api, headroom 1.2", "web was not", "till was not", "cart was not")]
    assert places == sorted(places)
    document = json.loads(target.read_text())
    assert [one["workload"] for one in document["workloads"]] == ["api"]
    assert [f"{one['workload']}: {one['reason']}" for one in document["failed"]] == lines
    assert "web was not replayed: Prometheus at " in report.read_text()


@pytest.mark.usefixtures("partly_refusing")
def test_where_nobody_can_be_replayed_there_are_reasons_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad = {**SHORT, "query": "'bad('"}
    path, target = write(tmp_path, source(), policy("web", **bad), policy("api", **bad)), tmp_path / "figures.json"
    ended = call(monkeypatch, "--config", path, *RULES, "--json", target)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (1, "", 2)
    assert not target.exists()


@pytest.mark.usefixtures("partly_refusing")
def test_a_wrong_setting_of_one_still_stops_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("web", **SHORT), policy("api", **{**SHORT, "leadTime": "5m"}))
    (problem,) = refused(monkeypatch, "--config", path)
    assert problem.startswith("api: --lead-time must be at least one step")


def test_a_model_elsewhere_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("web", model="http", modelUrl="http://m"), policy("api"))
    assert refused(monkeypatch, "--config", path) == [
        "--model must be one that computes in the process for a backtest; got 'http' for web"
    ]
