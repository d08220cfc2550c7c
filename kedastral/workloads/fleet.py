# SPDX-License-Identifier: Apache-2.0
"""`Fleet` runs a ticker for each workload of the process; `reconcile` brings a running fleet to its configuration."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

import attrs
import trio

from kedastral.cooperative import TimeSlice
from kedastral.core.failures import Failure
from kedastral.core.ports import SnapshotStore
from kedastral.errors import ConfigError
from kedastral.serving.metrics import Metrics
from kedastral.serving.shared_store import Terms
from kedastral.settings.fleet import WorkloadSettings
from kedastral.workloads.division import Division, Turn
from kedastral.workloads.keeping import StateKeeper
from kedastral.workloads.runner import RunnerBuilder, WorkloadRunner
from kedastral.workloads.ticker import Beats, run_ticker, spread


@attrs.define
class Slot:
    """The slot of one key: its runner (None: removed), and the replaced runners that are not closed yet, oldest first.

    At most one ticker runs for a key: if a replaced runner still ticks, it is the oldest of them. The state of the
    newest snapshot means what the settings of ``newest`` say: those of the runner that ticks now or ticked last.
    """

    runner: WorkloadRunner | None
    newest: WorkloadRunner
    replaced: deque[WorkloadRunner] = attrs.field(factory=deque)
    was_removed: bool = False
    """Whether the workload was removed since ``newest`` began to tick."""
    changed: trio.Event = attrs.field(factory=trio.Event)
    ticking: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def replace(self, successor: WorkloadRunner | None) -> None:
        """Put ``successor`` here.

        The previous runner's ticker ends with its tick, or at once if that reads a history that nobody uses anymore.
        """
        if self.runner is not None:
            self.replaced.append(self.runner)
        self.runner = successor
        self.was_removed |= successor is None
        self.changed.set()
        if self.replaced and self.replaced[0].reads_unused_history(successor):
            self.ticking.cancel()

    def take_over(self, runner: WorkloadRunner) -> None:
        """Let ``runner`` continue from what the runner before it has published."""
        if runner is not self.newest:
            runner.take_over(self.newest)
            self.newest = runner

    async def close_replaced(self) -> None:
        """Close all replaced runners, even those that never ticked, each with its successor."""
        while self.replaced:
            closing = self.replaced.popleft()
            await closing.close(self.replaced[0] if self.replaced else self.runner)


@attrs.define(eq=False)
class Fleet:
    """Runs a ticker for each workload, spread over the interval so that they do not all tick at once.

    A replaced runner finishes its tick, and its successor ticks right afterwards, from a state adapted to its settings
    as after a restart: two runners of one workload never tick at the same time, so the parts they share need no lock.
    A tick is only cancelled while it reads a history that the successor does not use, since it may hang there. The same
    holds for a removed workload, whose snapshot is forgotten. A ``keeper`` saves what a restart must not lose. With a
    ``division``, a workload only ticks here if it is this pod's turn among the pods that share the work.
    """

    store: SnapshotStore
    metrics: Metrics
    speed: float = 1.0
    keeper: StateKeeper | None = None
    division: Division | None = None
    _runners: dict[str, WorkloadRunner] = attrs.field(factory=dict, init=False)
    _settings: dict[str, WorkloadSettings] = attrs.field(factory=dict, init=False)
    _slots: dict[str, Slot] = attrs.field(factory=dict, init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)

    @property
    def runners(self) -> Mapping[str, WorkloadRunner]:
        """The current runner of each workload, by key."""
        return MappingProxyType(self._runners)

    @property
    def settings(self) -> Mapping[str, WorkloadSettings]:
        """The settings of each workload as they are configured now, by key.

        Where they were given, and which of them are defaults, may have changed since the runner was made from them.
        """
        return MappingProxyType(self._settings)

    def failing(self) -> Mapping[str, Failure]:
        """The failures of the workloads whose latest tick gave no forecast, by key."""
        found = ((key, runner.failed.value) for key, runner in list(self._runners.items()))
        return {key: failure for key, failure in found if failure is not None}

    def terms(self, key: str) -> Terms:
        """The conditions for serving a snapshot of the workload that another process made."""
        runner = self._runners.get(key)
        if runner is None:
            return Terms()
        return Terms(runner.workload.fingerprint, runner.workload.stale.stale_after)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tick for all runners, including those added later, until cancelled. What a tick raises propagates."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for key in self._slots:
                nursery.start_soon(self._run_slot, key)
            task_status.started()
            await trio.sleep_forever()

    def put(self, runner: WorkloadRunner) -> None:
        """Add ``runner``, or replace the one with its key."""
        key = runner.key
        self._runners[key], self._settings[key] = runner, runner.settings
        self.store.follow(key)
        self._reconsider()
        slot = self._slots.get(key)
        if slot is not None:
            slot.replace(runner)
            return
        self._slots[key] = Slot(runner, runner)
        if self._nursery is not None:
            self._nursery.start_soon(self._run_slot, key)

    def keep(self, settings: WorkloadSettings) -> None:
        """Keep the runner, which is current for ``settings``; from now on these say where each was given."""
        self._settings[settings.key] = settings

    def remove(self, key: str) -> None:
        """Remove the runner with ``key``; its snapshot is forgotten at once."""
        del self._runners[key], self._settings[key]
        self.store.forget(key)
        self._slots[key].replace(None)
        self._reconsider()

    def _reconsider(self) -> None:
        if self.division is not None:
            self.division.reconsider()

    async def _run_slot(self, key: str) -> None:
        slot = self._slots[key]
        await slot.close_replaced()
        while (runner := slot.runner) is not None:
            if slot.was_removed and self.keeper is not None:
                self.keeper.release(key)  # its snapshot is forgotten: it continues from the saved state
            slot.was_removed = False
            slot.take_over(runner)
            slot.changed = trio.Event()
            interval = runner.interval / self.speed
            offset = spread(key) * interval if len(self._slots) > 1 else 0.0
            beats = Beats.from_now(interval, offset)
            with trio.CancelScope() as slot.ticking:
                await run_ticker(
                    partial(self._tick, runner, beats, slot.changed),
                    beats,
                    self.metrics.ticks_missed.labels(key).inc,
                    until=slot.changed,
                    on_lag=self.metrics.tick_lag_seconds.observe,
                )
            await slot.close_replaced()
        if self.keeper is not None:
            self.keeper.release(key)
        if self.division is not None:
            self.division.forget(key)
        # from here on nothing awaits: whoever puts the key again finds either this slot's loop or no slot
        del self._slots[key]
        self.store.forget(key)
        self.metrics.forget_workload(key)

    async def _tick(self, runner: WorkloadRunner, beats: Beats, replaced: trio.Event) -> None:
        keeper, division = self.keeper, self.division
        stale_after = runner.workload.stale.stale_after
        turn = Turn(runner.key, beats.interval, stale_after, beats.next_after_now(), replaced)
        if division is not None and not division.is_mine(turn):
            if keeper is not None:
                keeper.hand_over(runner.key, to_another=division.has_other_owner(runner.key))
            if not await division.wait_for_turn(turn):
                return
        if keeper is not None:
            await keeper.recall(runner)
        await runner.tick_once()
        if keeper is not None:
            keeper.note(runner)
        if division is not None:
            division.note(turn)


@attrs.frozen
class Changes:
    """What `reconcile` did, by key."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@attrs.frozen
