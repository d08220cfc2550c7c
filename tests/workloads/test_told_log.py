# SPDX-License-Identifier: Apache-2.0
"""The log line about a change of what KEDA is told, with every possible reason, in the words of `kedastral explain`."""

from collections.abc import Callable
from datetime import timedelta

import attrs
import numpy as np
import pytest
from trio.testing import MockClock

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.explanation.explain import explain
from kedastral.core.explanation.stages import LIMITS, StageName
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import decide
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.workloads.guarded_tick import ToldLog, log_mode
from kedastral.workloads.runner import RunnerBuilder
from tests.core.test_explain import POLICY, flat, plans, workload_of
from tests.parts import StubSource, make_history, make_snapshot, wall_clock
from tests.workloads.test_keeping import shop

STALE = timedelta(seconds=200)
WORKLOAD = Workload("shop", "rps", 30, 300.0, POLICY)


def running(loads: list[float], forecasts: list[list[float]], policy: PlanPolicy = POLICY) -> Snapshot:
    """The newest of a chain of steered plans, long after the start."""
    return attrs.evolve(plans(workload_of(policy), loads, forecasts), resumption=None)


def wavering() -> Snapshot:
    loads = [1000.0 + 3 * (-1) ** i for i in range(150)]
    return plans(workload_of(steered=False), loads, [[1000.0]] * 6 + [[1010.0]])


def jumping() -> Snapshot:
    """A jump that the change limits stretch; the plan is read only a second ahead."""
    slow = workload_of(attrs.evolve(POLICY, up_max_factor=1.5), steered=False)
    made = plans(attrs.evolve(slow, reactive_headroom=None), [500.0] * 150, [[500.0], [500.0], [4000.0]])
    return attrs.evolve(made, lead_time=1.0)


def started_again() -> Snapshot:
    made = flat(1000.0)
    return attrs.evolve(made, resumption=Resumption(made.made_at - timedelta(minutes=1), 20))


REASONS: dict[StageName, tuple[Callable[[], Snapshot], str]] = {
    StageName.FORECAST: (
        lambda: flat(1000.0),
        "12: the forecast decided: 1,000 is the load expected at 14:30:00 UTC, at 100 a pod",
    ),
    StageName.LOAD_CAP: (
        lambda: running([1000.0] * 11_000, [[9000.0]]),
        "11: the cap on load decided: a little more than the largest load of the week, and at least the newest load",
    ),
    StageName.REST: (
        lambda: running([500.0] * 60 + [0.0] * 10, [[0.0]] * 9, attrs.evolve(POLICY, bounds=ReplicaBounds(0, 50))),
        "0: the rule for idle workloads decided: the workload is idle, and no load is expected",
    ),
    StageName.DEAD_BAND: (
        wavering,
        "12: the dead band decided: 13 pods differ from the 12 planned before by no more than the noise of the load",
    ),
    StageName.MINIMUM: (lambda: flat(10.0), "2: the minimum decided: 1 pod would be enough, and min is 2"),
    StageName.MAXIMUM: (lambda: flat(90_000.0), "50: the maximum decided: 1,080 pods are needed, and max is 50"),
    StageName.CHANGE_LIMITS: (
        jumping,
        "9: the change limits decided: 48 pods needed, but the plan may not change faster",
    ),
    StageName.HOLD: (
        lambda: running([2000.0] * 150 + [200.0] * 3, [[2000.0]] * 9 + [[200.0]]),
        "29: scaling in keeps more: 12 pods would do, but 29 were recommended within the last 5 minutes",
    ),
    StageName.FLOOR: (
        lambda: flat(1000.0, expected=0.0),
        "11: the floor decided: what the newest load, 1,000, needs at once",
    ),
    StageName.RESUMPTION: (
        started_again,
        (
            "20: the start decided: KEDA was told this before the start, the outage or the change of settings of "
            "14:29:00 UTC; kept until a forecast has stood for a while"
        ),
    ),
    StageName.STALE: (
        lambda: flat(1000.0),
        "2: the stale policy decided: the newest forecast is of 2026-03-01T14:30:00Z: KEDA is told the default minimum",
    ),
}


