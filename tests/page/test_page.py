# SPDX-License-Identifier: Apache-2.0
"""The page and its data without a browser: order, reasons, escaping, the Content-Security-Policy, and the token."""

import json
import re
from html import unescape
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import attrs
import numpy as np
import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock

from kedastral.compose import settings_in_force
from kedastral.core.data_quality.findings import Findings
from kedastral.core.data_quality.lost_series import LostSeries
from kedastral.core.failures import Failure
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import STANDING_DOWN, ForecastStatus, StatusCode
from kedastral.core.planning.service_level import ServiceLevelReport, ServiceLevelState
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.planning.steering import DaySpent, SteeringState
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.series import EPOCH, Observation
from kedastral.serving.metrics import Metrics
from kedastral.serving.page_routes import ASSETS
from kedastral.serving.readiness import Readiness
from kedastral.serving.recent import RecentLoads
from kedastral.serving.snapshot_api import create_app
from kedastral.serving.store import MemoryStore
from kedastral.serving.token_gate import TokenGate
from kedastral.serving.view import SnapshotView
from kedastral.serving.workloads_api import SettingInForce, WorkloadsView, judge
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.schema import settings_of
from tests.page.sites import HOSTILE
from tests.parts import START, make_history, make_snapshot, wall_clock

ALL = frozenset(one.name for one in settings_of(WorkloadSettings))
AWAY = Failure(START, "source", "unreachable")


@attrs.define
class Page:
    """An application whose store and failures the test controls."""

    store: MemoryStore = attrs.field(factory=MemoryStore)
    failures: dict[str, Failure] = attrs.field(factory=dict)
    keys: list[str] = attrs.field(factory=list)
    token: str | None = None
    on_stale: OnStale = OnStale.DEFAULT_MIN
    recent: RecentLoads = attrs.field(factory=lambda: RecentLoads(lambda _: True))
    readiness: Readiness = attrs.field(factory=lambda: Readiness.of(()))
    app: QuartTrio = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        view = SnapshotView(self.store, lambda _: StalePolicy(120.0, self.on_stale), wall_clock())
        lead = SettingInForce("--lead-time", "5m", "default")
        shown = WorkloadsView(view, self.recent, lambda: self.keys, lambda: self.failures, lambda _: (lead,))
        token = self.token
        gate = None if token is None else TokenGate(lambda: token)
        self.app = create_app(view, self.readiness, Metrics().registry, gate=gate, workloads=shown)

    async def ask(self, path: str, authorization: str = "") -> Any:
        return await self.app.test_client().get(path, headers={"Authorization": authorization})

    async def read(self, path: str) -> Any:
        return json.loads(await (await self.ask(path)).get_data(as_text=True))


async def test_what_needs_attention_comes_first(autojump_clock: MockClock) -> None:
    page = Page(keys=["new", "shop", "never"], failures={"never": AWAY})
    await page.store.put(make_snapshot(workload="fine"))
    await page.store.put(attrs.evolve(make_snapshot(workload="down"), status=STANDING_DOWN))
    await page.store.put(attrs.evolve(make_snapshot(workload="shop"), status=ForecastStatus(StatusCode.LEARNING, "l")))
    rows = (await page.read("/api/workloads"))["workloads"]
    assert [(row["workload"], row["state"], row["urgency"]) for row in rows] == [
        ("never", "failing", 0), ("down", "standing-down", 1), ("new", "waiting", 2), ("shop", "learning", 2),
        ("fine", "ok", 3),
    ]  # fmt: skip
    assert rows[0]["reason"] == AWAY.words
    assert (rows[0]["told"], rows[2]["told"]) == (2, 2), "what KEDA is told without a forecast"
    assert (rows[4]["told"], rows[4]["planned"], rows[4]["load"]) == (8, 8, 375.5)
    assert rows[4]["forecast"] == [300, 500, 800, 600, 900, 900]


async def test_a_list_changes_with_the_snapshot_the_failure_and_the_time(autojump_clock: MockClock) -> None:
    page = Page()
    await page.store.put(make_snapshot())

    async def shown() -> tuple[str, int | None, str]:
        await trio.sleep(1.1)
        [row] = (await page.read("/api/workloads"))["workloads"]
        assert (await page.read("/api/workloads/shop"))["reason"] == row["reason"]
        return row["state"], row["told"], row["reason"]

    assert await shown() == ("ok", 8, "")
    page.failures["shop"] = AWAY
    lasts = f"{AWAY.words}, since 12:00 UTC; the plan lasts until 12:02"
    assert await shown() == ("failing", 8, lasts)
    await page.store.put(make_snapshot([20] * 6, made_at=START))
    assert await shown() == ("failing", 20, lasts)
    await trio.sleep(121)
    assert await shown() == ("stale", 2, f"{AWAY.words}, since 12:00 UTC; KEDA is told the default minimum, 2")


