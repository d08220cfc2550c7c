# SPDX-License-Identifier: Apache-2.0
"""`Division`: which of the shared workloads this pod forecasts, and when it takes over those of another pod.

Each pod renews a lease on its membership, and every pod computes the owner of each workload from the same list of pods
(`share_out`); they agree on nothing but that list. The list's fencing token goes with each snapshot that is written, so
that a pod that was replaced while it slept can no longer write. What can go wrong, and what happens then:

- *A pod dies.* Its lease ends, the others see it at their next renewal, and at once take over what has become due.
- *A pod shuts down properly.* It leaves, and the others see that at their next renewal.
- *A pod sleeps longer than its lease.* It wakes without a lease: it forecasts nothing until it is a member again, and
  what it was about to write is refused.
- *A pod joins.* Until the others' next renewal two pods may forecast the same workload; the newcomer's token is higher,
  and what the other pod writes is refused.
- *A pod cannot reach the registry.* It stops forecasting when its lease ends, and serves its last plans. Once they are
  nearly stale it forecasts all workloads that it knows, since KEDA may ask it for any of them: it receives nothing from
  the others, and a stale plan helps nobody. Until it reconnects, its snapshots stay local.
- *The owner has other settings*, as in a rolling update, or a wrong clock, so that what it writes is not served here: a
  pod that knows the workload forecasts it too, at once if it has no better forecast.
- *Nobody forecasts a workload*, because its owner does not know it (its files are older, or a ScaledObject told another
  pod) or fails: a pod that knows it does, once its forecast is two intervals old.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence

import attrs
import trio

from kedastral.clock import WallClock
from kedastral.cooperative import TimeSlice
from kedastral.core.ports import MemberRegistry, Membership
from kedastral.errors import StoreError
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.shared_store import SharedStore

RENEWALS = 3
"""Renewals per lease, so that losing one does not matter."""
FIRST_WAIT = 3.0
"""Seconds that a starting pod waits to become a member."""
LEAVE_WITHIN = 1.0
"""Seconds that leaving may take."""
SLACK = 0.05
"""How much more than an equal share a pod may get, as a fraction of it: exact shares would move many workloads whenever
one is added."""
BEFORE_BEAT = 0.05
"""Waiting for a turn ends this share of an interval before the next beat, so that the beat is not missed."""
ABANDONED_AFTER = 2
"""Intervals without a forecast after which a workload counts as abandoned."""
UNFIT_AFTER = 1.25
"""The same if the workload is forecast under other settings or with a wrong clock. The first pod with these settings to
notice takes over for all of them, and the others see its forecasts in time; waiting by rank would take too long in a
large fleet."""
GIVE_WAY_AFTER = 2
"""Beats of a rescued workload after which this pod lets others go first: the owner may be forecasting it again at the
same moments, and this pod would overwrite its forecasts unseen. It does not give way while it sees unfit forecasts."""
GIVE_WAY_FOR = 0.25
"""The share of an interval that it then waits for them."""
NEARLY_STALE = 2.25
"""Intervals before a forecast becomes stale at which its pod continues without a lease. It checks once per interval; if
a check comes a moment too early there must be time for another, and for a forecast that is slow because all workloads
have theirs at once."""
TRY_AGAIN_AFTER = 10
"""Intervals before a workload is tried again that this pod could not forecast either."""

log = logging.getLogger("kedastral.division")


def rank_members(workload: str, members: Collection[str]) -> Sequence[str]:
    """``members`` in order of preference for ``workload``: few workloads move if a member joins or leaves."""

    def weigh(member: str) -> bytes:
        return hashlib.blake2b(f"{member}\0{workload}".encode(), digest_size=8).digest()

    return sorted(members, key=weigh, reverse=True)


def share_out(workloads: Collection[str], members: Collection[str]) -> Iterator[tuple[str, str]]:
    """Assign each of ``workloads`` to one of ``members``; none gets more than an equal share plus `SLACK`.

    Rendezvous hashing with bounded loads: each goes to the first of `rank_members` that has room. The result does not
    depend on the order of the arguments, so that all pods compute the same.
    """
    share = len(workloads) / max(len(members), 1)
    room = dict.fromkeys(members, math.ceil(share) + int(SLACK * share))
    for workload in sorted(workloads, key=lambda key: hashlib.blake2b(key.encode(), digest_size=8).digest()):
        owner = next((member for member in rank_members(workload, members) if room[member]), None)
        if owner is not None:
            room[owner] -= 1
            yield workload, owner


@attrs.frozen
class KnownWorkloads:
    """The workloads of a pod: those ``configured``, the same in all pods, and those ``from_scaledobjects``."""

    configured: Collection[str]
    from_scaledobjects: Collection[str] = ()


@attrs.frozen
class Turn:
    """A workload at its beat. ``interval`` and ``stale_after`` are in seconds; ``replaced`` ends the waiting.

    ``next_beat`` is when the next one comes, on Trio's clock.
    """

    workload: str
    interval: float
    stale_after: float
    next_beat: float
    replaced: trio.Event = attrs.field(factory=trio.Event)


async def _cancel_once(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


@attrs.define(eq=False)
class Division:
    """The share of one pod, ``member``. ``known`` returns the workloads that it currently knows."""

    registry: MemberRegistry
    member: str
    snapshots: SharedStore
    clock: WallClock
    metrics: Metrics
    storage: StorageMetrics
    lease: float = 10.0
    known: Callable[[], KnownWorkloads] = lambda: KnownWorkloads(())
    _membership: Membership | None = attrs.field(default=None, init=False)
    _until: float = attrs.field(default=-math.inf, init=False)
    _owners: dict[str, str] = attrs.field(factory=dict, init=False)
    _known_since: dict[str, float] = attrs.field(factory=dict, init=False)
    _rescuing: set[str] = attrs.field(factory=set, init=False)
    _rescued: dict[str, object] = attrs.field(factory=dict, init=False)
    _rescued_for: dict[str, int] = attrs.field(factory=dict, init=False)
    """Beats for which each has been rescued since another pod's unfit forecast was seen or this pod last gave way."""
    _giving_way: set[str] = attrs.field(factory=set, init=False)
    _not_before: dict[str, float] = attrs.field(factory=dict, init=False)
    _alone: set[str] = attrs.field(factory=set, init=False)
    _failing: bool = attrs.field(default=False, init=False)
    _joined: trio.Event = attrs.field(factory=trio.Event, init=False)
    _unassigned: trio.Event = attrs.field(factory=trio.Event, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def is_member(self) -> bool:
        """Whether this pod's lease holds."""
        return trio.current_time() < self._until

    def token(self) -> int:
        """The fencing token for what this pod writes now."""
        return 0 if self._membership is None else self._membership.token

    def reconsider(self) -> None:
        """Note that the workloads that this pod knows have changed."""
        self._unassigned.set()

    def is_mine(self, turn: Turn) -> bool:
        """Whether this pod should forecast the workload now."""
        workload = turn.workload
        self._known_since.setdefault(workload, trio.current_time())
        self._rescuing.discard(workload)
        if not self.is_member:
            return self._goes_on_alone(turn)
        if self._owners.get(workload) == self.member:
            return True
        if self._is_abandoned(turn):
            self._rescuing.add(workload)
        return workload in self._rescuing

    def has_other_owner(self, workload: str) -> bool:
        """Whether another pod has the workload; False while that is unknown, since this pod's lease has ended."""
        return self.is_member and self._owners.get(workload, self.member) != self.member

    async def wait_for_turn(self, turn: Turn) -> bool:
        """Wait, at most until its next beat, for a workload that is not this pod's to become so.

        Returns True as soon as it does and is due: an interval after the newest forecast, whoever made that. Returns
        False as soon as the turn is replaced.
        """
        comes = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_once, turn.replaced, nursery.cancel_scope)
            comes = await self._wait_to_be_due(turn)
            nursery.cancel_scope.cancel()
        return comes and not turn.replaced.is_set()

    async def _wait_to_be_due(self, turn: Turn) -> bool:
        """`wait_for_turn`, whether it is replaced or not."""
        end = turn.next_beat - BEFORE_BEAT * turn.interval
        if turn.workload in self._giving_way:
            self._giving_way.discard(turn.workload)
            await trio.sleep(GIVE_WAY_FOR * turn.interval)
            if trio.current_time() < end and self.is_mine(turn):
                return True
        while trio.current_time() < end:
            with trio.move_on_at(end):
                await self._changed.wait()
            if self.is_member and self._owners.get(turn.workload) == self.member:
                due = trio.current_time() + turn.interval - self._age(turn.workload)
                await trio.sleep_until(min(due, end))
                return due <= end and self.is_mine(turn)
        return False

    def note(self, turn: Turn) -> None:
        """Note that a tick of the workload has ended here."""
        workload = turn.workload
        self._rescued.pop(workload, None)
        if workload in self._rescuing:
            if self._has_fit(workload) and self._age(workload) <= turn.interval:
                self._rescued[workload] = self.snapshots.get(workload)
            else:
                self._not_before[workload] = trio.current_time() + TRY_AGAIN_AFTER * turn.interval

    def forget(self, workload: str) -> None:
        """Note that the workload is gone."""
        for kept in (self._known_since, self._rescued, self._rescued_for, self._not_before):
            kept.pop(workload, None)
        for workloads in (self._alone, self._rescuing, self._giving_way):
            workloads.discard(workload)

    def _is_abandoned(self, turn: Turn) -> bool:
        """Whether nobody forecasts the workload, so that this pod should; the higher it ranks, the sooner."""
        workload, snapshot = turn.workload, self.snapshots.get(turn.workload)
        if snapshot is not None and snapshot is self._rescued.get(workload):
            return self._is_still_needed(workload)
        if snapshot is None and workload in self.known().from_scaledobjects:
            return True
        is_due = trio.current_time() >= self._not_before.get(workload, -math.inf)
        if snapshot is not None and not self._has_fit(workload):
            self._rescued_for[workload] = 0
            return is_due
        if not self.snapshots.is_current:
            return False
        if self.snapshots.is_passed_over(workload):
            self._rescued_for[workload] = 0
            return is_due and self._age(workload) > UNFIT_AFTER * turn.interval
        assert self._membership is not None  # noqa: S101 - members have one
        others = [one for one in self._membership.members if one != self._owners.get(workload)]
        rank = 1 + rank_members(workload, others).index(self.member)
        patience = ABANDONED_AFTER * rank * turn.interval
        return is_due and self._age(workload) > patience

    def _is_still_needed(self, workload: str) -> bool:
        """Whether to continue with a rescued workload at this beat, having seen no other forecast of it."""
        beats = 0 if self.snapshots.is_passed_over(workload) else self._rescued_for.get(workload, 0) + 1
        self._rescued_for[workload] = beats % (GIVE_WAY_AFTER + 1)
        if beats > GIVE_WAY_AFTER:
            self._giving_way.add(workload)
        return beats <= GIVE_WAY_AFTER

    def _goes_on_alone(self, turn: Turn) -> bool:
        """Whether to forecast without a lease: once the last plan, whoever made it, is nearly stale."""
        workload = turn.workload
        old = max(turn.stale_after - NEARLY_STALE * turn.interval, 0.0)
        if not self._has_fit(workload) or self._age(workload) >= old:
            self._alone.add(workload)
        return workload in self._alone

    def _has_fit(self, workload: str) -> bool:
        """Whether there is a forecast that may be served like one of this pod's own."""
        snapshot = self.snapshots.get(workload)
        return snapshot is not None and self.snapshots.is_fit(snapshot)

    def _age(self, workload: str) -> float:
        """Seconds since the newest forecast was made, or since the workload became known if there is none."""
        snapshot = self.snapshots.get(workload)
        if snapshot is not None:
            return snapshot.age(self.clock.now())
        return trio.current_time() - self._known_since.get(workload, trio.current_time())

    # The membership.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stay a member until cancelled, then leave; ready once it is a member, or after `FIRST_WAIT` seconds."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_renewing)
                nursery.start_soon(self._keep_assigning)
                with trio.move_on_after(FIRST_WAIT):
                    await self._joined.wait()
                task_status.started()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_WITHIN):
                await self._leave()

    async def _leave(self) -> None:
        try:
            await self.registry.leave(self.member)
        except StoreError as error:
            log.info("could not leave cleanly; the others take over once the lease ends: %s", error)

    async def _keep_renewing(self) -> None:
        while True:
            began = trio.current_time()
            try:
                membership = await self.registry.renew(self.member, self.lease, self.token())
            except StoreError as error:
                self._note_failure(error)
                await trio.sleep(self.lease / RENEWALS / 4)
                continue
            self._note_success(membership, began + self.lease)  # ends no later than in the registry
            await trio.sleep_until(began + self.lease / RENEWALS)

    def _note_success(self, membership: Membership, until: float) -> None:
        had_lease, self._until = self.is_member, until
        self._alone.clear()
        before, self._membership = self._membership, membership
        if self._failing:
            self._failing = False
            log.info("shares the workloads with the other pods%s", "" if before is None else " again")
        self.storage.pods.set(len(membership.members))
        if not had_lease or before is None or before.members != membership.members:
            self._unassigned.set()

    def _note_failure(self, error: StoreError) -> None:
        self.metrics.count_error(error)
        if self._failing or self.is_member:
            return
        self._failing = True
        self.storage.pods.set(0)
        if self._membership is None:
            words = (
                "no lease could be taken since the start: this pod forecasts all workloads itself, except those with a "
                "recent forecast of another pod"
            )
        else:
            words = (
                "the lease has ended and cannot be renewed: this pod serves the last plans, and forecasts all "
                "workloads before those are stale"
            )
        log.warning(words, extra={"reason": error.reason, "err": str(error)})

    async def _keep_assigning(self) -> None:
        while True:
            await self._unassigned.wait()
            self._unassigned = trio.Event()
            if self._membership is not None:
                await self._assign(self._membership.members)
                self._joined.set()

    async def _assign(self, members: frozenset[str]) -> None:
        """Compute the owner of each workload, with pauses, and wake those that wait for their turn."""
        known, time_slice, owners = self.known(), TimeSlice(), dict[str, str]()
        for workload, owner in share_out(known.configured, members):
            owners[workload] = owner
            await time_slice.pause()
        for workload in known.from_scaledobjects:
            owners[workload] = rank_members(workload, members)[0]
            await time_slice.pause()
        self._owners = owners
        held = sum(owner == self.member for owner in owners.values())
        self.storage.held.set(held)
        log.info("forecasts %d of the %d workloads; pods that share them: %d", held, len(owners), len(members))
        changed, self._changed = self._changed, trio.Event()
        changed.set()
