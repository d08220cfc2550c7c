# SPDX-License-Identifier: Apache-2.0
"""`MemoryStore`: snapshots in the memory of the process.

`kedastral.core.ports.SnapshotStore` defines what any store must do; tests/contract checks it.
"""

import logging
from collections.abc import Callable, Mapping

import attrs
import trio

from kedastral.core.planning.snapshot import Snapshot
from kedastral.errors import StoreError
from kedastral.logs import RepeatLimit

MAX_SKEW = 60.0
"""A snapshot older than the stored one by at most this many seconds is refused. A workload ticks in order, so only a
clock set back makes an older one; if it was set back further, the stored one is now in the future and is replaced."""


@attrs.define(eq=False)
class SeldomWarning:
    """A warning that applies to many workloads; names one of them, at most every `REPEAT_AFTER` seconds."""

    log: logging.Logger
    words: str
    _limit: RepeatLimit = attrs.field(factory=RepeatLimit, init=False)

    def give(self, workload: str, *arguments: object) -> None:
        """Warn about ``workload``, unless the last warning was too recent."""
        if self._limit.is_due():
            self.log.warning(self.words, *arguments, extra={"workload": workload})


@attrs.frozen(eq=False)
class ChangeEvents:
    """Wakes the tasks that wait for a change of a workload's newest snapshot; O(1) per workload and waiter."""

    _waiting: dict[str, set[trio.Event]] = attrs.field(factory=dict, init=False)

    async def wait(self, *workloads: str) -> None:
        """Wait for the next `notify` of any of ``workloads``."""
        event = trio.Event()
        for workload in workloads:
            self._waiting.setdefault(workload, set()).add(event)
        try:
            await event.wait()
        finally:
            for workload in workloads:
                waiting = self._waiting.get(workload, set())
                waiting.discard(event)
                if not waiting:
                    self._waiting.pop(workload, None)

    def notify(self, workload: str) -> None:
        """Wake all that wait for ``workload``."""
        for event in self._waiting.get(workload, ()):
            event.set()


@attrs.define(eq=False)
class MemoryStore:
    """The newest snapshot of each workload. Reads and writes cost O(1); `newest` costs O(workloads)."""

    _snapshots: dict[str, Snapshot] = attrs.field(factory=dict, init=False)
    _changes: ChangeEvents = attrs.field(factory=ChangeEvents, init=False)

    async def put(self, snapshot: Snapshot) -> bool:
        """See `kedastral.core.ports.SnapshotStore.put`."""
        workload = snapshot.workload
        if not workload.strip():
            raise StoreError("a snapshot must name its workload", reason="no_workload")
        await trio.lowlevel.checkpoint()
        before = self.get(workload)
        if before is not None and 0 < (before.made_at - snapshot.made_at).total_seconds() <= MAX_SKEW:
            return False
        self._snapshots[workload] = snapshot
        self._changes.notify(workload)
        return True

    def revise(self, workload: str, change: Callable[[Snapshot], Snapshot]) -> None:
        """See `kedastral.core.ports.SnapshotStore.revise`."""
        before = self._snapshots.get(workload)
        if before is not None:
            self._snapshots[workload] = change(before)
            self._changes.notify(workload)

    def forget(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotStore.forget`."""
        if self._snapshots.pop(workload, None) is not None:
            self._changes.notify(workload)

    def follow(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotStore.follow`; there are no other processes."""

    def previous(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotStore.previous`."""
        return self._snapshots.get(workload)

    def get(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotReader.get`."""
        return self._snapshots.get(workload)

    def newest(self) -> Mapping[str, Snapshot]:
        """See `kedastral.core.ports.SnapshotReader.newest`."""
        return dict(self._snapshots)

    async def track(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.track`; everything is already in memory."""

    async def wait_for_change(self, *workloads: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.wait_for_change`."""
        await self._changes.wait(*workloads)
