# SPDX-License-Identifier: Apache-2.0
"""KEDA between policy and HPA: cached values, and scaling from and to zero, which only KEDA does."""

import math
from collections.abc import Sequence

import attrs
import numpy as np

from kedastral.core.capacity import ReplicaBounds
from kedastral.simulation.cluster import Autoscaler, KedaTiming
from kedastral.simulation.hpa import HpaBehavior, HpaMetric
from kedastral.simulation.trial import View
from tests.simulation.demands import START

POLL_30_SYNC_15 = KedaTiming(sync_period=15.0, polling_interval=30.0)


@attrs.define
class Script:
    """Gives its values in turn, one per call."""

    words: list[float | None]
    name: str = "script"
    behavior: HpaBehavior = HpaBehavior.DIRECT

    def ask(self, view: View) -> Sequence[HpaMetric]:
        return (HpaMetric(self.words.pop(0)),)


def run(words: list[float | None], ordered: int, bounds: ReplicaBounds, timing: KedaTiming, times: int) -> list[int]:
    autoscaler = Autoscaler(Script(words), HpaBehavior.DIRECT, bounds, timing)
    history = []
    for i in range(times):
        ordered = autoscaler.decide(View(START, 60.0, i * timing.sync_period, np.zeros(1), ordered))
        history.append(ordered)
    return history


def test_every_sync_asks_the_trigger() -> None:
    assert run([3, 4, 5, 6], 1, ReplicaBounds(1, 9), POLL_30_SYNC_15, 4) == [3, 4, 5, 6]


def test_cached_metrics_are_refreshed_at_polls_only() -> None:
    timing = attrs.evolve(POLL_30_SYNC_15, cached_metrics=True)
    assert run([3, 4, 5], 1, ReplicaBounds(1, 9), timing, 6) == [3, 3, 4, 4, 5, 5]


def test_polls_keep_to_their_interval_however_late_the_hpa_syncs() -> None:
    # polls due at 0, 30, 60, 90 and 120 s: at the syncs of 0, 40, 60, 100 and 120 s
    timing = KedaTiming(sync_period=20.0, polling_interval=30.0, cached_metrics=True)
    assert run([3, 4, 5, 6, 7], 1, ReplicaBounds(1, 9), timing, 7) == [3, 3, 4, 5, 5, 6, 7]


def test_a_poll_wakes_a_workload_from_zero_to_one() -> None:
    # polls at 0, 30, 60 s. Nothing at 0 s; active at 15 s, but the next poll is at 30 s; the HPA takes over from 1
    assert run([0, 5, 5, 5, 5], 0, ReplicaBounds(0, 9), POLL_30_SYNC_15, 5) == [0, 0, 1, 5, 5]


def test_an_inactive_workload_sleeps_after_the_cooldown() -> None:
    # active at 0 s, inactive from 60 s. The HPA goes to 1, never to 0. Cooldown 120 s is over when more than 120 s
    # have passed: at 120 s not yet, at 180 s
    timing = KedaTiming(cooldown=120.0)
    assert run([3, 0, 0, 0, 0], 3, ReplicaBounds(0, 9), timing, 5) == [3, 1, 1, 0, 0]


def test_an_error_is_not_inactive() -> None:
    timing = KedaTiming(cooldown=60.0)
    assert run([3, None, None, None], 3, ReplicaBounds(0, 9), timing, 4) == [3, 3, 3, 3]


def test_with_a_minimum_nothing_sleeps() -> None:
    assert run([0] * 9, 3, ReplicaBounds(1, 9), KedaTiming(), 9)[-1] == 1


def test_recommended_is_what_the_policy_asked_for() -> None:
    autoscaler = Autoscaler(Script([50.0, 2.5, None]), HpaBehavior.DIRECT, ReplicaBounds(1, 9), KedaTiming())
    view = View(START, 60.0, 0.0, np.zeros(1), 5)
    assert math.isnan(autoscaler.recommended)
    assert (autoscaler.decide(view), autoscaler.recommended) == (9, 50.0)
    assert (autoscaler.decide(attrs.evolve(view, now=60.0)), autoscaler.recommended) == (3, 3.0)
    assert autoscaler.decide(attrs.evolve(view, now=120.0)) == 5
    assert math.isnan(autoscaler.recommended)
