# SPDX-License-Identifier: Apache-2.0
"""The model of KEDA and the HPA agrees with the real ones; ``recorded`` holds timelines of `make e2e`."""

import attrs
import pytest

from kedastral.simulation.hpa import HpaBehavior
from tests.e2e.model import ABSENT, RECIPE, find_strays, read_timeline
from tests.e2e.pictures import RECORDED, RECORDINGS
from tests.loop.scaled_object import Fallback, ScaledObjectSpec

SPECS = {
    "no-behavior": ScaledObjectSpec(behavior=ABSENT),
    "killed-then-frozen": ScaledObjectSpec(behavior=ABSENT),
    "plan-runs-out": ScaledObjectSpec(behavior=ABSENT),
    "predicted-prometheus-away": ScaledObjectSpec(behavior=RECIPE, fallback=Fallback()),
    "predicted-kedastral-away": ScaledObjectSpec(behavior=RECIPE, fallback=Fallback()),
    "error": ScaledObjectSpec(behavior=ABSENT),
    "default-min": ScaledObjectSpec(behavior=ABSENT),
}
UNKNOWN = {"plain-trigger", "observe", "from-zero"}
"""Only for pictures: the answers of the other trigger, or the times of the polls, are not recorded."""


@pytest.mark.parametrize("name", SPECS)
def test_the_model_has_the_replicas_of_the_real_loop_within_one_sync(name: str) -> None:
    samples = read_timeline(RECORDED / f"{name}.csv").samples
    assert len({sample.scale.replicas for sample in samples}) > 3, "nothing happened in it"
    assert find_strays(samples, SPECS[name]) == []


def test_every_recorded_timeline_is_held_against_the_model() -> None:
    assert {path.stem for path in RECORDED.glob("*.csv")} == set(RECORDINGS) == {*SPECS, *UNKNOWN}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("no-behavior", HpaBehavior.KUBERNETES),
        ("predicted-prometheus-away", attrs.evolve(RECIPE, up=attrs.evolve(RECIPE.up, policies=()))),
        ("predicted-prometheus-away", attrs.evolve(RECIPE, down=ABSENT.down)),
    ],
    ids=["a behavior where there was none", "no limit of rate", "a shorter window"],
)
def test_a_wrong_model_is_found_out(name: str, wrong: HpaBehavior) -> None:
    assert find_strays(read_timeline(RECORDED / f"{name}.csv").samples, ScaledObjectSpec(behavior=wrong))
