# SPDX-License-Identifier: Apache-2.0
"""The ports: small interfaces between the services and the outside world, each with more than one implementation."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import attrs

from kedastral.core.forecast import Forecast
from kedastral.core.kept_state import KeptHistory, KeptState, SourceState
from kedastral.core.planning.status import Failure
from kedastral.core.series import Floats, Series
from kedastral.core.serving import Snapshot, StalePolicy
from kedastral.core.trigger import ObjectRef


class MetricSource(Protocol):
    """Where the load of one workload is read."""

    @property
    def name(self) -> str:
        """A short name, used as a label of metrics."""
        ...

    async def history(self, now: datetime) -> Series:
        """The load up to ``now`` over the source's window, newest last; at least one value is not a gap.

        Raises `kedastral.errors.SourceError` where the source cannot be reached, rejects the query, or has no load that
        is new enough to forecast from.
        """
        ...


@runtime_checkable
class RestorableSource(MetricSource, Protocol):
    """A metric source whose history, and what it knows of its query, can be kept for the next process."""

    def kept_history(self) -> tuple[Series, bool] | None:
        """The newest points that have been read, and whether they are instant values; None where there are none.

        It is complete once nothing of the window is left to be read: see ``progress``.
        """
        ...

    @property
    def progress(self) -> float:
        """The share of the window that has been read: below 1 the backfill goes on."""
        ...

    def kept_state(self) -> SourceState:
        """What is known of the query beside its history."""
        ...

    def restore(self, state: SourceState | None, history: KeptHistory | None) -> None:
        """Go on from what another source of the same query and step kept; call it before the first reading.

        Only points after the history are read then, and those of its end that may have changed since.
        """
        ...


class Model(Protocol):
    """A forecast model in this process. It is pure: the same input gives the same output."""

    @property
    def name(self) -> str:
        """The name by which it is configured."""
        ...

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """The load over the ``steps`` steps of ``history.step`` seconds that begin at ``made_at``.

        ``history`` may hold gaps, even be all gaps. Raises `kedastral.errors.ModelError` where no forecast can be made.
        """
        ...


@runtime_checkable
class TrainableModel(Model, Protocol):
    """A model that is fitted to a history once, slowly, and then forecasts quickly as the history goes on."""

    def recall(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """As `forecast`, but raises `kedastral.errors.NotFittedError` where the model must be fitted first."""
        ...

    def learn(self, history: Series, made_at: datetime, steps: int) -> Sequence[Forecast]:
        """Fit the model; returns the forecasts it would have made in the last hours, one a step, oldest first.

        Each is made without the load that it forecasts. Raises `kedastral.errors.ModelError` as `forecast`.
        """
        ...


@runtime_checkable
class RestorableModel(TrainableModel, Protocol):
    """A model whose fit can be kept for the next process, which then need not fit it again."""

    def memory(self) -> Mapping[str, Floats] | None:
        """All that the model has learnt, as arrays of one dimension; None where it has not been fitted."""
        ...

    def restore(self, memory: Mapping[str, Floats]) -> None:
        """Go on from what `memory` returned, in the same version. Raises ValueError where it is of another model."""
        ...


class Forecaster(Protocol):
    """Turns history into a forecast, by a `Model` in this process or by one over HTTP."""

    @property
    def name(self) -> str:
        """The name by which it is configured, used as a label of metrics."""
        ...

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """As `Model.forecast`; raises `kedastral.errors.ModelError`."""
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
        """Keep ``workload``'s snapshots in memory from now on. A remote reader may wait a second for the first."""
        ...

    async def wait_for_change(self, *workloads: str) -> None:
        """Wait until the newest snapshot of one of ``workloads`` is replaced or forgotten.

        Only changes after the call count. A caller that awaits it right after `get` misses none.
        """
        ...


class SnapshotStore(SnapshotReader, Protocol):
    """Where the forecaster publishes snapshots."""

    async def put(self, snapshot: Snapshot) -> bool:
        """Keep ``snapshot`` unless there is a newer one of its workload; returns whether it was kept.

        A snapshot that is newer by more than a small skew was made before the clock was set back, and is replaced.

        Raises `kedastral.errors.StoreError` for a snapshot without a workload's name, or when it cannot be kept.
        """
        ...

    def forget(self, workload: str) -> None:
        """Drop the snapshot of ``workload``, if there is one; other processes keep theirs."""
        ...

    def follow(self, workload: str) -> None:
        """Have what other processes publish of ``workload`` in memory too, until it is forgotten."""
        ...

    def previous(self, workload: str) -> Snapshot | None:
        """The snapshot that the next one of ``workload`` goes on from: this process's own, else one that was found."""
        ...


