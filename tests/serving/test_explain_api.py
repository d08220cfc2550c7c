# SPDX-License-Identifier: Apache-2.0
"""GET /explain: the parts of the answer, the answer under other settings, and all wrong parameters at once."""

import json
import re
from datetime import datetime
from threading import Thread, current_thread
from types import ModuleType
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock

from kedastral.core.capacity import PlanPolicy
from kedastral.core.explanation.explain import explain
from kedastral.core.explanation.stages import Explanation
from kedastral.core.failures import Failure
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.serving import explain_api, workloads_api
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.snapshot_api import create_app
from kedastral.serving.store import MemoryStore
from kedastral.serving.view import SnapshotView
from kedastral.serving.workloads_api import WorkloadsView
from kedastral.wire import dump_json, explanation_schema
from kedastral.workloads.tick import ForecastLoop, Workload
from tests.docs.pages import ROOT, read, tables
from tests.parts import StubForecaster, StubSource, make_history, make_snapshot, wall_clock


async def make_app(*, ticks: bool = True) -> QuartTrio:
    """An application whose one workload, "shop", has a plan for a steady load of 900 at 200 a pod."""
    store, clock = MemoryStore(), wall_clock()
    if ticks:
        workload = Workload("shop", "http_rps", 30, 300.0, PlanPolicy())
        source, forecaster = StubSource([make_history(300.0)]), StubForecaster(lambda steps: [900.0] * steps)
        await ForecastLoop(workload, source, forecaster, store, clock).tick()
    else:
        await store.put(make_snapshot())
    view = SnapshotView(store, lambda _: StalePolicy(120.0), clock)
    return create_app(view, Readiness.of(()), Metrics().registry)


async def ask(app: QuartTrio, query: str) -> tuple[int, Any]:
    response = await app.test_client().get("/explain" + query)
    return response.status_code, json.loads(await response.get_data(as_text=True))


async def test_the_answer_is_explained(autojump_clock: MockClock) -> None:
    status, document = await ask(await make_app(), "?workload=shop")
    assert status == 200
    assert (document["told"], document["planned"], document["decidedBy"]) == (6, 6, "forecast")
    assert document["sentence"].startswith("KEDA is told 6 replicas: the forecast decided: 900 is the load expected")
    assert [stage["name"] for stage in document["stages"]][:4] == ["newest-load", "age", "lead-time", "forecast"]
    assert document["plan"][0] == {
        "at": "2026-03-01T12:00:00Z", "load": 900, "upper": 900, "plannedFor": 1080, "needed": 6, "replicas": 6,
    }  # fmt: skip
    assert "whatIf" not in document


async def test_during_an_outage_the_cause_comes_with_the_answer(autojump_clock: MockClock) -> None:
    store, clock = MemoryStore(), wall_clock()
    await store.put(make_snapshot())
    view = SnapshotView(store, lambda _: StalePolicy(120.0), clock)
    workloads = WorkloadsView(view, failing=lambda: {"shop": Failure(clock.now(), "source", "unreachable")})
    app = create_app(view, Readiness.of(()), Metrics().registry, workloads=workloads)
    await trio.sleep(130)
    _, document = await ask(app, "?workload=shop")
    assert document["outage"] == {
        "sentence": (
            "No new forecast since 12:00:00 UTC, for 2 min: its Prometheus cannot be reached (source: unreachable). "
            "KEDA is told the default minimum, 2, until there is one; the plan says 9."
        ),
        "brief": "since 12:00 UTC; KEDA is told the default minimum, 2",
        "since": "2026-03-01T12:00:00Z",
        "followsPlan": False,
    }


async def test_other_settings_are_shown_beside_those_in_force_and_nothing_is_kept(autojump_clock: MockClock) -> None:
    app = await make_app()
    before = await ask(app, "?workload=shop")
    status, document = await ask(app, "?workload=shop&targetPerPod=50&max=20&min=1&headroom=1&leadTime=2m")
    tried = document.pop("whatIf")
    assert status == 200
    assert (200, document) == before == await ask(app, "?workload=shop")
    assert tried["told"] == 18
    assert next(stage["value"] for stage in tried["stages"] if stage["name"] == "lead-time") == 120


async def test_every_wrong_parameter_is_reported_at_once(autojump_clock: MockClock) -> None:
    status, document = await ask(await make_app(), "?leadTime=soon&targetPerPod=0&headroom=x&min=-1&max=1.5")
    assert status == 400
    for words in ("the query parameter workload is required", "leadTime must be", "targetPerPod must be greater than 0",
                  "headroom must be", "min must be between", "max must be"):  # fmt: skip
        assert words in document["error"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("&targetPerPod=1e-300", "targetPerPod must be greater than 0 by more than 1e-09, got '1e-300'"),
        ("&leadTime=1h", "leadTime must be below the horizon"),
        ("&min=9&max=3", r"min \(9\) must not be above max \(3\)"),
        ("&serviceLevel=0.99", "serviceLevel needs the model auto"),
        ("&serviceLevel=0.99&headroom=2", "exclude each other"),
    ],
)
async def test_what_cannot_be_tried_on_this_plan_is_a_bad_request(
    autojump_clock: MockClock, query: str, words: str
) -> None:
    status, document = await ask(await make_app(), "?workload=shop" + query)
    assert status == 400
    assert re.search(words, document["error"])


async def test_an_unknown_query_parameter_is_ignored_and_named(autojump_clock: MockClock) -> None:
    app = await make_app()
    status, document = await ask(app, "?workload=shop")
    assert (status, "ignored" in document) == (200, False)
    more = "&at=2026-03-02T03:10:00Z&%1B=&" + "&".join(f"p{n}" for n in range(99))
    status, with_more = await ask(app, "?workload=shop&max=3" + more)
    assert status == 200
    assert with_more["ignored"] == ["at", "?", "p0", "p1", "p2"]
    assert with_more["sentence"] == document["sentence"]
    assert "whatIf" in with_more


async def test_a_plan_that_another_process_made_is_explained_in_part(autojump_clock: MockClock) -> None:
    app = await make_app(ticks=False)
    status, document = await ask(app, "?workload=shop")
    assert (status, document["told"]) == (200, 8)
    status, document = await ask(app, "?workload=shop&min=3")
    assert status == 400
    assert "was not made by this process" in document["error"]


async def test_an_unknown_workload_is_not_found(autojump_clock: MockClock) -> None:
    assert await ask(await make_app(), "?workload=nobody&min=3") == (404, {"error": "snapshot not found"})


def test_every_field_of_an_explanation_is_documented() -> None:
    rows = [row for table in tables(read(ROOT / "docs" / "http-api.md")) for row in table if "explained" in row]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row["explained"])}
    assert documented == json.loads(dump_json(explanation_schema()))["properties"].keys()


@pytest.mark.parametrize("module", [explain_api, workloads_api])
async def test_an_explanation_is_computed_beside_the_event_loop(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """That of a week's plan takes a tenth of a second, in which KEDA is answered."""
    app, threads = await make_app(), list[Thread]()

    def explain_here(snapshot: Snapshot, now: datetime, policy: StalePolicy, failure: Failure | None) -> Explanation:
        threads.append(current_thread())
        return explain(snapshot, now, policy, failure)

    monkeypatch.setattr(module, "explain", explain_here)
    path = "/explain?workload=shop" if module is explain_api else "/api/workloads/shop"
    assert (await app.test_client().get(path)).status_code == 200
    assert threads
    assert current_thread() not in threads
