# SPDX-License-Identifier: Apache-2.0
"""The ports: small interfaces between the services and the outside world, most with several implementations."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import attrs

from kedastral.core.failures import Failure
from kedastral.core.forecast import Forecast
from kedastral.core.kept_state import KeptHistory, KeptState, SourceState
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import Series
from kedastral.core.trigger import ObjectRef
from kedastral.errors import SourceError


class LowerBoundError(SourceError):
    """The load of before is too old to forecast from, and of the load of now only a lower bound is known.

    ``history`` is what was read; the bounds are in its quality.
    """

    def __init__(self, message: str, *, reason: str, history: Series) -> None:
        super().__init__(message, reason=reason)
        self.history = history


class MetricSource(Protocol):
    """Where the load of one workload is read from."""

    @property
    def name(self) -> str:
        """A short name, used as a metric label."""
        ...

    async def history(self, now: datetime) -> Series:
        """The load up to ``now`` over the source's window, newest last; at least one value is not a gap.

        Raises `kedastral.errors.SourceError` if the source cannot be reached, rejects the query, or has no load that is
        recent enough to forecast from; `LowerBoundError` if a lower bound of the load is known.
        """
        ...


@runtime_checkable
class RestorableSource(MetricSource, Protocol):
    """A metric source whose history, and what it knows about its query, can be kept for the next process."""

    def kept_history(self) -> tuple[Series, bool] | None:
        """The newest points that have been read, and whether they are instant values; None if there are none.

        It is complete once the whole window has been read: see ``progress``.
        """
        ...

    @property
    def progress(self) -> float:
        """The share of the window that has been read; below 1 the backfill is still running."""
        ...

    def kept_state(self) -> SourceState:
        """What is known about the query besides its history."""
        ...

    def restore(self, state: SourceState | None, history: KeptHistory | None) -> None:
        """Continue from what another source of the same query and step kept; call this before the first read.

        Then only the points after the history are read, and those at its end that may have changed since.
        """
        ...


class Forecaster(Protocol):
    """Turns history into a forecast, by a `kedastral.core.model.Model` in this process or by one over HTTP."""

    @property
    def name(self) -> str:
        """The name by which it is configured, used as a metric label."""
        ...

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """Like `kedastral.core.model.Model.forecast`; raises `kedastral.errors.ModelError`."""
        ...


class SnapshotReader(Protocol):
    """Where the scaler and the HTTP API read snapshots: always from memory, so that no answer waits."""

    def get(self, workload: str) -> Snapshot | None:
        """The newest snapshot of ``workload``, or None."""
        ...

    def newest(self) -> Mapping[str, Snapshot]:
        """The newest snapshot of every workload that has one."""
        ...

    async def track(self, workload: str) -> None:
        """Keep ``workload``'s snapshots in memory from now on. A remote reader may wait a second for the first one."""
        ...

    async def wait_for_change(self, *workloads: str) -> None:
        """Wait until the newest snapshot of any of ``workloads`` is replaced or forgotten.

        Only changes after the call count. A caller that awaits this right after `get` misses none.
        """
        ...


class SnapshotStore(SnapshotReader, Protocol):
    """Where the forecaster publishes snapshots."""

    async def put(self, snapshot: Snapshot) -> bool:
        """Keep ``snapshot`` unless there is a newer one for its workload; returns whether it was kept.

        A snapshot that is newer by more than a small skew was made before the clock was set back, and is replaced.

        Raises `kedastral.errors.StoreError` for a snapshot without a workload name, or if it cannot be kept.
        """
        ...

    def revise(self, workload: str, change: Callable[[Snapshot], Snapshot]) -> None:
        """``change`` the snapshot that this process put for ``workload``, if there is one; other processes keep theirs.

        It is as old and as good as before, so this never competes with what others publish.
        """
        ...

    def forget(self, workload: str) -> None:
        """Drop the snapshot of ``workload``, if there is one; other processes keep theirs."""
        ...

    def follow(self, workload: str) -> None:
        """Also keep in memory what other processes publish for ``workload``, until it is forgotten."""
        ...

    def previous(self, workload: str) -> Snapshot | None:
        """The snapshot that the next one of ``workload`` continues: this process's own, else a shared one."""
        ...


@attrs.frozen
class SharedWrite:
    """A snapshot to be written to the shared store, with the fencing ``token`` as of the moment it was made.

    It is stale more than ``stale_after`` seconds after that moment, or before it.
    """

    snapshot: Snapshot
    token: int = 0
    stale_after: float = math.inf


@attrs.frozen
class Found:
    """A snapshot found in the shared store; each write changes the ``stamp``."""

    snapshot: Snapshot
    stamp: str


