# SPDX-License-Identifier: Apache-2.0
"""The ports: what the services ask of the world, each a small interface with more than one implementation."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from kedastral.core.forecast import Forecast
from kedastral.core.planning.status import Failure
from kedastral.core.series import Series
from kedastral.core.serving import StalePolicy
from kedastral.core.snapshot import Snapshot
from kedastral.core.trigger import ObjectRef


class MetricSource(Protocol):
    """Where the load of one workload is read."""

    @property
    def name(self) -> str:
        """A short name, a label of metrics."""
        ...

    async def history(self, now: datetime) -> Series:
        """The load up to ``now`` over the source's window, newest last, holding at least one value.

        Raises `kedastral.errors.SourceError`: unreachable, refused, unusable, or too old to forecast from.
        """
        ...


class Model(Protocol):
    """A forecast model that computes in the process: pure, same input, same output."""

    @property
    def name(self) -> str:
        """The name it is chosen by."""
        ...

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """The load over the ``steps`` steps of ``history.step`` seconds that begin at ``made_at``.

        ``history`` may hold gaps, even be all gaps. Raises `kedastral.errors.ModelError` where no forecast can be made.
        """
        ...


@runtime_checkable
class TrainableModel(Model, Protocol):
    """A model that learns from a history once, slowly, and then forecasts quickly as the history goes on."""

    def recall(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """As `forecast`, but raises `kedastral.errors.NotFittedError` where it would have to learn first."""
        ...

    def learn(self, history: Series, made_at: datetime, steps: int) -> Sequence[Forecast]:
        """Learn, and give what it would have forecast in the last hours, oldest first, one for each of their steps.

        Each is made without the load that it forecasts. Raises `kedastral.errors.ModelError` as `forecast`.
        """
        ...


class Forecaster(Protocol):
    """Turns history into a forecast, wherever it computes: a `Model` in the process, or one over HTTP."""

    @property
    def name(self) -> str:
        """The name it is chosen by, a label of metrics."""
        ...

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """As `Model.forecast`; raises `kedastral.errors.ModelError`."""
        ...


class SnapshotReader(Protocol):
    """Where the scaler and the snapshot server read; always from memory, so that no answer ever waits."""

    def get(self, workload: str) -> Snapshot | None:
        """The newest snapshot of ``workload``, or None."""
        ...

    def newest(self) -> Mapping[str, Snapshot]:
        """The newest snapshot of every workload there is one for."""
        ...

    async def track(self, workload: str) -> None:
        """Keep ``workload``'s snapshots in memory from now on; a remote reader may wait a second for the first."""
        ...

    async def wait_for_change(self, *workloads: str) -> None:
        """Wait until the newest snapshot of one of ``workloads`` becomes another one, or is forgotten.

        Only what changes after the call counts. Nothing is missed between `get` and a call that follows at once.
        """
        ...


class SnapshotStore(SnapshotReader, Protocol):
    """Where the forecaster publishes."""

    async def put(self, snapshot: Snapshot) -> bool:
        """Keep ``snapshot`` unless a newer one of its workload is there already; says whether it was kept.

        Newer by more than a little skew is from before the clock was set back, and does not count.

        Raises `kedastral.errors.StoreError` for a snapshot without a workload's name, or when it cannot be kept.
        """
        ...

    def forget(self, workload: str) -> None:
        """Keep nothing of ``workload`` any more; nothing where there is nothing."""
        ...


class WorkloadResolver(Protocol):
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

    def keep_alive(self, workload: str) -> None:
        """Note that KEDA asks for ``workload``, or has a stream of it open; else a ScaledObject's own is removed."""
        ...

    def current_key(self, workload: str, namespace: str) -> str:
        """The key meant now, where `find` returned ``workload`` earlier to a ScaledObject of ``namespace``."""
        ...
