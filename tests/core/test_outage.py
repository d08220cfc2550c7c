# SPDX-License-Identifier: Apache-2.0
"""An outage is said with its cause, its age, how long the old plan lasts, and what KEDA is told then."""

from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.explanation.explain import explain
from kedastral.core.explanation.outage import find_outage
from kedastral.core.failures import Failure
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import decide
from tests.parts import START, make_snapshot

GONE = Failure(START, "source", "unreachable")
WHY = "its Prometheus cannot be reached (source: unreachable)"
RIDE = StalePolicy(on_stale=OnStale.RIDE_FORECAST)
ERROR = StalePolicy(on_stale=OnStale.ERROR)


def plan_of(minutes: int = 10) -> Snapshot:
    """A plan of 9 pods for ``minutes``, made at 12:00, with a lead time of 2 minutes."""
    return make_snapshot([9] * minutes, made_at=START, lead=120.0, floor=None)


@pytest.mark.parametrize(
    ("policy", "seconds", "age", "fate", "brief"),
    [
        (
            StalePolicy(),
            90,
            "for 90 s",
            "KEDA is told the old plan until 12:02:00 UTC; then it is told the default minimum, 2.",
            "since 12:00 UTC; the plan lasts until 12:02",
        ),
        (
            StalePolicy(),
            240,
            "for 4 min",
            "KEDA is told the default minimum, 2, until there is one; the plan says 9.",
            "since 12:00 UTC; KEDA is told the default minimum, 2",
        ),
        (
            ERROR,
            240,
            "for 4 min",
            "KEDA gets an error and holds its replicas until there is one.",
            "since 12:00 UTC; KEDA holds",
        ),
        (
            RIDE,
            240,
            "for 4 min",
            "KEDA is told the old plan until 12:08:00 UTC; then it gets an error and holds its replicas.",
            "since 12:00 UTC; the plan lasts until 12:08",
        ),
        (
            RIDE,
            500,
            "for 8 min",
            (
                "Since 12:08:00 UTC the old plan no longer covers the lead time: "
                "KEDA gets an error and holds its replicas until there is one."
            ),
            "since 12:00 UTC; the plan lasted until 12:08, and KEDA holds",
        ),
        (
            StalePolicy(mode=Mode.OBSERVE),
            240,
            "for 4 min",
            "In mode observe KEDA is told 0, with a forecast or without.",
            "since 12:00 UTC; KEDA is told 0, as in mode observe",
        ),
    ],
)
def test_an_outage_says_why_since_when_how_long_the_plan_lasts_and_what_then(
    policy: StalePolicy, seconds: float, age: str, fate: str, brief: str
) -> None:
    outage = find_outage(plan_of(), START + timedelta(seconds=seconds), policy, GONE)
    assert outage is not None
    assert outage.sentence == f"No new forecast since 12:00:00 UTC, {age}: {WHY}. {fate}"
    assert (outage.brief, outage.since) == (brief, START)


def test_there_is_no_outage_where_the_newest_attempt_gave_a_fresh_forecast() -> None:
    assert find_outage(plan_of(), START + timedelta(seconds=119), StalePolicy(), None) is None


def test_a_cause_that_is_not_known_is_not_made_up() -> None:
    outage = find_outage(plan_of(), START + timedelta(seconds=200), ERROR, None)
    assert outage is not None
    assert outage.sentence == (
        "No new forecast since 12:00:00 UTC, for 3 min. KEDA gets an error and holds its replicas until there is one."
    )


def test_an_outage_that_began_on_another_day_names_the_day() -> None:
    outage = find_outage(plan_of(), START + timedelta(hours=13), RIDE, None)
    assert outage is not None
    assert outage.sentence.startswith("No new forecast since 03-01 12:00:00 UTC, for 13 h. Since 03-01 12:08:00 UTC ")


def test_a_forecast_from_the_future_is_called_so() -> None:
    outage = find_outage(plan_of(), START - timedelta(seconds=300), RIDE, None)
    assert outage is not None
    assert outage.sentence == (
        "The newest forecast is from 5 min in the future: a clock was set back, or clocks differ. "
        "KEDA gets an error and holds its replicas until there is one."
    )


def test_the_stage_of_a_used_up_plan_says_that_it_is_used_up() -> None:
    late = START + timedelta(seconds=500)
    assert "the old plan does not cover the lead time, so KEDA gets an error" in explain(plan_of(), late, RIDE).sentence


def test_the_plan_changes_next_only_while_it_is_what_keda_is_told() -> None:
    plan = make_snapshot([9, 9, 9, 9, 9, 9, 4, 4, 4, 4], made_at=START, lead=120.0, floor=None)
    now = START + timedelta(seconds=60)
    change = explain(plan, now, RIDE, GONE).next_change
    assert change is not None
    assert change.replicas == 4
    assert explain(plan, now, StalePolicy(), GONE).next_change is None


@given(st.floats(-1000, 1000), st.sampled_from(OnStale), st.sampled_from([None, *Mode]), st.booleans(), st.booleans())
def test_what_is_said_of_an_outage_is_what_keda_is_told(
    after: float, on_stale: OnStale, mode: Mode | None, withheld: bool, fails: bool
) -> None:
    snapshot = attrs.evolve(make_snapshot([9, 8, 7, 6, 5, 4, 3, 2, 1, 1], lead=120.0, floor=None), withheld=withheld)
    now, policy = snapshot.made_at + timedelta(seconds=after), StalePolicy(on_stale=on_stale, mode=mode, default_min=20)
    outage = find_outage(snapshot, now, policy, GONE if fails else None)
    if outage is None:
        return
    told = decide(snapshot, now, policy)
    assert outage.follows_plan is (told.replicas == replicas_at(snapshot, now) and told.mode is Mode.SCALE)
    assert (outage.until is not None) is outage.follows_plan
    if outage.until is not None:
        before, then = (outage.until + timedelta(seconds=seconds) for seconds in (-0.01, 0.01))
        assert decide(snapshot, before, policy).replicas == replicas_at(snapshot, before)
        assert decide(snapshot, then, policy).replicas in (None, 20)
