# SPDX-License-Identifier: Apache-2.0
"""`SnapshotView`: what the HTTP server sees of the workloads."""

from collections.abc import Callable

import attrs

from kedastral.clock import WallClock
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.ports import SnapshotReader


@attrs.frozen
class SnapshotView:
    """The snapshots that HTTP shows, and when each workload's counts as stale."""

    reader: SnapshotReader
    policy_of: Callable[[str], StalePolicy]
    clock: WallClock

    def is_stale(self, snapshot: Snapshot) -> bool:
        """Whether ``snapshot`` is stale now."""
        return self.policy_of(snapshot.workload).is_stale(snapshot, self.clock.now())

    def any_stale(self) -> bool:
        """Whether any workload's newest snapshot is stale now."""
        return any(self.is_stale(snapshot) for snapshot in self.reader.newest().values())