async def test_a_large_load_is_the_same_in_the_list_as_in_the_explanation(autojump_clock: MockClock) -> None:
    page, large = Page(), make_snapshot()
    observed = Observation(START, 12_345_678.4)
    forecast = Forecast(START, 60.0, np.full(6, 12_345_679.4))
    await page.store.put(attrs.evolve(large, observed=observed, forecast=forecast))
    [row] = (await page.read("/api/workloads"))["workloads"]
    assert (row["load"], row["forecast"]) == (12_345_678, [12_345_679] * 6)
    stages = (await page.read("/explain?workload=shop"))["stages"]
    assert f"{stages[0]['value']:,.0f}" == f"{row['load']:,.0f}"


async def test_a_warning_of_the_readiness_is_in_the_list_for_as_long_as_it_holds(autojump_clock: MockClock) -> None:
    page = Page()
    assert "warnings" not in await page.read("/api/workloads")
    page.readiness.warn("configuration", "web.yaml is broken")
    await trio.sleep(1.1)
    assert (await page.read("/api/workloads"))["warnings"] == ["configuration: web.yaml is broken"]
    page.readiness.warn("configuration", None)
    await trio.sleep(1.1)
    assert "warnings" not in await page.read("/api/workloads")


async def test_the_list_reads_the_plan_by_the_clock_where_keda_gets_another_number(autojump_clock: MockClock) -> None:
    page = Page()
    await page.store.put(attrs.evolve(make_snapshot([1, 2, 3, 4, 5, 6], lead=60.0, floor=0), mode=Mode.OBSERVE))

    async def shown() -> tuple[int, int]:
        [row] = (await page.read("/api/workloads"))["workloads"]
        return row["told"], row["planned"]

    assert await shown() == (0, 2)
    await trio.sleep(60)
    assert await shown() == (0, 3)


@pytest.mark.parametrize(("on_stale", "state"), [(OnStale.DEFAULT_MIN, "ok"), (OnStale.ERROR, "withheld")])
async def test_a_workload_is_withheld_only_where_keda_holds(
    on_stale: OnStale, state: str, autojump_clock: MockClock
) -> None:
    page = Page(on_stale=on_stale)
    await page.store.put(attrs.evolve(make_snapshot(), withheld=True))
    [row] = (await page.read("/api/workloads"))["workloads"]
    assert (row["state"], row["told"]) == (state, None if state == "withheld" else 8)
    assert (await page.read("/api/workloads/shop"))["state"] == state


def test_each_condition_of_a_snapshot_has_its_reason() -> None:
    snapshot = make_snapshot()
    lost = attrs.evolve(snapshot, findings=Findings(lost_series=LostSeries(3, 2, START)))
    assert judge(lost, None, stale=False).reason == "3 series disappeared with their load, while the pods stayed"
    withheld = attrs.evolve(snapshot, withheld=True)
    assert judge(withheld, None, stale=False, holds=True).state == "withheld"
    assert judge(withheld, None, stale=False).state == "ok"  # under default-min KEDA is told the plan
    assert judge(snapshot, None, stale=True).reason == "there is no new forecast"
    assert judge(snapshot, AWAY, stale=True).reason == AWAY.words
    assert judge(snapshot, None, stale=False).state == "ok"


def test_a_cause_is_named_before_its_effects() -> None:
    spent = attrs.evolve(make_report(), budget_spent=1.2)
    snapshot = attrs.evolve(
        make_snapshot(), service_level=spent, findings=Findings(lost_series=LostSeries(3, 2, START))
    )
    limited = attrs.evolve(snapshot, replicas_without_max=14)
    counter = attrs.evolve(limited, findings=attrs.evolve(limited.findings, raw_counter=True))
    states = [judge(one, None, stale=False).state for one in (snapshot, limited, counter)]
    assert states == ["over error budget", "limited by max", "raw counter"]


