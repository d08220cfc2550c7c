# SPDX-License-Identifier: Apache-2.0
"""`WorkloadResolver`: which workload a ScaledObject means, and what holds for it when its forecast is stale."""

from collections.abc import Collection

import attrs

from kedastral.core.planning.status import Failure
from kedastral.core.ports import SnapshotReader
from kedastral.core.serving import StalePolicy
from kedastral.core.trigger import ObjectRef, is_of_variable, require_said_once, said_key
from kedastral.errors import BadTriggerError, UnknownWorkloadError

LONGEST_NAME = 500
"""Characters of a workload's name that a ScaledObject may give where any name will do."""
SHOWN = 80
MOST_SHOWN = 5


@attrs.frozen
class FixedResolver:
    """Workloads that are known from the start and answered alike; a single one is the default."""

    keys: frozenset[str]
    policy: StalePolicy = attrs.field(factory=StalePolicy)

    @classmethod
    def of(cls, *keys: str, policy: StalePolicy | None = None) -> "FixedResolver":
        """The directory of ``keys``."""
        return cls(frozenset(keys), policy or StalePolicy())

    async def find(self, ref: ObjectRef) -> str:
        """See `WorkloadResolver.find`."""
        return pick_workload(ref, self.keys)

    def note_asked(self, workload: str) -> None:
        """See `WorkloadResolver.note_asked`."""

    def policy_of(self, workload: str) -> StalePolicy:
        """See `WorkloadResolver.policy_of`."""
        return self.policy

    def failure_of(self, workload: str) -> Failure | None:
        """See `WorkloadResolver.failure_of`."""
        del workload
        return None

    def still_meant(self, workload: str, namespace: str) -> str:
        """See `WorkloadResolver.still_meant`."""
        del namespace
        return workload


@attrs.frozen
class RemoteResolver:
    """Any workload, since only the remote forecaster knows which there are; ``default`` where none is named.

    A bare name is looked for in the ScaledObject's namespace first, then as it stands.
    """

    reader: SnapshotReader
    policy: StalePolicy
    default: str | None = None

    async def find(self, ref: ObjectRef) -> str:
        """See `WorkloadResolver.find`."""
        require_said_once(ref.metadata, "workload")
        name = ref.workload
        if not name:
            if self.default is None:
                raise _unnamed()
            name = self.default
        if len(name) + len(ref.namespace) > LONGEST_NAME:
            raise BadTriggerError(f"metadata 'workload' must have at most {LONGEST_NAME} characters")
        if "/" not in name and ref.namespace:
            await self.reader.follow(f"{ref.namespace}/{name}")
            if self.still_meant(name, ref.namespace) != name:
                return f"{ref.namespace}/{name}"
        await self.reader.follow(name)
        return name

    def note_asked(self, workload: str) -> None:
        """See `WorkloadResolver.note_asked`."""

    def policy_of(self, workload: str) -> StalePolicy:
        """See `WorkloadResolver.policy_of`."""
        return self.policy

    def failure_of(self, workload: str) -> Failure | None:
        """See `WorkloadResolver.failure_of`: the forecaster's log and metrics say it."""
        del workload
        return None

    def still_meant(self, workload: str, namespace: str) -> str:
        """See `WorkloadResolver.still_meant`: a stream may have been opened before the forecaster had a forecast."""
        key = f"{namespace}/{workload}"
        own = "/" not in workload and namespace and self.reader.get(key) is not None
        return key if own else workload


def pick_workload(ref: ObjectRef, keys: Collection[str]) -> str:
    """The key that ``ref`` means of ``keys``, which are ``namespace/name`` or a name alone.

    A name is looked for in the ScaledObject's namespace, then among those without one, never in another's: that has
    to be said in full. Where none is named, there must be one alone.
    """
    require_said_once(ref.metadata, "workload")
    name = ref.workload
    if not name:
        if len(keys) == 1:
            return next(iter(keys))
        raise _unnamed()
    for key in (f"{ref.namespace}/{name}", name):
        if key in keys:
            return key
    elsewhere = sorted(key for key in keys if key.rpartition("/")[2] == name)
    if len(elsewhere) > 1:
        shown = ", ".join(key[:SHOWN] for key in elsewhere[:MOST_SHOWN])
        raise BadTriggerError(f"metadata 'workload' must say which {name[:SHOWN]!r}: {shown}")
    hint = f"; there is {elsewhere[0][:SHOWN]!r}, to be named in full" if elsewhere else ""
    key = said_key(ref.metadata, "workload")
    shown = f"by the name that {key!r} gives" if is_of_variable(key) else repr(name[:SHOWN])
    raise UnknownWorkloadError(f"there is no workload {shown} here{hint}")


def _unnamed() -> BadTriggerError:
    return BadTriggerError("the trigger must name its workload: set metadata 'workload'")