@attrs.frozen
class SharedWrite:
    """A snapshot to be written where processes share them, with the ``token`` of the moment when it was made.

    It is stale ``stale_after`` seconds after that moment, or before it.
    """

    snapshot: Snapshot
    token: int = 0
    stale_after: float = math.inf


@attrs.frozen
class Found:
    """A snapshot that was found where processes share them; ``stamp`` changes with each that is written."""

    snapshot: Snapshot
    stamp: str


class WriteOutcome(StrEnum):
    """What became of a snapshot that was written where processes share them."""

    KEPT = "kept"
    OLDER = "older"
    """There is a newer one."""
    AHEAD = "ahead"
    """It comes from the future, and there is one that is not stale."""
    FENCED = "fenced"
    """Its writer no longer forecasts the workload, and whoever does has written since."""
    REFUSED = "refused"
    """Something else is in its place."""


@attrs.frozen
class Written:
    """What became of a snapshot, and the ``stamp`` of the one that is there now."""

    outcome: WriteOutcome
    stamp: str


class SnapshotExchange(Protocol):
    """Where the processes of a fleet keep their newest snapshots for each other. All may raise StoreError."""

    async def write(self, writes: Sequence[SharedWrite]) -> Sequence[Written]:
        """Keep each snapshot unless there is a newer one, or one with a higher token.

        A snapshot that was made in what is the future by now does not count as newer: a clock was set back. One that is
        stale since it comes from the future, and from as long after the one that is there, replaces none that is not.
        """
        ...

    async def read(self, stamps: Mapping[str, str]) -> Mapping[str, Found]:
        """The snapshots of the workloads in ``stamps``, but for those that are there with the stamp given."""
        ...

    async def changes(self, since: int) -> Mapping[str, int]:
        """The workloads written after the moment ``since`` (0: all), each with the moment of its last write."""
        ...


@attrs.frozen
class Membership:
    """The pods that share the work of a fleet. ``token`` grows whenever one joins or leaves."""

    token: int
    members: frozenset[str]


class MemberRegistry(Protocol):
    """Where the pods of a fleet say that they are alive. Both methods may raise StoreError."""

    async def renew(self, member: str, lease: float, token: int) -> Membership:
        """Count ``member`` among the pods for ``lease`` seconds from now on; whose lease has ended is left out.

        ``token`` is the highest the caller has seen. The new one is never below it, whatever was lost meanwhile.
        """
        ...

    async def leave(self, member: str) -> None:
        """Do not count ``member`` any more, at once."""
        ...


class StateStore(Protocol):
    """Where what a restart must not lose is kept, by workload. Every method may wait, but not on the event loop.

    A state or a history is kept whole or not at all, and read as it was saved. What cannot be read counts as missing,
    and is logged once. Each method raises `kedastral.errors.StoreError` where the store cannot be reached or written.
    """

    async def load_all(self) -> Mapping[str, KeptState]:
        """Every workload's state, by its key."""
        ...

    async def load(self, workload: str) -> KeptState | None:
        """The state of ``workload``, None where there is none."""
        ...

    async def save(self, state: KeptState) -> int:
        """Keep ``state`` in place of the one before; returns the bytes written."""
        ...

    async def load_history(self, workload: str) -> KeptHistory | None:
        """The history of ``workload``, None where there is none."""
        ...

    async def save_history(self, history: KeptHistory) -> int:
        """Keep ``history`` in place of the one before; returns the bytes written."""
        ...

    async def remove(self, workload: str) -> None:
        """Drop the state and the history of ``workload``, if there are any."""
        ...

    async def remove_unsaved(self, since: datetime, current: Collection[str]) -> int:
        """Drop the workloads last saved before ``since``, except ``current`` ones; returns how many that were.

        A store that lets entries expire by itself need not do anything.
        """
        ...


class WorkloadResolver(Protocol):
    """Finds the workload that KEDA asks for, and what the scaler must know of it."""

    async def find(self, ref: ObjectRef) -> str:
        """The key of the workload that ``ref`` means, once its snapshots are at hand.

        Raises UnknownWorkloadError, BadTriggerError, TooManyWorkloadsError, and RemoteError of a remote reader.
        """
        ...

    def policy_of(self, workload: str) -> StalePolicy:
        """When a snapshot of ``workload`` is stale, and what is answered then."""
        ...

    def failure_of(self, workload: str) -> Failure | None:
        """Why ``workload`` has no newer forecast; None where that is not known."""
        ...

    def keep_alive(self, workload: str) -> None:
        """Note that KEDA asks for ``workload`` or has a stream of it; else a ScaledObject's own workload is removed."""
        ...

    def current_key(self, workload: str, namespace: str) -> str:
        """The key of today, where `find` returned ``workload`` earlier to a ScaledObject of ``namespace``."""
        ...
