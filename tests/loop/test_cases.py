# SPDX-License-Identifier: Apache-2.0
"""How KEDA and the HPA react to each answer: fallback, holding, scaling from zero, observing; by the second."""

from typing import Any

import pytest
import trio
import yaml
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.testing import MockClock

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.simulation.cluster import PodFleet
from tests.docs.pages import ROOT, blocks, read

from .formula import Formula
from .keda import Keda, ReactiveTrigger
from .play import Played, play
from .scaled_object import PROMPT, RECOMMENDED, Fallback, FallbackBehavior, ScaledObject, ScaledObjectSpec
from .site import HORIZON, LEAD, Outages, Site, within

pytestmark = pytest.mark.slow

HOUR = 3600.0
STALE_AFTER = 120.0
RIDE = StalePolicy(STALE_AFTER, OnStale.RIDE_FORECAST)
LAST = 1770.0
"""The last tick before the source is away from 1,800 s on."""
RUNS_OUT = LAST + HORIZON - LEAD
FALLS_BACK = RUNS_OUT + 34
"""The fourth error in a row: the HPA asks 4, 19 and 34 s after that, KEDA polls after 7 s."""


def steady(_second: float) -> float:
    """A load that needs 12 pods."""
    return 1000.0


@pytest.mark.parametrize(
    ("behavior", "replicas", "then"),
    [
        (FallbackBehavior.CURRENT_IF_HIGHER, 20, 20),
        (FallbackBehavior.CURRENT_IF_HIGHER, 6, 12),
        (FallbackBehavior.CURRENT, 6, 12),
        (FallbackBehavior.STATIC, 6, 6),
        (FallbackBehavior.CURRENT_IF_LOWER, 6, 6),
    ],
)
async def test_fallback_begins_with_the_fourth_error_and_only_some_behaviors_never_take_pods(
    autojump_clock: MockClock, behavior: FallbackBehavior, replicas: int, then: int
) -> None:
    site = Site(steady, RIDE, Outages(prometheus=((1800, HOUR),)))
    spec = ScaledObjectSpec(fallback=Fallback(replicas, 3, behavior), behavior=PROMPT)
    played = await play(site, spec, 1.2)
    assert [what for _, what in played.said] == [12.0, "UNAVAILABLE", 12.0]
    settled = [change for change in played.changes if change[0] > 600]
    assert settled == ([(FALLS_BACK, then)] if then != 12 else []) + [
        (at, replicas) for at, replicas in settled if at > HOUR
    ]
    assert played.replicas(1.2 * HOUR) == 12
    assert bool(played.too_few()) is (then < 12)


async def test_while_kedastral_is_gone_the_replicas_hold_and_fallback_never_begins(autojump_clock: MockClock) -> None:
    site = Site(steady, RIDE, Outages(kedastral=((1800, 2 * HOUR),)))
    played = await play(site, ScaledObjectSpec(fallback=Fallback(20), behavior=PROMPT), 2.1)
    assert [what for _, what in played.said] == [12.0, "unreachable", 12.0]
    assert [change for change in played.changes if change[0] > 600] == []


def formula_recipe() -> dict[str, Any]:
    """The ScaledObject of docs/keda.md that makes one metric of two triggers."""
    page = read(ROOT / "docs" / "keda.md")
    specs = [yaml.safe_load(block.text).get("spec", {}) for block in blocks(page) if block.language == "yaml"]
    [spec] = [spec for spec in specs if "scalingModifiers" in spec.get("advanced", {})]
    return dict(spec)


