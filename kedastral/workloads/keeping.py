# SPDX-License-Identifier: Apache-2.0
"""`StateKeeper`: saves after each tick what a restart must not lose, and gives it back to the next process.

Saving is a task of its own, one workload after the other: a tick only says that there is something new. Where ticks
come faster than the store takes them, the newest state of each workload counts. Histories are large and change little,
so each is saved once it has been read and learnt from, and then once an hour, with what the model has learnt; what came
since is read from the data source again.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn

import attrs
import numpy as np
import trio

from kedastral import __version__
from kedastral.clock import WallClock
from kedastral.core.kept_state import KeptHistory, KeptModel, KeptState, adapt_state
from kedastral.core.ports import RestorableSource, SnapshotStore, StateStore
from kedastral.core.series import Floats
from kedastral.core.serving import Mode, Snapshot, decide
from kedastral.core.trigger import ObjectRef
from kedastral.errors import StoreError
from kedastral.serving.metrics import Metrics
from kedastral.workloads.runner import WorkloadRunner, workload_of
from kedastral.workloads.tick import TELL_AGAIN
from kedastral.workloads.ticker import spread
from kedastral.workloads.training import TrainedForecaster

HISTORY_EVERY = 3600.0
"""Seconds between two savings of a history: what a restart then reads again is one small request."""
INCOMPLETE_AFTER = 600.0
"""Seconds after which a history is saved for the first time although it has not been read in full."""
FORGET_AFTER = timedelta(days=7)
"""How long a workload that is gone is kept: over a weekend, and a rollback of the configuration."""
SWEEP_EVERY = 3600.0
SAVE_AT_THE_END = 2.0
"""Seconds that saving may take once the process has been told to stop."""

log = logging.getLogger("kedastral.state")


def _is_configured(_key: str) -> None:
    """No ScaledObject brought the workload."""


@attrs.define
class _Told:
    """What KEDA was told before the start, by a plan ``made_at``."""

    replicas: int
    made_at: datetime


@attrs.define(eq=False)
class StateKeeper:
    """Keeps the state of every workload of a process in ``states``, and its snapshots' and sources' beginning there.

    ``trigger_of`` gives the ScaledObject that brought a workload. `recall` comes before each tick of a workload and
    `note` after it; `run` saves. Where ``states`` fails, workloads go on as they would without.
    """

    states: StateStore
    snapshots: SnapshotStore
    clock: WallClock
    metrics: Metrics
    trigger_of: Callable[[str], ObjectRef | None] = _is_configured
    _recalled: dict[str, float] = attrs.field(factory=dict, init=False)
    _adapted: dict[str, KeptState] = attrs.field(factory=dict, init=False)
    _told: dict[str, _Told] = attrs.field(factory=dict, init=False)
    _unsaved: dict[str, WorkloadRunner] = attrs.field(factory=dict, init=False)
    _saved_history_at: dict[str, float] = attrs.field(factory=dict, init=False)
    _due: dict[str, Mapping[str, Floats] | None] = attrs.field(factory=dict, init=False)
    """The histories that are to be saved, with what the model has learnt."""
    _unread: set[str] = attrs.field(factory=set, init=False)
    """Workloads that began without what is kept of them, since ``states`` failed: it must not be overwritten unread."""
    _late: dict[str, KeptState] = attrs.field(factory=dict, init=False)
    """What was read of those later, until their next tick."""
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)
    _failing: tuple[str, float] | None = attrs.field(default=None, init=False)
    _failing_of: set[str] = attrs.field(factory=set, init=False)
    """The workloads whose newest saving failed."""

    def told_before(self, key: str) -> int | None:
        """What KEDA was told last of a workload before the start, until a plan has been made since; else None."""
        told, snapshot = self._told.get(key), self.snapshots.get(key)
        return told.replicas if told and (snapshot is None or snapshot.made_at <= told.made_at) else None

    async def load_all(self) -> Sequence[KeptState]:
        """Every state there is; none where the store fails, which is logged and counted."""
        try:
            return tuple((await self.states.load_all()).values())
        except StoreError as error:
            self._note_failure(error)
            return ()

    async def restore(self, runner: WorkloadRunner, state: KeptState) -> None:
        """Let KEDA be answered by ``state``, and ``runner`` go on from it; its history is read with `recall`."""
        workload = workload_of(runner.settings)
        adapted, published = adapt_state(state, runner.basis, workload), self.snapshots.get(runner.key)
        if published is not None and _counts_more(published, adapted.snapshot, runner.fingerprint):
            level = adapted.snapshot.service_level
            if published.service_level is not None or level is None:
                return
            # another pod's newest, which came without the state that it saved a tick before, or by these settings
            adapted = attrs.evolve(adapted, snapshot=attrs.evolve(published, service_level=level))
        await self.snapshots.put(adapted.snapshot)
        self._adapted[runner.key] = adapted
        if adapted.told is not None:
            self._told[runner.key] = _Told(adapted.told, adapted.snapshot.made_at)
        runner.series.restore(adapted.snapshot.lost_series, adapted.told_lately)
        runner.failed.answered = state.basis.load == runner.basis.load

    async def recall(self, runner: WorkloadRunner) -> None:
        """Give back what is kept of a workload before its first tick; before a later one only what came late."""
        key = runner.key
        if key in self._recalled:
            late = self._late.pop(key, None)
            if late is not None:
                await self._restore_late(runner, late)
            return
        self._recalled[key] = trio.current_time()
        try:
            state = self._adapted.get(key) or await self.states.load(key)
            if state is not None and key not in self._adapted:
                await self.restore(runner, state)
            await self._restore_source(runner)
        except StoreError as error:
            self._unread.add(key)
            self._note_failure(error, key)

    async def _restore_late(self, runner: WorkloadRunner, state: KeptState) -> None:
        """Let a workload that began anew go on with the steering, the budget and the errors of ``state``.

        What it has learnt of these since its start is given up, as if it had only been restarted now; its plan stays.
        """
        published = self.snapshots.previous(runner.key)
        kept = adapt_state(state, runner.basis, workload_of(runner.settings)).snapshot.service_level
        if kept is None or published is None or published.service_level is None:
            return
        now = published.service_level
        level = attrs.evolve(now.state, uncertainty=kept.state.uncertainty, steering=kept.state.steering)
        await self.snapshots.put(attrs.evolve(published, service_level=attrs.evolve(now, state=level)))

    async def _restore_source(self, runner: WorkloadRunner) -> None:
        source, state = runner.parts.source, self._adapted.pop(runner.key, None)
        if not isinstance(source, RestorableSource):
            return
        history = await self.states.load_history(runner.key)
        if history is not None and history.fits(runner.basis):
            # spread over the next hour, so that a thousand are not written at once after a start
            self._saved_history_at[runner.key] = trio.current_time() - spread(runner.key) * HISTORY_EVERY
        else:
            history = None
        source.restore(None if state is None else state.source, history)
        if history is not None and history.model is not None:
            _restore_model(runner, history.model)

    def note(self, runner: WorkloadRunner) -> None:
        """A tick of ``runner`` has ended: its state is to be saved, and where it is time its history and model."""
        source, forecaster = runner.parts.source, runner.parts.forecaster
        if isinstance(source, RestorableSource):
            can_learn = isinstance(forecaster, TrainedForecaster) and forecaster.is_restorable
            memory = forecaster.memory() if isinstance(forecaster, TrainedForecaster) else None  # nobody trains it now
            if self._is_due(runner.key, is_complete=source.progress >= 1 and (memory is not None or not can_learn)):
                self._due[runner.key] = memory
        self._unsaved[runner.key] = runner
        self.metrics.unsaved_states.set(len(self._unsaved))
        self._news.set()

    def release(self, key: str) -> None:
        """Forget that a workload ran here, which is gone; what is kept of it stays for `FORGET_AFTER`."""
        for known in (
            self._recalled, self._adapted, self._told, self._unsaved, self._saved_history_at, self._due, self._late,
        ):  # fmt: skip
            known.pop(key, None)
        self._unread.discard(key)
        self._failing_of.discard(key)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Save what ticks leave behind, until cancelled; then what is not saved yet, as far as there is time."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._remove_forgotten)
                task_status.started()
                while True:
                    await self._news.wait()
                    self._news = trio.Event()
                    await self._save_all()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_AT_THE_END):
                await self._save_all()

    async def _save_all(self) -> None:
        while self._unsaved:
            key = next(iter(self._unsaved))
            runner = self._unsaved.pop(key)
            self.metrics.unsaved_states.set(len(self._unsaved))
            try:
                await self._save(runner)
            except StoreError as error:
                self._note_failure(error, key)
            else:
                self._note_success(key)

    async def _save(self, runner: WorkloadRunner) -> None:
        if runner.key in self._unread:
            await self._read_late(runner.key)
        snapshot, source = self.snapshots.get(runner.key), runner.parts.source
        if snapshot is None or runner.key in self._late:
            return
        state = KeptState(
            workload=runner.key,
            saved_at=self.clock.now(),
            basis=runner.basis,
            snapshot=snapshot,
            told=_answer_of(snapshot, self.clock.now(), runner),
            source=source.kept_state() if isinstance(source, RestorableSource) else None,
            told_lately=runner.series.told,
            trigger=self.trigger_of(runner.key),
        )
        self._count("state", await self.states.save(state))
        if isinstance(source, RestorableSource) and runner.key in self._due:
            await self._save_history(runner, source, self._due.pop(runner.key))

    async def _read_late(self, key: str) -> None:
        """Read what could not be read before the first tick; the next one goes on from it, and is saved again."""
        state = await self.states.load(key)
        if key in self._unread:  # not released meanwhile
            self._unread.discard(key)
            if state is not None:
                self._late[key] = state

    def _is_due(self, key: str, *, is_complete: bool) -> bool:
        """Whether to save the history now."""
        now, saved_at = trio.current_time(), self._saved_history_at.get(key)
        if saved_at is not None:
            return now - saved_at >= HISTORY_EVERY / self.clock.speed
        return is_complete or now - self._recalled.get(key, now) >= INCOMPLETE_AFTER / self.clock.speed

    async def _save_history(
        self, runner: WorkloadRunner, source: RestorableSource, memory: Mapping[str, Floats] | None
    ) -> None:
        kept, basis = source.kept_history(), runner.basis
        if kept is None:
            return
        points, instant = kept
        model = None
        if memory is not None:
            model = KeptModel(forecaster=basis.forecaster, version=__version__, memory=memory)
        history = KeptHistory(
            workload=runner.key, source=basis.source, query=basis.query, start=points.start, step=points.step,
            values=points.values.astype(np.float32), instant=instant, model=model,
        )  # fmt: skip
        size = await self.states.save_history(history)
        self._saved_history_at[runner.key] = trio.current_time()
        self._count("history", size)

    def _count(self, kind: str, size: int) -> None:
        self.metrics.saved.labels(kind).inc()
        self.metrics.saved_bytes.labels(kind).inc(size)

    def _note_failure(self, error: StoreError, key: str | None = None) -> None:
        """Count ``error``, of one workload or of all, and log it as it begins or becomes another.

        Also every `TELL_AGAIN` seconds.
        """
        self.metrics.count_error(error)
        if key is not None:
            self._failing_of.add(key)
        now = trio.current_time()
        if self._failing is None or self._failing[0] != error.reason or now - self._failing[1] >= TELL_AGAIN:
            self._failing = (error.reason, now)
            log.warning("what a restart would need cannot be kept: %s", error)

    def _note_success(self, key: str) -> None:
        self._failing_of.discard(key)
        if self._failing is not None and not self._failing_of:
            log.info("what a restart would need is kept again")
            self._failing = None

    async def _remove_forgotten(self) -> NoReturn:
        while True:
            await trio.sleep(SWEEP_EVERY)  # by then those that are not gone have been recalled
            try:
                removed = await self.states.remove_unsaved(self.clock.now() - FORGET_AFTER, self._recalled.keys())
            except StoreError as error:
                self._note_failure(error)
            else:
                if removed:
                    log.info("removed what was kept of %d workloads that are gone", removed)


def _counts_more(published: Snapshot, kept: Snapshot, fingerprint: str) -> bool:
    """Whether ``published`` is newer than ``kept``, or alone of the two made by the settings of ``fingerprint``."""
    if fingerprint not in (published.fingerprint, kept.fingerprint) or published.fingerprint == kept.fingerprint:
        return published.made_at > kept.made_at
    return published.fingerprint == fingerprint


def _restore_model(runner: WorkloadRunner, kept: KeptModel) -> None:
    """Give the model what it has learnt, if it is the same model of the same version."""
    forecaster, same = (
        runner.parts.forecaster,
        (runner.basis.forecaster, __version__) == (kept.forecaster, kept.version),
    )
    if not same or not isinstance(forecaster, TrainedForecaster):
        return
    try:
        forecaster.restore(kept.memory)
    except ValueError as error:
        log.warning("the model learns anew: %s", error, extra={"workload": runner.key})


def _answer_of(snapshot: Snapshot, now: datetime, runner: WorkloadRunner) -> int | None:
    """What KEDA is told by ``snapshot``; None where that is no plan."""
    decision = decide(snapshot, now, runner.policy)
    return decision.replicas if decision.trusted and decision.mode is Mode.SCALE else None
