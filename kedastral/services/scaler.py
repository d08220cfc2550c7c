# SPDX-License-Identifier: Apache-2.0
"""`Scaler`: what KEDA is told, decided from memory: which workload is meant, how many replicas, active or not."""

from collections.abc import Mapping
from datetime import datetime

import attrs

from kedastral.clock import WallClock
from kedastral.core.ports import SnapshotReader
from kedastral.core.serving import Decision, StalePolicy, decide
from kedastral.errors import KedastralError

LONGEST_NAME = 500
"""Characters of a workload's name that a ScaledObject may give where any name will do."""


class UnknownWorkloadError(KedastralError):
    """The ScaledObject names a workload that is not configured."""


class BadTriggerError(KedastralError):
    """The ScaledObject's trigger metadata cannot be used; the message says what to change."""


@attrs.frozen
class KnownWorkloads:
    """Which workloads may be asked for. ``names`` None: any, since only the remote forecaster knows them."""

    names: frozenset[str] | None
    default: str | None

    @classmethod
    def only(cls, *names: str) -> "KnownWorkloads":
        """Those configured here; a single one is the default."""
        return cls(frozenset(names), names[0] if len(names) == 1 else None)

    def pick(self, metadata: Mapping[str, str]) -> str:
        """The workload a ScaledObject means. Raises UnknownWorkloadError, or BadTriggerError where it must name one."""
        name = metadata.get("workload", "").strip()
        if not name:
            if self.default is None:
                raise BadTriggerError("the trigger must name its workload: set metadata 'workload'")
            return self.default
        if self.names is not None and name not in self.names:
            raise UnknownWorkloadError(f"there is no workload {name[:80]!r} here")
        if self.names is None and len(name) > LONGEST_NAME:
            raise BadTriggerError(f"metadata 'workload' must have at most {LONGEST_NAME} characters")
        return name


def read_activation(metadata: Mapping[str, str]) -> float:
    """The trigger's ``activation``: active above so many replicas. Raises BadTriggerError unless a number >= 0."""
    text = metadata.get("activation", "0").strip()
    try:
        activation = float(text)
    except ValueError:
        activation = -1.0
    if not 0 <= activation < float("inf"):
        raise BadTriggerError(f"metadata 'activation' must be a number of at least 0, got {text[:40]!r}")
    return activation


@attrs.frozen
class Scaler:
    """Decides for every workload, at any moment, without waiting for anything."""

    reader: SnapshotReader
    policy: StalePolicy
    clock: WallClock
    workloads: KnownWorkloads

    async def find(self, metadata: Mapping[str, str]) -> str:
        """The workload a ScaledObject means, its snapshots at hand. Raises as `KnownWorkloads.pick`."""
        workload = self.workloads.pick(metadata)
        await self.reader.follow(workload)
        return workload

    def decide(self, workload: str) -> Decision:
        """What to tell KEDA about ``workload`` now."""
        return decide(self.reader.get(workload), self.now(), self.policy)

    def now(self) -> datetime:
        """The wall time that decisions are made at."""
        return self.clock.now()
