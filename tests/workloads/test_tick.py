# SPDX-License-Identifier: Apache-2.0
"""The tick: what it publishes, what it leaves unchanged on failures, and what it must not catch."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import attrs
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from kedastral.clock import WallClock
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.failures import LastFailure
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import OK, ForecastStatus, StatusCode
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.ports import SnapshotStore
from kedastral.core.series import Observation, Series
from kedastral.errors import ModelError, SourceError, StoreError, WorkloadError
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.workloads.guarded_tick import GuardedTick, ToldLog
from kedastral.workloads.tick import ForecastLoop, Planner, Workload
from kedastral.workloads.ticker import Beats, run_ticker
from tests.parts import START, StubForecaster, StubSource, make_history, wall_clock

POLICY = PlanPolicy(target_per_pod=100, headroom=1.2, bounds=ReplicaBounds(1, 50), prewarm_steps=0)


class BrokenStore(MemoryStore):
    """A store that keeps nothing while it ``is_broken``."""

    is_broken = True

    async def put(self, snapshot: Snapshot) -> bool:
        if not self.is_broken:
            return await super().put(snapshot)
        raise StoreError(f"no room for {snapshot.workload}", reason="full")


def make_loop(
    readings: Sequence[Series | Exception] | None = None,
    *,
    name: str = "shop",
    values: Sequence[float] | Exception = (400.0, 500.0, 1000.0),
    store: SnapshotStore | None = None,
    floor: float | None = 1.1,
    clock: WallClock | None = None,
) -> ForecastLoop:
    def say(_steps: int) -> Sequence[float]:
        if isinstance(values, Exception):
            raise values
        return values

    return ForecastLoop(
        workload=Workload(name, "http_rps", 3, 120.0, POLICY, floor),
        source=StubSource(list(readings or [make_history(300.0, 375.0)])),
        forecaster=StubForecaster(say),
        store=store if store is not None else MemoryStore(),
        clock=clock or wall_clock(),
    )


def errors_counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["component"], sample.labels["reason"]): sample.value
        for family in metrics.errors.collect()
        for sample in family.samples
        if sample.name == "kedastral_errors_total"
    }


async def test_one_tick_publishes_forecast_plan_floor_and_lead(autojump_clock: MockClock) -> None:
    loop = make_loop()
    await loop.tick()
    assert loop.store.get("shop") == Snapshot(
        workload="shop",
        metric="http_rps",
        forecast=Forecast(START, 60.0, np.array([400.0, 500.0, 1000.0])),
        replicas=np.array([5, 6, 12]),
        lead_time=120.0,
        observed=Observation(START - timedelta(minutes=1), 375.0),
        floor=5,
        resumption=Resumption(START),
        min_replicas=1,
    )


async def test_every_port_is_asked_about_the_same_moment(autojump_clock: MockClock) -> None:
    loop = make_loop()
    await trio.sleep(30)
    await loop.tick()
    now = loop.clock.now()
    assert isinstance(loop.source, StubSource)
    assert isinstance(loop.forecaster, StubForecaster)
    assert loop.source.asked == [now]
    assert loop.forecaster.asked == [(make_history(300.0, 375.0), now, 3)]


async def test_the_plan_before_limits_the_first_step(autojump_clock: MockClock) -> None:
    loop = make_loop(values=[100.0, 100.0, 100.0])
    await loop.tick()  # wants 2
    await trio.sleep(30)
    loop = make_loop(values=[5000.0] * 3, store=loop.store, clock=loop.clock)
    await loop.tick()
    published = loop.store.get("shop")
    assert published is not None
    assert published.replicas.tolist() == [4, 8, 16]


async def test_a_plan_that_is_kept_under_other_settings_is_published_with_its_own_fingerprint(
    autojump_clock: MockClock,
) -> None:
    """Otherwise pods with the same settings would serve its numbers, which mean something else."""
    first = make_loop()
    store, failing = first.store, make_loop(values=ModelError("no idea", reason="bad_answer"), store=first.store)
    for loop, fingerprint in ((first, "old"), (failing, "new")):
        workload = attrs.evolve(loop.workload, fingerprint=fingerprint)
        with suppress(ModelError):
            await attrs.evolve(loop, workload=workload).tick()
    published = store.get("shop")
    assert published is not None
    assert published.status.code is StatusCode.MODEL_FAILED
    assert published.fingerprint == "old"


async def test_a_plan_that_is_over_limits_nothing(autojump_clock: MockClock) -> None:
    loop = make_loop(values=[100.0, 100.0, 100.0])
    await loop.tick()
    await trio.sleep(180)
    loop = make_loop(values=[3000.0] * 3, store=loop.store, clock=loop.clock)
    await loop.tick()
    published = loop.store.get("shop")
    assert published is not None
    assert published.replicas.tolist() == [36, 36, 36]


async def test_without_the_reactive_floor_there_is_none_though_the_load_is_shown(autojump_clock: MockClock) -> None:
    loop = make_loop(floor=None)
    await loop.tick()
    published = loop.store.get("shop")
    assert published is not None
    assert published.floor is None
    assert published.observed is not None


@pytest.mark.parametrize(
    ("loop", "label"),
    [
        (lambda: make_loop([SourceError("Prometheus is away", reason="unreachable")]), ("source", "unreachable")),
        (lambda: make_loop(values=ModelError("no idea", reason="bad_answer")), ("model", "bad_answer")),
        (lambda: make_loop(store=BrokenStore()), ("store", "full")),
    ],
    ids=["source", "model", "store"],
)
async def test_an_expected_failure_publishes_nothing_and_is_logged_and_counted_once(
    autojump_clock: MockClock,
    loop: Callable[[], ForecastLoop],
    label: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = loop()
    metrics = Metrics()
    caplog.set_level(logging.INFO)
    await GuardedTick(made, metrics.count_error).tick()
    assert made.store.get("shop") is None
    assert errors_counted(metrics) == {label: 1}
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    fields = vars(record)
    assert (fields["workload"], fields["component"], fields["reason"]) == ("shop", *label)


async def with_failing_model(error: ModelError, store: BrokenStore) -> ForecastLoop:
    """A loop that has published a plan before its model and its store began to fail."""
    store.is_broken = False
    loop = make_loop(store=store)
    await loop.tick()
    store.is_broken = True
    return make_loop(values=error, store=store, clock=loop.clock)


async def test_neither_a_model_that_fails_nor_a_store_that_fails_then_hides_the_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    model = ModelError("it divided by zero", reason="exception")
    store, metrics, failed = BrokenStore(), Metrics(), LastFailure()
    loop = await with_failing_model(model, store)

    def note(error: WorkloadError) -> None:
        metrics.count_error(error)
        failed.note(error, loop.clock.now())

    metrics.show_failures(lambda: {} if failed.value is None else {"shop": failed.value})
    tick = GuardedTick(loop, note, failed.note_success).tick
    for _ in range(3):
        await tick()
        await trio.sleep(30)
    assert errors_counted(metrics) == {("model", "exception"): 3, ("store", "full"): 3}
    warnings = [vars(record) for record in caplog.records if record.levelno == logging.WARNING]
    assert [(fields["component"], fields["err"]) for fields in warnings] == [
        ("model", "it divided by zero"),
        ("store", "no room for shop"),
    ], "each is logged once while both last"
    assert warnings[0]["exc_info"] is not None
    assert failed.value is not None
    words = "its model failed (model: exception); the newest attempt failed (store: full)"
    assert failed.value.words == words
    for component, reason in (("model", "exception"), ("store", "full")):
        labels = {"workload": "shop", "component": component, "reason": reason}
        assert metrics.registry.get_sample_value("kedastral_workload_failing", labels) == 1
    caplog.clear()
    store.is_broken = False
    await tick()
    assert failed.value.words == "its model failed (model: exception)"


async def test_a_failure_that_goes_while_another_stays_is_logged_when_it_comes_back(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = BrokenStore()
    loop = await with_failing_model(ModelError("no idea", reason="bad_answer"), store)
    tick = GuardedTick(loop, Metrics().count_error).tick
    for is_broken in (True, False, True):
        store.is_broken = is_broken
        await tick()
        await trio.sleep(30)
    logged = [vars(record)["component"] for record in caplog.records if record.levelno == logging.WARNING]
    assert logged == ["model", "store", "store"]


async def test_the_words_of_a_failure_are_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop([SourceError("Prometheus is away", reason="unreachable")])
    await GuardedTick(loop, Metrics().count_error).tick()
    [record] = caplog.records
    assert vars(record)["err"] == "Prometheus is away"
    assert record.exc_info is None


async def test_what_a_model_raised_is_logged_with_its_traceback(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in the model")

    error = ModelError("model x raised ZeroDivisionError: in the model", reason="exception")
    try:
        fail()
    except ZeroDivisionError as cause:
        error.__cause__ = cause
    await GuardedTick(make_loop(values=error), Metrics().count_error).tick()
    assert "in fail" in caplog.text
    assert "ZeroDivisionError: in the model" in caplog.text


async def test_an_old_snapshot_stays_while_ticks_fail_and_the_next_that_works_replaces_it(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    away = SourceError("away", reason="unreachable")
    loop = make_loop([make_history(300.0), away, away, make_history(500.0)])
    metrics = Metrics()
    tick = GuardedTick(loop, metrics.count_error).tick
    await tick()
    first = loop.store.get("shop")
    for _ in range(2):
        await trio.sleep(30)
        await tick()
        assert loop.store.get("shop") is first
    await trio.sleep(30)
    await tick()
    newest = loop.store.get("shop")
    assert newest is not None
    assert first is not None
    assert newest.age(first.made_at) == 0
    assert newest.made_at > first.made_at
    assert errors_counted(metrics) == {("source", "unreachable"): 2}
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert caplog.records[-1].getMessage() == "forecasts again, after failing since 2026-03-01T12:00:30Z"


async def test_a_failure_that_lasts_is_logged_when_it_begins_when_it_changes_and_every_ten_minutes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    away, empty = SourceError("away", reason="unreachable"), SourceError("no series", reason="empty")
    loop = make_loop([*[away] * 22, empty])
    tick = GuardedTick(loop, Metrics().count_error).tick
    for _ in range(24):
        await tick()
        await trio.sleep(30)
    logged = [vars(record)["reason"] for record in caplog.records]
    assert logged == ["unreachable", "unreachable", "empty"]  # at 0, 600 and 660 s


async def test_two_failures_in_turn_are_logged_no_more_often_than_one(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    slow, away = SourceError("slow", reason="timeout"), SourceError("away", reason="unreachable")
    loop = make_loop([slow, away] * 12)
    tick = GuardedTick(loop, Metrics().count_error).tick
    for _ in range(24):
        await tick()
        await trio.sleep(30)
    logged = [vars(record)["reason"] for record in caplog.records]
    assert logged == ["timeout", "unreachable"] * 2  # at 0, 30, 600 and 630 s


async def test_recovery_is_logged_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loop = make_loop([SourceError("away", reason="x"), make_history(1.0)])
    tick = GuardedTick(loop, Metrics().count_error).tick
    for _ in range(3):
        await tick()
    said = [record.getMessage() for record in caplog.records]
    assert [words.split(",")[0] for words in said] == ["no new forecast", "forecasts again", "first forecast: load 400"]


async def test_the_first_forecast_is_logged_once_with_what_it_means(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loop = make_loop()
    tick = GuardedTick(loop, Metrics().count_error).tick
    for _ in range(3):
        await tick()
    [record] = caplog.records
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    load, replicas = snapshot.forecast.values[0], replicas_at(snapshot, snapshot.made_at)
    assert record.getMessage() == f"first forecast: load {load:g}, replicas for KEDA {replicas}"
    assert vars(record)["workload"] == "shop"


async def test_a_workload_whose_settings_changed_has_no_first_forecast_once_more(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loop = make_loop()
    for _ in range(3):
        await GuardedTick(loop, Metrics().count_error).tick()
    assert len(caplog.records) == 1


async def test_a_change_of_what_keda_is_told_is_a_line_with_its_reason(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.forecaster")
    loads = [[100.0, 100.0, 100.0]] * 2 + [[100.0, 100.0, 2000.0]] * 2 + [[100.0, 100.0, 9000.0]] * 2
    loop, clock = make_loop(floor=None), wall_clock()
    changes, said = ToldLog(loop.workload), caplog.messages
    made = Planner()
    for number, values in enumerate(loads):
        now = clock.now() + timedelta(seconds=20 * number)
        snapshot = made.plan(loop.workload, make_history(100.0), Forecast(now, 60.0, np.array(values)), None)
        changes.note(snapshot, now)
    said = [words for words in caplog.messages if words.startswith("replicas for KEDA")]
    assert [words.partition(": ")[0] for words in said] == ["replicas for KEDA 2 -> 24", "replicas for KEDA 24 -> 50"]
    assert ": the forecast decided: 2,000 is the load expected at " in said[0]
    assert said[1].endswith(": the maximum decided: 108 pods are needed, and max is 50")


def logged_of_default_min(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [words for words in caplog.messages if words.startswith("on-stale is default-min")]


async def test_the_first_plan_above_default_min_is_logged_once_with_what_a_fault_would_take_it_to(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop(values=[100.0, 100.0, 100.0], readings=[*[make_history(50.0)] * 2, *[make_history(375.0)] * 3])
    tick = GuardedTick(loop, Metrics().count_error, answers_keda=True).tick
    counts = []
    for _ in range(5):
        await tick()
        counts.append(len(logged_of_default_min(caplog)))
    assert counts == [0, 0, 1, 1, 1]
    [words] = logged_of_default_min(caplog)
    assert words == (
        "on-stale is default-min: without a new forecast for 120 s KEDA is told 2 replicas, and the plan says 5 now; "
        "ride-forecast would keep to the plan (--on-stale, or onStale where the workload is described)"
    )
    assert vars(caplog.records[-1])["workload"] == "shop"


@pytest.mark.parametrize(
    ("policy", "answers_keda"),
    [
        (StalePolicy(on_stale=OnStale.RIDE_FORECAST), True),
        (StalePolicy(on_stale=OnStale.ERROR), True),
        (StalePolicy(default_min=50), True),
        (StalePolicy(mode=Mode.OBSERVE), True),
        (StalePolicy(), False),
    ],
)
async def test_where_a_fault_takes_nothing_away_no_word_is_said(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, policy: StalePolicy, answers_keda: bool
) -> None:
    loop = make_loop()
    workload = attrs.evolve(loop.workload, stale=policy)
    loop = attrs.evolve(loop, workload=workload)
    tick = GuardedTick(loop, Metrics().count_error, answers_keda=answers_keda)
    await tick.tick()
    assert not logged_of_default_min(caplog)


async def test_what_is_only_observed_says_at_the_start_that_a_trigger_needs_another_beside_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kedastral.forecaster")
    loop = make_loop([SourceError("away", reason="x"), make_history(1.0)])
    observed = attrs.evolve(loop.workload, stale=StalePolicy(mode=Mode.OBSERVE))
    tick = GuardedTick(attrs.evolve(loop, workload=observed), _forget)
    for _ in range(3):
        await tick.tick()
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("mode observe: KEDA is told 0, whatever is planned.")
    assert "needs no trigger" in said[0]
    assert "another trigger must decide" in said[0]
    assert "scale to the minimum" in said[0]
    assert [words for words in said[1:] if "minimum" in words] == []
    assert said[-1].startswith("first forecast: load ")
    assert said[-1].endswith(", planned replicas 12, while KEDA is told 0 (observe)")
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.mode is Mode.OBSERVE


def _forget(_error: WorkloadError) -> None:
    pass


async def test_one_workloads_failure_leaves_the_others_alone(autojump_clock: MockClock) -> None:
    store, metrics = MemoryStore(), Metrics()
    loops = [
        make_loop(name="healthy", store=store),
        make_loop([SourceError("away", reason="x"), make_history(1.0)], name="no-source", store=store),
        make_loop(name="no-model", values=ModelError("never", reason="y"), store=store),
        make_loop(name="no-store", store=BrokenStore()),
    ]
    async with trio.open_nursery() as nursery:
        for loop in loops:
            nursery.start_soon(run_ticker, GuardedTick(loop, metrics.count_error).tick, Beats.from_now(30.0))
        await trio.sleep(15)
        assert set(store.newest()) == {"healthy"}
        await trio.sleep(30)
        assert set(store.newest()) == {"healthy", "no-source"}
        nursery.cancel_scope.cancel()
    assert errors_counted(metrics) == {("source", "x"): 1, ("model", "y"): 2, ("store", "full"): 2}


@pytest.mark.parametrize("where", ["source", "model", "store"])
async def test_what_nobody_expected_leaves_the_tick(autojump_clock: MockClock, where: str) -> None:
    bug = ZeroDivisionError("a bug")

    class BuggyStore(MemoryStore):
        async def put(self, snapshot: Snapshot) -> bool:
            raise bug

    loops = {
        "source": lambda: make_loop([bug]),
        "model": lambda: make_loop(values=bug),
        "store": lambda: make_loop(store=BuggyStore()),
    }
    counted: list[WorkloadError] = []
    loop = loops[where]()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await run_ticker(GuardedTick(loop, counted.append).tick, Beats.from_now(30.0))
    assert counted == []
    assert loop.store.get("shop") is None


@attrs.define
class SetClock:
    """A wall clock that the test sets."""

    shown: datetime = START
    speed: float = 1.0

    def now(self) -> datetime:
        return self.shown


async def test_a_failure_that_lasts_is_logged_every_ten_minutes_though_the_clock_is_set(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock, begin = SetClock(), trio.current_time()
    loop = make_loop([SourceError("away", reason="unreachable")], clock=clock)
    tick = GuardedTick(loop, Metrics().count_error).tick
    logged = []
    for minute in range(31):
        clock.shown += timedelta(hours={5: -3, 15: 3}.get(minute, 0), minutes=1)
        await tick()
        if caplog.records:
            logged.append(trio.current_time() - begin)
            caplog.clear()
        await trio.sleep(60)
    assert logged == [0, 600, 1200, 1800]


async def test_a_clock_set_back_a_little_is_logged_and_set_back_far_it_publishes_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock, metrics = SetClock(), Metrics()
    tick = GuardedTick(make_loop(clock=clock), metrics.count_error)
    await tick.tick()
    clock.shown = START - timedelta(seconds=30)
    await tick.tick()
    assert errors_counted(metrics) == {("store", "older"): 1}
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "set back" in vars(record)["err"]
    clock.shown = START - timedelta(minutes=10)
    await tick.tick()
    published = tick.loop.store.get("shop")
    assert published is not None
    assert published.made_at == clock.shown
    assert errors_counted(metrics) == {("store", "older"): 1}


async def test_a_tick_whose_model_fails_is_no_success_whatever_it_publishes(autojump_clock: MockClock) -> None:
    def say(steps: int) -> Sequence[float]:
        if len(ticks) in (1, 2):
            raise ModelError("no idea", reason="bad_answer")
        return [400.0] * steps

    failed, ticks = LastFailure(), list[bool]()
    loop = attrs.evolve(make_loop(), forecaster=StubForecaster(say))
    tick = GuardedTick(loop, lambda error: failed.note(error, loop.clock.now()), failed.note_success).tick
    while len(ticks) < 4:
        await tick()
        ticks.append(failed.value is None)
        assert loop.store.get("shop") is not None
        await trio.sleep(30)
    assert ticks == [True, False, False, True]


async def test_while_the_model_fails_the_plan_grows_old_and_the_floor_rises_with_the_load(
    autojump_clock: MockClock,
) -> None:
    def say(_steps: int) -> Sequence[float]:
        if failing:
            raise ModelError("values[1] must be a finite number", reason="bad_answer")
        return [400.0] * 3

    failing = False
    loop = attrs.evolve(
        make_loop([make_history(each) for each in (300.0, 900.0, 200.0, 100.0)]), forecaster=StubForecaster(say)
    )
    metrics = Metrics()
    tick = GuardedTick(loop, metrics.count_error).tick
    await tick()
    first = loop.store.get("shop")
    assert first is not None
    failing = True
    await trio.sleep(30)
    await tick()

    held = loop.store.get("shop")
    assert held is not None
    assert (held.forecast, held.replicas.tolist()) == (first.forecast, first.replicas.tolist())
    assert held.age(loop.clock.now()) == 30
    assert (first.floor, held.floor) == (4, 10)
    assert held.observed is not None
    assert held.observed.value == 900
    assert held.status == ForecastStatus(StatusCode.MODEL_FAILED, "the model failed: values[1] must be a finite number")
    assert replicas_at(held, loop.clock.now()) == 10
    assert errors_counted(metrics) == {("model", "bad_answer"): 1}

    await trio.sleep(30)
    await tick()
    held = loop.store.get("shop")
    assert held is not None
    assert held.floor == 10  # the last floor stays while an old plan is read

    failing = False
    await trio.sleep(30)
    await tick()
    again = loop.store.get("shop")
    assert again is not None
    assert (again.status, again.floor, again.age(loop.clock.now())) == (OK, 2, 0)
