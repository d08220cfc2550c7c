# SPDX-License-Identifier: Apache-2.0
"""`FleetResolver`: finds a ScaledObject's workload among the fleet's, and takes in those that ScaledObjects bring."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import attrs
import trio

from kedastral.core.planning.status import Failure
from kedastral.core.serving import OnStale, StalePolicy
from kedastral.core.trigger import ObjectRef, is_of_variable, said_key
from kedastral.errors import BadTriggerError, ConfigError, TooManyWorkloadsError, UnknownWorkloadError
from kedastral.workloads.fleet import Fleet, TimeSlice, WorkloadRunner, has_settings
from kedastral.workloads.resolver import pick_workload

FORGET_AFTER = 3600.0
"""Seconds after which a ScaledObject's workload that KEDA does not ask for is forgotten; KEDA polls every 30."""
SWEEP_EVERY = 60.0
FIRST_WAIT = 1.0
"""Seconds that the first questions about a new workload may wait for its first forecast."""
MOST_REPLACED = 20
FLAPS_WITHIN = 60.0
"""Seconds within which metadata that were replaced and come back are two triggers taking turns, no change of mind."""
MOST_TOLD, LONGEST_TOLD = 8, 300
OFF = (
    "the trigger metadata describe a workload of their own, which is switched off here: start kedastral with "
    "--allow-scaledobject-workloads, or name a configured one in metadata 'workload' and leave the rest away"
)

log = logging.getLogger("kedastral.fleet")


class Described(Protocol):
    """Settings of one workload, as far as they matter here."""

    @property
    def key(self) -> str:
        """What it is known by."""
        ...


D = TypeVar("D", bound=Described)


@attrs.define
class _Adopted:
    """A workload that a ScaledObject brought, and the metadata it was made from."""

    owner: tuple[str, str]
    ref: ObjectRef
    asked_at: float
    began_at: float
    replaced: list[tuple[float, ObjectRef]] = attrs.field(factory=list)


@attrs.frozen
class Adoption(Generic[D]):
    """How ScaledObjects bring workloads: ``read`` their metadata, ``make`` a member of that, ``most`` at a time.

    ``read`` raises ConfigError for metadata that cannot be used.
    """

    read: Callable[[ObjectRef], D]
    make: Callable[[D, WorkloadRunner | None], WorkloadRunner]
    most: int
    fits: Callable[[WorkloadRunner, D], bool] = has_settings


