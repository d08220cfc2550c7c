# SPDX-License-Identifier: Apache-2.0
"""`MemoryExchange` and `MemoryRegistry`: in-memory stand-ins for Redis and its faults, for tests of sharing pods."""

from collections.abc import Mapping, Sequence

import attrs
import trio

from kedastral.clock import WallClock
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.ports import Found, Membership, SharedWrite, WriteOutcome, Written
from kedastral.errors import StoreError
from kedastral.wire import dump_json, read_snapshot, write_snapshot
from tests.parts import wall_clock


@attrs.define
class Entry:
    """The stored data of one workload."""

    snapshot: Snapshot
    token: int
    revision: int

    @property
    def stamp(self) -> str:
        return f"{self.snapshot.made_at.isoformat()}:{self.revision}"


@attrs.define(eq=False)
class MemoryExchange:
    """A `kedastral.core.ports.SnapshotExchange` in memory. If ``fault`` is set, every request raises it."""

    clock: WallClock = attrs.field(factory=wall_clock)
    fault: StoreError | None = None
    entries: dict[str, Entry] = attrs.field(factory=dict)
    written_at: dict[str, int] = attrs.field(factory=dict)
    moment: int = 0
    requests: list[str] = attrs.field(factory=list)

    async def write(self, writes: Sequence[SharedWrite]) -> Sequence[Written]:
        await self._answer("write")
        written = [self._write(one.snapshot, one.token, one.stale_after) for one in writes]
        self.moment += 1
        for wanted, one in zip(writes, written, strict=True):
            if one.outcome is WriteOutcome.KEPT:
                self.written_at[wanted.snapshot.workload] = self.moment
        return written

    async def read(self, stamps: Mapping[str, str]) -> Mapping[str, Found]:
        await self._answer("read")
        there = {workload: self.entries[workload] for workload in stamps if workload in self.entries}
        return {
            workload: Found(entry.snapshot, entry.stamp)
            for workload, entry in there.items()
            if entry.stamp != stamps[workload]
        }

    async def changes(self, since: int) -> Mapping[str, int]:
        await self._answer("changes")
        return {workload: moment for workload, moment in self.written_at.items() if moment > since}

    def lose_everything(self) -> None:
        """Forget everything, like a Redis that was restarted empty."""
        self.entries.clear()
        self.written_at.clear()

    async def _answer(self, request: str) -> None:
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        if self.fault is not None:
            raise self.fault

    def _write(self, snapshot: Snapshot, token: int, stale_after: float) -> Written:
        old = self.entries.get(snapshot.workload)
        if old is not None and token < old.token:
            return Written(WriteOutcome.FENCED, old.stamp)
        if old is not None:
            now, new, before = self.clock.now(), snapshot.made_at, old.snapshot.made_at
            ahead, apart, since = (
                (one - two).total_seconds() for one, two in ((new, now), (new, before), (before, now))
            )
            if min(ahead, apart) > stale_after >= abs(since):
                return Written(WriteOutcome.AHEAD, old.stamp)
            if apart < 0 and since <= min(stale_after, 60):
                return Written(WriteOutcome.OLDER, old.stamp)
        over_the_wire = read_snapshot(dump_json(write_snapshot(snapshot)))
        entry = Entry(over_the_wire, token, 1 if old is None else old.revision + 1)
        self.entries[snapshot.workload] = entry
        return Written(WriteOutcome.KEPT, entry.stamp)


@attrs.define(eq=False)
class MemoryRegistry:
    """A `kedastral.core.ports.MemberRegistry` in memory, on Trio's clock. If ``fault`` is set, requests raise it."""

    fault: StoreError | None = None
    leases: dict[str, float] = attrs.field(factory=dict)
    token: int = 0

    async def renew(self, member: str, lease: float, token: int) -> Membership:
        await self._answer()
        now = trio.current_time()
        alive = {name: until for name, until in self.leases.items() if until > now}
        changed = len(alive) < len(self.leases) or member not in alive
        self.leases = {**alive, member: now + lease}
        self.token = max(self.token, token) + changed
        return Membership(self.token, frozenset(self.leases))

    async def leave(self, member: str) -> None:
        await self._answer()
        if self.leases.pop(member, None) is not None:
            self.token += 1

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
