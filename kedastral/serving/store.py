# SPDX-License-Identifier: Apache-2.0
"""`MemoryStore`: snapshots in the process itself, the newest of each workload."""

from collections.abc import Mapping

import attrs
import trio

from kedastral.core.snapshot import Snapshot
from kedastral.errors import StoreError


@attrs.frozen
class _Kept:
    snapshot: Snapshot
    expires_at: float


@attrs.define(eq=False)
class MemoryStore:
    """The newest snapshot of each workload; with a ``ttl`` (seconds) only for that long after it was put.

    Reads and writes cost O(1); `newest` costs O(workloads). Expired snapshots are never shown, and their memory is
    given back by the next `put`: at most one snapshot per workload is held, whatever happens.

    A snapshot that is older than the one kept is refused, unless by more than ``most_skew`` seconds: one process ticks
    a workload in order, so that can only come from a clock that was set back, and the one kept was made in what is the
    future by now. Refusing then would be for as long as the clock was set back by.
    """

    ttl: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    most_skew: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))
    _kept: dict[str, _Kept] = attrs.field(factory=dict, init=False)

    async def put(self, snapshot: Snapshot) -> bool:
        """See `kedastral.core.ports.SnapshotStore.put`."""
        if not snapshot.workload.strip():
            raise StoreError("a snapshot must name its workload", reason="no_workload")
        await trio.lowlevel.checkpoint()
        self._drop_expired()
        before = self.get(snapshot.workload)
        if before is not None and 0 < (before.made_at - snapshot.made_at).total_seconds() <= self.most_skew:
            return False
        expires_at = float("inf") if self.ttl is None else trio.current_time() + self.ttl
        # removed first, so that the order of the dict is the order of expiry
        self._kept.pop(snapshot.workload, None)
        self._kept[snapshot.workload] = _Kept(snapshot, expires_at)
        return True

    def forget(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotStore.forget`."""
        self._kept.pop(workload, None)

    def get(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotReader.get`."""
        kept = self._kept.get(workload)
        return kept.snapshot if kept is not None and trio.current_time() < kept.expires_at else None

    def newest(self) -> Mapping[str, Snapshot]:
        """See `kedastral.core.ports.SnapshotReader.newest`."""
        now = trio.current_time()
        return {name: kept.snapshot for name, kept in self._kept.items() if now < kept.expires_at}

    async def follow(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.follow`; everything is here already."""

    def _drop_expired(self) -> None:
        now = trio.current_time()
        while self._kept:
            oldest = next(iter(self._kept))
            if now < self._kept[oldest].expires_at:
                return
            del self._kept[oldest]