class _Built:
    """A new runner, and the one it was built to replace."""

    runner: WorkloadRunner
    before: WorkloadRunner | None


async def reconcile(
    fleet: Fleet,
    builder: RunnerBuilder,
    wanted: Mapping[str, WorkloadSettings],
    before: Iterable[str],
    on_configured: Callable[[str], None],
) -> Changes:
    """Replace the workloads of ``fleet`` with the keys ``before`` by those ``wanted`` (settings by key).

    A runner that is current stays as it is. ``on_configured`` is called with each wanted key once it is there. Others
    (ScaledObjects) may put and remove runners meanwhile, and KEDA is answered between any two steps. All new runners
    are built before the first one is put: a ConfigError leaves the fleet as it was. One call at a time.
    """
    obsolete = set(before) - set(wanted)
    built = await _build_all(fleet, builder, wanted)
    added: list[str] = []
    changed: list[str] = []
    for key, settings in wanted.items():
        now = fleet.runners.get(key)
        new = built.pop(key, None)
        if new is not None and new.before is not now:  # a ScaledObject was faster
            await new.runner.close(now)
            new = None
        if new is None and (now is None or not builder.is_current(now, settings)):
            new = _Built(builder.build(settings, now), now)
        if new is not None:
            (added if now is None else changed).append(key)
            fleet.put(new.runner)
        else:
            fleet.keep(settings)
        on_configured(key)
        await trio.lowlevel.checkpoint()  # spread the first ticks of new runners over turns of the event loop
    removed = sorted(key for key in obsolete if key in fleet.runners)
    for key in removed:
        fleet.remove(key)
        await trio.lowlevel.checkpoint()
    return Changes(tuple(added), tuple(sorted(changed)), tuple(removed))


async def _build_all(fleet: Fleet, builder: RunnerBuilder, wanted: Mapping[str, WorkloadSettings]) -> dict[str, _Built]:
    """New runners for all keys whose runner is missing or out of date. On a ConfigError none stays open."""
    built: dict[str, _Built] = {}
    time_slice = TimeSlice()
    try:
        for key, settings in wanted.items():
            await time_slice.pause()
            now = fleet.runners.get(key)
            if now is None or not builder.is_current(now, settings):
                built[key] = _Built(builder.build(settings, now), now)
    except ConfigError:
        for new in built.values():
            await new.runner.close(new.before)
        raise
    return built
