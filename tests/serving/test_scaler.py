# SPDX-License-Identifier: Apache-2.0
"""KEDA's five calls, over HTTP/2 on memory streams: what each answers, and whom it refuses."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest
import trio
from grpclib.const import Status
from trio.testing import MockClock

from kedastral._proto import externalscaler_pb2 as pb
from kedastral._proto.externalscaler_grpc import ExternalScalerBase
from kedastral.clock import WallClock
from kedastral.core.failures import Failure
from kedastral.core.forecast_status import ForecastStatus, StatusCode
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import Decision
from kedastral.errors import RemoteError
from kedastral.grpclib_trio import Server
from kedastral.serving import scaler as scaler_module
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import MARGIN, ExternalScaler, Scaler
from kedastral.serving.store import MemoryStore
from kedastral.workloads.resolver import RemoteResolver
from tests.grpclib_trio.peers import Answer, Client, MemoryListener
from tests.keda_client import open_client
from tests.parts import START, FixedResolver, make_snapshot, wall_clock

STALE_AFTER = 120.0
DATA_CALLS = ("GetMetrics", "IsActive", "StreamIsActive")
Metadata = Mapping[str, str]


@attrs.define
class Keda:
    """KEDA at one end, the scaler and its store at the other."""

    listener: MemoryListener
    store: MemoryStore
    metrics: Metrics
    clock: WallClock

    def connect(self) -> Client:
        """A new connection; the server closes those that are idle for a minute."""
        return open_client(self.listener.connect())

    async def put(self, snapshot: Snapshot) -> None:
        await self.store.put(attrs.evolve(snapshot, forecast=attrs.evolve(snapshot.forecast, made_at=self.clock.now())))

    async def call(self, method: str, **metadata: str) -> Answer:
        return await self.connect().call(method, make_request(method, metadata))

    async def replicas(self, **metadata: str) -> float:
        return read_replicas(await self.call("GetMetrics", **metadata))

    async def active(self, **metadata: str) -> bool:
        answer = await self.call("IsActive", **metadata)
        assert answer.status is Status.OK
        [message] = answer.read(pb.IsActiveResponse)
        return bool(message.result)

    def counted(self, name: str) -> dict[str, float]:
        """The samples of a metric, by the values of their labels."""
        return {
            "/".join(sample.labels.values()): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name
        }


def make_request(method: str, metadata: Metadata) -> Any:
    ref = pb.ScaledObjectRef(name="web", namespace="prod", scalerMetadata=metadata)
    return pb.GetMetricsRequest(scaledObjectRef=ref, metricName="desired_replicas") if method == "GetMetrics" else ref


def read_replicas(answer: Answer) -> float:
    """The only value; fails unless both of its fields are equal."""
    assert answer.status is Status.OK
    [message] = answer.read(pb.GetMetricsResponse)
    [value] = message.metricValues
    assert value.metricName == "desired_replicas"
    assert value.metricValue == value.metricValueFloat
    return float(value.metricValueFloat)


@pytest.fixture
def start(nursery: trio.Nursery) -> Any:
    """``await start(workloads, policy)`` gives a `Keda` whose scaler runs."""

    async def begin(
        workloads: tuple[str, ...] = ("shop",), policy: StalePolicy | None = None, reader: Any = None
    ) -> Keda:
        store, metrics, clock = MemoryStore(), Metrics(), wall_clock()
        policy = policy or StalePolicy(STALE_AFTER)
        resolver = FixedResolver(frozenset(workloads), policy) if workloads else RemoteResolver(reader or store, policy)
        service = ExternalScaler(Scaler(reader or store, clock, resolver), metrics)
        listener = MemoryListener()
        server = Server([service], on_call=service.count_call)
        nursery.start_soon(lambda: server.serve([listener], shutdown=trio.Event()))
        return Keda(listener, store, metrics, clock)

    return begin


async def test_a_fresh_plan_is_told_at_its_largest_within_the_lead_and_default_min_once_stale(
    autojump_clock: MockClock, start: Any
) -> None:
    keda = await start(policy=StalePolicy(STALE_AFTER, default_min=2))
    await keda.put(make_snapshot([3, 5, 8, 6, 9, 9], lead=180, floor=4))
    assert await keda.replicas() == 8
    assert await keda.active() is True
    await trio.sleep(STALE_AFTER + 0.001)
    assert await keda.replicas() == 2
    assert await keda.active() is False


async def test_a_floor_above_the_plan_is_told(autojump_clock: MockClock, start: Any) -> None:
    keda = await start()
    await keda.put(make_snapshot([3, 5, 8, 6, 9, 9], floor=11))
    assert await keda.replicas() == 11


async def test_before_the_first_forecast_default_min_is_told_and_nothing_is_active(
    autojump_clock: MockClock, start: Any
) -> None:
    keda = await start(policy=StalePolicy(STALE_AFTER, default_min=7))
    assert await keda.replicas() == 7
    assert await keda.active() is False


async def test_zero_replicas_are_one_value_and_not_active(autojump_clock: MockClock, start: Any) -> None:
    keda = await start()
    await keda.put(make_snapshot([0, 0, 0], floor=0))
    assert await keda.replicas() == 0
    assert await keda.active() is False


async def test_the_largest_number_of_replicas_fits_both_fields(autojump_clock: MockClock, start: Any) -> None:
    keda = await start()
    await keda.put(make_snapshot([2**31 - 1]))
    assert await keda.replicas() == 2**31 - 1


@pytest.mark.parametrize("on_stale", [OnStale.ERROR, OnStale.RIDE_FORECAST])
async def test_without_a_forecast_keda_is_told_to_hold(
    autojump_clock: MockClock, start: Any, on_stale: OnStale
) -> None:
    keda = await start(policy=StalePolicy(STALE_AFTER, on_stale))
    for method in ("GetMetrics", "IsActive"):
        answer = await keda.call(method)
        assert (answer.status, answer.message) == (Status.UNAVAILABLE, "no forecast yet")
        assert not answer.body


@pytest.mark.parametrize("on_stale", [OnStale.ERROR, OnStale.RIDE_FORECAST])
async def test_while_the_model_learns_and_nothing_is_known_keda_is_told_to_hold_and_so_is_the_log(
    autojump_clock: MockClock, start: Any, caplog: pytest.LogCaptureFixture, on_stale: OnStale
) -> None:
    caplog.set_level("INFO", "kedastral.scaler")
    learning = ForecastStatus(StatusCode.LEARNING, "learning from 14 d of history")
    keda = await start(policy=StalePolicy(STALE_AFTER, on_stale))
    await keda.put(attrs.evolve(make_snapshot(), status=learning, resumption=Resumption(START), withheld=True))
    words = (
        "no model's forecast yet (learning from 14 d of history), and it is not known what KEDA was told before "
        "the start"
    )
    for method in ("GetMetrics", "IsActive"):
        answer = await keda.call(method)
        assert (answer.status, answer.message) == (Status.UNAVAILABLE, words)
    assert (await keda.call("GetMetricSpec")).status is Status.OK
    assert keda.counted("kedastral_scaler_snapshot_stale_total") == {"": 0}
    await keda.put(make_snapshot([7], floor=None))
    assert await keda.replicas() == 7
    assert [record.getMessage() for record in caplog.records] == [
        f"no fresh forecast: KEDA is told UNAVAILABLE, so that it holds ({on_stale}); {words}",
        "a fresh forecast again: KEDA is told 7",
    ]


async def test_under_error_a_stale_forecast_is_unavailable_with_its_time(autojump_clock: MockClock, start: Any) -> None:
    keda = await start(policy=StalePolicy(STALE_AFTER, OnStale.ERROR))
    await keda.put(make_snapshot())
    assert await keda.active() is True
    for method in ("GetMetrics", "IsActive"):
        await trio.sleep(200)  # the words stay as they are: Kubernetes counts equal events as one
        answer = await keda.call(method)
        assert (answer.status, answer.message) == (Status.UNAVAILABLE, "the newest forecast is of 2026-03-01T12:00:00Z")


async def test_under_ride_forecast_the_old_plan_is_read_while_it_covers_the_lead(
    autojump_clock: MockClock, start: Any
) -> None:
    keda = await start(policy=StalePolicy(STALE_AFTER, OnStale.RIDE_FORECAST))
    await keda.put(make_snapshot([3, 5, 8, 6, 9, 9], lead=60, floor=None))
    await trio.sleep(190)
    assert await keda.replicas() == 9
    assert await keda.active() is True
    await trio.sleep(110)
    assert (await keda.call("GetMetrics")).status is Status.UNAVAILABLE


@pytest.mark.parametrize("method", DATA_CALLS)
async def test_an_unknown_workload_is_not_found(autojump_clock: MockClock, start: Any, method: str) -> None:
    keda = await start()
    answer = await keda.call(method, workload="nobody")
    assert (answer.status, answer.message) == (Status.NOT_FOUND, "there is no workload 'nobody' here")


@pytest.mark.parametrize("method", DATA_CALLS)
async def test_an_endless_name_is_answered_briefly(autojump_clock: MockClock, start: Any, method: str) -> None:
    keda = await start()
    answer = await keda.call(method, workload="x" * 60_000)
    assert answer.status is Status.NOT_FOUND
    assert len(answer.message) < 200


@pytest.mark.parametrize("method", DATA_CALLS)
@pytest.mark.parametrize("given", [{}, {"workload": ""}, {"workload": "  "}])
async def test_with_several_workloads_one_must_be_named(
    autojump_clock: MockClock, start: Any, method: str, given: dict[str, str]
) -> None:
    keda = await start(("shop", "pay"))
    answer = await keda.call(method, **given)
    assert answer.status is Status.INVALID_ARGUMENT
    assert "metadata 'workload'" in answer.message


async def test_the_trigger_picks_its_workload(autojump_clock: MockClock, start: Any) -> None:
    keda = await start(("shop", "pay"))
    await keda.put(make_snapshot([3], workload="shop", floor=None))
    await keda.put(make_snapshot([7], workload="pay", floor=None))
    assert await keda.replicas(workload="shop") == 3
    assert await keda.replicas(workload=" pay ", scalerAddress="kedastral:8080", other="x") == 7


async def test_a_split_scaler_takes_any_workload_but_no_endless_name(autojump_clock: MockClock, start: Any) -> None:
    keda = await start(())
    assert await keda.replicas(workload="not yet forecast") == 2
    for method in DATA_CALLS:
        assert (await keda.call(method, workload="x" * 501)).status is Status.INVALID_ARGUMENT
        assert (await keda.call(method)).status is Status.INVALID_ARGUMENT


async def test_keda_is_told_why_there_is_no_forecast(autojump_clock: MockClock) -> None:
    clock, failure = wall_clock(), Failure(wall_clock().now(), "source", "refused", "HTTP 400: bad_data: parse error")

    class Failing(FixedResolver):
        def failure_of(self, workload: str) -> Failure | None:
            return failure

    policy = StalePolicy(STALE_AFTER, OnStale.ERROR)
    store = MemoryStore()
    decision = Scaler(store, clock, Failing(frozenset({"shop"}), policy)).decide("shop")
    assert decision.replicas is None
    assert decision.reason == "no forecast yet; Prometheus refuses the query: HTTP 400: bad_data: parse error"
    fresh = make_snapshot([8])
    await store.put(attrs.evolve(fresh, forecast=attrs.evolve(fresh.forecast, made_at=clock.now())))
    assert Scaler(store, clock, Failing(frozenset({"shop"}), policy)).decide("shop").reason == ""


@pytest.mark.parametrize("method", ["GetMetrics", "IsActive", "StreamIsActive"])
@pytest.mark.parametrize("activation", ["", "many", "-1", "nan", "inf", "1,5", "0x10", "1_0", "٣"])
async def test_a_bad_activation_is_an_invalid_argument(
    autojump_clock: MockClock, start: Any, method: str, activation: str
) -> None:
    keda = await start()
    answer = await keda.call(method, activation=activation)
    assert answer.status is Status.INVALID_ARGUMENT
    assert "activation" in answer.message


async def test_keda_may_have_taken_name_and_activation_from_variables(autojump_clock: MockClock, start: Any) -> None:
    keda = await start(("shop", "pay"))
    await keda.put(make_snapshot([8], workload="pay"))
    assert await keda.replicas(workloadFromEnv="pay\n") == 8
    activations = ("7", "8")
    assert [await keda.active(workload="pay", activationFromEnv=text) for text in activations] == [True, False]
    answer = await keda.call("IsActive", workload="pay", activationFromEnv="many")
    assert answer.status is Status.INVALID_ARGUMENT
    assert answer.message.endswith("metadata 'activationFromEnv' must be a number of at least 0")
    answer = await keda.call("IsActive", workload="pay", activationFromEnv="1", activation="1")
    assert (answer.status, "exclude each other" in answer.message) == (Status.INVALID_ARGUMENT, True)


async def test_active_means_more_than_activation(autojump_clock: MockClock, start: Any) -> None:
    keda = await start()
    await keda.put(make_snapshot([8]))
    answers = {activation: await keda.active(activation=activation) for activation in ("0", "7", "7.5", " 8 ", "9e3")}
    assert answers == {"0": True, "7": True, "7.5": True, " 8 ": False, "9e3": False}


@pytest.mark.parametrize(
    "given",
    [{}, {"workload": "nobody"}, {"activation": "many"}, {"workload": "x" * 60_000}],
    ids=["none named", "unknown", "bad activation", "endless"],
)
@pytest.mark.parametrize("on_stale", OnStale)
async def test_the_metric_spec_never_fails_and_never_waits(
    autojump_clock: MockClock, start: Any, given: dict[str, str], on_stale: OnStale
) -> None:
    keda = await start(("shop", "pay"), StalePolicy(STALE_AFTER, on_stale))
    began = trio.current_time()
    answer = await keda.call("GetMetricSpec", **given)
    client = keda.connect()
    stream = client.start("StreamMetricSpec", make_request("StreamMetricSpec", given))
    await client.until(lambda: bool(client.answers[stream].body))
    for one in (answer, client.answers[stream]):
        [message] = one.read(pb.GetMetricSpecResponse)
        [spec] = message.metricSpecs
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("desired_replicas", 1, 1.0)
    assert answer.status is Status.OK
    assert not client.answers[stream].ended
    assert trio.current_time() == began


async def test_the_activity_stream_tells_the_state_at_once_and_then_every_change(
    autojump_clock: MockClock, start: Any
) -> None:
    keda = await start()
    told: list[tuple[float, bool]] = []
    origin = trio.current_time()
    client = keda.connect()
    stream = client.start("StreamIsActive", make_request("StreamIsActive", {"activation": "5"}))
    answer = client.answers[stream]

    async def listen() -> None:
        while await client.read():
            new = answer.read(pb.IsActiveResponse)[len(told) :]
            told.extend((trio.current_time() - origin, message.result) for message in new)

    await keda.put(make_snapshot([5], floor=None))
    await client.flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.sleep(10.5)
        await keda.put(make_snapshot([6], floor=None))
        await trio.sleep(10)
        await keda.put(make_snapshot([7], floor=None))
        await trio.sleep(10)
        await keda.put(make_snapshot([5], floor=None))
        await trio.sleep(10)
        await keda.put(make_snapshot([9], floor=None))
        await trio.sleep(STALE_AFTER + 10)
        assert await keda.active(activation="5") is False
        await keda.put(make_snapshot([9], floor=None))
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert [active for _, active in told] == [False, True, False, True, True], (
        "true once more where KEDA was told false"
    )
    again = 40.5 + STALE_AFTER + 10
    assert [at for at, _ in told] == pytest.approx([0, 10.5, 30.5, 40.5, again], abs=0.01 + MARGIN)


@pytest.mark.parametrize("on_stale", OnStale)
async def test_the_activity_stream_is_silent_without_a_plan_also_under_default_min(
    autojump_clock: MockClock, start: Any, on_stale: OnStale
) -> None:
    keda = await start(policy=StalePolicy(STALE_AFTER, on_stale))
    client = keda.connect()
    stream = client.start("StreamIsActive", make_request("StreamIsActive", {}))
    with trio.move_on_after(30):
        await client.until(lambda: bool(client.answers[stream].body))
    assert not client.answers[stream].body
    await keda.put(make_snapshot())
    with trio.fail_after(2 * MARGIN):
        await client.until(lambda: bool(client.answers[stream].body))
    [message] = client.answers[stream].read(pb.IsActiveResponse)
    assert message.result is True


async def test_a_stream_that_was_opened_before_the_first_forecast_finds_the_workload_of_its_namespace(
    autojump_clock: MockClock, start: Any
) -> None:
    """The split scaler cannot know under which name a forecast will appear."""
    keda = await start((), StalePolicy(STALE_AFTER, OnStale.ERROR))
    client = keda.connect()
    stream = client.start("StreamIsActive", make_request("StreamIsActive", {"workload": "shop"}))
    with trio.move_on_after(5):
        await client.until(lambda: bool(client.answers[stream].body))
    await keda.put(make_snapshot([7], workload="prod/shop"))
    with trio.fail_after(2 * MARGIN):
        await client.until(lambda: bool(client.answers[stream].body))


async def test_calls_are_counted_by_method_and_status_and_by_nothing_a_client_chooses(
    autojump_clock: MockClock, start: Any
) -> None:
    keda = await start()
    await keda.put(make_snapshot())
    await keda.replicas()
    await keda.replicas()
    await keda.call("GetMetrics", workload="nobody")
    await keda.call("IsActive", activation="x")
    await keda.call("GetMetricSpec")
    for made_up in ("Nothing", "/made.up/Method", "/" + "x" * 5000):
        await keda.connect().call(made_up, pb.ScaledObjectRef())
    counted = keda.counted("kedastral_scaler_requests_total")
    assert counted == {
        "GetMetrics/OK": 2,
        "GetMetrics/NOT_FOUND": 1,
        "IsActive/OK": 0,
        "IsActive/INVALID_ARGUMENT": 1,
        "StreamIsActive/OK": 0,
        "GetMetricSpec/OK": 1,
        "StreamMetricSpec/OK": 0,
        "unknown/UNIMPLEMENTED": 3,
    }


async def test_calls_with_one_answer_are_timed_by_method_whatever_they_answer(
    autojump_clock: MockClock, start: Any
) -> None:
    keda = await start()
    await keda.put(make_snapshot())
    await keda.replicas()
    await keda.call("GetMetrics", workload="nobody")
    await keda.call("IsActive")
    await keda.connect().call("/made.up/Method", pb.ScaledObjectRef())
    timed = keda.counted("kedastral_scaler_request_seconds_count")
    assert timed == {"GetMetrics": 2, "IsActive": 1, "GetMetricSpec": 0}


async def test_calls_that_never_came_are_counted_as_zero(autojump_clock: MockClock, start: Any) -> None:
    counted = (await start()).counted("kedastral_scaler_requests_total")
    assert counted == {f"{method}/OK": 0 for method in vars(ExternalScalerBase) if not method.startswith("_")}


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (OnStale.DEFAULT_MIN, ["2 (default-min); the newest forecast is of 2026-03-01T12:00:00Z"]),
        (OnStale.ERROR, ["UNAVAILABLE, so that it holds (error); the newest forecast is of 2026-03-01T12:00:00Z"]),
        (
            OnStale.RIDE_FORECAST,
            [
                "8 (ride-forecast); the newest forecast is of 2026-03-01T12:00:00Z",
                "UNAVAILABLE, so that it holds (ride-forecast); the newest forecast is of 2026-03-01T12:00:00Z",
            ],
        ),
    ],
)
async def test_when_answers_begin_to_be_stale_and_when_they_are_fresh_again_is_told_once(
    autojump_clock: MockClock, start: Any, caplog: pytest.LogCaptureFixture, policy: OnStale, told: list[str]
) -> None:
    caplog.set_level("INFO", "kedastral.scaler")
    keda = await start(policy=StalePolicy(STALE_AFTER, policy))
    await keda.put(make_snapshot([3, 5, 8, 6, 9, 9], lead=60, floor=None))
    await keda.call("GetMetrics")
    assert caplog.records == []
    for wait in (142, 200):
        await trio.sleep(wait)
        for method in ("GetMetrics", "IsActive", "GetMetrics"):
            await keda.call(method)
            await keda.call(method, workload="nobody")
    await keda.put(make_snapshot([7], floor=None))
    for _ in range(3):
        await keda.call("GetMetrics")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        *(("WARNING", f"no fresh forecast: KEDA is told {words}") for words in told),
        ("INFO", "a fresh forecast again: KEDA is told 7"),
    ]
    assert {vars(record)["workload"] for record in caplog.records} == {"shop"}


async def test_each_change_of_what_keda_is_told_by_an_old_plan_has_its_own_line(
    autojump_clock: MockClock, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kedastral.scaler")
    keda = await start(policy=StalePolicy(STALE_AFTER, OnStale.RIDE_FORECAST))
    snapshot = make_snapshot([9, 9, 9, 9, 7, 7, 5, 5, 5, 5], lead=60, floor=4)
    await keda.put(snapshot)
    for second in range(0, 560, 20):
        if second == 480:
            keda.store.revise("shop", lambda newest: attrs.evolve(newest, floor=8))  # as when samples are back
        await keda.call("GetMetrics")
        await trio.sleep(20)
    old, changed = "the newest forecast is of 2026-03-01T12:00:00Z", "while there is no fresh forecast"
    assert [record.getMessage() for record in caplog.records] == [
        f"no fresh forecast: KEDA is told 9 (ride-forecast); {old}",
        f"replicas for KEDA 9 -> 7, {changed}: {old}",
        f"replicas for KEDA 7 -> 5, {changed}: {old}",
        f"replicas for KEDA 5 -> 8, {changed}: {old}",
        f"no fresh forecast: KEDA is told UNAVAILABLE, so that it holds (ride-forecast); {old}",
    ]
    assert {vars(record)["workload"] for record in caplog.records} == {"shop"}


async def test_a_first_answer_without_a_forecast_is_told_for_each_workload(
    autojump_clock: MockClock, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keda = await start(("a", "b"))
    for workload in ("a", "b", "a", "b"):
        await keda.replicas(workload=workload)
    said = "no fresh forecast: KEDA is told 2 (default-min); no forecast yet"
    assert [(vars(record)["workload"], record.getMessage()) for record in caplog.records] == [("a", said), ("b", said)]


async def test_an_answer_that_stays_without_a_forecast_is_told_again_within_the_hour(
    autojump_clock: MockClock, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keda = await start(("wbe",))
    for _ in range(4 * 60 * 3):
        await keda.replicas(workload="wbe")
        await trio.sleep(15)
    said = [record.getMessage() for record in caplog.records if vars(record)["workload"] == "wbe"]
    assert said == ["no fresh forecast: KEDA is told 2 (default-min); no forecast yet"] * 6, "every half hour"


async def test_only_so_many_stale_workloads_are_remembered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scaler_module, "MAX_STALE_REMEMBERED", 2)
    log, stale = scaler_module.StaleLog(), Decision(2, stale=True, reason="no forecast yet")
    for workload in ("a", "b", "c", "b", "c", "a"):
        log.note(workload, stale, StalePolicy())
    assert [vars(record)["workload"] for record in caplog.records] == ["a", "b", "c", "a"]


async def test_stale_answers_and_the_number_told_last_are_counted(autojump_clock: MockClock, start: Any) -> None:
    keda = await start()
    await keda.replicas()
    await keda.active()
    assert keda.counted("kedastral_scaler_snapshot_stale_total") == {"": 2}
    assert keda.counted("kedastral_scaler_returned_replicas") == {"shop": 2}
    await keda.put(make_snapshot([8], floor=None))
    await keda.replicas()
    assert keda.counted("kedastral_scaler_snapshot_stale_total") == {"": 2}
    assert keda.counted("kedastral_scaler_returned_replicas") == {"shop": 8}


@pytest.mark.parametrize("on_stale", OnStale)
@pytest.mark.parametrize("known_by", ["the settings", "the snapshot"])
async def test_what_is_only_observed_is_zero_and_inactive_and_shown(
    autojump_clock: MockClock, start: Any, on_stale: OnStale, known_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    told_by_settings = known_by == "the settings"
    policy = StalePolicy(STALE_AFTER, on_stale, mode=Mode.OBSERVE if told_by_settings else None)
    keda = await start(policy=policy)
    keda.metrics.show_snapshots(keda.store, keda.clock)
    mode = Mode.SCALE if told_by_settings else Mode.OBSERVE
    await keda.put(attrs.evolve(make_snapshot([3, 5, 8, 6, 9, 9], lead=180, floor=4), mode=mode))
    for wait in (0, STALE_AFTER + 30, 3600):
        await trio.sleep(wait)
        assert await keda.replicas() == 0
        assert await keda.active() is False
        client = keda.connect()
        stream = client.start("StreamIsActive", make_request("StreamIsActive", {}))
        await client.until(lambda: bool(client.answers[stream].body))  # noqa: B023 - called at once
        assert [message.result for message in client.answers[stream].read(pb.IsActiveResponse)] == [False]
    assert keda.counted("kedastral_desired_replicas") == {"shop": 9}, "what would have been told"
    assert keda.counted("kedastral_scaler_returned_replicas") == {"shop": 0}
    assert [record.getMessage() for record in caplog.records] == [
        "no fresh forecast: KEDA is told 0 (observe); the newest forecast is of 2026-03-01T12:00:00Z"
    ] * 2


async def test_what_is_only_observed_is_zero_before_the_first_forecast_too(
    autojump_clock: MockClock, start: Any
) -> None:
    keda = await start(policy=StalePolicy(STALE_AFTER, OnStale.ERROR, mode=Mode.OBSERVE))
    assert await keda.replicas() == 0
    assert await keda.active() is False


async def test_too_many_workloads_are_resource_exhausted(autojump_clock: MockClock, start: Any) -> None:
    class Full(MemoryStore):
        async def track(self, workload: str) -> None:
            raise RemoteError("more than 10000 workloads are asked for", reason="too_many_workloads")

    keda = await start((), reader=Full())
    for method in DATA_CALLS:
        assert (await keda.call(method, workload="shop")).status is Status.RESOURCE_EXHAUSTED


async def test_a_bug_fails_its_call_and_leaves_its_traceback(
    autojump_clock: MockClock, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(MemoryStore):
        def get(self, workload: str) -> Any:
            raise ZeroDivisionError("a bug")

    keda = await start(reader=Buggy())
    answer = await keda.call("GetMetrics")
    assert (answer.status, answer.message) == (Status.INTERNAL, "internal error")
    assert "ZeroDivisionError: a bug" in caplog.text
    assert (await keda.call("GetMetricSpec")).status is Status.OK


async def test_a_plan_made_in_the_future_is_fresh(autojump_clock: MockClock, start: Any) -> None:
    keda = await start()
    await keda.store.put(make_snapshot([4], made_at=keda.clock.now() + timedelta(seconds=5), floor=None))
    assert await keda.replicas() == 4
