# SPDX-License-Identifier: Apache-2.0
"""A Prometheus that is down for longer than the plan, one that is slow, and one with partial answers."""

from functools import partial

import pytest

from tests.e2e.case import PROMPT, Case, external, scaled_object
from tests.e2e.load import rush
from tests.e2e.proxies import disturb
from tests.e2e.timeline import Timeline

pytestmark = pytest.mark.e2e
LOW, HIGH, PER_POD, LEAD = 300.0, 2400.0, 200.0, 60.0
NEED = 12


def test_a_plan_that_runs_out(case: Case) -> None:
    begin, end, away, back = 120.0, 660.0, 150.0, 420.0
    prometheus = case.start_load(web=rush(LOW, HIGH, begin, end))
    flags = {**case.forecast_of("web", PER_POD, LEAD), **PROMPT, "horizon": "3m"}
    kept = case.start_kedastral("kept", **flags)
    restarted = case.start_kedastral("restarted", **flags)
    timelines = {}
    for kedastral in (kept, restarted):
        kedastral.wait_for_forecast({})
        app = kedastral.program.name
        case.deploy(app)
        case.apply(scaled_object(app, [external(case.scaler_address(app))]))
    for app, kedastral, title in (("kept", kept, "runs on"), ("restarted", restarted, "starts again meanwhile")):
        timelines[app] = case.record(app, PER_POD, title=title, load="web", told=partial(kedastral.told, {}))
    case.until(away)
    prometheus.program.kill()
    case.mark("Prometheus is killed")
    case.until(back - 60)
    restarted.program.kill()
    restarted.start()
    timelines["restarted"].marks.append((case.second, "Kedastral starts again"))
    case.until(back)
    prometheus.start()
    case.mark("Prometheus is back")
    case.until(end - 20)

    for timeline in timelines.values():
        assert timeline.ready(begin - 1, begin)[-1] >= NEED
        assert timeline.told(back - 20, back - 5)[-1] == "UNAVAILABLE", f"{timeline.name}: the plan is used up"
        assert not timeline.falls(begin, end - 20), f"{timeline.name}: held, and the first answers take no pods"
        assert timeline.number_at(end - 20) is not None, f"{timeline.name}: told again"


def test_prometheus_slow_and_partial(case: Case) -> None:
    begin, end = 180.0, 420.0
    prometheus = case.start_load(web=rush(LOW, HIGH, begin, end))
    with disturb(prometheus.url) as (disturbance, url):
        flags = {**case.forecast_of("web", PER_POD, LEAD), **PROMPT, "prom_url": url}
        kedastral = case.start_kedastral(**flags)
        kedastral.wait_for_forecast({})
        case.deploy("web")
        case.apply(scaled_object("web", [external(case.scaler_address())]))
        timeline = case.record("web", PER_POD, title="slow, then partial", told=lambda: kedastral.told({}))
        case.until(70)
        disturbance.delay = 15
        case.mark("Prometheus answers after 15 s")
        case.until(begin + 40)
        disturbance.delay = 0
        case.mark("it answers at once")
        case.until(begin + 80)
        disturbance.partial = True
        case.mark("its answers are partial, with half the load")
        case.until(end - 20)
    require_the_plan(timeline, begin, end)


def require_the_plan(timeline: Timeline, begin: float, end: float) -> None:
    """The rush is served as planned, replicas never fall during it, and there is always a number."""
    assert timeline.ready(begin - 1, begin)[-1] >= NEED, "up as planned before"
    assert not timeline.falls(begin, end - 20)
    assert min(one.number or 0 for one in timeline.between(begin, end - 20)) >= NEED