class WriteOutcome(StrEnum):
    """What became of a snapshot written to the shared store."""

    KEPT = "kept"
    OLDER = "older"
    """There is a newer one."""
    AHEAD = "ahead"
    """It comes from the future, and the stored one is not stale."""
    FENCED = "fenced"
    """Its writer no longer forecasts the workload, and the pod that does has written since."""
    REFUSED = "refused"
    """The key holds something else."""


@attrs.frozen
class Written:
    """What became of a snapshot, and the ``stamp`` of the one stored now."""

    outcome: WriteOutcome
    stamp: str


class SnapshotExchange(Protocol):
    """Where the processes of a fleet share their newest snapshots. All methods may raise StoreError."""

    async def write(self, writes: Sequence[SharedWrite]) -> Sequence[Written]:
        """Keep each snapshot unless there is a newer one, or one with a higher token.

        A stored snapshot dated in the future does not count as newer: a clock was set back. A new snapshot that is so
        far in the future, and so far ahead of the stored one, that it is stale does not replace a fresh one.
        """
        ...

    async def read(self, stamps: Mapping[str, str]) -> Mapping[str, Found]:
        """The snapshots of the workloads in ``stamps``, except those that still have the given stamp."""
        ...

    async def changes(self, since: int) -> Mapping[str, int]:
        """The workloads written after the moment ``since`` (0: all), each with the moment of its latest write."""
        ...


@attrs.frozen
class Membership:
    """The pods that share the work of a fleet. ``token`` grows whenever one joins or leaves."""

    token: int
    members: frozenset[str]


class MemberRegistry(Protocol):
    """Where the pods of a fleet register as alive. Both methods may raise StoreError."""

    async def renew(self, member: str, lease: float, token: int) -> Membership:
        """Count ``member`` among the pods for ``lease`` seconds from now; members with an expired lease are left out.

        ``token`` is the highest that the caller has seen. The new one is never lower, even if the store lost data.
        """
        ...

    async def leave(self, member: str) -> None:
        """Stop counting ``member`` immediately."""
        ...


class StateStore(Protocol):
    """Keeps what a restart must not lose, by workload. Every method may take long, but must not block the event loop.

    A state or a history is saved whole or not at all, and read as it was saved. Unreadable entries count as missing and
    are logged once. Each method raises `kedastral.errors.StoreError` if the store cannot be reached or written.

    In a store of several processes, saving also raises it, with reason ``older``, if another process has saved later. A
    save dated in the future does not count: its process has a wrong clock.
    """

    @property
    def unreadable(self) -> int:
        """How many states `load_all` found and could not read."""
        ...

    async def load_all(self) -> Mapping[str, KeptState]:
        """Every workload's state, by its key."""
        ...

    async def load(self, workload: str) -> KeptState | None:
        """The state of ``workload``, None if there is none."""
        ...

    async def save(self, state: KeptState) -> int:
        """Save ``state`` in place of the previous one; returns the bytes written."""
        ...

    async def load_history(self, workload: str) -> KeptHistory | None:
        """The history of ``workload``, None if there is none."""
        ...

    async def save_history(self, history: KeptHistory) -> int:
        """Save ``history`` in place of the previous one; returns the bytes written."""
        ...

    async def remove(self, workload: str) -> None:
        """Drop the state and the history of ``workload``, if there are any."""
        ...

    async def remove_unsaved(self, since: datetime, current: Collection[str]) -> int:
        """Drop the workloads last saved before ``since``, except ``current`` ones; returns how many were dropped.

        A store whose entries expire by themselves need not do anything.
        """
        ...


class WorkloadResolver(Protocol):
    """Finds the workload that KEDA asks for, and what the scaler must know about it."""

    async def find(self, ref: ObjectRef) -> str:
        """The key of the workload that ``ref`` names, once its snapshots are in memory.

        Raises UnknownWorkloadError, BadTriggerError, TooManyWorkloadsError, and RemoteError from a remote reader.
        """
        ...

    def policy_of(self, workload: str) -> StalePolicy:
        """When a snapshot of ``workload`` is stale, and what to answer then."""
        ...

    def failure_of(self, workload: str) -> Failure | None:
        """Why ``workload`` has no newer forecast; None if unknown."""
        ...

    def keep_alive(self, workload: str) -> None:
        """Note that KEDA asks for ``workload`` or streams it; otherwise a ScaledObject's own workload is removed."""
        ...

    def current_key(self, workload: str, namespace: str) -> str:
        """The current key of a workload for which `find` earlier returned ``workload``, in ``namespace``."""
        ...
