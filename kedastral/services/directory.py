# SPDX-License-Identifier: Apache-2.0
"""`Directory`: which workload a ScaledObject means, and what holds for it when its forecast is stale."""

from collections.abc import Collection, Mapping
from typing import Protocol

import attrs

from kedastral.core.failure import Failure
from kedastral.core.ports import SnapshotReader
from kedastral.core.serving import StalePolicy
from kedastral.core.trigger import find_said, find_said_twice, is_of_variable, said_key
from kedastral.errors import KedastralError

LONGEST_NAME = 500
"""Characters of a workload's name that a ScaledObject may give where any name will do."""
SHOWN = 80
MOST_SHOWN = 5


class UnknownWorkloadError(KedastralError):
    """The ScaledObject names a workload that is not configured."""


class BadTriggerError(KedastralError):
    """The ScaledObject's trigger metadata cannot be used; the message says what to change."""


class TooManyWorkloadsError(KedastralError):
    """ScaledObjects have brought as many workloads as they may."""


@attrs.frozen
class ObjectRef:
    """The ScaledObject that KEDA asks for, and the metadata of its trigger."""

    name: str = ""
    namespace: str = ""
    metadata: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def workload(self) -> str:
        """The workload that the trigger names, or nothing."""
        return (find_said(self.metadata, "workload") or "").strip()


class Directory(Protocol):
    """All that the scaler has to know of the workloads there are."""

    async def find(self, ref: ObjectRef) -> str:
        """The key of the workload that is meant, its snapshots at hand.

        Raises UnknownWorkloadError, BadTriggerError, TooManyWorkloadsError, and RemoteError of a remote reader.
        """
        ...

    def policy_of(self, workload: str) -> StalePolicy:
        """What holds for ``workload`` when its forecast is stale."""
        ...

    def failure_of(self, workload: str) -> Failure | None:
        """Why there is no newer forecast of ``workload``, where that is known."""
        ...

    def note_asked(self, workload: str) -> None:
        """KEDA asks for ``workload``, or has a stream of it open: only that keeps one that a ScaledObject brought."""
        ...

    def still_meant(self, workload: str, namespace: str) -> str:
        """The key that is meant by now, where ``find`` once gave ``workload`` to a ScaledObject of ``namespace``."""
        ...


@attrs.frozen
class FixedDirectory:
    """Workloads that are known from the start and answered alike; a single one is the default."""

    keys: frozenset[str]
    policy: StalePolicy = attrs.field(factory=StalePolicy)

    @classmethod
    def of(cls, *keys: str, policy: StalePolicy | None = None) -> "FixedDirectory":
        """The directory of ``keys``."""
        return cls(frozenset(keys), policy or StalePolicy())

    async def find(self, ref: ObjectRef) -> str:
        """See `Directory.find`."""
        return pick_workload(ref, self.keys)

    def note_asked(self, workload: str) -> None:
        """See `Directory.note_asked`."""

    def policy_of(self, workload: str) -> StalePolicy:
        """See `Directory.policy_of`."""
        return self.policy

    def failure_of(self, workload: str) -> Failure | None:
        """See `Directory.failure_of`."""
        del workload
        return None

    def still_meant(self, workload: str, namespace: str) -> str:
        """See `Directory.still_meant`."""
        del namespace
        return workload


@attrs.frozen
class RemoteDirectory:
    """Any workload, since only the remote forecaster knows which there are; ``default`` where none is named.

    A bare name is looked for in the ScaledObject's namespace first, then as it stands.
    """

    reader: SnapshotReader
    policy: StalePolicy
    default: str | None = None

    async def find(self, ref: ObjectRef) -> str:
        """See `Directory.find`."""
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
        """See `Directory.note_asked`."""

    def policy_of(self, workload: str) -> StalePolicy:
        """See `Directory.policy_of`."""
        return self.policy

    def failure_of(self, workload: str) -> Failure | None:
        """See `Directory.failure_of`: the forecaster's log and metrics say it."""
        del workload
        return None

    def still_meant(self, workload: str, namespace: str) -> str:
        """See `Directory.still_meant`: a stream may have been opened before the forecaster had a forecast."""
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


def require_said_once(metadata: Mapping[str, str], key: str) -> None:
    """Raise BadTriggerError where ``metadata`` have both a value for ``key`` and one of a variable."""
    twice = find_said_twice(metadata, key)
    if twice is not None:
        raise BadTriggerError(f"metadata: {twice}")


def _unnamed() -> BadTriggerError:
    return BadTriggerError("the trigger must name its workload: set metadata 'workload'")
