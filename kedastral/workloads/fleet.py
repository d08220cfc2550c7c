# SPDX-License-Identifier: Apache-2.0
"""`Fleet`: the workloads of one running process, a ticker each; they come, change and go while it runs."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import trio

from kedastral.core.planning.status import Failure, LastFailure
from kedastral.core.ports import SnapshotStore
from kedastral.core.serving import StalePolicy
from kedastral.errors import ConfigError
from kedastral.serving.metrics import Metrics
from kedastral.workloads.ticker import run_ticker

log = logging.getLogger("kedastral.fleet")


def _never(_successor: "WorkloadRunner | None") -> bool:
    return False


@attrs.frozen(eq=False)
class WorkloadRunner:
    """One workload as it runs now: its tick, how often, in seconds of wall time, and what holds when it is stale.

    ``settings`` are what it was made from. ``close`` gives back what it alone uses, and is told who comes after it,
    None for nobody. ``failed`` is why its newest tick gave no forecast. ``reads_in_vain`` is told who comes after it
    too, and says whether the tick that is under way, if any, only reads what that one has no use for: then it may be
    cancelled.
    """

    key: str
    settings: object
    tick: Callable[[], Awaitable[None]]
    interval: float
    policy: StalePolicy
    close: Callable[["WorkloadRunner | None"], Awaitable[None]]
    parts: Any = None
    failed: LastFailure = attrs.field(factory=LastFailure)
    reads_in_vain: Callable[["WorkloadRunner | None"], bool] = _never


def has_settings(member: WorkloadRunner, settings: object) -> bool:
    """Whether ``member`` was made from equal settings."""
    return member.settings == settings


@attrs.define
class Slot:
    """A key's place: who sits in it now, None for nobody, and who sat there before and is not closed yet, oldest first.

    Where a ticker runs for one of the latter, it is the oldest's.
    """

    member: WorkloadRunner | None
    displaced: deque[WorkloadRunner] = attrs.field(factory=deque)
    look_again: trio.Event = attrs.field(factory=trio.Event)
    ticking: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def give_to(self, successor: WorkloadRunner | None) -> None:
        """Let ``successor`` sit here, and the ticker of the one before end with its tick, or at once."""
        if self.member is not None:
            self.displaced.append(self.member)
        self.member = successor
        self.look_again.set()
        if self.displaced and self.displaced[0].reads_in_vain(successor):
            self.ticking.cancel()

    async def close_displaced(self) -> None:
        """Close all that sat here before, each for the one after it, those that never ticked too."""
        while self.displaced:
            gone = self.displaced.popleft()
            await gone.close(self.displaced[0] if self.displaced else self.member)


@attrs.define(eq=False)
class Fleet:
    """Runs a ticker for every member, spread over the interval so that they do not all tick at once.

    A member that is replaced finishes its tick, and its successor ticks next, at once: never two of one workload at a
    time, so that what a successor takes over of its parts is its own. Only a reading that is in vain is given up: it
    may hang where the successor does not read. So it is with one that is removed, and its snapshot is forgotten.
    """

    store: SnapshotStore
    metrics: Metrics
    speed: float = 1.0
    _members: dict[str, WorkloadRunner] = attrs.field(factory=dict, init=False)
    _seats: dict[str, Slot] = attrs.field(factory=dict, init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)

    @property
    def members(self) -> Mapping[str, WorkloadRunner]:
        """All members by key."""
        return MappingProxyType(self._members)

    def failing(self) -> Mapping[str, Failure]:
        """Why they fail, by key, of all members that do now."""
        found = ((key, member.failed.value) for key, member in list(self._members.items()))
        return {key: failure for key, failure in found if failure is not None}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tick for all members, those that are put later too, until cancelled. What leaves a tick leaves here."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for key in self._seats:
                nursery.start_soon(self._live, key)
            task_status.started()
            await trio.sleep_forever()

    def put(self, member: WorkloadRunner) -> None:
        """Take ``member`` in, in the place of the one with its key, if there is one."""
        self._members[member.key] = member
        seat = self._seats.get(member.key)
        if seat is not None:
            seat.give_to(member)
            return
        self._seats[member.key] = Slot(member)
        if self._nursery is not None:
            self._nursery.start_soon(self._live, member.key)

    def remove(self, key: str) -> None:
        """Let the member with ``key`` go; its snapshot is forgotten at once."""
        del self._members[key]
        self.store.forget(key)
        self._seats[key].give_to(None)

    async def _live(self, key: str) -> None:
        seat = self._seats[key]
        await seat.close_displaced()
        while (member := seat.member) is not None:
            seat.look_again = trio.Event()
            with trio.CancelScope() as seat.ticking:
                await run_ticker(
                    member.tick,
                    member.interval / self.speed,
                    self.metrics.ticks_missed.labels(key).inc,
                    offset=spread(key) * member.interval / self.speed if len(self._seats) > 1 else 0.0,
                    until=seat.look_again,
                    on_lag=self.metrics.tick_lag_seconds.observe,
                )
            await seat.close_displaced()
        # from here to the end nothing waits: whoever puts the key again finds either this seat's loop or none
        del self._seats[key]
        self.store.forget(key)
        self.metrics.forget_workload(key)


def spread(key: str) -> float:
    """Where in the interval ``key`` ticks, from 0 up to 1: the same in every process, even over many keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest()) / 2**48


