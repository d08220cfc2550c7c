# SPDX-License-Identifier: Apache-2.0
"""`StateKeeper`: after each tick saves what a restart must not lose, and restores it in the next process.

A separate task saves one workload after the other: a tick only notes that there is something new. If ticks come faster
than the store can save, the newest state of each workload is saved. Histories are large and change little, so each is
saved once it has been read and learnt from, also when a reload has read it anew, and then once an hour, with what the
model has learnt. A restart reads the points since then from the data source.
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
from kedastral.core.planning.service_level import ServiceLevelReport
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.ports import RestorableSource, SnapshotStore, StateStore
from kedastral.core.series import HOUR, Floats
from kedastral.core.serving import told_by_plan
from kedastral.core.trigger import ObjectRef
from kedastral.errors import StoreError
from kedastral.logs import RepeatLimit, of_many
from kedastral.serving.metrics import Metrics
from kedastral.workloads.runner import WorkloadRunner
from kedastral.workloads.ticker import spread
from kedastral.workloads.training import TrainedForecaster

HISTORY_EVERY = HOUR
"""Seconds between two saves of a history: a restart then reads the rest in one small request."""
INCOMPLETE_AFTER = 600.0
"""Seconds after which a history is first saved even if it has not been read in full."""
FORGET_AFTER = timedelta(days=7)
"""How long the state of a removed workload is kept: over a weekend, or until the configuration is rolled back."""
SWEEP_EVERY = HOUR
CALIBRATED = 3 * HOUR
"""Seconds of judged forecasts; a restored state with fewer is calibrated anew, which judges those of six hours."""
SAVE_AT_THE_END = 2.0
"""Seconds that saving may take after the process was told to stop."""

READING = (
    "what a restart needs cannot be read, and is not overwritten until it can be",
    "what a restart needs is read again",
)
SAVING = ("what a restart needs cannot be saved", "what a restart needs is saved again")
REMOVING = (
    "the saved state of workloads that are gone cannot be removed",
    "the saved state of workloads that are gone is removed again",
)

MAX_OWN = 10
"""How many of the moments at which this process saved a state are kept, besides the newest."""

log = logging.getLogger("kedastral.state")


@attrs.define
class _Told:
    """What KEDA was told before the start, from a plan ``made_at``."""

    replicas: int
    made_at: datetime


@attrs.define(eq=False)
class _Access:
    """One way of using the saved states: logs when it begins to fail, with ``fails``, and when it works again."""

    metrics: Metrics
    fails: str
    works: str
    _warnings: RepeatLimit = attrs.field(factory=RepeatLimit, init=False)
    """Of each reason since it began to fail: a Redis that hangs gives two in turn."""
    _failing_of: set[str | None] = attrs.field(factory=set, init=False)
    """The workloads for which it failed last time; None stands for all of them."""

    def note_failure(self, error: StoreError, key: str | None = None) -> None:
        """Count ``error``, of one workload or of all. Log each reason when it starts, and every `REPEAT_AFTER` s."""
        self.metrics.count_error(error)
        self._failing_of.add(key)
        if self._warnings.is_due(error.reason):
            log.warning("%s: %s", self.fails, error)

    def note_success(self, key: str | None = None) -> None:
        """Note that it worked for a workload."""
        self._failing_of -= {key, None}
        if not self._failing_of and self._warnings.clear():
            log.info("%s", self.works)

    def release(self, key: str) -> None:
        """Forget a workload."""
        self._failing_of.discard(key)


@attrs.define(eq=False)
class StateKeeper:
    """Keeps the state of every workload of a process in ``states``, and restores snapshots and sources from there.

    ``trigger_of`` returns the ScaledObject that defined a workload, None if none did. ``show`` gets each restored
    snapshot with what KEDA was told before, for charts. Call `recall` before each tick of a workload and `note` after
    it; `run` saves. If ``states`` fails, workloads go on as they would without it.
    """

    states: StateStore
    snapshots: SnapshotStore
    clock: WallClock
    metrics: Metrics
    trigger_of: Callable[[str], ObjectRef | None] = lambda _key: None
    show: Callable[[Snapshot, Sequence[tuple[datetime, int]]], None] = lambda _snapshot, _told: None
    _recalled: dict[str, float] = attrs.field(factory=dict, init=False)
    _adapted: dict[str, KeptState] = attrs.field(factory=dict, init=False)
    _told: dict[str, _Told] = attrs.field(factory=dict, init=False)
    _unsaved: dict[str, WorkloadRunner] = attrs.field(factory=dict, init=False)
    """The workloads whose newest state is to be saved next."""
    _behind: set[str] = attrs.field(factory=set, init=False)
    """The workloads whose newest state is not saved: those, where that failed, and of these those without a turn."""
    _being_saved: str | None = attrs.field(default=None, init=False)
    _own: dict[str, tuple[datetime, ...]] = attrs.field(factory=dict, init=False)
    """When this process last saved the state of each workload, and when that failed since, which may still have written
    it: if that is what is read late, this process has newer state."""
    _saved_history_at: dict[str, float] = attrs.field(factory=dict, init=False)
    _saved_source: dict[str, object] = attrs.field(factory=dict, init=False)
    """The source whose history was saved: that of a successor reads it anew."""
    _due: dict[str, Mapping[str, Floats] | None] = attrs.field(factory=dict, init=False)
    """The histories to save, with what the model has learnt."""
    _unread: set[str] = attrs.field(factory=set, init=False)
    """Workloads that started without their saved state because ``states`` failed: it must be read before it is
    overwritten."""
    _late: dict[str, KeptState] = attrs.field(factory=dict, init=False)
    """The states of those workloads that were read later, until their next tick."""
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)
    _reading: _Access = attrs.field(init=False)
    _saving: _Access = attrs.field(init=False)
    _removing: _Access = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reading = _Access(self.metrics, *READING)
        self._saving = _Access(self.metrics, *SAVING)
        self._removing = _Access(self.metrics, *REMOVING)

    def told_before(self, key: str) -> int | None:
        """What KEDA was last told for a workload before the start; None once a plan has been made since."""
        told, snapshot = self._told.get(key), self.snapshots.get(key)
        return told.replicas if told and (snapshot is None or snapshot.made_at <= told.made_at) else None

    async def load_all(self) -> Sequence[KeptState]:
        """Every saved state; none if the store fails, which is logged and counted."""
        try:
            return tuple((await self.states.load_all()).values())
        except StoreError as error:
            self._reading.note_failure(error)
            return ()

    async def restore(self, runner: WorkloadRunner, state: KeptState) -> None:
        """Answer KEDA from ``state``, and let ``runner`` continue from it; its history is read by `recall`."""
        adapted, published = adapt_state(state, runner.basis, runner.workload), self.snapshots.get(runner.key)
        if published is not None and _counts_more(published, adapted.snapshot, runner.workload.fingerprint):
            level = adapted.snapshot.service_level
            if published.service_level is not None or level is None:
                return
            # the newest is another pod's and carries no state: take that saved a tick before or under these settings
            adapted = attrs.evolve(adapted, snapshot=attrs.evolve(published, service_level=level))
        await self.snapshots.put(adapted.snapshot)
        self._adapted[runner.key] = adapted
        _request_calibration(runner, adapted.snapshot.service_level)
        if adapted.told is not None:
            self._told[runner.key] = _Told(adapted.told, adapted.snapshot.made_at)
        observes = state.snapshot.mode is Mode.OBSERVE
        runner.series.restore(adapted.snapshot.findings.lost_series, adapted.told_lately, observes=observes)
        self.show(state.snapshot, state.told_lately)  # as it was planned, under whichever settings
        runner.failed.answered = state.basis.load == runner.basis.load

    async def recall(self, runner: WorkloadRunner) -> None:
        """Restore the saved state of a workload before its first tick; before later ones only what was read late."""
        key = runner.key
        if key in self._recalled:
            late = self._late.pop(key, None)
            if late is not None:
                self._restore_late(runner, late)
            return
        self._recalled[key] = trio.current_time()
        try:
            state = self._adapted.get(key) or await self.states.load(key)
            if state is not None and key not in self._adapted:
                await self.restore(runner, state)
            await self._restore_source(runner)
        except StoreError as error:
            self._unread.add(key)
            self._reading.note_failure(error, key)
        else:
            self._reading.note_success(key)

    def _restore_late(self, runner: WorkloadRunner, state: KeptState) -> None:
        """Let a workload that started without its state continue with the steering, budget and errors of ``state``.

        What it has learnt about these since its start is dropped, as if it had restarted just now; its plan stays.
        """
        published = self.snapshots.previous(runner.key)
        kept = adapt_state(state, runner.basis, runner.workload).snapshot.service_level
        if kept is None or published is None or published.service_level is None:
            return
        now = published.service_level
        level = attrs.evolve(now.state, uncertainty=kept.state.uncertainty, steering=kept.state.steering)
        report = attrs.evolve(now, state=level)
        self.snapshots.revise(runner.key, lambda own: attrs.evolve(own, service_level=report))
        _request_calibration(runner, report)

    async def _restore_source(self, runner: WorkloadRunner) -> None:
        source, state = runner.parts.source, self._adapted.pop(runner.key, None)
        if not isinstance(source, RestorableSource):
            return
        history = await self.states.load_history(runner.key)
        if history is not None and history.fits(runner.basis):
            # spread over the next hour, so that a thousand histories are not written at once after a start
            self._saved_history_at[runner.key] = trio.current_time() - spread(runner.key) * HISTORY_EVERY
            self._saved_source[runner.key] = source
        else:
            history = None
        # the state was adapted to a runner that may have been replaced before its first tick
        is_settled = state is not None and state.basis.same_settling(runner.basis)
        source.restore(state.source if state is not None and is_settled else None, history)
        if history is not None and history.model is not None:
            _restore_model(runner, history.model)

    def note(self, runner: WorkloadRunner) -> None:
        """Note that a tick of ``runner`` has ended: save its state and, if due, its history and model."""
        source, forecaster = runner.parts.source, runner.parts.forecaster
        if isinstance(source, RestorableSource):
            can_learn = isinstance(forecaster, TrainedForecaster) and forecaster.is_restorable
            memory = forecaster.memory() if isinstance(forecaster, TrainedForecaster) else None  # not in training now
            if self._is_due(runner.key, source, source.progress >= 1 and (memory is not None or not can_learn)):
                self._due[runner.key] = memory
        self._unsaved[runner.key] = runner
        self._behind.add(runner.key)
        self._show_unsaved()
        self._news.set()

    def release(self, key: str) -> None:
        """Forget a removed workload that ran here; its saved state stays for `FORGET_AFTER`."""
        self._forget_runner(key)
        self._own.pop(key, None)
        self._behind.discard(key)
        self._show_unsaved()
        self._saving.release(key)

    def hand_over(self, key: str, *, to_another: bool) -> None:
        """Forget a workload that is not this pod's turn: when it is again, another pod will have saved newer state.

        Until then its newest state counts as unsaved if it is, even while nobody has a turn. If it goes ``to_another``
        pod, that one continues from what was saved before, and the rest is lost.
        """
        self._forget_runner(key)
        if to_another and key in self._behind and key != self._being_saved:
            self.release(key)
            self.metrics.lost_states.inc()
            words = "another pod takes over before the newest state was saved, and continues from the last saved one"
            log.warning(words, extra=of_many(key))

    def _forget_runner(self, key: str) -> None:
        for known in (
            self._recalled, self._adapted, self._told, self._unsaved, self._saved_history_at, self._saved_source,
            self._due, self._late,
        ):  # fmt: skip
            known.pop(key, None)
        self._unread.discard(key)
        self._reading.release(key)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Save the state after ticks until cancelled; then save the rest, as far as there is time."""
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
            if key in self._unread:
                if not await self._may_be_saved(key, runner):
                    continue
                runner = self._unsaved.pop(key, runner)  # its next tick, or a successor's, may have ended meanwhile
            self._being_saved = key
            try:
                saved = await self._save(runner)
            except trio.Cancelled:  # the process ends: there is a little time to save it after all
                self._unsaved.setdefault(key, runner)
                raise
            except StoreError as error:
                self._saving.note_failure(error, self._unless_released(key))
            else:
                if saved:
                    self._saving.note_success(key)
                if key not in self._unsaved and key not in self._late:
                    self._behind.discard(key)
                    self._show_unsaved()
            finally:
                self._being_saved = None

    async def _may_be_saved(self, key: str, runner: WorkloadRunner) -> bool:
        """`_read_late`. If the process ends meanwhile, ``runner`` is saved after all if what it overwrites can be read.

        But not if it was released or handed over: then nothing is known of what it would overwrite.
        """
        try:
            return await self._read_late(key)
        except trio.Cancelled:
            if key in self._unread:
                self._unsaved.setdefault(key, runner)
            raise

    def _unless_released(self, key: str) -> str | None:
        """``key``, or None if its workload was released while the store was waited for: it has no later success."""
        return key if key in self._behind else None

    def _show_unsaved(self) -> None:
        self.metrics.unsaved_states.set(len(self._behind))

    async def _save(self, runner: WorkloadRunner) -> bool:
        """Save the state of ``runner`` and, if due, its history; returns whether there was anything to save."""
        snapshot, source = self.snapshots.get(runner.key), runner.parts.source
        if snapshot is None or runner.key in self._late:
            return False
        state = KeptState(
            workload=runner.key,
            saved_at=self.clock.now(),
            basis=runner.basis,
            snapshot=snapshot,
            told=told_by_plan(snapshot, self.clock.now(), runner.workload.stale),
            source=source.kept_state() if isinstance(source, RestorableSource) else None,
            told_lately=runner.series.told,
            trigger=self.trigger_of(runner.key),
        )
        # the first of many failures are enough: an outage has begun, and later ones write nothing
        self._own[runner.key] = (*self._own.get(runner.key, ())[:MAX_OWN], state.saved_at)
        self._count("state", await self.states.save(state))
        self._own[runner.key] = (state.saved_at,)
        if isinstance(source, RestorableSource) and runner.key in self._due:
            await self._save_history(runner, source, self._due.pop(runner.key))
        return True

    async def _read_late(self, key: str) -> bool:
        """Read what could not be read before the first tick; the next tick continues from it, and saving resumes.

        Returns whether its state may be saved now. It may not if the workload was released or handed over meanwhile:
        then nothing has been continued from what was read, which must not be overwritten.
        """
        try:
            state = await self.states.load(key)
        except StoreError as error:
            self._reading.note_failure(error, self._unless_released(key))
            return False
        self._reading.note_success(key)
        if key not in self._unread:
            return False
        self._unread.discard(key)
        if state is not None and state.saved_at not in self._own.get(key, ()):
            self._late[key] = state
        return True

    def _is_due(self, key: str, source: RestorableSource, is_complete: bool) -> bool:
        """Whether to save the history of ``source`` now."""
        now, saved_at = trio.current_time(), self._saved_history_at.get(key)
        if saved_at is not None and is_complete and self._saved_source.get(key) is not source:
            return True
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
        self._saved_source[runner.key] = source
        self._count("history", size)

    def _count(self, kind: str, size: int) -> None:
        self.metrics.saved.labels(kind).inc()
        self.metrics.saved_bytes.labels(kind).inc(size)

    async def _remove_forgotten(self) -> NoReturn:
        while True:
            await trio.sleep(SWEEP_EVERY)  # by then all current workloads have been recalled
            try:
                removed = await self.states.remove_unsaved(self.clock.now() - FORGET_AFTER, self._recalled.keys())
            except StoreError as error:
                self._removing.note_failure(error)
            else:
                self._removing.note_success()
                if removed:
                    log.info("removed the saved state of %d workloads that no longer exist", removed)


