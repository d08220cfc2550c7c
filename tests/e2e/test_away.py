# SPDX-License-Identifier: Apache-2.0
"""Outages of Prometheus, Kedastral or both: the table "When something is down" of docs/keda.md, row by row."""

import pytest

from tests.e2e.case import PROMPT, Case, Kedastral
from tests.e2e.load import rush
from tests.e2e.programs import wait_for
from tests.e2e.recipes import documented, of_case
from tests.e2e.timeline import AWAY, Timeline

pytestmark = pytest.mark.e2e
LOW, HIGH, PER_POD, LEAD = 300.0, 2400.0, 200.0, 60.0
NEED = 12
"""Pods that the rush needs."""


def play_recipes(case: Case, kedastral: Kedastral, *titles: str, replicas: int = 2) -> list[Timeline]:
    """A Deployment for each recipe of the document, with this case's Kedastral and Prometheus, in a namespace each."""
    for number, title in enumerate(titles):
        place = f"{case.namespace}-{number}"
        case.add_namespace(place)
        case.deploy("web", replicas, namespace=place)
        assert case.apply(of_case(documented()[title], case), place) == []
    return [
        case.record(
            "web", PER_POD, title=title, namespace=f"{case.namespace}-{number}", told=lambda: kedastral.told({})
        )
        for number, title in enumerate(titles)
    ]


def test_prometheus_away_then_kedastral_too(case: Case) -> None:
    begin, end = 240.0, 420.0
    prometheus = case.start_load(web=rush(LOW, HIGH, begin, end))
    kedastral = case.start_kedastral(**case.forecast_of("web", PER_POD, LEAD), **PROMPT)
    kedastral.wait_for_forecast({})
    alone, both, formula = play_recipes(case, kedastral, "Predicted", "Predicted and reactive", "One formula")
    case.until(130)
    prometheus.program.kill()
    case.mark("Prometheus is killed")
    case.until(end + 440)  # the plan comes down five minutes after the rush, and then the HPA waits for one more
    kedastral.program.kill()
    case.mark("Kedastral is killed")
    case.until(end + 480)

    for timeline in (alone, both, formula):
        assert timeline.ready(begin - 1, begin)[-1] >= NEED, f"{timeline.name}: up as planned"
        assert timeline.short_seconds(begin, end) == 0
        assert not timeline.falls(130, end), timeline.name
        assert timeline.told(end + 450, end + 480)[-1] == AWAY
        assert not timeline.falls(end + 445, end + 480), f"{timeline.name}: holds without both"
    for timeline in (alone, formula):
        told = timeline.between(end + 310, end + 435)[-1].number
        assert timeline.wanted(end + 430, end + 435)[-1] == told, f"{timeline.name}: down as planned"
        assert told is not None
        assert told < NEED
    assert not both.falls(130, end + 480), "while a trigger fails the HPA does not lower"


def test_kedastral_away(case: Case) -> None:
    begin, end = 200.0, 320.0
    case.start_load(web=rush(LOW, HIGH, begin, end))
    kedastral = case.start_kedastral(**case.forecast_of("web", PER_POD, LEAD), **PROMPT)
    kedastral.wait_for_forecast({})
    timelines = play_recipes(case, kedastral, "Predicted", "Predicted and reactive", "One formula")
    case.until(end - 60)
    kedastral.program.kill()
    case.mark("Kedastral is killed")
    case.until(end + 60)
    events = [case.events("web", f"{case.namespace}-{number}") for number in range(3)]
    kedastral.start()
    case.mark("Kedastral is started")
    case.until(end + 120)

    for timeline, said in zip(timelines, events, strict=True):
        assert timeline.told(end, end + 60)[-1] == AWAY
        assert not timeline.falls(end - 60, end + 60), f"{timeline.name}: nothing falls while nobody answers"
        assert "got empty metric spec" in said, "docs/keda.md says what this means"
        assert timeline.number_at(end + 120) is not None, f"{timeline.name}: told again once it is back"
        assert not timeline.falls(end + 60, end + 90), f"{timeline.name}: the first answers take no pods"


def test_kedastral_answers_with_errors(case: Case) -> None:
    case.start_load(web=rush(LOW, LOW, 200, 320))
    nowhere = {**case.forecast_of("web", PER_POD, LEAD), "prom_url": "http://127.0.0.1:9"}
    kedastral = case.start_kedastral(**nowhere)
    wait_for(lambda: kedastral.told({}) == "UNAVAILABLE", "Kedastral says that it has no forecast")
    titles = ("Predicted", "Predicted and reactive", "One formula")
    few, reactive, formula = play_recipes(case, kedastral, *titles, replicas=4)
    begin = case.second
    case.until(begin + 90)
    case.load.replace("web", HIGH)
    case.mark("a rush that nobody foresaw")
    case.until(begin + 190)
    assert max(few.replicas(begin, begin + 190)) == 6, "fallback.replicas, which is more than there were"
    assert not few.falls(begin, begin + 190)
    assert not reactive.falls(begin, begin + 190), "nothing lowers while a trigger fails"
    assert reactive.replicas(begin + 185, begin + 190)[-1] > NEED, "the load may raise"
    assert min(formula.replicas(begin, begin + 90)) == 2, "the load alone, once the threshold is passed"
    assert formula.replicas(begin + 185, begin + 190)[-1] > NEED


def test_cpu_is_the_net_while_kedastral_is_away(case: Case) -> None:
    cpu = case.stage.cpu
    if cpu is None:
        pytest.skip("only where the metrics server is ours the pods can be made to use CPU")
    case.start_load(web=rush(LOW, LOW, 200, 320))
    kedastral = case.start_kedastral(**case.forecast_of("web", PER_POD, LEAD), **PROMPT)
    kedastral.wait_for_forecast({})
    (timeline,) = play_recipes(case, kedastral, "Predicted, and CPU as a net")
    case.until(100)
    kedastral.program.kill()
    case.mark("Kedastral is killed")
    case.until(120)
    cpu.set(f"{case.namespace}-0", "web", 180)
    case.mark("each pod uses 180 % of its CPU")
    case.until(150)
    cpu.set(f"{case.namespace}-0", "web", 20)
    case.mark("each pod uses 20 % of its CPU")
    case.until(200)
    raised = max(timeline.replicas(120, 150))
    assert raised >= 4
    assert not timeline.falls(100, 200), "nothing lowers meanwhile"
