# SPDX-License-Identifier: Apache-2.0
"""The state that a restart or a pod that takes over needs, in Redis: `RedisStates`, two hashes for each workload."""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TypeVar

import attrs
import trio

from kedastral.adapters.redis.connection import RedisConnection
from kedastral.adapters.redis.scripts import CHANGES, NOTE, LuaScript, ScriptCall, microseconds, text_of
from kedastral.clock import WallClock
from kedastral.core.kept_state import KeptHistory, KeptState
from kedastral.core.series import DAY
from kedastral.errors import StoreError
from kedastral.logs import of_many
from kedastral.state_format import StateFormatError, read_history, read_state, write_history, write_state
from kedastral.text import one_line

STATE_TTL = 7 * DAY
"""Seconds for which the state of a workload that nobody forecasts is kept, as in a state directory."""

T = TypeVar("T")
log = logging.getLogger("kedastral.storage")

SAVE = LuaScript("""\
local last = tonumber(redis.call('HGET', KEYS[1], 'at') or '')
local time = redis.call('TIME')
if last and tonumber(ARGV[1]) < last and last <= time[1] * 1000000 + time[2] + 60000000 then
  return 'older'
end
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'data', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'kept'
""")
"""when it was made, TTL in ms, bytes -> whether it is kept, or older than what is stored.

What is stored counts unless it is more than a minute in the future: then it comes from a pod whose clock is wrong.
"""

LOAD = LuaScript("return redis.call('HGET', KEYS[1], 'data')")
"""-> the bytes."""

REMOVE = LuaScript("return redis.call('DEL', KEYS[1])")
"""-> it is gone."""


@attrs.define(eq=False)
class RedisStates:
    """A `kedastral.core.ports.StateStore` in Redis, for pods that take over each other's workloads.

    ``{prefix}:state:{workload}`` and ``{prefix}:history:{workload}`` are hashes: ``data``, the bytes of
    `kedastral.state_format`, and ``at``, when they were saved, in microseconds: an older state is refused.
    ``{prefix}:states`` is a sorted set of the workloads. All of them expire.
    """

    connection: RedisConnection
    clock: WallClock
    prefix: str = "kedastral"
    unreadable: int = attrs.field(default=0, init=False)

    async def load_all(self) -> Mapping[str, KeptState]:
        """See `kedastral.core.ports.StateStore.load_all`."""
        [answer] = await self.connection.run_scripts([ScriptCall(CHANGES, f"{self.prefix}:states", (0,))])
        names = answer[::2] if isinstance(answer, list) else []
        self.unreadable = 0
        found = [await self.load(name.decode(errors="surrogatepass")) for name in names if isinstance(name, bytes)]
        return {state.workload: state for state in found if state is not None}

    async def load(self, workload: str) -> KeptState | None:
        """See `kedastral.core.ports.StateStore.load`."""
        return await self._load("state", workload, read_state)

    async def save(self, state: KeptState) -> int:
        """See `kedastral.core.ports.StateStore.save`."""
        try:
            data = await trio.to_thread.run_sync(write_state, state)
        except StateFormatError as error:
            raise StoreError(f"the state cannot be saved: {error}", reason="bad_state") from error
        await self._save("state", state.workload, state.saved_at, data)
        noted = (round(STATE_TTL * 1000), state.workload.encode(errors="surrogatepass"))
        await self.connection.run_scripts([ScriptCall(NOTE, f"{self.prefix}:states", noted)])
        return len(data)

    async def load_history(self, workload: str) -> KeptHistory | None:
        """See `kedastral.core.ports.StateStore.load_history`."""
        return await self._load("history", workload, read_history)

    async def save_history(self, history: KeptHistory) -> int:
        """See `kedastral.core.ports.StateStore.save_history`."""
        data = await trio.to_thread.run_sync(write_history, history)
        await self._save("history", history.workload, self.clock.now(), data)
        return len(data)

    async def remove(self, workload: str) -> None:
        """See `kedastral.core.ports.StateStore.remove`."""
        await self.connection.run_scripts(
            [ScriptCall(REMOVE, self._key(kind, workload)) for kind in ("state", "history")]
        )

    async def remove_unsaved(self, since: datetime, current: Collection[str]) -> int:
        """See `kedastral.core.ports.StateStore.remove_unsaved`; they expire by themselves."""
        del since, current
        return 0

    async def _load(self, kind: str, workload: str, read: Callable[[bytes], T]) -> T | None:
        [data] = await self.connection.run_scripts([ScriptCall(LOAD, self._key(kind, workload))])
        if not isinstance(data, bytes):
            return None
        try:
            return await trio.to_thread.run_sync(read, data)
        except StateFormatError as error:
            self.unreadable += kind == "state"
            fields = of_many(workload, err=one_line(str(error)))
            log.warning("the %s of a workload in Redis cannot be read and counts as missing", kind, extra=fields)
            return None

    async def _save(self, kind: str, workload: str, at: datetime, data: bytes) -> None:
        arguments = (microseconds(at), round(STATE_TTL * 1000), data)
        [answer] = await self.connection.run_scripts([ScriptCall(SAVE, self._key(kind, workload), arguments)])
        if text_of(answer) == "older":
            words = f"{self.connection.login.address}: the {kind} of {one_line(workload)} was saved later already"
            raise StoreError(f"{words}: another pod saved it, or clocks differ", reason="older")

    def _key(self, kind: str, workload: str) -> bytes:
        return f"{self.prefix}:{kind}:{workload}".encode(errors="surrogatepass")