def _counts_more(published: Snapshot, kept: Snapshot, fingerprint: str) -> bool:
    """Whether ``published`` should win over ``kept``: it is newer, or only it was made under ``fingerprint``."""
    if fingerprint not in (published.fingerprint, kept.fingerprint) or published.fingerprint == kept.fingerprint:
        return published.made_at > kept.made_at
    return published.fingerprint == fingerprint


def _request_calibration(runner: WorkloadRunner, report: ServiceLevelReport | None) -> None:
    """Let the forecaster find the uncertainty anew if ``report``, to be continued from, has judged few forecasts.

    That of other windows was dropped, and the process before this one may have ended before it had found another.
    """
    forecaster = runner.parts.forecaster
    if not isinstance(forecaster, TrainedForecaster) or report is None:
        return
    if report.state.uncertainty.model.windows * runner.basis.step < CALIBRATED:
        forecaster.request_calibration()


def _restore_model(runner: WorkloadRunner, kept: KeptModel) -> None:
    """Restore what the model has learnt, if it is the same model and version."""
    forecaster, same = (
        runner.parts.forecaster,
        (runner.basis.forecaster, __version__) == (kept.forecaster, kept.version),
    )
    if not same or not isinstance(forecaster, TrainedForecaster):
        return
    try:
        forecaster.restore(kept.memory)
    except ValueError as error:
        log.warning("the model is trained again: %s", error, extra=of_many(runner.key))
