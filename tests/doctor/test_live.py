# SPDX-License-Identifier: Apache-2.0
"""What `kedastral doctor` asks running systems: Prometheus, addresses, a Kedastral, a cluster; all are faked here."""

import json
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
import yaml

from kedastral.adapters.prometheus.limits import RequestLimits
from kedastral.cli import doctor
from kedastral.doctor import query_rules
from kedastral.doctor.diagnosis import Severity, examine
from kedastral.doctor.evidence import Evidence, QueryAnswer
from kedastral.doctor.live import PREFACE, ask_kedastral, ask_query, find_problem
from kedastral.errors import RemoteError
from kedastral.settings.declarations import ForecastSettings, PlanSettings, RemoteAccess
from kedastral.settings.fleet import DataSourceSettings, WorkloadSettings
from kedastral.settings.types import HttpUrl, Name
from kedastral.tls import TlsFiles
from kedastral.workloads.data_sources import DataSourceConnection
from tests.certificates import Authority
from tests.cli.test_commands import call
from tests.doctor.planted import DEPLOYMENT, SETTINGS, SOUND, pod
from tests.doctor.real_world import FALLBACK, OURS, TOLERANT, authentication, scaled_object

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
QUERY = 'sum(rate(http_requests_total{app="web"}[1m]))'
DAY = 86400.0


@attrs.define
class MadeUpPrometheus:
    """Answers range queries with ``load`` by time, in ``twins`` equal series, and instant queries by their text."""

    load: Callable[[float], float | None] = lambda _: 100.0
    twins: int = 1
    scrape: float = 15.0
    age: float = 10.0
    retention: str | None = "15d"
    rules: tuple[tuple[str, float], ...] = ()
    falls: float | None = 0.0
    changes: float = 240.0
    kinds: tuple[str, ...] = ()

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        match request.url.path.removeprefix("/api/v1/"):
            case "query_range":
                return self._matrix(float(asked["start"]), float(asked["end"]), float(asked["step"]))
            case "query":
                beginnings = {"time()": self.age, "sum(resets(": self.falls, "sum(changes(": self.changes}
                values = [value for words, value in beginnings.items() if asked["query"].startswith(words)]
                value = values[0] if values else self.scrape
                found = [] if value is None else [{"metric": {}, "value": [0, str(value)]}]
                return _success({"resultType": "vector", "result": found})
            case "metadata":
                return _success({asked["metric"]: [{"type": kind, "help": ""} for kind in self.kinds]})
            case "status/runtimeinfo" if self.retention is not None:
                return _success({"storageRetention": self.retention})
            case "rules":
                assert asked["type"] == "record"
                return _success({"groups": [{"interval": i, "rules": [{"name": name}]} for name, i in self.rules]})
        return httpx.Response(404)

    def _matrix(self, start: float, end: float, step: float) -> httpx.Response:
        times = [start + i * step for i in range(round((end - start) / step) + 1)]
        values = [[at, str(value)] for at in times if (value := self.load(at)) is not None]
        labels = [{"pod": "a", "prometheus_replica": str(n)} for n in range(self.twins)]
        result = [{"metric": one, "values": values} for one in labels] if values else []
        return _success({"resultType": "matrix", "result": result})


