# SPDX-License-Identifier: Apache-2.0
"""When a client of Redis is replaced: if it fails, and not because somebody has waited too long for it to open."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from kedastral.adapters.redis import connection
from kedastral.adapters.redis.client import ANSWER_WITHIN, RedisLogin
from kedastral.adapters.redis.connection import REOPEN_AFTER, RedisConnection
from kedastral.adapters.redis.scripts import LuaScript, ScriptCall
from kedastral.errors import StoreError
from kedastral.settings.types import read_redis_address

CALLS = [ScriptCall(LuaScript("return 1"), "key")]
ANSWERS_AFTER = 0.01


@attrs.define
class Redis:
    """A Redis that refuses connections while it is ``down``, opens them slowly, and hangs until ``answers_from``."""

    opens_in: float
    down: bool = False
    answers_from: float = -math.inf
    opened: list[float] = attrs.field(factory=list)

    @asynccontextmanager
    async def open(self, _login: RedisLogin) -> AsyncIterator["Redis"]:
        if self.down:
            raise ConnectionRefusedError
        self.opened.append(trio.current_time())
        await trio.sleep(self.opens_in)
        yield self

    @asynccontextmanager
    async def pipeline(self, **_options: bool) -> AsyncIterator["Redis"]:
        yield self
        await trio.sleep_until(max(trio.current_time() + ANSWERS_AFTER, self.answers_from))

    def evalsha(self, *_call: object) -> None:
        """Nothing happens before the pipeline ends."""

    @property
    def results(self) -> Sequence[int]:
        return [1]


@asynccontextmanager
async def connected(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisConnection]:
    monkeypatch.setattr(connection, "open_redis", redis.open)
    made = RedisConnection(RedisLogin(read_redis_address("redis://redis")))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        yield made
        nursery.cancel_scope.cancel()


@attrs.define
class Caller:
    """Calls Redis every ``pause`` seconds and counts how that went."""

    pause: float
    answered: int = 0
    failed: list[StoreError] = attrs.field(factory=list)

    async def run(self, redis: RedisConnection) -> None:
        while True:
            try:
                assert await redis.run_scripts(CALLS) == [1]
            except StoreError as error:
                self.failed.append(error)
            else:
                self.answered += 1
            await trio.sleep(self.pause)


@pytest.mark.parametrize("opens_in", [0.2, 1.0, 1.8])
async def test_once_redis_is_back_a_client_that_opens_slowly_is_opened_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, opens_in: float
) -> None:
    redis, callers = Redis(opens_in, down=True), [Caller(pause) for pause in (0.25, 0.8, 1.0)]
    async with connected(redis, monkeypatch) as made, trio.open_nursery() as nursery:
        for caller in callers:
            nursery.start_soon(caller.run, made)
        await trio.sleep(30)
        assert redis.opened == []
        redis.down = False
        await trio.sleep(ANSWER_WITHIN + REOPEN_AFTER)
        for caller in callers:
            caller.failed.clear()
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert len(redis.opened) == 1
    assert [caller.failed for caller in callers] == [[]] * 3
    assert min(caller.answered for caller in callers) > 50


async def test_a_client_that_does_not_answer_is_replaced_once_whoever_has_waited_for_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, callers = Redis(0.2), [Caller(0.25), Caller(0.25)]
    async with connected(redis, monkeypatch) as made, trio.open_nursery() as nursery:
        await made.run_scripts(CALLS)
        hangs_at = trio.current_time()
        redis.answers_from = hangs_at + ANSWER_WITHIN + REOPEN_AFTER
        for caller in callers:
            nursery.start_soon(caller.run, made)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert redis.opened == [0.0, pytest.approx(hangs_at + ANSWER_WITHIN + REOPEN_AFTER)]
    assert [[error.reason for error in caller.failed] for caller in callers] == [["timeout"]] * 2
    assert min(caller.answered for caller in callers) > 50