@pytest.mark.parametrize(("ago", "words"), [(0, "today"), (1, "on 28 February"), (27, "on 2 February")])
def test_a_spent_error_budget_says_when_the_last_short_minute_was(ago: int, words: str) -> None:
    report, today = make_report(), (START - EPOCH).days
    spent = (DaySpent(today - 27, 1440.0, 3.0), DaySpent(today - ago, 1440.0, 20.0), DaySpent(today, 700.0, 0.0))
    state = attrs.evolve(report.state, steering=SteeringState(spent=spent))
    snapshot = attrs.evolve(make_snapshot(), service_level=attrs.evolve(report, state=state, budget_spent=1.2))
    why = "more minutes were under-provisioned than the service level allows"
    assert judge(snapshot, None, stale=False).reason == f"{why}; the last was {words}"


@pytest.mark.parametrize(
    ("at_max", "words"), [(10.0, ""), (11.0, ", most of them at --max: raise --max, unless done since")]
)
def test_a_budget_that_was_mostly_spent_at_max_says_so_when_the_peak_is_over(at_max: float, words: str) -> None:
    report, today = make_report(), (START - EPOCH).days
    state = attrs.evolve(report.state, steering=SteeringState(spent=(DaySpent(today, 1440.0, 20.0, 0.0, at_max),)))
    snapshot = attrs.evolve(make_snapshot(), service_level=attrs.evolve(report, state=state, budget_spent=1.2))
    why = "more minutes were under-provisioned than the service level allows"
    assert judge(snapshot, None, stale=False).reason == f"{why}{words}; the last was today"


@pytest.mark.parametrize(("spent", "words"), [(0.9, ""), (1.0, "; the error budget is overspent")])
def test_a_plan_at_its_maximum_names_what_the_load_needs(spent: float, words: str) -> None:
    report = attrs.evolve(make_report(), budget_spent=spent)
    limited = attrs.evolve(make_snapshot(), service_level=report, replicas_without_max=14)
    condition = judge(limited, None, stale=False)
    assert (condition.urgency, condition.reason) == (1, "the plan asks for 14 replicas, but the maximum is 8" + words)


async def test_one_workload_has_its_history_settings_snapshot_and_explanation(autojump_clock: MockClock) -> None:
    page = Page()
    snapshot = make_snapshot(workload="shop/web")
    await page.store.put(snapshot)
    page.recent.restore(attrs.evolve(snapshot, forecast=attrs.evolve(snapshot.forecast, made_at=EPOCH)), ())
    page.recent.record(make_history(1.0, float("nan"), 3.0), snapshot, snapshot.made_at)
    document = await page.read("/api/workloads/shop/web")
    assert document["history"]["load"]["values"] == [1, None, 3]
    assert document["history"]["planned"]["values"] == [8, None, 8]
    assert document["history"]["bytes"] == 3 * 4 + 3 * 16 + 12
    assert document["settings"] == [{"name": "--lead-time", "value": "5m", "origin": "default"}]
    assert document["explanation"]["told"] == document["snapshot"]["desiredReplicas"][2] == 8
    assert document["staleAfter"] == 120
    assert document["accuracy"] is None


async def test_the_accuracy_of_late_is_that_of_the_forecasts_that_were_judged(autojump_clock: MockClock) -> None:
    page = Page()
    await page.store.put(attrs.evolve(make_snapshot(workload="shop/web"), service_level=make_report()))
    document = await page.read("/api/workloads/shop/web")
    assert document["accuracy"] == {"error": 12.35, "naiveError": 50, "quantile": 0.9, "coverage": 0.912}


async def test_the_error_budget_says_of_how_many_minutes_it_is(autojump_clock: MockClock) -> None:
    page = Page()
    report = make_report()
    steering = SteeringState(spent=(DaySpent(1, 100.0, 2.0, 0.0, 1.5), DaySpent(2, 50.0, 1.0)))
    state = attrs.evolve(report.state, steering=steering)
    report = attrs.evolve(report, state=state, budget_spent=0.2083)
    await page.store.put(attrs.evolve(make_snapshot(workload="shop/web"), service_level=report))
    expected = {
        "spent": 0.2083, "minutesJudged": 150, "minutesShort": 3, "minutesAtMax": 1.5, "minutesAllowed": 14.4,
    }  # fmt: skip
    assert (await page.read("/api/workloads/shop/web"))["budget"] == expected
    assert (await page.read("/api/workloads"))["workloads"][0]["budget"] == expected


def make_report() -> ServiceLevelReport:
    model = Calibration(windows=77, lead_error=12.3456, coverage=(0.912, 0.96))
    uncertainty = UncertaintyState(model=model, last=Calibration(windows=77, lead_error=50.0))
    return ServiceLevelReport(np.ones(6), 1.0, 0.99, 0.0, ServiceLevelState(uncertainty))


