# SPDX-License-Identifier: Apache-2.0
"""`SharedStore`: snapshots in memory that several processes share through a `SnapshotExchange`, in the background.

`SharedSnapshots` reads from it what others forecast, for a process that makes no forecasts of its own.

Every answer comes from memory, so that none waits for the exchange or fails with it. What this process puts is in its
memory at once and is written as soon as the exchange accepts it; only the newest snapshot of each workload waits for
that. What others write is read every `POLL_EVERY` seconds. While the exchange is down, the last known snapshots are
served, and become stale by their age as usual.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from itertools import islice

import attrs
import trio

from kedastral.clock import WallClock
from kedastral.cooperative import TimeSlice
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.ports import Found, SharedWrite, SnapshotExchange, WriteOutcome
from kedastral.errors import StoreError
from kedastral.serving.asked import AskedWorkloads, MinimumLog
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.store import MAX_SKEW, ChangeEvents, SeldomWarning

POLL_EVERY = 1.0
"""Seconds between two polls for what others wrote: the answers of pods differ for no longer than that."""
COMPARE_EVERY = 60.0
"""Seconds between two reads of all workloads, which find changes that a failover or a wrong clock hid from polls."""
FIRST_WAIT = 3.0
"""Seconds that a starting process waits for the existing snapshots; after that they are read in the background."""
LAST_WRITE_WITHIN = 1.0
"""Seconds that writing pending snapshots may take once the process stops."""
MAX_BATCH = 200
"""The most snapshots of one request: about 0.5 MB."""
FORGET_EVERY = 5.0
"""Seconds between two checks for workloads that nobody asks for anymore."""
RETRY_AFTER, RETRY_AT_MOST = 0.25, 5.0
"""Seconds before the first retry, and at most; the delay doubles in between."""
OWN_COUNTS = 300.0
"""While another process's snapshot is newer than this one's own by no more than this many seconds, the next one still
continues from the own one, which carries more state. After a longer time it continues from the shared one."""
ROLLING_UPDATE = 900.0
"""Seconds for which pods with other settings may be part of a rolling update: meanwhile their forecasts are better than
a stale one. After that they count as another fleet."""

AHEAD_WORDS = (
    "a pod's forecast is from %.0f s in the future and does not replace others: its clock or this one's is wrong"
)
REFUSED_WORDS = "Redis refuses this pod's forecasts: by its clock they come from the future, so this pod's is wrong"
FOREIGN_WORDS = (
    "another pod forecasts this workload with other settings, so this one makes its own forecast for its answers: two "
    "fleets have the same --redis-prefix, or a rolling update or an edit of a ScaledObject has not reached all pods"
)

log = logging.getLogger("kedastral.storage")


@attrs.frozen
class Terms:
    """The conditions for serving a shared snapshot of a workload like one that this process made.

    It has the same ``fingerprint``, if both have one, and is dated no more than ``stale_after`` seconds in the future.
    """

    fingerprint: str = ""
    stale_after: float = math.inf

    def is_foreign(self, snapshot: Snapshot) -> bool:
        """Whether it was made under other settings, so that its numbers mean something else."""
        return bool(self.fingerprint and snapshot.fingerprint) and snapshot.fingerprint != self.fingerprint


class Standing(IntEnum):
    """How much a snapshot is worth to this process."""

    AHEAD = 0
    """It comes from the future."""
    FOREIGN = 1
    """It was made under other settings."""
    STALE = 2
    UPDATED = 3
    """It was made under other settings, which a rolling update introduces or replaces."""
    GOOD = 4


@attrs.define
class Availability:
    """Whether an operation of the exchange worked last time; logs when that changes."""

    operation: str
    metrics: Metrics
    storage: StorageMetrics
    failing: bool = False
    wait: float = RETRY_AFTER

    def note_success(self) -> None:
        """Note that it worked."""
        if self.failing:
            log.info("the storage works again (%s)", self.operation)
        self.failing, self.wait = False, RETRY_AFTER
        self.storage.up.labels(self.operation).set(1)

    def note_failure(self, error: StoreError) -> float:
        """Note that it failed; returns the seconds before the next retry."""
        self.metrics.count_error(error)
        if not self.failing:
            words = (
                "the storage fails (%s): the last known forecasts are served from memory, and the storage is retried"
            )
            log.warning(words, self.operation, extra={"reason": error.reason, "err": str(error)})
        self.failing = True
        self.storage.up.labels(self.operation).set(0)
        seconds, self.wait = self.wait, min(2 * self.wait, RETRY_AT_MOST)
        return seconds

    def note_idle(self) -> None:
        """Note that there is nothing left to do: whether it would work now is unknown, and not shown."""
        if self.failing:
            log.info("nothing waits for the storage anymore (%s)", self.operation)
            self.storage.up.remove(self.operation)
        self.failing, self.wait = False, RETRY_AFTER


@attrs.define(eq=False)
class SharedStore:
    """A `kedastral.core.ports.SnapshotStore`. Memory grows with the workloads followed, and twice as fast with those
    put.

    ``token`` returns, at each put, the fencing token that the exchange compares: a process that has been replaced has a
    lower one than its successor. A snapshot from others that does not meet the ``terms`` of its workload is served only
    if there is nothing better: before the first forecast of this process, or, during a possible rolling update, instead
    of a stale one.
    """

    exchange: SnapshotExchange
    metrics: Metrics
    storage: StorageMetrics
    clock: WallClock
    token: Callable[[], int] = lambda: 0
    terms: Callable[[str], Terms] = lambda _workload: Terms()
    _served: dict[str, Snapshot] = attrs.field(factory=dict, init=False)
    _own: dict[str, Snapshot] = attrs.field(factory=dict, init=False)
    _pending: dict[str, SharedWrite] = attrs.field(factory=dict, init=False)
    _stamps: dict[str, str] = attrs.field(factory=dict, init=False)
    """The stamp of the last snapshot read or written for each followed workload; empty if there was none."""
    _written_at: dict[str, int] = attrs.field(factory=dict, init=False)
    """The time of each workload's last known write, by the exchange's clock."""
    _wanted: dict[str, None] = attrs.field(factory=dict, init=False)
    """Workloads to read, whether or not the exchange reports a change."""
    _passed_over: set[str] = attrs.field(factory=set, init=False)
    """Workloads whose newest snapshot by others does not meet the terms."""
    _foreign_seen: tuple[float, float] = attrs.field(default=(-math.inf, -math.inf), init=False)
    """When snapshots of other settings were first and last seen, on Trio's clock."""
    _ahead: SeldomWarning = attrs.field(factory=lambda: SeldomWarning(log, AHEAD_WORDS), init=False)
    _refused: SeldomWarning = attrs.field(factory=lambda: SeldomWarning(log, REFUSED_WORDS), init=False)
    _foreign: SeldomWarning = attrs.field(factory=lambda: SeldomWarning(log, FOREIGN_WORDS), init=False)
    _to_write: trio.Event = attrs.field(factory=trio.Event, init=False)
    _to_read: trio.Event = attrs.field(factory=trio.Event, init=False)
    _was_read: trio.Event = attrs.field(factory=trio.Event, init=False)
    _looked: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set, and replaced, whenever a poll for what others wrote has ended."""
    _changes: ChangeEvents = attrs.field(factory=ChangeEvents, init=False)
    _writing: Availability = attrs.field(init=False)
    is_current: bool = attrs.field(default=False, init=False)
    """Whether the last poll for what others wrote worked, so that memory is up to date."""

    def __attrs_post_init__(self) -> None:
        self._writing = Availability("write", self.metrics, self.storage)

    # The memory: `kedastral.core.ports.SnapshotStore`.

    async def put(self, snapshot: Snapshot) -> bool:
        """See `kedastral.core.ports.SnapshotStore.put`; it is written in the background."""
        workload = snapshot.workload
        if not workload.strip():
            raise StoreError("a snapshot must name its workload", reason="no_workload")
        await trio.lowlevel.checkpoint()
        own, served = self._own.get(workload), self._served.get(workload)
        if own is not None and 0 < (own.made_at - snapshot.made_at).total_seconds() <= MAX_SKEW:
            return False
        if served is not None and served is not own and not self._supersedes(snapshot, served):
            return False
        self._own[workload] = snapshot
        self._pending[workload] = SharedWrite(snapshot, self.token(), self.terms(workload).stale_after)
        self.storage.pending.set(len(self._pending))
        self._to_write.set()
        self._serve(snapshot)
        return True

    def revise(self, workload: str, change: Callable[[Snapshot], Snapshot]) -> None:
        """See `kedastral.core.ports.SnapshotStore.revise`."""
        own = self._own.get(workload)
        if own is None:
            return
        self._own[workload] = revised = change(own)
        if self._served.get(workload) is own:
            self._serve(revised)

    def forget(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotStore.forget`."""
        for kept in (self._own, self._pending, self._stamps, self._written_at, self._wanted):
            kept.pop(workload, None)
        self.storage.pending.set(len(self._pending))
        self._passed_over.discard(workload)
        if self._served.pop(workload, None) is not None:
            self._changes.notify(workload)

    def follow(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotStore.follow`."""
        if workload not in self._stamps:
            self._stamps[workload] = ""
            self._want(workload)

    def previous(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotStore.previous`."""
        own, served = self._own.get(workload), self._served.get(workload)
        if own is None or served is None:
            return served
        return served if (served.made_at - own.made_at).total_seconds() > OWN_COUNTS else own

    def get(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotReader.get`."""
        return self._served.get(workload)

    def newest(self) -> Mapping[str, Snapshot]:
        """See `kedastral.core.ports.SnapshotReader.newest`."""
        return dict(self._served)

    async def track(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.track`; followed workloads are already in memory."""

    async def wait_for_change(self, *workloads: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.wait_for_change`."""
        await self._changes.wait(*workloads)

    async def wait_until_read(self, workload: str) -> None:
        """Wait until the shared snapshot of ``workload``, which is followed, has been read, or reading has failed."""
        while workload in self._wanted:
            await self._looked.wait()
            if not self.is_current:
                return

    def _serve(self, snapshot: Snapshot) -> None:
        self._served[snapshot.workload] = snapshot
        self._changes.notify(snapshot.workload)

    def is_fit(self, snapshot: Snapshot) -> bool:
        """Whether ``snapshot`` meets the terms of its workload."""
        terms = self.terms(snapshot.workload)
        return not terms.is_foreign(snapshot) and self._seconds_ahead(snapshot) <= terms.stale_after

    def is_passed_over(self, workload: str) -> bool:
        """Whether the latest snapshot of ``workload`` by others does not meet its terms."""
        return workload in self._passed_over

    def _seconds_ahead(self, snapshot: Snapshot) -> float:
        return (snapshot.made_at - self.clock.now()).total_seconds()

    def _standing(self, snapshot: Snapshot) -> Standing:
        terms, ahead = self.terms(snapshot.workload), self._seconds_ahead(snapshot)
        if ahead > terms.stale_after:
            return Standing.AHEAD
        is_stale = -ahead > terms.stale_after
        if not terms.is_foreign(snapshot):
            return Standing.STALE if is_stale else Standing.GOOD
        since, _ = self._foreign_seen
        is_update = trio.current_time() - since <= ROLLING_UPDATE
        return Standing.UPDATED if is_update and not is_stale else Standing.FOREIGN

    def _supersedes(self, snapshot: Snapshot, served: Snapshot) -> bool:
        """Whether ``snapshot`` is worth more; if equal, whether it is no older or ``served`` is in the future."""
        now, before = self._standing(snapshot), self._standing(served)
        if now is Standing.AHEAD and before is not now:
            # one that follows shortly after the other shows that this process's own clock is behind
            apart = (snapshot.made_at - served.made_at).total_seconds()
            return apart <= self.terms(snapshot.workload).stale_after
        if now is not before:
            return now > before
        if snapshot.made_at >= served.made_at:
            return True
        return self._seconds_ahead(served) > MAX_SKEW

    def _want(self, workload: str) -> None:
        self._wanted[workload] = None
        self._to_read.set()

    # The background: writing and reading.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write and read until cancelled; ready once the existing snapshots are read, or after `FIRST_WAIT` seconds."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_writing)
                nursery.start_soon(self._keep_reading)
                with trio.move_on_after(FIRST_WAIT):
                    await self._was_read.wait()
                task_status.started()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WRITE_WITHIN), suppress(StoreError):
                await self._write(list(self._pending.values())[:MAX_BATCH])

    async def _keep_writing(self) -> None:
        availability = self._writing
        while True:
            await self._to_write.wait()
            batch = list(islice(self._pending.values(), MAX_BATCH))
            if not batch:  # all was forgotten meanwhile: the exchange is not asked
                self._to_write = trio.Event()
                continue
            try:
                await self._write(batch)
            except StoreError as error:
                await trio.sleep(availability.note_failure(error))
                continue
            availability.note_success()
            self.storage.pending.set(len(self._pending))

    async def _write(self, batch: Sequence[SharedWrite]) -> None:
        if not batch:
            return
        written = await self.exchange.write(batch)
        for one, found in zip(batch, written, strict=True):
            workload = one.snapshot.workload
            if self._pending.get(workload) is one:
                del self._pending[workload]
            self.storage.writes.labels(found.outcome).inc()
            if found.outcome is WriteOutcome.AHEAD:
                self._refused.give(workload)
            if workload not in self._stamps:
                continue
            if found.outcome is WriteOutcome.KEPT:
                self._stamps[workload] = found.stamp
                self._passed_over.discard(workload)
            elif found.outcome is not WriteOutcome.REFUSED:
                self._want(workload)

    async def _keep_reading(self) -> None:
        availability, since, compare_at = Availability("read", self.metrics, self.storage), 0, -math.inf
        while True:
            now = trio.current_time()
            if now >= compare_at:
                since, compare_at = 0, now + COMPARE_EVERY
            self._to_read = trio.Event()
            try:
                since = await self._read_changes(since)
            except StoreError as error:
                self.is_current = False
                self._wake_looking()
                await trio.sleep(availability.note_failure(error))
                continue
            availability.note_success()
            if not self._pending:  # all that could not be written was forgotten: the outage may be over, or not
                self._writing.note_idle()
            self.is_current = True
            self._was_read.set()
            self._wake_looking()
            with trio.move_on_after(POLL_EVERY):
                await self._to_read.wait()

    def _wake_looking(self) -> None:
        looked, self._looked = self._looked, trio.Event()
        looked.set()

    async def _read_changes(self, since: int) -> int:
        """Read what was written after ``since``, and what is wanted; returns the time of the newest write."""
        changes = await self.exchange.changes(since)
        for workload, moment in changes.items():
            if workload in self._stamps and self._written_at.get(workload) != moment:
                self._wanted[workload] = None
        while self._wanted:
            batch = list(islice(self._wanted, MAX_BATCH))
            found = await self.exchange.read({workload: self._stamps[workload] for workload in batch})
            await self._adopt(found)
            for workload in batch:
                self._wanted.pop(workload, None)
                if workload in changes and workload in self._stamps:
                    self._written_at[workload] = changes[workload]
        return max(changes.values(), default=since)

    async def _adopt(self, found: Mapping[str, Found]) -> None:
        time_slice = TimeSlice()
        for workload, one in found.items():
            await time_slice.pause()
            if workload not in self._stamps:  # forgotten meanwhile
                continue
            self._stamps[workload] = one.stamp
            self._judge(one.snapshot)
            served = self._served.get(workload)
            if served is None or self._supersedes(one.snapshot, served):
                self._serve(one.snapshot)

    def _judge(self, snapshot: Snapshot) -> None:
        """Note whether ``snapshot``, which another process wrote, meets the terms; if not, log why."""
        workload, now = snapshot.workload, trio.current_time()
        if self.is_fit(snapshot):
            self._passed_over.discard(workload)
            return
        self._passed_over.add(workload)
        if not self.terms(workload).is_foreign(snapshot):
            self._ahead.give(workload, self._seconds_ahead(snapshot))
            return
        since, last = self._foreign_seen
        self._foreign_seen = (since if now - last <= ROLLING_UPDATE else now, now)
        served = self._served.get(workload)
        if served is not None and self.is_fit(served):  # otherwise the other process may have ended, as in an update
            self._foreign.give(workload)


@attrs.define(eq=False)
class SharedSnapshots:
    """A `kedastral.core.ports.SnapshotReader` of what forecasters share, for the workloads that it is asked for.

    Those in ``always`` are read from the start. ``policy`` is the policy for stale forecasts.
    """

    store: SharedStore
    always: Sequence[str] = ()
    policy: StalePolicy = attrs.field(factory=StalePolicy)
    _asked: AskedWorkloads = attrs.field(init=False)
    _minimum: MinimumLog = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._asked, self._minimum = AskedWorkloads(self.always), MinimumLog(self.policy)

    def get(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotReader.get`."""
        self._asked.note(workload)
        snapshot = self.store.get(workload)
        if snapshot is not None:
            self._minimum.note(snapshot)
        return snapshot

    def newest(self) -> Mapping[str, Snapshot]:
        """See `kedastral.core.ports.SnapshotReader.newest`."""
        return self.store.newest()

    async def track(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.track`; raises RemoteError if too many are tracked."""
        await self._asked.track(workload, self._begin, self.store.metrics.count_error)

    async def wait_for_change(self, *workloads: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.wait_for_change`."""
        await self.store.wait_for_change(*workloads)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep reading until cancelled; ready at the same moment as `SharedStore.run`."""
        async with trio.open_nursery() as nursery:
            for workload in self.always:
                self.store.follow(workload)
            await nursery.start(self.store.run)
            for workload in self.always:
                await self.track(workload)
            task_status.started()
            while True:
                await trio.sleep(FORGET_EVERY)
                for name in self._asked.forget_unasked():
                    self.store.forget(name)
                    self._minimum.forget(name)
                    self.store.metrics.forget_workload(name)

    async def _begin(self, workload: str) -> None:
        self.store.follow(workload)
        await self.store.wait_until_read(workload)
