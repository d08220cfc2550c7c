# SPDX-License-Identifier: Apache-2.0
"""Kedastral's own pods: one killed, one frozen, one of two killed, a rolling update. The plan stays in force."""

import httpx
import pytest

from tests.e2e.case import GRPC_PORT, PROMPT, Case, Kedastral, external, scaled_object
from tests.e2e.load import rush
from tests.e2e.programs import wait_for
from tests.e2e.proxies import Service
from tests.e2e.timeline import AWAY

pytestmark = pytest.mark.e2e
LOW, HIGH, PER_POD, LEAD = 300.0, 2400.0, 200.0, 60.0
NEED = 12
BEGIN = 120.0
NO_METRIC = "FailedGetExternalMetric"
"""The reason of the HPA's event for a sync that got no number."""


def lost_syncs(case: Case, app: str) -> int:
    """The syncs at which the HPA of ``app`` got no number, as its events count them."""
    items = case.stage.api.get(f"/api/v1/namespaces/{case.namespace}/events")["items"]
    mine = [one for one in items if one["involvedObject"]["name"] == f"keda-hpa-{app}"]
    return sum(one.get("count") or 1 for one in mine if one["reason"] == NO_METRIC)


def test_kedastral_killed_and_frozen(case: Case) -> None:
    end = 400.0
    case.start_load(web=rush(LOW, HIGH, BEGIN, end))
    kedastral = case.start_kedastral(**case.forecast_of("web", PER_POD, LEAD), **PROMPT)
    kedastral.wait_for_forecast({})
    case.deploy("web")
    case.apply(scaled_object("web", [external(case.scaler_address())]))
    timeline = case.record("web", PER_POD, title="killed, then frozen", told=lambda: kedastral.told({}))
    case.until(180)
    kedastral.program.kill()
    case.mark("killed")
    case.until(210)
    kedastral.start()
    case.mark("started")
    case.until(280)
    kedastral.program.freeze()
    case.mark("frozen")
    case.until(320)
    kedastral.program.thaw()
    case.mark("goes on")
    case.until(end - 10)

    assert AWAY in timeline.told(185, 210)
    assert AWAY in timeline.told(285, 320)
    assert timeline.ready(BEGIN - 1, BEGIN)[-1] >= NEED
    assert not timeline.falls(BEGIN, end - 10)
    assert lost_syncs(case, "web") > 0, "the HPA did go without"
    for back in (210, 320):
        numbers = [one.number for one in timeline.between(back, back + 60) if one.number is not None]
        assert numbers, f"no number within a minute after second {back}"
        assert min(numbers) >= NEED, "what is told first takes no pods"


def test_two_pods_of_kedastral_one_killed_then_a_rolling_update(case: Case) -> None:
    end = 340.0
    case.start_load(web=rush(LOW, HIGH, BEGIN, end))
    flags = {**case.forecast_of("web", PER_POD, LEAD), **PROMPT}
    first, second = (case.start_kedastral(name, **flags) for name in ("pod-a", "pod-b"))
    for pod in (first, second):
        pod.wait_for_forecast({})
    service = Service(case.stage.network.publish(GRPC_PORT, f"kedastral.{case.namespace}"))
    service.lead_to(first.listens, second.listens)
    case.deploy("web")
    case.apply(scaled_object("web", [external(case.scaler_address())]))
    serving = [second]
    timeline = case.record("web", PER_POD, told=lambda: serving[-1].told({}), title="two pods")
    case.until(160)
    first.program.kill()
    case.mark("one of two pods is killed")
    case.until(170)
    service.lead_to(second.listens)  # its readiness probe has failed
    third = case.start_kedastral("pod-c", **flags)
    wait_for(lambda: _ready(third), "the new pod is Ready")
    case.until(220)
    before = lost_syncs(case, "web")
    service.lead_to(second.listens, third.listens)
    case.mark("a rolling update: the new pod is Ready")
    case.until(230)
    service.lead_to(third.listens)
    serving.append(third)
    second.program.stop()
    case.mark("the old pod is stopped")
    case.until(end - 20)
    after = lost_syncs(case, "web")
    service.close()

    assert after == before, "no sync is lost on a rolling update"
    assert AWAY not in timeline.told(BEGIN, end - 20), "somebody answers at any time"
    assert timeline.ready(BEGIN - 1, BEGIN)[-1] >= NEED
    assert timeline.short_seconds(BEGIN, end - 20) == 0
    assert not timeline.falls(BEGIN, 230), "nobody loses a pod by the death of one of two"
    plan = min(one.number or 0 for one in timeline.between(231, end - 20))
    assert plan >= NEED, "the new pod's plan is one for the load"
    least = min(timeline.replicas(260, end - 20))  # two syncs of KEDA and the HPA later
    assert least * 1.1 >= plan, "no fewer than the new pod plans, but for the HPA's tolerance"


def _ready(kedastral: Kedastral) -> bool:
    try:
        return httpx.get(f"{kedastral.http}/readyz", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False