@pytest.mark.parametrize("kedastral_is_gone", [False, True])
async def test_a_formula_goes_on_without_kedastral_once_the_last_plan_is_used_up_for_a_minute(
    autojump_clock: MockClock, kedastral_is_gone: bool
) -> None:
    recipe = formula_recipe()
    formula = Formula.of(recipe["advanced"]["scalingModifiers"]["formula"])
    names = [trigger["name"] for trigger in recipe["triggers"]]
    spec = ScaledObjectSpec(
        fallback=Fallback(recipe["fallback"]["replicas"], recipe["fallback"]["failureThreshold"]),
        behavior=PROMPT,
        formula=lambda values: formula.value(dict(zip(names, values, strict=True))),
    )
    away = ((1800.0, 5400.0),)
    site = Site(steady, RIDE, Outages(kedastral=away) if kedastral_is_gone else Outages(prometheus=away))
    threshold = float(recipe["triggers"][1]["metadata"]["threshold"])
    played = await play(site, spec, 1.6, beside=lambda: [ReactiveTrigger(lambda: 1000.0, threshold)])
    changes = [change for change in played.changes if change[0] > 600]
    if kedastral_is_gone:
        assert changes == [], "KEDA does not get as far as the formula"
        return
    (down, reactive), (back, predicted) = changes
    assert RUNS_OUT + 60 <= down <= RUNS_OUT + 75, "once the threshold is passed"
    assert (reactive, predicted) == (6, 12)
    assert back < 5420


@pytest.mark.parametrize("gone", [True, False])
async def test_while_kedastral_is_gone_no_external_trigger_of_the_object_scales(
    autojump_clock: MockClock, gone: bool
) -> None:
    """An error status does not affect the other triggers; an unreachable scaler does."""

    def rising(second: float) -> float:
        return 500.0 if second < 3600 else 2000.0

    away = (1800.0, 5400.0)
    outages = Outages(kedastral=(away,)) if gone else Outages(prometheus=(away,))
    site = Site(rising, StalePolicy(STALE_AFTER, OnStale.ERROR), outages)
    reactive = ReactiveTrigger(lambda: rising(trio.current_time()), 90.0)
    played = await play(site, ScaledObjectSpec(behavior=PROMPT), 1.6, beside=lambda: [reactive])
    assert played.replicas(3599) == 6
    assert played.replicas(5300) == (6 if gone else 23)
    assert played.replicas(5500) == 24


def morning(second: float) -> float:
    """No load, then at once a load for 10 pods, for half an hour."""
    return 1000.0 if HOUR <= second < 1.5 * HOUR else 0.0


def ready_at(played: Played, second: float, start_seconds: float) -> int:
    """The pods that serve at ``second``, if each takes ``start_seconds`` to start."""
    fleet = PodFleet(0, start_seconds)
    for at, replicas in played.changes:
        if at <= second:
            fleet.order(at, replicas)
    return fleet.ready(second)


@pytest.mark.parametrize(("push", "woken_within"), [(True, 1.0), (False, 30.0)])
async def test_from_zero_the_pods_are_ready_when_the_need_begins_and_gone_after_the_cooldown(
    autojump_clock: MockClock, push: bool, woken_within: float
) -> None:
    site = Site(morning, RIDE, bounds=ReplicaBounds(0, 50))
    spec = ScaledObjectSpec(bounds=ReplicaBounds(0, 50), behavior=RECOMMENDED)
    played = await play(site, spec, 1.8, first=0, push=push)
    (woken, first), *_ = [change for change in played.changes if change[0] > 0]
    assert first == 1
    assert HOUR - LEAD - 60 <= woken <= HOUR - LEAD + woken_within, "the plan's steps begin with its ticks"
    assert ready_at(played, HOUR, 230.0) >= 10
    asleep, replicas = played.changes[-1]
    assert replicas == 0
    assert spec.cooldown <= asleep - 1.5 * HOUR <= spec.cooldown + 2 * 60 + spec.polling_interval
    assert played.too_few() == []
    assert bool(played.woken) is push


@pytest.mark.parametrize(("activation", "replicas"), [("12", 0), ("11", 12)])
async def test_up_to_its_activation_a_workload_sleeps_on(
    autojump_clock: MockClock, activation: str, replicas: int
) -> None:
    site = Site(morning, RIDE, bounds=ReplicaBounds(0, 50))
    spec = ScaledObjectSpec(bounds=ReplicaBounds(0, 50), behavior=PROMPT)
    played = await play(site, spec, 1.5, first=0, push=True, activation=activation)
    assert played.replicas(1.4 * HOUR) == replicas