@pytest.mark.parametrize("decided_by", REASONS)
def test_the_line_gives_the_reason_that_explain_gives(decided_by: StageName, caplog: pytest.LogCaptureFixture) -> None:
    make, words = REASONS[decided_by]
    snapshot = make()
    told, now = ToldLog(WORKLOAD), snapshot.made_at + (STALE if decided_by is StageName.STALE else timedelta())
    explanation = explain(snapshot, now, WORKLOAD.stale)
    assert explanation.decided_by is decided_by
    caplog.set_level("INFO", "kedastral.forecaster")
    told.note(saying_four(snapshot), snapshot.made_at)
    told.note(snapshot, now)
    assert caplog.messages == [f"replicas for KEDA 4 -> {words}"]
    assert explanation.sentence.endswith(f"{words.partition(': ')[2]}.")


def saying_four(snapshot: Snapshot) -> Snapshot:
    four = np.full(len(snapshot.replicas), 4)
    return attrs.evolve(snapshot, replicas=four, floor=None, resumption=None, basis=None)


def test_every_reason_is_tried() -> None:
    assert set(REASONS) == LIMITS - {StageName.MODE} | {StageName.FORECAST}  # in mode observe the plan has its reason


def test_no_number_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kedastral.forecaster")
    snapshot = flat(1000.0)
    told = ToldLog(attrs.evolve(WORKLOAD, stale=StalePolicy(on_stale=OnStale.ERROR)))
    told.note(attrs.evolve(snapshot, withheld=True), snapshot.made_at)
    told.note(saying_four(snapshot), snapshot.made_at)
    told.note(snapshot, snapshot.made_at + STALE)
    assert caplog.messages == []
    told.note(snapshot, snapshot.made_at)
    assert [words.partition(": ")[0] for words in caplog.messages] == ["replicas for KEDA 4 -> 12"]


def test_in_mode_observe_a_change_of_the_plan_is_a_line_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kedastral.forecaster")
    snapshot = attrs.evolve(flat(1000.0), mode=Mode.OBSERVE)
    told = ToldLog(attrs.evolve(WORKLOAD, stale=StalePolicy(mode=Mode.OBSERVE)))
    told.note(saying_four(snapshot), snapshot.made_at)
    told.note(snapshot, snapshot.made_at)
    why = "the forecast decided: 1,000 is the load expected at 14:30:00 UTC, at 100 a pod"
    assert caplog.messages == [f"planned replicas 4 -> 12, while KEDA is told 0 (observe): {why}"]


SCALE, OBSERVE = Mode.SCALE, Mode.OBSERVE


@pytest.mark.parametrize(
    ("before", "after", "on_stale", "planned", "words"),
    [
        (OBSERVE, SCALE, OnStale.ERROR, True, ["mode observe -> scale: KEDA is told 12 from now on"]),
        (OBSERVE, SCALE, OnStale.ERROR, False, ["mode observe -> scale: KEDA gets an error, and holds its replicas"]),
        (SCALE, OBSERVE, OnStale.ERROR, True, ["mode scale -> observe: KEDA is told 0 from now on; the plan says 12"]),
        (SCALE, OBSERVE, OnStale.ERROR, False, ["mode scale -> observe: KEDA is told 0 from now on"]),
        (SCALE, SCALE, OnStale.ERROR, True, []),
    ],
)
def test_a_change_of_the_mode_is_a_line_with_what_keda_is_told(
    before: Mode, after: Mode, on_stale: OnStale, planned: bool, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kedastral.forecaster")
    snapshot = flat(1000.0)
    workload = attrs.evolve(WORKLOAD, stale=StalePolicy(on_stale=on_stale, mode=after))
    log_mode(before, workload, snapshot if planned else None, snapshot.made_at)
    assert caplog.messages == words


async def test_a_runner_that_takes_over_logs_the_new_mode(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kedastral.forecaster")
    clock, store = wall_clock(), MemoryStore()
    builder = RunnerBuilder(store, clock, Metrics(), open_source=lambda _: StubSource([make_history(1.0)]))
    observing = builder.build(shop(mode=Mode.OBSERVE))
    await store.put(attrs.evolve(make_snapshot(), mode=Mode.OBSERVE))
    scaling = builder.build(shop(), observing)
    scaling.take_over(observing)
    told = decide(store.get("shop"), clock.now(), scaling.workload.stale).replicas
    assert told
    builder.build(shop(lead_time=60.0), scaling).take_over(scaling)
    assert caplog.messages == [f"mode observe -> scale: KEDA is told {told} from now on"]