@attrs.define(eq=False)
class FleetResolver:
    """A `kedastral.core.ports.WorkloadResolver` over a fleet; without ``adoption`` ScaledObjects bring nothing.

    ``brings`` says whether metadata make a workload of the ScaledObject's own, ``describes`` whether they try to: the
    latter only matters where no configured one is meant.

    A question costs O(1), and the reading of its metadata when they are new.
    """

    fleet: Fleet
    brings: Callable[[Mapping[str, str]], bool]
    describes: Callable[[Mapping[str, str]], bool]
    adoption: Adoption[Any] | None = None
    _adopted: dict[str, _Adopted] = attrs.field(factory=dict, init=False)
    _keys: dict[tuple[str, str, str], str] = attrs.field(factory=dict, init=False)

    async def find(self, ref: ObjectRef) -> str:
        """See `kedastral.core.ports.WorkloadResolver.find`."""
        await trio.lowlevel.checkpoint()
        if self.adoption is not None and self.brings(ref.metadata):
            key = await self._wait_for_first(self._find_adopted(ref))
            self._require_query(key)
            return key
        try:
            key = pick_workload(ref, self.fleet.members.keys() if ref.workload else self._by_default(ref))
        except (UnknownWorkloadError, BadTriggerError) as error:
            if not self.describes(ref.metadata):
                raise
            if self.adoption is None:
                raise BadTriggerError(OFF) from error
            return self._find_adopted(ref)  # without a query: it will say all that is missing
        self.note_asked(key)
        return key

    def _by_default(self, ref: ObjectRef) -> Collection[str]:
        """What ``ref`` may mean that names nothing: who describes a workload does not mean somebody else's."""
        return () if self.describes(ref.metadata) else self.configured

    def policy_of(self, workload: str) -> StalePolicy:
        """See `kedastral.core.ports.WorkloadResolver.policy_of`; of one that is gone nothing is known."""
        member = self.fleet.members.get(workload)
        return StalePolicy(on_stale=OnStale.ERROR) if member is None else member.policy

    def failure_of(self, workload: str) -> Failure | None:
        """See `kedastral.core.ports.WorkloadResolver.failure_of`."""
        member = self.fleet.members.get(workload)
        return None if member is None or member.failed.value is None else self._as_shown(workload, member.failed.value)

    def still_meant(self, workload: str, namespace: str) -> str:
        """See `kedastral.core.ports.WorkloadResolver.still_meant`."""
        del namespace
        return workload

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Forget those that nobody asks for, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(SWEEP_EVERY)
            self.forget_unasked()

    def forget_unasked(self) -> None:
        """Let go of the workloads that were not asked for lately."""
        now = trio.current_time()
        for key in [key for key, one in self._adopted.items() if now - one.asked_at >= FORGET_AFTER]:
            log.info("forgotten: KEDA has not asked for it in an hour", extra={"workload": key})
            self._let_go(key)

    async def read_again(self) -> None:
        """Make every ScaledObject's workload anew, as far as what it refers to has changed."""
        pieces = TimeSlice()
        for key, one in list(self._adopted.items()):
            await pieces.rest()
            if self._adopted.get(key) is not one:  # gone meanwhile
                continue
            try:
                asked_at = one.asked_at
                self._adopt(one.ref)
                one.asked_at = asked_at  # it was not KEDA who asked
            except (ConfigError, BadTriggerError) as error:
                log.warning("a ScaledObject's workload cannot be kept", extra={"workload": key, "err": str(error)})
                self._let_go(key)

    @property
    def configured(self) -> frozenset[str]:
        """The keys that no ScaledObject brought."""
        return frozenset(self.fleet.members.keys() - self._adopted.keys())

    def hand_over(self, keys: Iterable[str]) -> None:
        """Have nothing more to do with ``keys``, which are configured from now on; their members stay."""
        for key in self._adopted.keys() & set(keys):
            self._drop(key)

    async def _wait_for_first(self, key: str) -> str:
        """Wait a moment for the first forecast of one that was only just taken in, as after a restart it is again.

        KEDA would be told the default minimum meanwhile. Its questions have 3 s in all.
        """
        began = self._adopted[key].began_at
        with trio.move_on_at(began + FIRST_WAIT):
            while self.fleet.store.get(key) is None and self.failure_of(key) is None:  # noqa: ASYNC110 - no event
                await trio.sleep(FIRST_WAIT / 50)
        return key

    def _require_query(self, key: str) -> None:
        """Raise where Prometheus refuses a query that has never given a forecast: it is wrong as other metadata are."""
        member = self.fleet.members.get(key)
        failure = (
            None
            if member is None
            else member.failed.refused_from_the_start(has_plan=self.fleet.store.get(key) is not None)
        )
        if failure is not None:
            raise BadTriggerError(self._as_shown(key, failure).words)

    def _as_shown(self, key: str, failure: Failure) -> Failure:
        """``failure`` without what Prometheus says of a query that stood in a variable: it quotes the query."""
        adopted = self._adopted.get(key)
        hidden = adopted is not None and is_of_variable(said_key(adopted.ref.metadata, "query"))
        return attrs.evolve(failure, refusal="") if hidden else failure

    def _find_adopted(self, ref: ObjectRef) -> str:
        known = self._keys.get((ref.namespace, ref.name, ref.workload))
        if known is not None and self._adopted[known].ref.metadata == ref.metadata:
            self.note_asked(known)
            return known
        try:
            return self._adopt(attrs.evolve(ref, metadata=dict(ref.metadata)))
        except ConfigError as error:
            raise BadTriggerError("; ".join(_first(error.problems))) from error

    def _adopt(self, ref: ObjectRef) -> str:
        assert self.adoption is not None  # noqa: S101 - only called with one
        settings: Described = self.adoption.read(ref)
        key, now = settings.key, trio.current_time()
        before, member = self._adopted.get(key), self.fleet.members.get(key)
        self._require_free(key, ref, settings)
        if member is None or not self.adoption.fits(member, settings):
            self.fleet.put(self.adoption.make(settings, member))
            words = "taken in" if member is None else "changed"
            log.info("%s, as ScaledObject %s/%s says", words, ref.namespace, ref.name, extra={"workload": key})
        if before is None:
            self._adopted[key] = _Adopted((ref.namespace, ref.name), ref, now, now)
        elif before.owner == (ref.namespace, ref.name) and before.ref.metadata != ref.metadata:
            before.replaced = [*_lately(before.replaced, now), (now, before.ref)]
            before.ref = ref
        self._keys[ref.namespace, ref.name, ref.workload] = key
        self.note_asked(key)
        return key

    def _require_free(self, key: str, ref: ObjectRef, settings: Described) -> None:
        """Raise unless ``ref`` may bring the workload with ``key``."""
        before, member = self._adopted.get(key), self.fleet.members.get(key)
        if member is not None and before is None:
            raise BadTriggerError(
                f"workload {key!r} is configured here already: leave all metadata but 'workload' away to use it"
            )
        if before is None:
            if self.adoption is not None and len(self._adopted) >= self.adoption.most:
                raise TooManyWorkloadsError(f"ScaledObjects have brought {self.adoption.most} workloads already")
            return
        if member is None or member.settings == settings:
            return
        if before.owner != (ref.namespace, ref.name):
            raise BadTriggerError(
                f"workload {key!r} is described otherwise by ScaledObject {'/'.join(before.owner)}: give this one "
                "another name with metadata 'workload'"
            )
        if any(one.metadata == ref.metadata for _, one in _lately(before.replaced, trio.current_time())):
            raise BadTriggerError(
                f"several triggers of this ScaledObject bring a workload {key!r}: name each with metadata 'workload'"
            )

    def note_asked(self, key: str) -> None:
        """See `kedastral.core.ports.WorkloadResolver.note_asked`."""
        one = self._adopted.get(key)
        if one is not None:
            one.asked_at = trio.current_time()

    def _let_go(self, key: str) -> None:
        self._drop(key)
        self.fleet.remove(key)

    def _drop(self, key: str) -> None:
        del self._adopted[key]
        self._keys = {ref: named for ref, named in self._keys.items() if named != key}


def _lately(replaced: list[tuple[float, ObjectRef]], now: float) -> list[tuple[float, ObjectRef]]:
    return [(at, ref) for at, ref in replaced if now - at < FLAPS_WITHIN][-MOST_REPLACED:]


def _first(problems: Sequence[str]) -> list[str]:
    """What an event of KEDA can show of ``problems``: the first ones, and how many more there are."""
    more = [f"and {len(problems) - MOST_TOLD} more"] if len(problems) > MOST_TOLD else []
    return [*(problem[:LONGEST_TOLD] for problem in problems[:MOST_TOLD]), *more]
