# SPDX-License-Identifier: Apache-2.0
"""Pods start late and leave at once, pending ones first: by hand, and against a formula."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.simulation.cluster import PodFleet

MINUTE = 60.0


def test_a_pod_ordered_serves_after_its_start() -> None:
    # lead 5: ordered at the end of minute 9 (600 s), 4 minutes of start: serves from minute 14 (840 s)
    fleet = PodFleet(2, 4 * MINUTE)
    fleet.order(600.0, 5)
    assert (fleet.ordered, fleet.ready(600.0), fleet.pending(600.0)) == (5, 2, 3)
    assert fleet.ready(839.0) == 2
    assert fleet.ready(840.0) == 5
    assert fleet.pending(840.0) == 0


def test_without_a_start_time_pods_serve_at_once() -> None:
    fleet = PodFleet(1, 0.0)
    fleet.order(0.0, 3)
    assert fleet.ready(0.0) == 3


def test_scale_down_acts_at_once() -> None:
    fleet = PodFleet(5, 240.0)
    fleet.order(60.0, 2)
    assert (fleet.ordered, fleet.ready(60.0)) == (2, 2)


def test_scale_down_takes_pending_pods_first_the_newest_first() -> None:
    fleet = PodFleet(4, 240.0)
    fleet.order(0.0, 6)  # 2 ready at 240
    fleet.order(60.0, 9)  # 3 ready at 300
    fleet.order(120.0, 7)  # 2 of the newest go: 2 are left that are ready at 240, and 1 at 300
    assert [fleet.ready(at) for at in (120.0, 239.0, 240.0, 299.0, 300.0)] == [4, 4, 6, 6, 7]


def test_scale_down_takes_pods_that_serve_once_no_pending_one_is_left() -> None:
    fleet = PodFleet(4, 240.0)
    fleet.order(0.0, 6)
    fleet.order(180.0, 5)  # one of the pending
    assert (fleet.ready(180.0), fleet.pending(180.0)) == (4, 1)
    fleet.order(200.0, 3)  # the pending one, and one that served
    assert (fleet.ready(200.0), fleet.pending(200.0)) == (3, 0)


def test_pods_taken_back_are_not_spared_when_ordered_again() -> None:
    fleet = PodFleet(1, 240.0)
    fleet.order(0.0, 3)
    fleet.order(60.0, 1)
    fleet.order(120.0, 3)
    assert fleet.ready(240.0) == 1
    assert fleet.ready(360.0) == 3


def test_scale_to_zero_and_back() -> None:
    fleet = PodFleet(2, 60.0)
    fleet.order(0.0, 0)
    assert fleet.ready(0.0) == 0
    fleet.order(60.0, 1)
    assert (fleet.ready(119.0), fleet.ready(120.0)) == (0, 1)


def test_impossible_fleets_are_refused() -> None:
    with pytest.raises(ValueError, match="must be >= 0"):
        PodFleet(-1, 0.0)
    with pytest.raises(ValueError, match="must be >= 0"):
        PodFleet(1, -1.0)
    with pytest.raises(ValueError, match="must be >= 0"):
        PodFleet(1, 0.0).order(0.0, -1)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=50), st.integers(1, 8), st.integers(0, 30))
def test_ready_is_the_fewest_ordered_over_the_last_lead(orders: list[int], lead: int, first: int) -> None:
    # a pod that serves in minute m was wanted at the end of every minute m-lead .. m-1, and the other way round
    fleet = PodFleet(first, (lead - 1) * MINUTE)
    ordered = [first] * lead
    for minute, replicas in enumerate(orders):
        assert fleet.ready(minute * MINUTE) == min(ordered[-lead:])
        fleet.order((minute + 1) * MINUTE, replicas)
        ordered.append(replicas)
    assert fleet.ready(len(orders) * MINUTE) == min(ordered[-lead:])
