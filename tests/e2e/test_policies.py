# SPDX-License-Identifier: Apache-2.0
"""What the Deployment does under `error`, `default-min` and `observe`: docs/keda.md, "Which answer, when"."""

from functools import partial

import pytest

from tests.e2e.case import PROMPT, Case, external, prometheus, scaled_object
from tests.e2e.load import rush

pytestmark = pytest.mark.e2e
LOW, HIGH, PER_POD, LEAD = 1000.0, 2400.0, 200.0, 60.0
NEED = 12


def test_error_holds_and_default_min_lets_go(case: Case) -> None:
    away, begin, end = 150.0, 240.0, 330.0
    source = case.start_load(web=rush(LOW, HIGH, begin, end))
    kedastrals = []
    for policy in ("error", "default-min"):
        flags = {**case.forecast_of("web", PER_POD, LEAD), **PROMPT, "on_stale": policy, "default_min": "2"}
        kedastrals.append(case.start_kedastral(policy, **flags))
    for kedastral in kedastrals:
        kedastral.wait_for_forecast({})
        name = kedastral.program.name
        case.deploy(name)
        case.apply(scaled_object(name, [external(case.scaler_address(name))]))
        case.record(name, PER_POD, title=name, load="web", told=partial(kedastral.told, {}))
    held, let_go = case.timelines
    case.until(away)
    source.program.kill()
    case.mark("Prometheus is killed")
    case.until(end - 20)

    before = held.replicas(away - 5, away)[-1]
    assert before >= LOW / PER_POD
    assert held.told(away + 40, end - 20) == ["UNAVAILABLE"] * len(held.told(away + 40, end - 20))
    assert set(held.replicas(away + 40, end - 20)) == {before}, "held, though a rush was planned for"
    assert let_go.replicas(away - 5, away)[-1] == before
    assert set(let_go.told(away + 40, end - 20)) == {2}
    assert let_go.replicas(end - 25, end - 20)[-1] == 2, "a number is a number: KEDA acts on it"


def test_observe_leaves_the_decision_to_the_other_trigger(case: Case) -> None:
    begin, end = 180.0, 300.0
    case.start_load(web=rush(LOW, HIGH, begin, end))
    kedastral = case.start_kedastral(**case.forecast_of("web", PER_POD, LEAD), **PROMPT, mode="observe")
    kedastral.wait_for_forecast({})
    reactive = prometheus(case.prometheus_address, "web", PER_POD / 1.2)
    for name in ("watched", "plain"):
        case.deploy(name)
    case.apply(scaled_object("watched", [external(case.scaler_address()), reactive]))
    case.apply(scaled_object("plain", [reactive]))
    watched = case.record("watched", PER_POD, title="observe", load="web", told=lambda: kedastral.told({}))
    plain = case.record("plain", PER_POD, title="a prometheus trigger alone", load="web")
    case.until(end + 60)

    assert set(watched.told(begin - 60, end + 60)) == {0}
    for at in (begin - 10, end - 10, end + 60):
        ours, theirs = watched.replicas(at - 5, at)[-1], plain.replicas(at - 5, at)[-1]
        assert abs(ours - theirs) <= 0.1 * theirs + 1e-9 or abs(ours - theirs) == 1, "but for the HPA's tolerance"
    assert watched.replicas(end - 10, end)[-1] > NEED, "the reactive trigger follows the rush"
    assert watched.short_seconds(begin, end) > 0, "as late as it is alone"
