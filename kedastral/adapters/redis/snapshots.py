# SPDX-License-Identifier: Apache-2.0
"""The snapshots that pods share in Redis: `RedisSnapshots`, a hash for each workload and an index of them all."""

import logging
from collections.abc import Mapping, Sequence

import attrs
from coredis.typing import ResponseType

from kedastral.adapters.redis.connection import RedisConnection
from kedastral.adapters.redis.scripts import (
    CHANGES,
    NOTE,
    LuaScript,
    ScriptCall,
    microseconds,
    text_of,
    unexpected_as_error,
)
from kedastral.core.ports import Found, SharedWrite, WriteOutcome, Written
from kedastral.core.series import DAY
from kedastral.errors import StoreError
from kedastral.logs import of_many
from kedastral.text import one_line
from kedastral.wire import SNAPSHOT_FORMAT, WireError, dump_json, read_snapshot, write_snapshot

MAX_STALE_AFTER = 1e9
"""Seconds, three decades: still exact in Lua as microseconds."""
log = logging.getLogger("kedastral.storage")

WRITE = LuaScript("""\
local old = redis.call('HMGET', KEYS[1], 'at', 'token', 'revision')
local at, token = tonumber(old[1] or ''), tonumber(old[2] or '')
local new, most = tonumber(ARGV[1]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local outcome = 'kept'
if token and tonumber(ARGV[2]) < token then
  outcome = 'fenced'
elseif at and new > now + most and new - at > most and math.abs(at - now) <= most then
  outcome = 'ahead'
elseif at and new < at and at <= now + math.min(most, 60000000) then
  outcome = 'older'
end
if outcome ~= 'kept' then
  return {outcome, (old[1] or '') .. ':' .. (old[3] or '')}
end
local revision = string.format('%d', (tonumber(old[3] or '') or 0) + 1)
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'token', ARGV[2], 'format', ARGV[3], 'snapshot', ARGV[5],
           'revision', revision)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {outcome, ARGV[1] .. ':' .. revision}
""")
"""at, token, format, TTL in ms, JSON, microseconds until stale -> the outcome, and the stamp of what is stored now.

A stored value that is not a number counts as missing. If it is the clock of Redis that is behind, the stored snapshot
is also in the future, or only slightly older than the new one: then nothing is refused.
"""

READ = LuaScript("""\
local there = redis.call('HMGET', KEYS[1], 'at', 'revision')
local stamp = (there[1] or '') .. ':' .. (there[2] or '')
if not there[1] or stamp == ARGV[1] then
  return false
end
local found = redis.call('HMGET', KEYS[1], 'format', 'snapshot')
return {stamp, found[1] or '', found[2] or ''}
""")
"""a stamp -> nothing if the snapshot has it or is missing, else its stamp, its format and its JSON."""


@attrs.define(eq=False)
class WorkloadComplaints:
    """Logs what is wrong with a workload in Redis once, until that changes: it is found at every poll."""

    _said: dict[str, str] = attrs.field(factory=dict, init=False)

    def note(self, workload: str, words: str, error: Exception) -> None:
        """Note that ``words`` are true of ``workload``, because of ``error``."""
        said = f"{words}: {one_line(str(error))}"
        if self._said.get(workload) != said:
            self._said[workload] = said
            log.warning(words, extra=of_many(workload, err=one_line(str(error))))

    def clear(self, workload: str) -> None:
        """Note that nothing is wrong with ``workload``."""
        self._said.pop(workload, None)


@attrs.frozen(eq=False)
class RedisSnapshots:
    """A `kedastral.core.ports.SnapshotExchange` in Redis. ``ttl`` is in seconds.

    A problem with one workload in Redis is logged and does not affect others.
    """

    connection: RedisConnection
    prefix: str = "kedastral"
    ttl: float = DAY
    _unread: WorkloadComplaints = attrs.field(factory=WorkloadComplaints, init=False)
    _unwritten: WorkloadComplaints = attrs.field(factory=WorkloadComplaints, init=False)

    async def write(self, writes: Sequence[SharedWrite]) -> Sequence[Written]:
        """See `kedastral.core.ports.SnapshotExchange.write`."""
        calls = [
            ScriptCall(WRITE, self._key(one.snapshot.workload), (
                microseconds(one.snapshot.made_at), one.token, SNAPSHOT_FORMAT, self._ttl,
                dump_json(write_snapshot(one.snapshot)), round(min(one.stale_after, MAX_STALE_AFTER) * 1e6),
            ))
            for one in writes
        ]  # fmt: skip
        answers = await self.connection.run_each(calls)
        names = [one.snapshot.workload for one in writes]
        written = [self._find_outcome(name, answer) for name, answer in zip(names, answers, strict=True)]
        kept = [name for name, one in zip(names, written, strict=True) if one.outcome is WriteOutcome.KEPT]
        if kept:
            await self.connection.run_scripts([ScriptCall(NOTE, f"{self.prefix}:index", (self._ttl, *kept))])
        return written

    async def read(self, stamps: Mapping[str, str]) -> Mapping[str, Found]:
        """See `kedastral.core.ports.SnapshotExchange.read`; unreadable snapshots are skipped."""
        calls = [ScriptCall(READ, self._key(workload), (stamp,)) for workload, stamp in stamps.items()]
        found = {}
        for workload, answer in zip(stamps, await self.connection.run_each(calls), strict=True):
            if not isinstance(answer, list | StoreError):
                self._unread.clear(workload)
                continue
            try:
                found[workload] = _read_found(workload, answer)
            except (WireError, StoreError) as error:
                self._unread.note(workload, "a forecast in Redis cannot be read and is skipped", error)
            else:
                self._unread.clear(workload)
        return found

    def _find_outcome(self, workload: str, answer: ResponseType | StoreError) -> Written:
        if isinstance(answer, StoreError):
            self._unwritten.note(workload, "a forecast cannot be written to Redis", answer)
            return Written(WriteOutcome.REFUSED, "")
        self._unwritten.clear(workload)
        return _read_written(answer)

    async def changes(self, since: int) -> Mapping[str, int]:
        """See `kedastral.core.ports.SnapshotExchange.changes`."""
        [answer] = await self.connection.run_scripts([ScriptCall(CHANGES, f"{self.prefix}:index", (since,))])
        words = [text_of(word) for word in answer] if isinstance(answer, list) else []
        with unexpected_as_error():
            return {workload: int(float(moment)) for workload, moment in zip(words[::2], words[1::2], strict=True)}

    def _key(self, workload: str) -> str:
        return f"{self.prefix}:snapshot:{workload}"

    @property
    def _ttl(self) -> int:
        return round(self.ttl * 1000)


def _read_written(answer: ResponseType) -> Written:
    with unexpected_as_error():
        if not isinstance(answer, list) or len(answer) != 2:
            raise ValueError
        return Written(WriteOutcome(text_of(answer[0])), text_of(answer[1]))


def _read_found(workload: str, answer: Sequence[ResponseType] | StoreError) -> Found:
    if isinstance(answer, StoreError):
        raise answer
    if len(answer) != 3:
        raise WireError("it does not answer the request")
    stamp, version, body = map(text_of, answer)
    try:
        is_known = int(version) <= SNAPSHOT_FORMAT
    except ValueError:
        is_known = False
    if not is_known:
        raise WireError(f"its format is {version:.20}, this version knows {SNAPSHOT_FORMAT}")
    snapshot = read_snapshot(body)
    if snapshot.workload != workload:
        raise WireError(f"it is about {snapshot.workload!r}")
    return Found(snapshot, stamp)
