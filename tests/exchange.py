# SPDX-License-Identifier: Apache-2.0
"""`MemoryExchange`: the twin of Redis that tests of what shares snapshots use, with the faults of a real one."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import attrs
import trio

from kedastral.clock import WallClock
from kedastral.core.ports import Found, Outcome, Written
from kedastral.core.serving import Snapshot
from kedastral.errors import StoreError
from kedastral.wire import dump_json, read_snapshot, write_snapshot
from tests.parts import wall_clock


@attrs.define
class Entry:
    """What is kept of one workload."""

    snapshot: Snapshot
    token: int
    revision: int

    @property
    def stamp(self) -> str:
        return f"{self.snapshot.made_at.isoformat()}:{self.revision}"


@attrs.define(eq=False)
class MemoryExchange:
    """A `kedastral.core.ports.SnapshotExchange` in memory. With ``fault`` set every request raises it."""

    clock: WallClock = attrs.field(factory=wall_clock)
    fault: StoreError | None = None
    entries: dict[str, Entry] = attrs.field(factory=dict)
    written_at: dict[str, int] = attrs.field(factory=dict)
    moment: int = 0
    requests: list[str] = attrs.field(factory=list)

    async def write(self, snapshots: Sequence[tuple[Snapshot, int]]) -> Sequence[Written]:
        await self._answer("write")
        written = [self._write(snapshot, token) for snapshot, token in snapshots]
        self.moment += 1
        for (snapshot, _), one in zip(snapshots, written, strict=True):
            if one.outcome is Outcome.KEPT:
                self.written_at[snapshot.workload] = self.moment
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
        """As a Redis that was restarted empty."""
        self.entries.clear()
        self.written_at.clear()

    async def _answer(self, request: str) -> None:
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        if self.fault is not None:
            raise self.fault

    def _write(self, snapshot: Snapshot, token: int) -> Written:
        old = self.entries.get(snapshot.workload)
        if old is not None and token < old.token:
            return Written(Outcome.FENCED, old.stamp)
        if old is not None and snapshot.made_at < old.snapshot.made_at <= self.clock.now() + timedelta(seconds=60):
            return Written(Outcome.OLDER, old.stamp)
        over_the_wire = read_snapshot(dump_json(write_snapshot(snapshot)))
        entry = Entry(over_the_wire, token, 1 if old is None else old.revision + 1)
        self.entries[snapshot.workload] = entry
        return Written(Outcome.KEPT, entry.stamp)
