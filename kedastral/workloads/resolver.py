# SPDX-License-Identifier: Apache-2.0
"""Which workload a ScaledObject names: `pick_workload`, and `RemoteResolver` for the split scaler."""

from collections.abc import Collection

import attrs

from kedastral.core.failures import Failure
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.ports import SnapshotReader
from kedastral.core.trigger import ObjectRef, is_from_variable, key_in, require_few_keys, require_no_conflict
from kedastral.errors import BadTriggerError, UnknownWorkloadError
from kedastral.settings.metadata import describes_a_workload

MAX_NAME_LENGTH = 500
"""The most characters of a workload's name, namespace included, if any name is accepted."""
MAX_NAME_SHOWN = 80
"""Characters of a name that an error shows."""
MAX_NAMES_SHOWN = 5
"""Names that an error lists."""
NOT_READ_HERE = (
    "the trigger metadata describes a workload of its own, which a split scaler does not read: name one that its "
    "forecaster has in metadata 'workload'"
)


def pick_workload(ref: ObjectRef, keys: Collection[str]) -> str:
    """The one of ``keys`` (``namespace/name`` or a name alone) that ``ref`` names.

    A name is looked up in the ScaledObject's namespace, then among those without one. A workload of another namespace
    must be named in full. Without a name there must be a single workload. Raises UnknownWorkloadError, BadTriggerError.
    """
    require_no_conflict(ref.metadata, "workload")
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
        shown = ", ".join(key[:MAX_NAME_SHOWN] for key in elsewhere[:MAX_NAMES_SHOWN])
        raise BadTriggerError(f"metadata 'workload' must say which {name[:MAX_NAME_SHOWN]!r}: {shown}")
    hint = f"; there is {elsewhere[0][:MAX_NAME_SHOWN]!r}, to be named in full" if elsewhere else ""
    key = key_in(ref.metadata, "workload")
    shown = f"by the name that {key!r} gives" if is_from_variable(key) else repr(name[:MAX_NAME_SHOWN])
    raise UnknownWorkloadError(f"there is no workload {shown} here{hint}")


@attrs.frozen
class RemoteResolver:
    """Resolves any name, since only the remote forecaster knows which workloads there are.

    A bare name is looked up in the ScaledObject's namespace first, then as it is. ``default`` is used if none is named,
    but not for metadata that describe a workload of their own: they would get the replicas of another one.
    """

    reader: SnapshotReader
    policy: StalePolicy
    default: str | None = None

    async def find(self, ref: ObjectRef) -> str:
        """See `kedastral.core.ports.WorkloadResolver.find`."""
        require_few_keys(ref.metadata)
        require_no_conflict(ref.metadata, "workload")
        name = ref.workload
        if not name:
            if describes_a_workload(ref.metadata):
                raise BadTriggerError(NOT_READ_HERE)
            if self.default is None:
                raise _unnamed()
            name = self.default
        if len(name) + len(ref.namespace) > MAX_NAME_LENGTH:
            raise BadTriggerError(f"metadata 'workload' must have at most {MAX_NAME_LENGTH} characters")
        if "/" not in name and ref.namespace:
            await self.reader.track(f"{ref.namespace}/{name}")
            if self.current_key(name, ref.namespace) != name:
                return f"{ref.namespace}/{name}"
        await self.reader.track(name)
        return name

    def keep_alive(self, workload: str) -> None:
        """See `kedastral.core.ports.WorkloadResolver.keep_alive`; the reader itself sees which workloads are read."""

    def policy_of(self, workload: str) -> StalePolicy:
        """See `kedastral.core.ports.WorkloadResolver.policy_of`."""
        return self.policy

    def failure_of(self, workload: str) -> Failure | None:
        """See `kedastral.core.ports.WorkloadResolver.failure_of`; the forecaster's own log and metrics have it."""
        del workload
        return None

    def current_key(self, workload: str, namespace: str) -> str:
        """See `kedastral.core.ports.WorkloadResolver.current_key`; `find` may have come before the first forecast."""
        key = f"{namespace}/{workload}"
        own = "/" not in workload and namespace and self.reader.get(key) is not None
        return key if own else workload


def _unnamed() -> BadTriggerError:
    return BadTriggerError("the trigger must name its workload: set metadata 'workload'")