async def test_a_workload_without_a_forecast_is_shown_and_an_unknown_one_is_not(autojump_clock: MockClock) -> None:
    page = Page(keys=["new"])
    document = await page.read("/api/workloads/new")
    assert (document["state"], document["told"]) == ("waiting", 2)
    holding = Page(keys=["new"], on_stale=OnStale.ERROR)
    assert (await holding.read("/api/workloads/new"))["told"] is None
    assert (await holding.read("/api/workloads"))["workloads"][0]["told"] is None
    assert (await page.ask("/api/workloads/other")).status_code == 404


@pytest.mark.parametrize("path", ["/", "/workloads/shop/web", "/workloads/shop"])
async def test_the_page_allows_no_script_but_its_own_and_has_none_inline(autojump_clock: MockClock, path: str) -> None:
    answer = await Page().ask(path)
    policy, html = answer.headers["Content-Security-Policy"], await answer.get_data(as_text=True)
    assert answer.content_type == "text/html; charset=utf-8"
    for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
                 "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"):  # fmt: skip
        assert part in policy
    assert "unsafe" not in policy
    assert re.findall(r"<script(?![^>]* src=)", html) == []
    assert re.findall(r"""<style|\sstyle=|\son\w+=|https?://""", html) == []
    for link in re.findall(r"""(?:src|href)="(/assets/[^"?]+)""", html):
        assert (await Page().ask(link)).status_code == 200


async def test_a_hostile_name_stays_text(autojump_clock: MockClock) -> None:
    page = Page()
    await page.store.put(make_snapshot(workload=HOSTILE))
    html = await (await page.ask("/workloads/" + quote(HOSTILE))).get_data(as_text=True)
    assert "<img" not in html
    assert f"<h1>{HOSTILE}</h1>" in unescape(html)
    assert (await page.read("/api/workloads/" + quote(HOSTILE)))["workload"] == HOSTILE


async def test_scripts_never_write_html(autojump_clock: MockClock) -> None:
    script = await (await Page().ask("/assets/page.js")).get_data(as_text=True)
    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", script) == []


async def test_the_token_guards_the_data_and_the_page_holds_none(autojump_clock: MockClock) -> None:
    page = Page(token="open-sesame")
    await page.store.put(make_snapshot(workload="secret-name"))
    for path in ("/api/workloads", "/api/workloads/secret-name", "/explain?workload=secret-name"):
        assert (await page.ask(path)).status_code == 401
        assert (await page.ask(path, "Bearer open-sesame")).status_code == 200
    for path in ("/", "/assets/page.js"):
        answer = await page.ask(path)
        assert answer.status_code == 200
        assert "secret-name" not in await answer.get_data(as_text=True)
    assert (await page.ask("/workloads/secret-name")).status_code == 200


def test_what_is_vendored_stands_beside_its_licence() -> None:
    folder = files("kedastral.serving") / "page"
    assert "MIT License" in (folder / "uPlot.LICENSE").read_text()
    assert "v1.6.32" in (folder / "uPlot.iife.min.js").read_text()
    assert all((folder / name).is_file() for name in ASSETS)


def test_the_settings_in_force_begin_with_those_that_were_given() -> None:
    given = WorkloadSettings(
        workload="shop", query="secret", origin="web.yaml, document 1", by_default=ALL - {"min_replicas", "lead_time"}
    )
    shown = settings_in_force(given)
    assert [one.name for one in shown if one.origin == "web.yaml, document 1"] == ["--min", "--lead-time"]
    assert [one.name for one in shown[:2]] == ["--min", "--lead-time"]
    assert shown[1].value == "5m"
    assert {one.origin for one in shown[2:]} == {"default"}
    assert "secret" not in str(shown)


def test_a_setting_without_a_value_says_what_that_means() -> None:
    given = WorkloadSettings(workload="shop", query="secret", by_default=ALL)
    shown = {one.name: one.value for one in settings_in_force(given)}
    assert shown["--window"] == "14d (what auto wants)"
    assert shown["--headroom"] == "none (steered to the service level)"
    assert shown["--settle-after"] == "none (learned from the query)"
    assert shown["--prewarm-steps"] == "none (--prewarm counts)"
    fixed = attrs.evolve(given, forecast=attrs.evolve(given.forecast, model="baseline"))
    assert {one.name: one.value for one in settings_in_force(fixed)}["--headroom"] == "1.2"