# --- `reconcile`: a running fleet becomes what is wanted, in pieces between which KEDA is answered.

AT_ONCE = 0.001
"""Seconds of work before everybody else has a turn. With thousands of workloads all of it takes a second."""


Make = Callable[[str, WorkloadRunner | None], WorkloadRunner]
"""Makes the member with a key, after the one that had it before."""


@attrs.frozen
class Changes:
    """What `reconcile` did, by key."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@attrs.define
class TimeSlice:
    """Long work on the event loop, in pieces of `AT_ONCE`; ask for a `rest` between any two of its steps."""

    _began: float = attrs.field(factory=time.perf_counter, init=False)

    async def rest(self) -> None:
        """Let the others run if it has been long enough."""
        if time.perf_counter() - self._began >= AT_ONCE:
            await trio.lowlevel.checkpoint()
            self._began = time.perf_counter()


@attrs.frozen
class _Made:
    """A member that is to come after ``before``."""

    member: WorkloadRunner
    before: WorkloadRunner | None


async def reconcile(
    fleet: Fleet,
    wanted: Mapping[str, Any],
    make: Make,
    among: Iterable[str],
    fits: Callable[[WorkloadRunner, Any], bool],
    resolve: Callable[[str], None],
) -> Changes:
    """Make the members of ``fleet`` with the keys ``among`` those that are ``wanted``, settings by key.

    A member that still ``fits`` stays as it is; ``resolve`` hears of each wanted key that is there. Others may put
    members meanwhile. All new members are made before the first is put: a ConfigError of ``make`` leaves the fleet as
    it was. Not to be called twice at a time.
    """
    gone = set(among) - set(wanted)
    made = await _make_all(fleet, wanted, make, fits)
    added: list[str] = []
    changed: list[str] = []
    for key, settings in wanted.items():
        before = fleet.members.get(key)
        one = made.pop(key, None)
        if one is not None and one.before is not before:  # a ScaledObject was quicker
            await one.member.close(before)
            one = None
        if one is None and (before is None or not fits(before, settings)):
            one = _Made(make(key, before), before)
        if one is not None:
            (added if before is None else changed).append(key)
            fleet.put(one.member)
        resolve(key)
        await trio.lowlevel.checkpoint()  # each newcomer's first tick has a turn of its own
    removed = sorted(key for key in gone if key in fleet.members)
    for key in removed:
        fleet.remove(key)
        await trio.lowlevel.checkpoint()
    return Changes(tuple(added), tuple(sorted(changed)), tuple(removed))


async def _make_all(
    fleet: Fleet, wanted: Mapping[str, Any], make: Make, fits: Callable[[WorkloadRunner, Any], bool]
) -> dict[str, _Made]:
    made: dict[str, _Made] = {}
    pieces = TimeSlice()
    try:
        for key, settings in wanted.items():
            await pieces.rest()
            before = fleet.members.get(key)
            if before is None or not fits(before, settings):
                made[key] = _Made(make(key, before), before)
    except ConfigError:
        for one in made.values():
            await one.member.close(one.before)
        raise
    return made