def _success(data: Mapping[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": data})


def workload(query: str = QUERY, window: float = 14 * DAY) -> WorkloadSettings:
    return WorkloadSettings(workload=Name("web"), query=query, forecast=ForecastSettings(window=window))


async def ask(
    prometheus: Callable[[httpx.Request], httpx.Response], one: WorkloadSettings
) -> tuple[QueryAnswer, dict[str, Severity]]:
    """The facts found, and the findings of the rules."""
    transport = httpx.MockTransport(prometheus)
    async with httpx.AsyncClient(base_url="http://prometheus", transport=transport) as client:
        connection = DataSourceConnection(
            DataSourceSettings(url=HttpUrl("http://prometheus")), client, RequestLimits(8, 1000.0)
        )
        answer = await ask_query(one, connection, NOW)
    found = examine(Evidence(workloads={one.key: one}, answers={one.key: answer}), query_rules.BOOK.rules)
    return answer, {each.rule.name: each.severity for each in found}


def between(first: datetime, last: datetime) -> Callable[[float], float | None]:
    return lambda at: 100.0 if first.timestamp() <= at <= last.timestamp() else None


def counting(at: float) -> float:
    return at - NOW.timestamp() + 30 * DAY


RULE = (("web:rps", 300.0), ("other:rps", 900.0))
CASES: tuple[tuple[str, MadeUpPrometheus, WorkloadSettings, dict[str, Severity]], ...] = (
    ("sound", MadeUpPrometheus(), workload(), {}),
    ("a raw counter by its name", MadeUpPrometheus(), workload("x_total"), {"raw-counter": Severity.ERROR}),
    ("a gauge with such a name", MadeUpPrometheus(lambda at: 9.0 + at % 7), workload("x_total"), {}),
    ("nothing", MadeUpPrometheus(lambda _: None), workload(), {"no-series": Severity.ERROR}),
    ("negative", MadeUpPrometheus(lambda _: -1.0), workload(), {"no-series": Severity.ERROR}),
    ("a pair", MadeUpPrometheus(twins=2), workload(), {"doubled-series": Severity.ERROR}),
    ("a short range", MadeUpPrometheus(scrape=60.0), workload(), {"short-range": Severity.ERROR}),
    ("two scrapes just fit", MadeUpPrometheus(scrape=30.4), workload(), {}),
    ("nothing, and a short range", MadeUpPrometheus(lambda _: None, scrape=60.0), workload(),
     {"no-series": Severity.ERROR, "short-range": Severity.ERROR}),
    ("late", MadeUpPrometheus(age=150.0), workload(), {"late-samples": Severity.WARNING}),
    ("a gauge that ended", MadeUpPrometheus(between(NOW - timedelta(days=20), NOW - timedelta(minutes=10))),
     workload("sum(load)"), {"late-samples": Severity.WARNING}),
    ("one outlier far beyond max", MadeUpPrometheus(lambda at: 1e12 if at == NOW.timestamp() - 7200 else 9.0 + at % 7),
     workload(), {}),
    ("a raw counter", MadeUpPrometheus(counting), workload("sum(load)"), {"raw-counter": Severity.ERROR}),
    ("a gauge in rate()", MadeUpPrometheus(falls=110.0), workload(), {"gauge-as-counter": Severity.ERROR}),
    ("a gauge by its values, whatever its type", MadeUpPrometheus(falls=110.0, kinds=("counter",)), workload(),
     {"gauge-as-counter": Severity.ERROR}),
    ("a gauge that rests", MadeUpPrometheus(falls=1.0, changes=2.0, kinds=("gauge", "gauge")), workload(),
     {"gauge-as-counter": Severity.WARNING}),
    ("a gauge to one target", MadeUpPrometheus(falls=None, kinds=("gauge", "counter")), workload(), {}),
    ("a counter that rests", MadeUpPrometheus(falls=1.0, changes=2.0, kinds=("counter",)), workload(), {}),
    ("a counter that is called a gauge", MadeUpPrometheus(kinds=("gauge",)), workload(), {}),
    ("a gauge as it is", MadeUpPrometheus(falls=110.0, kinds=("gauge",)), workload("sum(load)"), {}),
    ("retention", MadeUpPrometheus(retention="2d or 10GiB"), workload(), {"short-history": Severity.WARNING}),
    ("young", MadeUpPrometheus(between(NOW - timedelta(days=3), NOW), retention=None), workload(),
     {"short-history": Severity.INFO}),
    ("too much for max", MadeUpPrometheus(lambda at: 9000.0 + at % 2000), workload("sum(load)"),
     {"max-below-load": Severity.WARNING}),
    ("a rule", MadeUpPrometheus(rules=RULE), workload("sum(web:rps)"), {"slow-rule": Severity.WARNING}),
    ("no rule of ours", MadeUpPrometheus(rules=RULE), workload('sum(load{a="web:rps"})'), {}),
)  # fmt: skip


@pytest.mark.parametrize(("prometheus", "one", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
async def test_what_prometheus_says_is_judged(
    prometheus: MadeUpPrometheus, one: WorkloadSettings, expected: dict[str, Severity]
) -> None:
    _, found = await ask(prometheus.answer, one)
    assert found == expected


async def test_a_raw_counter_is_told_in_a_sentence() -> None:
    one = workload("sum(load)")
    answer, _ = await ask(MadeUpPrometheus(counting).answer, one)
    evidence = Evidence(workloads={one.key: one}, answers={one.key: answer})
    [found] = examine(evidence, query_rules.BOOK.rules)
    assert found.sentence.startswith("the values only ever rise, from ")


async def test_what_max_lacks_is_told_in_a_sentence() -> None:
    one = attrs.evolve(workload("sum(load)"), plan=PlanSettings(target_per_pod=15.0, max_replicas=12))
    answer, _ = await ask(MadeUpPrometheus(lambda at: 402.0 - at % 7).answer, one)
    [found] = examine(Evidence(workloads={one.key: one}, answers={one.key: answer}), query_rules.BOOK.rules)
    assert found.sentence == "a load of 402 needs 27 replicas at 15 a pod, and max is 12"


async def test_a_gauge_in_rate_is_told_by_its_name() -> None:
    one = workload('sum(increase(gpu_requests_in_progress{pod=~"a.*"}[5m]))')
    answer, _ = await ask(MadeUpPrometheus(falls=110.0).answer, one)
    [found] = examine(Evidence(workloads={one.key: one}, answers={one.key: answer}), query_rules.BOOK.rules)
    words = "the query takes increase() of gpu_requests_in_progress, which falls again and again"
    assert (found.sentence, found.remedy) == (words, "take it as it is: sum(gpu_requests_in_progress)")


async def test_figures_are_those_of_prometheus() -> None:
    answer, _ = await ask(MadeUpPrometheus(retention="1w2d").answer, workload())
    assert (answer.scrape, answer.age, answer.retention) == (15.0, 10.0, 9 * DAY)
    assert answer.history == pytest.approx(14 * DAY, rel=0.01)


async def test_a_refused_query_is_an_error_in_prometheus_words() -> None:
    refused = httpx.Response(400, json={"status": "error", "errorType": "bad_data", "error": "parse error"})
    answer, found = await ask(lambda _: refused, workload())
    assert found == {"query-failed": Severity.ERROR}
    assert "parse error" in answer.failure


# addresses

Talk = Callable[[trio.SocketStream], Awaitable[None]]


async def problem_with(talk: Talk, *, tls: bool, tls_files: TlsFiles | None = None) -> str:
    """The findings about a port at which each connection gets ``talk``."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            if tls_files is None:
                await talk(stream)
            else:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                assert tls_files.cert is not None
                context.load_cert_chain(tls_files.cert, tls_files.key)
                context.set_alpn_protocols(["h2"])
                await trio.SSLStream(stream, context, server_side=True).do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        problem = await find_problem(f"127.0.0.1:{port}", tls=tls)
        nursery.cancel_scope.cancel()
    return problem


async def speak_grpc(stream: trio.SocketStream) -> None:
    assert await stream.receive_some(len(PREFACE)) == PREFACE
    await stream.send_all(bytes(3) + b"\x04" + bytes(5))
    await stream.receive_some()


async def speak_http(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def test_an_address_is_sound_or_the_problem_has_its_words(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("localhost")
    assert await problem_with(speak_grpc, tls=False) == ""
    assert await problem_with(speak_grpc, tls=True, tls_files=files) == ""
    assert await problem_with(speak_grpc, tls=False, tls_files=files) == (
        "the server speaks TLS, but the trigger has no enableTLS"
    )
    assert await problem_with(speak_http, tls=True) == "the trigger has enableTLS, but the server does not speak TLS"
    assert await problem_with(speak_http, tls=False) == ("the server does not speak gRPC: is it the HTTP port?")


async def test_nobody_at_an_address_is_said(autojump_clock: trio.testing.MockClock) -> None:
    assert "cannot be reached" in await find_problem("127.0.0.1:1", tls=False)


def test_the_command_looks_at_addresses_only_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(SOUND.replace("kedastral.kedastral.svc.cluster.local:8080", "127.0.0.1:1"))
    assert call(monkeypatch, "doctor", str(manifest)).code == 0
    outcome = call(monkeypatch, "doctor", str(manifest), "--check-addresses")
    assert outcome.code == 1
    assert "127.0.0.1:1: cannot be reached" in outcome.out


@pytest.mark.parametrize(
    ("beside", "speaks_tls", "said"),
    [
        ("", True, True),
        ("\n      authenticationRef: {name: elsewhere}", True, False),
        ("\n      authenticationRef: {name: elsewhere}", False, False),
        ("\n      authenticationRef: {name: given}", True, False),
        ("\n      authenticationRef: {name: given}", False, True),
    ],
)
def test_an_authentication_with_a_ca_makes_keda_speak_tls(
    beside: str, speaks_tls: bool, said: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def find(_: str, *, tls: bool) -> str:
        return "" if tls is speaks_tls else "the other speaks otherwise"

    monkeypatch.setattr("kedastral.doctor.live.find_problem", find)
    manifest = tmp_path / "web.yaml"
    manifest.write_text(authentication("given", "caCert") + scaled_object(OURS + beside, TOLERANT + FALLBACK))
    found = diagnose(monkeypatch, str(manifest), "--check-addresses")
    assert found == ({"scaler-unreachable web"} if said else set())


# a running Kedastral


def running(request: httpx.Request) -> httpx.Response:
    rows = [
        {"workload": "shop/web", "state": "stale", "urgency": 0, "reason": "the query matched nothing"},
        {"workload": "shop/api", "state": "ok", "urgency": 3, "reason": ""},
    ]
    if request.url.path == "/api/workloads":
        return httpx.Response(200, json={"at": "2026-03-02T10:00:00Z", "workloads": rows})
    assert request.url.path == "/api/workloads/shop/web"
    settings = [
        {"name": "--lead-time", "value": "8m", "origin": "web.yaml, document 1"},
        {"name": "--max", "value": "20", "origin": "default"},
        {"name": "--on-stale", "value": "ride-forecast", "origin": "default"},
        {"name": "--headroom", "value": "none", "origin": "default"},
        {"name": "--unheard-of", "value": "1", "origin": "default"},
    ]
    return httpx.Response(200, json={"workload": "shop/web", "settings": settings})


async def test_a_running_kedastral_tells_its_workloads_and_the_settings_of_those_that_are_named() -> None:
    async with httpx.AsyncClient(base_url="http://k", transport=httpx.MockTransport(running)) as client:
        found = await ask_kedastral(client, ["web"])
    web = found.workloads["shop/web"]
    assert (web.serving.lead_time, web.plan.max_replicas, web.plan.headroom, web.query) == (480.0, 20, None, "")
    assert "max_replicas" in web.by_default
    assert "lead_time" not in web.by_default
    assert found.workloads["shop/api"].serving.lead_time == 300.0
    assert [one.urgency for one in found.states] == [0, 3]


@pytest.mark.parametrize(
    "response", [httpx.Response(401), httpx.Response(200, text="<html>")], ids=["refused", "a page"]
)
async def test_what_is_no_kedastral_is_a_remote_error(response: httpx.Response) -> None:
    async with httpx.AsyncClient(base_url="http://k", transport=httpx.MockTransport(lambda _: response)) as client:
        with pytest.raises(RemoteError, match="http://k"):
            await ask_kedastral(client, ["web"])


def test_the_command_judges_by_what_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def open_remote(url: str, access: RemoteAccess) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=url, transport=httpx.MockTransport(running))

    monkeypatch.setattr(doctor, "open_remote", open_remote)
    manifest = tmp_path / "web.yaml"
    manifest.write_text(SOUND.replace("maxReplicaCount: 50", "maxReplicaCount: 10"))
    outcome = call(monkeypatch, "doctor", str(manifest), "--url", "http://k", "--output", "json")
    found = json.loads(outcome.out)["findings"]
    assert {(one["rule"], one["message"]) for one in found} == {
        ("kedastral-reports", "stale: the query matched nothing"),
        ("max-below-plan", "maxReplicaCount is 10, and shop/web plans up to 20, the default of max"),
    }


def test_a_kedastral_that_is_not_there_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(SOUND)
    outcome = call(monkeypatch, "doctor", str(tmp_path), "--url", "http://127.0.0.1:1", "--output", "json")
    [found] = json.loads(outcome.out)["findings"]
    assert (outcome.code, found["rule"]) == (1, "unreadable")
    assert "http://127.0.0.1:1 cannot be reached" in found["message"]


# a cluster

WEB = yaml.safe_load(SOUND)
LISTS: dict[str, list[Any]] = {
    "/apis/keda.sh/v1alpha1/scaledobjects": [WEB],
    "/apis/autoscaling/v2/horizontalpodautoscalers": [
        {"metadata": {"name": "keda-hpa-web", "namespace": "shop"}, "spec": {"scaleTargetRef": {"name": "web"}}},
        {"metadata": {"name": "mine", "namespace": "shop"},
         "spec": {"scaleTargetRef": {"name": "web", "kind": "Deployment"}}},
    ],
    "/apis/apps/v1/deployments": [DEPLOYMENT],
    "/apis/apps/v1/statefulsets": [],
    "/api/v1/pods": [pod("a", 400)],
}  # fmt: skip


@attrs.define
class MadeUpCluster:
    """An API server that serves ``lists`` by path and forbids everything else. ``asked`` are the requested paths."""

    folder: Path
    lists: dict[str, list[Any]] = attrs.field(factory=lambda: dict(LISTS))
    asked: list[str] = attrs.field(factory=list)
    refusal: tuple[int, dict[str, Any]] | None = None
    lacks: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        if self.refusal is not None:
            return self.refusal
        if path == f"/api/v1/namespaces/{self.lacks}":
            return 404, {"kind": "Status", "status": "Failure", "message": "not found", "code": 404}
        items = self.lists.get(path.partition("?")[0].replace("/namespaces/shop", ""))
        if items is None:
            message = f"{path} is forbidden"
            return 403, {"kind": "Status", "status": "Failure", "message": message, "code": 403}
        bare = [{key: value for key, value in one.items() if key not in ("kind", "apiVersion")} for one in items]
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": bare}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUpCluster]:
    """A cluster that the kubeconfig names."""
    made = MadeUpCluster(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = made.answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "me", "user": {"token": "hunter2"}}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def diagnose(monkeypatch: pytest.MonkeyPatch, *words: str) -> set[str]:
    outcome = call(monkeypatch, "doctor", *words, "--output", "json")
    assert "hunter2" not in outcome.out + outcome.err
    assert outcome.out, outcome.err
    return {f"{one['rule']} {one['object']['name']}" for one in json.loads(outcome.out)["findings"]}


def test_a_cluster_is_read_by_the_kubeconfig(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "policies.yaml"
    config.write_text(SETTINGS)
    assert diagnose(monkeypatch, "--cluster", "--config", str(config)) == {"two-on-one mine", "slow-start web"}
    assert not [path for path in cluster.asked if "secrets" in path or "configmaps" in path]
    cluster.asked.clear()
    diagnose(monkeypatch, "--cluster", "--namespace", "shop")
    assert all("/namespaces/shop/" in path for path in cluster.asked)


def test_a_cluster_tells_which_scaler_is_ours_and_what_a_limit_range_fills_in(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "80"}}
    ours = {"type": "external", "metadata": {"scalerAddress": "predictor.scaling.svc:8080"}}
    bare = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"template": {"spec": {"containers": [{}]}}}}
    cluster.lists["/apis/keda.sh/v1alpha1/scaledobjects"] = [{**WEB, "spec": {**WEB["spec"], "triggers": [ours, cpu]}}]
    cluster.lists["/apis/apps/v1/deployments"] = [bare]
    cluster.lists["/apis/autoscaling/v2/horizontalpodautoscalers"] = []
    assert "cpu-without-requests web" in diagnose(monkeypatch, "--cluster"), "although nothing more may be listed"
    labels = {"app.kubernetes.io/name": "kedastral"}
    service = {"metadata": {"name": "predictor", "namespace": "scaling", "labels": labels}}
    limits = {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}
    cluster.lists["/api/v1/services"] = [service]
    cluster.lists["/api/v1/limitranges"] = [{"metadata": {"name": "x", "namespace": "shop"}, "spec": limits}]
    assert diagnose(monkeypatch, "--cluster") == {"no-workload web"}


def test_in_a_cluster_a_target_that_is_missing_is_missing(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.lists["/apis/apps/v1/deployments"] = []
    cluster.lists["/apis/autoscaling/v2/horizontalpodautoscalers"] = []
    assert diagnose(monkeypatch, "--cluster") == {"no-target web"}


def test_what_may_not_be_listed_is_said_and_nothing_is_taken_for_missing(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster.lists["/apis/apps/v1/deployments"], cluster.lists["/apis/autoscaling/v2/horizontalpodautoscalers"]
    assert diagnose(monkeypatch, "--cluster") == {
        "unreadable deployments of the cluster",
        "unreadable horizontalpodautoscalers of the cluster",
    }


def found_in(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[tuple[str, str, str]]:
    """Each finding: its object, message and remedy."""
    outcome = call(monkeypatch, "doctor", *words, "--output", "json")
    assert outcome.code == 1
    assert "hunter2" not in outcome.out + outcome.err
    return [(one["object"]["name"], one["message"], one["remedy"]) for one in json.loads(outcome.out)["findings"]]


def test_a_context_that_is_not_there_and_a_cluster_that_is_down_are_said(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(where, words, remedy)] = found_in(monkeypatch, "--cluster", "--context", "elsewhere")
    assert (where, words) == (
        "the cluster",
        "the kubeconfig cannot be used: it has no context 'elsewhere'; it has here",
    )
    assert remedy.startswith("correct the kubeconfig (KUBECONFIG, or ~/.kube/config) or --context")
    kubeconfig = cluster.folder / "kubeconfig"
    kubeconfig.write_text(re.sub(r"http://127.0.0.1:\d+", "http://me:hunter2@127.0.0.1:1", kubeconfig.read_text()))
    [(where, words, remedy)] = found_in(monkeypatch, "--cluster")
    assert (where, words) == ("the cluster", "the cluster at http://127.0.0.1:1 cannot be reached: connection refused")
    assert "proxy-url" in remedy


def test_a_login_that_has_expired_is_said_once(cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.refusal = 401, {"kind": "Status", "status": "Failure", "message": "Unauthorized", "code": 401}
    [(where, words, remedy)] = found_in(monkeypatch, "--cluster")
    assert where == "the cluster"
    assert words.endswith("does not accept the login of the kubeconfig (401)")
    assert remedy.startswith("log in again")
    assert len(cluster.asked) == 1


def test_a_cluster_without_keda_and_what_is_no_cluster_are_said(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.refusal = 404, {"kind": "Status", "status": "Failure", "message": "404 page not found", "code": 404}
    first = found_in(monkeypatch, "--cluster")[0]
    assert first == (
        "scaledobjects of the cluster",
        "cannot be listed: the cluster does not know the kind ScaledObject",
        "choose the cluster with --context, or install KEDA there",
    )
    cluster.refusal = 200, {"it": "is a login page"}
    [(_, words, _)] = found_in(monkeypatch, "--cluster")
    assert words.endswith("does not answer like Kubernetes")


def test_a_namespace_that_is_not_there_is_said(cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.lists = {path: [] for path in LISTS}
    assert diagnose(monkeypatch, "--cluster", "--namespace", "shop") == set(), "nobody knows: it may not be looked at"
    cluster.lacks = "shop"
    [(where, words, remedy)] = found_in(monkeypatch, "--cluster", "--namespace", "shop")
    assert (where, words) == ("the cluster", "it has no namespace shop")
    assert "--namespace" in remedy


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"name": "web"}, ("--namespace", "shop")),
        ({"name": "web"}, ()),
        ({"name": "web", "namespace": "other"}, ("--namespace", "shop")),
    ],
)
def test_a_manifest_beside_the_cluster_is_no_second_object_and_misses_nothing_that_was_not_listed(
    metadata: dict[str, str],
    words: tuple[str, ...],
    cluster: MadeUpCluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    cluster.lists["/apis/autoscaling/v2/horizontalpodautoscalers"] = []
    manifest = tmp_path / "web.yaml"
    manifest.write_text(yaml.safe_dump({**WEB, "metadata": metadata}))
    assert diagnose(monkeypatch, str(manifest), "--cluster", *words) == set()


def test_a_workload_that_one_trigger_brings_is_not_that_of_the_trigger_beside_it(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    document = yaml.safe_load(SOUND)
    metadata = {"scalerAddress": "kedastral:8080", "query": QUERY, "targetPerPod": "50", "onStale": "ride-forecast"}
    document["spec"]["triggers"].append({"type": "external", "metadata": {**metadata, "max": "80"}})
    cluster.lists["/apis/keda.sh/v1alpha1/scaledobjects"] = [document]
    config = tmp_path / "policies.yaml"
    config.write_text(SETTINGS)
    outcome = call(monkeypatch, "doctor", "--cluster", "--config", str(config), "--output", "json")
    found = [one["message"] for one in json.loads(outcome.out)["findings"] if one["rule"] == "max-below-plan"]
    assert len(found) == 1
