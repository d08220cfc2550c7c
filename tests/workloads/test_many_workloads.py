# SPDX-License-Identifier: Apache-2.0
"""The log of a fleet whose many workloads have the same to say at the same time, as after a start."""

import io
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from kedastral.app import keep_telling_gathered
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.serving import decide
from kedastral.errors import SourceError
from kedastral.logs import GATHER_FOR, SHOWN_ALONE, configure_logging
from kedastral.serving.asked import MinimumLog
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import StaleLog
from kedastral.workloads.guarded_tick import GuardedTick
from kedastral.workloads.tick import ForecastLoop
from tests.parts import START, make_snapshot
from tests.workloads.test_tick import make_loop

MANY = 300
NAMES = [f"shop/web-{number}" for number in range(MANY)]

pytestmark = pytest.mark.usefixtures("restore_logging")


@attrs.frozen
class Told:
    """The lines of an event: the workloads with one of their own, and those that the other lines name."""

    alone: list[str]
    named: list[str]


def read_told(stream: io.StringIO, words: str) -> Told:
    lines: list[dict[str, Any]] = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = [line for line in lines if words in line["msg"]]
    named = [name for line in found if "names" in line for name in line["names"].split(", ")]
    return Told([line["workload"] for line in found if "workload" in line], named)


def start_log() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    return stream


async def tick_all(change: Callable[[ForecastLoop], ForecastLoop]) -> io.StringIO:
    """What is logged for a minute in which each of `NAMES` ticks once."""
    stream = start_log()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_telling_gathered)
        for name in NAMES:
            loop = change(make_loop(name=name))
            await GuardedTick(loop, Metrics().count_error, answers_keda=True).tick()
        await trio.sleep(1.5 * GATHER_FOR)
        nursery.cancel_scope.cancel()
    return stream


def observed(loop: ForecastLoop) -> ForecastLoop:
    workload = attrs.evolve(loop.workload, stale=StalePolicy(mode=Mode.OBSERVE))
    return attrs.evolve(loop, workload=workload)


def away(loop: ForecastLoop) -> ForecastLoop:
    return make_loop([SourceError("away", reason="unreachable")], name=loop.workload.name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda loop: loop, "on-stale is default-min"),
        (lambda loop: loop, "first forecast"),
        (observed, "mode observe"),
        (away, "no new forecast"),
    ],
)
async def test_what_holds_for_each_workload_at_a_start_is_a_few_lines_that_name_each_once(
    autojump_clock: MockClock, change: Callable[[ForecastLoop], ForecastLoop], words: str
) -> None:
    told = read_told(await tick_all(change), words)
    assert told.alone == NAMES[:SHOWN_ALONE]
    assert told.named == NAMES[SHOWN_ALONE:]


async def test_a_split_scaler_with_many_workloads_does_so_too(autojump_clock: MockClock) -> None:
    stream, policy = start_log(), StalePolicy()
    minimum, stale = MinimumLog(policy), StaleLog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_telling_gathered)
        for name in NAMES:
            minimum.note(attrs.evolve(make_snapshot(workload=name), min_replicas=7))
            stale.note(name, decide(None, START, policy), policy)
        await trio.sleep(1.5 * GATHER_FOR)
        nursery.cancel_scope.cancel()
    for words in ("--default-min (2) is below", "no fresh forecast"):
        assert read_told(stream, words) == Told(NAMES[:SHOWN_ALONE], NAMES[SHOWN_ALONE:])