@pytest.mark.parametrize("fallback", [None, Fallback()])
async def test_no_outage_puts_a_workload_to_sleep(autojump_clock: MockClock, fallback: Fallback | None) -> None:
    away = Outages(prometheus=((1800, 4500),), kedastral=((5000, 6000),))
    site = Site(steady, RIDE, away, ReplicaBounds(0, 50))
    spec = ScaledObjectSpec(bounds=ReplicaBounds(0, 50), fallback=fallback, behavior=PROMPT)
    played = await play(site, spec, 1.8, first=0)
    assert played.too_few() == []
    assert [change for change in played.changes if change[0] > 600] == []


async def test_under_default_min_an_outage_puts_a_workload_to_sleep_where_its_minimum_is_zero(
    autojump_clock: MockClock,
) -> None:
    site = Site(steady, StalePolicy(STALE_AFTER), Outages(prometheus=((1800, 2 * HOUR),)), ReplicaBounds(0, 50))
    played = await play(site, ScaledObjectSpec(bounds=ReplicaBounds(0, 50), behavior=PROMPT), 1, first=0)
    stale = LAST + STALE_AFTER
    down, asleep = [change for change in played.changes if change[0] > 600]
    assert down == (1894.0, 2), "the first sync after the plan is stale"
    assert asleep[1] == 0
    assert stale + 300 - 30 <= asleep[0] <= stale + 300 + 30


async def test_in_mode_observe_another_trigger_decides_alone(autojump_clock: MockClock) -> None:
    def wave(second: float) -> float:
        return 2000.0 if second % 2400 < 900 else 400.0

    policy = StalePolicy(STALE_AFTER, OnStale.ERROR, mode=Mode.OBSERVE)
    site = Site(wave, policy, Outages(prometheus=((4000, 5000),)))

    def load() -> float | None:
        second = trio.current_time()
        return None if within(site.outages.prometheus, second) else wave(second)

    spec, reactive = ScaledObjectSpec(behavior=RECOMMENDED), ReactiveTrigger(load, 80.0)
    alone = ScaledObject(spec, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Keda(alone, [reactive], [reactive]).run)
        beside = await play(site, spec, 1.8, beside=lambda: [reactive])
        nursery.cancel_scope.cancel()
    assert {what for _, what in beside.said} == {0.0}
    assert list(beside.changes) == alone.changes
    assert len(alone.changes) > 6
    assert max(snapshot.replicas.max() for _, snapshot in site.store.published) == 24, "all is planned as ever"


async def test_one_error_is_asked_again_at_once_and_changes_nothing(autojump_clock: MockClock) -> None:
    site = Site(steady, RIDE)
    calls = 0

    def fail_every_other_time(answer: Any) -> Any:
        async def respond(stream: Any) -> None:
            nonlocal calls
            calls += 1
            if calls % 2:
                await stream.recv_message()
                raise GRPCError(Status.INTERNAL, "a bug")
            await answer(stream)

        return respond

    site.service.GetMetrics = fail_every_other_time(site.service.GetMetrics)  # type: ignore[method-assign]
    played = await play(site, ScaledObjectSpec(fallback=Fallback(20, 0), behavior=PROMPT), 0.5)
    assert calls > 350
    assert max(replicas for _, replicas in played.changes) == 12
    assert played.replicas(1800) == 12


async def test_an_answer_that_takes_longer_than_three_seconds_holds_the_replicas(autojump_clock: MockClock) -> None:
    def falling(second: float) -> float:
        return 1000.0 if second < 1800 else 100.0

    site = Site(falling, RIDE)
    thawed = trio.Event()

    def freeze(answer: Any) -> Any:
        async def respond(stream: Any) -> None:
            if 1000 < trio.current_time() < 2600:
                await thawed.wait()
            await answer(stream)

        return respond

    site.service.GetMetrics = freeze(site.service.GetMetrics)  # type: ignore[method-assign]
    played = await play(site, ScaledObjectSpec(behavior=PROMPT), 0.8)
    assert played.replicas(2599) == 12
    assert played.replicas(2620) == 2
