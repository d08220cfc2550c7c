# SPDX-License-Identifier: Apache-2.0
"""Workloads that ScaledObjects describe: registered, changed, refused, removed; on the virtual clock."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock

from kedastral.core.planning.stale_policy import OnStale
from kedastral.core.trigger import ObjectRef, find_value
from kedastral.errors import (
    BadTriggerError,
    ConfigError,
    QueryError,
    SourceError,
    TooManyWorkloadsError,
    UnknownWorkloadError,
)
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.settings.commands import RunSettings
from kedastral.settings.declarations import ScaledObjectSettings
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.load import load
from kedastral.settings.rules import Finding
from kedastral.settings.types import Name
from kedastral.workloads.fleet import Fleet
from kedastral.workloads.runner import WorkloadRunner
from kedastral.workloads.scaledobject_workloads import (
    DISPUTED_FOR,
    EDIT_AFTER,
    REMOVE_AFTER,
    SWEEP_EVERY,
    FleetResolver,
    TriggerReader,
)
from tests.parts import make_snapshot, wall_clock

from .runners import StubBuilder, make_runner, make_settings

GIVEN = {"WORKLOAD": "shop", "PROM_URL": "http://prometheus:9090", "PROM_QUERY": "up"}
CONFIGURED = load(RunSettings, {}, GIVEN).settings.fleet


@attrs.define
class StubReader(TriggerReader):
    """A reader whose result ``say`` makes."""

    say: Callable[[ObjectRef], WorkloadSettings] = attrs.field(kw_only=True)

    def read(self, ref: ObjectRef) -> WorkloadSettings:
        return self.say(ref)


@attrs.define
class Rig:
    """A resolver that registers what ScaledObjects describe, and records what was read; all runners use ``tick``."""

    sources: set[str] = attrs.field(factory=lambda: {"main"})
    max_workloads: int = 3
    read: list[ObjectRef] = attrs.field(factory=list)
    fleet: Fleet = attrs.field(factory=lambda: Fleet(MemoryStore(), Metrics()))
    tick: Callable[[str], Awaitable[None]] = attrs.field()
    builder: StubBuilder = attrs.field(init=False)
    resolver: FleetResolver = attrs.field(init=False)

    @tick.default
    def _tick_without_a_word(self) -> Callable[[str], Awaitable[None]]:
        async def tick(_key: str) -> None:
            await trio.lowlevel.checkpoint()

        return tick

    @builder.default
    def _make_builder(self) -> StubBuilder:
        return StubBuilder.of(lambda settings, _before: self.runner(settings.key, settings.query))

    @resolver.default
    def _make_resolver(self) -> FleetResolver:
        return FleetResolver(self.fleet, self.builder, self.reader(self.read_metadata))

    def reader(self, say: Callable[[ObjectRef], WorkloadSettings]) -> TriggerReader:
        most = self.max_workloads
        rules = ScaledObjectSettings(max_scaledobject_workloads=most, max_scaledobject_workloads_per_namespace=most)
        return StubReader(CONFIGURED, rules, say=say)

    def read_metadata(self, ref: ObjectRef) -> WorkloadSettings:
        self.read.append(ref)
        source = ref.metadata.get("dataSource", "main")
        if source not in self.sources:
            raise ConfigError([f"dataSource must be one of the configured ones, got {source!r}", "and more"])
        return make_settings(f"{ref.namespace}/{ref.workload or ref.name}", str(find_value(ref.metadata, "query")))

    def runner(self, key: str, query: str = "configured") -> WorkloadRunner:
        return make_runner(make_settings(key, query), partial(self._tick, key))

    async def _tick(self, key: str) -> None:
        await self.tick(key)

    def queries(self) -> dict[str, str]:
        """The query of each workload."""
        return {key: runner.settings.query for key, runner in self.fleet.runners.items()}

    @property
    def built(self) -> list[tuple[str, str | None]]:
        """The queries of all runners that were built, with their predecessors."""
        return [(settings.query, before) for settings, before in self.builder.built]

    async def ask(self, name: str = "web", namespace: str = "a", **metadata: str) -> str:
        return await self.resolver.find(ObjectRef(name, namespace, metadata))


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Rig:
    rig = Rig()
    await nursery.start(rig.fleet.run)
    await nursery.start(rig.resolver.run)
    return rig


async def test_a_scaled_object_brings_its_workload_at_the_first_question(autojump_clock: MockClock, rig: Rig) -> None:
    assert await rig.ask(query="up") == "a/web"
    assert await rig.ask(query="up", workload="shop") == "a/shop"
    assert set(rig.fleet.runners) == {"a/web", "a/shop"}
    assert rig.resolver.policy_of("a/web").stale_after == 7.0


async def test_only_the_listed_namespaces_may_describe_workloads(autojump_clock: MockClock, rig: Rig) -> None:
    rules = ScaledObjectSettings(scaledobject_namespaces=(Name("a"), Name("c")))
    rig.resolver.reader = TriggerReader(CONFIGURED, rules)
    assert await rig.ask(query="up", namespace="a") == "a/web"
    with pytest.raises(BadTriggerError, match="ScaledObjects of namespace 'b' may not define workloads here"):
        await rig.ask(query="up", namespace="b")
    rig.resolver.reader = TriggerReader(CONFIGURED, ScaledObjectSettings())  # without a list: all
    assert await rig.ask(query="up", namespace="b") == "b/web"


async def test_a_warning_about_metadata_is_not_repeated_at_each_reload(
    autojump_clock: MockClock, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.resolver.reader = TriggerReader(CONFIGURED, ScaledObjectSettings())
    await rig.ask(query="up")
    for _ in range(3):
        await rig.resolver.reread()
    assert caplog.text.count("targetPerPod is not given") == 1


async def test_the_same_metadata_are_read_once(autojump_clock: MockClock, rig: Rig) -> None:
    for _ in range(5):
        await rig.ask(query="up")
    assert len(rig.read) == len(rig.built) == 1


async def test_changed_metadata_change_the_workload(autojump_clock: MockClock, rig: Rig) -> None:
    """An edit: KEDA sends only the new metadata. Nothing changes until the old have been silent for 45 s."""
    await rig.ask(query="up")
    for _ in range(2):
        await trio.sleep(EDIT_AFTER / 2 - 1)
        assert await rig.ask(query="down") == "a/web"
    assert rig.built == [("up", None)]
    await trio.sleep(2)
    await rig.ask(query="down")
    assert rig.built == [("up", None), ("down", "up")]
    await rig.ask(query="down", activation="3")  # read again, but nothing of the workload has changed
    assert len(rig.built) == 2


async def test_what_nobody_asks_for_is_forgotten_after_an_hour_and_may_come_again(
    autojump_clock: MockClock, rig: Rig
) -> None:
    rig.fleet.put(rig.runner("configured"))
    await rig.ask(query="up")
    await rig.ask(query="up", workload="busy")
    for _ in range(3600 // 30 - 1):
        await trio.sleep(30)
        assert "a/web" in rig.fleet.runners
        await rig.ask(query="up", workload="busy")
    await trio.sleep(2 * SWEEP_EVERY)
    assert set(rig.fleet.runners) == {"a/busy", "configured"}
    assert await rig.ask(query="up") == "a/web"


async def test_an_open_stream_keeps_its_workload(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    for _ in range(3 * int(REMOVE_AFTER / 60)):
        await trio.sleep(60)
        rig.resolver.keep_alive("a/web")  # as each check of a watched stream does
    assert "a/web" in rig.fleet.runners


async def test_of_a_workload_that_is_gone_nothing_is_said(autojump_clock: MockClock, rig: Rig) -> None:
    assert rig.resolver.policy_of("a/gone").on_stale is OnStale.ERROR


@pytest.mark.parametrize("metadata", [{"query": "up"}, {"query": "up", "workload": "shop"}])
async def test_switched_off_a_query_is_refused_with_the_remedy(
    autojump_clock: MockClock, metadata: Mapping[str, str]
) -> None:
    rig = Rig()
    resolver = FleetResolver(rig.fleet, rig.builder)
    rig.fleet.put(rig.runner("pay"))
    rig.fleet.put(rig.runner("cart"))
    with pytest.raises(BadTriggerError, match="--allow-scaledobject-workloads"):
        await resolver.find(ObjectRef("web", "a", metadata))


@pytest.mark.parametrize("metadata", [{"query": "up"}, {"leadTime": "10m"}])
async def test_who_describes_a_workload_is_not_told_of_the_only_one_there_is(
    autojump_clock: MockClock, rig: Rig, metadata: Mapping[str, str]
) -> None:
    rig.fleet.put(rig.runner("pay"))
    off = FleetResolver(rig.fleet, rig.builder)
    assert await off.find(ObjectRef("web", "a", {})) == "pay"
    with pytest.raises(BadTriggerError, match="--allow-scaledobject-workloads"):
        await off.find(ObjectRef("web", "a", metadata))


async def test_what_stands_beside_a_configured_name_is_not_read(autojump_clock: MockClock, rig: Rig) -> None:
    rig.fleet.put(rig.runner("pay"))
    off = FleetResolver(rig.fleet, rig.builder)
    assert await off.find(ObjectRef("web", "a", {"workload": "pay", "query": "up", "leadTime": "10m"})) == "pay"
    assert await rig.ask(workload="pay", leadTime="10m") == "pay"
    assert not rig.read


async def test_metadata_that_cannot_be_used_are_refused_with_every_problem(autojump_clock: MockClock, rig: Rig) -> None:
    with pytest.raises(BadTriggerError, match=r"dataSource must be one of .* got 'other'; and more"):
        await rig.ask(query="up", dataSource="other")
    assert not rig.fleet.runners
    await rig.ask(query="up")
    with pytest.raises(BadTriggerError):
        await rig.ask(query="up", dataSource="other")
    assert set(rig.fleet.runners) == {"a/web"}  # the previous one continues


async def test_there_are_only_so_many(autojump_clock: MockClock, rig: Rig) -> None:
    for number in range(3):
        await rig.ask(f"web-{number}", query="up")
    with pytest.raises(TooManyWorkloadsError, match="already define 3 workloads"):
        await rig.ask("web-3", query="up")
    assert await rig.ask("web-1", query="other") == "a/web-1"
    await trio.sleep(EDIT_AFTER)
    assert await rig.ask("web-1", query="other") == "a/web-1"
    assert rig.queries()["a/web-1"] == "other"


async def test_the_metadata_of_all_have_so_many_characters_together(autojump_clock: MockClock, rig: Rig) -> None:
    assert await rig.ask("web-0", query="up" * 16_000)
    assert await rig.ask("web-1", query="up" * 16_000)
    for name in ("web-2", "web-1"):
        await trio.sleep(EDIT_AFTER)
        with pytest.raises(TooManyWorkloadsError, match="more than 65536 characters in total"):
            await rig.ask(name, query="down" * 16_000)
    assert await rig.ask("web-2", query="up") == "a/web-2"


async def test_metadata_of_very_many_keys_are_not_read(autojump_clock: MockClock, rig: Rig) -> None:
    metadata = {f"key{number}": "" for number in range(101)}
    for resolver in (rig.resolver, FleetResolver(rig.fleet, rig.builder)):
        with pytest.raises(BadTriggerError, match="has 101 keys; at most 100 are read"):
            await resolver.find(ObjectRef("web", "a", metadata))
    assert not rig.read


async def test_who_shares_a_workload_under_ever_new_names_leaves_nothing_behind(
    autojump_clock: MockClock, rig: Rig
) -> None:
    await rig.ask(query="up", workload="shop")
    before = len(rig.resolver._keys)
    for number in range(50):
        assert await rig.ask(f"web-{number}", query="up", workload="shop") == "a/shop"
    assert len(rig.resolver._keys) == before


async def test_a_reload_prolongs_no_hold(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    await trio.sleep(EDIT_AFTER - 1)
    await rig.resolver.reread()
    await trio.sleep(1)
    await rig.ask(query="down")
    assert rig.queries() == {"a/web": "down"}


async def test_a_warning_is_logged_of_what_is_in_force_and_not_of_what_is_held_off(
    autojump_clock: MockClock, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def read(ref: ObjectRef) -> WorkloadSettings:
        return attrs.evolve(
            rig.read_metadata(ref), warnings=(Finding("query", f"the query is {ref.metadata['query']}"),)
        )

    resolver = FleetResolver(rig.fleet, rig.builder, rig.reader(read))
    for query in ("up", "down", "down"):
        await resolver.find(ObjectRef("web", "a", {"query": query}))
    assert [line.partition("query is ")[2] for line in caplog.messages if "query is" in line] == ["up"]


async def test_a_configured_workload_is_never_replaced(autojump_clock: MockClock, rig: Rig) -> None:
    rig.fleet.put(rig.runner("a/shop"))
    with pytest.raises(BadTriggerError, match="is already configured here"):
        await rig.ask(query="up", workload="shop")
    assert await rig.ask(workload="shop") == "a/shop"


async def test_two_scaled_objects_share_a_workload_only_if_they_say_the_same(
    autojump_clock: MockClock, rig: Rig
) -> None:
    assert await rig.ask("web", query="up", workload="shop") == "a/shop"
    assert await rig.ask("api", query="up", workload="shop") == "a/shop"
    with pytest.raises(BadTriggerError, match="described differently by ScaledObject a/web"):
        await rig.ask("api", query="down", workload="shop")
    assert await rig.ask("api", "b", query="down", workload="shop") == "b/shop"


async def test_a_second_trigger_that_describes_it_otherwise_is_told_to_name_its_workload(
    autojump_clock: MockClock, rig: Rig
) -> None:
    for _ in range(int(DISPUTED_FOR / 30)):
        assert await rig.ask(query="up") == "a/web"
        assert await rig.ask(query="down") == "a/web"  # it may be an edit
        await trio.sleep(30)
    await rig.ask(query="up")
    with pytest.raises(BadTriggerError, match="another trigger of this ScaledObject"):
        await rig.ask(query="down")
    assert rig.queries() == {"a/web": "up"}


async def test_who_claims_to_be_anothers_scaled_object_changes_nothing(autojump_clock: MockClock, rig: Rig) -> None:
    refused = 0
    for number in range(100):
        assert await rig.ask(query="up") == "a/web"
        await trio.sleep(7)
        try:
            await rig.ask(query=f"up + {number}")
        except BadTriggerError:
            refused += 1
        await trio.sleep(8)
    assert rig.queries() == {"a/web": "up"}
    assert refused == 92, "all but those of the first two minutes"


async def test_names_that_kubernetes_has_not_bring_nothing() -> None:
    reader = TriggerReader(CONFIGURED, ScaledObjectSettings())
    for namespace, name in (
        ("pay/ments", "web"),
        ("a\n", "web"),
        ("a", "Web"),
        ("", "web"),
        ("a" * 64, "web"),
        ("a", "-"),
    ):
        with pytest.raises(ConfigError, match="Kubernetes has no such names"):
            reader.read(ObjectRef(name, namespace, {"query": "up"}))
    assert reader.read(ObjectRef("web.v2", "pay-ments", {"query": "up", "targetPerPod": "5"})).key == "pay-ments/web.v2"


async def test_the_default_is_the_only_configured_one(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    with pytest.raises(BadTriggerError, match="must name its workload"):
        await rig.ask("other")
    rig.fleet.put(rig.runner("shop"))
    assert await rig.ask("other") == "shop"
    with pytest.raises(UnknownWorkloadError):
        await rig.ask("other", workload="nobody")


async def test_read_again_those_that_cannot_be_any_more_are_let_go(autojump_clock: MockClock, rig: Rig) -> None:
    rig.sources.add("spare")
    await rig.ask("web", query="up")
    await rig.ask("api", query="up", dataSource="spare")
    rig.sources.remove("spare")
    await rig.resolver.reread()
    assert set(rig.fleet.runners) == {"a/web"}
    with pytest.raises(BadTriggerError):
        await rig.ask("api", query="up", dataSource="spare")


async def test_one_that_is_configured_from_now_on_is_handed_over(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    for key in ("a/web", "a/other"):
        rig.resolver.unregister(key)
    assert rig.resolver.configured == {"a/web"}
    await trio.sleep(REMOVE_AFTER + SWEEP_EVERY + 1)
    assert set(rig.fleet.runners) == {"a/web"}
    with pytest.raises(BadTriggerError, match="is already configured here"):
        await rig.ask(query="up")


async def test_the_first_question_waits_a_moment_for_the_first_forecast(autojump_clock: MockClock, rig: Rig) -> None:
    async def tick(key: str) -> None:
        await trio.sleep(0.3 if key == "a/web" else 100)
        await rig.fleet.store.put(make_snapshot(workload=key))

    rig.tick = tick
    began = trio.current_time()
    await rig.ask(query="up")
    assert 0.3 <= trio.current_time() - began < 0.4
    await rig.ask("slow", query="up")
    assert trio.current_time() - began == pytest.approx(1.3, abs=0.1)
    await rig.ask("slow", query="up")  # but not at every call
    assert trio.current_time() - began == pytest.approx(1.3, abs=0.1)


async def test_nobody_but_keda_keeps_a_workload(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    for _ in range(int(REMOVE_AFTER / 60) + 3):
        await trio.sleep(60)
        rig.resolver.policy_of("a/web")  # as a probe or a page of HTTP does
        await rig.resolver.reread()
    assert not rig.fleet.runners


async def test_a_hundred_problems_are_told_in_few_words(autojump_clock: MockClock, rig: Rig) -> None:
    def refuse(_ref: ObjectRef) -> WorkloadSettings:
        raise ConfigError([f"key-{number} is unknown" + "!" * 1000 for number in range(100)])

    resolver = FleetResolver(rig.fleet, rig.builder, rig.reader(refuse))
    with pytest.raises(BadTriggerError, match="and 92 more") as caught:
        await resolver.find(ObjectRef("web", "a", {"query": "up"}))
    assert len(str(caught.value)) < 3000


def refused(rig: Rig, key: str = "a/web") -> None:
    error = QueryError("at http://prom", reason="refused", refusal="HTTP 400: bad_data: parse error")
    rig.fleet.runners[key].failed.note(error, wall_clock().now())


async def test_the_owner_is_told_that_a_changed_query_is_refused_though_the_one_before_gave_a_forecast(
    autojump_clock: MockClock, rig: Rig
) -> None:
    snapshot = make_snapshot(workload="a/web")
    await rig.fleet.store.put(snapshot)
    await rig.ask(query="up(")
    refused(rig)
    with pytest.raises(BadTriggerError, match="Prometheus refuses the query"):
        await rig.ask(query="up(")


async def test_the_owner_is_told_how_a_query_is_refused_until_there_is_a_forecast(
    autojump_clock: MockClock, rig: Rig
) -> None:
    await rig.ask(query="up(")
    refused(rig)
    with pytest.raises(BadTriggerError, match="Prometheus refuses the query: HTTP 400: bad_data: parse error"):
        await rig.ask(query="up(")
    await rig.fleet.store.put(make_snapshot(workload="a/web"))
    rig.fleet.runners["a/web"].failed.note_success()
    refused(rig)
    assert await rig.ask(query="up(") == "a/web"  # a forecast is more useful than the reason why there is no newer one


async def test_of_a_query_that_stood_in_a_variable_nothing_is_told_that_quotes_it(
    autojump_clock: MockClock, rig: Rig
) -> None:
    await rig.ask(queryFromEnv="up(")
    refused(rig)
    with pytest.raises(BadTriggerError, match=r"^its Prometheus refuses the request \(source: refused\)$"):
        await rig.ask(queryFromEnv="up(")
    failure = rig.resolver.failure_of("a/web")
    assert failure is not None
    assert "parse error" not in failure.words


async def test_a_query_that_was_changed_is_not_blamed_for_the_one_before(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up(")
    refused(rig)
    assert await rig.ask(query="up") == "a/web"


async def test_nobody_waits_for_the_first_forecast_of_what_has_failed(autojump_clock: MockClock, rig: Rig) -> None:
    began = trio.current_time()

    async def tick(key: str) -> None:
        await trio.sleep(0.3)
        rig.fleet.runners[key].failed.note(SourceError("away", reason="unreachable"), wall_clock().now())

    rig.tick = tick
    assert await rig.ask(query="up") == "a/web"
    assert 0.3 <= trio.current_time() - began < 0.4
    failure = rig.resolver.failure_of("a/web")
    assert failure is not None
    assert failure.words == "its Prometheus cannot be reached (source: unreachable)"
    assert rig.fleet.failing() == {"a/web": failure}
    assert rig.resolver.failure_of("a/gone") is None
