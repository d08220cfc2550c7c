# SPDX-License-Identifier: Apache-2.0
"""`Scaler`: what KEDA is told, decided from memory: how many replicas, active or not."""

from collections.abc import Mapping
from datetime import datetime

import attrs

from kedastral.clock import WallClock
from kedastral.core.ports import SnapshotReader
from kedastral.core.serving import Decision, StalePolicy, decide
from kedastral.core.trigger import describe_got, find_said, said_key
from kedastral.services.directory import BadTriggerError, Directory, ObjectRef, require_said_once


def read_activation(metadata: Mapping[str, str]) -> float:
    """The trigger's ``activation``: active above so many replicas. Raises BadTriggerError unless a number >= 0."""
    require_said_once(metadata, "activation")
    said = find_said(metadata, "activation")
    text = "0" if said is None else said.strip()
    try:
        activation = float(text)
    except ValueError:
        activation = -1.0
    if not 0 <= activation < float("inf"):
        key = said_key(metadata, "activation")
        raise BadTriggerError(f"metadata {key!r} must be a number of at least 0{describe_got(key, text, 40)}")
    return activation


@attrs.frozen
class Scaler:
    """Decides for every workload, at any moment, without waiting for anything."""

    reader: SnapshotReader
    clock: WallClock
    directory: Directory

    async def find(self, ref: ObjectRef) -> str:
        """The workload a ScaledObject means, its snapshots at hand. Raises as `Directory.find`."""
        return await self.directory.find(ref)

    def decide(self, workload: str) -> Decision:
        """What to tell KEDA about ``workload`` now."""
        self.directory.note_asked(workload)
        decision = decide(self.reader.get(workload), self.now(), self.policy_of(workload))
        failure = self.directory.failure_of(workload) if decision.stale else None
        if failure is None:
            return decision
        return attrs.evolve(decision, reason=f"{decision.reason}; {failure.words}")

    def policy_of(self, workload: str) -> StalePolicy:
        """What holds for ``workload`` when its forecast is stale."""
        return self.directory.policy_of(workload)

    def now(self) -> datetime:
        """The wall time that decisions are made at."""
        return self.clock.now()
