# SPDX-License-Identifier: Apache-2.0
"""The main promise: pods are Ready when the load comes, and noise does not make them flap."""

import itertools
import random

import pytest

from tests.e2e.case import PROMPT, Case, external, prometheus, scaled_object
from tests.e2e.load import Shape, rush
from tests.e2e.programs import wait_for
from tests.e2e.recipes import documented, of_case

pytestmark = pytest.mark.e2e
RUSH, END = 180.0, 360.0
LEAD, READY_AFTER = 60.0, 20.0
PER_POD = 200.0
WITH_NOISE = (12, 13)


def test_pods_are_ready_when_the_load_comes_where_a_plain_trigger_is_late(case: Case) -> None:
    case.start_load(web=rush(300, 2400, RUSH, END))
    kedastral = case.start_kedastral(**case.forecast_of("web", PER_POD, LEAD), **PROMPT)
    kedastral.wait_for_forecast({})
    for name in ("web", "plain"):
        case.deploy(name, ready_after=READY_AFTER)
    case.apply(scaled_object("web", [external(case.scaler_address())]))
    case.apply(scaled_object("plain", [prometheus(case.prometheus_address, "web", PER_POD / 1.2)]))
    ahead = case.record("web", PER_POD, title="Kedastral", told=lambda: kedastral.told({}))
    plain = case.record("plain", PER_POD, title="a prometheus trigger alone", load="web")
    case.until(END + 20)
    need = 2400 / PER_POD
    assert ahead.ready(RUSH - 1, RUSH)[-1] >= need
    assert ahead.short_seconds(RUSH, END) == 0
    assert plain.short_seconds(RUSH, END) > READY_AFTER
    assert not ahead.falls(RUSH, END), "never down while the load is there"


def test_noise_about_a_whole_number_of_pods_does_not_flap(case: Case) -> None:
    # 500 a second, 50 for each pod, headroom 1.2: exactly 12, and the noise lies on both sides of it
    noise = random.Random(7)
    case.start_load(web=Shape([(second, 500 * (1 + noise.uniform(-0.03, 0.03))) for second in range(0, 3600, 15)]))
    kedastral = case.start_kedastral(**case.forecast_of("web", 50.0, LEAD), **PROMPT)
    kedastral.wait_for_forecast({})
    case.deploy("web")
    case.apply(of_case(documented()["Predicted"], case))
    timeline = case.record("web", 50.0, title="steady, with noise", told=lambda: kedastral.told({}))
    wait_for(lambda: kedastral.told({}) in WITH_NOISE, "what it planned while it learned is held no more", 400)
    begin = case.second + 75  # the HPA follows a minute later
    case.until(begin + 480)
    replicas = timeline.replicas(begin, begin + 480)
    moves = sum(one != other for one, other in itertools.pairwise(replicas))
    assert moves <= 1, "the HPA's tolerance is 0 here: the dead band is ours, and noise does not move pods to and fro"
    assert replicas[-1] in WITH_NOISE
